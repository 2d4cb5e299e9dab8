"""State on disk: checkpoints of a run (Orbax) and exported models (safetensors).

Both hold only arrays. The structure comes from the code and the run's configuration, so nothing
untrusted is unpickled or executed. Both have a checksum, and both are written completely or not at
all.
"""

import io
import json
import logging
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from scoreode._files import check_room, replace_whole
from scoreode.errors import FailureError, InputError
from scoreode.train.devices import is_first

_KEPT = 2  # the newest checkpoint, and one in case it is damaged
_COPIES, _OVERHEAD = 2, 2**16  # copies of the arrays during a write; other bytes


def _leaves(tree: Any) -> dict[str, np.ndarray]:
    """The arrays of a tree that have values, by path."""
    flat = jax.tree_util.tree_flatten_with_path(eqx.filter(tree, _has_values))[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in flat}


def _has_values(leaf: Any) -> bool:
    # Orbax refuses arrays without values.
    return isinstance(leaf, (jax.Array, np.ndarray)) and leaf.size > 0


def _fill(like: Any, arrays: dict[str, np.ndarray], source: Path) -> Any:
    """`like` with these arrays. **Raises:** `InputError` for other names, shapes or dtypes."""
    expected = _leaves(like)
    for name, leaf in expected.items():
        array = arrays.get(name)
        if array is None or array.shape != leaf.shape or array.dtype != leaf.dtype:
            raise InputError(f"{source}: does not fit its configuration (at {name})")
    dynamic, static = eqx.partition(like, _has_values)
    leaves, structure = jax.tree.flatten(dynamic)
    # NumPy arrays stay NumPy arrays: JAX would convert float64 to float32.
    leaves = [
        arrays[name] if isinstance(leaf, np.ndarray) else jnp.asarray(arrays[name])
        for name, leaf in zip(expected, leaves, strict=True)
    ]
    return eqx.combine(jax.tree.unflatten(structure, leaves), static)


def _checksum(arrays: Iterable[np.ndarray]) -> int:
    total = 0
    for array in arrays:
        total = zlib.crc32(np.ascontiguousarray(array).tobytes(), total)
    return total


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file completely or not at all.

    **Raises:** `FailureError` if the disk refuses.
    """
    with replace_whole(path) as partial, open(partial, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, value: Any) -> None:
    """Writes an indented JSON document with `write_whole`."""
    write_whole(path, (json.dumps(value, indent=2) + "\n").encode())


def save_arrays(path: Path, tree: Any) -> None:
    """Writes the arrays of a tree to one safetensors file with a checksum."""
    write_arrays(path, _leaves(tree))


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes arrays by name to one safetensors file with a checksum."""
    from safetensors.numpy import save

    arrays = {name: np.asarray(leaf, order="C") for name, leaf in arrays.items()}
    metadata = {"crc32": str(_checksum(arrays[name] for name in sorted(arrays)))}
    write_whole(path, save(arrays, metadata=metadata))


def load_arrays(path: Path, like: Any) -> Any:
    """`like` with the arrays of a safetensors file.

    **Raises:** `InputError` if the file is missing, damaged, or of another model.
    """
    return _fill(like, read_arrays(path), path)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """What `write_arrays` wrote. **Raises:** `InputError` if the file is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"{path}: no such file; is the training finished?")
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in sorted(file.keys())}
            checksum = (file.metadata() or {}).get("crc32")
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error}); train again or restore a copy") from error
    if checksum != str(_checksum(arrays.values())):
        raise InputError(f"{path}: damaged (its checksum differs); train again or restore a copy")
    return arrays


@contextmanager
def _silent() -> Iterator[None]:
    """Keeps Orbax from logging the tracebacks of errors that it raises."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


class Checkpoints:
    """The checkpoints of one run: a tree of arrays and a JSON record for every saved step.

    **Arguments:** `folder`; `read_only`: write nothing, because another process may be writing.
    """

    def __init__(self, folder: Path, read_only: bool = False):
        import orbax.checkpoint as ocp

        self._ocp = ocp
        self._folder = folder
        self._read_only = read_only
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FailureError(f"cannot create {folder}: {error.strerror}") from error
        # Processes do not wait for each other: one writes, the others read.
        process = jax.process_index()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None if read_only else _KEPT,
            read_only=read_only,
            enable_async_checkpointing=False,
            create=False,
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=process,
                active_processes={process},
                barrier_sync_key_prefix=f"process {process}",
            ),
        )
        self._manager = ocp.CheckpointManager(folder.resolve(), options=options)

    @property
    def _writes(self) -> bool:
        return is_first() and not self._read_only

    @property
    def any(self) -> bool:
        """Whether there is a checkpoint."""
        return bool(self._manager.all_steps())

    def save(self, step: int, tree: Any, record: dict[str, Any]) -> None:
        """Saves a step, if it is new. **Raises:** `FailureError` if the disk refuses."""
        if step in self._manager.all_steps():
            return
        ocp, arrays = self._ocp, _leaves(tree)
        record = record | {"crc32": _checksum(arrays.values())}
        items = ocp.args.Composite(
            arrays=ocp.args.StandardSave(arrays), record=ocp.args.JsonSave(record)
        )
        size = sum(array.nbytes for array in arrays.values())
        try:
            # Check first: on a full disk, Orbax's threads keep failing after it has raised.
            check_room(self._folder, _COPIES * size + _OVERHEAD)
            with _silent():
                self._manager.save(step, args=items, force=True)
                self._manager.wait_until_finished()
        except Exception as error:  # Orbax passes on all errors of its storage layer
            system_error = isinstance(error, OSError) and error.strerror
            reason = system_error or str(error).partition("\n")[0]
            remedy = f"continue with --resume {self._folder.parent}" if self.any else "start again"
            raise FailureError(
                f"cannot write a checkpoint to {self._folder}: {reason}; make room, and {remedy}"
            ) from error

    def restore(self, like: Any) -> tuple[Any, dict[str, Any]]:
        """The newest intact checkpoint as (tree, record).

        **Raises:** `InputError` if there is none, or if all of them are damaged.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            restored = self._restore_step(step, like)
            if restored is not None:
                # The run will reach the damaged steps again and save them again.
                for damaged in steps[: steps.index(step)] if self._writes else ():
                    self._manager.delete(damaged)
                return restored
        state = "every checkpoint is damaged" if steps else "no checkpoint was saved"
        raise InputError(f"{self._folder}: {state}; start again with a new --out")

    def _restore_step(self, step: int, like: Any) -> tuple[Any, dict[str, Any]] | None:
        ocp = self._ocp
        items = ocp.args.Composite(
            arrays=ocp.args.StandardRestore(_leaves(like)), record=ocp.args.JsonRestore()
        )
        try:
            restored: Any = self._manager.restore(step, args=items)
        except Exception:  # damaged files cause many kinds of storage errors
            return None
        arrays = {name: np.asarray(restored.arrays[name]) for name in _leaves(like)}
        if restored.record.get("crc32") != _checksum(arrays.values()):
            return None
        return _fill(like, arrays, self._folder), restored.record

    def close(self) -> None:
        """Releases the storage layer's threads."""
        self._manager.close()
