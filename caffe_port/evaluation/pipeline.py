"""The evaluation of a list of images, over threads and processes and resumable."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from caffe_port.data.decoding import current
from caffe_port.data.images import PathLike
from caffe_port.data.voc import VOCItem
from caffe_port.datasets.rules import LabelRules
from caffe_port.errors import CaffePortError, DataError, UsageError
from caffe_port.evaluation.network import NetFactory, NetworkFactory, Options, Settings
from caffe_port.evaluation.refinement import RefinerFactory
from caffe_port.evaluation.scheduler import (
    Step,
    Threads,
    cores,
    divide,
    run_steps,
    torch_threads_kept,
)
from caffe_port.evaluation.scoring import ConfusionMatrix, Counts, expect_fit
from caffe_port.evaluation.steps import ImageSteps, Job, Outcome, Progress
from caffe_port.evaluation.store import ScoreCache, Store, earlier_network, locked
from caffe_port.ranks import ImageRanks, SingleRank


@dataclass
class Result:
    """The result of an evaluation.

    Args:
        settings: what decided the label maps, as in settings.json.
        items: the images of the list.
        outcomes: one per image, in the list's order, failed ones included.
        classes: the network's number of classes, 0 when every image failed.
        before, after: one matrix over all images each; None without truth or refinement.
        unknown: truth pixels by label beyond the classes, ignored.
        void: truth pixels that the data set leaves out, such as VOC's boundaries.
        rules: how the truth was read.
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
    void: int = 0
    rules: LabelRules = field(default_factory=LabelRules)
    changes: Counts | None = None

    @property
    def skipped(self) -> list[Outcome]:
        """The images that failed."""
        return [outcome for outcome in self.outcomes if outcome.error]


def evaluate(
    items: Sequence[VOCItem],
    make_network: NetworkFactory,
    output: PathLike,
    options: Options | None = None,
    *,
    make_refiner: RefinerFactory | None = None,
    progress: Progress | None = None,
    ranks: ImageRanks | None = None,
) -> Result:
    """Predicts every image, before and after the CRF, and compares with the truth if there is one.

    Label maps are written to ``output`` as they are made. After an interruption the same call
    resumes; the result does not depend on threads, processes or the cache.

    Args:
        items: from ``voc_items``.
        make_network, make_refiner: see ``NetFactory`` and ``CRFFactory``.
        output: folder of the label maps, see ``Store``.
        options: see ``Options``; its defaults when absent.
        progress: called after each image of this process with (done by all, total, outcome).
        ranks: from ``ranks.evaluation_ranks``; by default this process alone. They need one
            ``output`` folder, and each returns the whole result.
    Raises:
        UsageError: ``output`` holds label maps of other settings or is in use, or an argument is
            wrong.
        DataError: an image or label is bad, and ``skip_bad`` is not set.
        CaffePortError: the network cannot be built, or another rank failed.
    Examples:
        >>> from caffe_port.data import voc_items
        >>> from caffe_port.evaluation import NetFactory, Options, evaluate
        >>> net = NetFactory(
        ...     "examples/shapes_voc/caffe_run/recording/net.prototxt",
        ...     "examples/shapes_voc/caffe_run/model/train_iter_2400.caffemodel",
        ... )
        >>> items = voc_items("examples/shapes_voc")[:2]
        >>> result = evaluate(items, net, "result", Options(crop=(161, 161), jobs=1))
        >>> result.classes, 0 < result.before.mean_iou() <= 1
        (6, True)
    """
    options, ranks = options or Options(), ranks or SingleRank()
    if not items:
        raise UsageError("the list holds no image")
    threads = divide(
        cores(ranks.local),
        len(items),
        jobs=options.jobs,
        refiner_threads=options.refiner_threads,
        on_cpu=make_network.on_cpu,
    )
    make_network = _with_engine(make_network, output, options, len(items), threads, ranks)
    scoring = _scoring(options, make_network)
    store = Store(
        output,
        {**scoring, "crf": None if make_refiner is None else make_refiner.describe()},
        refined=make_refiner is not None,
        comp6=options.comp6,
        colours=options.colours,
    )
    cache = None if options.score_cache is None else ScoreCache(options.score_cache, scoring)
    with contextlib.ExitStack() as stack:
        if ranks.number == 0:
            stack.enter_context(locked(output))
            store.open(fresh=options.fresh)
        _agree(ranks, store, items)
        refiner = None if make_refiner is None else make_refiner(threads.refining)
        steps = ImageSteps(Job(make_network, refiner, options, store, cache))
        try:
            outcomes = _share(steps, items, ranks, threads, progress, options.skip_bad)
        finally:
            store.sync()
        found = {number: outcome for part in ranks.gather(outcomes) for number, outcome in part}
    return _summed(Result(store.settings, list(items), [], store), found, options)


def _with_engine(
    network: NetworkFactory,
    output: PathLike,
    options: Options,
    images: int,
    threads: Threads,
    ranks: ImageRanks,
) -> NetworkFactory:
    """The network with one engine for all ranks and, when resumed, for the earlier label maps."""
    if not isinstance(network, NetFactory):
        return network
    from caffe_port.evaluation.score_net import with_engine

    if ranks.number == 0:
        network = with_engine(
            network,
            options.crop,
            images=images,
            threads=threads.each,
            inference=options.inference,
            earlier=None if options.fresh else earlier_network(output),
        )
    return network.using(ranks.gather(network.engine)[0])


def _scoring(options: Options, network: NetworkFactory) -> dict[str, object]:
    """What determines the scores, as JSON."""
    found: dict[str, object] = {
        "crop": list(options.crop),
        "mean": list(options.mean),
        "network": network.describe(),
    }
    if options.scale != 1:
        found["scale"] = options.scale
    if options.inference is not None:
        found["inference"] = options.inference.describe()
    if current().exif != "ignore":
        found["exif"] = current().exif
    return found


def _agree(ranks: ImageRanks, store: Store, items: Sequence[VOCItem]) -> None:
    """Checks that all ranks have the same images and settings, and rank 0's folder."""
    listed = hashlib.sha256("\n".join(item.id for item in items).encode()).hexdigest()
    mine = (listed, len(items), store.settings)
    for number, theirs in enumerate(ranks.gather(mine)):
        if theirs != mine:
            raise UsageError(
                f"ranks {ranks.number} and {number} were given other images, files or settings: "
                "start all with the same command, on machines with the same files"
            )
    if not store.is_open():
        raise UsageError(
            f"{store.root}: rank {ranks.number} does not find what rank 0 wrote there: all "
            "machines need one shared folder"
        )


def _share(
    steps: ImageSteps,
    items: Sequence[VOCItem],
    ranks: ImageRanks,
    threads: Threads,
    progress: Progress | None,
    skip_bad: bool,
) -> list[tuple[int, Outcome]]:
    """Numbers and outcomes of this process's images."""
    numbers: list[int] = []

    def begin(number: int) -> Step[Outcome] | Outcome:
        return steps.begin(items[number])

    def claims() -> Iterator[int]:
        for number in ranks.claims(len(items)):
            numbers.append(number)
            yield number

    done: list[Outcome] = []
    results = run_steps(claims(), begin, threads.roles(), prefetch=threads.prefetch)
    with torch_threads_kept(), contextlib.closing(results):
        for outcome in results:
            if outcome.fatal:
                raise CaffePortError(outcome.error)
            if outcome.error and not skip_bad:
                raise DataError(outcome.error)
            done.append(outcome)
            finished = ranks.finished()
            if progress is not None:
                progress(finished, len(items), outcome)
    return list(zip(numbers, done, strict=True))


def _summed(result: Result, found: dict[int, Outcome], settings: Settings) -> Result:
    """Fills in the outcomes, in the list's order, and their sums."""
    result.outcomes = [found[number] for number in range(len(result.items))]
    result.rules = settings.rules
    for outcome in result.outcomes:
        if outcome.error:
            continue
        if result.classes not in (0, outcome.classes):
            raise UsageError(f"{outcome.id} has {outcome.classes} classes, others {result.classes}")
        result.classes = outcome.classes
        result.before = _added(result.before, outcome.before)
        result.after = _added(result.after, outcome.after)
        result.void += outcome.void
        if outcome.changes is not None:
            earlier = 0 if result.changes is None else result.changes
            result.changes = outcome.changes + earlier
        for label, pixels in outcome.unknown.items():
            result.unknown[label] = result.unknown.get(label, 0) + pixels
    expect_fit(result.before, result.unknown, result.void, stated=settings.labels is not None)
    return result


def _added(total: ConfusionMatrix | None, counts: Counts | None) -> ConfusionMatrix | None:
    if counts is None:
        return total
    matrix = ConfusionMatrix(len(counts), counts=counts)
    if total is not None:
        matrix.merge(total)
    return matrix
