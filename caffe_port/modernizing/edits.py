"""Replaces parts of a script by rules on its syntax tree; all other text stays unchanged."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

_ROUNDS = 20  # the result of a rule may match another rule, at most this deep


@dataclass(frozen=True)
class Edit:
    """A node, and the text that replaces it."""

    node: ast.expr | ast.stmt
    text: str


@dataclass
class Script:
    """A parsed script.

    Attributes:
        source: its bytes, in UTF-8 as ast counts columns.
        tree: of the source.
        names: local name -> imported name, such as np -> numpy.
        parents: of every node.
    """

    source: bytes
    tree: ast.Module
    names: dict[str, str] = field(default_factory=dict)
    parents: dict[ast.AST, ast.AST] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str) -> Script:
        script = cls(text.encode(), ast.parse(text))
        for node in ast.walk(script.tree):
            for child in ast.iter_child_nodes(node):
                script.parents[child] = node
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.partition(".")[0]
                    script.names[alias.asname or top] = alias.name if alias.asname else top
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    script.names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        return script

    def dotted(self, node: ast.AST) -> str:
        """The full name of a name or attribute, such as numpy.int; "" if unknown."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id, "")
        if isinstance(node, ast.Attribute):
            base = self.dotted(node.value)
            return f"{base}.{node.attr}" if base else ""
        return ""

    def text(self, node: ast.AST) -> str:
        """The text of a node."""
        start, end = self.span(node)
        return self.source[start:end].decode()

    def with_argument(self, call: ast.Call, argument: str) -> str:
        """The text of a call with one more argument at the end."""
        return f"{self.text(call)[:-1].rstrip().removesuffix(',')}, {argument})"

    def span(self, node: ast.AST) -> tuple[int, int]:
        """Start and end of a node in the source."""
        assert isinstance(node, ast.expr | ast.stmt | ast.keyword)
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        lines = self._starts()
        return (
            lines[node.lineno - 1] + node.col_offset,
            lines[node.end_lineno - 1] + node.end_col_offset,
        )

    def _starts(self) -> list[int]:
        if not hasattr(self, "_lines"):
            self._lines = [0]
            for line in self.source.splitlines(keepends=True):
                self._lines.append(self._lines[-1] + len(line))
        return self._lines


Rule: TypeAlias = Callable[[Script, ast.AST], Iterator[Edit]]


def rewrite(text: str, rules: Iterable[Rule]) -> str:
    """Applies rules to a script until none matches."""
    rules = tuple(rules)
    for _ in range(_ROUNDS):
        script = Script.of(text)
        edits = [
            edit for node in ast.walk(script.tree) for rule in rules for edit in rule(script, node)
        ]
        if not edits:
            break
        text = _applied(script, edits)
    return text


def _applied(script: Script, edits: Iterable[Edit]) -> str:
    """Applies edits; of overlapping ones only the innermost, the others in a later round."""
    spans = sorted(
        ((*script.span(edit.node), edit.text) for edit in edits), key=lambda s: (s[1] - s[0], s[0])
    )
    made: list[tuple[int, int, str]] = []
    for start, end, new in spans:
        if all(end <= other[0] or start >= other[1] for other in made):
            made.append((start, end, new))
    source = script.source
    for start, end, new in sorted(made, reverse=True):
        source = source[:start] + new.encode() + source[end:]
    return source.decode()
