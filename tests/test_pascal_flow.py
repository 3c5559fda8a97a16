"""The flow of DeepLab's run_pascal.sh, by the example's script and this package's programs only."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from caffe_port.cli.caffe import main as caffe
from caffe_port.crf import CRFParameters
from caffe_port.data.images import read_labels
from caffe_port.data.mat import read_mat
from caffe_port.data.voc import voc_items
from caffe_port.evaluation.network import NetFactory, Options
from caffe_port.evaluation.pipeline import evaluate
from caffe_port.evaluation.refinement import CRFFactory
from caffe_port.live.net import TEST, Net
from caffe_port.weights import read_weights
from tests import preloaded
from tests.goldens_dir import ROOT, SHAPES

IMAGES = 3
NET = "thin_largefov"
CRF = "post_densecrf_W4_XStd49_RStd13_PosW3_PosXStd3"

pytestmark = pytest.mark.skipif(shutil.which("sh") is None, reason="the flow is a shell script")


def run(work: Path, **variables: str) -> str:
    """Runs the script; returns what it printed."""
    call = "import sys; from {} import main; sys.exit(main())"
    modules = {"caffe": "caffe_port.cli.caffe", "caffe-port": "caffe_port.cli"}
    preloaded.write_commands(
        work, {name: ["-W", "error", "-c", call.format(module)] for name, module in modules.items()}
    )
    known = {
        "CAFFE_BIN": str(work / "caffe"), "CAFFE_PORT": str(work / "caffe-port"),
        "DATA_ROOT": str(SHAPES), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1",
        "LANG": os.environ.get("LANG", "C.UTF-8"),
    }  # fmt: skip
    done = subprocess.run(
        ["sh", "run_pascal.sh"], cwd=work, env={**known, **variables},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example, trained for 3 steps and tested on 3 images."""
    work = tmp_path_factory.mktemp("flow") / "run_pascal"
    shutil.copytree(ROOT / "examples" / "run_pascal", work)
    shapes = work / "shapes"
    (shapes / "model" / NET).mkdir(parents=True)
    weights = SHAPES / "caffe_run" / "model" / "train_iter_1200.caffemodel"
    shutil.copy(weights, shapes / "model" / NET / "init.caffemodel")
    (shapes / "list").mkdir()
    for name in ("val", "val_id"):
        lines = (SHAPES / f"{name}.txt").read_text().splitlines(keepends=True)
        (shapes / "list" / f"{name}.txt").write_text("".join(lines[:IMAGES]))
    solver = shapes / "config" / NET / "solver.prototxt"
    text = solver.read_text()
    solver.write_text(text.replace("max_iter: 400", "max_iter: 3").replace("shot: 200", "shot: 2"))
    assert "mean IoU" in run(work)
    return work


def scored(work: Path, which: str) -> dict[str, object]:
    after = json.loads((work / "shapes" / "res" / NET / "val" / f"{which}.json").read_text())
    found = after["after"]
    assert isinstance(found, dict)
    return found


def test_training_leaves_its_snapshots_and_logs(flow: Path) -> None:
    model = flow / "shapes" / "model" / NET
    names = {path.name for path in model.glob("*.caffemodel")}
    assert names == {"init.caffemodel", "train_iter_2.caffemodel", "train_iter_3.caffemodel"}
    first, last = (
        {layer.name: layer.blobs for layer in read_weights(model / f"{name}.caffemodel").layers}
        for name in ("init", "train_iter_3")
    )
    assert 1e-4 < np.abs(first["fc6"][0].data - last["fc6"][0].data).max() < 0.1
    logs = [p for p in (flow / "shapes" / "log" / NET).iterdir() if not p.is_symlink()]
    text = "".join(path.read_text() for path in logs)
    assert len(logs) == 2
    assert "Optimization Done." in text
    assert "Running for 3 iterations." in text


def test_scores_are_those_of_an_evaluation(flow: Path, tmp_path: Path) -> None:
    """MatWrite's files, the separate CRF and the score give what ``evaluate`` gives in one go."""
    config, model = flow / "shapes" / "config" / NET, flow / "shapes" / "model" / NET
    text = (config / "test_val.prototxt").read_text().replace('"shapes/', f'"{flow}/shapes/')
    net = tmp_path / "net.prototxt"
    net.write_text(text[: text.index('layer {\n  name: "fc8_mat"')])
    parameters = CRFParameters(pos_w=3, pos_xy_std=3, bi_w=4, bi_xy_std=49, bi_rgb_std=13)
    options = Options(crop=(161, 161))
    result = evaluate(
        voc_items(SHAPES, flow / "shapes" / "list" / "val.txt"),
        NetFactory(str(net), str(model / "train_iter_3.caffemodel"), "fc8_interp", {}, "cpu"),
        tmp_path / "out", options, make_refiner=CRFFactory(parameters, "rgb", options.mean),
    )  # fmt: skip
    assert result.before is not None
    assert result.after is not None
    assert scored(flow, "before")["confusion"] == result.before.counts.tolist()
    assert scored(flow, "after")["confusion"] == result.after.counts.tolist()
    assert result.after.mean_iou() > result.before.mean_iou() > 0.6


def test_the_variant_with_bin_files_gives_the_same_labels(flow: Path) -> None:
    """Probabilities in place of scores, as SaveMatAsBin made them for the older program."""
    result = flow / "shapes" / "res" / NET / "val" / CRF
    before = {path.name: read_labels(path) for path in result.glob("*.png")}
    mat = scored(flow, "after")["mean_iou"]
    assert len(before) == IMAGES
    shutil.rmtree(result)
    run(flow, RUN_TRAIN="0", RUN_TEST="0", LOAD_MAT_FILE="0")
    features = flow / "shapes" / "features" / NET / "val" / "fc8" / "bin"
    assert sorted(path.stem for path in features.iterdir()) == [
        f"shape_val_{i:04d}" for i in range(IMAGES)
    ]
    for name, labels in before.items():
        assert (read_labels(result / name) != labels).mean() < 1e-3
    assert scored(flow, "after")["mean_iou"] == pytest.approx(mat, abs=1e-3)


@pytest.mark.parametrize("second_word", [True, False])
def test_deeplab_v1s_test_net_reads_lists_as_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second_word: bool
) -> None:
    """val.txt names image and label, test.txt the image alone; both begin with a slash."""
    monkeypatch.chdir(tmp_path)
    names = [line.split() for line in (SHAPES / "val.txt").read_text().splitlines()[:2]]
    ids = [Path(image).stem for image, _ in names]
    (tmp_path / "voc12" / "list").mkdir(parents=True)
    (tmp_path / "features" / "val" / "fc8").mkdir(parents=True)
    lines = [" ".join(pair if second_word else pair[:1]) + "\n" for pair in names]
    (tmp_path / "voc12" / "list" / "val.txt").write_text("".join(lines))
    (tmp_path / "voc12" / "list" / "val_id.txt").write_text("\n".join(ids) + "\n")
    text = (ROOT / "prototxt" / "deeplab_v1_largefov" / "test_hole.prototxt").read_text()
    values = {
        "NET_ID": "net", "EXP": "voc12", "NUM_LABELS": "21", "DATA_ROOT": str(SHAPES),
        "TEST_SET": "val", "FEATURE_DIR": "features",
    }  # fmt: skip
    for name, value in values.items():
        text = text.replace(f"${{{name}}}", value)
    thin = re.sub(r"num_output: (64|128|256|512|1024)\b", "num_output: 2", text)
    (tmp_path / "test.prototxt").write_text(thin)
    net = Net("test.prototxt", TEST)
    for name, blobs in net.params.items():
        blobs[0].data[...] = np.random.default_rng(len(name)).random(blobs[0].data.shape)
    net.save("net.caffemodel")
    arguments = ["--model=test.prototxt", "--weights=net.caffemodel", "--iterations=2"]
    assert caffe(["test", *arguments]) == 0
    folder = tmp_path / "features" / "val" / "fc8"
    scores = [read_mat(folder / f"{name}_blob_0.mat") for name in ids]
    again = []
    for _ in ids:
        net.forward()
        again.append(net.blobs["fc8_interp"].data.copy())
    assert np.array_equal(scores, again)
    assert not np.array_equal(*scores)
    assert set(np.unique(net.blobs["label"].data)) == {0, 255}  # the image, the padding
