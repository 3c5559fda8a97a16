"""Layers that take blobs of any number of axes: neurons, arithmetic, and the shape's own."""

from __future__ import annotations

from typing import Any

from caffe_port.pycaffe.net_spec import layers as L  # noqa: N812
from tests.any_net.draft import FILLED, Draft, Shape, block, has_axes

NEURONS: dict[str, dict[str, Any]] = {
    "ReLU": {}, "ReLU6": {}, "Sigmoid": {}, "TanH": {}, "AbsVal": {}, "BNLL": {}, "Swish": {},
    "ELU": {"alpha": 0.5}, "Exp": {"scale": 0.1}, "Clip": {"min": -1.0, "max": 1.5},
    "Power": {"power": 2.0, "scale": 0.5, "shift": 0.1}, "Dropout": {"dropout_ratio": 0.3},
    "Threshold": {"threshold": 0.1},
}  # fmt: skip
IN_PLACE = ("ReLU", "ReLU6", "Sigmoid", "TanH", "ELU", "Dropout", "Clip")


@block(has_axes(0), *NEURONS)
def neuron(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    """In place or not."""
    options = dict(NEURONS[kind])
    if kind == "ReLU" and draft.flag():
        options["negative_slope"] = 0.25
    if kind in ("Exp", "Power"):  # which grow beyond float32 when they follow one another
        top = L.TanH(top)
        draft.add(getattr(L, kind)(top, **options))
        return
    in_place = kind in IN_PLACE and draft.unread(top) and draft.flag()
    draft.add(getattr(L, kind)(top, in_place=in_place, **options))


@block(has_axes(1), "logarithm")
def logarithm(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    draft.add(L.Log(L.Sigmoid(top), base=draft.one(-1.0, 2.0, 10.0), shift=0.5))


@block(has_axes(1), "sum", "max", "product", "concat", "split", "silence")
def fan_out(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    """A blob read twice, which Caffe splits, and brought together again."""
    other = L.Power(top, scale=draft.one(0.5, -1.0), shift=0.25)
    if kind == "concat":
        draft.add(L.Concat(top, other, axis=draft.upto(len(shape) - 1)))
    elif kind == "split":
        draft.add(*L.Split(top, ntop=2))
    elif kind == "silence":
        draft.add(L.Silence(L.TanH(top), other, ntop=0))
    else:
        options = {"sum": {"coeff": [1.0, 0.5]}, "max": {"operation": 2},
                   "product": {"operation": 0}}  # fmt: skip
        draft.add(L.Eltwise(top, other, **options[kind]))


@block(
    has_axes(1),
    "Flatten",
    "Reshape",
    "Permute",
    "Tile",
    "Reduction",
    "Softmax",
    "Parameter",
    "DummyData",
)
def reshaping(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    axis = draft.upto(len(shape) - 1)
    if kind == "Flatten":
        draft.add(L.Flatten(top, axis=axis, end_axis=draft.one(-1, len(shape) - 1)))
    elif kind == "Reshape":
        draft.add(L.Reshape(top, shape={"dim": [0, -1]} if len(shape) > 1 else {"dim": [1, -1]}))
    elif kind == "Permute":
        order = draft.one(list(range(len(shape)))[::-1], [axis])
        draft.add(L.Permute(top, order=order))
    elif kind == "Tile":
        draft.add(L.Tile(top, axis=axis, tiles=draft.upto(3, 1)))
    elif kind == "Reduction":
        operation = draft.upto(4, 1)
        draft.add(L.Reduction(top, axis=axis, operation=operation, coeff=0.5))
    elif kind == "Softmax":
        draft.add(L.Softmax(top, axis=axis))
    else:
        dims = {"shape": {"dim": list(shape)}}
        filled = {**dims, "data_filler": {"type": "constant", "value": 0.5}}
        other = L.DummyData(**filled) if kind == "DummyData" else L.Parameter(**dims)
        draft.add(L.Eltwise(top, other))


@block(lambda shape: any(size > 1 for size in shape), "slices")
def slices(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    axis = draft.one(*(i for i, size in enumerate(shape) if size > 1))
    points = [draft.upto(shape[axis] - 1, 1)]
    draft.add(*L.Slice(top, axis=axis, slice_point=points, ntop=2))


@block(has_axes(2), "inner_product")
def inner_product(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    """At times the same weights twice, by name."""
    axis, outputs = draft.upto(len(shape) - 1, 1), draft.upto(4, 1)
    options = {"num_output": outputs, "axis": axis, "transpose": draft.flag(), **FILLED}
    if draft.flag():
        options["param"] = [{"name": f"w{len(draft.net.tops)}", "lr_mult": 0.5},
                            {"name": f"c{len(draft.net.tops)}"}]  # fmt: skip
        draft.add(L.InnerProduct(L.TanH(top), **options))
    draft.add(L.InnerProduct(top, **options))


@block(has_axes(2), "PReLU", "BatchNorm", "Scale", "Bias", "by a blob")
def affine(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    """Normalised, scaled, shifted: by parameters or by another blob."""
    filler = {"type": "uniform", "min": 0.5, "max": 1.5}
    if kind == "PReLU":
        draft.add(L.PReLU(top, channel_shared=draft.flag(), filler=filler))
    elif kind == "BatchNorm":
        normalised = L.BatchNorm(top, use_global_stats=draft.one(True, True, False), eps=1e-2)
        draft.add(L.Scale(normalised, in_place=draft.flag(), bias_term=True, filler=filler))
    elif kind == "by a blob":
        draft.add(draft.one(L.Scale, L.Bias)(top, L.Sigmoid(top), axis=0))
    else:
        axes = {"axis": draft.upto(len(shape) - 1), "num_axes": 1}
        draft.add(getattr(L, kind)(top, filler=filler, **axes))


@block(has_axes(2), "SpatialDropout", "Axpy")
def of_channels(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    """Each channel of an item dropped, or scaled as in SENet."""
    if kind == "SpatialDropout":
        block_name = draft.one("dropout_param", "spatial_dropout_param")
        draft.add(L.SpatialDropout(top, **{block_name: {"dropout_ratio": 0.3}}))
        return
    axes = draft.one(2, len(shape))
    gates = draft.input(*shape[:2], *[1] * (axes - 2))
    draft.add(L.Axpy(L.Sigmoid(gates), top, L.TanH(top)))


@block(has_axes(1), "BatchReindex", "Filter")
def by_item(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    """Items picked by index or by a selector."""
    if kind == "BatchReindex":
        draft.add(L.BatchReindex(top, draft.labels(draft.upto(4, 1), below=shape[0])))
    else:
        draft.add(L.Filter(top, draft.labels(shape[0], below=2)), open=False)


@block(has_axes(2, 4), "normalize")
def normalize(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    options = {"across_spatial": draft.flag(), "channel_shared": draft.flag(), "eps": 0.01}
    draft.add(L.Normalize(top, norm_param=options))


@block(has_axes(1), "arg_max")
def arg_max(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    draft.add(L.ArgMax(top, axis=draft.upto(len(shape) - 1), out_max_val=draft.flag()), open=False)
