"""Ctrl-C is delayed until the end of a block."""

from __future__ import annotations

import io
import signal
import threading

import pytest
import torch

from caffe_port.interrupts import delayed_interrupt
from caffe_port.weights.torch_file import save


def test_it_is_raised_at_the_end_of_the_block():
    done = []

    def work():
        with delayed_interrupt():
            signal.raise_signal(signal.SIGINT)
            done.append(1)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_of_the_block_is_kept():
    with pytest.raises(ValueError, match="its own"), delayed_interrupt():
        raise ValueError("its own")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_are_not_affected():
    found = []

    def work():
        with delayed_interrupt():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]


def test_torch_finishes_its_file_first():
    class Pressed(io.BytesIO):
        def write(self, data):
            signal.raise_signal(signal.SIGINT)
            return super().write(data)

    stream = Pressed()
    with pytest.raises(KeyboardInterrupt):
        save({"a": torch.arange(4)}, stream)
    stream.seek(0)
    assert torch.load(stream, weights_only=True)["a"].tolist() == [0, 1, 2, 3]
