"""FeedbackLoss: the layer against the function, its options, in a net, what it refuses."""

import pytest
import torch

from caffe_port.errors import LayerError
from caffe_port.losses import FeedbackOptions, feedback_loss
from tests.layers.helpers import check_gradients, layer, net_of

TEXT = 'type: "FeedbackLoss" bottom: "b0" bottom: "b1" top: "loss"'
X = torch.randn(2, 3, 2, 3, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([[[[0.0, 2, 1], [255, 1, 0]]], [[[255, 255, 2], [2, 2, 0]]]])


def made(options="", *more, shapes=(X.shape, LABELS.shape), **settings):
    return layer(f"{TEXT} loss_param {{ ignore_label: 255 }} {options}", *shapes, *more, **settings)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("", {}),
        ("similarity: CORRELATION", {"similarity": "correlation"}),
        ("template: MEAN", {"template": "mean"}),
        ("template: TOP_K k: 2 detach: false", {"template": "top-k", "k": 2, "detach": False}),
        ("include_background: false", {"include_background": False}),
        ("correct_only: false", {"correct_only": False}),
        ("pull_weight: 0.5 push_weight: 2", {"pull_weight": 0.5, "push_weight": 2}),
        ("margin: 0.25 eps: 0.5", {"margin": 0.25, "eps": 0.5}),
        ("ignore_label: 1", {"ignore_labels": (255, 1)}),
    ],
)
def test_options(options, wanted):
    module = made(f"feedback_loss_param {{ {options} }}")
    (loss,) = module(X, LABELS)
    assert loss.shape == ()
    settings = {"ignore_labels": (255,), "eps": module.options.eps, **wanted}
    assert loss.item() == feedback_loss(X, LABELS, None, FeedbackOptions(**settings)).item()


def test_defaults_are_the_functions():
    options = layer(TEXT, X.shape, LABELS.shape).options
    assert options.eps == pytest.approx(1e-6)
    assert options == FeedbackOptions(eps=options.eps)


@pytest.mark.parametrize("options", ["", "template: MEAN detach: false similarity: CORRELATION"])
def test_gradients(options):
    scores = torch.randn(2, 4, 2, 3)
    module = made(
        f'bottom: "b2" feedback_loss_param {{ {options} margin: -0.1 eps: 0.01 }}',
        shapes=(X.shape, LABELS.shape, scores.shape),
    )
    if "detach: false" in options:
        check_gradients(module, X, LABELS, scores)
    assert module.spec.bottom_needs_backward == (False, False, False)
    wanted = feedback_loss(X, LABELS, scores, module.options)
    assert module(X, LABELS, scores)[0].item() == wanted.item()


@pytest.mark.parametrize(
    ("iteration", "factor"), [(None, 1), (0, 0.25), (1, 0.5), (3, 1), (4, 1), (10**6, 1)]
)
def test_a_ramp_up_multiplies_the_loss_by_the_solvers_iteration(iteration, factor):
    module = made("feedback_loss_param { ramp_up: 4 template: MEAN detach: false eps: 0.01 }")
    module.iteration = iteration
    whole = feedback_loss(X, LABELS, None, module.options)
    assert module(X, LABELS)[0].item() == factor * whole.item()
    options = "template: MEAN detach: false correct_only: false margin: -0.1 eps: 0.01"
    differentiable = made(
        f'bottom: "b2" feedback_loss_param {{ ramp_up: 4 {options} }}',
        shapes=(X.shape, LABELS.shape, (2, 4, 2, 3)),
    )
    differentiable.iteration = iteration
    check_gradients(differentiable, X, LABELS, torch.randn(2, 4, 2, 3))


def test_the_kernel_ramps_up_too():
    pytest.importorskip("triton", minversion="3.7", reason="runs in its interpreter")
    module = made("feedback_loss_param { ramp_up: 8 }")
    module.iteration = 1
    found = []
    for module.path in ("torch", "triton"):
        leaf = X.clone().requires_grad_()
        (loss,) = module(leaf, LABELS)
        loss.backward()
        found.append((loss, leaf.grad))
    (loss, grad), (kernel, kernel_grad) = found
    assert loss.item() == 0.25 * feedback_loss(X, LABELS, None, module.options).item()
    assert kernel.item() == pytest.approx(loss.item(), rel=1e-6)
    assert torch.allclose(kernel_grad, grad, atol=1e-6)
    assert grad.abs().max() > 0


def test_the_kernel_by_name():
    pytest.importorskip("triton", minversion="3.7", reason="runs in its interpreter")
    module = made("feedback_loss_param { similarity: CORRELATION template: MEAN detach: false }")
    found = []
    for module.path in ("auto", "torch", "triton"):
        leaf = X.clone().requires_grad_()
        (loss,) = module(leaf, LABELS)
        (loss * 0.5).backward()
        found.append((loss, leaf.grad))
    (auto, auto_grad), (loss, grad), (kernel, kernel_grad) = found
    assert auto.item() == loss.item()
    assert torch.equal(auto_grad, grad)
    assert "Feedback" in type(kernel.grad_fn).__name__
    assert kernel.item() == pytest.approx(loss.item(), rel=1e-6)
    assert torch.allclose(kernel_grad, grad, atol=1e-6)


NET = """
layer { name: "fc7" type: "Convolution" bottom: "b0" top: "fc7"
  convolution_param { num_output: 5 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "fc8" type: "Convolution" bottom: "fc7" top: "fc8"
  convolution_param { num_output: 3 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "softmax" type: "SoftmaxWithLoss" bottom: "fc8" bottom: "b1" top: "softmax"
  loss_param { ignore_label: 255 } }
layer { name: "feedback" type: "FeedbackLoss" bottom: "fc7" bottom: "b1" bottom: "fc8"
  top: "feedback" loss_weight: 0.25 loss_param { ignore_label: 255 }
  feedback_loss_param { detach: false } }
"""


def test_together_with_the_softmax_loss_of_a_net():
    net = net_of(NET, X.shape, LABELS.shape, phase="TRAIN")
    blobs = net({"b0": X, "b1": LABELS}, keep="all")
    assert net.module("feedback").spec.loss_weights == (0.25,)
    options = FeedbackOptions(
        detach=False, ignore_labels=(255,), eps=net.module("feedback").options.eps
    )
    wanted = feedback_loss(blobs["fc7"], LABELS, blobs["fc8"], options)
    assert blobs["feedback"].item() == wanted.item()
    weights = net.layer_params("fc7")[0], net.layer_params("fc8")[0]
    found = torch.autograd.grad(0.25 * blobs["feedback"], weights, allow_unused=True)
    assert found[0].abs().max() > 0
    assert found[1] is None  # scores only choose


def test_a_top_is_added_where_none_is_given():
    text = 'layer { name: "op" type: "FeedbackLoss" bottom: "b0" bottom: "b1" }'
    net = net_of(text, X.shape, (2, 2, 3))
    (loss,) = net({"b0": X, "b1": LABELS[:, 0].clamp(max=2)}).values()
    assert loss.shape == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("feedback_loss_param { k: 0 }", "k is 0; expected at least 1"),
        ("feedback_loss_param { eps: 0 }", "eps is 0"),
        ("feedback_loss_param { margin: 2 }", "margin is 2"),
        ("loss_param { normalization: VALID }", "loss_param has normalization"),
        ("loss_param { normalize: true }", "loss_param has normalize"),
        ("feedback_loss_param { push_weight: inf }", "push_weight is inf"),
    ],
)
def test_options_it_refuses(options, message):
    with pytest.raises(LayerError, match=message):
        layer(f"{TEXT} {options}", X.shape, LABELS.shape)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 3, 2, 2), (2, 1, 3, 3)), "one per position"),
        (((2, 3, 2, 2), (1, 2, 2, 2)), "expected 2 items"),
        (((2,), (2,)), "expected \\(N, C, ...\\)"),
    ],
)
def test_shapes_it_refuses(shapes, message):
    with pytest.raises(LayerError, match=message):
        layer(TEXT, *shapes)


def test_scores_of_another_grid_are_refused():
    with pytest.raises(LayerError, match="the same grid"):
        layer(f'{TEXT} bottom: "b2"', X.shape, LABELS.shape, (2, 3, 4, 4))


def test_a_label_outside_is_refused_by_name():
    with pytest.raises(LayerError, match=r"op.*FeedbackLoss.*label 3; expected 0 to 2"):
        layer(TEXT, X.shape, LABELS.shape)(X, torch.full_like(LABELS, 3))
