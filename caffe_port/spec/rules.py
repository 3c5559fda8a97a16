"""Which layers a net has in a given phase, level and set of stages.

Source: BVLC/caffe net.cpp, FilterNet and StateMeetsRule.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from caffe_port.errors import LayerError
from caffe_port.proto import caffe_pb2


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


def places(
    net: caffe_pb2.NetParameter, phase: str, level: int, stages: Iterable[str]
) -> dict[str, list[int]]:
    """Of the layers of ``net`` that share a name, which ones the state takes, from 0."""
    state = caffe_pb2.NetState(phase=phase, level=level, stage=list(stages))
    met: Counter[str] = Counter()
    found: defaultdict[str, list[int]] = defaultdict(list)
    for layer in net.layer:
        if included(state, layer):
            found[layer.name].append(met[layer.name])
        met[layer.name] += 1
    return dict(found)


def filter_layers(
    net: caffe_pb2.NetParameter, phase: str, level: int, stages: Iterable[str]
) -> list[caffe_pb2.LayerParameter]:
    """The layers of ``net`` in phase 'TRAIN' or 'TEST'."""
    state = caffe_pb2.NetState(phase=phase, level=level, stage=list(stages))
    return [layer for layer in net.layer if included(state, layer)]
