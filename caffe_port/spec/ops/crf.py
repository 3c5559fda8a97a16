"""Options and shapes: refinement of scores along the edges of the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import (
    Op,
    ParamShape,
    Reads,
    Shape,
    Values,
    expect,
    register_op,
)
from caffe_port.spec.ops.losses import same_batch


@register_op
@dataclass(frozen=True)
class DenseCRF(Op):
    """DenseCRF as a layer (DeepLab v2; v1 differs by a constant per pixel).

    Source: DeepLab v2 densecrf_layer.cpp.

    Attributes:
        max_iter: mean field iterations.
        pos_w, pos_xy_std: weights and widths of the Gaussian kernels.
        bi_w, bi_xy_std, bi_rgb_std: weights and widths of the bilateral kernels.
        output_probability: probabilities, or their logarithm.
    """

    type = "DenseCRF"
    itemwise = True
    outside_torch = True
    option_ranges = {
        "max_iter": (0, 3),
        "pos_xy_std": (1, 20),
        "bi_xy_std": (1, 20),
        "bi_rgb_std": (1, 20),
        "pos_w": (0, 5),
        "bi_w": (0, 5),
    }
    remark = "Each item of a batch has its own colours; upstream takes the first item's."
    bottoms = (2, 3)
    fixed_bottoms = frozenset({0, 1, 2})

    max_iter: int
    pos_w: tuple[float, ...]
    pos_xy_std: tuple[float, ...]
    bi_w: tuple[float, ...]
    bi_xy_std: tuple[float, ...]
    bi_rgb_std: tuple[float, ...]
    output_probability: bool

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> DenseCRF:
        o = layer.dense_crf_param
        position, bilateral = len(o.pos_w), len(o.bi_w)
        expect(len(o.pos_xy_std) == position, f"{len(o.pos_xy_std)} pos_xy_std, {position} pos_w")
        expect(
            len(o.bi_xy_std) == bilateral == len(o.bi_rgb_std),
            f"{len(o.bi_xy_std)} bi_xy_std, {len(o.bi_rgb_std)} bi_rgb_std, {bilateral} bi_w; "
            "expected one of each per kernel",
        )
        return cls(
            o.max_iter, tuple(o.pos_w), tuple(o.pos_xy_std), tuple(o.bi_w), tuple(o.bi_xy_std),
            tuple(o.bi_rgb_std), o.output_probability,
        )  # fmt: skip

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        scores = bottoms[0]
        expect(len(scores) == 4, f"scores of shape {scores}; expected (N, C, H, W)")
        sizes = bottoms[1]
        expect(sizes == (scores[0], 1, 1, 2), f"data_dim of shape {sizes}; expected (N, 1, 1, 2)")
        if len(bottoms) == 3:
            data, wanted = bottoms[2], (scores[0], 3, *scores[2:])
            grey = "; of a grey image, repeat the channel" if data[1:2] == (1,) else ""
            expect(data == wanted, f"data of shape {data}; expected {wanted}{grey}")
        expect(
            not self.bi_w or len(bottoms) == 3, "bilateral kernels need the data as third bottom"
        )
        return [scores]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        height, width = bottoms[0][2:]
        return Values(1, min(height, width), whole=True) if index == 1 else Values()


@register_op
@dataclass(frozen=True)
class MultiStageMeanfield(Op):
    """MultiStageMeanfield of CRF-RNN: mean field iterations with learned weights.

    Bottoms: scores (N, C, H, W), the scores that the first iteration starts from, and the features
    (N, F, H, W), the net's input.

    Source: torrvision/caffe multi_stage_meanfield.cpp, LayerSetUp.

    Attributes:
        iterations: at least 2.
        theta_alpha, theta_beta: widths of the bilateral kernel, in pixels and in colour.
        theta_gamma: width of the spatial kernel in pixels.
        spatial, bilateral: the diagonals that the kernel weights start with; a last number counts
            for all further labels.
        ones: what the compatibility matrix starts with outside of its diagonal; the diagonal starts
            with 1 less.
        in_files: whether spatial.par and bilateral.par in the working directory replace the two
            diagonals, as in the first version of the fork.
    """

    type = "MultiStageMeanfield"
    bottoms = (3, 3)
    fixed_bottoms = frozenset({2})
    itemwise = True
    keeps_index = True
    keeps_places = True
    outside_torch = True
    remark = (
        "Kernel weights start with spatial_filter_weights_str, else with spatial.par in the "
        "working directory, else with spatial_filter_weight; upstream's first version stops "
        "without the file. The same holds for bilateral. Here several passes add up their diffs "
        "(iter_size); upstream keeps those of the last one."
    )

    iterations: int
    theta_alpha: float
    theta_beta: float
    theta_gamma: float
    spatial: tuple[float, ...]
    bilateral: tuple[float, ...]
    ones: float
    in_files: tuple[bool, bool]

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> MultiStageMeanfield:
        o = layer.multi_stage_meanfield_param
        expect(o.num_iterations > 1, f"num_iterations is {o.num_iterations}; expected 2 or more")
        expect(o.num_iterations <= MOST_ITERATIONS, f"num_iterations is {o.num_iterations}")
        for name in ("theta_alpha", "theta_beta", "theta_gamma"):
            value = getattr(o, name)
            expect(0 < value < math.inf, f"{name} is {value}; expected more than 0")
        expect(0 <= o.eps <= MOST_EPS, f"eps is {o.eps:g}; expected at most {MOST_EPS:g}")
        names = ("spatial_filter_weights_str", "bilateral_filter_weights_str")
        return cls(
            o.num_iterations, o.theta_alpha, o.theta_beta, o.theta_gamma,
            _diagonal(o.spatial_filter_weights_str, names[0]) or (o.spatial_filter_weight,),
            _diagonal(o.bilateral_filter_weights_str, names[1]) or (o.bilateral_filter_weight,),
            float(o.compatibility_mode == caffe_pb2.MultiStageMeanfieldParameter.POTTS_ZERO),
            (not o.HasField(names[0]), not o.HasField(names[1])),
        )  # fmt: skip

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        scores, start, features = bottoms
        expect(len(scores) == 4, f"scores of shape {scores}; expected (N, C, H, W)")
        expect(start == scores, f"start scores of shape {start}; expected {scores}")
        wanted = (scores[0], *scores[2:])
        found = (features[0], *features[2:]) if len(features) == 4 else features
        expect(found == wanted, f"features of shape {features}; expected {scores[:1]} + (F,) + "
               f"{scores[2:]}: the net's input, at the size of the scores")  # fmt: skip
        for diagonal in (self.spatial, self.bilateral):
            expect(len(diagonal) <= scores[1], f"{len(diagonal)} weights for {scores[1]} labels")
        return [scores]

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        labels = bottoms[0][1]
        names = ("spatial", "bilateral", "compatibility")
        return [ParamShape(name, (1, 1, labels, labels)) for name in names]

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return 3 * self.iterations * bottoms[0][1] * math.prod(bottoms[0])

    def sum_length(self, bottoms: Sequence[Shape]) -> int:
        return self.iterations * math.prod(bottoms[0][1:])


MOST_ITERATIONS = 1000
MOST_EPS = 1e-10  # below it the normalisation is 1 / (K 1), whose least value is far above


def _diagonal(text: str, name: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split())
    except ValueError:
        raise ValueError(f"{name} is '{text}'; expected numbers, separated by spaces") from None


@register_op
@dataclass(frozen=True)
class DenseCRFLoss(Op):
    """DenseCRFLoss of rloss: similar pixels in different classes cost.

    Source: meng-tang/rloss densecrf_loss_layer.cpp.

    Attributes:
        bi_xy_std, bi_rgb_std: widths of the bilateral kernel in pixels and in colour.
    """

    type = "DenseCRFLoss"
    bottoms = (2, 2)
    auto_top = True
    fixed_bottoms = frozenset({0})
    itemwise = True
    outside_torch = True
    option_ranges = {"bi_xy_std": (1, 20), "bi_rgb_std": (1, 20)}
    remark = "The diff is -2 K s, as upstream's, which takes the lattice K as symmetric."

    bi_xy_std: float
    bi_rgb_std: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> DenseCRFLoss:
        o = layer.densecrf_loss_param
        for name in ("bi_xy_std", "bi_rgb_std"):
            value = getattr(o, name)
            expect(0 < value < math.inf, f"{name} is {value}; expected more than 0")
        return cls(o.bi_xy_std, o.bi_rgb_std)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        image, probabilities = bottoms
        same_batch([image, probabilities])
        expect(len(probabilities) == 4, f"bottom 1 has shape {probabilities}; expected 4 axes")
        wanted = (probabilities[0], 3, *probabilities[2:])
        expect(image == wanted, f"an image of shape {image}; expected {wanted}")
        return [()]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        return Values()


@register_op
@dataclass(frozen=True)
class DomainTransform(Op):
    """DomainTransform: edge-preserving smoothing. Source: DeepLab v2 domain_transform_layer.cpp.

    Attributes:
        num_iter: iterations of four passes each.
        spatial_sigma, range_sigma: widths in pixels and in values of the reference gradient.
        min_weight: the least weight of a neighbour.
    """

    type = "DomainTransform"
    backward_bottoms = Reads.NOTHING
    itemwise = True
    outside_torch = True
    bottoms = (3, 3)
    fixed_bottoms = frozenset({2})

    num_iter: int
    spatial_sigma: float
    range_sigma: float
    min_weight: float

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> DomainTransform:
        o = layer.domain_transform_param
        expect(o.num_iter > 0, f"num_iter is {o.num_iter}; expected 1 or more")
        expect(o.spatial_sigma > 0, f"spatial_sigma is {o.spatial_sigma}; expected more than 0")
        expect(o.range_sigma > 0, f"range_sigma is {o.range_sigma}; expected more than 0")
        expect(o.min_weight >= 0, f"min_weight is {o.min_weight}; expected 0 or more")
        return cls(o.num_iter, o.spatial_sigma, o.range_sigma, o.min_weight)

    def sigma(self, iteration: int) -> float:
        """The spatial width of one iteration; their squares add up to spatial_sigma's."""
        share = math.ldexp(1, -(iteration + 1)) / math.sqrt(1 - math.ldexp(1, -2 * self.num_iter))
        return self.spatial_sigma * math.sqrt(3) * share

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        x, gradient, sizes = bottoms
        expect(len(x) == 4, f"a bottom of shape {x}; expected (N, C, H, W)")
        wanted = (x[0], 1, *x[2:])
        expect(gradient == wanted, f"a gradient of shape {gradient}; expected {wanted}")
        expect(
            len(sizes) > 1 and sizes[0] == x[0] and math.prod(sizes[1:]) >= 2,
            f"sizes of shape {sizes}; expected ({x[0]}, 1, 1, 2)",
        )
        return [x]

    def bottom_values(self, index: int, bottoms: Sequence[Shape]) -> Values:
        height, width = bottoms[0][2:]
        return Values(1, min(height, width), whole=True) if index == 2 else Values()

    def sum_length(self, bottoms: Sequence[Shape]) -> int:
        return self.num_iter * sum(bottoms[0][2:])
