"""A right port passes; a wrong layer is named, whether errors travel or not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import caffe_port
from caffe_port.errors import ParityError
from caffe_port.parity.compare import Verdict
from caffe_port.parity.recording import read_recording
from caffe_port.parity.verify import verify
from caffe_port.spec.ops.neurons import Dropout
from tests.goldens_dir import GOLDENS, SHAPES
from tests.parity.fake import LAYERS, FakeLayer, FakeNet, record, recorded_arrays, write_folder
from tests.second_device import DeviceTensor, second_device
from tests.verifying import recorded_net

MADE_BY = {  # layer: (blob it makes, layers that share the blob's array)
    "conv1": ("conv1", ("conv1", "relu1")),
    "relu1": ("conv1", ("conv1", "relu1")),
    "pool1": ("pool1", ("pool1",)),
    "conv2": ("score", ("conv2",)),
    "split": ("score_0", ("split",)),
    "label_map": ("label_map", ("label_map",)),
    "loss": ("loss", ("loss",)),
    "accuracy": ("accuracy", ("accuracy",)),
}


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return read_recording(record(tmp_path_factory.mktemp("recording")))


def rows_of(result, kind):
    return {row.name: row.comparison for row in result.rows if row.kind == kind}


def altered(tmp_path, **changes):
    """A recording with some arrays replaced, or left out (None)."""
    arrays = recorded_arrays(FakeNet(permuted=True))
    for key, value in changes.items():
        arrays.pop(key) if value is None else arrays.update({key: value})
    return read_recording(write_folder(tmp_path / "altered", arrays))


@pytest.mark.parametrize("isolate", [False, True], ids=["whole", "isolated"])
def test_right_port_passes(recording, isolate):
    result = verify(FakeNet(), recording, isolate=isolate)
    assert result.passed
    assert result.isolated == isolate
    data, diffs = rows_of(result, "data"), rows_of(result, "diff")
    assert data["score"].e_port > 0
    assert data["score"].e_caffe > 0
    assert data["label_map"].differing == 0
    assert diffs["conv1"].verdict is Verdict.PASS
    assert diffs["conv1"].peak > 0
    assert rows_of(result, "pdiff")["conv1/0"].peak > 0
    assert len(rows_of(result, "param")) == 4


@pytest.mark.parametrize("layer", MADE_BY)
@pytest.mark.parametrize("isolate", [False, True], ids=["whole", "isolated"])
def test_first_bad_layer_is_named(recording, layer, isolate):
    net = FakeNet(change={layer: lambda x: x * 1.001 + 0.001})
    first = verify(net, recording, isolate=isolate).first_bad
    assert (first.kind, first.name, first.layers) == ("data", *MADE_BY[layer])


@pytest.mark.parametrize("layer", MADE_BY)
def test_isolated_errors_do_not_propagate(recording, layer):
    result = verify(FakeNet(change={layer: lambda x: x * 1.5 + 0.25}), recording, isolate=True)
    blob, shared = MADE_BY[layer]
    bad = {row.layers for row in result.rows if row.comparison.verdict is Verdict.FAIL}
    data = {n for n, c in rows_of(result, "data").items() if c.verdict is Verdict.FAIL}
    assert data == ({"score_0", "score_1", "score_2"} if layer == "split" else {blob})
    assert all(set(layers) & {*shared, layer} for layers in bad)


@pytest.mark.parametrize("layer", ["conv1", "relu1", "pool1", "conv2", "loss"])
@pytest.mark.parametrize("isolate", [False, True], ids=["whole", "isolated"])
def test_wrong_gradient_is_found_where_it_arises(recording, layer, isolate):
    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * 1.001

    result = verify(FakeNet(change={layer: Scaled.apply}), recording, isolate=isolate)
    assert result.first_bad.kind in ("diff", "pdiff")
    assert layer in result.first_bad.layers
    data = rows_of(result, "data")
    assert {c.verdict for c in data.values()} == {Verdict.PASS}


def test_the_net_is_left_as_it_was(recording):
    net = FakeNet()
    before = {key: weight.clone() for key, weight in net.weights.items()}
    verify(net, recording)
    assert all(torch.equal(before[key], net.weights[key]) for key in before)
    assert all(weight.grad is None for weight in net.weights.values())
    assert net.weights["conv1_0"].dtype == torch.float32


def test_changed_weight_is_found_bit_for_bit(recording):
    net = FakeNet()
    with torch.no_grad():
        weight = net.weights["conv2_0"].view(-1)
        weight[7] = torch.nextafter(weight[7], torch.tensor(10.0))
    first = verify(net, recording).first_bad
    assert (first.kind, first.name, first.comparison.differing) == ("param", "conv2/0", 1)


def test_parameters_of_a_layer_the_net_lacks(tmp_path):
    result = verify(FakeNet(), altered(tmp_path, **{"param/gone/0": np.ones(1, np.float32)}))
    assert (result.first_bad.kind, result.first_bad.name) == ("param", "gone/0")


def test_blob_the_net_lacks(tmp_path):
    result = verify(FakeNet(), altered(tmp_path, **{"data/extra": np.ones(3, np.float32)}))
    assert result.first_bad.name == "extra"
    assert "no such blob" in result.first_bad.comparison.reason


def test_blob_of_another_shape(tmp_path):
    result = verify(
        FakeNet(), altered(tmp_path, **{"data/pool1": np.ones((2, 8, 5, 7), np.float32)})
    )
    assert result.first_bad.name == "pool1"
    assert "[2, 8, 5, 7]" in result.first_bad.comparison.reason


def test_nan_in_the_port(recording):
    def poison(x):
        return torch.where(x == x.max(), torch.nan, x)

    result = verify(FakeNet(change={"pool1": poison}), recording)
    assert result.first_bad.name == "pool1"
    assert "nan" in result.first_bad.comparison.reason


def test_a_port_that_computes_in_single_precision_only_has_no_exact_answer(recording):
    result = verify(FakeNet(change={"conv2": lambda x: x.float()}), recording)
    assert result.first_bad.name == "score"
    assert "float64 run has dtype float32" in result.first_bad.comparison.reason


def test_unrecorded_blobs_are_reported_as_unrecorded(tmp_path):
    missing = ("data/pool1", "diff/pool1")
    arrays = {k: v for k, v in recorded_arrays(FakeNet()).items() if k not in missing}
    recording = read_recording(write_folder(tmp_path / "r", arrays, blobs_kept="chosen"))
    result = verify(FakeNet(), recording)
    assert result.passed
    assert rows_of(result, "data")["pool1"].verdict is Verdict.NOT_RECORDED
    isolated = verify(FakeNet(), recording, isolate=True)
    assert isolated.passed
    for found in (result, isolated):
        # the port fills in what it needs to go on from there
        assert rows_of(found, "data")["score"].verdict is Verdict.PASS
        assert rows_of(found, "pdiff")["conv2/0"].verdict is Verdict.PASS
        assert rows_of(found, "diff")["conv1"].verdict is Verdict.PASS
    wrong = verify(FakeNet(change={"pool1": lambda x: x * 1.0001}), recording)
    assert (wrong.first_bad.kind, wrong.first_bad.name) == ("data", "score")


def test_blob_that_caffe_lacks_though_it_kept_all(tmp_path):
    result = verify(FakeNet(), altered(tmp_path, **{"data/pool1": None}))
    assert result.first_bad.name == "pool1"
    assert "Caffe, which kept every blob" in result.first_bad.comparison.reason


def test_gradient_where_caffe_has_none(tmp_path):
    nothing = {"diff/pool1": np.zeros((2, 8, 5, 6), np.float32)}
    result = verify(FakeNet(), altered(tmp_path, **nothing))
    assert result.first_bad.name == "pool1"
    assert "Caffe computes no diff here" in result.first_bad.comparison.reason


def test_loss_weights_start_the_backward_pass_where_no_diff_was_set(tmp_path):
    recording = altered(tmp_path, **{"topdiff/loss": None})
    assert len(recording.topdiffs) == 0
    result = verify(FakeNet(), recording)
    assert result.passed
    assert rows_of(result, "diff")["conv1"].peak > 0


def test_random_layers_are_not_compared(tmp_path):
    layers = (
        *LAYERS[:3],
        FakeLayer("drop", "Dropout", ("pool1",), ("pool1",), op=Dropout(0.5)),
        *LAYERS[3:],
    )
    net = FakeNet(layers=layers, phase="TRAIN")
    folder = record(tmp_path / "r", FakeNet(layers=layers, phase="TRAIN"), phase="TRAIN")
    result = verify(net, read_recording(folder))
    assert result.passed
    random = {n for n, c in rows_of(result, "data").items() if c.verdict is Verdict.RANDOM}
    assert random == {"pool1"}
    for isolate in (False, True):
        result = verify(net, read_recording(folder), isolate=isolate)
        # layers after the draw are compared on what the draw gave them
        for blob in ("conv1", "score", "loss"):
            assert rows_of(result, "data")[blob].verdict is Verdict.PASS
        assert rows_of(result, "diff")["pool1"].verdict is Verdict.RANDOM
        assert rows_of(result, "diff")["conv1"].verdict is Verdict.PASS
        assert rows_of(result, "pdiff")["conv1/0"].verdict is Verdict.PASS
    assert rows_of(result, "data")["score"].distance is None or isolate


def near_tie(scores):
    """At one place class 1 beats class 0 by one unit in the last place; the others are far off."""
    top = torch.tensor([500.0, np.nextafter(np.float32(500), np.float32(501)), 0, 0, 0])
    edited = scores.clone()
    edited[0, :, 0, 0] = top.to(scores.dtype)
    return edited


def test_labels_and_accuracy_may_differ_by_ties_of_caffes_scores(tmp_path):
    arrays = recorded_arrays(FakeNet(permuted=True, change={"conv2": near_tie}))
    assert arrays["input/label"][0, 0, 0, 0] == 0
    # Caffe rounded the other way: there class 0 wins by one unit, and is right.
    for name in ("score", "score_0", "score_1", "score_2"):
        arrays[f"data/{name}"][0, 0, 0, 0] += 2 * np.spacing(np.float32(500))
    arrays["data/label_map"][0, 0, 0, 0] = 0
    arrays["data/accuracy"] = np.float32(arrays["data/accuracy"] + 1 / 60)
    folder = write_folder(tmp_path / "r", arrays, backward=False)
    result = verify(FakeNet(change={"conv2": near_tie}), read_recording(folder))
    data = rows_of(result, "data")
    assert (data["label_map"].verdict, data["label_map"].ties) == (Verdict.PASS, 1)
    assert data["accuracy"].verdict is Verdict.PASS
    assert data["accuracy"].distance == pytest.approx(1 / 60)

    # Where the scores themselves are wrong there is no excuse.
    for name in ("score", "score_0", "score_1", "score_2"):
        arrays[f"data/{name}"][0, 0, 0, 0] = 499
    folder = write_folder(tmp_path / "r", arrays, backward=False)
    result = verify(FakeNet(change={"conv2": near_tie}), read_recording(folder))
    assert rows_of(result, "data")["label_map"].verdict is Verdict.FAIL
    assert rows_of(result, "data")["accuracy"].verdict is Verdict.FAIL


def test_stops_at_the_first_bad_row_on_request(recording):
    net = FakeNet(change={"pool1": lambda x: x + 1})
    result = verify(net, recording, keep_going=False)
    assert result.rows[-1] is result.first_bad
    assert result.first_bad.name == "pool1"


def test_other_phase_is_refused(recording):
    with pytest.raises(ParityError, match="TRAIN"):
        verify(FakeNet(phase="TRAIN"), recording)


def test_missing_input_is_refused(tmp_path):
    with pytest.raises(ParityError, match="no input 'label'"):
        verify(FakeNet(), altered(tmp_path, **{"input/label": None}))


def test_diff_set_on_a_missing_blob_or_of_another_size(tmp_path):
    with pytest.raises(ParityError, match="'gone'"):
        verify(FakeNet(), altered(tmp_path, **{"topdiff/gone": np.ones(1, np.float32)}))
    with pytest.raises(ParityError, match="topdiff of 'loss'"):
        verify(FakeNet(), altered(tmp_path, **{"topdiff/loss": np.ones(2, np.float32)}))


def test_a_recording_with_nothing_to_compare_does_not_pass(tmp_path):
    layers = (FakeLayer("drop", "Dropout", ("data",), ("drop",), op=Dropout(0.5)),)
    net = FakeNet(layers=layers, phase="TRAIN")
    arrays = {
        "input/data": np.ones((1, 1), np.float32),
        "input/label": np.ones((1, 1), np.float32),
        "data/data": np.ones((1, 1), np.float32),
    }
    folder = write_folder(
        tmp_path / "r", arrays, phase="TRAIN", backward=False, blobs_kept="chosen"
    )
    with pytest.raises(ParityError, match="none of its blobs"):
        verify(net, read_recording(folder))


def test_copies_for_readers_that_the_recorded_net_had_not_do_not_count():
    """The bundled test.prototxt has a DenseCRF, and so Splits; the recorded net ends before it."""
    run = SHAPES / "caffe_run"
    weights = run / "model" / "train_iter_2400.caffemodel"
    net = caffe_port.load(run / "test.prototxt", weights, variables={"ROOT": str(SHAPES)})
    result = verify(net, read_recording(run / "recording"))
    assert result.passed, result.first_bad
    assert {row.comparison.verdict for row in result.rows if "_split_" in row.name} == {
        Verdict.NOT_RECORDED
    }


@pytest.mark.parametrize("isolate", [False, True])
def test_the_port_on_another_device(isolate):
    """It runs there, in float32, and what is compared comes back; exact results stay here."""
    net, recorded = recorded_net(GOLDENS / "layers" / "bvlc_conv_3x3_pad1")
    seen = []
    net.module("op").register_forward_hook(
        lambda layer, given, top: seen.append((type(given[0]), given[0].dtype))
    )
    with second_device() as device:
        result = verify(net, recorded, isolate=isolate, device=device)
    assert result.passed
    assert set(seen) == {(torch.Tensor, torch.float64), (DeviceTensor, torch.float32)}
    assert {row.comparison.verdict for row in result.rows} == {Verdict.PASS}
    with second_device() as device, torch.no_grad():
        net.layer_params("op")[0].mul_(1 + 1e-4)
        assert verify(net, recorded, isolate=isolate, device=device).first_bad.kind == "param"
