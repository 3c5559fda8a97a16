"""The part of six that scripts of pycaffe's time use, if six itself is not installed.

pycaffe required six, so its scripts import it; on Python 3 it is a handful of names.
"""

from __future__ import annotations

from builtins import next  # noqa: A004, F401, UP029 - one of six's names
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import Any, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")

PY2, PY3 = False, True
string_types, integer_types, class_types = (str,), (int,), (type,)
text_type, binary_type = str, bytes


def iteritems(mapping: Mapping[Key, Value]) -> Iterator[tuple[Key, Value]]:
    """Iterates over (key, value)."""
    return iter(mapping.items())


def iterkeys(mapping: Mapping[Key, Any]) -> Iterator[Key]:
    """Iterates over the keys."""
    return iter(mapping.keys())


def itervalues(mapping: Mapping[Any, Value]) -> Iterator[Value]:
    """Iterates over the values."""
    return iter(mapping.values())


def viewitems(mapping: Mapping[Key, Value]) -> ItemsView[Key, Value]:
    """A view of (key, value)."""
    return mapping.items()


def viewkeys(mapping: Mapping[Key, Any]) -> KeysView[Key]:
    """A view of the keys."""
    return mapping.keys()


def viewvalues(mapping: Mapping[Any, Value]) -> ValuesView[Value]:
    """A view of the values."""
    return mapping.values()
