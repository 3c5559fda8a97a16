"""Caffe's own programs: one file per program, or per command of ``caffe``."""
