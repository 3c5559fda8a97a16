"""Fast inference: a net's forward pass in the fastest engine, or planned once for torch."""

from caffe_port.inference.engines import ENGINES, Engine
from caffe_port.inference.optimized import Optimized, fastest_engine
from caffe_port.inference.planner import Options

__all__ = ["ENGINES", "Engine", "Optimized", "Options", "fastest_engine"]
