"""Fast inference: a net's forward pass planned once, with layers fused, folded and packed."""

from caffe_port.inference.optimized import Optimized
from caffe_port.inference.planner import Options

__all__ = ["Optimized", "Options"]
