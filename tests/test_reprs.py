"""What a notebook and an interpreter show: short, escaped, bounded, from this file alone."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

import caffe_port as cp
from caffe_port.evaluation.scoring import ConfusionMatrix
from caffe_port.parity import read_recording
from caffe_port.parity.report import HEADERS
from caffe_port.parity.verify import verify
from caffe_port.prediction.segmentation import Segmentation
from caffe_port.reports.html import folded
from caffe_port.weights import StoredBlob, StoredLayer, WeightFile, read_weights
from tests.goldens_dir import ROOT
from tests.layers.helpers import net_of
from tests.spec.making import conv, layer, spec_of

RECORDING = ROOT / "examples/shapes_voc/caffe_run/recording"
EVIL = "<script>alert(1)</script>"
MOST = 120_000  # characters of HTML


@pytest.fixture(scope="module")
def net():
    return cp.load(RECORDING / "net.prototxt", RECORDING / "net.caffemodel")


class Page(HTMLParser):
    """The tags, the text of each cell, and whether tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.rows: list[list[str]] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag != "img":
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        for name, value in attrs:
            assert not name.startswith("on")
            assert not re.search(r"https?:|url\(|(?<!-)color", value)  # the notebook's colours

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def page(shown) -> Page:
    text = shown._repr_html_()
    assert len(text) < MOST
    found = Page(text)
    assert not {"script", "link", "style", "iframe"} & set(found.tags)
    return found


def test_net(net):
    assert repr(net) == (
        "<Net 'shapes-largefov' (TEST, deeplab2): 41 layers, 321,710 parameters; "
        "data (1, 3, 161, 161) -> fc8_interp (1, 6, 161, 161)>"
    )
    found = page(net)
    assert "details" in found.tags
    assert len(found.rows) == 42
    assert found.rows[0][:3] == ["layer", "type", "bottoms"]
    assert found.rows[2] == ["conv1_1", "Convolution", "data", "conv1_1", "(1, 8, 161, 161)",
                             "224", "5,598,936"]  # fmt: skip
    assert "Net &#x27;shapes-largefov&#x27;" in net._repr_html_()
    assert page(net.spec).rows == found.rows
    assert repr(net.spec) == repr(net).replace("<Net ", "<NetSpec ")


def test_a_net_of_many_layers_is_folded():
    text = "".join(layer(f"l{i}", "ReLU", f"l{i - 1}" if i else "x") for i in range(1000))
    spec = spec_of(f'name: "long" input: "x" input_shape {{ dim: 1 }} {text}')
    found = page(spec)
    assert [row[0] for row in found.rows[:4]] == ["layer", "input", "l0", "l1"]
    assert found.rows[101] == ["801 more"]
    assert found.rows[-1][0] == "l999"
    assert len(found.rows) == 202
    assert len(repr(spec)) < 200


def test_names_are_escaped_and_cut():
    net = net_of(conv(EVIL, "b0") + conv("y" * 5000, "b0"), (1, 3, 4, 4))
    found = page(net)
    assert found.rows[3][0] == EVIL
    assert found.rows[4][0] == "y" * 118 + " .."
    assert len(repr(net)) < 400
    blobs = net(torch.zeros(1, 3, 4, 4))
    assert page(blobs).rows[1][0] == EVIL
    assert len(repr(blobs)) < 300
    stored = net.stored_layers()
    file = WeightFile(tuple(stored), "pt", name=f"\x1b[31m{EVIL}")
    assert page(file).rows[3][0] == EVIL
    assert "\x1b" not in repr(file) + file._repr_html_()


def test_blobs(net):
    with torch.no_grad():
        blobs = net(torch.zeros(1, 3, 161, 161), keep=["fc6", "fc8_interp"])
    assert repr(blobs) == "<Blobs fc6 (1, 128, 21, 21), fc8_interp (1, 6, 161, 161)>"
    found = page(blobs)
    least, greatest = blobs["fc6"].aminmax()
    assert found.rows[1] == ["fc6", "(1, 128, 21, 21)", "float32", "cpu",
                             f"{least:.6g}", f"{greatest:.6g}"]  # fmt: skip
    many = net(torch.zeros(1, 3, 161, 161), keep="all")
    assert repr(many).endswith(f", {len(many) - 8} more>")


def test_blobs_without_values():
    blobs = cp.net.Blobs()
    assert repr(blobs) == "<Blobs >"
    blobs["empty"], blobs["meta"] = torch.zeros(0, 2), torch.zeros(3, device="meta")
    blobs["nan"], blobs["whole"] = torch.tensor([float("nan")]), torch.tensor([1, 5])
    rows = page(blobs).rows
    assert [row[4:] for row in rows[1:]] == [["", ""], ["", ""], ["nan", "nan"], ["1", "5"]]


def test_weight_file():
    file = read_weights(RECORDING / "net.caffemodel")
    assert repr(file) == (
        "<WeightFile 'shapes-largefov' (caffemodel, V2): 46 layers, 321,710 values>"
    )
    rows = page(file).rows
    assert ["conv1_1", "Convolution", "(8, 3, 3, 3), (8,)", "float32", "224"] in rows
    stored = next(layer for layer in file.layers if layer.name == "conv1_1")
    assert repr(stored) == "<StoredLayer 'conv1_1' (Convolution): (8, 3, 3, 3), (8,)>"
    assert repr(stored.blobs[0]) == "<StoredBlob float32 (8, 3, 3, 3)>"


def test_a_layer_of_many_blobs():
    blobs = tuple(StoredBlob(np.zeros(1, np.float32)) for _ in range(10_000))
    file = WeightFile((StoredLayer("x", "LSTM", blobs),), "caffemodel.h5")
    assert page(file).rows[1][4] == "10,000"
    assert len(repr(file.layers[0])) < 120


def test_dense_crf():
    image = np.zeros((4, 6, 3), np.uint8)
    crf = cp.DenseCRF(4, 6, labels=3)
    assert repr(crf) == (
        "<DenseCRF of 6 x 4 pixels, 3 labels (deeplab, normalization after): no kernels>"
    )
    crf.add_gaussian(3, weight=3).add_bilateral((12, 10), 5, image, weight=np.eye(3))
    crf.add_features(np.zeros((4, 6, 2), np.float32), weight=0.5)
    assert repr(crf).endswith(
        ": gaussian, sxy 3, weight 3; bilateral, sxy (12, 10), srgb 5, weight of shape (3, 3); "
        "2 features, weight 0.5>"
    )
    rows = page(crf).rows
    assert rows[1][:2] == ["0", "3"]
    assert int(rows[1][2]) > 0
    assert rows[2][3] == "bilateral, sxy (12, 10), srgb 5"
    assert page(crf.with_weights(1, 2, 3)).rows[3][1] == "3"


def test_confusion_matrix():
    matrix = ConfusionMatrix(3, counts=[[2, 1, 0], [0, 1, 0], [0, 0, 0]])
    assert repr(matrix) == (
        "<ConfusionMatrix of 3 classes, 4 pixels: mean IoU 58.33 %, accuracy 75.00 %>"
    )
    rows = page(matrix).rows
    assert rows[1] == ["0", "66.67", "66.67", "3", "2", "2"]
    assert rows[2] == ["1", "50.00", "100.00", "1", "2", "1"]
    assert rows[3][1] == "nan"
    assert "mean IoU nan %" in repr(ConfusionMatrix(2))
    assert len(page(ConfusionMatrix(255)).rows) == 202


def test_parity_result(net):
    result = verify(net, read_recording(RECORDING))
    assert repr(result).startswith("<VerifyResult shapes-largefov: all ")
    found = page(result)
    assert found.rows[0] == list(HEADERS)
    assert any("fc8_interp" in row for row in found.rows)
    assert "<summary>pass: shapes-largefov: all" in result._repr_html_()
    assert len(repr(result)) < 400


def test_prediction():
    scores = np.zeros((2, 4, 5), np.float32)
    scores[1, 0] = 1
    result = Segmentation(np.zeros((4, 5, 3), np.uint8), scores, [EVIL, "land"])
    assert repr(result) == f"<Segmentation of 5 x 4 pixels: {EVIL} 75.0 %, land 25.0 %>"
    text = result._repr_html_()
    assert "<script" not in text
    assert len(text) < MOST
    assert 'src="data:image/png;base64,' in text


def test_rows_beyond_the_limit_are_not_rendered():
    seen = []
    folded("s", ("i",), range(10_000), lambda i: (seen.append(i), i)[1:])
    assert seen == [*range(100), *range(9900, 10_000)]
