"""The program ``caffe``, with Caffe's commands and flags."""

from __future__ import annotations

from collections.abc import Sequence

from caffe_port import start
from caffe_port.cli.caffe_tools._program import GPU, NET_FLAGS, run
from caffe_port.cli.gflags import Flag, Flags
from caffe_port.errors import UsageError

_COMMANDS = {
    "train": "train or finetune a model",
    "test": "score a model",
    "device_query": "show GPU diagnostic information",
    "time": "benchmark model execution time",
}
_ABOUT = "caffe <command> <flags>\n\n  Commands:\n" + "\n".join(
    f"    {name:15} {what}" for name, what in _COMMANDS.items()
)
FLAGS = {
    "gpu": GPU,
    "solver": Flag("", "train: the solver's prototxt."),
    "model": Flag("", "test, time: the net's prototxt."),
    "phase": Flag("", "time: TRAIN, which is the default, or TEST."),
    "level": Flag(0, "The net's level."),
    "stage": Flag("", "The net's stages, separated by ','."),
    "snapshot": Flag("", "train: the solver state to resume from."),
    "weights": Flag("", "Initial weights, files separated by ','; not with -snapshot."),
    "iterations": Flag(50, "test, time: number of batches."),
    "sigint_effect": Flag("stop", "train: what Ctrl-C does: snapshot, stop or none."),
    "sighup_effect": Flag("snapshot", "train: what SIGHUP does: snapshot, stop or none."),
    "runstate": Flag(
        True,
        "train: write X.runstate next to X.solverstate and resume from it, so that a resumed run "
        "equals an uninterrupted one; -norunstate resumes as Caffe does.",
    ),
    "plot": Flag("", "train: plot loss, rate and accuracy in this .html or .svg file."),
    "tensorboard": Flag("", "train: write TensorBoard events into this folder."),
    "torch_dropout": Flag(
        False, "train: dropout masks from torch's generator, which is faster but not Caffe's."
    ),
    "amp": Flag("", "train: products in bf16 or fp16: faster on GPUs; not Caffe's digits."),
    "channels_last": Flag(
        False, "train: blobs in channels-last memory format; not Caffe's digits."
    ),
    "compile": Flag(False, "train: layers compiled by torch.compile; not Caffe's digits."),
    "checkpoint": Flag(
        False, "train: recompute blobs for the backward pass: less memory, the same numbers."
    ),
    "skip_bad_images": Flag(False, "train: skip missing and damaged images of a list."),
    **NET_FLAGS,
}


def _body(flags: Flags, others: list[str]) -> None:
    if len(others) != 1:
        raise UsageError(f"expected one command, found {others or 'none'}\n{_ABOUT}")
    if others[0] not in _COMMANDS:
        raise UsageError(f"Unknown action: {others[0]}\n{_ABOUT}")
    from caffe_port.cli.caffe_tools import commands

    getattr(commands, others[0])(flags)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; see ``run`` for the exit status."""
    return run("caffe", _body, FLAGS, _ABOUT, arguments)


if __name__ == "__main__":
    start.caffe()
