"""Include and exclude rules, layers of unknown types, unique names, fields that nothing reads."""

from __future__ import annotations

import difflib
import warnings
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from itertools import count

from caffe_port.errors import (
    FormatError,
    LayerError,
    UnknownFieldWarning,
    UnsupportedLayerError,
    counted,
    option,
    shapes_option,
)
from caffe_port.proto import NetText, UnknownField, caffe_pb2
from caffe_port.proto.dialects import field_names, is_harmless
from caffe_port.proto.printer import print_text
from caffe_port.spec.ops import BUILTIN, is_known, known_types, op_class
from caffe_port.spec.ops.python_layer import is_allowed

# Include and exclude rules, and layers of unknown types.
#
# Source: BVLC/caffe net.cpp, FilterNet and StateMeetsRule.


def meets(state: caffe_pb2.NetState, rule: caffe_pb2.NetStateRule) -> bool:
    """Whether a state satisfies one rule: phase, level range, all stages, none of not_stage."""
    if rule.HasField("phase") and rule.phase != state.phase:
        return False
    if rule.HasField("min_level") and state.level < rule.min_level:
        return False
    if rule.HasField("max_level") and state.level > rule.max_level:
        return False
    stages = set(state.stage)
    return stages.issuperset(rule.stage) and stages.isdisjoint(rule.not_stage)


def included(state: caffe_pb2.NetState, layer: caffe_pb2.LayerParameter) -> bool:
    """Whether a layer is part of the net in this state.

    Raises:
        LayerError: both include and exclude rules.
    """
    if layer.include and layer.exclude:
        message = "both include and exclude rules; keep one kind"
        raise LayerError(layer.name, layer.type, message)
    if layer.include:
        return any(meets(state, rule) for rule in layer.include)
    return not any(meets(state, rule) for rule in layer.exclude)


def left_out(state: caffe_pb2.NetState, layer: caffe_pb2.LayerParameter) -> str:
    """A layer's rules and the options that include it, for a message.

    Args:
        state: one that does not include the layer.
        layer: the layer.
    Returns:
        Such as "include { phase: TRAIN }: give --phase TRAIN".
    """
    kind, rules = ("include", layer.include) if layer.include else ("exclude", layer.exclude)
    shown = " ".join(f"{kind} {{ {_rule(rule)} }}" for rule in rules)
    if layer.include:
        options = _options(state, layer.include[0])
    else:
        by_phase = all(rule.HasField("phase") for rule in layer.exclude if meets(state, rule))
        other = "TRAIN" if state.phase == caffe_pb2.TEST else "TEST"
        options = [option("phase", other)] if by_phase else []
    options = [] if "" in options else options
    return shown + (f": give {' '.join(options)}" if options else "")


def _rule(rule: caffe_pb2.NetStateRule) -> str:
    return " ".join(print_text(rule).split())


def _options(state: caffe_pb2.NetState, rule: caffe_pb2.NetStateRule) -> list[str]:
    """The options that meet an include rule; none where options cannot."""
    if not set(state.stage).isdisjoint(rule.not_stage):
        return []
    wanted = []
    if rule.HasField("phase") and rule.phase != state.phase:
        wanted.append(option("phase", caffe_pb2.Phase.Name(rule.phase)))
    if rule.HasField("min_level") and state.level < rule.min_level:
        wanted.append(option("level", rule.min_level))
    if rule.HasField("max_level") and state.level > rule.max_level:
        wanted.append(option("level", rule.max_level))
    stages = [name for name in rule.stage if name not in state.stage]
    return [*wanted, option("stages", stages)] if stages else wanted


def places(net: caffe_pb2.NetParameter, state: caffe_pb2.NetState) -> dict[str, list[int]]:
    """The included ones of the layers that share a name, counted from 0 for each name."""
    met: Counter[str] = Counter()
    found: defaultdict[str, list[int]] = defaultdict(list)
    for layer in net.layer:
        if included(state, layer):
            found[layer.name].append(met[layer.name])
        met[layer.name] += 1
    return dict(found)


def filter_layers(
    net: caffe_pb2.NetParameter, state: caffe_pb2.NetState
) -> list[caffe_pb2.LayerParameter]:
    """The layers of ``net`` in a state."""
    return [layer for layer in net.layer if included(state, layer)]


_OTHER_NAMES = {"softmaxloss": "SoftmaxWithLoss"}


def makes_data(layer: caffe_pb2.LayerParameter) -> bool:
    """Whether a layer has tops and no bottoms."""
    return bool(layer.top) and not layer.bottom


def is_fed(
    layer: caffe_pb2.LayerParameter, shapes: Collection[str], own_options: bool = False
) -> bool:
    """Whether a data layer's tops have given shapes, and its own code cannot be run here.

    Args:
        layer: the layer.
        shapes: the blobs that have given shapes.
        own_options: it has options of a fork that are not implemented here.
    """
    can_run = is_known(layer.type) and (layer.type != "Python" or is_allowed()) and not own_options
    return makes_data(layer) and not can_run and all(top in shapes for top in layer.top)


def refuse_unknown(layers: Sequence[caffe_pb2.LayerParameter], shapes: Collection[str]) -> None:
    """Refuses a net with layers of unknown types, all of them at once.

    Args:
        layers: of the net.
        shapes: the blobs that have given shapes.
    Raises:
        UnsupportedLayerError: of the first such layer; its message counts the others.
    """
    unknown = [la for la in layers if not is_known(la.type) and not is_fed(la, shapes)]
    if not unknown:
        return
    first, types = unknown[0], [layer.type for layer in unknown]
    message = "this type is not known" + _similar(first.type)
    if first.type in YOLO_OUTPUTS:
        message += ": " + YOLO_DIFFERS
    if len(types) > 1:
        message += f". Types of this net that are not known: {counted(types)}"
    message += (
        ". caffe_port.register_op and caffe_port.register_layer add a type of your fork "
        f"(docs/own_layer.md): {option('imports', 'FILE.py')}; docs/LAYERS.md lists the known ones"
    )
    lacking = [top for la in unknown if makes_data(la) for top in la.top if top not in shapes]
    if lacking and (needed := shapes_option(lacking)):
        message += f". A layer without bottoms makes data, and needs shapes only: {needed}"
    raise UnsupportedLayerError(first.name, first.type, message)


# Output and loss layers of YOLO's forks.
YOLO_OUTPUTS = frozenset({
    "EvalDetection", "RegionLoss", "RegionOutput", "YoloDetectionOutput", "Yolov3",
    "Yolov3DetectionOutput",
})  # fmt: skip
YOLO_DIFFERS = (
    "YOLO's forks compute other results from the same text in layers of this name "
    "(docs/detection.md). Leave it out: its bottoms are then the net's outputs"
)


def _similar(type: str) -> str:
    known = {name.lower(): name for name in known_types()} | _OTHER_NAMES
    found = difflib.get_close_matches(type.lower(), known, n=1, cutoff=0.9)
    return f" (did you mean {known[found[0]]}?)" if found else ""


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
