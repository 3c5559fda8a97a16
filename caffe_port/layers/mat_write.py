"""MatWrite: a MATLAB file per forward pass."""

from __future__ import annotations

from torch import Tensor

from caffe_port.data.mat import expect_inside, listed_names, write_mat
from caffe_port.errors import LayerError
from caffe_port.layers._registry import Layer, named, register_layer
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops.mat_write import MatWrite as Options


@register_layer("MatWrite")
class MatWrite(Layer):
    """Writes `<prefix><id>_blob_<i>.mat`: variable `data`, single, axes (W, H, C, N).

    The list is opened at the first pass that writes, so that a net that writes nothing needs none.
    Unlike Caffe's, its names cannot lead out of the prefix's folder.
    Source: DeepLab v2 mat_write_layer.cpp, matio_io.cpp.
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.passes = 0
        self.names: list[str] | None = None

    def _stem(self, op: Options) -> str:
        if not op.source:
            return f"iter_{self.passes}"
        if self.names is None:
            with named(self.spec):
                names = listed_names(op.source, op.strip)
                expect_inside(op.prefix, names)
            self.names = names
        if self.passes >= len(self.names):
            message = f"pass {self.passes + 1}, but source names {len(self.names)} files"
            raise LayerError(self.spec.name, self.spec.type, message)
        return self.names[self.passes]

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.options(Options)
        if self.passes % op.period == 0:
            stem = self._stem(op)
            for i, blob in enumerate(bottoms):
                values = blob.detach().float().cpu().numpy()
                write_mat(f"{op.prefix}{stem}_blob_{i}.mat", values)
        self.passes += 1
        return ()
