"""Layers for images: (N, C, ...) with one, two or three spatial axes, or exactly (N, C, H, W)."""

from __future__ import annotations

from typing import Any

from caffe_port.pycaffe.net_spec import layers as L  # noqa: N812
from tests.any_net.draft import FILLED, Draft, Shape, block, has_axes


@block(has_axes(3, 5), "convolution")
def convolution(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    outputs, kernel = draft.upto(4, 1), draft.one(1, 3)
    dilation, stride = draft.upto(2, 1), draft.upto(2, 1)
    group = shape[1] if outputs % shape[1] == 0 and draft.flag() else 1
    options: dict[str, Any] = {
        "num_output": outputs, "kernel_size": kernel, "pad": dilation * (kernel // 2),
        "stride": stride, "group": group, "dilation": dilation, "bias_term": draft.flag(), **FILLED,
    }  # fmt: skip
    if draft.flag():
        options["param"] = [{"lr_mult": 1, "decay_mult": 0}]
    draft.add(L.Convolution(top, **options))


@block(has_axes(4, 4), "ConvolutionDepthwise", "DepthwiseConvolution")
def depthwise(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    """One filter per channel, as MobileNet's forks write it."""
    options: dict[str, Any] = {"kernel_size": 3, "pad": 1, "stride": draft.upto(2, 1), **FILLED}
    if kind == "DepthwiseConvolution":
        options |= {"group": shape[1], "num_output": shape[1] * draft.upto(2, 1)}
    draft.add(getattr(L, kind)(top, convolution_param=options))


@block(has_axes(4, 4), "shared_convolutions")
def shared_convolutions(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    """Two that share their parameters, as a multi-scale net's branches do."""
    options = {"num_output": draft.upto(3, 1), "kernel_size": 1, **FILLED}
    names = [{"name": f"{part}{len(draft.net.tops)}"} for part in ("w", "b")]
    one = L.Convolution(top, convolution_param=options, param=names)
    other = L.Convolution(L.AbsVal(top), convolution_param=options, param=names)
    draft.add(L.Eltwise(one, other, operation=2))


@block(has_axes(4, 4), "Deconvolution", "Crop")
def deconvolution(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    bilinear = {"num_output": shape[1], "group": shape[1], "kernel_size": 4, "stride": 2, "pad": 1,
                "bias_term": False, "weight_filler": {"type": "bilinear"}}  # fmt: skip
    learned = {"num_output": draft.upto(3, 1), "kernel_size": 2, "stride": 2, **FILLED}
    up = L.Deconvolution(top, convolution_param=draft.one(bilinear, learned))
    draft.add(L.Crop(up, top, axis=2, offset=draft.upto(1)) if kind == "Crop" else up)


@block(has_axes(4, 4), "AutoCrop")
def auto_crop(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    """Padded, or halved and doubled as a side output of RCF, and cut to where it came from."""
    if draft.flag():
        larger = L.Padding(top, padding_param={"pad_beg": draft.upto(2), "pad_end": draft.upto(2)})
    else:
        half = L.Pooling(top, pool=0, kernel_size=2, stride=2)
        options = {"num_output": draft.upto(3, 1), "kernel_size": 2, "stride": 2, **FILLED}
        larger = L.Deconvolution(half, convolution_param=options)
    draft.add(L.AutoCrop(larger, top))


@block(has_axes(4, 4), "padded", "halved", "global", "mask", "SPP")
def pooling(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    method = draft.one(0, 1)
    if kind == "padded":  # as DeepLab's pool4 and pool5
        draft.add(L.Pooling(top, pool=method, kernel_size=3, pad=1))
    elif kind == "halved":
        draft.add(L.Pooling(top, pool=method, kernel_size=2, stride=2, pad=draft.upto(1)))
    elif kind == "global":
        draft.add(L.Pooling(top, pool=method, global_pooling=True))
    elif kind == "SPP":
        draft.add(
            L.SPP(top, pool=method, pyramid_height=draft.upto(2 if min(shape[2:]) > 1 else 1, 1))
        )
    else:
        pooled, mask = L.Pooling(top, pool=0, kernel_size=2, stride=2, ntop=2)
        size = {"upsample_h": max(shape[2], 2), "upsample_w": max(shape[3], 2)}
        draft.add(L.Upsample(pooled, mask, **size))
        draft.add(pooled, mask)


OF_PIXELS = (
    "Interp", "LRN", "MVN", "Im2col", "BN", "Reorg", "ShuffleChannel", "SpatialProduct",
    "MaskPooling",
)  # fmt: skip


@block(has_axes(4, 4), *OF_PIXELS)
def of_pixels(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    if kind == "Interp":
        draft.add(L.Interp(top, height=draft.upto(7, 1), width=draft.upto(7, 1)))
    elif kind == "LRN":
        draft.add(L.LRN(top, local_size=3, norm_region=draft.upto(1), alpha=0.5))
    elif kind == "MVN":
        options = {"across_channels": draft.flag(), "normalize_variance": draft.flag(), "eps": 0.1}
        draft.add(L.MVN(top, **options))
    elif kind == "Im2col":
        draft.add(L.Im2col(top, convolution_param={"kernel_size": 3, "pad": 1}))
    elif kind == "BN":
        draft.add(L.BN(top, bn_mode=1))
    elif kind == "Reorg":
        stride, reverse = draft.upto(2, 1), draft.flag()
        for axis, tiles in ((1, stride**2), *([] if reverse else [(2, stride), (3, stride)])):
            top = L.Tile(top, axis=axis, tiles=tiles)  # multiples, as Reorg needs
        draft.add(L.Reorg(top, stride=stride, reverse=reverse))
    elif kind == "ShuffleChannel":
        draft.add(L.ShuffleChannel(top, group=draft.one(1, shape[1])))
    else:
        weights = L.Sigmoid(L.Convolution(top, num_output=1, kernel_size=1, **FILLED))
        draft.add(getattr(L, kind)(top, weights))


@block(has_axes(4, 4), "Padding", "ResizeBilinear", "ResizeNearestNeighbor")
def resized(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    """As DeepLab v1 pads, and as TensorFlow resizes."""
    if kind == "Padding":
        least = 0 if min(shape[2:]) < 3 else -1
        sides = (draft.upto(2), draft.upto(2)) if draft.flag() else (least, least)
        draft.add(
            L.Padding(top, padding_param=dict(zip(("pad_beg", "pad_end"), sides, strict=True)))
        )
        return
    names = ("output_height", "output_width") if draft.flag() else ("scale_height", "scale_width")
    values = draft.upto(7, 1), draft.upto(3, 1)
    options: dict[str, Any] = {**dict(zip(names, values, strict=True)), "data_format": "NCHW"}
    if draft.flag():
        options["align_corners"] = True
    elif kind == "ResizeNearestNeighbor" and draft.flag():
        options[draft.one("half_pixel_centers", "half_pixel_onnx")] = True
    block_name = f"resize_{'bilinear' if 'Bilinear' in kind else 'nearest_neighbor'}_param"
    draft.add(getattr(L, kind)(top, **{block_name: options}))


@block(has_axes(4, 4), "Unpooling")
def unpooling(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    """With the mask of a pooling layer, or spread over windows."""
    method = draft.upto(2)
    options: dict[str, Any] = {"unpool": method, "kernel_size": 2, "stride": 2}
    if method == 0 and draft.flag():
        pooled, mask = L.Pooling(top, pool=0, kernel_size=2, stride=2, ntop=2)
        options |= {"unpool_h": shape[2], "unpool_w": shape[3]}
        draft.add(L.Unpooling(pooled, mask, unpooling_param=options))
        draft.add(pooled, mask)
        return
    options |= {"unpool_h": 2 * shape[2], "unpool_w": 2 * shape[3] - draft.upto(1)}
    draft.add(L.Unpooling(top, unpooling_param=options))


@block(has_axes(4, 4), "DenseCRFLoss", "MultiStageMeanfield")
def by_image(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    """The CRFs with a backward pass, by an image of the scores' size."""
    image = draft.input(shape[0], 3, *shape[2:])
    if kind == "DenseCRFLoss":
        options = {"bi_xy_std": 3.0, "bi_rgb_std": 2.0}
        draft.add(L.DenseCRFLoss(image, L.Softmax(top), densecrf_loss_param=options), open=False)
        return
    options = {
        "num_iterations": draft.upto(3, 2), "theta_alpha": 5.0, "theta_beta": 2.0,
        "theta_gamma": 3.0, "spatial_filter_weight": 1.5, "bilateral_filter_weight": 2.0,
        "compatibility_mode": draft.upto(1),
    }  # fmt: skip
    scores = L.TanH(top)
    made = L.MultiStageMeanfield(
        scores, L.AbsVal(scores), image, multi_stage_meanfield_param=options
    )
    draft.add(made)


@block(has_axes(4, 4), "DomainTransform", "DenseCRF")
def smoothed(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    """DeepLab's domain transform and dense CRF."""
    import torch

    values = torch.tensor(shape[2:]).float().repeat(shape[0], 1).view(shape[0], 1, 1, 2)
    sizes = draft.input(shape[0], 1, 1, 2, values=values)
    if kind == "DomainTransform":
        gradient = L.Sigmoid(L.Convolution(top, num_output=1, kernel_size=1, **FILLED))
        draft.add(L.DomainTransform(top, gradient, sizes, num_iter=2, spatial_sigma=3.0))
        return
    options = {"max_iter": draft.upto(2), "pos_w": [3.0], "pos_xy_std": [3.0],
               "output_probability": draft.flag()}  # fmt: skip
    draft.add(L.DenseCRF(L.TanH(top), sizes, dense_crf_param=options), open=False)


@block(lambda shape: len(shape) == 4 and shape[1] > 1, "BiasChannel", "AdaptiveBiasChannel")
def weak_labels(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    """DeepLab's layers for image labels."""
    pixels = draft.labels(shape[0], 1, *shape[2:], below=shape[1])
    labels = L.UniqueLabel(pixels, max_labels=shape[1] + 1)
    if kind == "BiasChannel":
        options = {"bg_bias": 0.5, "fg_bias": 1.0}
        draft.add(L.BiasChannel(top, labels, bias_channel_param=options))
    else:
        draft.add(L.AdaptiveBiasChannel(top, labels, num_iter=1), open=False)
