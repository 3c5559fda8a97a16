"""Caffe's own programs: the commands of ``caffe``, what makes data sets, what reads nets."""
