"""Out into today's world: a net as a stand-alone PyTorch module, or as an ONNX file.

Layers know nothing of this: a table per kind of output says how a type is written.
"""

from caffe_port.export.graph import ExportWarning
from caffe_port.export.module import emit_module
from caffe_port.export.onnx_file import write_onnx

__all__ = ["ExportWarning", "emit_module", "write_onnx"]
