"""Include and exclude rules, and layers of unknown types.

Source: BVLC/caffe net.cpp, FilterNet and StateMeetsRule.
"""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence

from caffe_port.errors import LayerError, UnsupportedLayerError, counted, option, shapes_option
from caffe_port.proto import caffe_pb2
from caffe_port.proto.printer import print_text
from caffe_port.spec.ops import is_known, known_types
from caffe_port.spec.ops.python_layer import is_allowed


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


def is_fed(layer: caffe_pb2.LayerParameter, shapes: Collection[str]) -> bool:
    """Whether a data layer's tops have given shapes, and its own code cannot be run here.

    Args:
        layer: the layer.
        shapes: the blobs that have given shapes.
    """
    can_run = is_known(layer.type) and (layer.type != "Python" or is_allowed())
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


def _similar(type: str) -> str:
    known = {name.lower(): name for name in known_types()} | _OTHER_NAMES
    found = difflib.get_close_matches(type.lower(), known, n=1, cutoff=0.9)
    return f" (did you mean {known[found[0]]}?)" if found else ""
