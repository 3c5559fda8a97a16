"""ONNX files, run by onnxruntime and held to the project's rule against the Net."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from caffe_port.errors import LayerError, UnsupportedLayerError, UsageError
from caffe_port.export import ExportWarning, write_onnx
from caffe_port.export.graph import make_graph
from caffe_port.export.onnx_file import OPSET, OPSETS, onnx_model
from caffe_port.export.onnx_sizes import free_axes
from tests.export.making import (
    LAYERS,
    NETS,
    SNIPPETS,
    case_net,
    exportable,
    feed,
    snippet_net,
    without_rules,
)
from tests.export.test_module import POOLINGS, SHARING
from tests.layers.helpers import net_of
from tests.verifying import assert_whole_run_is_right

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def write(net, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExportWarning)
        write_onnx(net, path)
    onnx.checker.check_model(str(path), full_check=True)
    return onnx.load(path)


def assert_close(net, path, batches=1):
    """onnxruntime's outputs are as right as float32 allows."""
    inputs = feed(net, make_graph(net.spec).inputs)
    assert_close_for(
        net, path, {b: np.concatenate([x.numpy()] * batches) for b, x in inputs.items()}
    )


def run(path, inputs):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return {
        o.name: y for o, y in zip(session.get_outputs(), session.run(None, inputs), strict=True)
    }


def assert_close_for(net, path, inputs):
    assert_whole_run_is_right(net, inputs, run(path, inputs))


def enlarged(net, path, more=(1, 32, 33)):
    """Inputs whose free batch, height and width are larger than the net's own."""
    steps = dict(zip(("batch", "height", "width"), more, strict=True))
    steps |= dict.fromkeys(("steps", "streams"), more[0])
    given = feed(net, make_graph(net.spec).inputs)
    return {
        blob.name: np.pad(
            given[blob.name].numpy(),
            [(0, steps[dim.dim_param] if dim.dim_param else 0)
             for dim in blob.type.tensor_type.shape.dim],
            mode="wrap",
        )
        for blob in onnx.load(path).graph.input
    }  # fmt: skip


def assert_close_at_other_sizes(net, path, more=(1, 32, 33)):
    assert_close_for(net, path, enlarged(net, path, more))


@pytest.mark.parametrize("folder", NETS, ids=lambda folder: folder.name)
def test_every_recorded_net(folder, tmp_path):
    net = case_net(folder)
    write(net, tmp_path / "net.onnx")
    assert set(free_axes(make_graph(net.spec))["data"]) == {0, 2, 3}
    assert_close(net, tmp_path / "net.onnx")


@pytest.mark.parametrize(
    "folder", [f for f in LAYERS if exportable(f)], ids=lambda folder: folder.name
)
def test_every_recorded_layer_with_a_rule(folder, tmp_path):
    net = case_net(folder)
    write(net, tmp_path / "op.onnx")
    assert_close(net, tmp_path / "op.onnx")
    assert_close_at_other_sizes(net, tmp_path / "op.onnx")


@pytest.mark.parametrize("name", SNIPPETS)
def test_options_that_no_recording_has(name, tmp_path):
    net = snippet_net(name)
    write(net, tmp_path / "op.onnx")
    assert_close(net, tmp_path / "op.onnx")
    more = (1, 32, 34) if name == "reorg" else (1, 32, 33)  # Reorg needs multiples of its stride
    assert_close_at_other_sizes(net, tmp_path / "op.onnx", more)


@pytest.mark.parametrize(
    "folder", [f for f in LAYERS if not exportable(f)], ids=lambda folder: folder.name
)
def test_every_other_recorded_layer_is_refused_and_nothing_written(folder, tmp_path):
    with pytest.raises((LayerError, UsageError)):
        write(case_net(folder), tmp_path / "op.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", POOLINGS)
@pytest.mark.parametrize("size", [(9, 9), (7, 10)])
def test_pooling_has_caffes_windows_and_divisors(options, size, tmp_path):
    text = f'layer {{ name: "p" type: "Pooling" bottom: "b0" top: "y" pooling_param {{{options}}}}}'
    net = net_of(text, (2, 3, *size))
    write(net, tmp_path / "p.onnx")
    assert_close(net, tmp_path / "p.onnx", 3)
    for more in ((0, 1, 2), (1, 2, 3), (0, 3, 4)):
        assert_close_at_other_sizes(net, tmp_path / "p.onnx", more)


def test_a_window_wholly_outside_gives_caffes_lowest_number(tmp_path):
    net = net_of(
        'layer { name: "p" type: "Pooling" bottom: "b0" top: "y" '
        "pooling_param { pool: MAX kernel_size: 1 stride: 3 } }",
        (1, 2, 6, 6),
    )
    assert net.spec.shapes["y"] == (1, 2, 3, 3)
    write(net, tmp_path / "p.onnx")
    assert_close(net, tmp_path / "p.onnx")


def test_names_opset_and_axes(tmp_path):
    net = case_net(next(f for f in NETS if "v1_hole" in f.name))
    model = write(net, tmp_path / "net.onnx")
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
    names = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for key, parameter in net.state_dict().items():
        assert names[key] == tuple(parameter.shape)
    (data,) = model.graph.input
    dims = [dim.dim_param or dim.dim_value for dim in data.type.tensor_type.shape.dim]
    assert (data.name, dims) == ("data", ["batch", 3, "height", "width"])
    assert [output.name for output in model.graph.output] == list(make_graph(net.spec).outputs)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("name", ["mvn", "bn_learns", "normalize", "reduction_mean", "argmax_both"])
def test_other_opsets(opset, name, tmp_path):
    net = snippet_net(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExportWarning)
        write_onnx(net, tmp_path / "op.onnx", opset=opset)
    onnx.checker.check_model(str(tmp_path / "op.onnx"), full_check=True)
    assert onnx.load(tmp_path / "op.onnx").opset_import[0].version == opset
    assert_close_at_other_sizes(net, tmp_path / "op.onnx")


@pytest.mark.parametrize("opset", [12, 23, 99])
def test_an_opset_that_cannot_be_written_is_refused(opset, tmp_path):
    with pytest.raises(UsageError, match=f"opset={opset}: expected 13 to 22"):
        write_onnx(snippet_net("prelu"), tmp_path / "x.onnx", opset=opset)


def test_all_sizes_fixed_on_request(tmp_path):
    net = case_net(next(f for f in NETS if "v1_hole" in f.name))
    model, remarks = onnx_model(make_graph(net.spec), net, dynamic=False)
    shapes = [[d.dim_value for d in blob.type.tensor_type.shape.dim]
              for blob in (*model.graph.input, *model.graph.output)]  # fmt: skip
    assert shapes == [[2, 3, 65, 81], [2, 21, 65, 81]]
    assert remarks == []
    assert not {"Shape", "Slice"} & {node.op_type for node in model.graph.node}


def test_a_layer_that_needs_known_sizes_fixes_them_with_a_warning(tmp_path):
    net = snippet_net("spp_average")
    with pytest.warns(
        ExportWarning, match=r"the inputs' height and width are fixed: layer 'op' \(SPP\): its"
    ):
        write_onnx(net, tmp_path / "s.onnx")
    (dims,) = [
        blob.type.tensor_type.shape.dim for blob in onnx.load(tmp_path / "s.onnx").graph.input
    ]
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 3, 7, 9]


def test_a_kept_state_is_warned_of(tmp_path):
    net = case_net(next(f for f in LAYERS if f.name == "bvlc_lstm"))
    with pytest.warns(
        ExportWarning, match=r"'op' \(LSTM\): every run starts from a state of zeros"
    ) as warned:
        write_onnx(net, tmp_path / "s.onnx")
    assert len(warned) == 1  # no size is fixed


def axes_of(values):
    return {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in values
    }


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        (
            "lstm_static",
            {
                "b0": ["steps", "streams", 4, 1],
                "b1": ["steps", "streams"],
                "b2": ["streams", 6],
            },
        ),
        (
            "rnn_exposed_static",
            {
                "b0": ["steps", "streams", 4],
                "b1": ["steps", "streams"],
                "b2": ["streams", 2, 3],
                "b3": [1, "streams", 3],
            },
        ),
        (
            "lstm_exposed",
            {
                "b0": ["steps", "streams", 4],
                "b1": ["steps", "streams"],
                "b2": [1, "streams", 3],
                "b3": [1, "streams", 3],
            },
        ),
        (
            "lstm_unit",
            {"b0": [1, "streams", 3], "b1": [1, "streams", 12], "b2": [1, "streams"]},
        ),
    ],
)
def test_steps_and_streams_are_free(name, inputs, tmp_path):
    net = snippet_net(name)
    assert axes_of(write(net, tmp_path / "s.onnx").graph.input) == inputs
    for more in (3, 7):
        assert_close_at_other_sizes(net, tmp_path / "s.onnx", (more, 0, 0))


def test_the_steps_of_a_net_with_other_layers_are_free(tmp_path):
    text = (
        'layer { name: "e" type: "Embed" bottom: "b0" top: "e" embed_param { num_output: 4 '
        'input_dim: 9 weight_filler { type: "uniform" min: -1 max: 1 } } } '
        'layer { name: "l" type: "LSTM" bottom: "e" bottom: "b1" top: "l" recurrent_param { '
        'num_output: 3 weight_filler { type: "uniform" min: -1 max: 1 } } } '
        'layer { name: "p" type: "InnerProduct" bottom: "l" top: "p" inner_product_param { '
        'num_output: 5 axis: 2 weight_filler { type: "uniform" min: -1 max: 1 } } } '
        'layer { name: "s" type: "Softmax" bottom: "p" top: "y" softmax_param { axis: 2 } }'
    )
    net = net_of(text, (4, 2), (4, 2))
    model = write(net, tmp_path / "s.onnx")
    assert axes_of(model.graph.output) == {"y": ["y_steps", "y_streams", 5]}
    assert_close(net, tmp_path / "s.onnx")
    assert_close_at_other_sizes(net, tmp_path / "s.onnx", (5, 0, 0))


def test_fixed_steps_are_unrolled(tmp_path):
    net = snippet_net("lstm_static")
    with pytest.warns(ExportWarning, match="state of zeros"):
        write_onnx(net, tmp_path / "s.onnx", dynamic=False)
    assert "Scan" not in {node.op_type for node in onnx.load(tmp_path / "s.onnx").graph.node}
    assert_close(net, tmp_path / "s.onnx")


def test_channels_that_are_streams_are_not_shuffled_by_a_wrong_number(tmp_path):
    text = (
        'layer { name: "s" type: "ShuffleChannel" bottom: "b0" top: "x" '
        "shuffle_channel_param { group: 1 } } "
        'layer { name: "l" type: "RNN" bottom: "x" bottom: "b1" top: "y" recurrent_param { '
        'num_output: 3 weight_filler { type: "uniform" min: -1 max: 1 } } }'
    )
    net = net_of(text, (4, 2, 3), (4, 2))
    with pytest.warns(ExportWarning) as warned:
        write_onnx(net, tmp_path / "s.onnx")
    assert "the inputs' streams are fixed: layer 's' (ShuffleChannel)" in str(warned[0].message)
    assert_close(net, tmp_path / "s.onnx")
    assert_close_at_other_sizes(net, tmp_path / "s.onnx", (3, 0, 0))


FILTER = 'layer { name: "f" type: "Filter" bottom: "b0" bottom: "b1" top: "y" }'


def test_the_number_of_selected_items_is_free(tmp_path):
    relu = 'layer { name: "r" type: "ReLU" bottom: "y" top: "z" }'
    net = net_of(FILTER + relu, (5, 2), (5,))
    model = write(net, tmp_path / "f.onnx")
    (dims,) = [blob.type.tensor_type.shape.dim for blob in model.graph.output]
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["z_selected", 2]
    x = np.arange(10, dtype=np.float32).reshape(5, 2)
    for chosen in ([0, 1, 0, 2, 1], [0, 0, 0, 0, 0]):
        selector = np.array(chosen, np.float32)
        found = run(tmp_path / "f.onnx", {"b0": x, "b1": selector})["z"]
        np.testing.assert_array_equal(found, x[selector != 0])


def test_a_filter_before_a_layer_that_counts_items_is_refused(tmp_path):
    reshape = (
        'layer { name: "r" type: "Reshape" bottom: "y" top: "z" '
        "reshape_param { shape { dim: 5 dim: 2 dim: 1 } } }"
    )
    with pytest.raises(LayerError, match=r"'f' \(Filter\): .*no other number of items"):
        write_onnx(net_of(FILTER + reshape, (5, 2), (5,)), tmp_path / "x.onnx")


def test_a_layer_that_counts_items_fixes_the_batch(tmp_path):
    net = net_of(
        'layer { name: "r" type: "Reshape" bottom: "b0" top: "y" '
        "reshape_param { shape { dim: 6 dim: 2 } } }",
        (3, 4),
    )
    model = write(net, tmp_path / "r.onnx")
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [3, 4]
    assert_close(net, tmp_path / "r.onnx")


def test_shared_parameters_are_one_initializer(tmp_path):
    net = net_of(SHARING, (1, 3, 5, 5))
    model = write(net, tmp_path / "s.onnx")
    assert [t.name for t in model.graph.initializer] == ["a.weight", "a.bias"]
    assert_close(net, tmp_path / "s.onnx", 2)


def test_an_output_that_no_node_makes_has_its_own_name(tmp_path):
    net = net_of(
        'layer { name: "d" type: "Dropout" bottom: "b0" top: "d" }'
        'layer { name: "s" type: "Split" bottom: "b0" top: "one" top: "two" }'
        'layer { name: "r" type: "ReLU" bottom: "b0" top: "r" }'
        'layer { name: "t" type: "Split" bottom: "r" top: "t1" top: "t2" }',
        (2, 3),
    )
    model = write(net, tmp_path / "d.onnx")
    assert {"d", "t1", "t2"} <= {output.name for output in model.graph.output}
    assert_close(net, tmp_path / "d.onnx")


def test_the_same_net_gives_the_same_bytes(tmp_path):
    folder = next(f for f in NETS if "v1_hole" in f.name)
    for name in ("one", "two"):
        write(case_net(folder), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_type_without_a_rule_is_named_with_what_to_do(tmp_path):
    with pytest.raises(
        UnsupportedLayerError, match=r"'some0' .UniqueLabel.: .* as ONNX.*Cut the layer"
    ):
        write_onnx(without_rules(1), tmp_path / "x.onnx")
    with pytest.raises(UnsupportedLayerError, match=r"All that cannot: UniqueLabel \(2\)"):
        write_onnx(without_rules(2), tmp_path / "x.onnx")


def test_a_mask_of_windows_wholly_outside_is_refused(tmp_path):
    net = net_of(
        'layer { name: "p" type: "Pooling" bottom: "b0" top: "y" top: "mask" '
        "pooling_param { pool: MAX kernel_size: 1 stride: 3 } }",
        (1, 2, 6, 6),
    )
    with pytest.raises(LayerError, match=r"'p' .*wholly outside"):
        write_onnx(net, tmp_path / "x.onnx")


def test_without_onnx_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    net = net_of('layer { name: "r" type: "ReLU" bottom: "b0" top: "y" }', (1, 2))
    with pytest.raises(UsageError, match="pip install onnx"):
        write_onnx(net, tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []
