"""What a net is before any tensor exists: layers, options, shapes. Needs no torch."""

from caffe_port.spec.netspec import LayerSpec, NetSpec, ParamSpec

__all__ = ["LayerSpec", "NetSpec", "ParamSpec"]
