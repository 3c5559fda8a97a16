"""Pages: everything is escaped, nothing comes from outside, wrong calls are refused."""

from __future__ import annotations

import base64

import pytest

from caffe_port.reports import html

PNG = b"\x89PNG\r\n\x1a\n" + b"rest"


def test_a_page_is_whole_and_self_contained():
    text = html.page("A < B", [html.section("C & D", html.paragraph("x < y"))], subtitle="<s>")
    assert text.startswith("<!doctype html>")
    assert text.endswith("</html>\n")
    for piece in ("<title>A &lt; B</title>", "C &amp; D", "x &lt; y", "&lt;s&gt;", "viewport"):
        assert piece in text
    for outside in ("http:", "https:", "<script", "@import", "url("):
        assert outside not in text


def test_cells_are_escaped_unless_raw():
    table = html.table(["<h>", "b"], [["<i>", html.raw(html.verdict("pass"))], ["c", float("nan")]])
    assert "&lt;h&gt;" in table
    assert "&lt;i&gt;" in table
    assert '<span class="verdict pass">pass</span>' in table
    assert "&ndash;" in table


def test_columns_and_rows_take_their_classes():
    table = html.table(["a", "b"], [["1", 2]], align=["center", "left"], row_classes=["fail"])
    assert '<tr class="fail"><td class="center">1</td><td class="left">2</td></tr>' in table
    assert '<td class="left">1</td><td class="right">2</td>' in html.table(["a", "b"], [["1", 2]])


def test_tables_of_uneven_rows_are_refused():
    with pytest.raises(ValueError, match="2 entries"):
        html.table(["a", "b"], [["1"]])
    with pytest.raises(ValueError, match="2 entries"):
        html.table(["a", "b"], [["1", "2"]], align=["left"])
    with pytest.raises(ValueError, match="2 row classes for 1 rows"):
        html.table(["a"], [["1"]], row_classes=["", ""])


def test_images_are_embedded_with_escaped_words():
    image = html.image(PNG, 'a "b" <c>', width=40)
    assert base64.b64encode(PNG).decode() in image
    assert 'alt="a &quot;b&quot; &lt;c&gt;" width="40"' in image
    assert "data:image/jpeg" in html.image(b"\xff\xd8\xffrest", "photo")
    with pytest.raises(ValueError, match="neither a PNG nor a JPEG"):
        html.image(b"GIF89a", "x")


def test_figures_go_side_by_side():
    grid = html.figure_grid([html.figure(PNG, "one"), html.figure(PNG, "<two>")], columns=2)
    assert grid.count("<figure>") == 2
    assert "<figcaption>&lt;two&gt;</figcaption>" in grid
    with pytest.raises(ValueError, match="at least 1"):
        html.figure_grid([], columns=0)


def test_unknown_verdicts_are_refused():
    assert "warn" in html.verdict("warn", "look")
    with pytest.raises(ValueError, match="not one of pass, fail"):
        html.verdict("great")


def test_small_pieces_escape_too():
    assert "&lt;k&gt;" in html.cards({"<k>": 1})
    assert "rgb(1,2,3)" in html.legend({"<n>": (1, 2, 3)})
    assert "&lt;n&gt;" in html.legend({"<n>": (1, 2, 3)})
    assert "<summary>&lt;s&gt;</summary>" in html.details("<s>", html.paragraph("x", note=True))
