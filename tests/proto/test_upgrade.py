"""Older generations become the present one, as Caffe's own tools made them."""

import pytest
from google.protobuf import text_format

from caffe_port.errors import FormatError
from caffe_port.proto import caffe_pb2, parse_net, read_net, read_solver
from caffe_port.proto.upgrade import upgrade_net, v1_type_name
from tests.goldens_dir import GOLDENS

IO = GOLDENS / "io"


def upgraded(text, dialect=None):
    return parse_net(text, dialect=dialect).message


def conv(text):
    return upgraded(f'layer {{ name: "c" type: "Convolution" convolution_param {{ {text} }} }}')


def refused(text):
    with pytest.raises(FormatError) as caught:
        parse_net(text, path="net.prototxt")
    assert str(caught.value).startswith("net.prototxt: ")
    return str(caught.value)


@pytest.mark.parametrize("name", ["old_inputs", "v0_net", "v1_net"])
def test_nets_equal_what_caffes_tool_wrote(name):
    wanted = text_format.Parse(
        (IO / f"{name}.upgraded.prototxt").read_text(), caffe_pb2.NetParameter()
    )
    assert read_net(IO / f"{name}.prototxt") == wanted
    assert read_net(IO / f"{name}.upgraded.prototxt") == wanted


def test_a_solver_equals_what_caffes_tool_wrote():
    wanted = text_format.Parse(
        (IO / "old_solver.upgraded.prototxt").read_text(), caffe_pb2.SolverParameter()
    )
    assert read_solver(IO / "old_solver.prototxt") == wanted
    assert read_solver(IO / "old_solver.upgraded.prototxt") == wanted


@pytest.mark.parametrize(
    ("number", "name"), [("SGD", "SGD"), ("NESTEROV", "Nesterov"), ("ADAGRAD", "AdaGrad"),
                         ("RMSPROP", "RMSProp"), ("ADADELTA", "AdaDelta"), ("ADAM", "Adam")]
)  # fmt: skip
def test_solver_types(tmp_path, number, name):
    path = tmp_path / "solver.prototxt"
    path.write_text(f"solver_type: {number}")
    assert read_solver(path) == caffe_pb2.SolverParameter(type=name)
    path.write_text(f'solver_type: {number} type: "{name}"')
    with pytest.raises(FormatError, match="both 'solver_type' and 'type'"):
        read_solver(path)


def test_every_v1_type_has_its_v2_name():
    names = {v1_type_name(value) for value in caffe_pb2.V1LayerParameter.LayerType.values()}
    assert len(names) == len(caffe_pb2.V1LayerParameter.LayerType.values())
    assert {"", "AbsVal", "ReLU", "TanH", "LRN", "MVN", "BNLL", "Im2col", "HDF5Data", "ArgMax",
            "SoftmaxWithLoss", "SigmoidCrossEntropyLoss", "InnerProduct", "ImageSegData",
            "SegAccuracy", "MatWrite", "DenseCRF", "EuclideanLoss"} <= names  # fmt: skip


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("CROP", "Crop"), ("BN", "BN"), ("UNPOOLING", "Unpooling"), ("PRELU", "PReLU"),
        ("MULTI_STAGE_MEANFIELD", "MultiStageMeanfield"), ("WINDOW_SEG_DATA", "WindowSegData"),
        ("BATCH_NORM", "BatchNorm"), ("ROI_POOLING", "ROIPooling"), ("SPP", "SPP"),
        ("SMOOTH_L1_LOSS", "SmoothL1Loss"), ("Reshape", "Reshape"),
    ],
)  # fmt: skip
def test_v1_types_of_forks_become_v2_names(word, name):
    (layer,) = upgraded(f'layers {{ name: "l" type: {word} bottom: "x" top: "y" }}').layer
    assert (layer.name, layer.type, list(layer.bottom), list(layer.top)) == (
        "l",
        name,
        ["x"],
        ["y"],
    )


def test_v1_layers_of_forks_have_the_options_of_v2_layers():
    net = parse_net("""layers { name: "c" type: CROP crop_param { axis: 1 offset: 2 } mine: 1 }
        layers { name: "b" bn_param { bn_mode: INFERENCE } type: BN propagate_down: false }
        layers { type: CONVOLUTION name: "d" convolution_param { hole: 2 } prelu_param { } }""")
    crop, bn, conv = net.message.layer
    assert (crop.type, crop.crop_param.axis, list(crop.crop_param.offset)) == ("Crop", 1, [2])
    assert (bn.type, bn.bn_param.bn_mode) == ("BN", caffe_pb2.BNParameter.INFERENCE)
    assert list(bn.propagate_down) == [False]
    assert (conv.type, conv.HasField("prelu_param")) == ("Convolution", True)
    assert [str(field) for field in net.unknown] == ["line 1: layer 'c': unknown field 'mine'"]
    assert net.dialect == "deeplab1"
    assert parse_net("layers { type: CROP crop_param { axis: 1 } }").dialect == "bvlc"
    assert parse_net("layers { type: CROP }").dialect == "longjon"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type: CROP type: RELU", "'type' is given more than once"),
        ("type: RELU type: CROP", "'type' is given more than once"),
        ("type: CROP type: BN", "'type' is given more than once"),
        ('type: "CROP"', "'type' takes one of NONE, ACCURACY"),
        ("type: 99", "'type' takes one of NONE, ACCURACY"),
        ("type: CROP crop_param { } crop_param { }", "'crop_param' is given more than once"),
        ("crop_param: 3", "'crop_param' takes a block"),
    ],
)
def test_broken_v1_layers_of_forks(text, message):
    assert message in refused(f"layers {{ {text} }}")


def test_v1_parallel_lists_become_param():
    (layer,) = upgraded("""layers { name: "c" type: CONVOLUTION bottom: "x" top: "y"
        param: "w" blobs_lr: 1 blobs_lr: 2 weight_decay: 0.5 blob_share_mode: PERMISSIVE
        loss_weight: 3 include { phase: TRAIN } convolution_param { num_output: 2 } }""").layer
    assert layer.type == "Convolution"
    assert [p.lr_mult for p in layer.param] == [1, 2]
    first, second = layer.param
    assert (first.name, first.decay_mult) == ("w", 0.5)
    assert first.share_mode == caffe_pb2.ParamSpec.PERMISSIVE
    assert not second.HasField("decay_mult")
    assert list(layer.loss_weight) == [3]
    assert layer.include[0].phase == caffe_pb2.TRAIN
    assert layer.convolution_param.num_output == 2


def test_v1_data_layers_have_the_transformation_in_their_own_options():
    (layer,) = upgraded("""layers { name: "d" type: IMAGE_DATA image_data_param { scale: 2
        mirror: true crop_size: 3 mean_file: "m" source: "s" } }""").layer
    wanted = caffe_pb2.TransformationParameter(scale=2, mirror=True, crop_size=3, mean_file="m")
    assert layer.transform_param == wanted
    assert layer.image_data_param == caffe_pb2.ImageDataParameter(source="s")


def test_inputs_become_one_layer_placed_first():
    net = upgraded(
        'layer { name: "r" } input: "a" input_shape { dim: 2 } input: "b" input_shape {}'
    )
    assert [layer.name for layer in net.layer] == ["input", "r"]
    first = net.layer[0]
    assert (first.type, list(first.top)) == ("Input", ["a", "b"])
    assert [list(shape.dim) for shape in first.input_param.shape] == [[2], []]
    assert not net.input
    assert not net.input_shape
    legacy = upgraded('input: "a" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4')
    assert list(legacy.layer[0].input_param.shape[0].dim) == [1, 2, 3, 4]
    assert upgraded('input: "a" layer { name: "r" }').layer[0].name == "r"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('input: "a" input_dim: 1', "1 input with 1 input_dim; expected 1 input_shape, or 4"),
        ('input: "a" input: "b" input_shape {}', "2 input with 1 input_shape; expected 2"),
    ],
)
def test_inputs_that_do_not_fit_their_shapes(text, words):
    assert words in refused(text)


def test_binary_messages_may_not_mix_generations_either():
    net = caffe_pb2.NetParameter()
    net.layer.add()
    net.layers.add()
    with pytest.raises(FormatError, match="both 'layer' and 'layers'"):
        upgrade_net(net)


def test_hole_is_dilation():
    assert list(conv("hole: 4").layer[0].convolution_param.dilation) == [4]
    assert list(conv("hole_h: 4 hole_w: 2").layer[0].convolution_param.dilation) == [4, 2]
    assert list(conv("hole_w: 2").layer[0].convolution_param.dilation) == [1, 2]
    assert list(conv("dilation: 3").layer[0].convolution_param.dilation) == [3]
    for both in ("hole: 2 dilation: 2", "hole: 2 hole_h: 2", "hole_h: 2 dilation: 1"):
        text = f'layer {{ name: "c" type: "Convolution" convolution_param {{ {both} }} }}'
        assert "layer 'c' (Convolution): 'hole'" in refused(text)


def test_batch_norm_statistics_are_frozen_when_all_are_declared():
    text = 'layer {{ type: "BatchNorm" {} }}'
    (layer,) = upgraded(text.format("param { lr_mult: 5 } " * 3)).layer
    assert [(p.lr_mult, p.decay_mult) for p in layer.param] == [(0, 0)] * 3
    (layer,) = upgraded(text.format("param { lr_mult: 5 } " * 2)).layer
    assert [p.lr_mult for p in layer.param] == [5, 5]


def test_deeplab_v1_defaults_are_spelled_out():
    text = "layers { type: SOFTMAX_LOSS } layers { type: ARGMAX }"
    loss, search = upgraded(text, "deeplab1").layer
    assert loss.HasField("softmaxloss_param")
    assert search.argmax_param.axis == 1
    v2 = 'layer { type: "SoftmaxWithLoss" } layer { type: "ArgMax" }'  # which it did not have
    for plain, dialect in ((text, "bvlc"), (v2, "deeplab1")):
        loss, search = upgraded(plain, dialect).layer
        assert not loss.HasField("softmaxloss_param")
        assert not search.argmax_param.HasField("axis")
