"""Attacks with images, lists, scores and probabilities."""

from __future__ import annotations

import io
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.attacks.attack import Family, Make
from tests.attacks.entries import caffe_port, program, python
from tests.attacks.scene import train_net

EVALUATE = caffe_port("evaluate good.prototxt good.caffemodel --images voc --crop 9 -o out")
TRAIN = program("caffe", "train --solver=hostile_solver.prototxt")
LOAD_IMAGE = python("caffe.io.load_image('voc/JPEGImages/a.png')")

IMAGES = Family("image", EVALUATE, TRAIN, LOAD_IMAGE)
LABELS = Family("label map", EVALUATE, keeps=("out/before", "out/before/a.png"))
LIST = Family("list", EVALUATE)
CRF = Family("CRF files", caffe_port("crf -id images -fd features -sd out -i 1 -j 1"))
CONVERSION = Family(
    "scores, one file",
    caffe_port("crf_convert features/a.bin features/a_blob_0.mat --to bin -o out"),
)

IMAGE, LABEL = "voc/JPEGImages/a.png", "voc/SegmentationClass/a.png"


def image_file(content: bytes | Callable[[Path], object]) -> Make:
    """That image in the VOC folder, and a net and a list that read it too."""

    def make(folder: Path) -> None:
        (folder / IMAGE).unlink()
        if isinstance(content, bytes):
            (folder / IMAGE).write_bytes(content)
        else:
            content(folder / IMAGE)
        (folder / "list.txt").write_text(f"{IMAGE} 0\n")
        options = 'image_data_param { source: "list.txt" batch_size: 1 }'
        (folder / "net.prototxt").write_text(train_net("ImageData", options))

    return make


def png(width: int, height: int, rows: bytes | None = None, kind: int = 2) -> bytes:
    """A PNG of that size; of zeros, as many as it has room for, unless given."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    body = zlib.compress(bytes(1000)) if rows is None else rows
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _bomb(width: int, height: int) -> bytes:
    deflater = zlib.compressobj(9)
    row = bytes(1 + 3 * width)
    body = b"".join(deflater.compress(row) for _ in range(height)) + deflater.flush()
    return png(width, height, body)


def _jpeg(width: int, height: int) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (16, 16)).save(stream, "JPEG")
    data = bytearray(stream.getvalue())
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(EXECUTED) (w) file closefile\nshowpage\n%%EOF\n"
add = IMAGES.add
add("a PNG of 60,000 x 60,000 pixels", image_file(png(60_000, 60_000)))
add("a PNG of 2^31 x 2^31 pixels", image_file(png(2**31 - 1, 2**31 - 1)))
add(
    "a PNG of 89 million pixels in 300 kB",
    image_file(lambda path: path.write_bytes(_bomb(9400, 9500))),
)
add("a PNG of 0 pixels", image_file(png(0, 0)))
add("a PNG without values", image_file(png(100, 100, b"")))
add(
    "a PNG with a text that inflates to 100 MB",
    image_file(lambda path: path.write_bytes(_with_text())),
)
add("a truncated PNG", image_file(_bomb(64, 64)[:-40]))
add("a JPEG of 65,500 x 65,500 pixels", image_file(_jpeg(65_500, 65_500)))
add("a truncated JPEG", image_file(_jpeg(16, 16)[:300]))
add("a PPM of 10^9 x 10^9 pixels", image_file(b"P6 1000000000 1000000000 255\n" + bytes(100)))
add("a PPM whose width has a million digits", image_file(b"P6 " + b"9" * 10**6 + b" 1 255\n"))
add("a PPM with 20 MB of comment", image_file(b"P6 #" + b"x" * 20_000_000))
add("a PPM of text that is not a number", image_file(b"P3 9 9 255\n" + b"x " * 300))
add("a PPM without its pixels", image_file(b"P6 90 90 255\n"))
add("EPS, which would start Ghostscript", image_file(EPS))
add(
    "a TIFF that refers to itself",
    image_file(b"II*\0\x08\0\0\0" + b"\x01\0\0\x01\x04\0\x01\0\0\0\xff\xff\xff\xff\x08\0\0\0"),
)
add(
    "a BMP of 2^31 x 2^31 pixels",
    image_file(
        b"BM"
        + struct.pack(
            "<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0
        )
    ),
)
add(
    "a GIF of 65,535 x 65,535 pixels",
    image_file(
        b"GIF89a"
        + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0)
        + b","
        + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0)
        + b"\x08\x01\x00\x00;"
    ),
)
add(
    "16 bits a channel",
    image_file(png(9, 9, zlib.compress(bytes(9 * 10)), 0)[:24] + b"\x10" + png(9, 9)[25:]),
)
add("a pipe", image_file(os.mkfifo), TRAIN, LOAD_IMAGE)
add("an endless device", image_file(lambda path: path.symlink_to("/dev/zero")), TRAIN, LOAD_IMAGE)
add("a text", image_file(b"a secret" * 100))
add(
    "a sparse file of 100 GB",
    image_file(lambda path: (path.touch(), os.truncate(path, 100 * 2**30))),
)


def _with_text() -> bytes:
    good = png(9, 9, zlib.compress(bytes(9 * 28)))
    text = b"Comment\0\0" + zlib.compress(bytes(10**8), 9)
    chunk = (
        struct.pack(">I", len(text))
        + b"zTXt"
        + text
        + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    )
    return good[:33] + chunk + good[33:]


def label(content: bytes) -> Make:
    """That label map in the VOC folder."""
    return lambda folder: (folder / LABEL).write_bytes(content)


LABELS.add("of 60,000 x 60,000 pixels", label(png(60_000, 60_000, kind=0)))
LABELS.add("of another size than its image", label(_bomb(5, 5)))
LABELS.add("in colours", label(_bomb(9, 9)))
LABELS.add(
    "with labels beyond the classes", label(png(9, 9, zlib.compress((b"\0" + b"\x63" * 9) * 9), 0))
)
LABELS.add("a text", label(b"text"))


def listed(text: str | bytes) -> Make:
    """That list in the VOC folder."""
    data = text.encode() if isinstance(text, str) else text
    return lambda folder: (folder / "voc/ImageSets/Segmentation/val.txt").write_bytes(data)


add = LIST.add
add("an image of /etc/passwd", listed("/etc/passwd\n"))
add("a text outside the folder", listed("../secret.txt\n"))
add("a text outside the folder as a .png", listed("../secret.png\n"))
add("a device", listed("/dev/zero\n"))
add("an id of dots", listed("..\n"))
add("zero bytes", listed(b"a\0b\n"))
add("a name of 10 MB", listed("a" * 10**7))
add("ten million lines", listed("a\n" * 10**7))
add("65 MB", listed(b"a b\n" * (65 * 2**18)))
add("the same image twice", listed("a\na\n"))
add("three words", listed("a b c\n"))
add("not UTF-8", listed(b"\xff\xfe\n"))
add("empty", listed(""))
add("a binary file", listed(bytes(range(256)) * 100))
add("a pipe", lambda folder: _as_pipe(folder / "voc/ImageSets/Segmentation/val.txt"))


def _as_pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def features(name: str, content: bytes | Callable[[Path], object]) -> Make:
    """One file of features."""

    def make(folder: Path) -> None:
        path = folder / "features" / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content(path)
        for other in ("a.bin", "a_blob_0.mat"):  # the conversion takes both
            if not os.path.lexists(folder / "features" / other):
                shutil.copy(folder / "secret.txt", folder / "features" / other)
        if name == "a.bin":
            (folder / "features" / "a_blob_0.mat").unlink()
        else:
            (folder / "features" / "a.bin").unlink()

    return make


def bin_file(rows: int, columns: int, channels: int, body: bytes) -> bytes:
    """A .bin file."""
    return struct.pack("<iii", rows, columns, channels) + body


def matrix(
    shape: tuple[int, ...], values: bytes, *, size: int | None = None, flags: int = 7
) -> bytes:
    """A MAT element: an array named data of singles."""

    def element(kind: int, content: bytes, claimed: int | None = None) -> bytes:
        head = struct.pack("<II", kind, len(content) if claimed is None else claimed)
        return head + content + bytes(-len(content) % 8)

    inner = element(6, struct.pack("<II", flags, 0))
    inner += element(5, struct.pack(f"<{len(shape)}i", *shape)) + element(1, b"data")
    return element(14, inner + element(7, values, size))


MAT_HEAD = b"MATLAB 5.0".ljust(124) + struct.pack("<HH", 0x0100, 0x4D49)


def deflated(content: bytes) -> bytes:
    """An element, compressed."""
    packed = zlib.compress(content, 9)
    return struct.pack("<II", 15, len(packed)) + packed


def _mat_bomb() -> bytes:
    count = 2**28
    head = matrix((2**14, 2**14), b"", size=4 * count)
    deflater = zlib.compressobj(9)
    packed = deflater.compress(head)
    packed += b"".join(deflater.compress(bytes(2**22)) for _ in range(2**8)) + deflater.flush()
    return MAT_HEAD + struct.pack("<II", 15, len(packed)) + packed


NAN = np.full((3, 9, 9), np.nan, "<f4").tobytes()
for family in (CRF, CONVERSION):
    add = family.add
    for name, data in (
        ("empty", b""), ("sizes of 2^31", bin_file(2**31 - 1, 2**31 - 1, 2**31 - 1, b"")),
        ("sizes of -1", bin_file(-1, -1, 1, bytes(4))), ("sizes of 0", bin_file(0, 0, 0, b"")),
        ("sizes whose product wraps around", bin_file(65536, 65536, 1, bytes(4))),
        ("fewer values than it says", bin_file(9, 9, 3, bytes(100))),
    ):  # fmt: skip
        add(f"a .bin: {name}", features("a.bin", data))
    add(
        "a .bin: a sparse file of 100 GB",
        features("a.bin", lambda path: (path.touch(), os.truncate(path, 100 * 2**30))),
    )
    add("a .bin: a pipe", features("a.bin", os.mkfifo))
    for name, data in (
        ("empty", b""), ("only its head", MAT_HEAD), ("version 7.3", b"\x89HDF\r\n\x1a\n" + bytes(200)),
        ("a variable of 2^32 bytes", MAT_HEAD + struct.pack("<II", 14, 2**32 - 1)),
        ("a shape of 2^31", MAT_HEAD + matrix((2**31 - 1, 2**31 - 1), bytes(16))),
        ("a shape of -1", MAT_HEAD + matrix((-1, 4), bytes(16))),
        ("missing values", MAT_HEAD + matrix((9, 9, 3), bytes(16))),
        ("a million axes", MAT_HEAD + matrix((1,) * 10**6, bytes(4))),
        ("a cell array", MAT_HEAD + matrix((9, 9), bytes(324), flags=1)),
        ("complex numbers", MAT_HEAD + matrix((9, 9), bytes(324), flags=0x0807)),
        ("a struct in a struct in a struct", MAT_HEAD + matrix((1, 1), matrix((1, 1), matrix((1, 1), b"", flags=2), flags=2), flags=2)),
        ("broken zlib data", MAT_HEAD + struct.pack("<II", 15, 8) + bytes(8)),
        ("deflated, and cut", MAT_HEAD + deflated(matrix((9, 9, 3), bytes(972)))[:-20]),
        ("deflated ten times over", MAT_HEAD + deflated(deflated(deflated(matrix((9, 9), bytes(324)))))),
    ):  # fmt: skip
        add(f"a .mat: {name}", features("a_blob_0.mat", data))
    add(
        "a .mat: a gigabyte deflated to 1 MB",
        features("a_blob_0.mat", lambda path: path.write_bytes(_mat_bomb())),
    )
    add("a .mat: a pipe", features("a_blob_0.mat", os.mkfifo))
CRF.add("a .bin: probabilities that are not numbers", features("a.bin", bin_file(9, 9, 3, NAN)))
CRF.add(
    "a .bin: negative probabilities",
    features("a.bin", bin_file(9, 9, 3, np.full(243, -1, "<f4").tobytes())),
)
CRF.add("a .bin: an image of another size", features("a.bin", bin_file(5, 5, 3, bytes(300))))
CRF.add(
    "a .mat: scores that are not numbers",
    features("a_blob_0.mat", MAT_HEAD + matrix((9, 9, 3), NAN)),
)
CRF.add(
    "a .mat: infinite scores",
    features("a_blob_0.mat", MAT_HEAD + matrix((9, 9, 3), np.full(243, np.inf, "<f4").tobytes())),
)
for flags in ("-bx 0", "-bx nan", "-bx 1e-30", "-br -1", "-bw inf", "-px 1e39", "-bw 1e38"):
    good = features("a.bin", bin_file(9, 9, 3, np.full(243, 0.3, "<f4").tobytes()))
    entry = caffe_port(f"crf -id images -fd features -sd out -i 2 -j 1 {flags}")
    CRF.add(f"the flag {flags}", good, entry, reads=(entry,) if "1e38" in flags else ())
for name, text in (
    ("nested JSON", "[" * 100_000),
    ("JSON of another kind", '{"iterations": "x"}'),
    ("an unknown name", '{"system": 1}'),
    ("infinite iterations", '{"iterations": 1e999}'),
    ("a width of NaN", '{"bi_xy_std": NaN}'),
):

    def _settings(folder: Path, text: str = text) -> None:
        (folder / "crf.json").write_text(text)

    CRF.add(
        f"--crf-config: {name}",
        _settings,
        caffe_port(
            "evaluate good.prototxt good.caffemodel --images voc --crop 9 -o out --crf-config crf.json"
        ),
    )
