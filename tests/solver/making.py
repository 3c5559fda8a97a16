"""Small trainings without files."""

from __future__ import annotations

import re
from pathlib import Path

from caffe_port.solver.training import Training

NET = """
name: "tiny"
layer { name: "in" type: "DummyData" top: "x" top: "t" include { phase: TRAIN }
  dummy_data_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 2 }
    data_filler { type: "gaussian" } data_filler { type: "gaussian" } } }
layer { name: "in" type: "DummyData" top: "x" top: "t" include { phase: TEST }
  dummy_data_param { shape { dim: 1 dim: 3 } shape { dim: 1 dim: 2 } data_filler { value: 1 }
    data_filler { value: 2 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" param { name: "w" }
  inner_product_param { num_output: 2 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "drop" type: "Dropout" bottom: "ip" top: "ip" dropout_param { dropout_ratio: 0.5 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "t" top: "loss" }
"""
SOLVER = 'base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 max_iter: 6 random_seed: 7 display: 1 '


def solver_file(folder: Path, more: str = "", net: str = NET) -> Path:
    """Writes a solver and its net; ``more`` replaces fields it names."""
    (folder / "net.prototxt").write_text(net)
    fields = SOLVER + f'net: "{folder}/net.prototxt" snapshot_prefix: "{folder}/snap" '
    for name in re.findall(r"(\w+):", more):
        fields = re.sub(rf'\b{name}: ("[^"]*"|\S+) ', "", fields)
    path = folder / "solver.prototxt"
    path.write_text(fields + more)
    return path


def training(folder: Path, more: str = "", net: str = NET, **options: object) -> Training:
    """A training of the small net."""
    return Training(solver_file(folder, more, net), **options)  # type: ignore[arg-type]


def said(log: str, *places: str) -> list[str]:
    """The messages of a log, without the speed that BVLC's line of the loss has."""
    lines = (line.partition("] ") for line in log.splitlines() if "] " in line)
    wanted = places or ("solver.cpp", "sgd_solver.cpp")
    found = [message for head, _, message in lines if head.split()[-1].partition(":")[0] in wanted]
    return [re.sub(r" \([^)]* iters\), loss", ", loss", message) for message in found]
