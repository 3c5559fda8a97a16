"""The classes of an emitted module: the net's, and one per kind of block."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from caffe_port.errors import LayerError
from caffe_port.export.graph import Graph
from caffe_port.export.module_code import identifiers, plain, statement, string, tuple_of
from caffe_port.export.module_program import (
    Blocks,
    Body,
    Call,
    Kind,
    Line,
    Program,
    Scope,
    comment,
    docstring,
    signature,
)
from caffe_port.spec.ops import Shape

#: state dict key -> (layer, index of the parameter) and the shape it has in the module
Keys = dict[str, tuple[str, int, Shape]]


class BlockClass:
    """One kind of block as a class.

    Args:
        name: of the class.
        kind: its blocks.
        reserved: names that an attribute cannot have.
    Attributes:
        attributes: of each line that has a submodule, by the line's number.
        members: names of the blocks, such as `res2b`.
        arguments: of the constructor, and their values in each block.
    """

    def __init__(self, name: str, kind: Kind, reserved: Iterable[str]) -> None:
        self.name, self.kind = name, kind
        self._rows = [body.lines for body in kind]
        self._first = self._rows[0]
        self._built = [i for i, line in enumerate(self._first) if line.construct]
        self._names = {i: _Names([lines[i].name for lines in self._rows]) for i in self._built}
        stems = distinct(self._names[i].common or "layer" for i in self._built)
        found = identifiers(stems, "layer", reserved)
        self.attributes = {i: found[stem] for i, stem in zip(self._built, stems, strict=True)}
        self.members = self._names[self._built[0]].without_end
        self.arguments: dict[str, tuple[str, ...]] = {}
        self._fields = [self._field(i) for i in self._built]

    def _field(self, line: int) -> str:
        """A statement of ``__init__``: integers that differ between blocks become arguments."""
        first, *pieces = self._first[line].parts[0].split("#")
        columns = zip(*(lines[line].parts[1] for lines in self._rows), strict=True)
        text = f"self.{self.attributes[line]} = {first}"
        for column, piece in zip(columns, pieces, strict=True):
            same = len(set(column)) == 1
            text += (column[0] if same else self._argument(text, column)) + piece
        return text

    def _argument(self, before: str, column: tuple[str, ...]) -> str:
        keyword = re.search(r"(\w+)=$", before)
        base = keyword[1] if keyword else "channels"
        if base == "padding":  # in a block whose size stays it equals the dilation
            base = "dilation"
        names = [base, *(f"{base}_{i}" for i in range(2, len(self.arguments) + 3))]
        name = next(name for name in names if self.arguments.get(name, column) == column)
        self.arguments[name] = column
        return name

    def made(self, member: int) -> str:
        """The expression that makes a block."""
        values = (values[member] for values in self.arguments.values())
        return f"{self.name}({', '.join(values)})"

    def note(self, member: int) -> str:
        """What a block's layers have in the place of the asterisk, for a comment."""
        return plain(self._names[self._built[0]].middles[member])

    def keys(self, member: int) -> Iterator[tuple[str, tuple[str, int, Shape]]]:
        """The state dict's keys of a block, less the block's own name."""
        for line, attribute in self.attributes.items():
            for key, param in param_keys(self._rows[member][line]):
                yield f"{attribute}.{key}", param

    def text(self, blobs: Mapping[str, str], reserved: set[str]) -> str:
        """The class's source."""
        arguments = "".join(f", {name}: int" for name in self.arguments)
        tags = list(dict.fromkeys(self.note(i) for i in range(len(self.kind))))
        shown = tags if len(tags) < 8 else [*tags[:3], "...", tags[-1]]
        lines = [f"class {self.name}(nn.Module):"]
        lines += docstring(f"{len(self.kind)} blocks of layers; * is {', '.join(shown)}.", 4)
        lines += ["", *signature(f"def __init__(self{arguments}) -> None:")]
        lines.append("        super().__init__()")
        star = self._names[self._built[0]].middles
        for line, text in zip(self._built, self._fields, strict=True):
            lines += comment(f"layers {self._names[line].described(star)}", 8)
            lines += statement(text, 8)
        names = {id(self._first[i]): name for i, name in self.attributes.items()}
        scope = Scope(blobs, reserved, lambda line: names.get(id(line), ""), {})
        return "\n".join([*lines, "", *scope.function("forward", self.kind[0])])


class _Names:
    """What the names of one layer in several blocks have in common: a start and an end."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        start = shared_start(names)
        rests = [name[len(start) :][::-1] for name in names]
        end = shared_start(rests)[::-1]
        cut = re.search(r"[^0-9A-Za-z]|$", end)  # what differs is a whole word
        end = end[cut.start() :] if cut else ""
        self._start, self._end = start, end
        self.middles = [name[len(start) : len(name) - len(end)] for name in names]

    @property
    def common(self) -> str:
        """The names without what differs."""
        ends = (self._start.rstrip("_-./"), self._end.lstrip("_-./"))
        return "_".join(part for part in ends if part)

    @property
    def without_end(self) -> list[str]:
        """The names without the common end."""
        return [(self._start + middle).rstrip("_-./") or "block" for middle in self.middles]

    def described(self, star: list[str]) -> str:
        """The names, for a comment; short where an asterisk stands for the same everywhere."""
        if self.middles == star:
            return f"{plain(self._start)}*{plain(self._end)}"
        return ", ".join(plain(name) for name in self._names)


def shared_start(names: Sequence[str]) -> str:
    """The longest common start that does not end within a number."""
    same = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*names, strict=False))
    start = "".join(column[0] for column in same)
    while start[-1:].isdigit() and any(name[len(start) :][:1].isdigit() for name in names):
        start = start[:-1]
    return start


def distinct(names: Iterable[str]) -> list[str]:
    """The names; one that is there already gets a number."""
    found: list[str] = []
    for name in names:
        text, count = name, 1
        while text in found:
            count += 1
            text = f"{name}_{count}"
        found.append(text)
    return found


def param_keys(line: Line) -> Iterator[tuple[str, tuple[str, int, Shape]]]:
    """Of each parameter of a line its name and what it is."""
    for i, (param, shape) in enumerate(zip(line.node.layer.params, line.shapes, strict=True)):
        yield param.name, (line.name, i, shape)


class NetClass:
    """The class of the net.

    Args:
        graph: what is written.
        program: its functions.
        name: of the class.
        reserved: names that an attribute cannot have.
        helpers: names of functions and classes that the file may contain.
    Attributes:
        fields: statements of ``__init__``.
        keys: of the state dict.
    Raises:
        LayerError: layers share a parameter under different shapes.
    """

    def __init__(
        self, graph: Graph, program: Program, name: str, reserved: set[str], helpers: set[str]
    ) -> None:
        self._graph, self._program, self._name, self._helpers = graph, program, name, helpers
        self.fields: list[str] = []
        self.keys: Keys = {}
        self._notes: list[str] = []
        self._first: dict[object, str] = {}  # what holds these parameters
        classes = [f"Block{i or ''}" for i in (0, *range(2, len(program.kinds) + 1))]
        classes = [f"{text}_" if text == name else text for text in classes]
        pairs = zip(classes, program.kinds, strict=False)
        self._classes = [BlockClass(text, kind, reserved) for text, kind in pairs]
        self._attributes, self._methods = self._name_all(reserved)
        self._add_all(program.forward, set())

    def _name_all(self, reserved: set[str]) -> tuple[dict[int, str], dict[int, str]]:
        """The attributes of lines and blocks, by id, and the methods."""
        steps = [step for body in self._program.bodies for step in body.steps]
        lines = [step for step in steps if isinstance(step, Line) and step.construct]
        blocks = [step for step in steps if isinstance(step, Blocks)]
        names = [line.name for line in lines]
        wanted = [
            *names,
            *map(self._block_name, blocks),
            *("branch" for _ in self._program.methods),
        ]
        texts = distinct(wanted)
        found = identifiers(texts, "layer", reserved)
        self._renamed = {name: found[name] for name in names if found[name] != name}
        attributes = [found[text] for text in texts]
        self_names = zip([*lines, *blocks], attributes, strict=False)
        methods = attributes[len(lines) + len(blocks) :]
        return {id(step): name for step, name in self_names}, dict(enumerate(methods))

    def _block_name(self, blocks: Blocks) -> str:
        members = [self._classes[blocks.kind].members[i] for i in blocks.members]
        return shared_start(members).rstrip("_-./") or "blocks" if members[1:] else members[0]

    def _add_all(self, body: Body, done: set[int]) -> None:
        """Adds the fields of a function and of those it calls, in the order of the layers."""
        for step in body.steps:
            if isinstance(step, Call):
                if step.method not in done:
                    done.add(step.method)
                    self._add_all(self._program.methods[step.method], done)
            elif isinstance(step, Blocks):
                self._add_blocks(step)
            elif step.construct:
                self._add_line(step)

    def _add_line(self, line: Line) -> None:
        whole = line.module
        if line.params and whole in self._first:  # another layer's submodule does the same
            self._attributes[id(line)] = self._first[whole]
            self._renamed[line.name] = self._first[whole]
            return
        attribute = self._first[whole] = self._attributes[id(line)]
        self.fields.append(f"self.{attribute} = {line.construct}")
        for (name, value), param in zip(param_keys(line), line.params, strict=True):
            key = f"{attribute}.{name}"
            self.keys[key] = value
            first = self._first.setdefault(param, key)
            if first != key:
                self._check_shape(line, key, first)
                self.fields.append(f"self.{key} = self.{first}")

    def _check_shape(self, line: Line, key: str, first: str) -> None:
        shapes = self.keys[key][2], self.keys[first][2]
        if shapes[0] != shapes[1]:
            raise LayerError(
                line.name, line.node.layer.type,
                f"cannot be written as a PyTorch module: its {key.rpartition('.')[2]} of shape "
                f"{shapes[0]} is '{first}' of shape {shapes[1]}; only equal shapes can be shared",
            )  # fmt: skip

    def _add_blocks(self, blocks: Blocks) -> None:
        made, attribute = self._classes[blocks.kind], self._attributes[id(blocks)]
        values = [made.made(i) for i in blocks.members]
        notes = ", ".join(made.note(i) for i in blocks.members)
        self._notes.append(f"self.{attribute}: {notes}")
        if len(values) == 1:
            self.fields.append(f"self.{attribute} = {values[0]}")
        elif len(set(values)) == 1:
            many = f"*({values[0]} for _ in range({len(values)}))"
            self.fields.append(f"self.{attribute} = nn.Sequential({many})")
        else:
            self.fields.append(f"self.{attribute} = nn.Sequential({', '.join(values)})")
        for i, member in enumerate(blocks.members):
            place = f"{attribute}.{i}" if len(values) > 1 else attribute
            self.keys |= {f"{place}.{key}": param for key, param in made.keys(member)}

    def text(self) -> str:
        """The source of the classes."""
        parts = [made.text(self._graph.blobs, self._helpers) for made in self._classes]
        lines = [f"class {self._name}(nn.Module):", *_shapes_doc(self._graph), ""]
        lines += self._comments()
        if self.fields:
            lines += ["    def __init__(self) -> None:", "        super().__init__()"]
            lines += [line for text in self.fields for line in statement(text, 8)]
            lines.append("")
        scope = Scope(
            self._graph.blobs, self._helpers, lambda step: self._attributes.get(id(step), ""),
            self._methods,
        )  # fmt: skip
        for number, body in enumerate(self._program.methods):
            lines += [*scope.function(self._methods[number], body, self._method_doc(number)), ""]
        outputs = self._graph.outputs if len(self._graph.outputs) > 1 else None
        lines += scope.function("forward", self._program.forward, outputs=outputs)
        return "\n\n\n".join([*parts, "\n".join(lines)])

    def _comments(self) -> list[str]:
        lines = []
        if self._renamed:
            lines.append("    # layers whose attribute has another name:")
            lines += [f"    #   {string(old)} is self.{new}" for old, new in self._renamed.items()]
            lines.append("")
        if self._notes:
            lines.append("    # blocks, and the * of their layers' names:")
            lines += [line for note in self._notes for line in comment(f"  {note}", 4)]
            lines.append("")
        return lines

    def _method_doc(self, number: int) -> str:
        calls = sum(
            isinstance(step, Call) and step.method == number for step in self._program.forward.steps
        )
        return f"Called {calls} times, for layers that share their parameters."


def _shapes_doc(graph: Graph) -> list[str]:
    lines = [
        '    """Shapes for the prototxt\'s input; other sizes work where the layers allow.',
        "",
    ]
    for title, values in (("Inputs", graph.inputs), ("Outputs", graph.outputs.items())):
        lines.append(f"    {title}:")
        for entry in values:
            blob, value = entry if isinstance(entry, tuple) else (entry, entry)
            lines.append(f"        {plain(blob)}: {tuple_of(graph.shapes[value])}")
    return [*lines, '    """']
