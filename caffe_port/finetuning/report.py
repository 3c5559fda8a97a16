"""report.html, results.json, tables.md and pictures of an experiment, and its terminal table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from caffe_port import html
from caffe_port.files import write_text
from caffe_port.finetuning import pictures, tables
from caffe_port.finetuning.results import Results

if TYPE_CHECKING:
    from rich.table import Table as RichTable


def write_report(results: Results, out: Path) -> Path:
    """Writes what there is so far.

    Returns:
        the path of report.html; beside it stand results.json, tables.md and pictures/.
    """
    results.write(out / "results.json")
    found = tables.all_tables(results)
    write_text(out / "tables.md", tables.joined(found.values()))
    charts = {
        title: svg
        for policy in pictures.policies(results)
        for title, svg in pictures.curves(results, policy).items()
    }
    heat = matrix_pictures(results)
    for title, svg in {**charts, **heat}.items():
        write_text(out / "pictures" / f"{title.replace(': ', '_').replace(' ', '_')}.svg", svg)
    write_text(out / "report.html", _page(results, found, charts, heat))
    return out / "report.html"


def matrix_pictures(results: Results) -> dict[str, str]:
    """Similarity matrices of the start and of every variant, by similarity."""
    names = {n for by in results.scores.values() for s in by.values() for n in s.templates}
    found = {}
    for name in sorted(names):
        shown = {}
        if results.start is not None and name in results.start.templates:
            shown["start"] = results.start.templates[name]
        for variant in results.variants:
            matrix = pictures.mean_matrix(results, variant, name)
            if matrix:
                shown[variant] = matrix
        found[f"similarities {name}"] = pictures.matrices(shown, results.names)
    return found


def terminal_tables(results: Results) -> list[RichTable]:
    """The tables of means and of choices, for ``rich``."""
    from rich.table import Table

    made = []
    for name, found in tables.all_tables(results).items():
        if name not in ("variants", "contrasts"):
            continue
        table = Table(title=found.title, title_justify="left", caption=found.note)
        for i, header in enumerate(found.headers):
            table.add_column(header, justify="right" if i else "left", no_wrap=i == 0)
        for row in found.rows:
            table.add_row(*row)
        made.append(table)
    return made


def remarks(results: Results) -> list[str]:
    """What a reader has to know of the figures."""
    found = []
    left = sum(len(results.planned) - len(scores) for scores in results.scores.values())
    if left:
        found.append(f"{left} runs are not finished: the figures are those of the others.")
    lost = [
        f"{name}, seed {seed}"
        for name, scores in results.scores.items()
        for seed, score in scores.items()
        if score.before is None
    ]
    if lost:
        found.append(f"Diverged, so without figures: {'; '.join(lost)}.")
    if results.from_fillers:
        found.append(f"Not in {results.init}, so from fillers: {', '.join(results.from_fillers)}.")
    if not tables.is_voc_val(results):
        found.append(
            f"Judged on {results.data['val']} images of {results.data['folder']}: nothing here "
            "can be compared with figures of VOC 2012."
        )
    return found


def _page(
    results: Results,
    found: dict[str, tables.Table],
    charts: dict[str, str],
    heat: dict[str, str],
) -> str:
    head = [html.paragraph(text) for text in remarks(results)]
    sections = [html.section("What this is", _cards(results), *head)]
    for name in ("variants", "contrasts", "published"):
        if name in found:
            sections.append(_table(found[name]))
    for title, svg in charts.items():
        picture = html.Html(svg)
        is_loss = "accuracy" not in title
        shown = picture if is_loss else html.details("a batch at each display", picture)
        sections.append(html.section(title, shown))
    if "similarities" in found:
        sections.append(_table(found["similarities"]))
    for title, svg in heat.items():
        note = html.paragraph("Rows: templates. Columns: the pixels' classes.", note=True)
        sections.append(html.section(title, note, html.Html(svg)))
    last = [found[name] for name in ("lost", "classes_before", "classes_after") if name in found]
    sections += map(_table, last)
    lines = [[name, version] for name, version in results.versions.items()]
    sections.append(html.section("Versions", html.table(["of", "version"], lines)))
    return html.page(f"Fine-tuning {results.net_name}", sections)


def _cards(results: Results) -> html.Html:
    done = sum(len(scores) for scores in results.scores.values())
    return html.cards(
        {
            "variants": len(results.scores),
            "runs finished": f"{done} of {len(results.planned) * len(results.scores)}",
            "steps a run": results.steps,
            "images learned from": results.data["train"],
            "images judged on": results.data["val"],
        }
    )


def _table(found: tables.Table) -> html.Html:
    parts = [html.paragraph(found.note, note=True)] if found.note else []
    return html.section(found.title, *parts, html.table(found.headers, found.rows))
