"""What the tests of exporting share: recorded cases as nets, and inputs for them."""

from __future__ import annotations

import importlib.util
import re

import torch

from caffe_port import load
from tests.goldens_dir import cases, dialect_of
from tests.layers.helpers import net_of

#: Types without a rule; what only trains or scores is left out, so nothing remains of such a case.
NOT_EXPORTED = {
    "AdaptiveBiasChannel", "DetectionEvaluate", "Proposal", "ROIPooling", "UniqueLabel",
}  # fmt: skip
# what is recorded before these two losses or behind a DomainTransform stays
ONLY_TRAINS = re.compile(r'type: "((?!Multinomial|MultiBox)\w*Loss|\w*Accuracy)"')
LAYERS = cases("layers")
NETS = cases("nets")


def case_net(folder):
    weights = folder / "net.caffemodel"
    return load(
        folder / "net.prototxt", weights if weights.is_file() else None, phase="TEST",
        dialect=dialect_of(folder), strict=False,
    )  # fmt: skip


def exportable(folder):
    text = (folder / "net.prototxt").read_text()
    types = set(re.findall(r'type: "(\w+)"', text))
    return not (
        types & NOT_EXPORTED
        or (
            folder.parent.name == "layers"
            and ONLY_TRAINS.search(text)
            and "DomainTransform" not in types
        )
        or folder.name == "bvlc_bn_train_batchstats"
    )


def feed(net, inputs, seed=0):
    """Random inputs; positive ones where a logarithm or a power reads them, indices for indices."""
    generator = torch.Generator().manual_seed(seed)
    positive = any(layer.type in ("Log", "Power") for layer in net.spec.layers)
    found = {}
    for blob in inputs:
        data = torch.randn(net.spec.shapes[blob], generator=generator)
        found[blob] = data.abs() + 0.1 if positive else data
    for layer in net.spec.layers:
        for blob, end in whole_bottoms(layer):
            if blob in found:
                found[blob] = torch.randint(end, found[blob].shape, generator=generator).float()
    return found


def whole_bottoms(layer):
    """Bottoms of whole numbers, and below which number they are."""
    if layer.type in ("LSTM", "RNN"):
        yield layer.bottoms[1], 2
    elif layer.type in ("LSTMUnit", "Filter"):
        yield layer.bottoms[-1], 2
    elif layer.type == "BiasChannel":
        yield layer.bottoms[1], layer.bottom_shapes[0][1]
    elif layer.type == "DomainTransform":
        yield layer.bottoms[2], min(layer.bottom_shapes[0][2:]) + 1
    elif layer.type == "Embed":
        yield layer.bottoms[0], layer.op.input_dim
    elif layer.type == "BatchReindex":
        yield layer.bottoms[1], layer.bottom_shapes[0][0]


def imported(path):
    """The one class of an emitted file that is named in its docstring."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    name = re.search(r"net = (\w+)\(\)", module.__doc__)[1]
    return getattr(module, name)()


_LISTED = 'type: "UniqueLabel" bottom: "b0" unique_label_param { max_labels: 2 } }'


def without_rules(count):
    """A net of layers of a type without a rule, `some0`, `some1`, .."""
    text = "".join(f'layer {{ name: "some{i}" top: "y{i}" {_LISTED}' for i in range(count))
    return net_of(text, (1, 1, 2, 2))


#: layers and options that no recording has: (type and options, shapes of the bottoms)
SNIPPETS = {
    "dropout_scaled_in_test": (
        '"Dropout" dropout_param { dropout_ratio: 0.3 scale_train: false }', (2, 3, 4),
    ),
    "normalize": ('"Normalize" norm_param { scale_filler { value: 3 } }', (2, 3, 4, 5)),
    "normalize_pixels": (
        '"Normalize" norm_param { across_spatial: false channel_shared: false }', (2, 3, 4, 5),
    ),
    "permute": ('"Permute" permute_param { order: 0 order: 2 order: 3 order: 1 }', (2, 3, 4, 5)),
    "permute_batch": ('"Permute" permute_param { order: 1 }', (2, 3, 4)),
    "reorg": ('"Reorg" reorg_param { stride: 2 }', (2, 8, 4, 6)),
    "reorg_reversed": ('"Reorg" reorg_param { stride: 2 reverse: true }', (2, 8, 3, 5)),
    "shuffle": ('"ShuffleChannel" shuffle_channel_param { group: 2 }', (2, 6, 3, 3)),
    "scale_bias_second": (
        '"Scale" scale_param { axis: 0 bias_term: true bias_filler { value: 2 } }', (2, 3, 4), (2,),
    ),
    "scale_scalar": ('"Scale" scale_param { num_axes: 0 filler { value: 2 } }', (2, 3, 4)),
    "bias_all": ('"Bias" bias_param { num_axes: -1 filler { type: "gaussian" } }', (2, 3, 4)),
    "inner_product_axis0": (
        '"InnerProduct" inner_product_param { num_output: 3 axis: 0 '
        'weight_filler { type: "gaussian" } }', (4, 5),
    ),
    "inner_product_last": (
        '"InnerProduct" inner_product_param { num_output: 3 axis: -1 '
        'weight_filler { type: "gaussian" } }', (2, 4, 5),
    ),
    "conv_axis0": (
        '"Convolution" convolution_param { num_output: 2 kernel_size: 3 axis: 0 '
        'weight_filler { type: "gaussian" } }', (3, 6, 5),
    ),
    "conv_two": (
        '"Convolution" convolution_param { num_output: 2 kernel_size: 3 '
        'weight_filler { type: "gaussian" } }', (1, 3, 6, 5), (1, 3, 6, 5),
    ),
    "deconv_1d_groups": (
        '"Deconvolution" convolution_param { num_output: 4 kernel_size: 4 stride: 3 pad: 1 '
        'dilation: 2 group: 2 weight_filler { type: "gaussian" } }', (2, 6, 7),
    ),
    "nvcaffes_batch_norm": (
        '"BatchNorm" batch_norm_param { scale_bias: true eps: 0.1 bias_filler { value: 2 } }',
        (2, 3, 4, 5),
    ),
    "bn_untrained": ('"BatchNorm" batch_norm_param { eps: 0.1 }', (2, 3, 4)),
    "flatten_none": ('"Flatten" flatten_param { axis: 2 end_axis: 1 }', (2, 3, 4)),
    "reshape_inner": (
        '"Reshape" reshape_param { shape { dim: 2 dim: -1 } axis: 1 num_axes: 1 }', (2, 6, 4),
    ),
    "clip_crossed": ('"Clip" clip_param { min: 0.5 max: -0.5 }', (2, 3)),
    "interp_both": ('"Interp" interp_param { height: 9 width: 4 zoom_factor: 2 '
                    'shrink_factor: 3 }', (1, 2, 7, 7)),
    "interp_crop": ('"Interp" interp_param { shrink_factor: 2 pad_beg: -1 pad_end: -2 }',
                    (1, 2, 8, 9)),
    "reduction_mean": ('"Reduction" reduction_param { operation: MEAN axis: 1 coeff: 0.3 }',
                       (2, 3, 4)),
    "argmax_both": ('"ArgMax" argmax_param { top_k: 2 out_max_val: true }', (2, 3, 4)),
    "argmax_single": ('"ArgMax" argmax_param { axis: 1 }', (2, 3, 1)),
    "softmax_last": ('"Softmax" softmax_param { axis: -1 }', (2, 3, 4)),
    "eltwise_three": ('"Eltwise" eltwise_param { operation: MAX }', (2, 3), (2, 3), (2, 3)),
    "mvn": ('"MVN" mvn_param { across_channels: true }', (2, 3, 4, 5)),
    "lstm_static": (
        '"LSTM" recurrent_param { num_output: 3 weight_filler { type: "uniform" min: -1 max: 1 } '
        'bias_filler { type: "uniform" } }', (5, 2, 4, 1), (5, 2), (2, 6),
    ),
    "lstm_exposed": (
        '"LSTM" top: "h" top: "c" recurrent_param { num_output: 3 expose_hidden: true '
        'weight_filler { type: "uniform" min: -1 max: 1 } }', (4, 2, 4), (4, 2), (1, 2, 3),
        (1, 2, 3),
    ),
    "rnn_exposed_static": (
        '"RNN" top: "h" recurrent_param { num_output: 3 expose_hidden: true '
        'weight_filler { type: "uniform" min: -1 max: 1 } bias_filler { type: "uniform" } }',
        (1, 2, 4), (1, 2), (2, 2, 3), (1, 2, 3),
    ),
    "lstm_unit": ('"LSTMUnit" top: "h"', (1, 2, 3), (1, 2, 12), (1, 2)),
    "filter_two": ('"Filter" top: "z"', (5, 2), (5, 2, 3), (5,)),
    "bias_pixel": (
        '"BiasChannel" bias_channel_param { label_type: PIXEL fg_bias: 0.5 ignore_label: 1 }',
        (2, 3, 4, 5), (2, 1, 4, 5),
    ),
    "bias_pixel_background": (
        '"BiasChannel" bias_channel_param { label_type: PIXEL fg_bias: 0.5 bg_bias: 0.25 '
        'background_label: 2 ignore_label: 0 }', (2, 3, 4, 5), (2, 1, 4, 5),
    ),
    "bias_image": (
        '"BiasChannel" bias_channel_param { fg_bias: 0.5 bg_bias: 0.25 ignore_label: 2 }',
        (2, 4, 4, 5), (2, 6, 1, 1),
    ),
    "domain_transform": (
        '"DomainTransform" domain_transform_param { num_iter: 2 spatial_sigma: 5 range_sigma: 1 '
        'min_weight: 0.01 }', (2, 3, 6, 7), (2, 1, 6, 7), (2, 2, 1, 1),
    ),
    "prelu": ('"PReLU"', (2, 3, 4)),
    "exp": ('"Exp" exp_param { base: 3 scale: 0.3 shift: 0.2 }', (2, 3)),
    "power_half": ('"Power" power_param { power: 0.6 scale: 0.3 shift: 0.1 }', (5, 7)),
    "bn": (
        '"BN" bn_param { bn_mode: INFERENCE scale_filler { value: 2 } shift_filler { value: 1 } }',
        (2, 3, 4, 5),
    ),
    "bn_learns": ('"BN" bn_param { scale_filler { value: 2 } }', (2, 3, 4, 5)),
    "spp_average": ('"SPP" spp_param { pyramid_height: 3 pool: AVE }', (2, 3, 7, 9)),
    "spp_one_level": ('"SPP" spp_param { pyramid_height: 1 }', (2, 3, 7, 9)),
    "embed_without_bias": (
        '"Embed" embed_param { num_output: 3 input_dim: 5 bias_term: false '
        'weight_filler { type: "gaussian" } }', (4, 2),
    ),
    "im2col_1d": (
        '"Im2col" convolution_param { kernel_size: 3 stride: 2 pad: 1 dilation: 2 }', (2, 3, 9),
    ),
    "im2col_larger": (
        '"Im2col" convolution_param { kernel_size: 3 dilation: 2 stride: 3 pad: 1 axis: 0 }',
        (3, 2, 7),
    ),
    "conv_larger": (
        '"Convolution" convolution_param { num_output: 4 kernel_size: 4 dilation: 3 stride: 3 '
        'group: 2 pad: 1 axis: 2 weight_filler { type: "gaussian" } }', (2, 3, 4, 9, 6),
    ),
    "ave_outside": (
        '"Pooling" pooling_param { pool: AVE kernel_size: 1 stride: 3 }', (2, 3, 5, 8),
    ),
    "argmax_one_axis": ('"ArgMax"', (4,)),
    "im2col_axis0": ('"Im2col" convolution_param { kernel_size: 2 axis: 0 }', (3, 6, 5)),
    "depthwise": (
        '"DepthwiseConvolution" convolution_param { num_output: 6 group: 3 kernel_size: 3 pad: 1 '
        'weight_filler { type: "gaussian" } }', (2, 3, 6, 5),
    ),
    "depthwise_by_channels": (
        '"ConvolutionDepthwise" convolution_param { kernel_size: 3 stride: 2 '
        'weight_filler { type: "gaussian" } }', (2, 3, 7, 5),
    ),
    "relu6": ('"ReLU6"', (2, 3, 4)),
    "axpy": ('"Axpy"', (2, 3), (2, 3, 4, 5), (2, 3, 4, 5)),
    "axpy_planes": ('"Axpy"', (2, 3, 1, 1), (2, 3, 4, 5), (2, 3, 4, 5)),
    "spatial_dropout": ('"SpatialDropout"', (2, 3, 4, 5)),
    "bn_running": (
        '"BN" bn_param { eps: 0.1 slope_filler { value: 2 } bias_filler { value: 1 } }',
        (2, 3, 4, 5),
    ),
    "padding": ('"Padding" padding_param { pad_beg: 1 pad_end: 2 }', (2, 3, 4, 5)),
    "padding_cuts": ('"Padding" padding_param { pad_beg: -1 }', (2, 3, 4, 5)),
    "upsample_repeats": ('"Upsample" upsample_param { scale_h: 2 scale_w: 3 }', (2, 3, 4, 5)),
    "interp_like": ('"Interp"', (1, 2, 4, 5), (1, 1, 9, 7)),
    "resize_bilinear": (
        '"ResizeBilinear" resize_bilinear_param { output_height: 7 output_width: 9 '
        'data_format: "NCHW" }', (2, 3, 4, 5),
    ),
    "resize_bilinear_last": (
        '"ResizeBilinear" resize_bilinear_param { output_height: 7 output_width: 3 '
        'align_corners: true }', (2, 4, 5, 3),
    ),
    "resize_nearest": (
        '"ResizeNearestNeighbor" resize_nearest_neighbor_param { output_height: 7 '
        'output_width: 9 half_pixel_onnx: true data_format: "NCHW" }', (2, 3, 4, 5),
    ),
    "lrn_odd": ('"LRN" lrn_param { local_size: 3 alpha: 0.7 beta: 0.6 k: 1.3 }', (1, 5, 3, 3)),
}  # fmt: skip


def snippet_net(name):
    options, *shapes = SNIPPETS[name]
    bottoms = "".join(f' bottom: "b{i}"' for i in range(len(shapes)))
    tops = ' top: "y" top: "z"' if name == "conv_two" else ' top: "y"'
    torch.manual_seed(7)
    return net_of(f'layer {{ name: "op"{bottoms}{tops} type: {options} }}', *shapes)
