"""Run state files: each kind of data layer resumes; malformed files are refused."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from caffe_port.data import rng
from caffe_port.errors import FormatError, UsageError
from caffe_port.live import mode
from caffe_port.solver import snapshot
from caffe_port.solver.snapshot import SourceState
from tests.goldens_dir import SHAPES
from tests.layers.helpers import net_of
from tests.solver.making import NET, training

TRANSFORM = "transform_param { crop_size: 20 mirror: true mean_value: 100 } "
LAYERS = {
    "ImageSegData": f"""top: "data" top: "label" top: "dim" {TRANSFORM} image_data_param {{
        root_folder: "{SHAPES}" source: "LIST" batch_size: 2 shuffle: true label_type: PIXEL }}""",
    "ImageData": f"""top: "data" top: "label" {TRANSFORM} image_data_param {{
        root_folder: "{SHAPES}" source: "CLASSES" batch_size: 2 shuffle: true rand_skip: 3 }}""",
    "Data": f"""top: "data" top: "label" {TRANSFORM} data_param {{ backend: LMDB batch_size: 5
        source: "{SHAPES}/caffe_run/lmdb/db" }}""",
    "HDF5Data": """top: "data" hdf5_data_param { source: "H5" batch_size: 2 shuffle: true }""",
    "WindowData": """top: "data" top: "label" transform_param { crop_size: 8 mirror: true }
        window_data_param { source: "WINDOWS" batch_size: 4 fg_fraction: 0.5 }""",
}


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """Lists of five images, and an HDF5 file of five rows."""
    images = (SHAPES / "train.txt").read_text().splitlines()[:5]
    (tmp_path / "LIST").write_text("\n".join(images))
    (tmp_path / "CLASSES").write_text("\n".join(f"{line.split()[0]} 1" for line in images))
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["data"] = np.arange(10, dtype=np.float32).reshape(5, 2)
    (tmp_path / "H5").write_text(f"{tmp_path}/rows.h5\n")
    windows = [
        f"# {i}\n{SHAPES}{line.split()[0]}\n3\n90\n90\n2\n1 0.9 5 5 50 50\n0 0.1 10 10 60 60"
        for i, line in enumerate(images)
    ]
    (tmp_path / "WINDOWS").write_text("\n".join(windows))
    return tmp_path


def source(kind: str, lists: Path, seed: int, v1: bool):
    """A net of one data layer, and its state."""
    options = LAYERS[kind]
    for name in ("LIST", "CLASSES", "H5", "WINDOWS"):
        options = options.replace(f'"{name}"', f'"{lists / name}"')
    random = rng.CaffeRandom(seed)
    with rng.seeded(random):
        text = f'layer {{ name: "d" type: "{kind}" {options} }}'
        net = net_of(text, phase="TRAIN", **({"dialect": "deeplab1"} if v1 else {}))
    return net, SourceState(net.module("d")), random


@pytest.mark.parametrize("v1", [False, True])
@pytest.mark.parametrize("done", [0, 1, 4])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_data_layer_resumes_where_it_was(kind: str, done: int, v1: bool, lists: Path) -> None:
    net, state, thread = source(kind, lists, 1, v1)
    for _ in range(done):
        net({}, keep="all")
    kept, stream = json.loads(json.dumps(state.to_json())), thread._state.get_state()
    expected = [net({}, keep="all") for _ in range(4)]
    other, its_state, its_thread = source(kind, lists, 2, v1)
    other({}, keep="all")
    its_thread._state.set_state(stream)
    its_state.set_json(kept)
    for blobs in expected:
        for name, values in other({}, keep="all").items():
            np.testing.assert_array_equal(values, blobs[name])
    assert its_state.passes == done + 4


def test_a_list_that_changed_is_refused(lists: Path) -> None:
    net, state, _ = source("ImageSegData", lists, 1, False)
    net({}, keep="all")
    kept = state.to_json()
    (lists / "LIST").write_text("\n".join((lists / "LIST").read_text().splitlines()[:4]))
    _, other, _ = source("ImageSegData", lists, 1, False)
    with pytest.raises(
        UsageError, match="LIST: the list has changed since the snapshot: 4 lines, 5"
    ):
        other.set_json(kept)


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a snapshot at step 3."""
    monkeypatch.setattr(mode._process, "random", None)
    solver = training(tmp_path, "snapshot: 3 max_iter: 3 ")
    solver.solve()
    return tmp_path


def restored(folder: Path, net: str = NET):
    solver = training(folder, "snapshot: 3 ", net)
    solver.restore(folder / "snap_iter_3.solverstate")
    return solver


def test_a_side_file_of_another_snapshot_is_not_used(
    saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    side = saved / "snap_iter_3.runstate"
    content = json.loads(side.read_text())
    side.write_text(json.dumps({**content, "solverstate_sha256": "0" * 64}))
    assert restored(saved).iter == 3
    assert (
        "snap_iter_3.runstate belongs to another snapshot and is not used"
        in capsys.readouterr().err
    )


def test_a_side_file_of_another_net_is_refused(saved: Path) -> None:
    more = NET + (
        'layer { name: "acc" type: "SegAccuracy" bottom: "x" bottom: "t" top: "a" '
        "include { phase: TRAIN } }"
    )
    more = more.replace(
        "shape { dim: 4 dim: 3 } shape { dim: 4 dim: 2 }",
        "shape { dim: 4 dim: 3 dim: 1 dim: 1 } shape { dim: 4 dim: 1 dim: 1 dim: 1 }",
    )
    more = more.replace(
        'bottom: "ip" bottom: "t" top: "loss"', 'bottom: "ip" bottom: "ip" top: "loss"'
    )
    with pytest.raises(UsageError, match=r"of layers \[\]; this net has \['acc'\]"):
        restored(saved, more)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"format": "other"}', "\x00", '{"format": "caffe_port runstate 1"}',
     "[" * 100_000],
)  # fmt: skip
def test_a_broken_side_file_is_named(saved: Path, text: str) -> None:
    (saved / "snap_iter_3.runstate").write_text(text)
    with pytest.raises(FormatError, match=r"snap_iter_3\.runstate"):
        restored(saved)


@pytest.mark.parametrize("key", ["thread", "torch", "smoothing", "nets"])
@pytest.mark.parametrize("value", [7, "zz", [[1]], {"losses": 1, "keys": "00", "place": 0}])
def test_values_of_another_kind_are_named(saved: Path, key: str, value: object) -> None:
    side = saved / "snap_iter_3.runstate"
    side.write_text(json.dumps({**json.loads(side.read_text()), key: value}))
    with pytest.raises((FormatError, UsageError), match=r"snap_iter_3\.runstate"):
        restored(saved)


def test_names_of_side_files() -> None:
    assert snapshot.path_of("a/b_iter_5.solverstate") == "a/b_iter_5.runstate"
    assert snapshot.path_of("b_iter_5.solverstate.h5") == "b_iter_5.runstate"
    assert snapshot.path_of("odd") == "odd.runstate"


RECURRENT = """
layer { name: "in" type: "DummyData" top: "x" top: "c" top: "t" dummy_data_param {
  shape { dim: 2 dim: 3 dim: 4 } shape { dim: 2 dim: 3 } shape { dim: 2 dim: 3 dim: 2 }
  data_filler { type: "gaussian" } data_filler { value: 1 } data_filler { value: 1 } } }
layer { name: "l" type: "LSTM" bottom: "x" bottom: "c" top: "y" recurrent_param { num_output: 2
  weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
"""


def test_the_state_of_a_recurrent_layer_is_kept(tmp_path: Path) -> None:
    whole = training(tmp_path, "snapshot: 3 ", RECURRENT)
    whole.solve()
    again = training(tmp_path, "snapshot: 3 ", RECURRENT)
    again.restore(tmp_path / "snap_iter_3.solverstate")
    again.solve()
    for one, other in zip(whole.net.params["l"], again.net.params["l"], strict=True):
        np.testing.assert_array_equal(one.data, other.data)
