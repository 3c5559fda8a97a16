"""Preparing PASCAL VOC 2012 and SBD as DeepLab trained on them, and checking such folders."""

from caffe_port.data.voc_prepare.folders import PUBLISHED, SBD, VOC, find_sbd, find_voc
from caffe_port.data.voc_prepare.layout import layout_items
from caffe_port.data.voc_prepare.report import Outcome, Problem
from caffe_port.data.voc_prepare.run import check_folder, prepare

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
