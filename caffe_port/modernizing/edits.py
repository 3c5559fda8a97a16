"""Rules for names that libraries and Python have removed, and the edits that apply them."""

from __future__ import annotations

import ast
import re
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


_HELPER = "caffe_port.pycaffe.scipy_misc"
_IMAGES = frozenset({
    "bytescale", "fromimage", "imread", "imresize", "imrotate", "imsave", "toimage",
})  # fmt: skip
_SPECIAL = frozenset({"comb", "factorial", "logsumexp"})
_ABSTRACT = frozenset({
    "Callable", "Container", "Hashable", "Iterable", "Iterator", "Mapping", "MutableMapping",
    "MutableSequence", "MutableSet", "Sequence", "Set", "Sized",
})  # fmt: skip

# full name -> its replacement; ".x" is another attribute of the same module
_NAMES = {
    "numpy.bool": "bool", "numpy.int": "int", "numpy.float": "float", "numpy.complex": "complex",
    "numpy.object": "object", "numpy.str": "str", "numpy.long": "int", "numpy.unicode": "str",
    "numpy.float_": ".float64", "numpy.complex_": ".complex128", "numpy.string_": ".bytes_",
    "numpy.unicode_": ".str_", "numpy.Inf": ".inf", "numpy.Infinity": ".inf", "numpy.infty": ".inf",
    "numpy.PINF": ".inf", "numpy.NaN": ".nan", "numpy.NAN": ".nan", "numpy.product": ".prod",
    "numpy.cumproduct": ".cumprod", "numpy.alltrue": ".all", "numpy.sometrue": ".any",
    "numpy.row_stack": ".vstack", "numpy.in1d": ".isin", "numpy.trapz": ".trapezoid",
    "numpy.round_": ".round", "time.clock": ".perf_counter",
    "PIL.Image.ANTIALIAS": ".LANCZOS", "Image.ANTIALIAS": ".LANCZOS",
    "PIL.Image.fromstring": ".frombytes", "inspect.getargspec": ".getfullargspec",
    **{f"collections.{name}": f".abc.{name}" for name in _ABSTRACT},
}  # fmt: skip


def names(script: Script, node: ast.AST) -> Iterator[Edit]:
    """Removed attributes of modules."""
    if not isinstance(node, ast.Attribute):
        return
    new = _NAMES.get(script.dotted(node))
    if new is not None:
        yield Edit(node, script.text(node.value) + new if new.startswith(".") else new)
        if new.startswith(".abc.") and not _imports(script, "collections.abc"):
            yield from _import_after(script, "collections", "import collections.abc")


def _imports(script: Script, module: str) -> bool:
    nodes = (node for node in ast.walk(script.tree) if isinstance(node, ast.Import))
    return any(alias.name == module for node in nodes for alias in node.names)


def _import_after(script: Script, module: str, line: str) -> Iterator[Edit]:
    """Adds an import below the first one of a module, once."""
    for node in ast.walk(script.tree):
        if isinstance(node, ast.Import) and any(a.name == module for a in node.names):
            yield Edit(node, f"{script.text(node)}\n{' ' * node.col_offset}{line}")
            return


def calls(script: Script, node: ast.AST) -> Iterator[Edit]:
    """Calls whose arguments have another meaning now, or whose function was removed."""
    if not isinstance(node, ast.Call):
        return
    name, text = script.dotted(node.func), script.text
    one = len(node.args) == 1 and not node.keywords and not isinstance(node.args[0], ast.Starred)
    if name in ("yaml.load", "yaml.load_all") and one and isinstance(node.func, ast.Attribute):
        yield Edit(node.func, f"{text(node.func.value)}.safe_{node.func.attr}")
    elif name == "numpy.asscalar" and one:
        simple = isinstance(node.args[0], ast.Name | ast.Attribute | ast.Call | ast.Subscript)
        value = text(node.args[0])
        yield Edit(node, f"{value if simple else f'({value})'}.item()")
    elif name == "numpy.fromstring" and not _has_separator(node):
        inside = text(node)[len(text(node.func)) :]
        base = text(node.func).removesuffix("fromstring")
        yield Edit(node, f"{base}frombuffer{inside}.copy()")
    elif name == "h5py.File" and one:
        yield Edit(node, script.with_argument(node, "'a'"))
    elif not (node.args or node.keywords or name) and _is_method(node.func, "tostring"):
        yield Edit(node.func, f"{text(node.func).removesuffix('tostring')}tobytes")


def _is_method(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == name


def _has_separator(node: ast.Call) -> bool:
    return len(node.args) > 3 or any(keyword.arg == "sep" for keyword in node.keywords)


def hdf5_values(script: Script, node: ast.AST) -> Iterator[Edit]:
    """`file['x'].value`, in scripts with h5py."""
    if "h5py" not in script.names.values() or not isinstance(node, ast.Attribute):
        return
    named = isinstance(node.value, ast.Subscript) and isinstance(node.value.slice, ast.Constant)
    if node.attr == "value" and named and isinstance(node.ctx, ast.Load):
        assert isinstance(node.value, ast.Subscript)
        if isinstance(node.value.slice.value, str):  # type: ignore[attr-defined]
            yield Edit(node, f"{script.text(node).removesuffix('.value')}[()]")


def scipy_misc(script: Script, node: ast.AST) -> Iterator[Edit]:
    """SciPy's functions for images, which this package has."""
    if isinstance(node, ast.ImportFrom) and node.module in (
        "scipy.misc",
        "scipy",
        "scipy.misc.pilutil",
    ):
        yield from _scipy_import(script, node)
    elif isinstance(node, ast.Attribute):
        name = script.dotted(node)
        module, _, function = name.rpartition(".")
        if module == "scipy.misc" and function in _IMAGES and name != _HELPER:
            yield Edit(node, f"scipy_misc.{function}")
            if "scipy_misc" not in script.names:
                yield from _helper_import(script)
        elif module == "scipy.misc" and function in _SPECIAL:
            yield Edit(node.value, "scipy.special")
            if not _imports(script, "scipy.special"):
                yield from _import_after(script, "scipy.misc", "import scipy.special")


def _scipy_import(script: Script, node: ast.ImportFrom) -> Iterator[Edit]:
    if node.module == "scipy":
        if len(node.names) == 1 and node.names[0].name == "misc":
            called = node.names[0].asname or "misc"
            yield Edit(node, f"from caffe_port.pycaffe import scipy_misc as {called}")
        return
    parts: dict[str, list[str]] = {}
    for alias in node.names:
        home = (
            _HELPER if alias.name in _IMAGES else "scipy.special" if alias.name in _SPECIAL else ""
        )
        as_name = f" as {alias.asname}" if alias.asname else ""
        parts.setdefault(home or str(node.module), []).append(alias.name + as_name)
    if set(parts) != {node.module}:
        lines = [f"from {module} import {', '.join(names)}" for module, names in parts.items()]
        yield Edit(node, f"\n{' ' * node.col_offset}".join(lines))


def yaml_import(script: Script, node: ast.AST) -> Iterator[Edit]:
    """`from yaml import load`, without a Loader."""
    if isinstance(node, ast.ImportFrom) and node.module == "yaml":
        for alias in node.names:
            if alias.name == "load" and not any("Loader" in a.name for a in node.names):
                new = f"safe_load as {alias.asname or 'load'}"
                yield Edit(node, re.sub(r"\bload\b( as \w+)?", new, script.text(node), count=1))


def _helper_import(script: Script) -> Iterator[Edit]:
    """Replaces `import scipy.misc`, which present SciPy lacks."""
    line = "from caffe_port.pycaffe import scipy_misc"
    for node in ast.walk(script.tree):
        if isinstance(node, ast.Import) and any(a.name == "scipy.misc" for a in node.names):
            others = [a for a in node.names if a.name != "scipy.misc"]
            kept = [f"{a.name} as {a.asname}" if a.asname else a.name for a in others]
            first = f"import {', '.join(['scipy', *kept])}"
            yield Edit(node, f"{first}\n{' ' * node.col_offset}{line}")
            return


def image_module(script: Script, node: ast.AST) -> Iterator[Edit]:
    """`import Image`, of the Python Imaging Library before Pillow."""
    if isinstance(node, ast.Import) and [a.name for a in node.names] in (["Image"], ["ImageDraw"]):
        alias = node.names[0]
        as_name = f" as {alias.asname}" if alias.asname else ""
        yield Edit(node, f"from PIL import {alias.name}{as_name}")


def abstract_imports(script: Script, node: ast.AST) -> Iterator[Edit]:
    """`from collections import Mapping`."""
    if not (isinstance(node, ast.ImportFrom) and node.module == "collections"):
        return
    groups: dict[bool, list[str]] = {}
    for alias in node.names:
        as_name = f" as {alias.asname}" if alias.asname else ""
        groups.setdefault(alias.name in _ABSTRACT, []).append(alias.name + as_name)
    if True in groups:
        modules = {True: "collections.abc", False: "collections"}
        lines = [f"from {modules[key]} import {', '.join(names)}" for key, names in groups.items()]
        yield Edit(node, f"\n{' ' * node.col_offset}".join(lines))


RULES: tuple[Rule, ...] = (
    names, calls, hdf5_values, scipy_misc, yaml_import, image_module, abstract_imports
)  # fmt: skip
