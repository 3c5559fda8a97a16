"""What a run found, as a table for the terminal, as a page and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caffe_port.reports import html
from caffe_port.reports.html import Html
from tools.differential import outcomes
from tools.differential.accepted import ACCEPTED
from tools.differential.nets import Catalogue
from tools.differential.outcomes import Outcome

COLUMNS = ("cases", "agree", "both refuse", "NaN in both", "accepted", "differ")
_LONGEST = 300  # characters of a message in the terminal


@dataclass(frozen=True)
class Report:
    """A run's results and what they are results of.

    Attributes:
        found: all outcomes, by number.
        about: of the Caffe, as ``other_side.describe`` gives it.
        catalogue: what was drawn.
        command: the command line.
    """

    found: Sequence[Outcome]
    about: dict[str, Any]
    catalogue: Catalogue
    command: str

    @property
    def differences(self) -> list[Outcome]:
        """The cases where the sides differ and that is not accepted."""
        return [outcome for outcome in self.found if not outcome.good]

    def rows(self) -> list[tuple[str, ...]]:
        """Name and counts: a row for each layer type, for each kind of case, and for all."""
        by_type: dict[str, list[Outcome]] = {type: [] for type in self.catalogue.types}
        for outcome in self.found:
            blamed = [outcome.blamed or outcome.type]
            for type in outcome.types if outcome.good else blamed:
                by_type.setdefault(type, []).append(outcome)
        by_kind: dict[str, list[Outcome]] = {}
        for outcome in self.found:
            by_kind.setdefault(f"kind: {outcome.kind}", []).append(outcome)
        rows = [(name, *counts(found)) for name, found in sorted(by_type.items())]
        rows += [(name, *counts(found)) for name, found in sorted(by_kind.items())]
        return [*rows, ("all", *counts(self.found))]

    def only_theirs(self) -> list[str]:
        """Layer types and options that only this Caffe has."""
        known = {*self.catalogue.kinds, *self.catalogue.left_out}
        types = [f"type {name}" for name in self.about["types"] or () if name not in known]
        return sorted(types) + [f"option {name}" for name in self.catalogue.unknown_options]

    def only_ours(self) -> list[str]:
        """Layer types of the port that this Caffe does not have."""
        theirs = self.about["types"]
        known = {*self.catalogue.kinds, *self.catalogue.left_out}
        return [] if theirs is None else sorted(known - set(theirs))


def counts(found: Iterable[Outcome]) -> tuple[str, ...]:
    """As in ``COLUMNS``."""
    tally: Counter[str] = Counter()
    for outcome in found:
        tally["cases"] += 1
        if outcome.status == outcomes.AGREED:
            tally["agree"] += 1
        elif outcome.status in outcomes.GOOD:
            tally[outcome.status] += 1
        else:
            tally["accepted" if outcome.accepted else "differ"] += 1
    return tuple(str(tally[column]) for column in COLUMNS)


def text_of(report: Report) -> str:
    """The report for a terminal."""
    rows = [("layer type", *COLUMNS), *report.rows()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    for name, why in (("only in this Caffe", report.only_theirs()),
                      ("only in the port", report.only_ours())):  # fmt: skip
        if why:
            lines.append(f"{name}: {', '.join(why)}")
    for known, number in accepted_counts(report.found):
        lines.append(f"accepted, {number}: {known}")
    for outcome in report.differences:
        message = outcome.message.replace("\n", " ")[:_LONGEST]
        lines.append(f"{outcome.index} {_what(outcome)}: {outcome.status}: {message}")
    return "\n".join(lines)


def accepted_counts(found: Iterable[Outcome]) -> list[tuple[str, int]]:
    """How often each accepted difference was met, those met alone."""
    tally = Counter(outcome.accepted for outcome in found if outcome.accepted)
    return [(known.name, tally[known.name]) for known in ACCEPTED if tally[known.name]]


def _what(outcome: Outcome) -> str:
    return f"{outcome.kind} with {outcome.blamed or outcome.type}"


def page_of(report: Report) -> str:
    """The report as a page, self-contained."""
    versions = report.about["versions"]
    sections = [
        html.section("Result", *_result(report)),
        html.section("Differences", _differences(report)),
        html.section("By layer type and kind", _table(report)),
        html.section("Accepted differences", _accepted(report)),
        html.section("What only one side has", *_one_sided(report)),
        html.section("Versions", html.table(("what", "version"), sorted(versions.items()))),
    ]
    subtitle = f"random nets, the port compared with Caffe {versions['caffe']}"
    return html.page("Differential test", sections, subtitle=subtitle)


def _result(report: Report) -> list[Html]:
    totals = dict(zip(COLUMNS, counts(report.found), strict=True))
    differ = len(report.differences)
    words = f"{differ} of {len(report.found)} cases differ."
    return [
        html.verdict("fail" if differ else "pass"),
        html.paragraph(words),
        html.cards({name: totals[name] for name in COLUMNS}),
        html.paragraph(report.command, note=True),
    ]


def _differences(report: Report) -> Html:
    rows = [[x.index, _what(x), x.status, x.message, x.folder] for x in report.differences]
    if not rows:
        return html.paragraph("None.")
    heads = ("case", "what", "how", "message of the shrunk case", "folder")
    return html.table(heads, rows, align=["right", "left", "left", "left", "left"])


def _table(report: Report) -> Html:
    rows = report.rows()
    classes = ["total" if row[0] == "all" else "fail" if row[-1] != "0" else "" for row in rows]
    return html.table(("layer type", *COLUMNS), rows, row_classes=classes)


def _accepted(report: Report) -> Html:
    met = dict(accepted_counts(report.found))
    rows = [[known.name, met.get(known.name, 0), known.why] for known in ACCEPTED]
    return html.table(("name", "cases", "what it is"), rows, align=["left", "right", "left"])


def _one_sided(report: Report) -> list[Html]:
    left_out = [f"{type} ({why})" for type, why in sorted(report.catalogue.left_out.items())]
    return [
        html.paragraph(f"Only in this Caffe: {', '.join(report.only_theirs()) or 'nothing'}."),
        html.paragraph(f"Only in the port: {', '.join(report.only_ours()) or 'nothing'}."),
        html.paragraph(f"Not drawn: {', '.join(left_out) or 'nothing'}.", note=True),
    ]


def json_of(report: Report) -> str:
    """The report as JSON."""
    return json.dumps(
        {
            "command": report.command,
            "versions": report.about["versions"],
            "only_in_caffe": report.only_theirs(),
            "only_in_port": report.only_ours(),
            "rows": [dict(zip(("name", *COLUMNS), row, strict=True)) for row in report.rows()],
            "cases": [outcome.as_json() for outcome in report.found],
        },
        indent=1,
    )


def write(report: Report, folder: Path) -> None:
    """Writes report.html and report.json."""
    (folder / "report.html").write_text(page_of(report), encoding="utf-8")
    (folder / "report.json").write_text(json_of(report) + "\n", encoding="utf-8")
