"""InfogainLoss: BVLC's on scores, the forks' on probabilities, the matrix from either place."""

import math

import pytest
import torch

from caffe_port.errors import LayerError
from caffe_port.proto import caffe_pb2
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "InfogainLoss" bottom: "b0" bottom: "b1" bottom: "b2" top: "loss"'
TWO_BOTTOMS = 'type: "InfogainLoss" bottom: "b0" bottom: "b1" top: "loss"'
H = torch.tensor([[1.0, 0.5, 0], [0, 2, 0], [0.25, 0, 1]])
X = torch.tensor([[0.1, 0.9, -1], [2, 0, 0.5]])
LABELS = torch.tensor([2.0, 0])


def by_hand(prob, labels):
    rows = [(H[int(t)] * p.log()).sum() for t, p in zip(labels, prob, strict=True)]
    return -sum(rows)


def test_bvlc_computes_the_softmax_itself():
    (loss,) = layer(TEXT, (2, 3), (2,), (3, 3))(X, LABELS, H)
    assert torch.allclose(loss, by_hand(X.softmax(1), LABELS) / 2)


def test_the_forks_take_probabilities():
    p = X.softmax(1)
    (loss,) = layer(TEXT, (2, 3), (2,), (3, 3), dialect="deeplab2")(p, LABELS, H)
    assert torch.allclose(loss, by_hand(p, LABELS) / 2)


def test_the_identity_is_the_softmax_loss():
    (loss,) = layer(TEXT, (2, 3), (2,), (3, 3))(X, LABELS, torch.eye(3))
    assert torch.allclose(loss, torch.nn.functional.cross_entropy(X, LABELS.long()))


@pytest.mark.parametrize(
    ("mode", "divisor"), [("VALID", 3), ("FULL", 4), ("BATCH_SIZE", 2), ("NONE", 1)]
)
def test_normalization_and_ignored_labels(mode, divisor):
    x, labels = torch.rand(2, 3, 2), torch.tensor([[0.0, 9], [1, 2]])
    text = f"{TEXT} loss_param {{ ignore_label: 9 normalization: {mode} }}"
    module = layer(text, (2, 3, 2), (2, 2), (3, 3))
    kept = [(0, 0), (1, 0), (1, 1)]
    prob = torch.stack([x[n, :, i].softmax(0) for n, i in kept])
    wanted = by_hand(prob, [labels[k] for k in kept]) / divisor
    assert torch.allclose(module(x, labels, H)[0], wanted)
    check_gradients(module, x, labels, H)


def test_the_class_axis_may_be_another():
    x, labels = torch.rand(2, 2, 3), torch.tensor([[0.0, 1], [1, 2]])
    text = TEXT + " infogain_loss_param { axis: -1 } loss_param { normalization: BATCH_SIZE }"
    (loss,) = layer(text, (2, 2, 3), (2, 2), (3, 3))(x, labels, H)
    # all that lies before the class axis is the batch
    assert torch.allclose(loss, by_hand(x.softmax(-1).flatten(0, 1), labels.flatten()) / 4)


def test_the_second_top_is_the_probability():
    text = TEXT + ' top: "p" loss_weight: 1 loss_weight: 0'
    _, p = layer(text, (2, 3), (2,), (3, 3))(X, LABELS, H)
    assert torch.allclose(p, X.softmax(1))


def test_gradients():
    check_gradients(layer(TEXT, (2, 3), (2,), (3, 3)), X, LABELS, H)
    old = layer(TEXT, (2, 3), (2,), (3, 3), dialect="deeplab2")
    check_gradients(old, X.softmax(1), LABELS, H)


def test_the_floor_does_not_stop_the_diff():
    x = torch.tensor([[0.0, -200, -200]], requires_grad=True)
    (loss,) = layer(TEXT, (1, 3), (1,), (3, 3))(x, torch.ones(1), torch.eye(3))
    assert loss.item() == pytest.approx(20 * math.log(10), rel=1e-6)
    loss.backward()
    assert torch.equal(x.grad, torch.tensor([[1.0, -1, 0]]))


def stored(tmp_path, values):
    path = tmp_path / "h.binaryproto"
    shape = {"num": 1, "channels": 1, "height": 3, "width": len(values) // 3}
    path.write_bytes(caffe_pb2.BlobProto(data=values, **shape).SerializeToString())
    return f'{TWO_BOTTOMS} infogain_loss_param {{ source: "{path}" }}'


def test_the_matrix_from_a_file(tmp_path):
    module = layer(stored(tmp_path, H.flatten().tolist()), (2, 3), (2,))
    assert torch.equal(module(X, LABELS)[0], layer(TEXT, (2, 3), (2,), (3, 3))(X, LABELS, H)[0])
    assert "op.matrix" not in module.state_dict()


def test_files_it_refuses(tmp_path):
    with pytest.raises(LayerError, match="holds 6 values; expected 3 x 3"):
        layer(stored(tmp_path, [1.0] * 6), (2, 3), (2,))
    text = stored(tmp_path, [1.0] * 9)
    (tmp_path / "h.binaryproto").write_bytes(b"\x00\xff")
    with pytest.raises(LayerError, match="byte"):
        layer(text, (2, 3), (2,))
    (tmp_path / "h.binaryproto").unlink()
    with pytest.raises(LayerError, match="No such file"):
        layer(text, (2, 3), (2,))


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        (TWO_BOTTOMS, ((2, 3), (2,)), "no matrix"),
        (TEXT + " loss_param { normalize: true }", ((2, 3), (2,), (3, 3)), "normalize is not"),
        (TEXT, ((2, 3), (2,), (3, 2)), "expected 3 x 3"),
        (TEXT, ((2, 3), (2, 2), (3, 3)), "4 labels"),
    ],
)
def test_what_it_refuses(text, shapes, message):
    with pytest.raises(LayerError, match=message):
        layer(text, *shapes)


def test_a_label_outside_is_refused():
    with pytest.raises(LayerError, match="label 3"):
        layer(TEXT, (2, 3), (2,), (3, 3))(X, torch.tensor([0.0, 3]), H)


def test_the_forks_have_no_second_top():
    text = TEXT + ' top: "p" loss_weight: 1 loss_weight: 0'
    assert len(layer(text, (2, 3), (2,), (3, 3))(X, LABELS, H)) == 2
    with pytest.raises(LayerError, match=r"2 top blobs; .* expected 1"):
        layer(text, (2, 3), (2,), (3, 3), dialect="deeplab2")
