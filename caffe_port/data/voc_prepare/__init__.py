"""Preparing PASCAL VOC 2012 and SBD as DeepLab trained on them, and checking such folders."""

from caffe_port.data.voc_prepare.layout import PUBLISHED, SBD, VOC, find_sbd, find_voc, layout_items
from caffe_port.data.voc_prepare.run import Outcome, Problem, check_folder, prepare

__all__ = [
    "PUBLISHED",
    "SBD",
    "VOC",
    "Outcome",
    "Problem",
    "check_folder",
    "find_sbd",
    "find_voc",
    "layout_items",
    "prepare",
]
