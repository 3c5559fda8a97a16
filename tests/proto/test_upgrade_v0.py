"""V0 layers: what Caffe's tool made of them, its unit tests' facts, and what it refuses."""

from __future__ import annotations

import re

import pytest
from google.protobuf import text_format

from caffe_port.errors import FormatError, UnknownFieldWarning
from caffe_port.proto import caffe_pb2, parse_net, read_net, read_net_text
from tests.goldens_dir import GOLDENS

HEAD = 'input: "data" input_dim: 1 input_dim: 3 input_dim: 9 input_dim: 9 '


def v0(fields: str, bottom: str = "data", top: str = "out") -> str:
    return f'layers {{ layer {{ name: "x" {fields} }} bottom: "{bottom}" top: "{top}" }} '


def upgraded(text: str) -> list[caffe_pb2.LayerParameter]:
    return list(parse_net(HEAD + text).message.layer)[1:]


def test_equals_what_caffe_wrote() -> None:
    folder = GOLDENS / "io"
    wanted = caffe_pb2.NetParameter()
    text_format.Parse((folder / "v0_net.upgraded.prototxt").read_text(), wanted)
    assert read_net(folder / "v0_net.prototxt") == wanted
    assert read_net_text(folder / "v0_net.prototxt").generation == "V0"


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ('type: "conv" num_output: 2 kernelsize: 3 stride: 2 group: 1 biasterm: false pad: 4',
         'type: "Convolution" convolution_param { num_output: 2 kernel_size: 3 stride: 2 group: 1'
         " bias_term: false pad: 4 }"),
        ('type: "innerproduct" num_output: 2 bias_filler { value: 3 } weight_filler { std: 2 }',
         'type: "InnerProduct" inner_product_param { num_output: 2 bias_filler { value: 3 }'
         " weight_filler { std: 2 } }"),
        ('type: "pool" pool: STOCHASTIC kernelsize: 3 stride: 2 pad: 1',
         'type: "Pooling" pooling_param { pool: STOCHASTIC kernel_size: 3 stride: 2 pad: 1 }'),
        ('type: "lrn" local_size: 3 alpha: 2 beta: 0.5 k: 4',
         'type: "LRN" lrn_param { local_size: 3 alpha: 2 beta: 0.5 k: 4 }'),
        ('type: "dropout" dropout_ratio: 0.2',
         'type: "Dropout" dropout_param { dropout_ratio: 0.2 }'),
        ('type: "concat" concat_dim: 2', 'type: "Concat" concat_param { concat_dim: 2 }'),
        ('type: "data" source: "s" batchsize: 4 rand_skip: 2 scale: 0.5 meanfile: "m" cropsize: 7'
         " mirror: true",
         'type: "Data" data_param { source: "s" batch_size: 4 rand_skip: 2 } transform_param {'
         ' scale: 0.5 mean_file: "m" crop_size: 7 mirror: true }'),
        ('type: "images" source: "s" batchsize: 4 shuffle_images: true new_height: 5 new_width: 6',
         'type: "ImageData" image_data_param { source: "s" batch_size: 4 shuffle: true'
         " new_height: 5 new_width: 6 }"),
        ('type: "window_data" source: "s" batchsize: 4 det_fg_threshold: 0.25'
         ' det_bg_threshold: 0.5 det_fg_fraction: 0.75 det_context_pad: 2 det_crop_mode: "square"',
         'type: "WindowData" window_data_param { source: "s" batch_size: 4 fg_threshold: 0.25'
         ' bg_threshold: 0.5 fg_fraction: 0.75 context_pad: 2 crop_mode: "square" }'),
        ('type: "hdf5_data" source: "s" batchsize: 4',
         'type: "HDF5Data" hdf5_data_param { source: "s" batch_size: 4 }'),
        ('type: "hdf5_output" hdf5_output_param { file_name: "f" }',
         'type: "HDF5Output" hdf5_output_param { file_name: "f" }'),
        ('type: "infogain_loss" source: "s"',
         'type: "InfogainLoss" infogain_loss_param { source: "s" }'),
        ('type: "tanh" blobs_lr: 1 blobs_lr: 2 weight_decay: 3',
         'type: "TanH" param { lr_mult: 1 decay_mult: 3 } param { lr_mult: 2 }'),
    ],
)  # fmt: skip
def test_each_field_is_moved_to_the_options_of_its_type(fields: str, wanted: str) -> None:
    layer = text_format.Parse(
        f'name: "x" bottom: "data" top: "out" {wanted}', caffe_pb2.LayerParameter()
    )
    assert upgraded(v0(fields)) == [layer]


def test_one_padding_layer_serves_several_convolutions_and_poolings() -> None:
    padding = v0('type: "padding" pad: 2', top="padded")
    readers = v0('type: "conv" num_output: 1 kernelsize: 3', "padded", "a") + v0(
        'type: "pool" kernelsize: 3 pad: 9', "padded", "b"
    )
    conv, pool = upgraded(padding + readers)
    assert (list(conv.bottom), list(conv.convolution_param.pad)) == (["data"], [2])
    assert (list(pool.bottom), pool.pooling_param.pad) == (["data"], 2)


def test_a_blob_written_again_is_no_longer_the_padding_layers() -> None:
    text = v0('type: "padding" pad: 2', top="b") + v0('type: "pool" kernelsize: 3', "data", "b")
    _, relu = upgraded(text + v0('type: "relu"', "b", "b"))
    assert list(relu.bottom) == ["b"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            'type: "relu" stride: 2',
            "layer 'x' (relu): 'stride' belongs to conv or pool; it",
        ),
        ('type: "relu" num_output: 3', "'num_output' belongs to conv or innerproduct"),
        ('type: "relu" weight_filler { }', "'weight_filler' belongs to conv or innerproduct"),
        ('type: "relu" hdf5_output_param { file_name: "f" }', "belongs to hdf5_output"),
        ('type: "relu" new_num: 3', "'new_num' belongs to no type that Caffe upgrades"),
    ],
)
def test_an_option_of_another_type_is_left_out_with_a_warning(options: str, message: str) -> None:
    """As real Caffe's upgrade_net_proto_text: it logs an error and writes the layer without it."""
    with pytest.warns(UnknownFieldWarning, match=re.escape(message)):
        (relu,) = upgraded(v0(options))
    assert relu == upgraded(v0('type: "relu"'))[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (v0('type: "warp"'), "layer 'x' (warp): unknown V0 type; known are accuracy, bnll"),
        (v0('type: "relu"', bottom="none"), "bottom 'none' is neither an input nor an earlier top"),
        (v0('type: "padding" pad: 1', top="p") + v0('type: "relu"', "p"),
         "layer 'x' (relu) reads the layer 'x' (padding); only a conv or pool"),
        (v0('type: "padding" pad: 1', top="p")
         + 'layers { layer { name: "y" type: "conv" } bottom: "data" bottom: "p" top: "q" }',
         "layer 'y' (conv) reads the layer 'x' (padding)"),
        ('layers { layer { name: "p" type: "padding" pad: 1 } bottom: "data" top: "a" top: "b" }'
         + v0('type: "conv"', "a"), "layer 'p' (padding) takes one bottom and one top"),
        (v0('type: "relu"') + 'layers { name: "new" type: RELU bottom: "out" top: "out" }',
         "layer 'new' is V1 in a file of V0 layers"),
    ],
)  # fmt: skip
def test_refuses_what_cannot_be_upgraded(text: str, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_net(HEAD + text, path="old.prototxt")
    assert message in str(caught.value)
    assert str(caught.value).startswith("old.prototxt: ")
