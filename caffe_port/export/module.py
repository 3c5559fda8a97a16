"""Writing a net as a stand-alone PyTorch module and its state dict."""

from __future__ import annotations

import ast
import builtins
import importlib
import keyword
import os
import re
import warnings
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from caffe_port.errors import UsageError
from caffe_port.export.graph import ExportWarning, Graph, make_graph
from caffe_port.export.module_class import Keys, NetClass
from caffe_port.export.module_code import GLOBALS, MODULE_RULES, ModuleCode, plain
from caffe_port.export.module_program import Body, Line, Program
from caffe_port.export.module_repeats import Repeats, Sharing
from caffe_port.files import atomic_path, create, write_text
from caffe_port.spec.ops import Shape

if TYPE_CHECKING:
    from torch import Tensor

    from caffe_port.net import Net

_HELPERS = ("emitted", "emitted_recurrent")  # files of this package
STATE_SUFFIXES = (".pt", ".pth", ".safetensors")


@dataclass(frozen=True)
class ModuleText:
    """An emitted module.

    Attributes:
        text: the Python source.
        keys: state dict key -> (layer, index of the parameter) and the shape it has there.
        left_out: one message per part of the net that is missing.
    """

    text: str
    keys: Keys
    left_out: tuple[str, ...]


def emit_module(
    net: Net, path: str | os.PathLike[str], state: str | os.PathLike[str] | None = None
) -> Path:
    """Writes a net as a Python file that needs torch only, and its weights as a state dict.

    Args:
        net: of phase TEST.
        path: the Python file to make.
        state: the state dict to make, .pt, .pth or .safetensors; `<path without .py>.state.pt`
            unless given. Its keys are those of the module, so it loads strictly.
    Returns:
        The state dict's path.
    Raises:
        UnsupportedLayerError: a type without a rule; nothing is written.
        LayerError: a layer whose options cannot be expressed.
        UsageError: the net is of phase TRAIN, or a suffix is not known.
        OSError: a file cannot be written.
    Warns:
        ExportWarning: once for each layer that is left out, such as a loss.
    Examples:
        >>> import caffe_port as cp
        >>> net = cp.load("examples/shapes_voc/caffe_run/recording/net.prototxt")
        >>> cp.export.emit_module(net, "largefov.py").name
        'largefov.state.pt'
    """
    target = Path(path)
    beside = state_path(target, state)
    module = module_text(make_graph(net.spec), target.stem, beside.name)
    _write_state(beside, _state(net, module.keys))
    write_text(target, module.text)
    for message in module.left_out:
        warnings.warn(message, ExportWarning, stacklevel=2)
    return beside


def module_keys(net: Net) -> dict[str, tuple[str, int]]:
    """The keys of the state dict that ``emit_module`` writes, and the parameters they hold.

    A key is `<attribute>.<parameter>`. It depends on the net's layers only, not on its weights or
    the sizes of its input. Take the keys from here instead of composing them from layer names.

    Args:
        net: of phase TEST.
    Returns:
        key -> (layer, index of the parameter): the tensor has the elements of
        ``net.layer_params(layer)[index]`` in the same order, perhaps under another shape.
    Raises:
        UnsupportedLayerError: a type without a rule.
        LayerError: a layer whose options cannot be expressed.
        UsageError: the net is of phase TRAIN.
    Examples:
        >>> import caffe_port as cp
        >>> net = cp.load("examples/shapes_voc/caffe_run/recording/net.prototxt")
        >>> cp.export.module_keys(net)["fc8_shapes.weight"]
        ('fc8_shapes', 0)
    """
    keys = module_text(make_graph(net.spec), "net", "net.pt").keys
    return {key: (layer, index) for key, (layer, index, _) in keys.items()}


def state_path(path: Path, state: str | os.PathLike[str] | None) -> Path:
    """Where the state dict goes.

    Raises:
        UsageError: the suffixes are not .py and one of a state dict.
    """
    if path.suffix != ".py":
        raise UsageError(f"a module is written to a .py file, not to '{path.name}'")
    beside = path.with_suffix(".state.pt") if state is None else Path(state)
    if beside.suffix not in STATE_SUFFIXES:
        expected = ", ".join(STATE_SUFFIXES)
        raise UsageError(f"'{beside.name}': a module's state dict is written as {expected}")
    return beside


def module_text(graph: Graph, stem: str, state: str) -> ModuleText:
    """The source of a module.

    Args:
        graph: what to write.
        stem: names the class where the net has no name.
        state: file name of the state dict, for the example of its use.
    """
    MODULE_RULES.check(graph)
    wanted: set[str] = set()
    lines = []
    for node in graph.nodes:
        code = ModuleCode.of(node)
        value = MODULE_RULES.apply(node, code)
        lines.append(Line(node, value, code.construct, code.shapes, code.keeps_state))
        wanted |= code.helpers
    name = _class_name(graph.name) or _class_name(stem) or "Net"
    program = Program(Body(tuple(lines), graph.inputs, tuple(graph.outputs.values())), [], [])
    Sharing(program).fold()
    Repeats(program).fold()
    made = NetClass(graph, program, name, _module_names(), _helper_names())
    helpers, classes = _helpers(wanted), made.text()
    used = "\n".join((helpers, *(f"{line.value}\n{line.construct}" for line in lines)))
    parts = (_header(graph, name, state, used), helpers, classes)
    text = "\n\n\n".join(part for part in parts if part) + "\n"
    return ModuleText(text, made.keys, graph.left_out)


def module_types() -> list[str]:
    """The layer types that can be written as a module, sorted."""
    return MODULE_RULES.types()


def _module_names() -> set[str]:
    from torch import nn

    return {*dir(nn.Module()), *GLOBALS}


def _class_name(name: str) -> str:
    words = re.findall(r"[0-9A-Za-z]+", name)
    text = "".join(word[0].upper() + word[1:] for word in words)
    if text in {*_helper_names(), *keyword.kwlist, *dir(builtins)}:
        return f"{text}Net"
    return f"Net{text}" if text[:1].isdigit() else text


def _header(graph: Graph, name: str, state: str, body: str) -> str:
    title, state = plain(graph.name) or name, plain(state)
    loaded = f'torch.load("{state}", weights_only=True)'
    if state.endswith(".safetensors"):
        loaded = f'safetensors.torch.load_file("{state}")'
    lines = [
        f'"""{title}: a Caffe net as a PyTorch module, written by caffe_port.',
        "",
        "Its weights are in a file of their own, and Dropout drops unless told to evaluate:",
        "",
        f"    net = {name}()",
        f"    net.load_state_dict({loaded})",
        f"    net.eval()({', '.join(plain(blob) for blob in graph.inputs)})",
        '"""',
        "",
        "import torch" if re.search(r"\btorch\.", body) else "",
        "from torch import Tensor, nn",
        "from torch.nn import functional as F" if re.search(r"\bF\.", body) else "",
    ]
    return "\n".join(line for i, line in enumerate(lines) if line or i < len(lines) - 3)


def _helpers(wanted: set[str]) -> str:
    """Source of what is needed of ``emitted``, and of what that needs, in the order there."""
    parts = _helper_parts()
    needed, open_ = set(wanted), list(wanted)
    while open_:
        new = (parts[open_.pop()][1] & parts.keys()) - needed
        needed |= new
        open_ += new
    return "\n\n\n".join(text for name, (text, _) in parts.items() if name in needed)


@cache
def _helper_parts() -> dict[str, tuple[str, frozenset[str]]]:
    """Functions and classes of ``emitted``: name -> source, and the names in it."""
    found = {}
    for file in _HELPERS:
        source = resources.files("caffe_port.export").joinpath(f"{file}.py").read_text("utf-8")
        lines = source.splitlines()
        for part in ast.parse(source).body:
            if isinstance(part, (ast.FunctionDef, ast.ClassDef)):
                text = "\n".join(lines[part.lineno - 1 : part.end_lineno])
                names = {node.id for node in ast.walk(part) if isinstance(node, ast.Name)}
                found[part.name] = text, frozenset(names)
    return found


def _helper_names() -> set[str]:
    files = [importlib.import_module(f"caffe_port.export.{file}") for file in _HELPERS]
    return {name for file in files for name in vars(file) if not name.startswith("_")}


def _state(net: Net, keys: Keys) -> dict[str, Tensor]:
    """Shared parameters stay one tensor."""
    made: dict[tuple[int, Shape], Tensor] = {}
    state = {}
    for key, (layer, index, shape) in keys.items():
        blob = net.layer_params(layer)[index]
        whole = made.setdefault((id(blob), shape), blob.detach().cpu().contiguous().view(shape))
        state[key] = whole
    return state


def _write_state(path: Path, state: dict[str, Tensor]) -> None:
    with atomic_path(path) as temporary, create(temporary) as stream:
        if path.suffix == ".safetensors":
            import safetensors.torch

            # the format has no sharing; the module shares again what it loads
            copies = {key: tensor.clone() for key, tensor in state.items()}
            stream.write(safetensors.torch.save(copies, {"format": "pt"}))
        else:
            from caffe_port.weights.torch_file import save

            save(state, stream)
