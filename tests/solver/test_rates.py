"""Learning rates against Caffe's formulas, worked out by hand."""

import pytest

from caffe_port.errors import UsageError
from caffe_port.proto import caffe_pb2
from caffe_port.solver.updates import learning_rate


def solver(policy: str, **options: object) -> caffe_pb2.SolverParameter:
    return caffe_pb2.SolverParameter(lr_policy=policy, base_lr=0.5, **options)


@pytest.mark.parametrize(
    ("options", "iteration", "rate"),
    [
        ({"policy": "fixed"}, 7, 0.5),
        ({"policy": "step", "gamma": 0.5, "stepsize": 10}, 9, 0.5),
        ({"policy": "step", "gamma": 0.5, "stepsize": 10}, 25, 0.125),
        ({"policy": "exp", "gamma": 0.5}, 3, 0.0625),
        ({"policy": "inv", "gamma": 1, "power": 2}, 1, 0.125),
        ({"policy": "poly", "power": 2, "max_iter": 4}, 2, 0.125),
        ({"policy": "poly", "power": 0.9, "max_iter": 4}, 4, 0.0),
        ({"policy": "poly", "power": 0.9, "max_iter": 4}, 5, 0.0),
        ({"policy": "sigmoid", "gamma": -0.1, "stepsize": 5}, 5, 0.25),
        # gamma means nothing to these two, whatever it is
        ({"policy": "fixed", "gamma": -1}, 7, 0.5),
        ({"policy": "poly", "gamma": -1, "power": 2, "max_iter": 4}, 2, 0.125),
    ],
)
def test_rate(options: dict[str, object], iteration: int, rate: float) -> None:
    assert learning_rate(solver(**options), iteration, 0)[0] == pytest.approx(rate, rel=1e-6)


def test_multistep_advances_one_step_per_iteration() -> None:
    param = solver("multistep", gamma=0.5, stepvalue=[2, 3, 3])
    step, rates = 0, []
    for iteration in range(6):
        rate, step = learning_rate(param, iteration, step)
        rates.append(rate)
    assert rates == [0.5, 0.5, 0.25, 0.125, 0.0625, 0.0625]


def test_step_counts_from_the_iteration() -> None:
    assert learning_rate(solver("step", gamma=0.5, stepsize=10), 20, 0)[1] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "cosine"}, "lr_policy is 'cosine'; expected one of fixed, step"),
        ({"policy": "step", "gamma": 0.1}, "'step' with stepsize 0; expected 1 or more"),
        ({"policy": "sigmoid", "gamma": 1}, "'sigmoid' with stepsize 0; expected 1 or more"),
        ({"policy": "exp", "gamma": -1}, "'exp' with gamma -1; expected 0 or more"),
    ],
)
def test_refusals(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        learning_rate(solver(**options), 0, 0)
