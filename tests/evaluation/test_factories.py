"""The network and the CRF built from files: which blobs they take, and Caffe's own scores."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from caffe_port.crf import CRFParameters, refine
from caffe_port.crf.refinement import dense_crf_forward
from caffe_port.errors import CaffePortError, ReadError, UsageError
from caffe_port.evaluation.crf_grid import Grid, write_report
from caffe_port.evaluation.network import NetFactory, data_blob, resizing, score_blob
from caffe_port.evaluation.refinement import CRFFactory, read_crf_config
from caffe_port.loading import load
from caffe_port.spec import NetSpec
from tests.goldens_dir import ROOT, SHAPES

RUN = SHAPES / "caffe_run"
INPUT = 'name: "n" input: "data" input_shape { dim: 1 dim: 3 dim: 9 dim: 9 } '
CONVOLUTION = (
    'layer { name: "%s" type: "Convolution" bottom: "data" top: "%s" '
    "convolution_param { num_output: 2 kernel_size: 1 } } "
)


def spec_of(tmp_path, *layers):
    path = tmp_path / "net.prototxt"
    path.write_text(INPUT + "".join(layers))
    return NetSpec.read(path)


def test_the_networks_scores_are_those_caffe_recorded():
    factory = NetFactory(
        str(RUN / "recording" / "net.prototxt"), str(RUN / "recording" / "net.caffemodel")
    )
    with np.load(RUN / "recording" / "case.npz") as recorded:
        network = factory()
        small, want = network.classify(recorded["input/data"]), recorded["data/fc8_interp"]
        assert small.shape == recorded["data/fc8_shapes"].shape
    assert network.enlarge is not None
    np.testing.assert_allclose(network.enlarge(small), want, atol=1e-5 * np.abs(want).max())


def test_an_inference_plan_gives_the_same_labels_in_two_threads_and_is_described():
    files = str(RUN / "recording" / "net.prototxt"), str(RUN / "recording" / "net.caffemodel")
    plain, fast = NetFactory(*files), NetFactory(*files, optimized=True, engine="torch")
    assert {**plain.describe(), "engine": "torch"} == fast.describe()
    x, network = _image(161), fast()
    want = plain().classify(x)
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(network.classify, [x] * 4):
            np.testing.assert_allclose(found, want, atol=1e-5 * np.abs(want).max())
            assert np.array_equal(found.argmax(1), want.argmax(1))


def test_small_scores_enlarged_are_the_nets_own_to_the_last_bit():
    weights = str(RUN / "model" / "train_iter_2400.caffemodel")
    factory = NetFactory(str(RUN / "test.prototxt"), weights, variables={"ROOT": str(SHAPES)})
    net, x = load(factory.net, factory.weights, variables=factory.variables), _image(161)
    whole = net({"data": x}, keep=["fc8_interp"])["fc8_interp"].detach().numpy()
    network = factory()
    assert network.enlarge is not None
    np.testing.assert_array_equal(network.enlarge(network.classify(x)), whole)


def _image(side):
    return np.random.default_rng(0).normal(size=(1, 3, side, side)).astype(np.float32) * 50


RESIZE = 'layer { name: "%s" type: "Interp" bottom: "%s" top: "%s" interp_param { %s } } '


def test_only_what_enlarges_at_the_end_is_left_for_later(tmp_path):
    a = CONVOLUTION % ("a", "a")
    up, down = RESIZE % ("up", "a", "up", "zoom_factor: 2"), "shrink_factor: 2"
    for text, blob, names in (
        (up, "up", ["up"]),
        (up + RESIZE % ("b", "up", "b", "zoom_factor: 2"), "b", ["up", "b"]),
        (RESIZE % ("down", "a", "down", down), "down", []),
        (up + CONVOLUTION.replace("data", "up") % ("b", "b"), "b", []),
        (up + 'layer { name: "r" type: "ReLU" bottom: "up" top: "up" }', "up", []),
        ("", "a", []),
    ):
        found = resizing(spec_of(tmp_path, a, text), blob)
        assert [layer.name for layer in found] == names


def test_a_grid_searchs_best_settings_are_a_refinement(tmp_path):
    path = tmp_path / "best.json"
    write_report(tmp_path, Grid(), np.linspace(0, 1, len(Grid().settings())), 3)
    found = read_crf_config(path)
    assert found == CRFFactory(Grid().settings()[-1])
    assert read_crf_config(path, "rgb").colours == "rgb"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "colours": "rgb"}))
    assert read_crf_config(path).colours == "rgb"
    with pytest.raises(UsageError, match=r"best\.json: .* for colours rgb, layer is asked for"):
        read_crf_config(path, "layer")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[" * 9999, "not JSON"),
        ("[3]", "one JSON object"),
        ('{"bi_x": 3}', r"config\.json: no CRF setting is called 'bi_x'"),
        ('{"colours": "grey"}', "colours is 'grey'"),
    ],
)
def test_other_crf_configs_are_refused(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CaffePortError, match=message):
        read_crf_config(tmp_path / "config.json")
    with pytest.raises(CaffePortError, match="cannot be read"):
        read_crf_config(tmp_path / "gone.json")


def test_the_score_blob_is_what_the_crf_reads_not_its_split():
    spec = NetSpec.read(RUN / "test.prototxt", variables={"ROOT": str(SHAPES)})
    assert (score_blob(spec), data_blob(spec)) == ("fc8_interp", "data")


def test_a_detector_is_named_with_the_page_about_it():
    spec = NetSpec.read(ROOT / "prototxt" / "mobilenet_ssd" / "deploy.prototxt")
    with pytest.raises(UsageError, match=r"'detection_out', DetectionOutput.*docs/detection\.md"):
        score_blob(spec)


def test_the_only_output_is_the_score_blob(tmp_path):
    spec = spec_of(tmp_path, CONVOLUTION % ("a", "a"))
    assert (score_blob(spec), data_blob(spec)) == ("a", "data")


def test_the_score_blob_is_what_deeplab_writes_for_its_crf(tmp_path):
    written = 'layer { name: "w" type: "MatWrite" bottom: "b" mat_write_param { prefix: "x" } }'
    spec = spec_of(tmp_path, CONVOLUTION % ("a", "a"), CONVOLUTION % ("b", "b"), written)
    assert score_blob(spec) == "b"


def test_several_outputs_need_a_name(tmp_path):
    spec = spec_of(tmp_path, CONVOLUTION % ("a", "a"), CONVOLUTION % ("b", "b"))
    with pytest.raises(UsageError, match="outputs are a, b; name one"):
        score_blob(spec)


def test_the_description_follows_the_files_content(tmp_path):
    (tmp_path / "net.prototxt").write_text(INPUT + CONVOLUTION % ("a", "a"))
    factory = NetFactory(str(tmp_path / "net.prototxt"), variables={"N": "2"})
    first = factory.describe()
    assert first["variables"] == {"N": "2"}
    assert NetFactory(str(tmp_path / "net.prototxt"), device="meta").describe() != first
    assert NetFactory(factory.net, variables={"N": "2"}, device="meta").describe() == first
    (tmp_path / "net.prototxt").write_text(INPUT + CONVOLUTION % ("b", "b"))
    assert factory.describe() != first
    with pytest.raises(ReadError, match="cannot be read"):
        NetFactory(str(tmp_path / "gone")).describe()


def test_an_unknown_blob_is_an_error_of_the_net(tmp_path):
    (tmp_path / "net.prototxt").write_text(INPUT + CONVOLUTION % ("a", "a"))
    network = NetFactory(str(tmp_path / "net.prototxt"), blob="scores")()
    with pytest.raises(CaffePortError, match="scores"):
        network.classify(np.zeros((1, 3, 9, 9), np.float32))


def test_the_crf_is_caffes_layer_on_the_networks_input():
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (9, 11, 3), dtype=np.uint8)
    scores = random.normal(size=(4, 9, 11)).astype(np.float32)
    parameters = CRFParameters(3, 3, 4, 49, 13)
    data = image.astype(np.float32) - np.array((104.008, 116.669, 122.675), np.float32)
    dims = np.array([9, 11], np.float32).reshape(1, 1, 1, 2)
    layer = dense_crf_forward(scores[None], dims, data.transpose(2, 0, 1)[None], parameters)
    factory = CRFFactory(parameters)
    for threads in (1, 2):
        np.testing.assert_array_equal(factory(threads)(scores, image), layer[0].argmax(0))
    rgb = CRFFactory(parameters, "rgb")
    want = refine(scores, np.ascontiguousarray(image[..., ::-1]), parameters).argmax(0)
    np.testing.assert_array_equal(rgb(1)(scores, image), want)
    assert not np.array_equal(want, layer[0].argmax(0))
    assert rgb.describe() != factory.describe()
    assert factory.describe()["bi_xy_std"] == 49
