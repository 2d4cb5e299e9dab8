"""The main job in a few minutes: orders 1, 2, 3 on the checkerboard, and one model of digits.

    python examples/demo.py [FOLDER]        (what `make demo` runs; FOLDER is demo/ by default)

Prints NLLs beside the entropy, and leaves the densities of Figure 4 and sampled digits as pictures.
"""

import sys
import time
from pathlib import Path

import numpy as np

from scoreode.data import sources
from scoreode.progress import show
from scoreode.report import figures, pixels
from scoreode.reproduce import checkerboard, paper
from scoreode.train import RunFolder
from scoreode.train.trainer import fit


def digits(folder: Path) -> None:
    """Trains on scikit-learn's digits; prints bits/dim of held-out digits, and draws new ones."""
    data = sources.load_data("digits")
    with show("digits") as observe:
        fitted = fit(paper.digits_run(), data, path=folder, observe=observe)
    record = fitted.log_likelihood(data.test)
    stderr = np.std(record.nats) / len(data.test) ** 0.5
    bits = fitted.bits_per_dim(float(np.mean(record.nats)))
    print(f"digits: test log-density {np.mean(record.nats):.2f} ± {stderr:.2f} nats", end="")
    print(f", {bits:.3f} bits/dim ({len(data.test)} held-out digits)")
    picture = folder / "samples.png"
    images = pixels.of_rows(fitted.sample(60), (8, 8), fitted.pixel_range)
    figures.write(figures.pictures(images), picture)
    print(f"figure: {picture}")


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else _free_path(Path("demo"))
    started = time.perf_counter()
    print("checkerboard: VE diffusion ODEs of orders 1, 2, 3, the same network and steps")
    print(checkerboard(RunFolder.create(folder / "checkerboard"), quick=True, seed=0).text)
    print("\ndigits: one model of 8 × 8 images")
    digits(folder / "digits")
    print(f"\n{time.perf_counter() - started:.0f} s in all; everything is in {folder}/")


def _free_path(path: Path) -> Path:
    """The path, or the first of path-2, path-3 … that does not exist."""
    number, free = 2, path
    while free.exists():
        free, number = path.with_name(f"{path.name}-{number}"), number + 1
    return free


if __name__ == "__main__":
    main()
