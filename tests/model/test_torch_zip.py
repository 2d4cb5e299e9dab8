"""PyTorch's files without PyTorch: tensors come out whole, and nothing else does or acts."""

import pickle
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from torch_files import Archive, Call, Global, Storage, pickled, save, tensor

from scoreode.errors import InputError
from scoreode.model.weights import files
from scoreode.model.weights.torch_zip import TorchZip

RNG = np.random.default_rng(0)
STATE = {
    "w": RNG.normal(size=(3, 4, 2)).astype(np.float32),
    "half": RNG.normal(size=5).astype(np.float16),
    "n": np.arange(6).reshape(2, 3),
    "scalar": np.asarray(2.5),
}


@pytest.mark.parametrize("order", ["little", "big"])
def test_tensors_are_those_that_were_saved(tmp_path, order):
    file = TorchZip(save({"model": STATE, "step": 7}, tmp_path / "a.pth", order))
    assert file.state["step"] == 7
    for name, expected in STATE.items():
        found = file.array(file.state["model"][name])
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_views_and_parameters(tmp_path):
    archive = Archive()
    whole = np.arange(24.0)
    archive.of(whole)
    view = tensor(Storage("0", "Double", 24), 6, (3, 2), (2, 6))
    parameter = Call(Global("torch._utils", "_rebuild_parameter"), view, True, None)
    file = TorchZip(archive.write(tmp_path / "a.pt", pickled([parameter])))
    expected = np.lib.stride_tricks.as_strided(whole[6:], (3, 2), (16, 48))
    np.testing.assert_array_equal(file.array(file.state[0]), expected)


def test_bfloat16(tmp_path):
    archive = Archive()
    values = np.array([1.5, -2.0, 0.15625], np.float32)
    archive.storages["0"] = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    data = pickled([tensor(Storage("0", "BFloat16", 3), 0, (3,), (1,))])
    file = TorchZip(archive.write(tmp_path / "a.pt", data))
    np.testing.assert_array_equal(file.array(file.state[0]).astype(np.float32), values)


def test_attributes_of_an_ordered_dict_are_dropped(tmp_path):
    """PyTorch's state dicts carry `_metadata`, by the instruction BUILD."""
    data = b"\x80\x02ccollections\nOrderedDict\n)R}U\x01aK\x01sb."
    file = TorchZip(Archive().write(tmp_path / "a.pt", data))
    assert file.state == {}
    assert not hasattr(file.state, "a")


def hostile(target):
    """Pickles that would write a file, and the name that each is refused by."""
    command = f"touch {target}"
    code = f"__import__('pathlib').Path({str(target)!r}).touch()"
    text = lambda word: b"X" + len(word).to_bytes(4, "little") + word.encode()  # noqa: E731
    posix = b"cos\nsystem\n"
    read = b"ctorch._utils\n_rebuild_tensor_v2\n"
    write = text(command) + b"\x85"
    return {
        "call": (pickled(Call(Global("os", "system"), command)), "os.system"),
        "exec": (pickled(Call(Global("builtins", "exec"), code)), "builtins.exec"),
        "eval": (pickled([STATE["w"].tolist(), Call(Global("builtins", "eval"), code)]), "eval"),
        "getattr": (
            pickled(Call(Call(Global("builtins", "getattr"), Global("os", "x"), "system"), code)),
            "builtins.getattr",
        ),
        "stack global": (
            b"\x80\x04" + text("os") + text("system") + b"\x93" + write + b"R.",
            "os.system",
        ),
        "dotted": (
            b"\x80\x04" + text("torch._utils") + text("os.system") + b"\x93" + write + b"R.",
            "torch._utils.os.system",
        ),
        "inst": (b"\x80\x02(" + text(command) + b"ios\nsystem\n.", "os.system"),
        "obj": (b"\x80\x02(" + posix + text(command) + b"o.", "os.system"),
        "newobj": (b"\x80\x02csubprocess\nPopen\n" + write + b"\x81.", "subprocess.Popen"),
        "memo": (b"\x80\x02" + posix + b"q\x000h\x00" + write + b"R.", "os.system"),
        "setstate": (
            b"\x80\x02" + read + b"}" + text("__setstate__") + posix + b"s" + b"b.",
            "os.system",
        ),
        "build": (b"\x80\x02" + read + b"}" + text("call") + b"K\x01sb.", "a state for _Function"),
        "slots": (
            b"\x80\x02" + read + b"N}" + text("call") + b"K\x01s\x86b.",
            "a state for _Function",
        ),
        "storage": (b"\x80\x02ctorch\nFloatStorage\n}b.", "a state for _Name"),
        "large memo": (b"\x80\x02}r\xff\xff\xff\x7f.", "a memo of 2147483647 entries"),
        "extension": (b"\x80\x02\x82\x01.", "the extension 1"),
        "of torch": (pickled(Call(Global("torch.hub", "load"), command)), "torch.hub.load"),
        "numpy": (
            pickled(Call(Global("numpy.core.multiarray", "scalar"), 1)),
            "numpy.core.multiarray.scalar",
        ),
    }


@pytest.mark.parametrize("name", hostile("x"))
def test_nothing_is_executed(tmp_path, name):
    target = tmp_path / "written"
    data, said = hostile(target)[name]
    file = Archive().write(tmp_path / "a.pth", data)
    with pytest.raises(InputError, match=r"\.safetensors") as caught:
        files.read(file)
    assert said in str(caught.value)
    assert not target.exists()


def test_the_pickles_would_write_the_file(tmp_path):
    """Python's own unpickler executes them: they are no straw men."""
    for name in ("call", "exec", "eval", "stack global", "inst", "obj", "memo"):
        target = tmp_path / name.replace(" ", "-")
        data, _ = hostile(target)[name]
        pickle.loads(data)
        assert target.exists(), name


STORAGE = Storage("0", "Float", 24)
VIEWS = {
    "beyond": ((STORAGE, 1, (24,), (1,)), "beyond its storage"),
    "large stride": ((STORAGE, 0, (2, 12), (13, 1)), "beyond its storage"),
    "overlap": ((STORAGE, 0, (4, 6), (5, 1)), "overlap"),
    "bomb": ((STORAGE, 0, (2**40,), (0,)), "overlap"),
    "negative stride": ((STORAGE, 23, (24,), (-1,)), "negative"),
    "negative offset": ((STORAGE, -1, (24,), (1,)), "negative"),
    "negative shape": ((STORAGE, 0, (-24,), (1,)), "negative"),
    "fraction": ((STORAGE, 0, (2.5,), (1,)), "no tuple of whole numbers"),
    "truth": ((STORAGE, 0, (True,), (1,)), "no tuple of whole numbers"),
    "ranks": ((STORAGE, 0, (4, 6), (1,)), "strides"),
    "no storage": ((None, 0, (4,), (1,)), "without a storage"),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_outside_their_storage_are_refused(tmp_path, name):
    view, said = VIEWS[name]
    archive = Archive()
    archive.of(np.zeros(24, np.float32))
    file = archive.write(tmp_path / "a.pt", pickled([tensor(*view)]))
    with pytest.raises(InputError, match=said):
        TorchZip(file)


@pytest.mark.parametrize(("key", "numel"), [("0", 25), ("0", 23), ("0", 2**50), ("1", 24)])
def test_storages_of_another_size_are_refused(tmp_path, key, numel):
    archive = Archive()
    archive.of(np.zeros(24, np.float32))
    view = tensor(Storage(key, "Float", numel), 0, (4,), (1,))
    file = TorchZip(archive.write(tmp_path / "a.pt", pickled([view])))
    with pytest.raises(InputError, match=f"storage {key} .* where {4 * numel} are due"):
        file.array(file.state[0])


def test_references_to_no_storage_are_refused(tmp_path):
    for pid in (b"K\x01", b"(X\x07\x00\x00\x00storageK\x01K\x01K\x01K\x01t"):
        file = Archive().write(tmp_path / "a.pt", b"\x80\x02" + pid + b"Q.")
        with pytest.raises(InputError, match="storage"):
            TorchZip(file)


def test_compressed_members_are_refused(tmp_path):
    archive = Archive()
    state = archive.of({"w": np.zeros(10**6, np.float32)})
    file = archive.write(tmp_path / "a.pt", pickled(state), zipfile.ZIP_DEFLATED)
    assert file.stat().st_size < 10**5
    with pytest.raises(InputError, match="compressed"):
        TorchZip(file)


def test_members_that_share_bytes_are_refused(tmp_path):
    """The directory points twice at one place: a small file, whose parts are large together."""
    archive = Archive()
    state = archive.of({"a": np.zeros(1000, np.float32), "b": np.ones(1000, np.float32)})
    file = archive.write(tmp_path / "a.pt", pickled(state))
    content = bytearray(file.read_bytes())
    offsets = {}
    with zipfile.ZipFile(file) as opened:
        offsets = {member.filename: member.header_offset for member in opened.infolist()}
    entry = content.rindex(b"archive/data/1") - 46
    content[entry + 42 : entry + 46] = offsets["archive/data/0"].to_bytes(4, "little")
    file.write_bytes(content)
    with pytest.raises(InputError, match="overlapping"):
        TorchZip(file)


def test_files_that_are_cut_short_are_refused(tmp_path):
    whole = save({"model": STATE}, tmp_path / "a.pt").read_bytes()
    rng = np.random.default_rng(0)
    for length in rng.integers(4, len(whole) - 1, 20):
        cut = tmp_path / "cut.pt"
        cut.write_bytes(whole[:length])
        with pytest.raises(InputError, match="cut short"):
            files.read(cut)
    data = pickled({"w": 1})
    for length in range(2, len(data) - 1):
        file = Archive().write(tmp_path / "cut.pt", data[:length])
        with pytest.raises(InputError):
            files.read(file)


def test_bytes_that_change_are_an_error_or_another_number(tmp_path):
    """Anything may have happened to a file: it is read, or refused by its name."""
    data = bytearray(pickled(Archive().of({"w": STATE["w"], "n": [1, "a", None]})))
    rng = np.random.default_rng(1)
    for place in rng.integers(2, len(data), 300):
        changed = data.copy()
        changed[place] = rng.integers(256)
        file = Archive().write(tmp_path / "changed.pt", bytes(changed))
        with suppress(InputError):
            assert TorchZip(file)


def test_other_pickles_and_programs_are_refused_by_name(tmp_path):
    bare = tmp_path / "old.pth"
    bare.write_bytes(pickle.dumps(119547037146038801333356, 2) + pickle.dumps({}, 2))
    with pytest.raises(InputError, match=r"before version 1\.6.*safetensors\.torch\.save_file"):
        files.read(bare)
    script = tmp_path / "script.pt"
    with zipfile.ZipFile(script, "w") as file:
        file.writestr("net/data.pkl", b"\x80\x02}.")
        file.writestr("net/constants.pkl", b"\x80\x02).")
    with pytest.raises(InputError, match="TorchScript"):
        files.read(script)
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as file:
        file.writestr("a.txt", b"")
    with pytest.raises(InputError, match=r"no data\.pkl"):
        files.read(other)
