"""The names that Python 3 changed, under six's names."""
# ruff: noqa: A004, N812, UP029 - the names are six's

from __future__ import annotations

import pickle as cPickle
import urllib
import urllib.error
import urllib.parse
import urllib.request
from builtins import filter, input, map, range, zip
from functools import reduce
from itertools import zip_longest

__all__ = [
    "cPickle",
    "filter",
    "input",
    "map",
    "range",
    "reduce",
    "urllib",
    "xrange",
    "zip",
    "zip_longest",
]

xrange = range
