"""Source text from foreign names and numbers."""

from __future__ import annotations

import ast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffe_port.export.module_code import (
    WIDTH,
    exact,
    identifiers,
    number,
    plain,
    statement,
    string,
    tuple_of,
)


@given(st.lists(st.text(), unique=True))
def test_any_names_become_different_valid_ones(names):
    found = identifiers(names, "layer", {"self"})
    assert set(found) == set(names)
    assert len(set(found.values())) == len(names)
    for name in found.values():
        assert name.isascii()
        ast.parse(f"{name} = 1")
        assert not name.startswith("_")
        assert name != "self"


def test_a_valid_name_stays_whatever_precedes_it():
    assert identifiers(["a-b", "a_b", "if", "2x"], "layer", ()) == {
        "a_b": "a_b", "a-b": "a_b_2", "if": "if_2", "2x": "layer2x",
    }  # fmt: skip


@given(st.text())
def test_a_string_literal_is_the_string(text):
    assert ast.literal_eval(string(text)) == text
    assert string(text).isascii()
    assert "\n" not in string(text)


@given(st.text())
def test_plain_text_ends_neither_a_comment_nor_a_docstring(text):
    assert not set(plain(text)) & set("\"'\\\n\r")
    assert len(plain(text)) == len(text)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_numbers_keep_their_float32(value):
    assert np.float32(ast.literal_eval(number(value))) == np.float32(value)
    assert ast.literal_eval(exact(value)) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [(float(np.float32(1e-5)), "1e-05"), (0.75, "0.75"), (2.0, "2"), (-1.0, "-1"),
     (float("inf"), 'float("inf")')],
)  # fmt: skip
def test_numbers_are_short(value, text):
    assert number(value) == text


@pytest.mark.parametrize("count", [1, 8, 30])
def test_long_statements_are_broken_and_mean_the_same(count):
    names = [f"some_blob_{i}" for i in range(count)]
    for text in (
        f"x = torch.cat([{', '.join(names)}], dim=1)",
        f"x = {' + '.join(names)}",
        f"self.x = f({', '.join(names)})",
    ):
        lines = statement(text, 8)
        assert max(map(len, lines)) <= WIDTH
        unindented = "\n".join(line[8:] for line in lines)
        assert ast.dump(ast.parse(unindented)) == ast.dump(ast.parse(text))


def test_a_tuple_of_one_has_its_comma():
    assert (tuple_of(()), tuple_of((3,)), tuple_of((3, 4))) == ("()", "(3,)", "(3, 4)")
