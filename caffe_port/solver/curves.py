"""Loss, learning rate and outputs of a training, kept and drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from caffe_port.errors import UsageError
from caffe_port.files import write_text
from caffe_port.html import Html, page, section
from caffe_port.solver.chart import Points, chart, document
from caffe_port.solver.watching import Step


class Curves:
    """Remembers what happens; draws it at each snapshot, and at the end by ``close``.

    Args:
        path: the file, .html or .svg.
    Raises:
        UsageError: another suffix.
    """

    def __init__(self, path: str) -> None:
        if Path(path).suffix not in (".html", ".svg"):
            raise UsageError(f"-plot is '{path}'; expected a file .html or .svg")
        self._path = Path(path)
        self._loss: dict[str, Points] = defaultdict(list)
        self._rate: dict[str, Points] = defaultdict(list)
        self._others: dict[str, Points] = defaultdict(list)

    def step(self, step: Step) -> None:
        """Keeps loss and rate."""
        self._loss["train, smoothed"].append((step.iteration, step.loss))
        self._rate["learning rate"].append((step.iteration, step.rate))

    def outputs(self, what: str, iteration: int, values: Mapping[str, float]) -> None:
        """Keeps the outputs of a net; those with 'loss' in their name are drawn as such."""
        for name, value in values.items():
            group = self._loss if "loss" in name else self._others
            group[f"{what} {name}"].append((iteration, value))

    def saved(self) -> None:
        """Draws what there is."""
        groups = {"Loss": self._loss, "Learning rate": self._rate, "Outputs": self._others}
        charts = {title: group for title, group in groups.items() if group}
        if self._path.suffix == ".svg":
            text = document(charts)
        else:
            drawn = [section(title, Html(chart(group))) for title, group in charts.items()]
            text = page("Training", drawn)
        write_text(self._path, text)

    def close(self) -> None:
        """Draws everything, however the training ended."""
        self.saved()
