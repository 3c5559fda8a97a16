"""The dense CRF with DeepLab's numbers, on a compiled permutohedral lattice (ext/)."""

from caffe_port.crf.dense_crf import DenseCRF, map_labels
from caffe_port.crf.params import PRESETS, CRFParameters
from caffe_port.crf.params import parse as parse_parameters
from caffe_port.crf.refinement import dense_crf_forward, refine

__all__ = [
    "PRESETS",
    "CRFParameters",
    "DenseCRF",
    "dense_crf_forward",
    "map_labels",
    "parse_parameters",
    "refine",
]
