"""Attacks with databases and window files, which nets name as their data."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

from tests.attacks.attack import Family, Make
from tests.attacks.images import EPS, IMAGE, TRAIN, png
from tests.attacks.scene import train_net

DATABASE = Family("LMDB", TRAIN)
WINDOWS = Family("window file", TRAIN)


def database(content: bytes | Callable[[Path], object]) -> Make:
    """A database and a net that reads it."""

    def make(folder: Path) -> None:
        (folder / "db").mkdir()
        if isinstance(content, bytes):
            (folder / "db" / "data.mdb").write_bytes(content)
        else:
            content(folder / "db" / "data.mdb")
        options = 'data_param { source: "db" batch_size: 1 backend: LMDB }'
        (folder / "net.prototxt").write_text(train_net("Data", options))

    return make


def pages(
    change: Callable[[bytearray], object] = lambda data: None, record: bytes | None = None
) -> Make:
    """A database that our own writer made, damaged afterwards."""

    def write(path: Path) -> None:
        from caffe_port.data.lmdb import write_lmdb
        from caffe_port.proto import caffe_pb2

        datum = caffe_pb2.Datum(channels=3, height=9, width=9, data=bytes(243)).SerializeToString()
        value = datum if record is None else record
        path.parent.rmdir()
        write_lmdb(path.parent, [(b"%08d" % i, value) for i in range(100)])
        data = bytearray(path.read_bytes())
        change(data)
        path.write_bytes(data)

    return database(write)


def datum(**fields: object) -> bytes:
    """A record."""
    from caffe_port.proto import caffe_pb2

    encoded: bytes = caffe_pb2.Datum(**fields).SerializeToString()
    return encoded


def _circle(data: bytearray) -> None:
    for page in range(2, len(data) // 4096):
        if data[page * 4096 + 10] & 1:  # a branch whose children are itself
            for place in range(page * 4096 + 16, page * 4096 + 4096 - 8):
                if data[place : place + 4] == b"\0\0\0\0":
                    struct.pack_into("<HHHH", data, place, page, 0, 0, 0)


add = DATABASE.add
add("empty", database(b""))
add("zeros", database(bytes(8192)))
add("cut to its meta pages", pages(lambda data: data.__delitem__(slice(8192, None))))
add("cut in the middle", pages(lambda data: data.__delitem__(slice(len(data) // 2, None))))
add(
    "a root of 2^63",
    pages(
        lambda data: [
            struct.pack_into("<Q", data, page + 16 + 24 + 48 + 40, 2**63) for page in (0, 4096)
        ]
    ),
)
add("branches that lead to themselves", pages(_circle))
add(
    "pages of 0 bytes",
    pages(lambda data: [struct.pack_into("<I", data, page + 16 + 24, 0) for page in (0, 4096)]),
)
add(
    "every page overwritten",
    pages(lambda data: data.__setitem__(slice(8192, None), b"\xff" * (len(data) - 8192))),
)
add("records that are not a Datum", pages(record=b"\xff" * 100))
add(
    "a Datum of 2^31 x 2^31",
    pages(record=datum(channels=3, height=2**31 - 1, width=2**31 - 1, data=b"abc")),
)
add("a Datum of -1 x 9", pages(record=datum(channels=3, height=-1, width=9, data=b"abc")))
add(
    "an image of 60,000 x 60,000 in a Datum",
    pages(record=datum(encoded=True, data=png(60_000, 60_000))),
)
add("EPS in a Datum", pages(record=datum(encoded=True, data=EPS)))
add("a pipe", database(os.mkfifo))
add("an endless device", database(lambda path: path.symlink_to("/dev/zero")))


def windows(text: str | bytes) -> Make:
    """A window file and a net that reads it."""
    data = text.encode() if isinstance(text, str) else text

    def make(folder: Path) -> None:
        (folder / "windows.txt").write_bytes(data)
        options = 'window_data_param { source: "windows.txt" batch_size: 4 fg_threshold: 0.5 bg_threshold: 0.5 } transform_param { crop_size: 9 }'
        (folder / "net.prototxt").write_text(train_net("WindowData", options))

    return make


BOTH = "1 0.9 0 0 5 5\n0 0.1 2 2 8 8\n"
for name, text in (
    ("empty", ""), ("10^9 windows of which 2 exist", f"# 0\n{IMAGE}\n3\n9\n9\n1000000000\n{BOTH}"),
    ("-1 windows", f"# 0\n{IMAGE}\n3\n9\n9\n-1\n"), ("a class of 2^40", f"# 0\n{IMAGE}\n3\n9\n9\n2\n{2**40} 0.9 0 0 5 5\n0 0.1 2 2 8 8\n"),
    ("an overlap of NaN", f"# 0\n{IMAGE}\n3\n9\n9\n2\n1 nan 0 0 5 5\n0 0.1 2 2 8 8\n"),
    ("boxes outside of the image", f"# 0\n{IMAGE}\n3\n9\n9\n2\n1 0.9 -2000000000 -2000000000 2000000000 2000000000\n0 0.1 5000 5000 9000 9000\n"),
    ("an image of /etc/passwd", f"# 0\n/etc/passwd\n3\n9\n9\n2\n{BOTH}"),
    ("an image that is a device", f"# 0\n/dev/zero\n3\n9\n9\n2\n{BOTH}"),
    ("a line of 30 MB", "# 0\n" + "x" * 30_000_000), ("one kind only", f"# 0\n{IMAGE}\n3\n9\n9\n1\n1 0.9 0 0 5 5\n"),
    ("another index", f"# 7\n{IMAGE}\n3\n9\n9\n2\n{BOTH}"), ("a corner that is not a number", f"# 0\n{IMAGE}\n3\n9\n9\n2\n1 0.9 0 0 5 x\n"),
):  # fmt: skip
    WINDOWS.add(name, windows(text))
