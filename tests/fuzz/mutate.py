"""Fuzzing without any tool: seeds, changed at random, the same in every run."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence

from tests.fuzz.target import Target

STRUCTURED = 0.6  # of the changes, where a target has such
_LONGEST = 40_000
_TELLING = [b"\0", b"\xff", b"\x80", b"\x7f", b"\xff" * 4, b"\xff" * 8, b"\x7f" + b"\xff" * 3]
_TELLING += [struct.pack("<I", 2**k) for k in (8, 16, 24, 31)] + [b"\xff" * 9 + b"\x01"]


def inputs(target: Target, seed: int) -> Iterator[bytes]:
    """The seeds as they are, then changed ones without end."""
    chance = random.Random(seed)
    pool, words = list(target.seeds()), [*target.words()]

    def change(content: bytes) -> bytes:
        data = bytearray(content)
        for _ in range(chance.choice((1, 1, 2, 3, 8))):
            _change_bytes(data, chance, pool, words)
        return bytes(data[:_LONGEST])

    yield from pool
    while True:
        data = chance.choice(pool)
        if target.structured and chance.random() < STRUCTURED:
            yield target.structured(data, chance, change)[:_LONGEST]
        else:
            yield change(data)


def _change_bytes(
    data: bytearray, chance: random.Random, pool: Sequence[bytes], words: Sequence[bytes]
) -> None:
    """One change at one place."""
    at = chance.randrange(len(data) + 1)
    length = chance.choice((1, 2, 4, 8, 32))
    match chance.randrange(8 if words else 7):
        case 0:
            data[at : at + 1] = bytes([chance.randrange(256)])
        case 1:
            if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
        case 2:
            telling = chance.choice(_TELLING)
            data[at : at + len(telling)] = telling
        case 3:
            del data[at:]
        case 4:
            del data[at : at + length]
        case 5:
            data[at:at] = data[at : at + length] * chance.choice((1, 2, 50))
        case 6:
            other = chance.choice(pool)
            start = chance.randrange(len(other) + 1)
            data[at:at] = other[start : start + 8 * length]
        case _:
            data[at:at] = chance.choice(words)
