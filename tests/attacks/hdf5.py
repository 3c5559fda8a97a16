"""Attacks with HDF5: weights, solver states, training data."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.attacks.attack import Family, Make
from tests.attacks.entries import caffe_port, program, python
from tests.attacks.scene import train_net

FILE = "net.caffemodel.h5"
HDF5 = Family(
    "HDF5 weights",
    caffe_port(f"inspect {FILE}"),
    caffe_port(f"convert good.prototxt {FILE} -o out.pt"),
    caffe_port(f"evaluate good.prototxt {FILE} --images voc --crop 9 -o out"),
    program("caffe", f"train --solver=solver.prototxt --weights={FILE}"),
    python(f"cp.load('good.prototxt', '{FILE}')"),
)
STATE = Family(
    "HDF5 solver state",
    caffe_port("inspect net.solverstate.h5"),
    program("caffe", "train --solver=solver.prototxt --snapshot=net.solverstate.h5"),
)
DATA = Family("HDF5 data", program("caffe", "train --solver=hostile_solver.prototxt"))
RECORDING = Family(
    "recording", caffe_port("verify good.prototxt good.caffemodel recording.h5 -o out")
)

Fill = Callable[[h5py.File, Path], object]


def weights(fill: Fill) -> Make:
    """A file that ``fill`` writes into."""

    def make(folder: Path) -> None:
        with h5py.File(folder / FILE, "w") as file:
            fill(file, folder)

    return make


def layer(fill: Callable[[h5py.Group, Path], object]) -> Make:
    """A file with the group of the scene's layer, which ``fill`` fills."""
    return weights(lambda file, folder: fill(file.create_group("data/conv"), folder))


def dataset(**options: Any) -> Make:
    """A file with one dataset as blob 0."""
    return layer(lambda group, _: group.create_dataset("0", **options))


def _secret(folder: Path) -> Path:
    with h5py.File(folder / "secret.h5", "w") as file:
        file["data/conv/0"] = np.full((3, 3, 1, 1), 42, "f4")
        file["data/conv/1"] = np.full(3, 42, "f4")
    return folder / "secret.h5"


def _virtual(group: h5py.Group, folder: Path) -> None:
    layout = h5py.VirtualLayout((3, 3, 1, 1), "f4")
    layout[...] = h5py.VirtualSource(_secret(folder), "data/conv/0", (3, 3, 1, 1))
    group.create_virtual_dataset("0", layout)


def _cycle(file: h5py.File, _: Path) -> None:
    group = file.create_group("data/conv")
    group["0"] = file["data"]


def _many(file: h5py.File, _: Path) -> None:
    group = file.create_group("data")
    for i in range(20_000):
        group.create_group(str(i))
    group["conv"] = h5py.SoftLink("/nowhere")


add = HDF5.add
add(
    "an external link to another file",
    weights(
        lambda f, folder: f.__setitem__("data", h5py.ExternalLink(str(_secret(folder)), "/data"))
    ),
)
add(
    "an external link as a layer",
    weights(
        lambda f, folder: f.create_group("data").__setitem__(
            "conv", h5py.ExternalLink(str(_secret(folder)), "/data/conv")
        )
    ),
)
add(
    "an external link as a blob",
    layer(
        lambda g, folder: g.__setitem__(
            "0", h5py.ExternalLink(str(_secret(folder)), "/data/conv/0")
        )
    ),
)
add(
    "an external link to a pipe",
    layer(
        lambda g, folder: (
            os.mkfifo(folder / "pipe"),
            g.__setitem__("0", h5py.ExternalLink("pipe", "/x")),
        )
    ),
)
add("a soft link to nowhere", layer(lambda g, _: g.__setitem__("0", h5py.SoftLink("/nowhere"))))
add(
    "soft links in a circle",
    layer(
        lambda g, _: (
            g.__setitem__("0", h5py.SoftLink("/data/conv/1")),
            g.__setitem__("1", h5py.SoftLink("/data/conv/0")),
        )
    ),
)
add("a group that contains itself", weights(_cycle))
add(
    "a group that is its own layer",
    weights(lambda f, _: f.create_group("data").__setitem__("conv", f["data"])),
)
add(
    "values kept in a text",
    layer(
        lambda g, folder: g.create_dataset(
            "0", (3, 3, 1, 1), "f4", external=[(str(folder / "secret.txt"), 0, 36)]
        )
    ),
)
add(
    "values kept in a device",
    layer(lambda g, _: g.create_dataset("0", (3, 3, 1, 1), "f4", external=[("/dev/zero", 0, 36)])),
)
add("a virtual dataset of another file", layer(_virtual))
for name, dtype in (
    ("whole numbers", "i4"),
    ("halves", "f2"),
    ("strings", "S4"),
    ("strings of any length", h5py.string_dtype()),
    ("references", h5py.ref_dtype),
    ("compounds", [("a", "f4"), ("b", "i8")]),
    ("arrays of any length", h5py.vlen_dtype("f4")),
):
    add(f"values that are {name}", dataset(shape=(3,), dtype=dtype))
add(
    "a dataset of 2^60 values that were never written",
    dataset(shape=(2**60,), dtype="f4", chunks=(1024,)),
)
add("a dataset of 2^31 values that were never written", dataset(shape=(2**31 - 1,), dtype="f4"))
add(
    "a gigabyte of zeros, deflated",
    dataset(data=np.zeros(2**24, "f4"), compression="gzip", chunks=(2**20,)),
)
add("a dataset without a shape", dataset(data=h5py.Empty("f4")))
add(
    "a dataset where a group should be",
    weights(lambda f, _: f.create_dataset("data", data=np.zeros(3))),
)
add("a blob named ../../x", layer(lambda g, _: g.create_dataset("x", data=np.zeros(3, "f4"))))
add(
    "a blob numbered 10^30",
    layer(lambda g, _: g.create_dataset("1" + "0" * 30, data=np.zeros(3, "f4"))),
)
add("no group of data", weights(lambda f, _: f.create_group("other")))
add("20,000 layers and a link to nowhere", weights(_many))
add(
    "a diff of another shape",
    weights(
        lambda f, _: (
            f.create_dataset("data/conv/0", data=np.zeros(9, "f4")),
            f.create_dataset("diff/conv/0", data=np.zeros(4, "f4")),
        )
    ),
)
add(
    "an HDF5 signature and nothing else",
    lambda folder: (folder / FILE).write_bytes(b"\x89HDF\r\n\x1a\n"),
)
add(
    "an HDF5 signature and zeros",
    lambda folder: (folder / FILE).write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(4096)),
)


def _good(folder: Path) -> bytes:
    with h5py.File(folder / FILE, "w") as file:
        file["data/conv/0"] = np.zeros((3, 3, 1, 1), "f4")
        file["data/conv/1"] = np.zeros(3, "f4")
    return (folder / FILE).read_bytes()


def _cut(folder: Path) -> None:
    data = _good(folder)
    (folder / FILE).write_bytes(data[: len(data) // 2])


add("cut in the middle", _cut)

for name, fill in (
    ("its iteration is a text", lambda f: f.__setitem__("iter", "x")),
    ("its iteration is 2^63", lambda f: f.__setitem__("iter", np.uint64(2**63))),
    ("its weights are a device", lambda f: (f.__setitem__("iter", 1), f.__setitem__("learned_net", "/dev/zero"), f.__setitem__("current_step", 0), f.create_group("history"))),
    ("its history is a link out of the file", lambda f: (f.__setitem__("iter", 1), f.__setitem__("learned_net", "good.caffemodel"), f.__setitem__("current_step", 0), f.__setitem__("history", h5py.ExternalLink("secret.h5", "/data")))),
    ("its history was never written", lambda f: (f.__setitem__("iter", 1), f.__setitem__("learned_net", "good.caffemodel"), f.__setitem__("current_step", 0), f.create_dataset("history/0", (2**30,), "f4", chunks=(1024,)))),
):  # fmt: skip

    def _state(folder: Path, fill: Callable[[h5py.File], object] = fill) -> None:
        _secret(folder)
        with h5py.File(folder / "net.solverstate.h5", "w") as file:
            fill(file)

    reads = STATE.entries[:1] if "device" in name else ()
    STATE.add(name, _state, reads=reads)


def data(fill: Callable[[h5py.File, Path], object]) -> Make:
    """A file of training data, a list that names it, and a net that reads the list."""

    def make(folder: Path) -> None:
        with h5py.File(folder / "data.h5", "w") as file:
            fill(file, folder)
        (folder / "list.txt").write_text("data.h5\n")
        net = train_net("HDF5Data", 'hdf5_data_param { source: "list.txt" batch_size: 1 }')
        (folder / "net.prototxt").write_text(net)

    return make


def _set(f: h5py.File, **values: Any) -> None:
    for name, value in values.items():
        f[name] = value


DATA.add(
    "an external link to a secret",
    data(
        lambda f, folder: _set(
            f, data=h5py.ExternalLink(str(_secret(folder)), "/data/conv/0"), label=np.zeros(3)
        )
    ),
)
DATA.add(
    "an external link to a pipe",
    data(
        lambda f, folder: (
            os.mkfifo(folder / "pipe"),
            _set(f, data=h5py.ExternalLink("pipe", "/x"), label=np.zeros(3)),
        )
    ),
)
DATA.add(
    "values kept in a text",
    data(
        lambda f, folder: (
            f.create_dataset("data", (3, 3), "f4", external=[(str(folder / "secret.txt"), 0, 36)]),
            _set(f, label=np.zeros(3)),
        )
    ),
)
DATA.add(
    "2^40 rows that were never written",
    data(
        lambda f, _: (
            f.create_dataset("data", (2**40, 3), "f4", chunks=(1024, 3)),
            _set(f, label=np.zeros(3)),
        )
    ),
)
DATA.add(
    "a gigabyte of zeros, deflated",
    data(
        lambda f, _: (
            f.create_dataset("data", (2**28,), "f4", compression="gzip", chunks=(2**22,)),
            _fill(f["data"]),
            _set(f, label=np.zeros(3)),
        )
    ),
)
DATA.add(
    "rows of strings", data(lambda f, _: _set(f, data=np.array([b"a", b"b"]), label=np.zeros(2)))
)
DATA.add("no rows", data(lambda f, _: _set(f, data=np.zeros((0, 3)), label=np.zeros(0))))
DATA.add(
    "more labels than rows", data(lambda f, _: _set(f, data=np.zeros((2, 3)), label=np.zeros(3)))
)


def _fill(dataset: h5py.Dataset) -> None:
    import zlib

    chunk = zlib.compress(bytes(2**24), 9)
    for start in range(0, dataset.shape[0], 2**22):
        dataset.id.write_direct_chunk((start,), chunk)


def recording(fill: Callable[[h5py.File, Path], object]) -> Make:
    """A recording.h5 with a head that is in order."""

    def make(folder: Path) -> None:
        with h5py.File(folder / "recording.h5", "w") as file:
            file.attrs["format"], file.attrs["version"] = (
                np.bytes_("caffe recording"),
                np.bytes_("1"),
            )
            file.attrs["meta"] = np.bytes_('{"phase": "TEST"}')
            fill(file, folder)

    return make


RECORDING.add(
    "a blob that is a link out of the file",
    recording(
        lambda f, folder: f.create_group("data").__setitem__(
            "conv", h5py.ExternalLink(str(_secret(folder)), "/data/conv/0")
        )
    ),
)
RECORDING.add(
    "a blob kept in a text",
    recording(
        lambda f, folder: f.create_dataset(
            "data/conv", (3, 3), "f4", external=[(str(folder / "secret.txt"), 0, 36)]
        )
    ),
)
RECORDING.add(
    "a blob of 2^60 values that were never written",
    recording(lambda f, _: f.create_dataset("data/conv", (2**60,), "f4", chunks=(1024,))),
)
RECORDING.add(
    "meta data nested 20,000 deep",
    recording(lambda f, _: f.attrs.__setitem__("meta", np.bytes_("[" * 20_000))),
)
RECORDING.add(
    "another program's file", lambda folder: _secret(folder).rename(folder / "recording.h5")
)
RECORDING.add("a pipe", lambda folder: os.mkfifo(folder / "recording.h5"))
RECORDING.add("a pickle as archive", lambda folder: _npz(folder))


def _npz(folder: Path) -> None:
    from tests.attacks.weights import Payload

    (folder / "recording.h5").mkdir()
    (folder / "recording.h5" / "case.json").write_text('{"phase": "TEST"}')
    content = np.array([Payload()], dtype=object)
    np.savez(folder / "recording.h5" / "case.npz", **{"data/conv": content}, allow_pickle=True)
