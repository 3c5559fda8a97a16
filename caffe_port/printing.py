"""The one way to terminals, logs and pages for text that may hold a file's own words.

Names of layers, blobs, images and files are anybody's. Codes in them can colour a terminal, erase
its lines, set its title, turn the order of letters round or add a line of log that was never
logged; so what is shown has them spelled out, and data keeps them as they are.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

LONGEST = 1000  # characters of one word: file names have at most 255, paths seldom more than this
MOST = 2**20  # characters of one text

# control codes, marks of direction and joining, separators, halves of pairs, tags
_HIDDEN = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_LONG = re.compile(rf"\S{{{LONGEST + 1},}}")
_NEXT_LINE = re.compile(r"(?<=.)\n(?=\S)", re.DOTALL)


def escaped(text: str) -> str:
    """Spells out what a terminal or a page would act upon; ends of lines and tabs stay.

    Args:
        text: of any content.
    Returns:
        The text with codes as `\\x1b` and `\\u202e`, words of over ``LONGEST`` characters and a
        text of over ``MOST`` shortened. Escaping it again changes nothing.
    """
    if len(text) > MOST:
        text = f"{text[:MOST]} [{len(text) - MOST:,} more characters]"
    if len(text) > LONGEST:
        text = _LONG.sub(_shortened, text)
    return _HIDDEN.sub(_spelled, text)


def printable(text: str) -> str:
    """``escaped`` for a message: its further lines are indented, so that none can pose as another.

    Doing it again changes nothing.
    """
    return _NEXT_LINE.sub("\n  ", escaped(text))


def echo(text: str, *, err: bool = False) -> None:
    """Prints a line on standard output, or standard error, without what a terminal acts upon."""
    import click

    click.echo(printable(text), err=err)


def console(**options: Any) -> Console:
    """Rich's console, to which a file's words are words: no markup, no emoji, no codes.

    Args:
        options: of ``rich.console.Console``.
    """
    from rich.console import Console
    from rich.text import Text

    class Plain(Console):
        def render_str(self, text: str, **given: Any) -> Text:
            return super().render_str(printable(text), **(given | {"markup": False}))

    return Plain(**({"markup": False, "emoji": False, "highlight": False} | options))


def _spelled(match: re.Match[str]) -> str:
    return ascii(match[0])[1:-1]


def _shortened(match: re.Match[str]) -> str:
    word = match[0]
    return f"{word[: LONGEST // 2]}[{len(word) - LONGEST + 100:,} more]{word[100 - LONGEST // 2 :]}"
