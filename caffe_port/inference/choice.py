"""Which engine is the fastest: measured once for a net, a size and a machine, and remembered."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import os
import platform
import re
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from caffe_port.errors import CaffePortError, EngineWarning
from caffe_port.files import read_json, write_text
from caffe_port.inference.engines import Engine, UnsuitableError, installed
from caffe_port.parity.tolerance import WHOLE_NET_OF_PEAK
from caffe_port.spec import NetSpec
from caffe_port.spec.ops import Shape

_MOST = 500  # choices that are remembered
_ROUNDS, _MOST_ROUNDS, _SECONDS = 2, 20, 0.4
#: Sizes with at most so many times more or fewer pixels share a choice.
_NEAR = 2.0
Way = Callable[[], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Question:
    """For what the fastest engine is asked for.

    Attributes:
        subject: digest of the net without its weights, of the kept blobs, of the number of
            threads, of the processor and of the engines' versions.
        sizes: the shape of each input.
    """

    subject: str
    sizes: tuple[tuple[str, Shape], ...]

    @classmethod
    def of(
        cls, spec: NetSpec, shapes: Mapping[str, Shape], kept: Iterable[str], threads: int
    ) -> Question:
        """The question for a net.

        Args:
            spec: the net.
            shapes: of the inputs.
            kept: the blobs that are returned.
            threads: that compute one pass.
        """
        # the net's own sizes change nothing
        layers = [(x.name, x.type, x.bottoms, x.tops, repr(x.op)) for x in spec.layers]
        known = [layers, sorted(kept), threads, processor(), _versions()]
        text = hashlib.sha256(repr(known).encode()).hexdigest()[:32]
        return cls(text, tuple(sorted((name, tuple(shape)) for name, shape in shapes.items())))

    def distance(self, other: Question) -> float:
        """How many times more or fewer pixels the other has; infinite where it is another net."""
        if self.subject != other.subject:
            return math.inf
        one, two = dict(self.sizes), dict(other.sizes)
        if {name: shape[:2] for name, shape in one.items()} != {
            name: shape[:2] for name, shape in two.items()
        }:
            return math.inf
        ratios = (math.prod(one[name]) / math.prod(two[name]) for name in one)
        return max((max(ratio, 1 / ratio) for ratio in ratios), default=1.0)


@functools.cache
def processor() -> str:
    """The processor, the number of its cores, and the instruction sets that torch may use."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(errors="replace")
        found = re.search(r"^model name\s*:\s*(.+)$", text, re.M)
        name = found[1] if found else name
    limits = [os.environ.get(key, "") for key in ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")]
    capability = torch.backends.cpu.get_cpu_capability()
    return ", ".join([f"{name}, {os.cpu_count()} cores, {capability}", *filter(None, limits)])


@functools.cache
def _versions() -> tuple[str, ...]:
    return tuple(f"{name} {metadata.version(name)}" for name in installed())


def memory() -> Path:
    """The file of what was measured: engines.json in CAFFE_PORT_CACHE, or in the folder
    caffe_port of XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get("CAFFE_PORT_CACHE"):
        return Path(own) / "engines.json"
    folder = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(folder) if os.path.isabs(folder) else Path.home() / ".cache"
    return base / "caffe_port" / "engines.json"


_in_process: dict[Question, Engine] = {}


def remembered(question: Question) -> Engine | None:
    """The engine of an earlier measurement for the same or a near size, None without one."""
    known = {**_read(), **_in_process}
    near = [(question.distance(each), engine) for each, engine in known.items()]
    usable = [each for each in near if each[0] <= _NEAR and each[1] in installed()]
    return min(usable, key=lambda each: each[0])[1] if usable else None


def remember(question: Question, engine: Engine, seconds: Mapping[Engine, float]) -> None:
    """Keeps a choice in this process and, where it can be written, in the file."""
    _in_process[question] = engine
    entries = _entries()
    entries.append(
        {
            "subject": question.subject, "sizes": question.sizes, "engine": engine,
            "seconds": {name: round(value, 5) for name, value in seconds.items()},
        }
    )  # fmt: skip
    with contextlib.suppress(OSError, RuntimeError):  # no home, a full disk or a read-only one
        write_text(memory(), json.dumps(entries[-_MOST:], indent=1) + "\n")


def _entries() -> list[Any]:
    try:
        found = read_json(memory())
    except (CaffePortError, OSError, RuntimeError):  # absent, damaged, or no home
        return []
    return found if isinstance(found, list) else []


def _read() -> dict[Question, Engine]:
    """What the file holds; damaged entries are ignored."""
    found: dict[Question, Engine] = {}
    for entry in _entries():
        with contextlib.suppress(TypeError, KeyError, ValueError, AttributeError):
            sizes = tuple((str(n), tuple(int(s) for s in shape)) for n, shape in entry["sizes"])
            if all(side > 0 for _, shape in sizes for side in shape):
                found[Question(str(entry["subject"]), sizes)] = entry["engine"]
    return found


def measure(ways: Mapping[Engine, Way], threads: int) -> dict[Engine, float]:
    """Seconds of each way, interleaved; ways that fail or whose results are wrong are left out.

    One thread is measured in seconds of the processor, which other programs leave alone.

    Args:
        ways: engine -> a pass; those of torch come first and are right.
        threads: of each way.
    Warns:
        EngineWarning: a way is left out, and why.
    """
    usable: dict[Engine, Way] = {}
    right: Mapping[str, Tensor] = {}
    for engine, way in ways.items():
        if engine == "torch":
            right, usable[engine] = way(), way
            continue
        reason = _refused(way, right)
        if reason is None:
            continue
        if reason:
            warnings.warn(f"the engine {engine} is not used: {reason}", EngineWarning, stacklevel=2)
        else:
            usable[engine] = way
    clock = time.process_time if threads == 1 else time.perf_counter
    seconds: dict[Engine, float] = dict.fromkeys(usable, math.inf)
    started = time.perf_counter()
    for turn in range(_MOST_ROUNDS if len(usable) > 1 else 0):
        if turn >= _ROUNDS and time.perf_counter() - started > _SECONDS:
            break
        for engine, way in usable.items():
            before = clock()
            way()
            seconds[engine] = min(seconds[engine], clock() - before)
    return seconds


def _refused(way: Way, right: Mapping[str, Tensor]) -> str | None:
    """Why a way cannot be used; "" where its results are those of torch, None if it has none."""
    try:
        found = way()
    except UnsuitableError:
        return None
    except Exception as error:  # of any kind: another library's
        return f"{type(error).__name__}: {error}"
    for blob, exact in right.items():
        peak = float(exact.abs().max()) if exact.numel() else 0.0
        off = float((found[blob] - exact).abs().max()) if exact.numel() else 0.0
        if not off <= WHOLE_NET_OF_PEAK * peak:  # or not a number
            return f"its '{blob}' differs from torch's by {off:.1e}, with a peak of {peak:.1e}"
    return ""
