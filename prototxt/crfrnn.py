"""CRF-RNN of Zheng and others: FCN-8s whose scores are refined by mean-field iterations."""

from __future__ import annotations

import fcn
from writing import Fields, Word, layer, rates

_LABELS = 21
_FIXED = {"lr_mult": 0}


def image() -> Fields:
    """The image, mean subtracted, BGR, padded to 500 x 500."""
    return layer("input", "Input", [], "data", input_param={"shape": {"dim": [1, 3, 500, 500]}})


def _score(name: str, bottom: str, top: str) -> Fields:
    options = {"num_output": _LABELS, "kernel_size": 1}
    return layer(
        name, "Convolution", [bottom], top, param=rates(), convolution_param=options
    )  # fmt: skip


def _enlarged(
    name: str, bottom: str, top: str, stride: int, param: object, **more: object
) -> Fields:
    options = {"num_output": _LABELS, **more, "kernel_size": 2 * stride, "stride": stride}
    return layer(name, "Deconvolution", [bottom], top, param=param, convolution_param=options)


def _fused(pool: int, scores: str, offset: int, top: str) -> list[Fields]:
    score = f"score-pool{pool}"
    return [
        _score(score, f"pool{pool}", score),
        layer("crop", "Crop", [score, scores], f"{score}c",
              crop_param={"axis": 2, "offset": offset}),
        layer("fuse", "Eltwise", [scores, f"{score}c"], top,
              eltwise_param={"operation": Word("SUM")}),
    ]  # fmt: skip


def mean_field() -> list[Fields]:
    """Ten iterations, with a learned matrix of compatibilities and a weight of each kernel."""
    options: Fields = {
        "num_iterations": 10, "compatibility_mode": Word("POTTS"), "threshold": 2,
        "theta_alpha": 160, "theta_beta": 3, "theta_gamma": 3,
        "spatial_filter_weight": 3, "bilateral_filter_weight": 5,
    }  # fmt: skip
    weights = [{"lr_mult": rate} for rate in (10000, 10000, 1000)]
    return [
        layer("splitting", "Split", ["coarse"], "unary", "Q0"),
        layer("inference1", "MultiStageMeanfield", ["unary", "Q0", "data"], "pred",
              param=weights, multi_stage_meanfield_param=options),
    ]  # fmt: skip


def network() -> list[Fields]:
    """From the blob `data` to `pred`, the scores after the last iteration."""
    learned = {"lr_mult": 1, "decay_mult": 1}
    return [
        *fcn.vgg16()[:-1],
        _score("score-fr", "fc7", "score"),
        _enlarged("score2", "score", "score2", 2, rates()),
        *_fused(4, "score2", 5, "score-fused"),
        _enlarged("score4", "score-fused", "score4", 2, learned, bias_term=False),
        *_fused(3, "score4", 9, "score-final"),
        _enlarged("upsample", "score-final", "bigscore", 8, _FIXED, bias_term=False),
        layer("crop", "Crop", ["bigscore", "data"], "coarse",
              crop_param={"axis": 2, "offset": 31}),
        *mean_field(),
    ]  # fmt: skip
