"""MatWrite: a MATLAB file per forward pass."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from caffe_port.errors import LayerError
from caffe_port.files import atomic_path
from caffe_port.layers._registry import Layer, register_layer
from caffe_port.spec import LayerSpec
from caffe_port.spec.ops.mat_write import MatWrite as Options


@register_layer("MatWrite")
class MatWrite(Layer):
    """Writes `<prefix><id>_blob_<i>.mat`: variable `data`, single, axes (W, H, C, N).

    Source: DeepLab v2 mat_write_layer.cpp, matio_io.cpp.
    """

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__(spec)
        self.passes = 0
        assert isinstance(spec.op, Options)
        self.names: list[str] | None = None
        if spec.op.source:
            self.names = self._read_names(spec.op)

    def _read_names(self, op: Options) -> list[str]:
        try:
            lines = Path(op.source).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            message = f"source '{op.source}' cannot be read: {error}"
            raise LayerError(self.spec.name, self.spec.type, message) from error
        names = []
        for number, line in enumerate(lines, 1):
            name = line.split()[0] if line.split() else ""
            if len(name) <= op.strip:
                message = f"source '{op.source}', line {number}: strip {op.strip} leaves no name"
                raise LayerError(self.spec.name, self.spec.type, message)
            names.append(name[: len(name) - op.strip])
        return names

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        op = self.spec.op
        assert isinstance(op, Options)
        if self.passes % op.period == 0:
            stem = f"iter_{self.passes}"
            if self.names is not None:
                if self.passes >= len(self.names):
                    message = f"pass {self.passes + 1}, but source names {len(self.names)} files"
                    raise LayerError(self.spec.name, self.spec.type, message)
                stem = self.names[self.passes]
            for i, blob in enumerate(bottoms):
                self._write(f"{op.prefix}{stem}_blob_{i}.mat", blob)
        self.passes += 1
        return ()

    @staticmethod
    def _write(path: str, blob: Tensor) -> None:
        from scipy.io import savemat

        array = blob.detach().float().cpu().numpy()
        with atomic_path(path) as temporary:
            savemat(temporary, {"data": array.T}, appendmat=False)
