"""This checkout compared with another one: what a change of the package costs in its main jobs.

CAFFE_PORT_BASE=FOLDER python -m benchmarks revisions. The folder is a checkout of the other
revision with its compiled lattice. Each job is a process of its own, started in turn in both, on
one thread; bytecode is compiled first, as an installation does. The figures are CPU seconds.
"""

from __future__ import annotations

import compileall
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import report, versions

ROOT = Path(__file__).parent.parent
_ROUNDS = 5
_EXAMPLE = ROOT / "examples" / "shapes_voc"
_RUN = _EXAMPLE / "caffe_run"
_NET = str(_RUN / "test.prototxt")
_WEIGHTS = str(_RUN / "model" / "train_iter_2400.caffemodel")
_LOAD = f"""
import caffe_port
net = caffe_port.load({_NET!r}, {_WEIGHTS!r}, variables={{"ROOT": {str(_EXAMPLE)!r}}})
"""
_FORWARD = f"""{_LOAD}
import torch
with torch.no_grad():
    for _ in range(60):
        net({{"data": torch.zeros(1, 3, 321, 321)}}, keep=["fc8_interp"])
"""
_CRF = """
import caffe_port, numpy as np
image = np.random.default_rng(0).integers(0, 255, (15, 20, 3), dtype=np.uint8)
image = np.ascontiguousarray(image.repeat(25, 0).repeat(25, 1))
energy = np.random.default_rng(1).random((21, 375, 500), np.float32)
for _ in range(3):
    crf = caffe_port.DenseCRF(375, 500, labels=21).add_gaussian(3, weight=3)
    crf.add_bilateral(121, 5, image, weight=4).infer(energy, 10)
"""
_COMMAND = (
    "import sys; from caffe_port.start import {0} as run; sys.argv[0] = '{1}'; sys.exit(run())"
)


def jobs(folder: Path) -> dict[str, list[str]]:
    """Name -> arguments of Python; files are written into the folder."""
    solver = (_RUN / "solver.prototxt").read_text()
    solver = "\n".join(
        line
        for line in solver.splitlines()
        if not line.startswith(("train_net:", "max_iter:", "snapshot"))
    )
    net = (_RUN / "train.prototxt").read_text().replace("${ROOT}", str(_EXAMPLE))
    (folder / "train.prototxt").write_text(net)
    (folder / "solver.prototxt").write_text(
        f'{solver}\ntrain_net: "train.prototxt"\nmax_iter: 20\nsnapshot_after_train: false\n'
    )
    port, caffe = _COMMAND.format("caffe_port", "caffe-port"), _COMMAND.format("caffe", "caffe")
    crf = "bi_w=4,bi_xy_std=49,bi_rgb_std=13"
    net = str(_RUN / "recording" / "net.prototxt")
    scored = [net, _WEIGHTS, "--images", str(_EXAMPLE), "--list", "val", "--crf", crf]
    return {
        "caffe-port --help": [port, "--help"],
        "caffe-port inspect, a net": [port, "inspect", str(_RUN / "recording" / "net.prototxt")],
        "load a net and its weights": [_LOAD],
        "60 forward passes": [_FORWARD],
        "the dense CRF, 3 images": [_CRF],
        "caffe-port evaluate, 60 images": [port, "evaluate", *scored, "-o", "out", "--fresh"],
        "caffe train, 20 steps": [caffe, "train", "--solver=solver.prototxt"],
    }


def seconds(tree: Path, words: list[str], folder: Path) -> float:
    """CPU seconds of one process that uses the package of that tree.

    Raises:
        CalledProcessError: it failed.
    """
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", *words], cwd=folder, env=environment, check=True, capture_output=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measures, prints and writes the ratios of this checkout to the other one."""
    base = os.environ.get("CAFFE_PORT_BASE")
    if not base:
        print("revisions: skipped, CAFFE_PORT_BASE names no other checkout")
        return
    trees = {"here": ROOT, "base": Path(base).resolve()}
    for tree in trees.values():
        compileall.compile_dir(tree / "caffe_port", quiet=1)
    table = {}
    with tempfile.TemporaryDirectory() as name:
        for job, words in jobs(Path(name)).items():
            taken: dict[str, list[float]] = {tree: [] for tree in trees}
            for turn in range(_ROUNDS + 1):
                for tree, path in trees.items():
                    found = seconds(path, words, Path(name))
                    if turn:  # the first round reads the files
                        taken[tree].append(found)
            ratio = statistics.median(
                a / b for a, b in zip(taken["here"], taken["base"], strict=True)
            )
            table[job] = {
                "base, CPU s": round(statistics.median(taken["base"]), 3),
                "here, CPU s": round(statistics.median(taken["here"]), 3),
                "ratio": round(ratio, 3),
            }
    of = subprocess.run(
        ["git", "-C", base, "rev-parse", "--short", "HEAD"],
        check=False,
        capture_output=True,
        text=True,
    )
    versions_ = versions("torch", "numpy") | {"base": of.stdout.strip()}
    report("revisions", {"versions": versions_, "tables": {"CPU seconds": table}})


if __name__ == "__main__":
    main()
