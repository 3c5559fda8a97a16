"""Changes to an HDF5 file made through the library: other shapes, types, links and attributes.

They start from a seed: the library may crash when it opens damaged files for writing.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import h5py
import numpy as np

from tests.fuzz.structured import TELLING, Change

_TYPES = ("<f4", "<f4", "<f8", ">f4", "<f2", "<i4", "<u8", "S3", "?", "<c8", [("a", "<f4")])
_NAMES = ("data", "diff", "history", "iter", "input", "param", "0", "1", "01", "x", "a%2Fb", "é")


def from_seeds(
    seeds: Callable[[], Sequence[bytes]],
) -> Callable[[bytes, random.Random, Change], bytes]:
    """Makes the change: some of a seed's members at a time."""
    made = cache(seeds)

    def changed(data: bytes, chance: random.Random, change: Change) -> bytes:
        stream = io.BytesIO(chance.choice(made()))
        with h5py.File(stream, "r+") as file:
            for _ in range(chance.choice((1, 1, 2, 3, 5))):
                _change(file, chance, change)
        return stream.getvalue()

    return changed


def _addresses(file: Any) -> list[str]:
    found: list[str] = []
    file.visit(found.append)  # stops where it is given anything but None
    return found


def _change(file: Any, chance: random.Random, change: Change) -> None:
    """One member, or what hangs on it; what the library refuses is left."""
    addresses = _addresses(file)
    if not addresses:
        return
    at, other = chance.choice(addresses), chance.choice(addresses)
    new = f"{at.rpartition('/')[0]}/{chance.choice(_NAMES)}"
    try:
        match chance.randrange(8):
            case 0:
                del file[at]
            case 1:
                file.move(at, new)
            case 2:
                file[new] = file[other]
            case 3:
                del file[at]
                links = (h5py.SoftLink(f"/{other}"), h5py.ExternalLink("x.h5", "/a"))
                file[at] = chance.choice(links)
            case 4:
                file.create_group(new)
            case 5:
                text = change(b'{"phase": "TEST"}').replace(b"\0", b"")[:200]
                owner = chance.choice((file, file[at]))
                owner.attrs[chance.choice(("meta", "sha256", "format", "version"))] = np.bytes_(
                    text
                )
            case _:
                del file[at]
                _dataset(file, at, chance)
    except (ValueError, KeyError, OSError, RuntimeError, TypeError):
        return


def _dataset(file: Any, at: str, chance: random.Random) -> None:
    shape = tuple(chance.choice((0, 1, 2, 3, 5)) for _ in range(chance.choice((0, 1, 2, 4, 33))))
    dtype: Any = chance.choice(_TYPES)
    kind = chance.randrange(5)
    if kind == 0:  # claims much and stores nothing
        file.create_dataset(at, (abs(chance.choice(TELLING)) % 2**62,), dtype)
    elif kind == 1:
        file.create_dataset(at, shape, dtype, chunks=True, compression="gzip")
    elif kind == 2:
        file[at] = h5py.Empty("f4") if chance.random() < 0.5 else chance.choice(TELLING[:10])
    else:
        size = int(np.prod(shape[:4]))
        values = np.arange(size).reshape(shape[:4])
        file[at] = values.astype(dtype) if isinstance(dtype, str) else np.zeros(shape[:4], dtype)
