"""Protobuf text format: characters to a tree of entries, without a schema.

The grammar is protobuf's text format (``name: value``, ``name { ... }``, ``name < ... >``,
``[a, b]`` lists, adjacent strings joined, ``#`` comments), plus ``${NAME}`` variables as the
DeepLab releases use them in their prototxt templates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from caffe_port.errors import FormatError, option

MAX_DEPTH = 64  # Caffe's own messages nest four deep; protobuf's C++ reader stops at 100
MAX_FIELDS = 100_000  # a ResNet-1001 has some 50,000

# the most frequent tokens first: a word, or a string without escapes
_TOKEN = re.compile(
    r"""[ \t\r\f\v]*(?:\#[^\n]*)?(?:
    (?P<plain>[A-Za-z_]\w*(?![\w.+$-]))
    |(?P<mark>[{}<>:;,\[\]-](?!\$))
    |(?P<newline>\n)
    |(?P<quoted>"[^"\\\n$]*"|'[^'\\\n$]*')
    |(?P<number>(?:0[xX][0-9a-fA-F]+|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?[fF]?)(?![\w.+$-]))
    |(?P<string>["'])
    |(?P<variable>[\w.+-]*\$\{\w*\})
    |(?P<word>[A-Za-z_]\w*)
    |(?P<digits>(?:0[xX][0-9a-fA-F]+|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?[fF]?)(?![\w.]))
    |(?P<end>\Z))""",
    re.VERBOSE | re.ASCII,
)
_BLANK = re.compile(r"[ \t\r\f\v]*(?:#[^\n]*)?")
_KINDS = {"plain": "word", "quoted": "string", "digits": "number"}
# in pieces, because a repeated group takes memory for each repetition
_INSIDE = {quote: re.compile(rf"(?:[^{quote}\\\n]+|\\.){{0,1000}}") for quote in "\"'"}
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPED = dict(zip("abfnrtv\\'\"?", b"\a\b\f\n\r\t\v\\'\"?", strict=True))
_CLOSING = {"{": "}", "<": ">"}


@dataclass(slots=True)
class Scalar:
    """One value as written: ``kind`` is 'string', 'word' or 'number' (its sign included).

    Bytes of a string that are not UTF-8 are surrogates, as Python's surrogateescape makes them.
    """

    kind: str
    text: str
    line: int
    column: int


class Entry(NamedTuple):
    """``name: value`` or ``name { ... }``; a block's value is the tuple of its entries."""

    name: str
    value: Scalar | tuple[Entry, ...]
    line: int
    column: int


class _Token(NamedTuple):
    kind: str
    text: str
    line: int
    column: int


def substitute(text: str, variables: Mapping[str, str]) -> str:
    """Replaces ``${NAME}`` by ``variables['NAME']``, as the original scripts' sed did.

    Names without a value are kept; ``parse_tree`` refuses those outside of comments.
    """
    return re.sub(r"\$\{(\w+)\}", lambda m: str(variables.get(m[1], m[0])), text)


def parse_tree(text: str, path: str | None = None) -> tuple[Entry, ...]:
    """Parses a whole text.

    Args:
        text: prototxt, variables already substituted.
        path: named in errors.
    Returns:
        The top-level entries in order.
    Raises:
        FormatError: with line and column.
    """
    return _Parser(text, path).parse()


class _Parser:
    def __init__(self, text: str, path: str | None) -> None:
        self.path = path
        self.fields = 0
        self.tokens = self.scan(text)
        self.token = next(self.tokens)

    def fail(self, message: str, token: _Token | Scalar | None = None) -> NoReturn:
        at = token or self.token
        raise FormatError(message, path=self.path, line=at.line, column=at.column)

    def scan(self, text: str) -> Iterator[_Token]:
        line, start, position, match = 1, 0, 0, _TOKEN.match
        while True:
            found = match(text, position)
            if found is None or found.lastgroup is None:
                self.refuse(text, position, line, start)
            name, end = found.lastgroup, found.end()
            if name == "newline":
                line, start = line + 1, end
            elif name == "end":
                break
            else:
                word = found[name]
                token = _Token(_KINDS.get(name, name), word, line, end - len(word) - start + 1)
                if name == "string":
                    end = self.string_end(text, token, opening := end - 1)
                    token = token._replace(text=text[opening:end])
                if name == "variable" or (name == "string" and "${" in token.text):
                    self.unset(token)
                yield token
            position = end
        end_of_text = _Token("end", "the end of the text", line, len(text) - start + 1)
        while True:
            yield end_of_text

    def refuse(self, text: str, position: int, line: int, start: int) -> NoReturn:
        blank = _BLANK.match(text, position)
        position = blank.end() if blank else position
        found = re.match(r"\S+", text[position : position + 40])
        token = _Token("", "", line, position - start + 1)
        self.fail(f"unexpected {found[0] if found else text[position]!r}", token)

    def string_end(self, text: str, token: _Token, position: int) -> int:
        at, inside = position + 1, _INSIDE[token.text]
        while (match := inside.match(text, at)) and match.end() > at:
            at = match.end()
        if text[at : at + 1] != token.text:
            self.fail("a string that does not end on its line", token)
        return at + 1

    def unset(self, token: _Token) -> None:
        found = re.search(r"\$\{(\w+)\}", token.text)
        if found is not None:
            self.fail(
                f"the variable ${{{found[1]}}} has no value; give it one: "
                f"{option('variables', found[1])}",
                token,
            )
        if token.kind == "variable":
            self.fail(f"{token.text[:40]!r} is not a variable name; expected ${{NAME}}", token)

    def advance(self) -> _Token:
        token, self.token = self.token, next(self.tokens)
        return token

    def accept(self, marks: str) -> str | None:
        if self.token.kind == "mark" and self.token.text in marks:
            return self.advance().text
        return None

    def parse(self) -> tuple[Entry, ...]:
        entries = self.block("", 0)
        if self.token.kind != "end":
            self.fail(f"unexpected {self.token.text[:40]!r}")
        return entries

    def block(self, closing: str, depth: int) -> tuple[Entry, ...]:
        if depth > MAX_DEPTH:
            self.fail(f"blocks nested more than {MAX_DEPTH} deep")
        entries: list[Entry] = []
        while self.token.kind == "word":
            self.field(entries, depth)
            self.accept(";,")
        if closing and self.accept(closing) is None:
            self.fail(f"expected a field name or '{closing}', found {self.token.text[:40]!r}")
        return tuple(entries)

    def field(self, entries: list[Entry], depth: int) -> None:
        """Adds a field, one entry for each value of a list."""
        name = self.advance()
        colon = self.accept(":") is not None
        opening = self.accept("[{<")
        if opening == "[":
            self.listed(entries, name, depth)
            return
        self.count()
        value = self.value(name, colon, opening, depth)
        entries.append(Entry(name.text, value, name.line, name.column))

    def count(self) -> None:
        self.fields += 1
        if self.fields > MAX_FIELDS:
            self.fail(f"over {MAX_FIELDS} fields, too many for a prototxt")

    def listed(self, entries: list[Entry], name: _Token, depth: int) -> None:
        if self.accept("]"):
            return
        while True:
            self.count()
            value = self.value(name, True, self.accept("{<"), depth)
            entries.append(Entry(name.text, value, name.line, name.column))
            if self.accept("]"):
                return
            if self.accept(",") is None:
                self.fail(f"expected ',' or ']', found {self.token.text[:40]!r}")

    def value(
        self, name: _Token, colon: bool, opening: str | None, depth: int
    ) -> Scalar | tuple[Entry, ...]:
        if opening:
            return self.block(_CLOSING[opening], depth + 1)
        if not colon:
            self.fail(
                f"expected ':' or '{{' after {name.text[:40]!r}, found {self.token.text[:40]!r}"
            )
        return self.scalar(name)

    def scalar(self, name: _Token) -> Scalar:
        first = self.token
        if first.kind == "string":
            # joined as bytes, because escapes may spell one character byte by byte
            parts = []
            while self.token.kind == "string":
                parts.append(self.unescape(self.advance()))
            text = b"".join(parts).decode(errors="surrogateescape")
            return Scalar("string", text, first.line, first.column)
        sign = "-" if self.accept("-") else ""
        if self.token.kind not in ("number", "word"):
            self.fail(f"expected a value for {name.text[:40]!r}, found {self.token.text[:40]!r}")
        token = self.advance()
        # -inf and -nan are numbers that look like words
        kind = "number" if sign else token.kind
        return Scalar(kind, sign + token.text, first.line, first.column)

    def unescape(self, token: _Token) -> bytes:
        def replace(match: re.Match[bytes]) -> bytes:
            code = match[1].decode(errors="replace")
            if code[0] == "x" and len(code) > 1:
                return bytes([int(code[1:], 16)])
            if code[0] in "01234567":
                return bytes([int(code, 8) & 0xFF])
            if code not in _ESCAPED:
                advice = "write / in a path, or \\\\ for a backslash"
                self.fail(f"unknown escape '\\{code}' in a string: {advice}", token)
            return bytes([_ESCAPED[code]])

        try:
            inner = token.text[1:-1].encode(errors="surrogateescape")
        except UnicodeEncodeError:
            self.fail("a string holds half of a surrogate pair", token)
        return _ESCAPE.sub(replace, inner) if b"\\" in inner else inner
