"""Attacks with small files that are large inside: scans, frames, notes, zip members."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path

from tests.attacks import archives, images
from tests.attacks.attack import Family, Make

BOMBS = Family("small outside", *images.IMAGES.entries)


def scans(side: int, count: int) -> bytes:
    """A progressive JPEG that repeats its last scan ``count`` times."""
    from PIL import Image

    stream = io.BytesIO()
    Image.new("L", (side, side)).save(stream, "JPEG", progressive=True)
    data = stream.getvalue()
    start = data.rindex(b"\xff\xda")
    return data[:start] + data[start:-2] * count + data[-2:]


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _apng(frames: int, side: int) -> bytes:
    """An animated PNG that claims large frames."""
    good = images.png(9, 9, zlib.compress(bytes(9 * 28)))
    control = _chunk(b"acTL", struct.pack(">II", frames, 0))
    rows = zlib.compress(bytes(1000))
    parts = []
    for i in range(min(frames, 1000)):
        parts.append(
            _chunk(b"fcTL", struct.pack(">IIIIIHHBB", 2 * i, side, side, 0, 0, 1, 1, 0, 0))
        )
        parts.append(_chunk(b"fdAT", struct.pack(">I", 2 * i + 1) + rows))
    return good[:33] + control + good[33:-12] + b"".join(parts) + good[-12:]


def _gif(frames: int, side: int) -> bytes:
    """Many frames, the later ones larger than the first."""
    head = b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x02\x4c\x01\x00"
    return head + frame * frames + b";"


def _exif(content: bytes) -> bytes:
    """A JPEG with such a note of its camera."""
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (9, 9)).save(stream, "JPEG")
    data, note = stream.getvalue(), b"Exif\0\0" + content
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(note) + 2) + note + data[2:]


def _entry(tag: int, kind: int, count: int, value: int) -> bytes:
    return struct.pack("<HHII", tag, kind, count, value)


_CIRCLE = (
    b"II*\0\x08\0\0\0"
    + struct.pack("<H", 2)
    + _entry(0x8769, 4, 1, 8)
    + _entry(0x112, 3, 1, 99)
    + struct.pack("<I", 8)
)
_FAR = b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + _entry(0x9286, 7, 2**32 - 1, 2**31) + bytes(4)
_MANY = (
    b"II*\0\x08\0\0\0" + struct.pack("<H", 5000) + _entry(0x9286, 7, 60_000, 8) * 5000 + bytes(4)
)
ALL = BOMBS.entries
add = BOMBS.add
add(
    "a JPEG of 24 million pixels in 2000 scans",
    lambda folder: images.image_file(scans(4900, 2000))(folder),
    reads=ALL,
)
add(
    "a JPEG of 250,000 pixels in 1900 scans",
    lambda folder: images.image_file(scans(500, 1900))(folder),
    reads=ALL,
)
add(
    "a JPEG in 100,000 scans",
    lambda folder: images.image_file(scans(64, 100_000))(folder),
    reads=ALL,
)
add("an animated PNG of 2^31 frames", images.image_file(_apng(2**31 - 1, 60_000)), reads=ALL)
add("an animated GIF whose frames grow", images.image_file(_gif(1000, 60_000)), reads=ALL)
add("EXIF that refers to itself", images.image_file(_exif(_CIRCLE)), reads=ALL)
add("EXIF of 4 GB", images.image_file(_exif(_FAR)), reads=ALL)
add("EXIF whose 5000 values overlap", images.image_file(_exif(_MANY)), reads=ALL)
add("a PNG of 16 bits a channel", images.image_file(
    images.png(9, 9, zlib.compress(bytes(9 * 55)))[:16] + struct.pack(">IIBBBBB", 9, 9, 16, 2, 0, 0, 0)
    + struct.pack(">I", zlib.crc32(b"IHDR" + struct.pack(">IIBBBBB", 9, 9, 16, 2, 0, 0, 0)))
    + images.png(9, 9, zlib.compress(bytes(9 * 55)))[33:]), reads=ALL)  # fmt: skip
add(
    "a PNG with a colour profile that inflates to 100 MB",
    lambda folder: images.image_file(_profile())(folder),
    reads=ALL,
)


def _profile() -> bytes:
    good = images.png(9, 9, zlib.compress(bytes(9 * 28)))
    return good[:33] + _chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(10**8), 9)) + good[33:]


ZIPS = Family("zip inside", *archives.PT.entries)


def deflated(folder: Path) -> None:
    """A good model whose members are deflated, one to a thousandth."""
    archives.saved(archives.model(state_dict={"conv.weight": archives._torch().zeros(2**24)}))(
        folder
    )
    with zipfile.ZipFile(folder / "net.pt") as old:
        members = {name: old.read(name) for name in old.namelist()}
    archives.archive(members, zipfile.ZIP_DEFLATED)(folder)


def _changed(field: int, value: int, size: str = "<I") -> Make:
    """A good model with one number of every entry in its directory changed."""

    def make(folder: Path) -> None:
        archives.saved(archives.model())(folder)
        data = bytearray((folder / "net.pt").read_bytes())
        place = data.find(b"PK\x01\x02")
        while place >= 0:
            struct.pack_into(size, data, place + field, value)
            place = data.find(b"PK\x01\x02", place + 4)
        (folder / "net.pt").write_bytes(data)

    return make


def _overlapping(folder: Path) -> None:
    """Ten thousand entries of a directory that all lead to one member of 10 MB."""
    with zipfile.ZipFile(folder / "net.pt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("net/data/0", bytes(10**7))
    data = (folder / "net.pt").read_bytes()
    start, end = data.index(b"PK\x01\x02"), data.rindex(b"PK\x05\x06")
    entries = b"".join(
        data[start:end].replace(b"net/data/0", b"net/d%05d" % i) for i in range(10_000)
    )
    tail = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 10_000, 10_000, len(entries), start, 0)
    (folder / "net.pt").write_bytes(data[:start] + entries + tail)


ZIPS.add("a good model, deflated a thousandfold", deflated, reads=ZIPS.entries)
ZIPS.add("every member at one place", _changed(42, 0))
ZIPS.add("members of 2^32 - 2 bytes", _changed(24, 2**32 - 2))
ZIPS.add("members beyond the file", _changed(42, 2**31))
ZIPS.add("a method of packing that does not exist", _changed(10, 99, "<H"))
ZIPS.add("members that say they are encrypted", _changed(8, 1, "<H"), reads=ZIPS.entries)
ZIPS.add("wrong checksums", _changed(16, 0xDEADBEEF), reads=ZIPS.entries)
ZIPS.add("10,000 entries that overlap", _overlapping)
