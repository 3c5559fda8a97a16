"""Caffe's Python interface on PyTorch: ``import caffe_port.pycaffe as caffe``.

Scripts with ``import caffe`` run unchanged under ``python -m caffe_port.pycaffe SCRIPT``.
"""

import importlib
from typing import TYPE_CHECKING, Any

from caffe_port import import_name, proto
from caffe_port.live.mode import (
    allow_python_layers,
    allow_unknown_fields,
    set_device,
    set_mode_cpu,
    set_mode_gpu,
    set_multiprocess,
    set_random_seed,
    set_solver_count,
    set_solver_rank,
    solver_count,
    solver_rank,
)
from caffe_port.proto import caffe_pb2
from caffe_port.pycaffe import io, protobuf
from caffe_port.pycaffe.net_spec import NetSpec, layers, params, to_proto

if TYPE_CHECKING:
    from caffe_port.live.blob import Blob
    from caffe_port.live.net import TEST, TRAIN, Net
    from caffe_port.pycaffe._caffe import (
        NCCL,
        Layer,
        Timer,
        has_nccl,
        init_log,
        layer_type_list,
        log,
        set_logging_disabled,
    )
    from caffe_port.pycaffe.classifier import Classifier
    from caffe_port.pycaffe.detector import Detector
    from caffe_port.solver.solver import (
        AdaDeltaSolver,
        AdaGradSolver,
        AdamSolver,
        NesterovSolver,
        RMSPropSolver,
        SGDSolver,
        get_solver,
    )

__version__ = "1.0.0"  # of the Caffe whose interface this is

# Imported when they are first used, with torch. Scripts that write prototxts or convert images
# start without it.
_SUBMODULES = {"_caffe", "classifier", "detector"}
_OF_TORCH = {
    "pycaffe._caffe": (
        "NCCL", "Layer", "Timer", "has_nccl", "init_log", "layer_type_list", "log",
        "set_logging_disabled",
    ),
    "live.blob": ("Blob",),
    "live.net": ("TEST", "TRAIN", "Net"),
    "pycaffe.classifier": ("Classifier",),
    "pycaffe.detector": ("Detector",),
    "solver.solver": (
        "AdaDeltaSolver", "AdaGradSolver", "AdamSolver", "NesterovSolver", "RMSPropSolver",
        "SGDSolver", "get_solver",
    ),
}  # fmt: skip
_MODULES = {name: module for module, names in _OF_TORCH.items() for name in names}

protobuf.install_dialects()

__all__ = [
    "NCCL",
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Blob",
    "Classifier",
    "Detector",
    "Layer",
    "NesterovSolver",
    "Net",
    "NetSpec",
    "RMSPropSolver",
    "SGDSolver",
    "Timer",
    "__version__",
    "allow_python_layers",
    "allow_unknown_fields",
    "caffe_pb2",
    "get_solver",
    "has_nccl",
    "init_log",
    "io",
    "layer_type_list",
    "layers",
    "log",
    "params",
    "proto",
    "set_device",
    "set_logging_disabled",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
    "to_proto",
]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_name("caffe_port", _MODULES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES, *_MODULES})
