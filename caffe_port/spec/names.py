"""Unique names of layers, and the fields of a prototxt that nothing reads."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from itertools import count

from caffe_port.errors import FormatError, UnknownFieldWarning, option
from caffe_port.proto import NetText, UnknownField, caffe_pb2
from caffe_port.proto.dialects import is_harmless
from caffe_port.proto.unknown import field_names
from caffe_port.spec.ops import BUILTIN, is_known, op_class

UNNAMED = "unnamed"


def unique_names(names: Sequence[str], has_params: Sequence[bool]) -> list[str]:
    """A name for every layer, such that no two are equal.

    Caffe lets several layers have one name, or none; torch's modules need one each.

    The first layer of a name that has parameters keeps it (where none has any, the first), and the
    others get `name#2`, `name#3` and so on. A layer without a name is called `unnamed`.

        unique_names(["c", "c", "relu", "", "relu"], [False, True, False, False, False])
        # ["c#2", "c", "relu", "unnamed", "relu#2"]

    Args:
        names: as the prototxt has them, in order.
        has_params: per layer.
    """
    given = set(names)
    used: set[str] = set()
    result = [""] * len(names)
    for i in sorted(range(len(names)), key=lambda i: not has_params[i]):
        base = names[i] or UNNAMED
        candidates = (f"{base}#{k}" if k > 1 else base for k in count(1))
        # a name that another layer has in the prototxt stays free for that layer
        name = next(n for n in candidates if n not in used and (n == names[i] or n not in given))
        used.add(name)
        result[i] = name
    return result


_SHOWN = 20


def check_fields(net: NetText, *, strict: bool, stacklevel: int = 2) -> None:
    """Warns of the fields that the schema does not have, or refuses them.

    In Caffe an unknown field ends the program (io.cpp, ReadProtoFromText).

    Fields of forks that change no result, and those of layers whose type is not built in, are never
    refused here; those of forks that change a result are, when the net is built.

    Args:
        net: as read.
        strict: whether other fields are errors, as in Caffe.
        stacklevel: of the warning; 1 is this function's own line.
    Raises:
        FormatError: the text is a solver's, or ``strict`` and a field that is not known.
    """
    unknown = unread(net.message, net.unknown)
    if not unknown:
        return
    _refuse_solver(net)
    if strict and (wrong := _first_wrong(net)) is not None:
        message = wrong.described() + option("strict_text", False)
        raise FormatError(message, path=net.path, line=wrong.line, column=wrong.column)
    shown = [str(field) for field in unknown[:_SHOWN]]
    if len(unknown) > _SHOWN:
        shown.append(f"and {len(unknown) - _SHOWN} more")
    message = f"{net.path}:\n  " + "\n  ".join(shown)
    warnings.warn(message, UnknownFieldWarning, stacklevel=stacklevel)


def unread(
    message: caffe_pb2.NetParameter, unknown: Sequence[UnknownField]
) -> tuple[UnknownField, ...]:
    """Those unknown fields that no layer's op reads either; see ``Op.fields``.

    Args:
        message: the net.
        unknown: its fields that the schema does not have.
    """
    met: Counter[str] = Counter()
    read: dict[tuple[str, int], frozenset[str]] = {}
    for layer in message.layer if unknown else ():
        if layer.type not in BUILTIN and is_known(layer.type):
            read[layer.name, met[layer.name]] = op_class(layer.type).fields
        met[layer.name] += 1
    none: frozenset[str] = frozenset()
    return tuple(
        field
        for field in unknown
        if field.field.partition(".")[0] not in read.get((field.layer, field.nth), none)
    )


def _refuse_solver(net: NetText) -> None:
    known = set(field_names("SolverParameter")) - set(field_names("NetParameter"))
    found = {field.field: field.value for field in net.unknown if not field.layer}
    if net.message.layer or known.isdisjoint(found):
        return
    nets = [str(found[name]) for name in ("net", "train_net", "test_net") if name in found]
    named = f", {' or '.join(nets)}" if nets else ""
    message = f"a solver's prototxt; expected a net's: give the one it names{named}"
    raise FormatError(message, path=net.path)


def _first_wrong(net: NetText) -> UnknownField | None:
    foreign = _layers_of_other_types(net.message)
    for field in net.unknown:
        if not is_harmless(field) and (field.layer, field.nth) not in foreign:
            return field
    return None


def _layers_of_other_types(message: caffe_pb2.NetParameter) -> set[tuple[str, int]]:
    """(name, which of that name) of the layers whose type is a user's own or not known."""
    met: Counter[str] = Counter()
    found = set()
    for layer in message.layer:
        if layer.type not in BUILTIN:
            found.add((layer.name, met[layer.name]))
        met[layer.name] += 1
    return found
