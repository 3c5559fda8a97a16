"""What the shared options take and refuse, before a file is read."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner

from caffe_port.cli.options import crop_option, mean_option, net_options


@click.command()
@crop_option
@mean_option
@net_options
def show(**options: Any) -> None:
    click.echo({name: value for name, value in options.items() if value})


def said(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(show, arguments)
    return result.exit_code, result.output


def test_values() -> None:
    status, text = said(
        "--crop", "32X48", "--mean", "1,2.5,3", "--input-shape", "data=1,3,9,9", "--set", "EXP=",
    )  # fmt: skip
    assert status == 0
    assert "'crop': (32, 48)" in text
    assert "'mean': (1.0, 2.5, 3.0)" in text
    assert "'input_shapes': {'data': (1, 3, 9, 9)}" in text
    assert "'variables': {'EXP': ''}" in text
    assert "'crop': (7, 7)" in said("--crop", "7")[1]
    spaced = said("--crop", "32 x 48", "--input-shape", "data=1, 3, 9, 9")[1]
    assert "'crop': (32, 48)" in spaced
    assert "'input_shapes': {'data': (1, 3, 9, 9)}" in spaced


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--crop", "0"), "'0': expected N or HEIGHTxWIDTH, each 1 or more"),
        (("--crop=-5",), "'-5': expected N or HEIGHTxWIDTH"),
        (("--crop", "3x4x5"), "'3x4x5': expected N or HEIGHTxWIDTH"),
        (("--mean", "1,2"), "'1,2': expected three numbers B,G,R"),
        (("--mean", "1,nan,2"), "'1,nan,2': expected three finite numbers B,G,R"),
        (("--input-shape", "1,3,9,9"), "'1,3,9,9': expected BLOB=1,3,513,513"),
        (("--input-shape", "=1,3"), "'=1,3': expected BLOB="),
        (("--input-shape", "data=1,-3"), "'data=1,-3': expected BLOB="),
        (("--set", "EXP"), "'EXP': expected NAME=VALUE"),
    ],
)
def test_refusals(arguments: tuple[str, ...], message: str) -> None:
    status, text = said(*arguments)
    assert status == 2
    assert message in " ".join(text.split())
