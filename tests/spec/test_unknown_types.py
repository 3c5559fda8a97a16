"""Unknown types: one error names all; data layers of forks need only shapes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from caffe_port.errors import LayerError, UnsupportedLayerError, speaking
from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops import Op, _base, register_op
from caffe_port.spec.ops.inputs import FedData
from tests.spec.making import INPUT, layer, spec_of

FOREIGN = layer("d", "VideoData", "", "data label", "data_param { batch_size: 4 }")
PYTHON = layer(
    "d", "Python", "", "data label", 'python_param { module: "voc" layer: "VOCData" }'
)  # fmt: skip
REST = layer("p", "Power", "data", "p") + layer("s", "Silence", "label", "")
SHAPES = {"data": (2, 3, 5, 5), "label": (2,)}


def refused(text: str, **options: object) -> str:
    with pytest.raises(LayerError) as caught:
        spec_of(text, **options)
    return str(caught.value)


def test_all_unknown_types_are_counted_in_one_message() -> None:
    text = INPUT + "".join(layer(f"w{i}", "Warp", "x") for i in range(6)) + layer("q", "Quilt", "x")
    with pytest.raises(UnsupportedLayerError) as caught:
        spec_of(text + layer("r", "ReLU", "w0"))
    assert (caught.value.layer, caught.value.type) == ("w0", "Warp")
    message = str(caught.value)
    assert "layer 'w0' (Warp): this type is not known" in message
    assert "Types of this net that are not known: Warp (6), Quilt. " in message
    assert "register_op" in message
    assert "docs/LAYERS.md" in message
    assert "Convolution" not in message
    assert "input_shapes" not in message
    many = INPUT + "".join(layer(f"w{i}", f"Warp{i}", "x") for i in range(25))
    assert "and 5 more" in refused(many)


@pytest.mark.parametrize(
    ("type", "known"),
    [("Relu", "ReLU"), ("Convolutional", "Convolution"), ("SoftmaxLoss", "SoftmaxWithLoss")],
)
def test_a_misspelled_type_is_recognised(type: str, known: str) -> None:
    assert f"did you mean {known}?" in refused(INPUT + layer("a", type, "x"))
    for other in ("Warp", "Unrolling"):
        assert "did you mean" not in refused(INPUT + layer("a", other, "x"))


@pytest.mark.parametrize("data", [FOREIGN, PYTHON])
def test_a_data_layer_of_a_fork_needs_shapes_only(data: str) -> None:
    spec = spec_of(data + REST, input_shapes=SHAPES)
    assert spec.sources == ("data", "label")
    assert spec.shapes["p"] == (2, 3, 5, 5)
    assert isinstance(spec.layers[0].op, FedData)
    assert spec.layers[0].type in ("VideoData", "Python")


def test_a_data_layer_with_a_forks_options_needs_shapes_only() -> None:
    """Intel's Caffe shuffles databases; here the order would differ, so the caller feeds it."""
    options = "data_param { batch_size: 2 shuffle: true }"
    text = f'layer {{ name: "d" type: "Data" top: "data" top: "label" {options} }}' + REST
    assert "'data_param.shuffle' is a fork's option that is not implemented" in refused(text)
    assert "'data_param.shuffle'" in refused(text, input_shapes={"data": SHAPES["data"]})
    spec = spec_of(text, input_shapes=SHAPES)
    assert isinstance(spec.layers[0].op, FedData)
    assert spec.shapes["p"] == (2, 3, 5, 5)
    plain = spec_of(text.replace("shuffle: true", 'source: "x"'), input_shapes=SHAPES)
    assert not isinstance(plain.layers[0].op, FedData)


@pytest.mark.parametrize("data", [FOREIGN, PYTHON])
def test_without_the_shapes_the_message_names_the_option(data: str) -> None:
    assert "input_shapes={'data': (N, C, H, W), 'label': (N, C, H, W)}" in refused(data + REST)
    with speaking("caffe-port"):
        message = refused(data + REST)
        assert message.endswith("--input-shape data=N,C,H,W --input-shape label=N,C,H,W")
        one = refused(FOREIGN + REST, input_shapes={"data": (2, 3, 5, 5)})
        assert one.endswith("shapes only: --input-shape label=N,C,H,W")
    with speaking("caffe"):
        assert "shape" not in refused(data + REST)


def test_a_v1_type_of_a_fork_goes_through_the_registry() -> None:
    text = INPUT + 'layers { name: "u" type: UNROLLING bottom: "x" top: "u" up_param { by: 2 } }'
    assert "layer 'u' (Unrolling): this type is not known" in refused(text)

    class Unrolling(Op):
        type = "Unrolling"

        @classmethod
        def read(cls, layer: caffe_pb2.LayerParameter, extra: Mapping[str, object]) -> Op:
            assert extra == {"up_param": {"by": [2]}}
            return cls()

    register_op(Unrolling)
    try:
        assert spec_of(text).layers[1].type == "Unrolling"
    finally:
        del _base.registered_ops()["Unrolling"]


def test_a_v1_data_type_of_a_fork_needs_shapes_only() -> None:
    text = 'layers { name: "d" type: WINDOW_SEG_DATA top: "data" }' + layer("r", "ReLU", "data")
    text = text.replace('layer { name: "r" type: "ReLU"', 'layers { name: "r" type: RELU')
    assert "--input-shape data=N,C,H,W" in _said(text)
    assert spec_of(text, input_shapes={"data": (1, 3, 4, 4)}).shapes["r"] == (1, 3, 4, 4)


def _said(text: str) -> str:
    with speaking("caffe-port"):
        return refused(text)


def test_a_layer_with_bottoms_is_not_data() -> None:
    message = refused(INPUT + layer("a", "Warp", "x", "y"), input_shapes={"y": (1,)})
    assert "this type is not known" in message


@pytest.mark.parametrize(
    ("type", "options", "reason"),
    [
        ("Data", 'data_param { source: "s" batch_size: 2 }', "not a LevelDB"),
        ("Data", 'data_param { source: "s" batch_size: 2 backend: LMDB }', "the first record"),
        ("ImageData", 'image_data_param { source: "s" batch_size: 2 }', "the first image"),
        ("ImageSegData", 'image_data_param { source: "s" batch_size: 2 }', "set crop_size"),
        ("HDF5Data", 'hdf5_data_param { source: "s" batch_size: 2 }', "the first file"),
        ("MatRead", 'mat_read_param { prefix: "p" batch_size: 2 }', "the first file"),
        ("Input", "", "no shape is given"),
    ],
)
def test_known_data_layers_without_their_files_name_it_too(
    type: str, options: str, reason: str
) -> None:
    shapes = {"data": (2, 3, 5, 5), "label": (2,), "dim": (2, 1, 1, 2)}
    count = {"ImageData": 2, "ImageSegData": 3}.get(type, 1)
    given = dict(list(shapes.items())[:count])
    text = layer("d", type, "", " ".join(given), options)
    with speaking("caffe-port"):
        message = refused(text)
    assert reason in message
    wanted = " ".join(f"--input-shape {top}=N,C,H,W" for top in given)
    assert message.endswith(f"; or give shapes: {wanted}")
    assert dict(spec_of(text, input_shapes=given).shapes) == given


@pytest.mark.parametrize(
    ("type", "options", "tops"),
    [
        ("ImageData", "image_data_param", "data label"),
        ("ImageSegData", "image_data_param", "data label dim"),
        ("HDF5Data", "hdf5_data_param", "data"),
    ],
)
def test_a_missing_first_file_is_named_with_its_line(
    tmp_path: Path, type: str, options: str, tops: str
) -> None:
    """Without a crop the shape follows from the first file of the list."""
    path = tmp_path / "list.txt"
    path.write_text("\n\nmissing.png 3\n")
    message = refused(layer("d", type, "", tops, f'{options} {{ source: "{path}" batch_size: 1 }}'))
    assert (
        f"from the first {'file' if type == 'HDF5Data' else 'image'}: {path}: line 3: " in message
    )
    assert "missing.png: cannot be read" in message


@pytest.mark.parametrize("type", ["RegionLoss", "YoloDetectionOutput", "Yolov3DetectionOutput"])
def test_yolos_outputs_are_refused_with_the_reason(type: str) -> None:
    message = refused(INPUT + layer("o", type, "x"))
    assert f"layer 'o' ({type}): this type is not known: YOLO's forks compute other" in message
    assert "docs/detection.md" in message
