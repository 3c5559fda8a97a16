"""The package's entry points, as users call them, on the names of a scene."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One way into the package.

    Attributes:
        name: the command or call, as the table shows it.
        run: carries it out in the present folder; returns an exit status, 0 for success.
    """

    name: str
    run: Callable[[], int]


def caffe_port(line: str) -> Entry:
    """``caffe-port <line>``, in this process."""

    def run() -> int:
        import click

        from caffe_port.cli import main

        try:
            with main.make_context("caffe-port", shlex.split(line)) as context:
                main.invoke(context)
        except click.exceptions.Exit as stop:
            return stop.exit_code
        except click.ClickException as error:
            error.show()
            return error.exit_code
        return 0

    return Entry(f"caffe-port {line}", run)


def program(name: str, line: str) -> Entry:
    """One of the original programs, in this process."""

    def run() -> int:
        from caffe_port.cli import caffe
        from caffe_port.cli.caffe_tools import datasets, models

        home = datasets if hasattr(datasets, name) else models
        main = caffe.main if name == "caffe" else getattr(home, name)
        status: int = main(shlex.split(line))
        return status

    return Entry(f"{name} {line}", run)


def python(code: str) -> Entry:
    """Python code of a user, who has imported ``caffe_port as cp`` and ``caffe``."""

    def run() -> int:
        import caffe_port as cp
        from caffe_port import pycaffe

        exec(code, {"cp": cp, "caffe": pycaffe})
        return 0

    return Entry(code, run)
