"""Attacks with binary weights: caffemodel, mean image, solver state."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from caffe_port.proto import wire
from tests.attacks.attack import Family, Make
from tests.attacks.entries import Entry, caffe_port, program, python
from tests.attacks.running import CANARY

FILE = "net.caffemodel"
INSPECT = caffe_port(f"inspect {FILE}")
EMBEDDED = caffe_port(f"inspect --net {FILE}")
CONVERT = caffe_port(f"convert good.prototxt {FILE} -o out.pt")
UPGRADE = caffe_port(f"upgrade {FILE} out.caffemodel")
EVALUATE = caffe_port(f"evaluate good.prototxt {FILE} --images voc --crop 9 -o out")
FINETUNE = program("caffe", f"train --solver=solver.prototxt --weights={FILE}")
LOAD = python(f"cp.load('good.prototxt', '{FILE}')")
PYCAFFE = python(f"caffe.Net('good.prototxt', '{FILE}', caffe.TEST)")
EVERY = (INSPECT, EMBEDDED, CONVERT, UPGRADE, EVALUATE, FINETUNE, LOAD, PYCAFFE)

CAFFEMODEL = Family("caffemodel", *EVERY)
MEAN = Family(
    "mean image", caffe_port("inspect mean.binaryproto"),
    python("cp.weights.read_mean('mean.binaryproto')"),
    program("caffe", "train --solver=hostile_solver.prototxt"),
)  # fmt: skip
STATE = Family(
    "solver state", caffe_port("inspect net.solverstate"),
    program("caffe", "train --solver=solver.prototxt --snapshot=net.solverstate"),
)  # fmt: skip

field, number = wire.encode_bytes, wire.encode_int


def raw(data: bytes, name: str = FILE) -> Make:
    """Makes one file of these bytes."""
    return lambda folder: (folder / name).write_bytes(data)


def lying(number: int, claimed: int, held: bytes) -> bytes:
    """A field that claims another length than it has."""
    return wire.encode_header(number, claimed) + held


def dims(*sizes: int) -> bytes:
    """A BlobShape."""
    return field(7, field(1, b"".join(map(wire.encode_varint, sizes))))


def blob(*parts: bytes) -> bytes:
    """A net of one layer with one blob of these fields."""
    return layer(field(7, b"".join(parts)))


def layer(*parts: bytes) -> bytes:
    """A net of the scene's layer with these fields."""
    return field(1, b"net") + field(
        100, field(1, b"conv") + field(2, b"Convolution") + b"".join(parts)
    )


FLOATS = field(5, bytes(4 * 9))


class Payload:
    """What a pickle would run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {CANARY}",)


add = CAFFEMODEL.add
add("empty", raw(b""))
add("a net without layers", raw(field(1, b"net")))
add("a layer that claims 2^63 bytes", raw(lying(100, 2**63 - 1, b"")))
add("a layer that claims one byte more than there is", raw(lying(100, 100, bytes(99))))
add("a blob that claims 2^63 bytes", raw(layer(lying(7, 2**63 - 1, b""))))
add(
    "a blob that reaches into the next layer",
    raw(layer(lying(7, 200, FLOATS)) + layer(field(7, FLOATS))),
)
add(
    "values that reach out of their blob",
    raw(blob(dims(3, 3), lying(5, 4000, bytes(36)))),
    reads=(EMBEDDED,),
)
add("values of 2^40 bytes", raw(blob(dims(2**31 - 1), lying(5, 2**40, b""))), reads=(EMBEDDED,))
add("values of 7 bytes", raw(blob(dims(2), field(5, bytes(7)))), reads=(EMBEDDED,))
add("a shape of 2^63 - 1", raw(blob(dims(2**63 - 1), FLOATS)), reads=(EMBEDDED,))
add(
    "a shape whose product wraps around to 9",
    raw(blob(dims(2**32, 2**32, 9), FLOATS)),
    reads=(EMBEDDED,),
)
add("a shape of -1", raw(blob(dims(2**64 - 1), FLOATS)), reads=(EMBEDDED,))
add("a shape of a million axes", raw(blob(dims(*[1] * 10**6), FLOATS)), reads=(EMBEDDED,))
add("a shape with a zero among 2^31", raw(blob(dims(2**31 - 1, 0, 2**31 - 1))), reads=(EMBEDDED,))
add(
    "a shape that needs more values than there are",
    raw(blob(dims(3, 3, 1000), FLOATS)),
    reads=(EMBEDDED,),
)
add("old dimensions of 2^62", raw(blob(number(1, 2**62), number(2, 4), FLOATS)), reads=(EMBEDDED,))
add("a varint of 11 bytes", raw(b"\x0a" + b"\x80" * 11))
add("a varint above 64 bits", raw(b"\x08" + b"\xff" * 9 + b"\x7f"))
add("field number 0", raw(b"\x02\x00"))
add("wire type 7", raw(b"\x0f\x00"))
add("groups nested a million deep", raw(b"\x13" * 10**6))
add("a group that is never closed", raw(layer() + b"\x0b" + layer()))
add("a group closed by another number", raw(b"\x0b\x14"))
add("20 million empty layers", raw(field(100, b"") * 13_000_000))
add(
    "20 million empty blobs",
    raw(layer(b"\x3a\x00" * 20_000_000)),
    INSPECT,
    CONVERT,
    FINETUNE,
    LOAD,
    PYCAFFE,
)
add(
    "values in a million pieces",
    raw(blob(dims(10**6), field(5, bytes(4)) * 10**6)),
    INSPECT,
    CONVERT,
    FINETUNE,
    LOAD,
)
add("8 million empty options", raw(layer(field(106, b"\x1a\x00" * 8_000_000))), EMBEDDED, UPGRADE)
add("options nested a thousand deep", raw(layer(field(106, field(3, bytes(5))) * 1000 + b"\x12")))
add(
    "old and new layers together",
    raw(layer() + field(2, field(4, b"conv"))),
    INSPECT,
    CONVERT,
    FINETUNE,
    LOAD,
)
add("a layer's name that is a number", raw(field(100, number(1, 5))))
add(
    "a layer's name of 30 MB",
    raw(field(100, field(1, b"n" * 30_000_000) + field(7, FLOATS))),
    CONVERT,
    LOAD,
)
add(
    "a layer named ../../canary",
    raw(field(100, field(1, b"../../canary") + field(7, dims(9) + FLOATS))),
    CONVERT,
    LOAD,
)
add("only the first half of a good file", lambda folder: _cut(folder, 0.5))
add("a good file that lacks its last byte", lambda folder: _cut(folder, 1))
add("a pickle", raw(pickle.dumps(Payload())))
add("a web page", raw(b"<!DOCTYPE html><html>404</html>"))
add(
    "a Git LFS pointer",
    raw(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 82\n"),
)
add("random bytes, 1 MB", raw(bytes(i * i * 31 % 251 for i in range(2**20))))
add("20 MB of zeros", raw(bytes(20 * 2**20)))
add("a pipe", lambda folder: os.mkfifo(folder / FILE))
add("an endless device", lambda folder: (folder / FILE).symlink_to("/dev/zero"))
add("a link to itself", lambda folder: (folder / FILE).symlink_to(FILE))
add("a sparse file of 100 GB", lambda folder: _sparse(folder / FILE, 100 * 2**30))
add(
    "a sparse file of 100 GB that is one blob",
    lambda folder: _sparse_blob(folder / FILE, 100 * 2**30),
)
add(
    "a Python layer in its net",
    raw(
        field(
            100,
            field(1, b"p")
            + field(2, b"Python")
            + field(130, field(1, b"os") + field(2, b"system")),
        )
    ),
    CONVERT,
    FINETUNE,
    LOAD,
    reads=(FINETUNE,),
)


def _cut(folder: Path, much: float) -> None:
    data = (folder / "good.caffemodel").read_bytes()
    keep = int(len(data) * much) if much < 1 else len(data) - 1
    (folder / FILE).write_bytes(data[:keep])


def _sparse(path: Path, size: int) -> None:
    with path.open("wb") as stream:
        stream.truncate(size)


def _sparse_blob(path: Path, size: int) -> None:
    """One whose every length is true; the disk holds one block of it."""
    inner = lying(5, size, b"")
    blob = wire.encode_header(7, size + len(inner)) + inner
    head = wire.encode_header(100, size + len(blob)) + blob
    path.write_bytes(head)
    os.truncate(path, len(head) + size)


CUTS = python(
    "for name in sorted(__import__('os').listdir('cuts')):\n"
    "    try:\n"
    "        cp.load('good.prototxt', f'cuts/{name}')\n"
    "    except cp.errors.CaffePortError as error:\n"
    "        last = error\n"
    "    else:\n"
    "        raise AssertionError(name)\n"
    "raise last"
)
CAFFEMODEL.add("cut at every boundary of its structure", lambda folder: _all_cuts(folder),
               Entry("cp.load(...) of each", CUTS.run))  # fmt: skip


def _all_cuts(folder: Path) -> None:
    """The good file, cut before and after every tag, length and payload of every message."""
    data = (folder / "good.caffemodel").read_bytes()
    (folder / "cuts").mkdir()
    for place in sorted(set(_boundaries(memoryview(data), 0, len(data)))):
        if place < len(data):
            (folder / "cuts" / f"{place:06}").write_bytes(data[:place])


def _boundaries(view: memoryview, start: int, end: int) -> Iterator[int]:
    try:
        for item in list(wire.fields(view, start, end)):
            yield from (item.offset, item.offset + 1, item.start, item.end)
            if item.wire_type == wire.BYTES:
                yield from _boundaries(view, item.start, item.end)
    except ValueError:
        return
    except Exception:  # not a message inside: a string or numbers
        return


for name, data in (
    ("NaN in it", field(5, b"\x00\x00\xc0\x7f" * 12)),
    ("infinity in it", field(5, b"\x00\x00\x80\x7f" * 12)),
    ("10^300 in it", field(8, b"\x9c\x75\x00\x88\x3c\xe4\x37\x7e" * 12)),
    ("a shape of 2^31", dims(2**31, 2**31, 1) + FLOATS),
    ("no values", dims(1, 3, 9, 9)),
    ("two axes", dims(3, 4) + field(5, bytes(48))),
    ("values cut off", dims(3, 2, 2) + field(5, bytes(40))),
):
    shape = b"" if data[:1] == b"\x3a" else dims(3, 2, 2)
    MEAN.add(name, raw(shape + data, "mean.binaryproto"))
MEAN.add(
    "a solver state instead",
    raw(number(1, 5) + field(2, b"x"), "mean.binaryproto"),
    reads=(MEAN.entries[0],),
)
MEAN.add("empty", raw(b"", "mean.binaryproto"))
MEAN.add(
    "a sparse file of 100 GB", lambda folder: _sparse(folder / "mean.binaryproto", 100 * 2**30)
)


def _with_mean(make: Make) -> Make:
    """Also a net that subtracts this mean from its images."""
    from tests.attacks.scene import train_net

    def both(folder: Path) -> None:
        make(folder)
        (folder / "list.txt").write_text("voc/JPEGImages/a.png 0\n")
        (folder / "net.prototxt").write_text(
            train_net(
                "ImageData",
                'image_data_param { source: "list.txt" batch_size: 1 } transform_param { mean_file: "mean.binaryproto" }',
            )
        )

    return both


MEAN.attacks = [replace(attack, make=_with_mean(attack.make)) for attack in MEAN.attacks]


def state(iteration: int, learned: bytes, *history: bytes, step: int = 0) -> bytes:
    """A solver state."""
    blobs = b"".join(field(3, item) for item in history)
    return number(1, iteration) + field(2, learned) + blobs + number(4, step)


STATE.add("iteration 2^63", raw(state(2**63 - 1, b"good.caffemodel"), "net.solverstate"))
STATE.add("iteration -1", raw(state(-1, b"good.caffemodel"), "net.solverstate"))
STATE.add("a step of 2^40", raw(state(1, b"good.caffemodel", step=2**40), "net.solverstate"))
STATE.add(
    "history of 2^63 values", raw(state(1, b"good.caffemodel", dims(2**63 - 1)), "net.solverstate")
)
STATE.add(
    "history that claims more than there is",
    raw(state(1, b"good.caffemodel", dims(9), lying(5, 2**30, b"")), "net.solverstate"),
)
STATE.add(
    "10 million blobs of history",
    raw(state(1, b"good.caffemodel") + field(3, b"") * 10_000_000, "net.solverstate"),
)
STATE.add("no iteration", raw(field(2, b"good.caffemodel"), "net.solverstate"))
STATE.add(
    "cut off",
    raw(
        state(1, b"good.caffemodel", dims(3, 243) + field(5, bytes(2916)))[:-600], "net.solverstate"
    ),
)
for name, where in (
    ("an endless device", b"/dev/zero"),
    ("a text", b"secret.txt"),
    ("a missing file", b"../../../missing"),
    ("zero bytes", b"a\x00b"),
    ("a name of 1 MB", b"x" * 2**20),
):
    STATE.add(
        f"its weights are {name}",
        raw(state(1, where), "net.solverstate"),
        reads=(STATE.entries[0],),
    )


def _run_state(text: str) -> Make:
    def make(folder: Path) -> None:
        shutil.copy(folder / "good.caffemodel", folder / "net.caffemodel")
        (folder / "net.solverstate").write_bytes(state(1, b"net.caffemodel"))
        (folder / "net.runstate").write_text(text)

    return make


for name, content in (
    ("not JSON", "{"),
    ("JSON nested 100,000 deep", "[" * 100_000),
    ("of another format", '{"format": 1}'),
    ("a number of a million digits", '{"format": ' + "9" * 10**6 + "}"),
):
    STATE.add(f"the run's state next to it is {name}", _run_state(content), STATE.entries[1])
