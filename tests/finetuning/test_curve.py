"""Curves and snapshots: a snapshot without all its files is none."""

import pytest

from caffe_port.errors import FormatError
from caffe_port.finetuning.curve import Curve, CurveWatcher, Snapshots
from caffe_port.solver.progress import TrainingStep

PARTS = ("caffemodel", "solverstate", "runstate", "curve.json")


def save(folder, iteration, parts=PARTS):
    for part in parts:
        (folder / f"train_iter_{iteration}.{part}").write_text("{}")


def test_a_curve_is_read_back(tmp_path):
    curve = Curve([(0, 2.5), (1, float("nan"))], {"loss": [(0, 2.5)]})
    curve.write(tmp_path / "c.json")
    assert repr(Curve.read(tmp_path / "c.json")) == repr(curve)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"loss": [1], "outputs": {}}', "[" * 10**5])
def test_files_that_are_not_curves(tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(FormatError, match=r"c\.json: not a curve"):
        Curve.read(tmp_path / "c.json")


@pytest.mark.parametrize("missing", PARTS)
def test_the_latest_is_one_with_all_its_files(tmp_path, missing):
    snapshots = Snapshots(tmp_path)
    assert snapshots.latest() is None
    save(tmp_path, 9)
    save(tmp_path, 10, [part for part in PARTS if part != missing])
    assert snapshots.latest() == 9
    save(tmp_path, 10)
    assert snapshots.latest() == 10


def test_copies_by_the_user_are_not_snapshots_and_stay(tmp_path):
    save(tmp_path, "9 (copy)")
    save(tmp_path, "10_old")
    snapshots, copies = Snapshots(tmp_path), sorted(tmp_path.iterdir())
    assert snapshots.latest() is None
    save(tmp_path, 9)
    assert snapshots.latest() == 9
    snapshots.keep_only(10)
    assert sorted(tmp_path.iterdir()) == copies


def test_a_snapshot_takes_the_place_of_earlier_ones(tmp_path):
    snapshots = Snapshots(tmp_path)
    save(tmp_path, 3)
    keeper = CurveWatcher(Curve(), snapshots)
    for i in range(5):
        keeper.step(TrainingStep(i, 8, 2.0 - i, 0.1))
    keeper.outputs("train", 4, {"loss": 1.5})
    save(tmp_path, 5, PARTS[:-1])
    keeper.saved()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"train_iter_5.{part}" for part in PARTS
    )
    curve = Curve.read(snapshots.curve(5))
    assert curve.loss[-1] == (4, -2.0)
    assert curve.outputs == {"loss": [(4, 1.5)]}
    snapshots.drop_states()
    assert snapshots.weights(5).exists()
    assert not snapshots.state(5).exists()
