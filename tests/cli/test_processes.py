"""Two processes of two devices train together: one folder, the run of one process, after kills."""

import os
import shutil
import signal
import socket
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

OFTEN = """
import scoreode.train.trainer, scoreode.train.loop
scoreode.train.loop.CHUNK = 10
scoreode.train.trainer.SAVE_EVERY = 0.0
"""


@pytest.fixture(scope="module")
def together(start):
    """`scoreode ARGS --distributed` in two processes; the codes and what they said."""

    def together(*args, stop=lambda: False):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        processes = []
        for i in range(2):
            names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
            values = dict(zip(names, (address, "2", str(i)), strict=True))
            values["XLA_FLAGS"] = (
                f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
            )
            before = f"import os\nos.environ.update({values!r})\n{OFTEN}"
            processes.append(start(*args, "--distributed", before=before))
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline and any(p.poll() is None for p in processes):
            if stop():
                for process in processes:
                    process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        said = [" ".join(process.communicate(timeout=60)) for process in processes]
        return [process.returncode for process in processes], said

    return together


@pytest.fixture(scope="module")
def shared(together, long, tmp_path_factory):
    """A run of two processes from its beginning to its end."""
    run = tmp_path_factory.mktemp("shared") / "run"
    codes, said = together(*long, "--out", run)
    assert codes == [0, 0], said
    assert f"saved to {run}" in said[0]
    assert "saved" not in said[1]
    return run


@pytest.mark.slow
def test_it_is_the_run_of_one_process(shared, whole, metrics):
    one, two = (load_file(run / "model.safetensors") for run in (whole, shared))
    for name, weights in one.items():
        # Sums over the batch are taken in another order, at every one of 60 steps.
        np.testing.assert_allclose(two[name], weights, atol=60 * 1e-5, err_msg=name)
    for ours, theirs in zip(metrics(shared), metrics(whole), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)


@pytest.mark.slow
def test_killed_and_resumed_it_is_the_same(together, long, shared, same, tmp_path):
    run = tmp_path / "run"
    begun = lambda: any(p.name.startswith("20") for p in run.glob("checkpoints/*"))  # noqa: E731
    codes, said = together(*long, "--out", run, stop=begun)
    assert codes == [-signal.SIGKILL] * 2, said
    assert not (run / "model.safetensors").exists()
    codes, said = together("fit", "--resume", run)
    assert codes == [0, 0], said
    same(run, shared)


@pytest.mark.slow
def test_one_process_goes_on_alone(cli, shared, tmp_path):
    run = shutil.copytree(shared, tmp_path / "run")
    assert cli("fit", "--resume", run).code == 0


def test_nobody_to_join(shell, long, tmp_path):
    result = shell(*long, "--distributed", "--out", tmp_path / "run")
    assert result.code == 2
    assert "JAX_COORDINATOR_ADDRESS" in result.err
    assert not (tmp_path / "run").exists()


def test_a_batch_that_does_not_divide(cli, long, tmp_path):
    result = cli(*long, "--micro-batches", 5, "--out", tmp_path / "run")
    assert result.code == 2
    assert "batch_size 32: not a multiple of 5" in result.err
    assert not (tmp_path / "run").exists()
