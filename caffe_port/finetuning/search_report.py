"""The report of a search: what was tried, what was chosen, and whether it is better."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from caffe_port.errors import UsageError
from caffe_port.files import read_text, write_text
from caffe_port.finetuning import tables
from caffe_port.finetuning.halving import SearchResults
from caffe_port.finetuning.report import curves, policies, rich_table
from caffe_port.finetuning.results import WHEN, Results
from caffe_port.finetuning.tables import Estimate, Table, paired
from caffe_port.reports import html
from caffe_port.reports.chart import Axis, Chart, draw_chart

if TYPE_CHECKING:
    from rich.table import Table as RichTable

_PLACE = re.compile(r"(<!-- search (\w+) (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def settings_table(found: SearchResults) -> Table:
    """Every setting with its difference to the softmax loss alone after each rung."""
    rows = [["softmax alone", *(_score(found.baseline.get(steps)) for steps in found.steps), ""]]
    for name in found.settings:
        cells = [_gain(found, name, steps) for steps in found.steps]
        rows.append([name, *cells, "chosen" if name == found.chosen else ""])
    note = (
        f"{found.tried} of {len(found.settings)} settings were tried. Mean IoU of the softmax loss "
        f"alone in % before the CRF, on {found.images['selection']} selection images, after so "
        "many steps; below it the difference of each setting to it, in points."
    )
    headers = ["setting", *(f"step {steps}" for steps in found.steps), ""]
    return Table("Search", headers, rows, note)


def _score(score: float | None) -> str:
    return "-" if score is None else f"{score:.2f}"


def _gain(found: SearchResults, name: str, steps: int) -> str:
    if steps not in found.scores.get(name, {}):
        return ""
    gain = found.gain(name, steps)
    return "diverged" if gain is None else f"{gain:+.2f}"


def differences(final: Results) -> dict[str, Estimate]:
    """'before' and 'after' the CRF: the chosen setting minus the softmax loss alone, by seed."""
    baseline, chosen = final.variants
    return {
        when: paired(final.mean_ious(chosen, when), final.mean_ious(baseline, when))
        for when in WHEN
    }


def is_better(final: Results) -> bool:
    """Whether the interval before the CRF is above 0 and the difference after it is not below."""
    found = differences(final)
    after = found["after"]
    return found["before"].mean - found["before"].half > 0 and not after.mean < 0


def conclusion(found: SearchResults) -> str:
    """What the search says, in a few sentences."""
    tried = f"{found.tried} of {len(found.settings)} settings were tried."
    if found.chosen is None:
        known = found.steps[-1] in found.kept
        return f"{tried} " + ("All runs diverged." if known else "The search is not finished.")
    assert found.final is not None
    before, after = differences(found.final).values()
    if before.seeds < len(found.seeds):
        return f"{tried} Chosen: {found.chosen}. The final comparison is not finished."
    figures = f"{_interval(before)} points before the CRF"
    if after.seeds:
        figures += f" and {_interval(after)} after it"
    seeds = f"{before.seeds} seeds, {found.images['final']} validation images"
    if math.isnan(before.half):
        return f"{tried} Chosen: {found.chosen}: {figures}. One seed gives no interval."
    if is_better(found.final):
        return (
            f"{tried} The chosen one, {found.chosen}, is better than the softmax loss alone: "
            f"{figures} ({seeds})."
        )
    high = before.mean + before.half
    limit = (
        f"an improvement of more than {high:.2f} points by it is outside of the interval"
        if high > 0
        else "it is worse"
    )
    return (
        f"{tried} None was found to be better than the softmax loss alone. The chosen one, "
        f"{found.chosen}, differs by {figures} ({seeds}): before the CRF, {limit}."
    )


def _interval(found: Estimate) -> str:
    if math.isnan(found.half):
        return f"{found.mean:+.2f}"
    low, high = found.mean - found.half, found.mean + found.half
    return f"{found.mean:+.2f} [{low:+.2f}, {high:+.2f}]"


def search_tables(found: SearchResults) -> dict[str, Table]:
    """Every table by a short name, without those that have no row."""
    made = {"settings": settings_table(found)}
    if found.final is not None and all(found.final.scores.values()):
        every = tables.all_tables(found.final)
        wanted = ("variants", "classes_before", "classes_after", "lost", "similarities")
        made.update({name: every[name] for name in wanted if name in every})
    return made


def search_chart(found: SearchResults) -> str:
    """The difference to the softmax loss alone by steps.

    A line for each setting that was kept after the first rung, and one for all others.
    """
    first = found.steps[0]
    kept = found.kept.get(first, list(found.scores))
    lines: dict[str, list[tuple[float, float]]] = {}
    dots: dict[str, list[str]] = {}
    for name in found.scores:
        title = name if name in kept else f"dropped after step {first}"
        for steps in found.steps:
            gain = found.gain(name, steps)
            if gain is not None:
                lines.setdefault(title, []).append((float(steps), gain))
                dots.setdefault(title, []).append(name)
    title = "Difference to the softmax loss alone on the selection images, in points"
    x = Axis("steps", (0.0, float(found.steps[-1])), [float(steps) for steps in found.steps])
    size = (1000, max(320, 50 + 18 * len(lines)))
    return str(draw_chart(Chart(lines, x, Axis("points"), title, size, dots=dots, limit=0.0)))


def filled_search(text: str, found: SearchResults) -> str:
    """Fills the places ``<!-- search NAME TABLE -->`` ... ``<!-- end -->`` of this search.

    TABLE is one of ``search_tables``, or 'conclusion'. Places of other searches are not changed.

    Raises:
        UsageError: the text has no place of this search, or one that names an unknown table.
    """
    parts = {name: table.markdown() for name, table in search_tables(found).items()}
    parts["conclusion"] = f"{conclusion(found)}\n"
    count = 0

    def fill(match: re.Match[str]) -> str:
        nonlocal count
        if match[2] != found.name:
            return match[0]
        if match[3] not in parts:
            raise UsageError(f"no table '{match[3]}'; there are {', '.join(parts)}")
        count += 1
        return f"{match[1]}{parts[match[3]]}{match[4]}"

    changed = _PLACE.sub(fill, text)
    if not count:
        raise UsageError(
            f"no place for a table: expected <!-- search {found.name} settings --> and <!-- end -->"
        )
    return changed


def fill_search(path: Path, found: SearchResults) -> None:
    """Fills the places of a file. Raises as ``filled_search``, with the file's name."""
    try:
        changed = filled_search(read_text(path), found)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    write_text(path, changed)


def write_search(found: SearchResults, out: Path) -> Path:
    """Writes report.html, search.json, tables.md and pictures/search.svg.

    Returns:
        The path of report.html.
    """
    found.write(out / "search.json")
    made = search_tables(found)
    write_text(out / "tables.md", f"{conclusion(found)}\n\n{tables.joined(made.values())}")
    chart = search_chart(found) if found.scores else ""
    if chart:
        write_text(out / "pictures" / "search.svg", chart)
    page = out / "report.html"
    write_text(page, _page(found, made, chart))
    return page


def _page(found: SearchResults, made: dict[str, Table], chart: str) -> str:
    cards = {
        "settings tried": f"{found.tried} of {len(found.settings)}",
        "steps a run": found.steps[-1],
        "training images": found.images["training"],
        "selection images": found.images["selection"],
        "validation images": found.images["final"],
        "seeds of the search / final": f"{len(found.search_seeds)} / {len(found.seeds)}",
    }
    words = [conclusion(found), *found.remarks]
    shown = [html.section("What was found", html.cards(cards), *map(html.paragraph, words))]
    shown.append(_section(made["settings"], chart))
    shown += [_section(made[name]) for name in made if name != "settings"]
    if found.final is not None:
        for policy in policies(found.final):
            for title, svg in curves(found.final, policy).items():
                shown.append(html.section(title, html.Html(svg)))
    return html.page(f"Search of feedback losses: {found.name}", shown)


def _section(table: Table, chart: str = "") -> html.Html:
    parts = [html.paragraph(table.note, note=True)] if table.note else []
    parts.append(html.table(table.headers, table.rows))
    return html.section(table.title, *parts, html.Html(chart))


def search_terminal(found: SearchResults) -> list[RichTable]:
    """The tables of settings and of the final comparison, for a terminal."""
    made = search_tables(found)
    return [rich_table(made[name]) for name in ("settings", "variants") if name in made]
