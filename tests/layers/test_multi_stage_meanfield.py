"""MultiStageMeanfield against a lattice written out as matrices, in float64, after the fork.

Source of the reference: torrvision/caffe meanfield_iteration.cpp (forward and backward) and
modified_permutohedral.cpp; no recording exists.
"""

import numpy as np
import pytest
import torch

from caffe_port.errors import FormatError, LayerError
from tests.crf import reference
from tests.layers.helpers import layer

LABELS, HEIGHT, WIDTH = 3, 5, 7  # 35 pixels: the last group of four is not full
SCORES, IMAGE = (2, LABELS, HEIGHT, WIDTH), (2, 3, HEIGHT, WIDTH)
OPTIONS = "num_iterations: 3 theta_alpha: 9 theta_beta: 6 theta_gamma: 2"


def text(options=OPTIONS):
    blobs = 'bottom: "b0" bottom: "b1" bottom: "b2" top: "pred"'
    return f'type: "MultiStageMeanfield" {blobs} multi_stage_meanfield_param {{ {options} }}'


def module(options=OPTIONS, **kwargs):
    return layer(text(options), SCORES, SCORES, IMAGE, **kwargs)


def bottoms(seed=3):
    rng = np.random.default_rng(seed)
    scores, start = (torch.from_numpy(rng.normal(size=SCORES).astype("f4")) for _ in range(2))
    return scores, start, torch.from_numpy(rng.integers(-90, 90, IMAGE).astype("f4"))


def learned(made, seed=4):
    """Gives a layer full, unsymmetric matrices."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return made


def kernels(image):
    """Both lattices of one item as normalised matrices (pixels, pixels), float64."""
    colours = image.numpy().transpose(1, 2, 0).astype(np.float32)
    features = (
        reference.positions(HEIGHT, WIDTH, 2, 2),
        reference.bilateral(colours, 9, 6),
    )
    for rows in features:
        matrix = reference.lattice_matrix(rows)
        yield torch.from_numpy(matrix / (matrix.sum(1, keepdims=True) + 1e-20))


def expected(scores, start, images, spatial, bilateral, compatibility, iterations=3):
    results = []
    for i, image in enumerate(images):
        near, alike = kernels(image)
        unary, state = scores[i].reshape(LABELS, -1), start[i].reshape(LABELS, -1)
        for _ in range(iterations):
            q = state.softmax(0)
            passed = spatial @ (q @ near.T) + bilateral @ (q @ alike.T)
            state = unary - compatibility @ passed
        results.append(state.reshape(LABELS, HEIGHT, WIDTH))
    return torch.stack(results)


def test_forward_and_backward_are_the_forks():
    made, blobs = learned(module()), bottoms()
    scores, start = (blob.clone().requires_grad_() for blob in blobs[:2])
    (top,) = made(scores, start, blobs[2])
    wanted_inputs = [blob.double().requires_grad_() for blob in blobs[:2]]
    matrices = [
        made.param(name).detach().double().reshape(LABELS, LABELS).requires_grad_()
        for name in ("spatial", "bilateral", "compatibility")
    ]
    wanted = expected(*wanted_inputs, blobs[2], *matrices)
    torch.testing.assert_close(top.double(), wanted, rtol=1e-5, atol=1e-5)

    diff = torch.randn(SCORES, generator=torch.Generator().manual_seed(9))
    top.backward(diff)
    wanted.backward(diff.double())
    for ours, theirs in zip((scores, start), wanted_inputs, strict=True):
        torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-4, atol=2e-5)
    for name, theirs in zip(("spatial", "bilateral", "compatibility"), matrices, strict=True):
        ours = made.param(name).grad.reshape(LABELS, LABELS).double()
        torch.testing.assert_close(ours, theirs.grad, rtol=1e-4, atol=1e-4)


def test_features_of_another_number_of_channels():
    shape = (1, 1, HEIGHT, WIDTH)
    made = layer(text(), SCORES, SCORES, (2, 1, HEIGHT, WIDTH))
    scores, start, image = bottoms()
    grey = image[:, :1]
    (top,) = made(scores, start, grey)
    (tripled,) = module()(scores, start, torch.cat([grey, *[torch.zeros_like(grey)] * 2], 1))
    assert top.shape == tripled.shape
    assert torch.isfinite(top).all()
    alone = layer(text(), (1, *SCORES[1:]), (1, *SCORES[1:]), shape)
    torch.testing.assert_close(alone(scores[:1], start[:1], grey[:1])[0], top[:1])


def test_it_starts_with_potts_and_the_given_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = "spatial_filter_weight: 3 bilateral_filter_weight: 5 threshold: 2"
    made = module(f"{OPTIONS} {given} compatibility_mode: POTTS")
    eye = torch.eye(LABELS)[None, None]
    assert torch.equal(made.param("spatial"), 3 * eye)
    assert torch.equal(made.param("bilateral"), 5 * eye)
    assert torch.equal(made.param("compatibility"), -eye)
    zero = module(f"{OPTIONS} compatibility_mode: POTTS_ZERO")
    assert torch.equal(zero.param("compatibility"), 1 - eye)
    lists = 'spatial_filter_weights_str: "1 2 3" bilateral_filter_weights_str: "4 5"'
    listed = module(f"{OPTIONS} {lists}")
    assert listed.param("spatial")[0, 0].diagonal().tolist() == [1, 2, 3]
    assert listed.param("bilateral")[0, 0].diagonal().tolist() == [4, 5, 5]


def test_the_forks_files_of_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spatial.par").write_text("1.5\n2.5\n3.5\n99\n")
    made = module()
    assert made.param("spatial")[0, 0].diagonal().tolist() == [1.5, 2.5, 3.5]
    (tmp_path / "bilateral.par").write_text("1\n2")
    with pytest.raises(LayerError, match=r"'bilateral.par' in this folder holds 2 numbers"):
        module()
    (tmp_path / "bilateral.par").write_text("1 2 x")
    with pytest.raises(LayerError, match=r"'bilateral.par' in this folder: could not convert"):
        module()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("num_iterations: 1 theta_alpha: 1 theta_beta: 1 theta_gamma: 1", "num_iterations is 1"),
        ("num_iterations: 2 theta_alpha: 0 theta_beta: 1 theta_gamma: 1", "theta_alpha is 0"),
        (f"{OPTIONS} eps: 0.1", "eps is 0.1"),
        (f'{OPTIONS} spatial_filter_weights_str: "3 a"', "expected numbers"),
        (f'{OPTIONS} spatial_filter_weights_str: "1 2 3 4"', "4 weights for 3 labels"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(LayerError, match=message):
        module(options)


def test_what_the_fork_requires_is_required():
    with pytest.raises(FormatError, match="lacks theta_gamma"):
        module("num_iterations: 5 theta_alpha: 160 theta_beta: 3")


def test_an_image_of_another_size_is_refused():
    with pytest.raises(LayerError, match="at the size of the scores"):
        layer(text(), SCORES, SCORES, (2, 3, HEIGHT, WIDTH + 1))


def test_values_that_are_not_finite_are_refused():
    scores, start, image = bottoms()
    image[0, 0, 0, 0] = float("nan")
    with pytest.raises(LayerError, match="op"):
        module()(scores, start, image)
    with pytest.raises(LayerError, match="finite"):
        module()(scores, start * float("nan"), bottoms()[2])
