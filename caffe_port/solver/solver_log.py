"""The lines that a solver logs, with the words and places of its dialect.

Source: BVLC/caffe solver.cpp, sgd_solver.cpp; the same files of DeepLab v1 and v2.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from caffe_port.live import mode
from caffe_port.proto import caffe_pb2
from caffe_port.proto.printer import print_text
from caffe_port.solver.log import log
from caffe_port.solver.places import Place

_TRAIN_NETS = {
    "net": Place.NET,
    "net_param": Place.NET_PARAM,
    "train_net": Place.TRAIN_NET,
    "train_net_param": Place.TRAIN_NET_PARAM,
}


def is_root() -> bool:
    """Whether this process's solver is the first of several, which alone logs, tests and saves."""
    return mode.solver_rank() == 0


class SolverLog:
    """Writes a solver's lines, the root solver's only.

    Args:
        dialect: whose Caffe the train net was written for.
    """

    def __init__(self, dialect: str) -> None:
        self.dialect = dialect
        self._lap = (time.perf_counter(), 0)  # when the loss was last logged, at which iteration

    def line(self, place: Place, message: str, body: str | None = None) -> None:
        """Writes a line, and a text below it."""
        if is_root():
            log(message, place=place.of(self.dialect), body=body)

    def initializing(self, param: caffe_pb2.SolverParameter) -> None:
        """Says with which parameters a solver is made."""
        message = "Initializing solver from parameters: "
        self.line(Place.INITIALIZING_SOLVER, message, body=print_text(param))

    def creating_train_net(self, field: str, source: object) -> None:
        """Says which field of the solver names the train net."""
        if field.endswith("_param"):
            self.line(_TRAIN_NETS[field], f"Creating training net specified in {field}.")
        else:
            message = f"Creating training net from {field} file: {source}"
            self.line(_TRAIN_NETS[field], message)

    def start_lap(self, iteration: int) -> None:
        """Starts to measure the speed that ``loss`` says."""
        self._lap = (time.perf_counter(), iteration)

    def loss(self, iteration: int, loss: float, display: int) -> None:
        """Says the loss; BVLC also the speed since the last time, which the older forks do not."""
        speed = ""
        if not self.dialect.startswith("deeplab"):
            then, last = self._lap
            self.start_lap(iteration)
            seconds = self._lap[0] - then
            rate = (iteration - last) / (seconds or 1)
            speed = f" ({rate:g} iter/s, {seconds:g}s/{display} iters)"
        self.line(Place.LOSS, f"Iteration {iteration}{speed}, loss = {loss:g}")

    def outputs(
        self, what: str, weights: Mapping[str, float], values: Mapping[tuple[str, int], float]
    ) -> None:
        """Says a net's outputs and what they add to the loss.

        Args:
            what: 'Train' or 'Test'.
            weights: blob name -> loss weight.
            values: (blob name, element) -> value.
        """
        place = Place.TRAIN_OUTPUT if what == "Train" else Place.TEST_OUTPUT
        for i, ((name, _), value) in enumerate(values.items()):
            weight = weights[name]
            part = f" (* {weight:g} = {weight * value:g} loss)" if weight else ""
            self.line(place, f"    {what} net output #{i}: {name} = {value:g}{part}")

    def clipping(self, norm: float, most: float, factor: float) -> None:
        """Says that the diffs were scaled down."""
        self.line(
            Place.CLIPPING,
            f"Gradient clipping: scaling down gradients (L2 norm {norm:g} > {most:g}) "
            f"by scale factor {factor:g}",
        )

    def snapshot(self, path: str, hdf5: bool) -> None:
        """Says where the weights go."""
        place = Place.SNAPSHOT_HDF5 if hdf5 else Place.SNAPSHOT
        self.line(place, f"Snapshotting to {self._kind(hdf5)}{path}")

    def state(self, path: str, hdf5: bool) -> None:
        """Says where the solver's state is."""
        place = Place.STATE_HDF5 if hdf5 else Place.STATE
        self.line(place, f"Snapshotting solver state to {self._kind(hdf5)}{path}")

    def _kind(self, hdf5: bool) -> str:
        if hdf5:
            return "HDF5 file "
        return "" if self.dialect == "deeplab1" else "binary proto file "
