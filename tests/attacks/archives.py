"""Attacks with the files that PyTorch's world uses: .pt, safetensors."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.attacks.attack import Family, Make
from tests.attacks.entries import caffe_port, program, python
from tests.attacks.prototxts import one
from tests.attacks.weights import Payload, raw


def _family(kind: str, file: str) -> Family:
    return Family(
        kind,
        caffe_port(f"inspect {file}"),
        caffe_port(f"convert {file} -o out.caffemodel"),
        caffe_port(f"convert good.prototxt {file} -o out.caffemodel"),
        caffe_port(f"evaluate {file} --images voc --crop 9 -o out"),
        program("caffe", f"train --solver=solver.prototxt --weights={file}"),
        python(f"cp.load('{file}')"),
    )


PT = _family("pt", "net.pt")
SAFETENSORS = _family("safetensors", "net.safetensors")


def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Make:
    """A zip archive named net.pt."""

    def make(folder: Path) -> None:
        with zipfile.ZipFile(folder / "net.pt", "w", compression) as file:
            for name, content in members.items():
                file.writestr(name, content)

    return make


def saved(content: Callable[[], Any]) -> Make:
    """What torch.save makes of something."""

    def make(folder: Path) -> None:
        import torch

        torch.save(content(), folder / "net.pt")

    return make


def model(**changes: Any) -> Callable[[], dict[str, Any]]:
    """A good file's content with changes."""

    def content() -> dict[str, Any]:
        import torch

        from tests.attacks.scene import NET

        weights = {"conv.weight": torch.zeros(3, 3, 1, 1), "conv.bias": torch.zeros(3)}
        return {
            "format": "caffe_port", "version": 1, "name": "", "prototxt": NET, "metadata": {},
            "layers": [["conv", "Convolution", list(weights)]], "legacy": [],
            "state_dict": weights, **changes,
        }  # fmt: skip

    return content


def _tensors(make: Callable[[], Any]) -> Make:
    return saved(lambda: model(state_dict={"conv.weight": make()})())


def _torch() -> Any:
    import torch

    return torch


PICKLE = pickle.dumps(Payload(), protocol=2)
PT.add("a bare pickle", raw(PICKLE, "net.pt"))
PT.add(
    "an old torch file: pickles one after the other",
    raw(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + PICKLE, "net.pt"),
)
PT.add(
    "an archive whose pickle runs a command", archive({"net/data.pkl": PICKLE, "net/version": b"3"})
)
PT.add("a command hidden in the state dict", saved(model(state_dict=Payload())))
PT.add("a command hidden in the metadata", saved(model(metadata={"a": Payload()})))
PT.add(
    "TorchScript code",
    archive(
        {
            "net/code/__torch__.py": b"import os\nos.system('touch EXECUTED')",
            "net/data.pkl": PICKLE,
            "net/constants.pkl": PICKLE,
        }
    ),
)
PT.add(
    "members named ../../EXECUTED and /EXECUTED",
    archive({"../../EXECUTED": b"x", "/EXECUTED": b"x", "net/data.pkl": PICKLE}),
)
PT.add(
    "a deflated gigabyte",
    archive({"net/data.pkl": PICKLE, "net/data/0": bytes(2**28)}, zipfile.ZIP_DEFLATED),
)
PT.add("an archive without a pickle", archive({"net/other": b"x"}))
PT.add("a truncated archive", lambda folder: _cut_archive(folder))
PT.add("an archive of its header only", raw(b"PK\x03\x04" + bytes(100), "net.pt"))
PT.add(
    "a state dict of another program", saved(lambda: {"conv.weight": _torch().zeros(3)}),
    reads=PT.entries[:1],
)  # fmt: skip
PT.add("a list instead of a dict", saved(lambda: [1, 2, 3]))
PT.add(
    "a tensor expanded to 2^40 elements", _tensors(lambda: _torch().zeros(1).expand(2**20, 2**20))
)
PT.add("a sparse tensor", _tensors(lambda: _torch().sparse_coo_tensor([[0]], [1.0], (2**20,))))
PT.add("a tensor of whole numbers", _tensors(lambda: _torch().zeros(3, dtype=_torch().int64)))
PT.add("a tensor on the meta device", _tensors(lambda: _torch().empty(2**40, device="meta")))
PT.add("a tensor of halves", _tensors(lambda: _torch().zeros(3, 3, 1, 1, dtype=_torch().float16)))
PT.add("layers that are not a list", saved(model(layers={"conv": 1})))
PT.add("layers nested 100 deep", saved(lambda: model(layers=_nested(100))()))
PT.add("a layer that lists another's tensor", saved(model(layers=[["conv", "", ["other.weight"]]])))
PT.add(
    "a prototxt with a Python layer",
    saved(model(prototxt=one("Python", 'python_param { module: "os" layer: "system" }'))),
    *PT.entries[1:2],
    PT.entries[3],
    PT.entries[5],
)
PT.add(
    "a prototxt nested a million deep",
    saved(model(prototxt="layer {" * 10**6)),
    *PT.entries[1:2],
    PT.entries[3],
    PT.entries[5],
)
PT.add(
    "a level of a million digits",
    saved(model(metadata={"level": "9" * 10**6})),
    *PT.entries[1:2],
    PT.entries[3],
    PT.entries[5],
)
PT.add(
    "shapes that are JSON nested 100,000 deep",
    saved(model(metadata={"input_shapes": "[" * 100_000})),
    *PT.entries[1:2],
    PT.entries[3],
    PT.entries[5],
)
PT.add("a version of a future format", saved(model(version=2)))
PT.add("a pipe", lambda folder: os.mkfifo(folder / "net.pt"))


def _nested(depth: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(depth):
        made = [made]
    return made


def _cut_archive(folder: Path) -> None:
    saved(model())(folder)
    data = (folder / "net.pt").read_bytes()
    (folder / "net.pt").write_bytes(data[: len(data) // 2])


def tensors(header: Any, body: bytes = b"", length: int | None = None) -> Make:
    """A safetensors file of this header; ``length`` is what it claims."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    claimed = len(text) if length is None else length
    return raw(claimed.to_bytes(8, "little") + text + body, "net.safetensors")


META = {
    "format": "caffe_port",
    "version": "1",
    "layers": '[["conv", "", ["conv.weight"]]]',
    "legacy": "[]",
    "aliases": "{}",
}


def _tensor(shape: list[Any], offsets: list[int], dtype: str = "F32", **meta: str) -> Make:
    entry = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
    return tensors({"__metadata__": META | meta, "conv.weight": entry}, bytes(36))


add = SAFETENSORS.add
add("a header of 2^63 bytes", tensors({}, length=2**63))
add("a header longer than the file", tensors({}, length=10**6))
add("a header that is not JSON", tensors(b"{" + b"\xff" * 100))
add("a header nested a million deep", tensors(b'{"a":' + b"[" * 10**6 + b"]" * 10**6 + b"}"))
add("a header of 110 MB", lambda folder: tensors(b"{" + b" " * (110 * 2**20) + b"}")(folder))
add("values that lie before the file", _tensor([9], [-36, 0]))
add("values that lie beyond the file", _tensor([9], [0, 2**40]))
add("offsets of 2^64", _tensor([9], [0, 2**64]))
add("a shape of 2^63", _tensor([2**63 - 1], [0, 36]))
add("a shape whose product wraps around", _tensor([2**32, 2**32, 9], [0, 36]))
add("a shape of -1", _tensor([-1], [0, 36]))
add("a shape of words", _tensor(["a"], [0, 36]))
add("values of another type", _tensor([36], [0, 36], "U8"))
add("a type that does not exist", _tensor([9], [0, 36], "F33"))
add("layers that are JSON nested 100,000 deep", _tensor([9], [0, 36], layers="[" * 100_000))
add("layers that are a number", _tensor([9], [0, 36], layers="1"))
add("an alias to itself", _tensor([9], [0, 36], aliases='{"conv.bias": "conv.bias"}'))
add(
    "tensors that overlap",
    tensors(
        {
            "__metadata__": META,
            "conv.weight": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]},
            "conv.bias": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]},
        },
        bytes(36),
    ),
)
add("a gap between tensors", _tensor([8], [4, 36]))
add("a million tensors", lambda folder: _many(folder))
add(
    "no metadata",
    tensors({"conv.weight": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}, bytes(36)),
    reads=SAFETENSORS.entries[:1],
)
add(
    "a prototxt with a Python layer",
    _tensor([9], [0, 36], prototxt=one("Python", 'python_param { module: "os" layer: "system" }')),
    SAFETENSORS.entries[1],
    SAFETENSORS.entries[5],
)


def _many(folder: Path) -> None:
    stream = io.StringIO()
    stream.write('{"__metadata__":' + json.dumps(META))
    for i in range(10**6):
        stream.write(f',"{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}')
    stream.write("}")
    tensors(stream.getvalue().encode())(folder)
