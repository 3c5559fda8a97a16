"""Takes the pictures of docs/explore.md in Chromium, by Playwright (the extra 'browser').

usage: python -m tools.explore_images [--all] [-o FOLDER]

Every view 1280 pixels wide in the light theme, and 390 pixels wide in the dark one; with --all both
themes at both widths: FOLDER/explore_VIEW_WIDTH.webp, and explore_VIEW_WIDTH_dark.webp.
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

import caffe_port as cp

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "shapes_voc"
RUN = EXAMPLE / "caffe_run"
IMAGE = "shape_val_0001.jpg"
HEIGHTS = {1280: 800, 390: 844}
SHOWN = [(1280, "light"), (390, "dark")]
ALL = [(width, theme) for width in HEIGHTS for theme in ("light", "dark")]
QUALITY = 82


def main() -> None:
    """Takes all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--all", action="store_true", help="both themes at both widths")
    options = parser.parse_args()
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    segmenter = cp.Segmenter(
        RUN / "recording" / "net.prototxt", RUN / "model" / "train_iter_2400.caffemodel",
        names=EXAMPLE / "class_names.txt",
    )  # fmt: skip
    folders = {"images": EXAMPLE / "JPEGImages", "truth": EXAMPLE / "SegmentationClass"}
    with (
        cp.explore(segmenter, **folders, recording=RUN / "recording", run=RUN) as page,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for width, theme in ALL if options.all else SHOWN:
            viewport = {"width": width, "height": HEIGHTS[width]}
            tab = browser.new_page(viewport=viewport, color_scheme=theme)
            tab.goto(page.url)
            take(tab, out, f"{width}" if theme == "light" else f"{width}_dark")
            tab.close()
        browser.close()


def take(tab: Any, out: Path, suffix: str) -> None:
    """The pictures of every view in one window."""

    def shot(view: str) -> None:
        tab.evaluate("scrollTo(0, 0)")
        tab.wait_for_timeout(300)
        with Image.open(io.BytesIO(tab.screenshot())) as image:
            image.convert("RGB").save(
                out / f"explore_{view}_{suffix}.webp", quality=QUALITY, method=6
            )

    tab.wait_for_selector("body[data-ready]")
    tab.fill("#search", "val_00")
    tab.click(f".sample[title='{IMAGE}']")
    tab.wait_for_selector("body[data-image]")
    tab.select_option("#compare", "photo")
    tab.locator("#stage").hover(position={"x": 200, "y": 150})
    shot("image")
    tab.select_option("#compare", "none")
    tab.click("#tab-crf")
    tab.check("#mark")
    tab.wait_for_selector("body[data-setting]")
    shot("crf")
    tab.click("#tab-why")
    tab.select_option("#region", "object")
    point_at_object(tab)
    tab.wait_for_selector("body[data-traced]")
    shot("why")
    tab.click("#tab-layers")
    tab.wait_for_selector("#tiles .tile")
    tab.click(".blob:has-text('conv3_3')")
    tab.wait_for_selector("#tiles[data-blob=conv3_3]")
    shot("layers")
    tab.click("#see-parity")
    tab.wait_for_selector("#parity .verdict")
    tab.wait_for_selector("#blob-name:has-text('Caffe')")
    shot("parity")
    tab.click("#tab-training")
    tab.wait_for_selector("#predictions .tile")
    shot("training")


def point_at_object(tab: Any) -> None:
    """Clicks into the middle of the largest coloured region."""
    share = tab.evaluate(
        """() => {
          const canvas = document.querySelector('.right .map');
          const {data, width, height} = canvas.getContext('2d').getImageData(
            0, 0, canvas.width, canvas.height);
          const found = [];
          for (let i = 3; i < data.length; i += 4) if (data[i]) found.push((i - 3) / 4);
          const middle = found[found.length >> 1];
          return [(middle % width + 0.5) / width, (Math.floor(middle / width) + 0.5) / height];
        }"""
    )
    box = tab.locator(".right .photo").bounding_box()
    tab.mouse.click(box["x"] + share[0] * box["width"], box["y"] + share[1] * box["height"])


if __name__ == "__main__":
    main()
