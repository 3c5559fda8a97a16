"""What a terminal would act upon is spelled out, and only that."""

from __future__ import annotations

import io

import pytest

from caffe_port import errors
from caffe_port.errors import LONGEST, MOST, console, echo, escaped, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;owned\x07\x1b[2J", r"\x1b]0;owned\x07\x1b[2J"),
        ("a\rb\bc\0\x7f\x9b", r"a\rb\x08c\x00\x7f\x9b"),
        ("\u202egnp.exe\u2066\u200b\ufeff\u2028", r"\u202egnp.exe\u2066\u200b\ufeff\u2028"),
        ("\udc80\U000e0041", r"\udc80\U000e0041"),
        ("name of blanks, é, 犬, 🐕, \xa0", "name of blanks, é, 犬, 🐕, \xa0"),
        ("C:\\x1b", "C:\\x1b"),
        ("\nan empty line", "\nan empty line"),
        ("one\n  two\n\tthree\n\nfour", "one\n  two\n\tthree\n\n  four"),
        ("a\nI1122 10:00:00.0 1 solver.cpp:1] done", "a\n  I1122 10:00:00.0 1 solver.cpp:1] done"),
    ],
)
def test_control_codes_are_spelled_out(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown


def test_escaped_leaves_lines() -> None:
    assert escaped("a\nb\x1b") == "a\nb\\x1b"


def test_long_words_and_texts_are_shortened_once() -> None:
    word = printable("x" * 10**6)
    assert len(word) < LONGEST
    assert "[999,100 more]" in word
    assert printable(word) == word
    text = printable("ab " * MOST)
    assert text.endswith(f"[{2 * MOST:,} more characters]")
    assert printable("x" * LONGEST) == "x" * LONGEST


def test_errors_show_spelled_and_keep_exact() -> None:
    error = errors.LayerError("\x1b[2J", "Re\u202eLU", "no")
    assert str(error) == r"layer '\x1b[2J' (Re\u202eLU): no"
    assert error.layer == "\x1b[2J"
    assert "\x1b" in error.args[0]
    assert str(errors.UnknownFieldWarning("\x07")) == r"\x07"


def test_echo(capsys: pytest.CaptureFixture[str]) -> None:
    echo("\x1b[31mred")
    echo("\x07", err=True)
    assert capsys.readouterr() == ("\\x1b[31mred\n", "\\x07\n")


def test_the_console_shows_markup_as_text() -> None:
    from rich.table import Table

    stream = io.StringIO()
    shown = console(file=stream, width=120)
    table = Table("[bold]head[/bold]", title="[red]:smile:\x1b[0m", caption="[/]")
    table.add_row("[link=http://x]layer[/link]\x9b\u202e:dog:")
    shown.print(table)
    shown.print("[blink]x[/nothing]\r")
    text = stream.getvalue()
    for words in (
        "[bold]head[/bold]", r"[red]:smile:\x1b[0m", "[/]", r"[link=http://x]layer[/link]\x9b\u202e:dog:",
        r"[blink]x[/nothing]\r",
    ):  # fmt: skip
        assert words in text
    assert not set("\x1b\r\x9b\u202e") & set(text)
