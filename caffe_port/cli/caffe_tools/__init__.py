"""Caffe's own programs: the commands of ``caffe``, and the tools for data sets and nets."""
