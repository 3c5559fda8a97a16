"""Caffe's own run on shapes_voc, continued here from its snapshot at step 1,200, and from scratch.

`python -m benchmarks continued` trains in the folder CONTINUED_WORK (a temporary one by default),
where finished runs are reused; CAFFE_STATE names Caffe's train_iter_1200.solverstate, which is too
large to be bundled: without it only the run from scratch is made. It writes results/continued.json
and the chart of docs/continued_run.md.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import report, versions
from caffe_port.reports.chart import Points, document

ROOT = Path(__file__).parent.parent
SHAPES = ROOT / "examples" / "shapes_voc"
CRF = "pos_w=3,pos_xy_std=3,bi_w=4,bi_xy_std=49,bi_rgb_std=13"
LINE = re.compile(r"Iteration (\d+)(?: \([^)]*\))?, loss = (\S+)")


def losses(log: Path) -> Points:
    """Iteration and smoothed loss of a log's lines."""
    found = {int(m[1]): float(m[2]) for m in LINE.finditer(log.read_text(encoding="utf-8"))}
    return sorted(found.items())


def _train(folder: Path, state: str) -> None:
    """Trains to step 2,400 unless that has been done."""
    (folder / "model").mkdir(parents=True, exist_ok=True)
    for name in ("train", "test"):
        text = (SHAPES / "caffe_run" / f"{name}.prototxt").read_text(encoding="utf-8")
        (folder / f"{name}.prototxt").write_text(text.replace("${ROOT}", str(SHAPES)))
    shutil.copy(SHAPES / "caffe_run" / "solver.prototxt", folder)
    if (folder / "model" / "train_iter_2400.caffemodel").exists():
        return
    command = [sys.executable, "-m", "caffe_port.cli.caffe", "train", "--solver=solver.prototxt"]
    if state:
        command.append(f"--snapshot={Path(state).resolve()}")
    with (folder / "train.log").open("w") as log:
        subprocess.run(command, cwd=folder, stderr=log, check=True)


def _evaluate(folder: Path, step: int) -> dict[str, float]:
    """Mean IoU in %, before and after the CRF, of a snapshot."""
    out = folder / f"evaluation_{step}"
    call = "from caffe_port.cli import main; main()"
    subprocess.run(
        [sys.executable, "-c", call, "evaluate", folder / "test.prototxt",
         folder / "model" / f"train_iter_{step}.caffemodel", "--images", SHAPES, "--crop", "161",
         "--crf", CRF, "-o", out],
        stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    figures = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return {when: round(100 * figures[when]["mean_iou"], 3) for when in ("before", "after")}


def main() -> None:
    """Trains, evaluates, draws."""
    state = os.environ.get("CAFFE_STATE", "")
    runs = {"continued here from Caffe's step 1,200": state} if state else {}
    runs["here, from scratch"] = ""
    caffe = json.loads((SHAPES / "caffe_run" / "result_val.json").read_text(encoding="utf-8"))
    figures = {
        "Caffe, unbroken": {
            "before": round(100 * caffe["raw"]["mean_iou"], 3),
            "after": round(100 * caffe["crf"]["mean_iou"], 3),
        }
    }
    curves: dict[str, Points] = {"Caffe": losses(SHAPES / "caffe_run" / "train.log")}
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(os.environ.get("CONTINUED_WORK", scratch)).resolve()
        for name, begin in runs.items():
            folder = work / ("continued" if begin else "scratch")
            _train(folder, begin)
            figures[name] = _evaluate(folder, 2400)
            curves[name.partition(" from")[0]] = losses(folder / "train.log")
    drawn = {name: [(x, y) for x, y in points if x >= 100] for name, points in curves.items()}
    chart = document({"Training loss, mean of 20 steps, from step 100": drawn})
    (ROOT / "docs" / "images" / "continued_run.svg").write_text(chart, encoding="utf-8")
    report(
        "continued",
        {"versions": versions("torch", "numpy"), "curves": curves,
         "tables": {"mean IoU on val, %, at step 2,400": figures}},
    )  # fmt: skip


if __name__ == "__main__":
    main()
