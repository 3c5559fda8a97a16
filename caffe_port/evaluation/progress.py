"""Shows how far an evaluation is: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from caffe_port.evaluation.worker import Outcome


@contextmanager
def shown_progress(title: str) -> Iterator[Callable[[int, int, Outcome], None]]:
    """Gives the ``progress`` argument of ``evaluate``.

    Args:
        title: what is being done.
    """
    if not sys.stderr.isatty():
        yield lambda done, total, outcome: _line(title, done, total, outcome)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)

        def advance(done: int, total: int, outcome: Outcome) -> None:
            bar.update(task, completed=done, total=total)
            if outcome.error:
                bar.console.print(f"skipped: {outcome.error}", markup=False, highlight=False)

        yield advance


def _line(title: str, done: int, total: int, outcome: Outcome) -> None:
    if outcome.error:
        print(f"skipped: {outcome.error}", file=sys.stderr)
    every = max(1, total // 10)
    if done % every == 0 or done == total:
        print(f"{title}: {done} of {total} images", file=sys.stderr, flush=True)
