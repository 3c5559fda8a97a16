"""Classes of repeated fields under the names that protobuf 2 and 3 had for them.

Scripts of that time test for them to walk through a message.
"""

from __future__ import annotations

from caffe_port.proto import caffe_pb2

RepeatedScalarContainer = type(caffe_pb2.BlobShape().dim)
RepeatedCompositeContainer = type(caffe_pb2.NetParameter().layer)
