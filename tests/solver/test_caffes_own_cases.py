"""Facts of BVLC's tests of nets and solvers that no other test here has (docs/caffe_tests.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import caffe_port.pycaffe as caffe

LOSSES = """force_backward: true
input: "x" input_shape {{ dim: 3 dim: 4 }} input: "t" input_shape {{ dim: 3 dim: 2 }}
layer {{ name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
  inner_product_param {{ num_output: 2 weight_filler {{ type: "gaussian" }} }} }}
layer {{ name: "mid" type: "TanH" bottom: "ip" top: "mid" loss_weight: {0} }}
layer {{ name: "loss" type: "EuclideanLoss" bottom: "mid" bottom: "t" top: "loss"
  loss_weight: {1} }}
"""


def diff_for(tmp_path: Path, mid: float, loss: float) -> np.ndarray:
    """The diff of the learned weight, which is compared with the formula's."""
    (tmp_path / "net.prototxt").write_text(LOSSES.format(mid, loss))
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TRAIN)
    random = np.random.default_rng(1)
    for blob in (net.blobs["x"], net.blobs["t"], net.params["ip"][0]):
        blob.data[...] = random.normal(size=blob.data.shape)
    net.forward()
    net.backward()
    x, t, w = net.blobs["x"].data, net.blobs["t"].data, net.params["ip"][0].data
    top = np.tanh(x @ w.T)
    wanted = ((mid + loss * (top - t) / 3) * (1 - top**2)).T @ x
    np.testing.assert_allclose(net.params["ip"][0].diff, wanted, rtol=1e-5, atol=1e-6)
    return net.params["ip"][0].diff.copy()


def test_loss_weights_scale_and_add(tmp_path: Path) -> None:
    """NetTest, LossWeight, LossWeightMidNet and ComboLossWeight."""
    loss, mid = diff_for(tmp_path, 0, 1), diff_for(tmp_path, 1, 0)
    for factor in (0.5, -1.3, 10.0):
        close = {"rtol": 1e-5, "atol": 1e-5}
        np.testing.assert_allclose(diff_for(tmp_path, 0, factor), factor * loss, **close)
        np.testing.assert_allclose(diff_for(tmp_path, factor, 0), factor * mid, **close)
        both = diff_for(tmp_path, factor, 2)
        np.testing.assert_allclose(both, factor * mid + 2 * loss, **close)


LEAST_SQUARES = """
input: "x" input_shape {{ dim: {batch} dim: 6 }} input: "t" input_shape {{ dim: {batch} dim: 1 }}
layer {{ name: "ip" type: "InnerProduct" bottom: "x" top: "ip" param {{ {name} }}
  inner_product_param {{ num_output: 1 weight_filler {{ type: "gaussian" std: 0.1 }} }} }}
{again}layer {{ name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "t" top: "loss" }}
"""
AGAIN = """layer { name: "ip2" type: "InnerProduct" bottom: "x" top: "ip2" param { name: "w" }
  inner_product_param { num_output: 1 bias_term: false } }
layer { name: "loss2" type: "EuclideanLoss" bottom: "ip2" bottom: "t" top: "loss2" }
"""
TYPES = {
    "SGD": "momentum: 0.5", "Nesterov": "momentum: 0.5", "AdaGrad": "delta: 1e-3",
    "RMSProp": "rms_decay: 0.95 delta: 1e-3", "AdaDelta": "momentum: 0.95 delta: 1e-3",
    "Adam": "momentum: 0.9 momentum2: 0.999 delta: 1e-3",
}  # fmt: skip
STEPS, BATCH = 6, 4


def solver(tmp_path: Path, type: str, *, shared: bool, parts: int) -> caffe.SGDSolver:
    """A solver of least squares whose batch comes in ``parts``."""
    net = LEAST_SQUARES.format(
        batch=BATCH // parts, name='name: "w"' if shared else "", again=AGAIN if shared else ""
    )
    (tmp_path / "net.prototxt").write_text(net)
    (tmp_path / "solver.prototxt").write_text(
        f'net: "{tmp_path}/net.prototxt" type: "{type}" {TYPES[type]} base_lr: 0.01 '
        f'weight_decay: 0.5 lr_policy: "fixed" iter_size: {parts} random_seed: 7 '
        f'snapshot_prefix: "{tmp_path}/snap" max_iter: {STEPS}'
    )
    return caffe.get_solver(str(tmp_path / "solver.prototxt"))


def run(made: caffe.SGDSolver, steps: int, first: int = 0) -> np.ndarray:
    """The parameters after steps on batches that depend on the iteration only."""
    size = made.net.blobs["x"].data.shape[0]
    for iteration in range(first, first + steps):
        random = np.random.default_rng(iteration)
        x, t = random.normal(size=(BATCH, 6)), random.normal(size=(BATCH, 1))
        made.net.blobs["x"].data[...], made.net.blobs["t"].data[...] = x[:size], t[:size]
        made.step(1)
    return np.concatenate([blob.data.ravel() for blob in made.net.params["ip"]])


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("type", TYPES)
def test_two_half_batches_are_one_batch(tmp_path: Path, type: str, shared: bool) -> None:
    """The solvers' WithEverythingAccum and WithEverythingAccumShare, of two equal halves."""
    found = []
    for parts in (1, 2):
        made = solver(tmp_path, type, shared=shared, parts=parts)
        for iteration in range(STEPS):
            random = np.random.default_rng(iteration)
            half = random.normal(size=(BATCH // 2, 7))
            rows = half if parts == 2 else np.concatenate([half, half])
            made.net.blobs["x"].data[...] = rows[:, :6]
            made.net.blobs["t"].data[...] = rows[:, 6:]
            made.step(1)
        found.append(np.concatenate([blob.data.ravel() for blob in made.net.params["ip"]]))
    np.testing.assert_allclose(found[1], found[0], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("type", TYPES)
def test_a_snapshot_resumes_every_solver(tmp_path: Path, type: str, shared: bool) -> None:
    """The solvers' Snapshot and SnapshotShare."""
    whole = run(solver(tmp_path, type, shared=shared, parts=1), STEPS)
    half = solver(tmp_path, type, shared=shared, parts=1)
    run(half, STEPS // 2)
    half.snapshot()
    again = solver(tmp_path, type, shared=shared, parts=1)
    again.restore(str(tmp_path / f"snap_iter_{STEPS // 2}.solverstate"))
    assert again.iter == STEPS // 2
    np.testing.assert_array_equal(run(again, STEPS - STEPS // 2, STEPS // 2), whole)


@pytest.mark.parametrize("type", TYPES)
def test_shared_weights_get_the_sum_of_their_diffs(tmp_path: Path, type: str) -> None:
    """The solvers' WithEverythingShare: two uses of a weight are one with twice the diff."""
    made = solver(tmp_path, type, shared=True, parts=1)
    run(made, 1)
    first, second = made.net.params["ip"][0], made.net.params["ip2"][0]
    np.testing.assert_array_equal(first.data, second.data)
    other = solver(tmp_path, type, shared=True, parts=1)
    random = np.random.default_rng(0)
    x, t = random.normal(size=(BATCH, 6)), random.normal(size=(BATCH, 1))
    w, b = (blob.data.astype(np.float64).copy() for blob in other.net.params["ip"])
    errors = 2 * (x @ w.T - t) + b
    other.net.blobs["x"].data[...], other.net.blobs["t"].data[...] = x, t
    other.net.clear_param_diffs()
    other.net.forward()
    other.net.backward()
    np.testing.assert_allclose(other.net.params["ip"][0].diff, errors.T @ x / BATCH, rtol=1e-4)
