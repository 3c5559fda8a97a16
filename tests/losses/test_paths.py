"""Which path runs."""

from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest

from caffe_port.losses import feedback


@pytest.mark.parametrize(
    ("path", "cuda", "installed", "numel", "wanted"),
    [
        ("auto", True, True, 5, "triton"),
        ("auto", True, False, 5, "torch"),
        ("auto", False, True, 5, "torch"),
        ("auto", True, True, 0, "torch"),
        ("torch", True, True, 5, "torch"),
        ("triton", True, True, 5, "triton"),
        ("triton", False, True, 5, "triton"),  # in the interpreter, which the tests switch on
    ],
)
def test_which_path_runs(monkeypatch, path, cuda, installed, numel, wanted):
    monkeypatch.setattr(feedback, "has_triton", lambda: installed)
    like = SimpleNamespace(is_cuda=cuda, numel=lambda: numel, device="here")
    assert feedback.chosen_path(path, like) == wanted


@pytest.mark.parametrize(
    ("found", "wanted"), [("3.6.0", True), ("3.10.1+git", True), ("4.0", True), ("3.4.0", False)]
)
def test_which_triton_is_accepted(monkeypatch, found, wanted):
    monkeypatch.setattr(feedback, "version", lambda name: found)
    assert feedback.has_triton.__wrapped__() is wanted


def test_no_triton(monkeypatch):
    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(feedback, "version", absent)
    assert feedback.has_triton.__wrapped__() is False


def test_losses_do_not_import_layers():
    """Layers call losses; nothing goes the other way."""
    files = list(Path(feedback.__file__).parent.glob("*.py"))
    assert files
    assert [path.name for path in files if "caffe_port.layers" in path.read_text()] == []
