"""The page that shows a prediction's results: one card for each image."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from caffe_port.data.images import Bytes, voc_palette
from caffe_port.files import write_text
from caffe_port.prediction.output import Outcome, Output
from caffe_port.reports import html

MOST_SHOWN = 500  # images of one page; of more, every second, fourth and so on is shown

_KINDS = {
    "labels": "label map",
    "confidence": "confidence: white is certain",
    "entropy": "entropy: white is undecided",
}
_STYLE = html.Html("""<style>
.photos{display:grid;gap:1.2rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,21rem),1fr))}
.photo{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:.8rem;
min-width:0}
.photo h3{font-size:.95rem;margin:.6rem 0 .2rem;overflow-wrap:anywhere}
.photo .maps{display:grid;gap:.5rem;grid-template-columns:repeat(3,minmax(0,1fr));margin-top:.5rem}
.photo .overlay img{width:100%}
.photo .maps img{width:100%;image-rendering:pixelated;border:1px solid var(--line)}
</style>""")


class Gallery:
    """Collects outcomes, in memory that does not grow with their number, and writes the page.

    Args:
        output: where the results are.
        colours: (256, 3) uint8 red green blue by class; VOC's when absent.
    Attributes:
        done, kept: images with results, and how many of these are of an earlier run.
        failed: why other images have none; the first ``MOST_SHOWN`` of them.
        failures: how many these are in all.
    """

    def __init__(self, output: Output, colours: Bytes | None = None) -> None:
        self._output = output
        self._colours = voc_palette() if colours is None else colours
        self._shown: dict[int, Outcome] = {}
        self._step = 1  # every how many-th image is shown
        self._classes: dict[int, str] = {}
        self.done = self.kept = self.failures = 0
        self.failed: list[str] = []

    def add(self, outcome: Outcome) -> None:
        """Notes an outcome; they may come in any order."""
        if outcome.error:
            self.failures += 1
            self.failed += [outcome.error] if len(self.failed) < MOST_SHOWN else []
            return
        self.done += 1
        self.kept += outcome.kept
        self._classes |= {one.label: one.name for one in outcome.found}
        if outcome.number % self._step == 0:
            self._shown[outcome.number] = outcome
        if len(self._shown) > MOST_SHOWN:
            self._step *= 2
            shown = self._shown.items()
            self._shown = {number: one for number, one in shown if number % self._step == 0}

    @property
    def summary(self) -> str:
        """How many images have results."""
        count = f"{self.done} image" + ("s" if self.done != 1 else "")
        return f"{count}, {self.kept} of them kept" if self.kept else count

    def write(self, title: str, settings: dict[str, object]) -> Path:
        """Writes OUT/index.html, whole or not at all.

        Args:
            title: the heading.
            settings: shown at the end of the page.
        Returns:
            The page.
        Raises:
            OSError: it cannot be written.
        """
        shown = [self._shown[number] for number in sorted(self._shown)]
        subtitle = self.summary
        if len(shown) < self.done:
            subtitle += f"; {len(shown)} are shown, the files of all are in the folders"
        sections = [_STYLE]
        if self.failed:
            rows = [[reason] for reason in self.failed]
            sections.append(html.section(f"Failed: {self.failures}", html.table(["why"], rows)))
        if shown:
            inside = "\n".join(self._card(outcome) for outcome in shown)
            classes = sorted(self._classes.items())
            colours = {name: self._colour(label) for label, name in classes}
            sections.append(html.section("Classes found", html.legend(colours)))
            cards = html.Html(f'<div class="photos">{inside}</div>')
            sections.append(html.section("Images", cards))
        rows = [[name, str(value)] for name, value in sorted(settings.items())]
        table = html.table(["setting", "value"], rows, align=["left", "left"])
        sections.append(html.section("Settings", html.details("What decided these results", table)))
        page = self._output.root / "index.html"
        write_text(page, html.page(title, sections, subtitle=subtitle))
        return page

    def _colour(self, label: int) -> tuple[int, int, int]:
        red, green, blue = self._colours[label].tolist()
        return red, green, blue

    def _card(self, outcome: Outcome) -> html.Html:
        assert outcome.size is not None
        root, paths, name = self._output.root, self._output.paths(outcome.name), outcome.name
        classes = ", ".join(f"{one.name} {100 * one.share:.1f} %" for one in outcome.found)
        overlay = _linked(root, paths["overlays"], f"{name}: {classes}")
        maps = "".join(
            f"<figure>{_linked(root, paths[kind], f'{name}: {words}')}"
            f"<figcaption>{html.text(words)}</figcaption></figure>"
            for kind, words in _KINDS.items()
        )
        arrays = [kind for kind in paths if kind not in (*_KINDS, "overlays")]
        links = ", ".join(
            f'<a href="{_url(root, paths[kind])}">{html.text(paths[kind].name)}</a> ({kind})'
            for kind in arrays
        )
        files = f'<p class="note">{links}</p>' if links else ""
        height, width = outcome.size
        return html.Html(
            f'<article class="photo"><div class="overlay">{overlay}</div>'
            f"<h3>{html.text(name)}</h3>"
            f'<p class="note">{html.text(outcome.where)}, {width} x {height}</p>'
            f'<div class="maps">{maps}</div>{files}</article>'
        )


def _linked(root: Path, path: Path, alt: str) -> html.Html:
    """An image file that is loaded when it comes into sight, and opens when it is clicked."""
    url = _url(root, path)
    return html.Html(f'<a href="{url}"><img src="{url}" alt="{html.text(alt)}" loading="lazy"></a>')


def _url(root: Path, path: Path) -> str:
    return quote(os.fspath(path.relative_to(root).as_posix()))
