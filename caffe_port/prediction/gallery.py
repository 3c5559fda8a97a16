"""The page that shows a prediction's results: one card for each image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from caffe_port.data.images import voc_palette
from caffe_port.files import write_text
from caffe_port.prediction.segmentation import Found
from caffe_port.reports import html

MOST_SHOWN = 500  # cards of one page; of more images an even choice is shown

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


@dataclass(frozen=True)
class Card:
    """One image of the gallery.

    Attributes:
        name: of its results.
        where: the image's file, or the video and its frame.
        size: height and width.
        found: its classes.
        paths: kind -> file, as ``Output.paths`` gives them.
    """

    name: str
    where: str
    size: tuple[int, int]
    found: Sequence[Found]
    paths: dict[str, Path]


def write_gallery(
    root: Path,
    cards: Sequence[Card],
    failed: Sequence[str],
    *,
    title: str,
    settings: dict[str, object],
) -> Path:
    """Writes OUT/index.html, whole or not at all.

    Args:
        root: the output folder, which the page's links start from.
        cards: the images, in order.
        failed: why other images have no results.
        title: the heading.
        settings: shown at the end of the page.
    Returns:
        The page.
    Raises:
        OSError: it cannot be written.
    """
    shown = evenly(cards, MOST_SHOWN)
    subtitle = f"{len(cards)} images" if len(cards) != 1 else "1 image"
    if len(shown) < len(cards):
        subtitle += f", of which {len(shown)} are shown; the files of all are in the folders"
    sections = [_STYLE]
    if failed:
        rows = [[reason] for reason in failed[:MOST_SHOWN]]
        sections.append(html.section(f"Failed: {len(failed)}", html.table(["why"], rows)))
    if shown:
        inside = "\n".join(_card(root, card) for card in shown)
        classes = {one.label: one.name for card in cards for one in card.found}
        colours = {name: _colour(label) for label, name in sorted(classes.items())}
        sections.append(html.section("Classes found", html.legend(colours)))
        sections.append(html.section("Images", html.Html(f'<div class="photos">{inside}</div>')))
    rows = [[name, str(value)] for name, value in sorted(settings.items())]
    table = html.table(["setting", "value"], rows, align=["left", "left"])
    sections.append(html.section("Settings", html.details("What decided these results", table)))
    page = root / "index.html"
    write_text(page, html.page(title, sections, subtitle=subtitle))
    return page


def evenly(cards: Sequence[Card], most: int) -> list[Card]:
    """At most so many of them, evenly spread.

    Examples:
        >>> evenly("abcdefgh", 4)
        ['a', 'c', 'e', 'g']
    """
    count = min(most, len(cards))
    return [cards[i * len(cards) // count] for i in range(count)]


def _card(root: Path, card: Card) -> html.Html:
    height, width = card.size
    classes = ", ".join(f"{one.name} {100 * one.share:.1f} %" for one in card.found)
    overlay = _linked(root, card.paths["overlays"], f"{card.name}: {classes}")
    maps = "".join(
        f"<figure>{_linked(root, card.paths[kind], f'{card.name}: {words}')}"
        f"<figcaption>{html.text(words)}</figcaption></figure>"
        for kind, words in _KINDS.items()
    )
    arrays = [kind for kind in card.paths if kind not in (*_KINDS, "overlays")]
    links = ", ".join(
        f'<a href="{_url(root, card.paths[kind])}">{html.text(card.paths[kind].name)}</a> ({kind})'
        for kind in arrays
    )
    files = f'<p class="note">{links}</p>' if links else ""
    return html.Html(
        f'<article class="photo"><div class="overlay">{overlay}</div>'
        f"<h3>{html.text(card.name)}</h3>"
        f'<p class="note">{html.text(card.where)}, {width} x {height}</p>'
        f'<div class="maps">{maps}</div>{files}</article>'
    )


def _linked(root: Path, path: Path, alt: str) -> html.Html:
    """An image file that is loaded when it comes into sight, and opens when it is clicked."""
    url = _url(root, path)
    return html.Html(f'<a href="{url}"><img src="{url}" alt="{html.text(alt)}" loading="lazy"></a>')


def _url(root: Path, path: Path) -> str:
    return quote(os.fspath(path.relative_to(root).as_posix()))


def _colour(label: int) -> tuple[int, int, int]:
    red, green, blue = voc_palette()[label].tolist()
    return red, green, blue
