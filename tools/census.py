"""Lists the names of caffe and pydensecrf that scripts use, and which this package lacks.

    python -m tools.census FOLDER            # a table of the missing names: name, uses, places
    python -m tools.census FOLDER --all      # every name, and whether it exists

FOLDER holds scripts of Python 2 or 3 and notebooks. Names are followed through imports, and through
variables that hold a net, a blob, a solver, a transformer or a CRF that the same file made. Scripts
are read, never run.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from caffe_port.errors import CaffePortError
from caffe_port.modernizing import code_cells, hidden, is_python
from caffe_port.modernizing.python2 import is_python2, to_python3
from caffe_port.pycaffe import alias, set_logging_disabled

# a call of the first makes an object of the second, whose attributes are looked up
MAKES = {
    "caffe.Net": "caffe.Net", "caffe.Classifier": "caffe.Classifier",
    "caffe.Detector": "caffe.Detector", "caffe.io.Transformer": "caffe.io.Transformer",
    "caffe.get_solver": "caffe.SGDSolver", "caffe.NetSpec": "caffe.NetSpec",
    **{f"caffe.{kind}Solver": "caffe.SGDSolver"
       for kind in ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")},
    "pydensecrf.densecrf.DenseCRF": "pydensecrf.densecrf.DenseCRF",
    "pydensecrf.densecrf.DenseCRF2D": "pydensecrf.densecrf.DenseCRF2D",
}  # fmt: skip
ANY_NAME = ("caffe.layers.", "caffe.params.", "caffe.NetSpec().")  # made when asked for
NET = 'input: "x" input_shape { dim: 1 dim: 3 dim: 4 dim: 4 }'


@dataclass
class Census:
    """The names that scripts use.

    Attributes:
        uses: name -> places, as `file:line`.
        unread: files that are neither Python 2 nor 3.
        files: how many use either package.
    """

    uses: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    unread: list[str] = field(default_factory=list)
    files: int = 0

    def lacking(self) -> dict[str, list[str]]:
        """The missing names, the most used first."""
        found = {name: places for name, places in self.uses.items() if not exists(name)}
        return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))


def take(folder: Path) -> Census:
    """Reads every script and notebook below a folder."""
    census = Census()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".ipynb")):
        where = str(path.relative_to(folder))
        try:
            text = code_of(path)
            if "caffe" not in text and "pydensecrf" not in text:
                continue
            found = list(names_in(parsed(text, where)))
        except (CaffePortError, SyntaxError, ValueError, KeyError):
            census.unread.append(where)
            continue
        census.files += bool(found)
        for name, line in found:
            census.uses[name].append(f"{where}:{line}")
    return census


def code_of(path: Path) -> str:
    """A script's text; of a notebook its code cells, without IPython's lines."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".py":
        return text
    cells = code_cells(json.loads(text))
    sources = ["".join(cell.get("source", cell.get("input", ""))) for cell in cells]
    return "\n".join(hidden(source) for source in sources if is_python(source))


def parsed(text: str, where: str) -> ast.Module:
    """The syntax tree; a script of Python 2 is rewritten first."""
    text = text.replace("\r\n", "\n")
    return ast.parse(to_python3(text, where) if is_python2(text) else text)


def names_in(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Each full name that a script uses, with its line."""
    known: dict[str, str] = {}
    nodes = list(ast.walk(tree))
    for node in nodes:
        known.update(imported(node))
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            made = MAKES.get(dotted(node.value.func, known))
            for target in node.targets if made else ():
                known[ast.unparse(target)] = f"{made}()"
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    inner = {node.value for node in attributes}
    own = {dotted(node, known) for node in attributes if isinstance(node.ctx, ast.Store)}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and is_ours(node.module or ""):
            yield from (
                (f"{node.module}.{a.name}", node.lineno) for a in node.names if a.name != "*"
            )
        elif isinstance(node, ast.Attribute | ast.Name) and node not in inner:
            name = dotted(node, known)
            # an attribute that the script sets itself, such as net.name, is not counted
            if "." in name and not name.endswith("()") and not (name in own and "()" in name):
                yield name, node.lineno


def is_ours(module: str) -> bool:
    return module.partition(".")[0] in ("caffe", "pydensecrf")


def imported(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Local names that an import makes of either package."""
    if isinstance(node, ast.Import):
        for a in node.names:
            if is_ours(a.name):
                yield (a.asname, a.name) if a.asname else (a.name.split(".")[0],) * 2
    elif isinstance(node, ast.ImportFrom) and is_ours(node.module or "") and not node.level:
        for a in node.names:
            yield a.asname or a.name, f"{node.module}.{a.name}"


def dotted(node: ast.AST, known: dict[str, str]) -> str:
    """The full name of an expression; "" if it is neither package's."""
    if isinstance(node, ast.Name | ast.Attribute) and (name := known.get(ast.unparse(node))):
        return name
    if isinstance(node, ast.Attribute):
        base = dotted(node.value, known)
        return f"{base}.{node.attr}" if base else ""
    return ""


def exists(name: str) -> bool:
    """Whether this package has a name, such as caffe.io.load_image or caffe.Net().blobs."""
    if name.startswith(ANY_NAME):
        return True
    head, made, rest = name.partition("()")
    if not made:
        return lookup(head) is not None
    found = an_instance(head)
    for part in rest.strip(".").split("."):
        found = getattr(found, part, None)
    return found is not None


def lookup(name: str) -> Any:
    """A module, or an attribute of one; None if there is none."""
    module, parts = name, list[str]()
    while module:
        try:
            found: Any = importlib.import_module(module)
        except ImportError:
            module, _, last = module.rpartition(".")
            parts.insert(0, last)
            continue
        for part in parts:
            found = getattr(found, part, None)
        return found
    return None


@cache
def an_instance(name: str) -> Any:
    """An object of a class, with the attributes that its constructor sets."""
    import caffe_port.pycaffe as caffe
    from caffe_port.crf.pydensecrf import densecrf

    if name == "caffe.io.Transformer":
        return caffe.io.Transformer({"x": (1, 3, 2, 2)})
    if name.startswith("pydensecrf."):
        return getattr(densecrf, name.rpartition(".")[2])(*((2, 2, 2) if "2D" in name else (4, 2)))
    with tempfile.TemporaryDirectory() as folder:
        net, solver, weights = (Path(folder, name) for name in ("net", "solver", "weights"))
        net.write_text(NET)
        solver.write_text(
            f'net: "{net}" base_lr: 1 lr_policy: "fixed" snapshot_prefix: "{folder}/s"'
        )
        if name == "caffe.SGDSolver":
            return caffe.SGDSolver(str(solver))
        made = caffe.Net(str(net), caffe.TEST)
        if name == "caffe.Net":
            return made
        made.save(str(weights))
        return lookup(name)(str(net), str(weights))


def main() -> int:
    """Prints the table; returns 1 if names are missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="of scripts and notebooks")
    parser.add_argument("--all", action="store_true", help="every name, with whether it is there")
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"{options.folder}: no such folder")
    alias.install()
    alias.install_pydensecrf()
    set_logging_disabled()  # a solver is made, whose attributes are looked up
    census = take(options.folder)
    lacking = census.lacking()
    shown = dict(sorted(census.uses.items())) if options.all else lacking
    for name, places in shown.items():
        mark = ("  lacking" if name in lacking else "  there  ") if options.all else ""
        print(f"{len(places):5}{mark}  {name}  {', '.join(places[:3])}{' ...' * (len(places) > 3)}")
    uses = sum(map(len, census.uses.values()))
    missing = sum(map(len, lacking.values()))
    print(
        f"{census.files} files use {len(census.uses)} names {uses} times; "
        f"{len(lacking)} names are lacking, used {missing} times"
    )
    for where in census.unread:
        print(f"not read: {where}", file=sys.stderr)
    return 1 if lacking else 0


if __name__ == "__main__":
    sys.exit(main())
