"""The names of pycaffe's compiled module that ``caffe`` itself does not show.

Source: BVLC/caffe python/caffe/_caffe.cpp.
"""

from __future__ import annotations

from caffe_port.live.blob import Blob
from caffe_port.live.blob_vec import BlobVec
from caffe_port.live.mode import (
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
from caffe_port.live.net import Net
from caffe_port.proto.caffe_pb2 import LayerParameter, SolverParameter
from caffe_port.pycaffe.layer import Layer
from caffe_port.pycaffe.tools import NCCL, Timer, has_nccl, init_log, layer_type_list, log
from caffe_port.solver.solver import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    Solver,
    get_solver,
)

# vectors of C++ there, lists here
RawBlobVec = LayerVec = StringVec = IntVec = DtypeVec = NetVec = BoolVec = list

__version__ = "1.0.0"  # of the Caffe whose interface this is

__all__ = [
    "NCCL",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Blob",
    "BlobVec",
    "BoolVec",
    "DtypeVec",
    "IntVec",
    "Layer",
    "LayerParameter",
    "LayerVec",
    "NesterovSolver",
    "Net",
    "NetVec",
    "RMSPropSolver",
    "RawBlobVec",
    "SGDSolver",
    "Solver",
    "SolverParameter",
    "StringVec",
    "Timer",
    "__version__",
    "get_solver",
    "has_nccl",
    "init_log",
    "layer_type_list",
    "log",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
]
