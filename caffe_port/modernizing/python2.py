"""Rewrites Python 2 as Python 3: by fissix, the successor of 2to3, and rules for the rest."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any

from caffe_port.errors import FormatError, UsageError
from caffe_port.modernizing.edits import Edit, Rule, Script

_TABS = re.compile(r"^[ \t]+", re.M)  # Python 3 does not allow tabs and spaces mixed
_NAMES = frozenset({"basestring", "execfile", "raw_input", "reduce", "unicode", "xrange"})
_METHODS = frozenset({"has_key", "iteritems", "iterkeys", "itervalues"})
_MODULES = frozenset({
    "ConfigParser", "HTMLParser", "Queue", "StringIO", "Tkinter", "cPickle", "cStringIO", "urllib2",
    "urlparse",
})  # fmt: skip
_OF_IMAGES = frozenset({"imread", "imsave", "load_image", "open", "save", "savefig"})
_FUTURE = frozenset({"absolute_import", "division", "print_function", "unicode_literals"})
# Divisions depend on __future__. "sorted", which 2to3 lacks, turns np.sort(x) into
# np.sort(key=cmp_to_key(x)). "import" runs separately, after the others. The rest is style.
_LEFT_OUT = frozenset({"future", "idioms", "import", "set_literal", "sorted", "ws_comma"})


def is_python2(text: str) -> bool:
    """Whether a script was written for Python 2: it does not parse as 3, or has names of 2."""
    tree = _parsed(text)
    if tree is None:
        return True
    nodes = list(ast.walk(tree))
    guarded = {n for t in nodes if isinstance(t, ast.Try) for s in t.body for n in ast.walk(s)}
    defined = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            defined.update(alias.asname or alias.name for alias in node.names)
            if node.module == "__future__" and _FUTURE & {alias.name for alias in node.names}:
                return True
    return any(_is_old(node, defined) for node in nodes if node not in guarded)


def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError):
        return None


def _is_old(node: ast.AST, defined: set[str]) -> bool:
    if isinstance(node, ast.Name):
        return node.id in _NAMES - defined
    if _prints_into(node):
        return True
    if isinstance(node, ast.Attribute):
        return node.attr in _METHODS
    if isinstance(node, ast.Import):
        return bool(_MODULES & {alias.name for alias in node.names})
    return isinstance(node, ast.ImportFrom) and node.module in _MODULES


def _prints_into(node: ast.AST) -> bool:
    """`print >>file, x`, which Python 3 parses as a shift."""
    shifts = isinstance(node, ast.BinOp) and isinstance(node.op, ast.RShift)
    return shifts and _is_name(node.left, "print")  # type: ignore[attr-defined]


def to_python3(text: str, name: str) -> str:
    """Applies all fixers of fissix.

    Raises:
        UsageError: fissix is not installed.
        FormatError: the text is not Python 2.
    """
    tree = _parsed(text)
    # in text that parses as Python 3, print is a function
    function = tree is not None and not any(map(_prints_into, ast.walk(tree)))
    newline = "" if text.endswith("\n") else "\n"
    try:
        made = _tool(function, imports=False).refactor_string(text + newline, name)
    except ModuleNotFoundError as error:
        message = f"{name} is Python 2; rewriting it needs the package fissix: pip install fissix"
        raise UsageError(message) from error
    except Exception as error:  # the errors of its parser have no common base
        _tool.cache_clear()
        where = getattr(error, "context", error.args)  # (words, (line, column))
        line = where[1][0] if len(where) > 1 else None
        message = f"neither Python 2 nor 3: {error.args[0]}"
        raise FormatError(message, path=name, line=line) from error
    new = str(made)
    if _parsed(new) is None:
        new = _TABS.sub(lambda m: m[0].expandtabs(8), new)
    if _parsed(new) is not None:
        relative = _tool(True, imports=True).refactor_string(new, name)
        new = _with_local_imports(new, str(relative))
    return new.removesuffix(newline) if newline else new


@cache
def _tool(print_function: bool, *, imports: bool) -> Any:
    """fissix's tool with its fixer of imports, or with all others; building it takes long.

    Raises:
        ModuleNotFoundError: fissix is not installed.
    """
    refactor = import_module("fissix.refactor")
    fixers = refactor.get_fixers_from_package("fissix.fixes")
    chosen = [fixer for fixer in fixers if fixer.rpartition("fix_")[2] not in _LEFT_OUT]
    if imports:
        chosen = ["fissix.fixes.fix_import"]
    return refactor.RefactoringTool(chosen, {"print_function": print_function})


_RUN = re.compile(r"\A#!|^if\s+\(?\s*__name__\s*==", re.M)  # a file that is run


def _with_local_imports(text: str, relative: str) -> str:
    """Makes imports from the script's own folder relative, if that is a package.

    Python 2 found these modules in the package and in a script. A file that is also run gets both
    forms, because a relative import fails in a script.

    Args:
        text: the script before fissix's fixer "import".
        relative: the same after it: the same lines, with relative imports.
    """
    old, new = text.splitlines(keepends=True), relative.splitlines(keepends=True)
    nodes = list(ast.walk(ast.parse(text)))
    tests = [n for n in nodes if isinstance(n, ast.If) and _is_name(n.test, "__package__")]
    done = {id(statement) for test in tests for statement in test.orelse}
    imports = [n for n in nodes if isinstance(n, ast.Import | ast.ImportFrom) and id(n) not in done]
    for node in sorted(imports, key=lambda n: -n.lineno):
        lines = slice(node.lineno - 1, node.end_lineno)
        was, now = old[lines], new[lines]
        indent = was[0][: node.col_offset]
        if was == now or _parsed("".join(now).strip()) is None:
            continue
        if _RUN.search(text) and not indent.strip():
            now = [f"{indent}if __package__:\n", *(f"    {line}" for line in now),
                   f"{indent}else:\n", *(f"    {line}" for line in was)]  # fmt: skip
        old[lines] = now
    return "".join(old)


_WHOLE = {"range", "numpy.zeros", "numpy.ones", "numpy.empty", "numpy.arange"}


def whole_division(script: Script, node: ast.AST) -> Iterator[Edit]:
    """`a / b` in an index, in range() or of two integers, which was an integer in Python 2."""
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)):
        return
    if _divides_truly(script.source.decode()):
        return
    literal = all(
        isinstance(e, ast.Constant) and type(e.value) is int for e in (node.left, node.right)
    )
    if literal or _is_used_whole(script, node):
        start, end = script.span(node)
        left, right = script.span(node.left)[1], script.span(node.right)[0]
        operator = script.source[left:right].replace(b"/", b"//", 1)  # with brackets around it
        yield Edit(node, (script.source[start:left] + operator + script.source[right:end]).decode())


def _is_used_whole(script: Script, node: ast.AST) -> bool:
    """Whether only an integer is possible: in an index, or an argument such as range's."""
    child, parent = node, script.parents.get(node)
    while parent is not None:
        if isinstance(parent, ast.Subscript):
            return child is parent.slice
        if isinstance(parent, ast.Call):
            name = script.dotted(parent.func) or getattr(parent.func, "id", "")
            return name in _WHOLE and child in parent.args
        if not isinstance(parent, ast.BinOp | ast.UnaryOp | ast.Slice | ast.Tuple | ast.List):
            return False
        child, parent = parent, script.parents.get(parent)
    return False


def _divides_truly(text: str) -> bool:
    return bool(re.search(r"from __future__ import .*\bdivision\b", text))


def division_notes(text: str) -> Iterator[str]:
    """The divisions of possible integers, which Python 2 rounded down."""
    if _divides_truly(text):
        return
    for node in ast.walk(ast.parse(text)):
        divides = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
        if divides and not any(map(_is_fraction, ast.walk(node))):
            what, line = ast.unparse(node), getattr(node, "lineno", 0)
            yield f"line {line}: `{what}` was // in Python 2 if both are whole"


def _is_fraction(node: ast.AST) -> bool:
    """A number such as 2.0, or a call of float()."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, float)
    return isinstance(node, ast.Call) and _is_name(node.func, "float")


def pickles(script: Script, node: ast.AST) -> Iterator[Edit]:
    """Reads pickles of Python 2 as latin1, from files opened in binary mode."""
    if not isinstance(node, ast.Call):
        return
    name = script.dotted(node.func)
    if name in ("pickle.load", "pickle.loads") and len(node.args) == 1 and not node.keywords:
        yield Edit(node, script.with_argument(node, "encoding='latin1'"))
    if name in ("pickle.load", "pickle.dump"):
        file = (
            node.args[name == "pickle.dump"] if len(node.args) > (name == "pickle.dump") else None
        )
        opened = _opening(script, file)
        if opened is not None:
            yield from _for_bytes(script, opened)


def _opening(script: Script, file: ast.expr | None) -> ast.Call | None:
    """The call of open() that made a file: the expression, or the one assigned to its name."""
    candidates = [file]
    if isinstance(file, ast.Name):
        for other in ast.walk(script.tree):
            if isinstance(other, ast.withitem) and _is_name(other.optional_vars, file.id):
                candidates.append(other.context_expr)
            elif isinstance(other, ast.Assign) and _is_name(other.targets[0], file.id):
                candidates.append(other.value)
    calls = [c for c in candidates if isinstance(c, ast.Call) and _is_name(c.func, "open")]
    return calls[-1] if len(calls) == 1 else None


def _is_name(node: ast.AST | None, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _for_bytes(script: Script, call: ast.Call) -> Iterator[Edit]:
    if len(call.args) == 1 and not call.keywords:
        yield Edit(call, script.with_argument(call, "'rb'"))
    elif len(call.args) == 2:
        mode = call.args[1]
        if isinstance(mode, ast.Constant) and isinstance(mode.value, str) and "b" not in mode.value:
            yield Edit(mode, repr(mode.value + "b"))


def byte_buffers(script: Script, node: ast.AST) -> Iterator[Edit]:
    """A StringIO with an image, which had bytes in Python 2."""
    if not (isinstance(node, ast.Call) and script.dotted(node.func) == "io.StringIO"):
        return
    if not _holds_an_image(script, node):
        return
    name = script.text(node.func)
    yield Edit(node.func, f"{name.removesuffix('StringIO')}BytesIO")
    if isinstance(node.func, ast.Name) and "BytesIO" not in script.names:
        for other in ast.walk(script.tree):
            if isinstance(other, ast.ImportFrom) and other.module == "io":
                yield Edit(other, f"{script.text(other)}, BytesIO")


def _holds_an_image(script: Script, buffer: ast.Call) -> bool:
    """Whether a function for images takes the buffer, directly or by its name."""
    parent = script.parents[buffer]
    name = parent.targets[0] if isinstance(parent, ast.Assign) else buffer
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in _OF_IMAGES
        and node.args
        and (node.args[0] is name or ast.dump(node.args[0]) == ast.dump(_loaded(name)))
        for node in ast.walk(script.tree)
    )


def _loaded(node: ast.expr) -> ast.expr:
    return ast.Name(node.id, ast.Load()) if isinstance(node, ast.Name) else node


PYTHON2_RULES: tuple[Rule, ...] = (whole_division, pickles, byte_buffers)
