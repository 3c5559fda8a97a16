"""Modules: DenseCRF and DomainTransform, which refine scores along the edges of the image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from caffe_port.errors import LayerError, UsageError
from caffe_port.files import read_text
from caffe_port.layers._registry import Layer, named, register_layer
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops import crf as ops

if TYPE_CHECKING:
    from caffe_port import crf


@register_layer("DenseCRF")
class DenseCRF(Layer):
    """Has no backward, as in DeepLab. Source: DeepLab v2 densecrf_layer.cpp."""

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        from caffe_port.crf import CRFParameters
        from caffe_port.crf.refinement import dense_crf_forward

        op = self.spec.options(ops.DenseCRF)
        arrays = [b.detach().float().cpu().numpy() for b in bottoms]
        data = arrays[2] if len(arrays) == 3 else None
        try:
            parameters = CRFParameters(
                op.pos_w, op.pos_xy_std, op.bi_w, op.bi_xy_std, op.bi_rgb_std, op.max_iter
            )
            q = dense_crf_forward(arrays[0], arrays[1], data, parameters, op.output_probability)
        except UsageError as error:
            raise LayerError(self.spec.name, self.spec.type, str(error)) from error
        return (torch.from_numpy(q).to(bottoms[0]),)


@register_layer("MultiStageMeanfield")
class MultiStageMeanfield(Layer):
    """Bottoms: scores U, start scores s_0, features. Repeated for t = 1 .. iterations:

        q = softmax(s_(t-1));  s_t = U - compatibility (spatial n_s (K_s q) + bilateral n_b (K_b q))

    K are Gaussian kernels on the permutohedral lattice, n = 1 / (K 1 + 1e-20) of each pixel. The
    top is not normalised. The diff of K q goes through K with its blurs in reverse order.

    Source: torrvision/caffe meanfield_iteration.cpp, modified_permutohedral.cpp; Zheng et al.,
        Conditional Random Fields as Recurrent Neural Networks, 2015.
    """

    fills_itself = True

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        op, labels = spec.options(ops.MultiStageMeanfield), spec.bottom_shapes[0][1]
        with torch.no_grad():
            for i, name in enumerate(("spatial", "bilateral")):
                found = _of_file(spec, f"{name}.par", labels) if op.in_files[i] else None
                values = found or (op.spatial, op.bilateral)[i]
                full = [*values, *values[-1:] * (labels - len(values))]
                self.param(name).copy_(torch.diag(torch.tensor(full)))
            self.param("compatibility").copy_(op.ones - torch.eye(labels))

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        scores, start, features = bottoms
        items = zip(scores, start, features.detach(), strict=True)
        with named(self.spec):
            refined = [self._refined(*item) for item in items]
        return (torch.stack(refined) if refined else scores.clone(),)

    def _refined(self, unary: Tensor, scores: Tensor, features: Tensor) -> Tensor:
        from caffe_port.crf.differentiable import lattice_filter

        op, labels = self.spec.options(ops.MultiStageMeanfield), len(unary)
        compatibility = self.param("compatibility").reshape(labels, labels)
        weights = [self.param(n).reshape(labels, labels) for n in ("spatial", "bilateral")]
        try:
            kernels = _kernels(op, labels, features)
            filters = [lattice_filter(kernels, k) for k in range(2)]
            for _ in range(op.iterations):
                q = scores.softmax(0)
                passed = [
                    torch.tensordot(weight, apply(q), 1)
                    for weight, apply in zip(weights, filters, strict=True)
                ]
                scores = unary - torch.tensordot(compatibility, passed[0] + passed[1], 1)
        except UsageError as error:
            raise ValueError(str(error)) from error
        return scores


def _of_file(spec: LayerSpec, path: str, labels: int) -> tuple[float, ...] | None:
    """The first numbers of a file in the working directory; None where there is none."""
    try:
        values = tuple(float(word) for word in read_text(path).split()[:labels])
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise LayerError(spec.name, spec.type, f"'{path}' in this folder: {error}") from error
    if len(values) < labels:
        message = f"'{path}' in this folder holds {len(values)} numbers; expected {labels}"
        raise LayerError(spec.name, spec.type, message)
    return values


def _kernels(op: ops.MultiStageMeanfield, labels: int, features: Tensor) -> crf.DenseCRF:
    """The spatial and the bilateral kernel of one item, in the original's order of sums."""
    from caffe_port.crf import DenseCRF

    channels, height, width = features.shape
    image = features.float().cpu().numpy().transpose(1, 2, 0)
    made = DenseCRF(height, width, labels, exact=True).add_gaussian(op.theta_gamma, weight=1)
    if channels == 3:
        return made.add_bilateral(op.theta_alpha, op.theta_beta, image, weight=1)
    y, x = np.mgrid[:height, :width].astype(np.float32) / np.float32(op.theta_alpha)
    colours = image / np.float32(op.theta_beta)
    return made.add_features(np.dstack([x, y, colours]).astype(np.float32), weight=1)


class _Similarity(torch.autograd.Function):
    """sum of s K s with upstream's diff, 2 K s: K is taken as symmetric."""

    @staticmethod
    def forward(ctx: Any, masked: Tensor, filtered: Tensor) -> Tensor:
        ctx.save_for_backward(filtered)
        return (masked * filtered).sum()

    @staticmethod
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor | None, ...]:
        (filtered,) = ctx.saved_tensors
        return 2 * diffs[0] * filtered, None


@register_layer("DenseCRFLoss")
class DenseCRFLoss(Layer):
    """Bottoms: image (less the mean) and probabilities s. Minus the sum over classes of s K s, / N.

    K is the bilateral kernel on the lattice, not normalised. Pixels whose three colours are all 0
    after their fractions are cut off, as in padding, do not count.

    Source: meng-tang/rloss densecrf_loss_layer.cpp; Tang et al., On Regularized Losses for
        Weakly-supervised CNN Segmentation, 2018.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        images, probabilities = bottoms[0].detach(), bottoms[1]
        with named(self.spec):
            costs = [self._cost(*item) for item in zip(images, probabilities, strict=True)]
        total = torch.stack(costs).sum() if costs else probabilities.sum()
        return (total / max(len(images), 1),)

    def _cost(self, image: Tensor, probabilities: Tensor) -> Tensor:
        from caffe_port.crf import DenseCRF

        op = self.spec.options(ops.DenseCRFLoss)
        labels, height, width = probabilities.shape
        masked = probabilities * (image.trunc() != 0).any(0)
        colours = image.float().cpu().numpy().transpose(1, 2, 0)
        try:
            kernel = DenseCRF(height, width, labels, normalization="none", exact=True)
            kernel.add_bilateral(op.bi_xy_std, op.bi_rgb_std, colours, weight=1)
            filtered = kernel.filtered(masked.detach().float().cpu().numpy(), 0)
        except UsageError as error:
            raise ValueError(str(error)) from error
        similar = torch.from_numpy(filtered).to(probabilities)
        cost: Tensor = _Similarity.apply(masked, similar)  # type: ignore[no-untyped-call]
        return -cost


class _Weight(torch.autograd.Function):
    """exp(a (1 + b gradient)) within [least, 1]; DeepLab's diff ignores the limits."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, a: float, b: float, least: float) -> Tensor:
        weight = (a * (1 + gradient * b)).exp().clamp(min=least).clamp(max=1)
        ctx.save_for_backward(weight)
        ctx.slope = a * b
        return weight

    @staticmethod
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        return ctx.slope * weight * diffs[0], None, None, None


def _sweep(x: Tensor, weight: Tensor, axis: int) -> Tensor:
    """Filters along an axis in both directions; each value is mixed with its neighbour's."""
    lines, weights = list(x.unbind(axis)), weight.unbind(axis)
    for i in range(1, len(lines)):
        lines[i] = lines[i] + weights[i] * (lines[i - 1] - lines[i])
    for i in range(len(lines) - 2, -1, -1):
        lines[i] = lines[i] + weights[i + 1] * (lines[i + 1] - lines[i])
    return torch.stack(lines, axis)


def domain_transform(x: Tensor, gradient: Tensor, op: ops.DomainTransform) -> Tensor:
    """Recursive filter whose neighbours weigh less where the reference gradient is large.

    Args:
        x: (C, H, W).
        gradient: (H, W), the reference gradient, 0 or more.
        op: options.
    Returns:
        (C, H, W).
    Source: DeepLab v2 domain_transform_layer.cpp; Gastal and Oliveira, Domain Transform for
        Edge-Aware Image and Video Processing, 2011; Chen et al., Semantic Image Segmentation with
        Task-Specific Edge Detection Using CNNs and a Discriminatively Trained Domain Transform,
        2016.
    """
    if x.numel() == 0:
        return x
    for iteration in range(op.num_iter):
        a = -math.sqrt(2) / op.sigma(iteration)
        weight: Tensor = _Weight.apply(  # type: ignore[no-untyped-call]
            gradient, a, op.spatial_sigma / op.range_sigma, op.min_weight
        )
        x = _sweep(x, weight[None].expand_as(x), 2)
        x = _sweep(x, weight[None].expand_as(x), 1)
    return x


@register_layer("DomainTransform")
class DomainTransform(Layer):
    """Bottoms: x (N, C, H, W), reference gradient (N, 1, H, W), real (height, width) of each item.

    Values outside of the real area are unchanged.
    """

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(ops.DomainTransform)
        x, gradient, sizes = bottoms
        items = []
        for item, reference, size in zip(x, gradient, sizes.detach().flatten(1), strict=True):
            height, width = int(size[0]), int(size[1])
            with named(self.spec):
                if not (0 <= height <= item.shape[1] and 0 <= width <= item.shape[2]):
                    raise ValueError(
                        f"size {height} x {width}; expected at most {tuple(item.shape[1:])}"
                    )
            inside = domain_transform(item[:, :height, :width], reference[0, :height, :width], op)
            right = torch.cat([inside, item[:, :height, width:]], 2)
            items.append(torch.cat([right, item[:, height:]], 1))
        return (torch.stack(items) if items else x.clone(),)
