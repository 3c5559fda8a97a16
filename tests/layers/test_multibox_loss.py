import math
from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_port.errors import LayerError
from caffe_port.layers.detection_losses import FREE, OUTSIDE, match
from caffe_port.net import Net
from caffe_port.parity import read_recording
from caffe_port.spec import NetSpec
from tests.goldens_dir import GOLDENS
from tests.layers.helpers import layer

TEXT = (
    'type: "MultiBoxLoss" bottom: "b0" bottom: "b1" bottom: "b2" bottom: "b3" top: "y" '
    "multibox_loss_param {{ {} }}"
)
CASES = sorted((GOLDENS / "layers").glob("ssd_multibox_loss_*"))


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_losses_and_diffs_are_caffes(folder: Path):
    recording = read_recording(folder)
    net = Net(NetSpec.read(folder / "net.prototxt", phase="TRAIN"))
    losses = [spec for spec in net.spec.layers if spec.type == "MultiBoxLoss"]
    assert len(losses) >= 8
    for spec in losses:
        bottoms = [torch.tensor(recording.data[name]) for name in spec.bottoms]
        predictions = [x.requires_grad_() for x in bottoms[:2]]
        (loss,) = net.module(spec.name)(*bottoms)
        wanted = float(recording.data[spec.tops[0]])
        assert loss.item() == pytest.approx(wanted, rel=3e-6), spec.name
        (loss * float(recording.diffs[spec.tops[0]])).backward()
        for name, x in zip(spec.bottoms, predictions, strict=False):
            diff = recording.diffs[name]
            peak = np.abs(diff).max()
            np.testing.assert_allclose(x.grad.numpy(), diff, rtol=0, atol=3e-6 * peak)


def truth(*rows):
    return torch.tensor(rows, dtype=torch.float32).view(1, 1, -1, 8)


PRIORS = torch.tensor([[0.0, 0.0, 0.4, 0.4], [0.5, 0.5, 0.9, 0.9], [0.5, 0.0, 0.9, 0.4]])
CORNERS = "num_classes: 2 neg_pos_ratio: 1"


def loss_of(options, scores, rows, loc=None):
    module = layer(TEXT.format(options), (1, 12), (1, 6), (1, 2, 12), tuple(rows.shape))
    priors = torch.stack([PRIORS.reshape(-1), torch.ones(12)])[None]
    loc = torch.zeros(1, 12) if loc is None else loc
    return module(loc, torch.tensor(scores).view(1, 6), priors, rows)[0]


def test_by_hand():
    """One matched prior, 0.1 off in each coordinate; the worse of the others is the negative."""
    rows = truth([0, 1, 0, 0.1, 0.1, 0.5, 0.5, 0])
    scores = [0.0, 0.0, 2.0, 0.0, 0.0, 1.0]
    places = 4 * 0.5 * 0.1**2
    classes = math.log(2) + math.log(1 + math.e)
    assert loss_of(CORNERS, scores, rows).item() == pytest.approx(places + classes, rel=1e-6)


def test_no_true_box_no_loss():
    rows = truth([-1] * 8)
    loc = torch.zeros(1, 12, requires_grad=True)
    loss = loss_of(CORNERS, [1.0] * 6, rows, loc)
    loss.backward()
    assert loss.item() == 0
    assert loc.grad.tolist() == [[0.0] * 12]


def test_a_class_out_of_range_is_refused():
    for label in (0, 2, -1):
        with pytest.raises(LayerError, match=f"a true box of class {label}; expected 0 to 1"):
            loss_of(CORNERS, [0.0] * 6, truth([0, label, 0, 0, 0, 0.4, 0.4, 0]))


def test_matching_by_hand():
    boxes = PRIORS.numpy()
    true = np.array([[0, 0, 0.4, 0.3], [0, 0, 0.4, 0.35], [0.6, 0.6, 1, 1]], np.float32)
    index, largest = match(boxes, true, None, False)
    assert index.tolist() == [1, 2, FREE]
    np.testing.assert_allclose(largest, [0.875, 0.09 / 0.23, 0], rtol=1e-5)
    index, _ = match(np.concatenate([boxes, boxes[:1]]), true, 0.5, False)
    assert index.tolist() == [1, 2, FREE, 0]
    index, _ = match(boxes - 0.01, true, None, True)
    assert index.tolist() == [OUTSIDE, 2, OUTSIDE]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "num_classes is missing"),
        ("num_classes: 2 background_label_id: 2", "background_label_id is 2; expected less"),
        ("num_classes: 2 share_location: false", "mining needs share_location: true"),
        ("num_classes: 2 do_neg_mining: false", "do_neg_mining: false with mining_type: MAX_NEG"),
        ("num_classes: 2 mining_type: HARD_EXAMPLE sample_size: 0", "sample_size is 0"),
        ("num_classes: 3 map_object_to_agnostic: true", "map_object_to_agnostic needs"),
    ],
)
def test_options_without_a_meaning_are_refused(options, message):
    with pytest.raises(LayerError, match=message):
        layer(TEXT.format(options), (1, 12), (1, 6), (1, 2, 12), (1, 1, 1, 8))
