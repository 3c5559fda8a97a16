"""The page in a real browser: Chromium, driven by Playwright; skipped where one of them is missing.

``make browser`` installs Playwright's package and runs these tests.
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import socket
import sys
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import caffe_port as cp
from caffe_port.cli import main
from caffe_port.crf import parse_parameters
from caffe_port.data.images import read_labels
from caffe_port.exploring.sessions import Limits
from tests import preloaded
from tests.explore.client import (
    IMAGE,
    IMAGES,
    MASK,
    MODEL,
    NAMES,
    RUN,
    TRUTH,
    WEIGHTS,
    segmenter,
    unpacked,
)
from tests.explore.test_server import input_and_traces, place_of
from tests.waiting import LIMIT, wait_until

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = os.environ.get("CAFFE_PORT_TEST_BROWSER") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
SIZES = [(1280, 800), (390, 844)]
VIEWS = ("image", "crf", "why", "layers", "training")


@pytest.fixture(scope="module")
def chromium():
    """One browser for all tests; each has a profile of its own."""
    with playwright.sync_playwright() as found:
        options = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = found.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


class Window:
    """A browser window that shows the page, and everything that it complains about."""

    def __init__(self, chromium, url, size=SIZES[0], **options):
        self.context = chromium.new_context(
            viewport={"width": size[0], "height": size[1]}, **options
        )
        self.context.set_default_timeout(1000 * LIMIT)
        self.complaints: list[str] = []
        self.page = self.open(url)

    def open(self, url):
        page = self.context.new_page()
        page.on("console", self.note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda one: self.complaints.append(f"foreign request {one.url}")
                if not one.url.startswith((url, "blob:")) else None)  # fmt: skip
        page.goto(url)
        page.wait_for_selector("body[data-ready]")
        return page

    def note(self, message):
        # that pixels are read is the tests' own doing
        if message.type in ("error", "warning") and "readback" not in message.text:
            self.complaints.append(message.text)

    def close(self):
        self.context.close()


@pytest.fixture
def window(chromium, page):
    one = Window(chromium, page.url)
    yield one
    one.close()
    assert not one.complaints


def drop(page: Any, content: bytes, name: str) -> None:
    """Drops a file on the image's place."""
    transfer = page.evaluate_handle(
        """([content, name]) => {
          const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([bytes], name));
          return transfer;
        }""",
        [base64.b64encode(content).decode(), name],
    )
    page.dispatch_event("#drop", "dragover", {"dataTransfer": transfer})
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})


def until(page: Any, expression: str) -> None:
    """Waits until JavaScript is true; the page's own policy forbids Playwright's way to wait."""
    wait_until(lambda: page.evaluate(expression))


def show(page: Any, path: Any = IMAGE) -> None:
    """Drops an image and waits for its labels."""
    drop(page, path.read_bytes(), path.name)
    page.wait_for_selector(f'body[data-image="{path.name}"]')


def drawn(page: Any, pane: str = "right", layer: str = "map") -> np.ndarray:
    """(h, w, 4) the pixels of a canvas."""
    found = page.evaluate(
        """([pane, layer]) => {
          const canvas = document.querySelector(`.pane.${pane} canvas.${layer}`);
          const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
          let text = '';
          for (let i = 0; i < data.length; i += 8192)
            text += String.fromCharCode(...data.subarray(i, i + 8192));
          return [canvas.height, canvas.width, btoa(text)];
        }""",
        [pane, layer],
    )
    return np.frombuffer(base64.b64decode(found[2]), np.uint8).reshape(found[0], found[1], 4)


def labels_of(pixels: np.ndarray) -> np.ndarray:
    """The labels of colours; the background is transparent."""
    palette = segmenter().colours[:6].astype(int)
    assert set(np.unique(pixels[..., 3])) <= {0, 255}
    colours = np.where(pixels[..., 3:] == 255, pixels[..., :3], 0).astype(int)
    matches = (colours[:, :, None] == palette).all(3)
    assert matches.any(2).all()
    return matches.argmax(2)


def settled(page: Any) -> str:
    """The CRF's setting, once that of the sliders is shown."""
    until(
        page,
        """() => {
          const shown = document.body.dataset.setting || '';
          const values = [...document.querySelectorAll('#kernels input[type=range]')].map(
            (input) => [input.dataset.name, +input.parentElement.querySelector('.exact').value]);
          return values.every(([name, value]) =>
            (shown + ',').replace(' --crf', ', --crf').includes(`${name}=${value},`));
        }""",
    )
    return page.evaluate("document.body.dataset.setting")


def command_labels(text: str, name: str, folder: Any) -> np.ndarray:
    """What `caffe-port crf` makes of the network's scores with a copied setting."""
    assert text.endswith(" --crf-colours rgb")
    found = parse_parameters(text.removeprefix("--crf ").removesuffix(" --crf-colours rgb"))
    (folder / "scores").mkdir(exist_ok=True)
    np.save(folder / "scores" / f"{name}.npy", segmenter()(IMAGES / f"{name}.jpg").scores)
    values = {
        "i": found.iterations, "pw": found.pos_w[0], "bw": found.bi_w[0],
        **dict.fromkeys(("px", "py"), found.pos_xy_std[0]),
        **dict.fromkeys(("bx", "by"), found.bi_xy_std[0]),
        **dict.fromkeys(("br", "bg", "bb"), found.bi_rgb_std[0]),
    }  # fmt: skip
    words = [word for option, value in values.items() for word in (f"-{option}", f"{value}")]
    out = folder / "refined"
    done = CliRunner().invoke(
        main, ["crf", "-id", str(IMAGES), "-fd", str(folder / "scores"), "-sd", str(out), *words]
    )
    assert done.exit_code == 0, done.output
    return read_labels(out / f"{name}.png")


def test_a_dropped_image_shows_its_labels(window):
    page = window.page
    show(page)
    result = segmenter()(IMAGE)
    np.testing.assert_array_equal(labels_of(drawn(page)), result.labels)
    np.testing.assert_array_equal(drawn(page, layer="photo")[..., :3], result.image)
    legend = page.locator("#legend li").all_inner_texts()
    assert [line.split("\n")[0] for line in legend] == [one.name for one in result.found]
    page.fill("#opacity", "20")
    assert page.evaluate("getComputedStyle(document.querySelector('.right .map')).opacity") == "0.2"


def test_the_pixel_under_the_pointer_is_named(window):
    page = window.page
    show(page)
    labels = segmenter()(IMAGE)
    y, x = place_of(labels.labels, 1)
    hover(page, y, x, labels.labels.shape)
    text = page.inner_text("#readout")
    assert f"x {x}, y {y}" in text
    assert "disc" in text
    assert f"{100 * labels.confidence[y, x]:.1f} %" in text


def hover(page, y, x, shape, click=False):
    box = page.locator(".right .photo").bounding_box()
    at = [box["x"] + (x + 0.5) * box["width"] / shape[1],
          box["y"] + (y + 0.5) * box["height"] / shape[0]]  # fmt: skip
    (page.mouse.click if click else page.mouse.move)(*at)


@pytest.mark.parametrize("kind", ["confidence", "entropy", "probability", "score"])
def test_other_maps(window, kind):
    page = window.page
    show(page)
    page.select_option("#show", kind)
    page.wait_for_selector(f'.right .map[aria-label^="{kind}"]')
    pixels = drawn(page)
    assert (pixels[..., 3] == 255).all()
    # brighter where the value is larger
    result = segmenter()(IMAGE)
    values = {"probability": result.probabilities[0], "score": result.scores[0]}.get(kind)
    values = getattr(result, kind) if values is None else values
    low, high = values.argmin(), values.argmax()
    sums = pixels[..., :3].sum(2, dtype=int).ravel()
    assert sums[low] < sums[high]


def test_dragging_a_crf_slider_follows_the_command_bit_for_bit(window, tmp_path):
    page = window.page
    show(page)
    page.click("#tab-crf")
    page.select_option("#colours", "rgb")
    before = settled(page)
    until(page, "document.body.dataset.setting.endsWith('rgb')")
    first = labels_of(drawn(page))
    slider = page.locator("input[type=range][data-name=bi_xy_std]")
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.6, middle)
    page.mouse.down()
    for share in (0.5, 0.4, 0.3, 0.2, 0.12, 0.05):
        page.mouse.move(box["x"] + box["width"] * share, middle)
    page.mouse.up()
    until(page, f"document.body.dataset.setting !== {json.dumps(before)}")
    setting = settled(page)
    assert page.input_value("#preset") == "own"
    refined = labels_of(drawn(page))
    assert (refined != first).any()
    np.testing.assert_array_equal(refined, command_labels(setting, IMAGE.stem, tmp_path))
    np.testing.assert_array_equal(labels_of(drawn(page, "left")), segmenter()(IMAGE).labels)
    assert page.inner_text("#setting") == setting
    page.check("#mark")
    marked = drawn(page, layer="extra")[..., 3] > 0
    np.testing.assert_array_equal(marked, refined != segmenter()(IMAGE).labels)


def test_presets_and_the_truth(window):
    page = window.page
    show(page)
    page.set_input_files("#truth-file", MASK)
    page.wait_for_selector("#iou table")
    page.click("#tab-crf")
    page.select_option("#preset", "v2_vgg16")
    assert "bi_xy_std=65," in settled(page)
    rows = page.locator("#crf-iou tr").all_inner_texts()
    mean = next(row for row in rows if row.startswith("mean IoU")).split("\t")
    assert float(mean[2].split()[0]) > float(mean[1].split()[0])


def test_a_clicked_pixel_shows_the_points_of_trace(window):
    page = window.page
    show(page)
    page.click("#tab-why")
    labels = segmenter()(IMAGE).labels
    y, x = place_of(labels, 1)
    with page.expect_response(lambda one: one.url.endswith("/trace")) as caught:
        hover(page, y, x, labels.shape, click=True)
    page.wait_for_selector(f'body[data-traced^="{y},{x},1,"]')
    _, arrays = unpacked(caught.value.body())
    label_map = np.full(labels.shape, -1)
    label_map[y, x] = 1
    points = input_and_traces(label_map).arrived(1, "data")
    points = points[(points[:, 1] < labels.shape[0]) & (points[:, 2] < labels.shape[1])]
    np.testing.assert_array_equal(arrays["ends"], points)
    # each of them is drawn
    marks = drawn(page, layer="marks")
    scale = marks.shape[0] / labels.shape[0]
    for _, row, column in points:
        dot = marks[int((row + 0.5) * scale), int((column + 0.5) * scale)]
        np.testing.assert_array_equal(dot, [255, 225, 0, 255])
    # and of a layer in between other ones
    page.fill("#frame", "0")
    assert "fc8_interp" in page.inner_text("#frame-text")
    assert (drawn(page, layer="marks") != marks).any()


def test_a_rectangle_is_dragged(window):
    page = window.page
    show(page)
    page.click("#tab-why")
    page.select_option("#region", "rectangle")
    box = page.locator(".right .photo").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] * 0.2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.7, steps=4)
    page.mouse.up()
    page.wait_for_selector("body[data-traced]")
    assert "of the pixels" not in page.inner_text("#evidence")
    assert "points of the input" in page.inner_text("#evidence")


def test_a_broken_image_is_named_as_text(window):
    page = window.page
    show(page)
    name = "<img src=x onerror=alert(1)>.png"
    drop(page, b"\x89PNG\r\n\x1a\nbroken", name)
    page.wait_for_selector(".message")
    assert page.inner_text(".message span").startswith(f"{name}: not an image")
    assert page.locator("#messages img").count() == 0
    np.testing.assert_array_equal(labels_of(drawn(page)), segmenter()(IMAGE).labels)
    window.complaints.clear()  # Chromium reports the answer's status 400


def test_a_huge_image_is_refused(chromium):
    with cp.explore(segmenter(), limits=Limits(upload=200_000)) as page:
        window = Window(chromium, page.url)
        stream = io.BytesIO()
        Image.new("L", (6000, 6000)).save(stream, "PNG")
        drop(window.page, stream.getvalue(), "wide.png")
        window.page.wait_for_selector(".message")
        assert "too large to be decoded safely" in window.page.inner_text(".message")
        sent = []
        window.page.on("request", lambda request: sent.append(request.url))
        drop(window.page, bytes(200_001), "heavy.png")
        until(window.page, "document.querySelector('.message').textContent.includes('heavy.png')")
        assert not any("/image" in url for url in sent)
        window.close()


def test_two_tabs_at_once(window, page, tmp_path):
    first, second = window.page, window.open(page.url)
    other = IMAGES / "shape_val_0003.jpg"
    for tab, path in ((first, IMAGE), (second, other)):
        show(tab, path)
        tab.click("#tab-crf")
        tab.select_option("#colours", "rgb")
    for tab in (first, second):
        tab.fill("input[type=range][data-name=bi_w]", "9")
    for tab, path in ((first, IMAGE), (second, other)):
        until(tab, "document.body.dataset.setting.endsWith('rgb')")
        found = labels_of(drawn(tab)) if settled(tab) else None
        wanted = command_labels(settled(tab), path.stem, tmp_path)
        np.testing.assert_array_equal(found, wanted)


class Command:
    """`caffe-port explore` as a process, always at the same address."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.environment = {**os.environ, "CAFFE_PORT_EXPLORE_TOKEN": "a" * 32}
        self.url = f"http://127.0.0.1:{self.port}/{'a' * 32}/"
        self.start()

    def start(self) -> None:
        self.process = preloaded.start(
            [sys.executable, "-c", _START, "explore", MODEL, WEIGHTS, "--names", NAMES,
             "--port", str(self.port), "--no-browser"],
            env=self.environment,
        )  # fmt: skip
        wait_until(self.answers, self.process)

    def answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(LIMIT)


_START = "from caffe_port.start import caffe_port; caffe_port()"


def test_a_server_that_was_killed_and_started_again(chromium, tmp_path):
    server = Command()
    window = Window(chromium, server.url)
    page = window.page
    show(page)
    page.click("#tab-crf")
    page.select_option("#colours", "rgb")
    settled(page)
    server.kill()
    page.fill("input[type=range][data-name=bi_w]", "8")
    page.wait_for_selector(".message.offline")
    assert "does not answer" in page.inner_text(".message")
    server.start()
    page.fill("input[type=range][data-name=bi_w]", "9")
    page.wait_for_selector(".message", state="detached")
    until(page, "document.body.dataset.setting.includes('bi_w=9,')")
    found = labels_of(drawn(page))
    np.testing.assert_array_equal(found, command_labels(settled(page), IMAGE.stem, tmp_path))
    page.click("#tab-layers")
    page.wait_for_selector("#tiles .tile")
    window.close()
    server.kill()


def test_keyboard_only(window):
    page, keys = window.page, window.page.keyboard

    def reach(selector):
        for _ in range(100):
            if page.evaluate("(s) => document.activeElement.matches(s)", selector):
                return
            keys.press("Tab")
        raise AssertionError(f"Tab does not reach {selector}")

    choosers: list[Any] = []
    page.on("filechooser", lambda one: choosers.append(one))  # noqa: PLW0108 - it takes no builtin
    reach("#open")
    keys.press("Enter")
    wait_until(lambda: page.evaluate("1") and choosers)
    choosers[0].set_files(IMAGE)
    page.wait_for_selector("body[data-image]")
    page.evaluate("document.activeElement.blur()")
    reach("#tab-image")
    keys.press("ArrowRight")
    assert page.get_attribute("#tab-crf", "aria-selected") == "true"
    page.wait_for_selector("body[data-setting]")
    reach(".wipe")
    before = page.evaluate("getComputedStyle(document.querySelector('.right.pane')).clipPath")
    keys.press("PageUp")
    assert before != page.evaluate(
        "getComputedStyle(document.querySelector('.right.pane')).clipPath"
    )
    reach("input[data-name=bi_xy_std]")
    keys.press("ArrowLeft")
    until(page, "document.body.dataset.setting.includes('bi_xy_std=120,')")
    page.evaluate("document.activeElement.blur()")
    reach("#tab-crf")
    keys.press("ArrowRight")
    reach("#stage")
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowDown", "Enter"):
        keys.press(key)
    # from the middle: one to the right, ten down
    page.wait_for_selector('body[data-traced^="70,81,"]')
    page.evaluate("document.activeElement.blur()")
    reach("#tab-why")
    keys.press("ArrowRight")
    page.wait_for_selector("#tiles .tile")
    reach("#blobs")
    keys.press("ArrowDown")
    page.wait_for_selector("#tiles[data-blob=conv1_2]")
    reach(".tile")
    keys.press("Enter")
    page.wait_for_selector("#zoomed[open]")
    keys.press("Escape")
    page.wait_for_selector("#zoomed", state="hidden")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_view_fits_without_complaints(chromium, page, size, scheme):
    window = Window(chromium, page.url, size, color_scheme=scheme)
    tab = window.page
    show(tab)
    for view in VIEWS:
        tab.click(f"#tab-{view}")
        waits = {"crf": "body[data-setting]", "layers": "#tiles .tile", "training": "#charts svg"}
        if view in waits:
            tab.wait_for_selector(waits[view])
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
        # every control has a name for screen readers
        unnamed = tab.evaluate(
            """() => [...document.querySelectorAll('button, input, select')].filter((one) =>
              one.offsetParent && !one.getAttribute('aria-label') && !one.innerText.trim()
              && !(one.labels && one.labels.length) && !one.title).map((one) => one.outerHTML)"""
        )
        assert not unnamed
    body = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, body[4:-1].split(","))) < 200) == (scheme == "dark")
    window.close()
    assert not window.complaints


def test_parity_and_filters(window):
    page = window.page
    show(page)
    page.click("#tab-layers")
    page.click("#see-filters")
    page.wait_for_selector("#filters .tile")
    assert page.locator("#filters .tile").count() == 8
    page.click("#see-parity")
    page.wait_for_selector("#parity .verdict")
    assert "compared arrays pass" in page.inner_text("#parity .verdict")
    page.click("#parity button.link >> text=conv3_3")
    page.wait_for_selector("#tiles[data-blob=conv3_3]")
    assert page.inner_text("#blob-name").startswith("conv3_3: port")


def test_a_training_grows(chromium, tmp_path):
    log = tmp_path / "train.log"
    lines = (RUN / "train.log").read_text().splitlines(keepends=True)
    half = next(i for i, line in enumerate(lines) if "Iteration 1200, loss" in line)
    log.write_text("".join(lines[:half]))
    with cp.explore(segmenter(), run=tmp_path) as page:
        window = Window(chromium, page.url)
        tab = window.page
        show(tab)
        tab.click("#tab-training")
        until(tab, "document.querySelector('#run-text').textContent.includes('1,100')")
        assert tab.locator("#charts svg").count() == 3
        assert not tab.is_visible("#predictions-card")
        with log.open("a") as stream:
            stream.write("".join(lines[half:]))
        shutil.copy(WEIGHTS, tmp_path / "train_iter_2400.caffemodel")
        until(tab, "document.querySelector('#run-text').textContent.includes('2,400')")
        tab.wait_for_selector("#predictions .tile")
        assert "iteration 2400" in tab.inner_text("#predictions .tile")
        window.close()


class _Frame(BaseHTTPRequestHandler):
    """A notebook's page with a frame."""

    def __init__(self, content: str, *args: Any) -> None:
        self.content = content
        super().__init__(*args)

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(self.content.encode())

    def log_message(self, *args: Any) -> None:
        """Says nothing."""


def test_a_notebook_shows_the_page_in_a_frame(chromium, page):
    handler = partial(_Frame, page._repr_html_())
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as notebook:
        threading.Thread(target=notebook.serve_forever, daemon=True).start()
        context = chromium.new_context()
        tab = context.new_page()
        tab.goto(f"http://localhost:{notebook.server_port}/")
        frame = tab.frame_locator("iframe")
        frame.locator("body[data-ready]").wait_for(timeout=1000 * LIMIT)
        assert frame.locator("#model").inner_text()
        context.close()
        notebook.shutdown()


def test_the_pictures_of_the_folder(window):
    page = window.page
    assert page.locator(".sample").count() == len(list(TRUTH.glob("*.png")))
    page.fill("#search", "val_0007")
    page.click(".sample:visible")
    page.wait_for_selector('body[data-image="shape_val_0007.jpg"]')
    assert page.is_visible("#iou table")
