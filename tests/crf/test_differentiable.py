"""Gradients through mean field: exact kernels in float64, the lattice by its transpose."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caffe_port.crf import DenseCRF
from caffe_port.crf.differentiable import mean_field, mean_field_scores
from caffe_port.errors import UsageError
from tests.crf import reference
from tests.crf.making import problem
from tests.goldens_dir import ROOT

LABELS = 3
NORMALIZATIONS = ["after", "before", "symmetric", "none"]


def lattice(height, width, labels=LABELS, seed=0, **options):
    image, unary = problem(height, width, labels, seed)
    crf = DenseCRF(height, width, labels, **options)
    crf.add_gaussian(2, weight=3).add_bilateral(8, 15, image, weight=4)
    return crf, unary, image


def matrix_of(crf, kernel, adjoint):
    """The kernel as (N, N), column by column."""
    pixels = crf.height * crf.width
    columns = []
    for start in range(0, pixels, crf.labels):
        values = np.zeros((crf.labels, pixels), np.float32)
        count = min(crf.labels, pixels - start)
        values[range(count), range(start, start + count)] = 1
        shaped = values.reshape(crf.labels, crf.height, crf.width)
        columns.append(
            crf.filtered(shaped, kernel, adjoint=adjoint).reshape(crf.labels, -1)[:count]
        )
    return np.concatenate(columns).T


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("kernel", [0, 1])
@pytest.mark.parametrize("size", [(1, 1), (6, 7), (13, 10)], ids=str)
def test_the_adjoint_is_the_transpose(size, kernel, exact, normalization):
    crf, _, _ = lattice(*size, labels=21, exact=exact, normalization=normalization)
    forward, adjoint = matrix_of(crf, kernel, False), matrix_of(crf, kernel, True)
    assert np.abs(adjoint - forward.T).max() <= 1e-6 * np.abs(forward).max()


def test_the_order_of_the_axes_and_the_side_of_n_matter():
    """Else the test above would pass with the kernel as its own transpose."""
    crf, _, _ = lattice(13, 10, labels=21, normalization="none")
    bilateral = matrix_of(crf, 1, False)
    assert np.abs(bilateral - bilateral.T).max() > 1e-4 * np.abs(bilateral).max()
    crf, _, _ = lattice(13, 10, labels=21)
    position = matrix_of(crf, 0, False)
    assert np.abs(position - position.T).max() > 1e-2 * np.abs(position).max()


def test_the_matrix_is_that_of_the_reference_lattice():
    crf, _, image = lattice(6, 7, labels=21, normalization="none")
    want = reference.lattice_matrix(reference.bilateral(image, 8, 15))
    assert np.abs(matrix_of(crf, 1, True) - want.T).max() < 1e-6 * want.max()


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_do_not_change_the_adjoint(threads):
    values = np.random.default_rng(0).normal(size=(LABELS, 40, 70)).astype(np.float32)
    one, two = (lattice(40, 70, threads=n)[0] for n in (1, threads))
    for kernel in (0, 1):
        alike = [crf.filtered(values, kernel, adjoint=True) for crf in (one, two)]
        assert np.array_equal(*alike)


def test_weighted_filters_sum_to_the_messages():
    crf, unary, _ = lattice(9, 11)
    sums = 3 * crf.filtered(unary, 0) + 4 * crf.filtered(unary, 1)
    assert np.allclose(sums, crf.messages(unary), atol=1e-5)


@pytest.mark.parametrize("iterations", [0, 1, 5, 10])
@pytest.mark.parametrize("normalization", NORMALIZATIONS[:3])
def test_the_values_are_those_of_infer(iterations, normalization):
    crf, unary, _ = lattice(13, 10, normalization=normalization)
    q = mean_field(torch.from_numpy(unary), crf, [3, 4], iterations)
    assert q.dtype == torch.float32
    assert np.abs(q.numpy() - crf.infer(unary, iterations)).max() < 2e-5


def test_vectors_and_matrices_weigh_as_in_infer():
    crf, unary, _ = lattice(9, 8)
    costs = np.random.default_rng(1).normal(size=(LABELS, LABELS))
    weights = [np.array([-1.0, -2.0, 0.5]), costs]
    want = crf.with_weights(*weights).infer(unary, 4)
    given = [torch.from_numpy(weight) for weight in weights]
    q = mean_field(torch.from_numpy(unary), crf, given, 4)
    assert np.abs(q.numpy() - want).max() < 2e-5
    other = mean_field(torch.from_numpy(unary), crf, given, 4, symmetric=False)
    assert np.abs(other.numpy() - want).max() > 1e-2


def test_exact_kernels_are_those_of_the_reference():
    _, unary, image = lattice(6, 5)
    features = [reference.positions(6, 5, 2, 2), reference.bilateral(image, 8, 15)]
    kernels = [(reference.gaussian_matrix(f), w) for f, w in zip(features, (3, 4), strict=True)]
    want = reference.mean_field(unary.reshape(LABELS, -1).astype(np.float64), kernels, 5)
    shaped = [torch.from_numpy(f.reshape(6, 5, -1)) for f in features]
    q = mean_field(torch.from_numpy(unary).double(), shaped, [3.0, 4.0], 5)
    assert np.abs(q.numpy().reshape(LABELS, -1) - want).max() < 1e-12


@pytest.mark.parametrize("shape", [(), (LABELS,), (LABELS, LABELS)], ids=str)
@pytest.mark.parametrize("symmetric", [True, False])
def test_gradients_through_exact_kernels(shape, symmetric):
    torch.manual_seed(0)
    unary = torch.randn(LABELS, 3, 4, dtype=torch.float64, requires_grad=True)
    features = [torch.randn(3, 4, d, dtype=torch.float64, requires_grad=True) for d in (2, 5)]
    weights = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for _ in range(2)]

    def call(unary, first, second, *weights):
        return mean_field(unary, (first, second), weights, 3, symmetric=symmetric)

    assert torch.autograd.gradcheck(call, (unary, *features, *weights))


def through_matrices(unary, crf, weights, iterations):
    """The same inference in float64, with the lattice's kernels as matrices."""
    wide = DenseCRF(crf.height, crf.width, crf.labels, normalization=crf.normalization)
    wide._kernels, wide._weights = crf._kernels, crf._weights
    matrices = [torch.from_numpy(matrix_of(wide, k, False)).double() for k in (0, 1)]
    scores = -unary
    for _ in range(iterations):
        q = scores.softmax(0).flatten(1)
        messages = [(q @ matrix.T).view_as(unary) for matrix in matrices]
        scores = -unary + sum(w * m for w, m in zip(weights, messages, strict=True))
    return scores.softmax(0)


@pytest.mark.parametrize("normalization", NORMALIZATIONS[:3])
def test_gradients_through_the_lattice_are_those_through_its_matrices(normalization):
    crf, energies, _ = lattice(8, 9, normalization=normalization)
    above = torch.randn(LABELS, 8, 9, generator=torch.Generator().manual_seed(0)).double()
    found = []
    for infer in (mean_field, through_matrices):
        unary = torch.from_numpy(0.3 * energies).double().requires_grad_()
        weights = torch.tensor([0.7, 1.3], dtype=torch.float64, requires_grad=True)
        (infer(unary, crf, weights, 5) * above).sum().backward()
        found.append((unary.grad, weights.grad))
    for ours, theirs in zip(*found, strict=True):
        assert theirs.abs().max() > 1e-2
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


def test_gradients_through_the_lattice_by_finite_differences():
    crf, energies, _ = lattice(8, 9)
    random = torch.Generator().manual_seed(1)
    above = torch.randn(LABELS, 8, 9, generator=random)
    toward = torch.randn(LABELS, 8, 9, generator=random)

    def loss(unary, weights):
        return (mean_field(unary, crf, weights, 5) * above).double().sum()

    unary = torch.from_numpy(0.3 * energies).requires_grad_()
    weights = torch.tensor([0.7, 1.3], requires_grad=True)
    loss(unary, weights).backward()
    step = 1e-2
    with torch.no_grad():
        along = loss(unary + step * toward, weights) - loss(unary - step * toward, weights)
        assert along / (2 * step) == pytest.approx(float((unary.grad * toward).sum()), rel=5e-3)
        for k in range(2):
            offset = step * torch.eye(2)[k]
            difference = loss(unary, weights + offset) - loss(unary, weights - offset)
            assert difference / (2 * step) == pytest.approx(float(weights.grad[k]), rel=5e-3)


def test_second_derivatives():
    crf, energies, _ = lattice(4, 5)

    def gradient(unary, infer):
        weights = torch.tensor([0.7, 1.3], dtype=torch.float64)
        q = infer(unary, crf, weights, 3)
        return torch.autograd.grad(q[0].square().sum(), unary, create_graph=True)[0]

    found = []
    for infer in (mean_field, through_matrices):
        unary = torch.from_numpy(0.3 * energies).double().requires_grad_()
        gradient(unary, infer).square().sum().backward()
        found.append(unary.grad)
    assert torch.allclose(*found, rtol=1e-3, atol=1e-5 * float(found[1].abs().max()))


def test_scores_are_the_logarithm_and_ruled_out_labels_have_no_gradient():
    crf, energies, _ = lattice(4, 5)
    unary = torch.from_numpy(energies)
    unary[1, 2, 3] = torch.inf
    unary.requires_grad_()
    scores = mean_field_scores(unary, crf, [3, 4])
    q = mean_field(unary, crf, [3, 4])
    assert torch.allclose(scores.log_softmax(0).exp(), q, atol=1e-6)
    assert q[1, 2, 3] == 0
    q[0].sum().backward()
    assert torch.isfinite(unary.grad).all()
    assert unary.grad[1, 2, 3] == 0


def test_training_finds_weights():
    crf, energies, _ = lattice(12, 10)
    unary = torch.from_numpy(energies)
    target = mean_field(unary, crf, [1.5, 0.5], 3)
    weights = torch.tensor([0.5, 1.5], requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=60, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = 100 * (mean_field(unary, crf, weights, 3) - target).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert weights.tolist() == pytest.approx([1.5, 0.5], abs=0.02)


@pytest.mark.parametrize(
    ("unary", "weights", "says"),
    [
        (torch.zeros(3, 4), [1, 1], r"unary is \(3, 4\)"),
        (torch.zeros(3, 4, 5, dtype=torch.int64), [1, 1], "floating point"),
        (torch.zeros(3, 5, 4), [1, 1], r"the CRF is \(3, 4, 5\)"),
        (torch.zeros(3, 4, 5), [1], "1 weights for 2 kernels"),
        (torch.zeros(3, 4, 5), [1, torch.zeros(2)], r"a weight is \(2,\)"),
        (torch.full((3, 4, 5), torch.nan), [1, 1], "finite"),
    ],
)
def test_wrong_arguments(unary, weights, says):
    with pytest.raises(UsageError, match=says):
        mean_field(unary, lattice(4, 5)[0], weights)


def test_wrong_features_and_kernels():
    with pytest.raises(UsageError, match=r"features are \(4, 4, 2\)"):
        mean_field(torch.zeros(3, 4, 5), [torch.zeros(4, 4, 2)], [1])
    with pytest.raises(UsageError, match="at most 2048 pixels, got 50 x 60; give a DenseCRF"):
        mean_field(torch.zeros(3, 50, 60), [torch.zeros(50, 60, 2)], [1])
    with pytest.raises(UsageError, match="kernel is 2; there are 2"):
        lattice(4, 5)[0].filtered(np.zeros((3, 4, 5)), 2)
    with pytest.raises(UsageError, match="iterations is -1"):
        mean_field(torch.zeros(3, 4, 5), lattice(4, 5)[0], [1, 1], -1)


def test_the_documents_example():
    text = (ROOT / "docs" / "crf.md").read_text(encoding="utf-8")
    start = text.index("```python", text.index("## Training through the CRF")) + len("```python")
    image, unary = problem(9, 11, 21)
    logits = torch.from_numpy(-unary).requires_grad_()
    names = {"DenseCRF": DenseCRF, "height": 9, "width": 11, "image_rgb": image, "logits": logits}
    names["truth"] = logits.argmax(0)
    exec(text[start : text.index("```", start)], names)  # our own document
    assert logits.grad.abs().max() > 0
    assert names["weights"].grad.abs().min() > 0
