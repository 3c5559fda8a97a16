"""An experiment: settings that a user leaves out, and its runs, in turn or in several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from caffe_port.crf import CRFParameters, parse_parameters
from caffe_port.errors import CaffePortError, UsageError
from caffe_port.evaluation.figures import read_class_names
from caffe_port.evaluation.scheduler import cores
from caffe_port.finetuning import running
from caffe_port.finetuning.inputs import Images, Options, RenderedRecipe
from caffe_port.finetuning.published import PUBLISHED
from caffe_port.finetuning.scoring import Control, Setting, StoppedError, Trial
from caffe_port.finetuning.variants import Variant
from caffe_port.live import mode
from caffe_port.proto import caffe_pb2

NO_CRF = "none"


def make_setting(variant: Variant, images: Images, init: Path, options: Options) -> Setting:
    """The setting of an experiment whose first recipe is ``variant``.

    Raises:
        UsageError: no such device or CRF preset.
        FormatError: the recipe is malformed.
    """
    _check_device(options.device)
    parameters: CRFParameters | None
    if options.crf == NO_CRF:
        parameters = None
    elif options.crf is not None:
        parameters = parse_parameters(options.crf)
    else:
        parameters = own_crf(variant, RenderedRecipe(variant, images, options).test)
    options = replace(options, threads=options.threads or cores(options.jobs))
    return Setting(images, init.resolve(), options, parameters)


def own_crf(variant: Variant, test: caffe_pb2.NetParameter) -> CRFParameters | None:
    """The CRF of the test net's DenseCRF layer, or else the one published with this net."""
    for layer in test.layer:
        if layer.type == "DenseCRF":
            given = layer.dense_crf_param
            return CRFParameters(
                tuple(given.pos_w), tuple(given.pos_xy_std), tuple(given.bi_w),
                tuple(given.bi_xy_std), tuple(given.bi_rgb_std), given.max_iter,
            )  # fmt: skip
    presets = [row.crf for row in PUBLISHED if row.recipe.partition("/")[0] == variant.net]
    return parse_parameters(presets[0]) if presets else None


def class_names_of(images: Images, path: Path | None) -> list[str] | None:
    """Class names from a file, the data set or its class_names.txt; None means VOC's.

    Raises:
        DataError: the file cannot be read.
    """
    if path is None and images.data is not None:
        return list(images.data.classes)
    own = images.root / "class_names.txt"
    if path is None and not own.is_file():
        return None
    return read_class_names(path or own)


def _check_device(device: str) -> None:
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise UsageError(f"the device is '{device}'; expected cpu, cuda or cuda:1")
    mode.expect_device(device)


_Answer = tuple[str, Any]  # "done" and the result, "stopped" and None, "failed" and the message


class Progress(Protocol):
    """Shows the progress of the runs; called from several threads."""

    def update(self, run: int, what: str, part: float) -> None:
        """Shows the progress of a run: 0 to 1 while it trains, 1 to 2 while it is scored."""

    def done(self, run: int) -> None:
        """Shows that a run is finished."""


def make_trials(
    setting: Setting, variants: Sequence[Variant], seeds: Sequence[int], out: Path
) -> list[Trial]:
    """The given weights, then all variants with the first seed, with the second, ..."""
    found = [Trial(setting, variants[0], None, out / "runs" / "start")]
    for seed in seeds:
        for variant in variants:
            folder = out / "runs" / variant.name / f"seed_{seed}"
            found.append(Trial(setting, variant, seed, folder))
    return found


def run_all(work: Sequence[Trial], progress: Progress, jobs: int = 1) -> None:
    """Runs all unfinished trials; on SIGINT or SIGTERM the active ones are saved.

    Args:
        work: from ``make_trials``.
        progress: shows the progress.
        jobs: the number of processes; 1 is this process.
    Raises:
        KeyboardInterrupt: a signal came; the same call resumes.
        CaffePortError: that of the first run that failed; the other active ones are saved.
    """
    left = []
    for number, trial in enumerate(work):
        if running.finished(trial) is None:
            left.append(number)
        else:
            progress.done(number)
    if not left:
        return
    if jobs == 1:
        stop = threading.Event()
        with _stopped_by_signals(stop.set):
            _in_turn(work, left, progress, stop)
    else:
        _side_by_side(work, left, progress, min(jobs, len(left)))


def _in_turn(
    work: Sequence[Trial], left: Sequence[int], progress: Progress, stop: threading.Event
) -> None:
    for number in left:

        def update(what: str, part: float, number: int = number) -> None:
            progress.update(number, what, part)

        try:
            running.run(work[number], Control(stop.is_set, update))
        except StoppedError:
            raise KeyboardInterrupt from None
        progress.done(number)
        if stop.is_set():
            raise KeyboardInterrupt


def _side_by_side(
    work: Sequence[Trial], left: Sequence[int], progress: Progress, jobs: int
) -> None:
    context = multiprocessing.get_context("spawn")
    stop, messages = context.Event(), context.SimpleQueue()
    listener = threading.Thread(target=_listen, args=(messages, progress), daemon=True)
    listener.start()
    start = (stop, messages, os.getpid())
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start, initargs=start)
    try:
        with _stopped_by_signals(stop.set):
            waiting = {pool.submit(_run, number, work[number]): number for number in left}
            _await(waiting, progress, stop)
    except BrokenProcessPool as error:
        if stop.is_set():  # Ctrl-C before a process ignored it
            raise KeyboardInterrupt from None
        raise CaffePortError(
            "a process died, probably out of memory; its last snapshot is kept: run the same "
            "command again, with fewer jobs"
        ) from error
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
        messages.put(None)
        listener.join()


def _await(waiting: dict[Future[_Answer], int], progress: Progress, stop: Any) -> None:
    """Waits for all futures; raises the error of the first that failed."""
    interrupted = False
    while waiting and not interrupted:
        for future in wait(waiting, timeout=1, return_when=FIRST_COMPLETED).done:
            number = waiting.pop(future)
            kind, value = future.result()
            if kind == "failed":
                raise CaffePortError(value)
            if kind == "done":
                progress.done(number)
        interrupted = stop.is_set()
    if interrupted:
        raise KeyboardInterrupt


def _listen(messages: Any, progress: Progress) -> None:
    while (message := messages.get()) is not None:
        progress.update(*message)


@contextmanager
def _stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Lets the first SIGINT or SIGTERM call ``stop``; a second one has its former handler."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:
        stop()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_process: list[tuple[Any, Any, int]] = []  # of a worker: event, messages, parent
_busy = threading.Lock()  # held while the worker runs a trial


def _start(stop: Any, messages: Any, parent: int) -> None:
    # the parent handles signals and sets the event
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _process.append((stop, messages, parent))
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """Ends this process when its parent has ended; otherwise it would wait for ever."""
    while os.getppid() == parent:
        time.sleep(1)
    with _busy:
        os._exit(1)


def _run(number: int, trial: Trial) -> _Answer:
    stop, messages, parent = _process[0]

    def stopped() -> bool:
        # a parent that was killed does not set the event
        return bool(stop.is_set()) or os.getppid() != parent

    if stopped():
        return "stopped", None
    try:
        control = Control(stopped, lambda what, part: messages.put((number, what, part)))
        with _busy:
            return "done", running.run(trial, control)
    except StoppedError:
        return "stopped", None
    except (CaffePortError, OSError) as error:
        # as text, because not all of our errors can be pickled
        return "failed", str(error)
