"""The softmax loss's kernel, in Triton's interpreter, against Caffe's arithmetic in torch."""

import numpy as np
import pytest
import torch

from caffe_port.errors import UsageError
from caffe_port.losses import softmax_loss
from caffe_port.proto import read_net
from caffe_port.spec.ops import op_class
from tests.goldens_dir import cases
from tests.losses.test_softmax import NORMALIZATIONS, case

pytest.importorskip("triton", minversion="3.7", reason="older interpreters do not run on NumPy 2.4")


def both(scores, labels, **options):
    found = []
    for path in ("torch", "triton"):
        leaf = scores.detach().requires_grad_()
        loss = softmax_loss(leaf, labels, path=path, **options)
        (grad,) = torch.autograd.grad(loss, leaf, torch.tensor(3.5, dtype=loss.dtype))
        found.append((loss.detach(), grad))
    return found


def assert_equal_paths(scores, labels, tolerance=1e-13, **options):
    (loss, grad), (kernel_loss, kernel_grad) = both(scores, labels, **options)
    assert (kernel_loss.dtype, kernel_grad.dtype) == (loss.dtype, grad.dtype)
    assert kernel_loss.shape == ()
    assert kernel_loss.item() == pytest.approx(loss.item(), rel=tolerance)
    assert (kernel_grad - grad).abs().max().item() <= tolerance * grad.abs().max().item()


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_every_normalization(normalization, weighted):
    scores, labels = case(2, 5, 7, 9)
    weights = torch.tensor([1.0, 0, 0.5, 4, 2.25]) if weighted else None
    assert_equal_paths(
        scores, labels, ignore_labels=(255, 3), normalization=normalization, class_weights=weights
    )


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_nothing_counted(normalization):
    scores, labels = case(2, 5, 3)
    labels[:] = 255
    for loss, grad in both(scores, labels, ignore_labels=(255,), normalization=normalization):
        assert loss.item() == 0
        assert not grad.any()


@pytest.mark.parametrize("shape", [(3, 21), (1, 1, 2), (2, 129, 3), (1, 300, 5), (1, 2, 3, 2, 2)])
def test_sizes(shape):
    scores, labels = case(*shape)
    assert_equal_paths(scores, labels.clamp(max=shape[1] - 1))
    assert_equal_paths(scores, labels.clamp(max=shape[1] - 1).unsqueeze(1).float())


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float16, 4e-3), (torch.bfloat16, 3e-2), (torch.float32, 4e-7), (torch.float64, 1e-13)],
)
def test_dtypes(dtype, tolerance):
    """Both paths compute at least in float32; the tolerance is the gradient's last bits."""
    scores, labels = case(2, 21, 5, 5)
    assert_equal_paths(scores.to(dtype), labels, tolerance, ignore_labels=(255,))


def test_not_contiguous():
    scores, labels = case(2, 5, 6, 4)
    scores = scores.transpose(2, 3).contiguous(memory_format=torch.channels_last).transpose(2, 3)
    assert not scores.is_contiguous()
    assert_equal_paths(scores, labels, ignore_labels=(255,))


def test_positions_that_do_not_count_may_be_nan():
    scores, labels = case(2, 3, 7)
    (wanted, wanted_grad), _ = both(scores, labels, ignore_labels=(255,))
    scores[(labels == 255)[:, None].expand_as(scores)] = torch.nan
    _, (loss, grad) = both(scores, labels, ignore_labels=(255,))
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-13)
    assert torch.allclose(grad, wanted_grad, rtol=1e-12)


def test_the_probability_is_floored_but_its_diff_is_not():
    scores = torch.tensor([[0.0, 200], [-500, 3]])
    assert_equal_paths(scores, torch.zeros(2), 1e-6)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, in the interpreter
@pytest.mark.parametrize("classes", [3, 200])
def test_infinite_scores(classes):
    scores, labels = case(1, classes, 4)
    scores[:, 1:-1] = -torch.inf
    labels[:] = 0
    assert_equal_paths(scores, labels)
    scores[0, :, 1] = torch.nan
    for loss, grad in both(scores, labels):
        assert loss.isnan()
        assert grad[..., 1].isnan().all()
        assert grad[..., 2].isfinite().all()


def test_differentiating_twice_is_refused():
    scores = torch.randn(2, 3, requires_grad=True)
    loss = softmax_loss(scores, torch.zeros(2), path="triton")
    (grad,) = torch.autograd.grad(loss, scores, create_graph=True)
    with pytest.raises(UsageError, match="use path='torch'"):
        grad.sum().backward()


def test_an_empty_batch_launches_nothing():
    assert softmax_loss(torch.zeros(0, 3, 2), torch.zeros(0, 2), path="triton").item() == 0


@pytest.mark.parametrize(
    ("shape", "labels", "options", "message"),
    [
        ((2,), (2,), {}, "expected"),
        ((2, 0), (2,), {}, "C > 0"),
        ((2, 3, 4), (2, 5), {}, r"labels of shape \(2, 5\); expected \(2, 4\)"),
        ((2, 3, 4), (2, 4), {"normalization": "MEAN"}, "normalization 'MEAN'"),
        ((2, 3), (2,), {"class_weights": torch.ones(4)}, r"class_weights of shape \(4,\)"),
        ((2, 3), (2,), {"class_weights": torch.ones(3, device="meta")}, "several devices"),
    ],
)
@pytest.mark.parametrize("path", ["torch", "triton"])
def test_what_it_refuses(shape, labels, options, message, path):
    with pytest.raises(ValueError, match=message):
        softmax_loss(torch.zeros(shape), torch.zeros(labels), path=path, **options)


@pytest.mark.parametrize("path", ["torch", "triton"])
def test_a_label_outside_is_refused(path):
    with pytest.raises(ValueError, match="label 3; expected 0 to 2"):
        softmax_loss(torch.zeros(2, 3), torch.full((2,), 3), path=path)
    with pytest.raises(ValueError, match="int32"):
        softmax_loss(torch.zeros(2, 3).int(), torch.zeros(2), path=path)


RECORDED = [path for path in cases("layers") if "softmaxloss" in path.name]


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.name)
def test_the_kernel_against_real_caffe(path):
    """Within 8 ulp of what Caffe recorded, loss and diff."""
    message = read_net(path / "net.prototxt").layer[-1]
    op = op_class("SoftmaxWithLoss").parse(message)
    recorded = np.load(path / "case.npz")
    scores = torch.from_numpy(recorded["input/x"]).requires_grad_()
    labels = torch.from_numpy(recorded["input/label"])
    loss = softmax_loss(
        scores, labels, ignore_labels=op.ignore_labels, normalization=op.normalization,
        path="triton",
    )  # fmt: skip
    loss.backward(torch.from_numpy(recorded["topdiff/loss"]))
    for found, key in ((loss.detach(), "data/loss"), (scores.grad, "diff/x")):
        caffe = recorded[key]
        bound = 8 * np.spacing(np.abs(caffe).max())
        assert np.abs(found.numpy() - caffe).max() <= bound, key


def test_there_are_recordings():
    assert len(RECORDED) >= 14
