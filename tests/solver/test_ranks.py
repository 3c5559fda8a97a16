"""Several processes give what one gives; what ends one ends all."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from caffe_port.cli.caffe_tools import _program as launch
from caffe_port.errors import UsageError
from caffe_port.live import mode
from caffe_port.ranks import BatchRanks, RankError, is_one_of_several, training_ranks
from caffe_port.solver import distributed
from caffe_port.weights import read_weights
from tests import preloaded
from tests.goldens_dir import SHAPES
from tests.layers.helpers import layer
from tests.solver.making import NET, said, solver_file, training
from tests.waiting import LIMIT, wait_until

SMALL = f"""
name: "small"
layer {{ name: "data" type: "ImageSegData" top: "x" top: "t" top: "size" include {{ phase: TRAIN }}
  transform_param {{ crop_size: 17 mirror: true mean_value: 110 scale: 0.01 }}
  image_data_param {{ root_folder: "{SHAPES}" source: "{SHAPES}/train.txt" batch_size: 4
    shuffle: true label_type: PIXEL }} }}
layer {{ name: "c" type: "Convolution" bottom: "x" top: "c" %s }}
layer {{ name: "n" type: "BatchNorm" bottom: "c" top: "c" }}
layer {{ name: "s" type: "Scale" bottom: "c" top: "c" scale_param {{ bias_term: true }} }}
layer {{ name: "r" type: "ReLU" bottom: "c" top: "c" }}
layer {{ name: "drop" type: "Dropout" bottom: "c" top: "c" }}
layer {{ name: "d" type: "Convolution" bottom: "c" top: "d" %s }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "d" bottom: "t" top: "loss"
  loss_param {{ ignore_label: 255 }} }}
layer {{ name: "full" type: "SoftmaxWithLoss" bottom: "d" bottom: "t" top: "full" top: "prob"
  loss_weight: 0.5 loss_weight: 0 loss_param {{ ignore_label: 255 normalization: FULL }} }}
layer {{ name: "quiet" type: "Silence" bottom: "prob" }}
layer {{ name: "accuracy" type: "SegAccuracy" bottom: "d" bottom: "t" top: "accuracy"
  seg_accuracy_param {{ ignore_label: 255 reset: false }} }}
layer {{ name: "sums" type: "Reduction" bottom: "d" top: "sums" reduction_param {{ axis: 1 }} }}
layer {{ name: "turn" type: "Reshape" bottom: "sums" top: "turn"
  reshape_param {{ shape {{ dim: 1 dim: 4 }} }} }}
layer {{ name: "mixed" type: "InnerProduct" bottom: "turn" top: "mixed" inner_product_param {{
  num_output: 2 weight_filler {{ type: "gaussian" std: 0.1 }} }} }}
layer {{ name: "mix" type: "Reduction" bottom: "mixed" top: "mix" loss_weight: 1e-7
  reduction_param {{ operation: SUMSQ }} }}
""".replace(
    "%s",
    "convolution_param {{ num_output: 6 kernel_size: 3 pad: 1 "
    'weight_filler {{ type: "gaussian" std: 0.2 }} }}'.replace("{{", "{").replace("}}", "}"),
)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mode._process, "random", None)


def started(solver: Path, count: int, *arguments: str) -> list[preloaded.Process]:
    """The processes of a training, as torchrun would start them."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    command = [sys.executable, "-m", "caffe_port.cli.caffe", "train", f"-solver={solver}"]
    return [
        preloaded.start(
            [*command, *arguments], stderr=subprocess.PIPE,
            env={**os.environ, **common, "RANK": str(i), "LOCAL_RANK": str(i),
                 "OMP_NUM_THREADS": "1"},
        )
        for i in range(count)
    ]  # fmt: skip


def ended(processes: list[preloaded.Process]) -> list[tuple[int, str]]:
    """Exit status and log of each."""
    try:
        logs = [process.communicate(timeout=LIMIT)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, log) for process, log in zip(processes, logs, strict=True)]


def logged_numbers(log: str) -> list[float]:
    """Losses and outputs, as they were logged."""
    lines = [line for line in said(log, "solver.cpp") if "loss = " in line or "output #" in line]
    return [float(line.split(" = ")[1].split()[0]) for line in lines]


def weights(path: Path) -> dict[str, np.ndarray]:
    return {
        f"{layer.name} {i}": blob.data
        for layer in read_weights(path).layers
        for i, blob in enumerate(layer.blobs)
    }


def assert_as_one(mine: Path, theirs: Path) -> None:
    expected = weights(theirs)
    for name, values in weights(mine).items():
        if name != "c 1":  # a bias before BatchNorm, whose diff is what rounding leaves
            peak = np.abs(expected[name]).max()
            np.testing.assert_allclose(values, expected[name], atol=2e-5 * peak, err_msg=name)


MORE = "max_iter: 8 snapshot: 4 weight_decay: 0.01 clip_gradients: 3 iter_size: 2 base_lr: 0.02 "


def test_two_processes_give_what_one_gives(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Shuffles, crops, flips, masks, batch statistics, losses over all valid pixels, a layer that
    mixes items; then a snapshot of one process, gone on from by two."""
    alone, together = tmp_path / "alone", tmp_path / "together"
    for folder in (alone, together):
        folder.mkdir()
    training(alone, MORE, SMALL).solve()
    expected = logged_numbers(capfd.readouterr().err)
    (status, log), (other_status, other_log) = ended(started(solver_file(together, MORE, SMALL), 2))
    assert (status, other_status) == (0, 0), log + other_log
    assert logged_numbers(log) == pytest.approx(expected, rel=2e-5, abs=2e-5)
    assert len(expected) == 8 * 15 + 1
    assert "Iteration" not in other_log
    assert_as_one(together / "snap_iter_8.caffemodel", alone / "snap_iter_8.caffemodel")


def test_a_signal_to_one_stops_all_and_a_snapshot_of_one_process_serves_several(
    tmp_path: Path,
) -> None:
    training(tmp_path, "max_iter: 3 snapshot: 3 display: 0 ").solve()
    solver = solver_file(tmp_path, "max_iter: 1000000 display: 0 snapshot: 4 ")
    processes = started(solver, 2, f"-snapshot={tmp_path}/snap_iter_3.solverstate")
    wait_until((tmp_path / "snap_iter_8.solverstate").exists, processes[0])
    processes[1].send_signal(signal.SIGINT)
    (status, log), (other_status, _) = ended(processes)
    assert (status, other_status) == (0, 0), log
    assert "Optimization stopped early." in log
    mode._process.random = None
    training(tmp_path, f'max_iter: 8 display: 0 snapshot_prefix: "{tmp_path}/one" ').solve()
    assert_as_one(tmp_path / "snap_iter_8.caffemodel", tmp_path / "one_iter_8.caffemodel")


def test_one_that_dies_ends_the_others(tmp_path: Path) -> None:
    solver = solver_file(tmp_path, "max_iter: 1000000 display: 0 snapshot: 4 ")
    processes = started(solver, 2)
    wait_until((tmp_path / "snap_iter_4.solverstate").exists, processes[0])
    processes[1].kill()
    (status, log), _ = ended(processes)
    assert status == 1
    assert "another process of the training has ended" in log
    assert log.splitlines()[-1].startswith("F")


class Alike(BatchRanks):
    """One of several processes that all have the same numbers; no other is needed."""

    def sum(self, values):
        values.mul_(self.count)

    def max(self, value):
        return value

    def from_root(self, value):
        return value


def test_batches_that_cannot_be_shared_are_refused(tmp_path: Path) -> None:
    solver = training(tmp_path, net=SMALL, ranks=Alike(0, 3))
    with pytest.raises(UsageError, match=r"'data' \(ImageSegData\).*must be a multiple of 3"):
        solver.step(1)


SINGLE = "\n".join(
    line
    for line in SMALL[: SMALL.index('layer { name: "accuracy"')].splitlines()
    if not line.startswith(('layer { name: "n"', 'layer { name: "s"'))
).replace("batch_size: 4", "batch_size: 1")
STORED = SMALL[: SMALL.index('layer { name: "accuracy"')].replace("batch_size: 4", "batch_size: 1")
STORED = STORED.replace(
    'top: "c" }\nlayer { name: "s"',
    'top: "c"\n  batch_norm_param { use_global_stats: true } }\nlayer { name: "s"',
)
TURNS = "max_iter: 6 snapshot: 3 weight_decay: 0.01 iter_size: 4 base_lr: 0.02 "


def test_batches_of_one_item_are_computed_in_turn(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """iter_size is shared: orders, crops, flips and masks are those of one process; resumed too."""
    alone, together = tmp_path / "alone", tmp_path / "together"
    for folder in (alone, together):
        folder.mkdir()
    training(alone, TURNS, SINGLE).solve()
    expected = logged_numbers(capfd.readouterr().err)
    solver = solver_file(together, TURNS, SINGLE)
    (status, log), (other_status, other_log) = ended(started(solver, 2))
    assert (status, other_status) == (0, 0), log + other_log
    assert "The 4 passes of each iteration are shared" in log
    assert logged_numbers(log) == pytest.approx(expected, rel=2e-5, abs=2e-5)
    assert len(expected) == 6 * 5 + 1
    last = weights(alone / "snap_iter_6.caffemodel")
    assert_as_one(together / "snap_iter_6.caffemodel", alone / "snap_iter_6.caffemodel")
    (together / "snap_iter_6.caffemodel").unlink()
    resumed = started(solver, 4, f"-snapshot={together}/snap_iter_3.solverstate")
    for status, log in ended(resumed):
        assert status == 0, log
    assert_as_one(together / "snap_iter_6.caffemodel", alone / "snap_iter_6.caffemodel")
    first = weights(alone / "snap_iter_3.caffemodel")
    assert all(np.abs(last[name] - first[name]).max() > 0 for name in ("c 0", "d 0"))


@pytest.mark.parametrize(
    ("more", "net", "count", "expected"),
    [
        ("iter_size: 4 ", SINGLE, 2, True),
        ("iter_size: 4 ", STORED, 2, True),
        ("iter_size: 3 ", SINGLE, 2, False),  # not a multiple
        ("", SINGLE, 2, False),
        ("iter_size: 4 ", SMALL, 2, False),  # its batches can be shared
        ("iter_size: 3 ", SMALL, 3, False),  # BatchNorm's statistics follow from each other
    ],
)
def test_which_nets_share_their_passes(
    more: str, net: str, count: int, expected: bool, tmp_path: Path
) -> None:
    solver = training(tmp_path, more, net)
    ranks, passes = Alike(0, count), solver.param.iter_size
    assert distributed.Turns.possible(solver.net._net, ranks, passes) is expected


def test_a_net_with_callbacks_cannot_be_shared(tmp_path: Path) -> None:
    solver = training(tmp_path, "debug_info: true ", ranks=Alike(0, 2))
    with pytest.raises(UsageError, match="several processes do not go with this net: callbacks"):
        solver.step(1)


def test_others_than_the_root_write_nothing(tmp_path: Path) -> None:
    training(tmp_path, ranks=Alike(1, 2)).snapshot()
    assert not list(tmp_path.glob("snap*"))


def test_processes_that_start_from_other_weights_are_refused(tmp_path: Path) -> None:
    class Other(Alike):
        def max(self, value):
            return value + 1

    with pytest.raises(
        UsageError, match="process 1 of 2: the state it starts from differs from that of the others"
    ):
        training(tmp_path, ranks=Other(1, 2)).step(1)


def test_sums_of_many_tensors_are_exchanged_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr("caffe_port.ranks._BUCKET", 5)
    tensors = [torch.ones(3), torch.ones(2, 2), torch.ones(1), torch.ones(9), torch.ones(0)]
    Alike(0, 3).sum_all(tensors)
    assert [tensor.unique().tolist() for tensor in tensors] == [[3.0]] * 4 + [[]]


def kinds(net: str, folder: Path) -> dict[str, str]:
    solver = training(folder, net=net)
    steps, _ = distributed.make_steps(solver.net._net, Alike(0, 2))
    return {step.layer.name: type(step).__name__ for step in steps}


def test_which_layers_get_the_whole_batch(tmp_path: Path) -> None:
    found = kinds(SMALL, tmp_path)
    whole = [name for name, kind in found.items() if kind == "WholeStep"]
    assert whole == ["accuracy", "turn", "mixed", "mix"]
    assert found["loss"] == found["full"] == "SoftmaxLossStep"
    assert kinds(NET, tmp_path)["loss"] == "WholeStep"  # Euclidean


@pytest.mark.parametrize(
    ("text", "shapes", "expected"),
    [
        ('type: "Concat" bottom: "b0" bottom: "b1" top: "y"', [(4, 3), (4, 2)], True),
        ('type: "Concat" bottom: "b0" bottom: "b1" top: "y" concat_param { axis: 0 }',
         [(4, 3), (4, 3)], False),
        ('type: "Concat" bottom: "b0" bottom: "b1" top: "y" concat_param { axis: -2 }',
         [(4, 3), (4, 3)], False),
        ('type: "Flatten" bottom: "b0" top: "y" flatten_param { axis: 0 }', [(4, 3)], True),
        ('type: "Reshape" bottom: "b0" top: "y" reshape_param { shape { dim: 0 dim: -1 } }',
         [(4, 3, 2)], True),
        ('type: "Reshape" bottom: "b0" top: "y" reshape_param { shape { dim: 4 dim: -1 } }',
         [(4, 3, 2)], False),
        ('type: "Permute" bottom: "b0" top: "y" permute_param { order: 1 order: 0 }',
         [(4, 3)], False),
        ('type: "Permute" bottom: "b0" top: "y" permute_param { order: 0 order: 2 order: 1 }',
         [(4, 3, 2)], True),
        ('type: "Softmax" bottom: "b0" top: "y" softmax_param { axis: 0 }', [(4, 3)], False),
        ('type: "Scale" bottom: "b0" top: "y" scale_param { axis: 0 }', [(4, 3)], False),
        ('type: "Scale" bottom: "b0" bottom: "b1" top: "y" scale_param { axis: 0 }',
         [(4, 3), (4,)], False),
        ('type: "BatchReindex" bottom: "b0" bottom: "b1" top: "y"', [(4, 3), (4,)], False),
        ('type: "Reduction" bottom: "b0" top: "y"', [(4, 3)], False),
        ('type: "ReLU" bottom: "b0" top: "y"', [(3, 3)], False),
    ],
)  # fmt: skip
def test_layers_that_take_items_one_by_one(
    text: str, shapes: list[tuple[int, ...]], expected: bool
) -> None:
    assert layer(text, *shapes).spec.is_itemwise(2) is expected


def test_a_single_process_has_no_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert not is_one_of_several()
    with training_ranks() as ranks:
        assert ranks is None


def test_an_environment_that_is_not_torchruns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises((UsageError, RankError), match="torchrun"), training_ranks():
        pass


def test_several_gpus_are_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda path, words: ran.append(words))
    monkeypatch.setattr(sys, "argv", ["caffe", "train", "-solver=s", "-gpu=0,2"])
    launch.run_on([0, 2])
    assert ran[0][1:] == [
        "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m",
        "caffe_port.cli.caffe", "train", "-solver=s", "-gpu=0,2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("local", "gpus", "expected"), [(0, [3, 5], 3), (1, [3, 5], 5), (1, [0], 1), (3, [0], 3)]
)
def test_each_process_has_its_gpu(
    monkeypatch: pytest.MonkeyPatch, local: int, gpus: list[int], expected: int
) -> None:
    monkeypatch.setenv("LOCAL_RANK", str(local))
    assert launch.own_gpu(gpus, 4) == expected


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UsageError, match="process 2 on this machine has no GPU of its own"):
        launch.own_gpu([0, 1], 4)
