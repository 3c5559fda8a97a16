"""The dense CRF with DeepLab's numbers, on a compiled permutohedral lattice (ext/)."""

from pathlib import Path

from caffe_port.errors import UsageError

try:
    import caffe_port.crf._lattice  # noqa: F401
except ModuleNotFoundError as error:
    raise UsageError(
        f"the dense CRF's compiled module is not in {Path(__file__).parent}: if this is a "
        "checkout, build it there by 'pip install --editable .', or start Python in another "
        "folder to use an installed caffe_port"
    ) from error

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
