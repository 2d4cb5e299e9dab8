r"""The Fréchet distance of two sets of features, and the Inception Score.

    d² = ‖μ_1 − μ_2‖² + tr(Σ_1 + Σ_2 − 2 (Σ_1^½ Σ_2 Σ_1^½)^½)    (Fréchet 1957)

is the squared Wasserstein-2 distance of two Gaussians. It is called FID only with the features of
the Inception network of 2015 (Heusel et al. 2017). It is biased upwards, and more so for fewer
images: compare only values for equal numbers of images.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from jaxtyping import Float
from scipy.special import log_softmax

from scoreode._files import replace_whole
from scoreode.errors import InputError

Rows = Float[np.ndarray, "n k"]


@dataclass(frozen=True)
class Moments:
    """The mean and covariance of the features of images."""

    mean: Float[np.ndarray, " k"]
    covariance: Float[np.ndarray, "k k"]

    @classmethod
    def of(cls, features: Rows) -> Self:
        """The unbiased moments in float64. **Raises:** `InputError` for fewer than two rows."""
        if len(features) < 2:
            raise InputError(f"{len(features)} images: a covariance needs two or more")
        rows = features.astype(np.float64)
        return cls(rows.mean(0), np.atleast_2d(np.cov(rows, rowvar=False)))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads an .npz with `mu` and `sigma`, the format in which FID statistics are published.

        **Raises:** `InputError` for a file with another content, and for a damaged one.
        """
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                mean, covariance = (np.asarray(file[name], np.float64) for name in ("mu", "sigma"))
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{path}: not statistics with mu and sigma ({reason})") from error
        if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
            raise InputError(f"{path}: mu {mean.shape} and sigma {covariance.shape} do not fit")
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise InputError(f"{path}: mu or sigma are not finite; compute them again")
        return cls(mean, covariance)

    def write(self, path: Path) -> None:
        """Writes a file for `read`. **Raises:** `FailureError` if the disk refuses."""
        with replace_whole(path) as partial:
            np.savez(partial, allow_pickle=False, mu=self.mean, sigma=self.covariance)


def frechet_distance(a: Moments, b: Moments) -> float:
    """d² of two Gaussians. **Raises:** `InputError` for different numbers of features.

    The trace of (A B)^½ is the sum of the singular values of F_Aᵀ F_B, where F Fᵀ is a covariance:
    unlike roots of eigenvalues of A^½ B A^½ these keep the digits of small ones.

    **Cost:** the eigenvalues of two k × k matrices, and the singular values of one.
    """
    if a.mean.shape != b.mean.shape:
        raise InputError(
            f"{len(a.mean)} features and {len(b.mean)} features: not from the same network"
        )
    product = _factor(a.covariance).T @ _factor(b.covariance)
    overlap = np.linalg.svd(product, compute_uv=False).sum()
    spread = np.trace(a.covariance) + np.trace(b.covariance) - 2 * overlap
    return float(np.sum((a.mean - b.mean) ** 2) + spread)


def _factor(covariance: np.ndarray) -> np.ndarray:
    """F with F Fᵀ = covariance."""
    values, vectors = np.linalg.eigh(covariance)
    # Singular with fewer images than features: rounding may make a zero eigenvalue negative.
    return vectors * np.sqrt(np.maximum(values, 0))


def class_score(logits: Rows, splits: int = 10, seed: int = 0) -> tuple[float, float]:
    """exp E KL(p(y|x) ‖ p(y)): its mean and standard deviation over `splits` parts of the images.

    With the logits of the Inception network it is the Inception Score (Salimans et al. 2016).

    **Raises:** `InputError` for fewer images than parts.
    """
    if len(logits) < splits:
        raise InputError(f"{len(logits)} images: the score needs {splits} or more")
    order = np.random.default_rng(seed).permutation(len(logits))
    log_p = log_softmax(logits[order].astype(np.float64), axis=1)
    scores = [_score(part) for part in np.array_split(log_p, splits)]
    return float(np.mean(scores)), float(np.std(scores))


def _score(log_p: Rows) -> float:
    p = np.exp(log_p)
    marginal = p.mean(0)
    entropies = np.sum(marginal * np.log(marginal, where=marginal > 0, out=np.zeros_like(marginal)))
    return float(np.exp(np.sum(p * log_p, axis=1).mean() - entropies))
