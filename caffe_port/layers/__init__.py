"""The layers in torch: one file per family of types, imported when one of them is first used."""

from caffe_port.layers._registry import Layer, make_layer, register_layer

__all__ = ["Layer", "make_layer", "register_layer"]
