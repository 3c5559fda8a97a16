"""The C library's generator, against the C library."""

from __future__ import annotations

import ctypes
import sys
from collections import Counter

import pytest

from caffe_port.data.rng import CLibraryRandom


def test_the_first_numbers_are_those_known_of_glibc():
    random = CLibraryRandom()
    assert [random.rand() for _ in range(3)] == [1804289383, 846930886, 1681692777]


@pytest.mark.skipif(sys.platform != "linux", reason="another C library has another generator")
def test_many_numbers_are_glibcs():
    library, random = ctypes.CDLL(None), CLibraryRandom()
    library.srand(1)
    assert [random.rand() for _ in range(2000)] == [library.rand() for _ in range(2000)]


def test_shuffle_swaps_each_item_with_one_before_it():
    random, items = CLibraryRandom(), list("abc")
    # 1804289383 % 2 = 1: b stays; 846930886 % 3 = 1: c and b change places
    random.shuffle(items)
    assert items == list("acb")


def test_every_order_comes_about():
    random, seen = CLibraryRandom(), Counter()
    for _ in range(600):
        items = [0, 1, 2]
        random.shuffle(items)
        seen[tuple(items)] += 1
    assert len(seen) == 6
    assert min(seen.values()) > 60
