"""The evaluation of a list of images: over processes, resumable, with one confusion matrix."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field

from caffe_port.data.pictures import PathLike
from caffe_port.data.voc import VOCItem
from caffe_port.errors import CaffePortError, DataError, UsageError
from caffe_port.evaluation.confusion import ConfusionMatrix, Counts
from caffe_port.evaluation.settings import NetworkMaker, RefinerMaker, Settings
from caffe_port.evaluation.store import Store
from caffe_port.evaluation.worker import Job, Outcome, Worker

Progress = Callable[[int, int, Outcome], None]


@dataclass
class Result:
    """An evaluation's outcome.

    Args:
        settings: what decided the label maps, as in settings.json.
        items: the images of the list.
        outcomes: one per image, in the list's order, failed ones included.
        classes: the network's number of classes, 0 when every image failed.
        before, after: one matrix over all images each; None without truth or refinement.
        unknown: truth pixels by label beyond the classes, ignored.
        changes: (C, 4) what the refinement changed, see ``count_changes``; None without.
        store: where the label maps are.
    """

    settings: dict[str, object]
    items: list[VOCItem]
    outcomes: list[Outcome]
    store: Store
    classes: int = 0
    before: ConfusionMatrix | None = None
    after: ConfusionMatrix | None = None
    unknown: dict[int, int] = field(default_factory=dict)
    changes: Counts | None = None

    @property
    def skipped(self) -> list[Outcome]:
        """The images that failed."""
        return [outcome for outcome in self.outcomes if outcome.error]


def evaluate(
    items: Sequence[VOCItem],
    make_network: NetworkMaker,
    output: PathLike,
    settings: Settings | None = None,
    *,
    make_refiner: RefinerMaker | None = None,
    jobs: int = 1,
    refiner_threads: int = 0,
    fresh: bool = False,
    skip_bad: bool = False,
    comp6: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Predicts every image, before and after the CRF, and compares with the truth where it is.

    Label maps are written to ``output`` as they are made. Interrupted, the same call goes on
    where it stopped; the result does not depend on ``jobs`` or ``refiner_threads``.

    Args:
        items: from ``voc_items``.
        make_network, make_refiner: see ``makers.NetMaker`` and ``makers.CRFMaker``.
        output: folder of the label maps, see ``store``.
        jobs: processes; with one, everything happens in this one.
        refiner_threads: threads that refine while the network, which leaves them their cores, goes
            on with the next images; 0: one after the other. For one process.
        fresh: drop an earlier run's label maps instead of using them.
        skip_bad: go on after an image that cannot be read or is too large.
        comp6: also write what the VOC server takes.
        progress: called after each image, in order, with (done, total, outcome).
    Raises:
        UsageError: ``output`` holds label maps of other settings, or the arguments are wrong.
        DataError: an image or label is bad, and ``skip_bad`` is not set.
        CaffePortError: the network cannot be built.
    """
    settings = settings or Settings()
    _check(items, jobs, refiner_threads)
    decisive: dict[str, object] = {
        "crop": list(settings.crop),
        "mean": list(settings.mean),
        "network": make_network.describe(),
        "crf": None if make_refiner is None else make_refiner.describe(),
    }
    store = Store(output, decisive, refined=make_refiner is not None, comp6=comp6)
    store.open(fresh=fresh)
    jobs = min(jobs, len(items))
    beside = refiner_threads if make_refiner is not None else 0
    threads = _threads(jobs, beside)
    job = Job(make_network, make_refiner, settings, store, threads)
    result = Result(store.settings, list(items), [], store)
    with contextlib.closing(_outcomes(job, items, jobs, beside)) as outcomes:
        for done, outcome in enumerate(outcomes, 1):
            if outcome.fatal:
                raise CaffePortError(outcome.error)
            if outcome.error and not skip_bad:
                raise DataError(outcome.error)
            result.outcomes.append(outcome)
            _count(result, outcome, settings)
            if progress is not None:
                progress(done, len(items), outcome)
    return result


def _check(items: Sequence[VOCItem], jobs: int, refiner_threads: int) -> None:
    if jobs < 1:
        raise UsageError(f"at least one job is needed, got {jobs}")
    if refiner_threads < 0 or (refiner_threads and jobs > 1):
        raise UsageError(
            f"{refiner_threads} threads that refine beside the network, in {jobs} processes: "
            "expected at least 0, and 0 with more than one process"
        )
    if not items:
        raise UsageError("the list holds no image")


def _threads(jobs: int, beside: int) -> int | None:
    """Threads for the network of each process; None for what torch takes by itself."""
    cores = os.cpu_count() or 1
    if beside:
        return max(1, cores - beside)
    return None if jobs == 1 else max(1, cores // jobs)


def _outcomes(
    job: Job, items: Sequence[VOCItem], jobs: int, beside: int
) -> Generator[Outcome, None, None]:
    """Outcomes in the order of the items. Closing it lets the images at work finish, no more."""
    if beside:
        yield from _side_by_side(job, items, beside)
        return
    if jobs == 1:
        worker = Worker(job)
        yield from map(worker.run, items)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start, initargs=(job,))
    try:
        futures = [pool.submit(_run, item) for item in items]
        for future in futures:
            yield future.result()
    except BrokenProcessPool as error:
        raise CaffePortError(
            "a process of the evaluation died, perhaps for want of memory; what is finished is "
            "kept: run again with fewer jobs"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _side_by_side(
    job: Job, items: Sequence[VOCItem], threads: int
) -> Generator[Outcome, None, None]:
    """The network in this thread, everything after it in others."""
    worker = Worker(job)
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[Outcome]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(worker.begin(item)))
            # scores are large: at most one image more than is being refined
            while waiting and (len(waiting) > threads + 1 or waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_workers: list[Worker] = []  # the one of this process, when it is one of a pool


def _start(job: Job) -> None:
    # Ctrl-C is the parent's to handle: it lets the images at work finish.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _workers.append(Worker(job))


def _run(item: VOCItem) -> Outcome:
    return _workers[0].run(item)


def _count(result: Result, outcome: Outcome, settings: Settings) -> None:
    if outcome.error:
        return
    if result.classes not in (0, outcome.classes):
        raise UsageError(f"{outcome.id} has {outcome.classes} classes, others {result.classes}")
    result.classes = outcome.classes
    result.before = _summed(result.before, outcome.before, settings)
    result.after = _summed(result.after, outcome.after, settings)
    if outcome.changes is not None:
        earlier = 0 if result.changes is None else result.changes
        result.changes = outcome.changes + earlier
    for label, pixels in outcome.unknown.items():
        result.unknown[label] = result.unknown.get(label, 0) + pixels


def _summed(
    total: ConfusionMatrix | None, counts: Counts | None, settings: Settings
) -> ConfusionMatrix | None:
    if counts is None:
        return total
    matrix = ConfusionMatrix(len(counts), ignore_label=settings.ignore_label, counts=counts)
    if total is not None:
        matrix.merge(total)
    return matrix
