"""The layers in torch: one file per Caffe type, imported when the type is first met."""

from caffe_port.layers._registry import Layer, make_layer, register_layer

__all__ = ["Layer", "make_layer", "register_layer"]
