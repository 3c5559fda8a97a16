"""What each family of segmentation nets goes through: convert, run, export, trace.

The prototxts of these tests are written for them, in the layer names and spellings of options that
the family's own nets have, and with few channels.
"""

from __future__ import annotations

import torch
from click.testing import CliRunner

from caffe_port import load
from caffe_port.cli import main
from caffe_port.export.graph import make_graph
from caffe_port.unravel import trace
from tests.export.making import feed
from tests.export.test_module import assert_equal_outputs, emit, loaded
from tests.export.test_onnx import assert_close, write


def randomized(net, seed=1, scale=0.3):
    """Fills every parameter, so that no zero hides a fault; variances stay above 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator) * scale
            positive = name.endswith((".variance", ".factor"))
            parameter.copy_(drawn.abs() + 0.2 if positive else drawn)
    return net


def converted(tmp_path, text, scale=0.3):
    """The net of a text, phase TEST, after `caffe-port convert` of its prototxt and caffemodel."""
    path, weights = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    path.write_text(text)
    made = randomized(load(path), scale=scale)
    made.save(weights)
    result = CliRunner().invoke(
        main, ["convert", str(path), str(weights), "-o", str(tmp_path / "net.pt")]
    )
    assert result.exit_code == 0, result.output
    net = load(tmp_path / "net.pt")
    for name, parameter in made.named_parameters():
        assert torch.equal(net.get_parameter(name), parameter), name
    return net


def check_exports(tmp_path, net):
    """The emitted module gives the net's outputs, and onnxruntime does, within the bounds."""
    assert_equal_outputs(net, loaded(tmp_path / "m.py", emit(net, tmp_path / "m.py")))
    write(net, tmp_path / "n.onnx")
    assert_close(net, tmp_path / "n.onnx")


def traced(net, blob, data="data"):
    """Points of ``blob``, traced down to the input: label -> points of the input."""
    x = feed(net, make_graph(net.spec).inputs)[data][:1]
    found = trace(net, x.numpy(), blob)
    assert len(found)
    for label in found:
        assert len(found[label][data])
    return found


def gradients(net, inputs, loss):
    """Runs a net of phase TRAIN and its backward pass: the loss, and the diff of each parameter."""
    tops = net(inputs, keep=[loss])
    tops[loss].sum().backward()
    learned = {n: p.grad for n, p in net.named_parameters() if p.requires_grad}
    assert all(grad is not None and torch.isfinite(grad).all() for grad in learned.values())
    return tops[loss].detach(), learned
