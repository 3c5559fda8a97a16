"""Drawings of traced points: dots, heat maps, and the walk through the layers."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from caffe_port.errors import UsageError, printable
from caffe_port.reports import html
from caffe_port.reports.html import photograph, resized, scale
from caffe_port.spec import NetSpec
from caffe_port.unravel.points import Placement, Points, placements
from caffe_port.unravel.trace import Traces, frame_order

if TYPE_CHECKING:
    from PIL import Image


Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Size = tuple[int, int]  # height, width

NEAR_RADIUS = 0.02  # of the canvas's diagonal
MIN_NEAR = 0.05  # of all points: with at most this share near it, a point is an outlier
HEAT_SHARE = 0.6

# from no heat over blue, green and yellow to red
_COLOURS = np.array(
    [[40, 60, 190], [20, 150, 220], [60, 200, 110], [250, 215, 50], [225, 40, 30]], np.float64
)


def clustered(points: Points, canvas: Size) -> Points:
    """The points that are not outliers.

    A point is kept where more than 5 % of all points, itself included, are nearer to it than 2 % of
    the canvas's diagonal. A pixel with points in several channels counts for each.

    Args:
        points: (P, 3) channel, y, x in the input.
        canvas: the input's height and width (upstream: always 513 by 513).
    Source: Seg-Unravel.
    """
    if not len(points):
        return points
    from scipy.spatial import cKDTree

    places = points[:, 1:].astype(np.float64)
    # the tree counts points at the radius too, which are not nearer
    radius = np.nextafter(NEAR_RADIUS * math.hypot(*canvas), 0)
    near = cKDTree(places).query_ball_point(places, radius, return_length=True)
    kept: Points = points[near > MIN_NEAR * len(points)]
    return kept


def spread(canvas: Size) -> float:
    """Standard deviation of a point's heat in pixels.

    Upstream draws dots of 75 * (height + width) / 875 pixels (87 on 513 by 513) that fade out
    towards their edge, which is taken as two standard deviations.
    """
    return 75 * sum(canvas) / 875 / 4


def density(points: Points, canvas: Size) -> Floats:
    """A Gaussian density over the canvas, its peak 1; zeros where there are no points.

    Args:
        points: (P, 3) channel, y, x in the input.
        canvas: height and width.
    Returns:
        (height, width).
    """
    from scipy.ndimage import gaussian_filter

    counts = np.zeros(canvas)
    np.add.at(counts, (points[:, 1], points[:, 2]), 1.0)
    heat: Floats = gaussian_filter(counts, spread(canvas), mode="constant", truncate=3)
    return heat / heat.max() if len(points) else heat


def heat_map(points: Points, canvas: Size) -> Floats:
    """The density without outliers; of all points where all are outliers (upstream stops)."""
    kept = clustered(points, canvas)
    return density(kept if len(kept) else points, canvas)


def overlay(image: Bytes, heat: Floats) -> Bytes:
    """An image blended with its heat: 0.4 image and 0.6 heat, less heat where it is low.

    Args:
        image: (h, w, 3) uint8 RGB; the upper left part of the canvas.
        heat: (H, W) in 0..1, at least as large.
    Returns:
        (h, w, 3) uint8.
    """
    own = heat[: image.shape[0], : image.shape[1]]
    steps = np.linspace(0, 1, len(_COLOURS))
    colour = np.stack([np.interp(own, steps, _COLOURS[:, i]) for i in range(3)], 2)
    # heat of at least a tenth of the peak is drawn in full, as upstream's dots are
    share = HEAT_SHARE * np.clip(own * 10, 0, 1)[:, :, None]
    blended: Bytes = np.rint(image * (1 - share) + colour * share).astype(np.uint8)
    return blended


YELLOW = (255, 225, 0)
DARK = (20, 20, 20)
SMALLEST, LARGEST = 320, 640  # pixels of the longer side of a drawing


def enlargement(size: tuple[int, int]) -> float:
    """The factor by which an image of that height and width is enlarged, or reduced."""
    return scale(size, SMALLEST, LARGEST)


def with_points(
    image: Bytes, places: npt.NDArray[np.floating], *, radius: float = 2.5
) -> Image.Image:
    """The image with a dot at every place; dimmed a little, so that the dots can be seen.

    Args:
        image: (h, w, 3) uint8 RGB.
        places: (P, 2) y, x in the image; those outside of it are left out.
        radius: of a dot, in pixels of the result.
    """
    from PIL import Image, ImageDraw

    factor = enlargement((image.shape[0], image.shape[1]))
    drawing = resized(Image.fromarray((image * 0.75).astype(np.uint8)), factor)
    draw = ImageDraw.Draw(drawing)
    inside = (places >= -0.5).all(1) & (places < np.array(image.shape[:2]) - 0.5).all(1)
    for y, x in (places[inside] + 0.5) * factor:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), YELLOW, DARK)
    return drawing


MAX_DOTS = 2500  # per image; more would hide it
_CAPTION = 18  # pixels
_GAP = 6
_PAPER, _INK = (245, 245, 243), (30, 36, 48)


class Panel(NamedTuple):
    """One blob's points over the image.

    Attributes:
        blob: its name.
        number: of its points, in all channels.
        places: (P, 2) y, x in the image, each once.
    """

    blob: str
    number: int
    places: npt.NDArray[np.float64]


Frame = tuple[Panel, ...]


def frames(
    spec: NetSpec, traces: Traces, label: int, size: tuple[int, int], *, longest: int = 80
) -> list[Frame]:
    """One frame per blob from the top down; branches of the net, such as scales, side by side.

    Args:
        spec: of the traced net.
        traces: its points.
        label: whose points are shown.
        size: height and width of the image; points beyond it (in the padding) are left out.
        longest: blobs are left out evenly so that no more frames than this are made.
    Raises:
        UsageError: the label was not traced.
    """
    if label not in traces:
        raise UsageError(f"label {label} was not traced; there are {', '.join(map(str, traces))}")
    own = traces[label]
    places = placements(spec, traces.shapes)
    order = frame_order(spec, traces.top, {name for name in own if name in places})
    return [
        tuple(_panel(name, own, places, size) for name in names)
        for names in order.frames(longest)
        if any(name in own for name in names)
    ]


def _panel(
    blob: str | None,
    own: Mapping[str, Points],
    places: Mapping[str, Placement],
    size: tuple[int, int],
) -> Panel:
    if blob is None or blob not in own:
        return Panel("not reached", 0, np.empty((0, 2)))
    points = own[blob]
    placed = np.unique(places[blob].of(points), axis=0)
    placed = placed[((placed >= -0.5) & (placed < np.array(size) - 0.5)).all(1)]
    if len(placed) > MAX_DOTS:
        placed = np.random.default_rng(0).choice(placed, MAX_DOTS, replace=False)
    return Panel(blob, len(points), placed)


def gif(image: Bytes, sequence: Sequence[Frame], *, seconds: float = 0.35) -> bytes:
    """A GIF that loops.

    Args:
        image: (h, w, 3) uint8 RGB.
        sequence: from ``frames``.
        seconds: per frame; the last is shown longer.
    """
    from PIL import Image

    drawings = [_drawing(image, frame) for frame in sequence]
    width, height = (max(drawing.size[i] for drawing in drawings) for i in (0, 1))
    palette, sheets = _palette(image), []
    for drawing in drawings:
        sheet = Image.new("RGB", (width, height), _PAPER)
        sheet.paste(drawing, ((width - drawing.width) // 2, 0))
        sheets.append(sheet.quantize(palette=palette, dither=Image.Dither.NONE))
    times = [round(1000 * seconds)] * (len(sheets) - 1) + [2000]
    stream = io.BytesIO()
    sheets[0].save(
        stream, format="GIF", save_all=True, append_images=sheets[1:], duration=times, loop=0
    )
    return stream.getvalue()


def _palette(image: Bytes) -> Image.Image:
    """240 colours of the dimmed image, and those of dots and captions, which few pixels have."""
    drawing = with_points(image, np.empty((0, 2))).quantize(240)
    colours = (drawing.getpalette() or [])[: 3 * 240]
    for colour in (YELLOW, DARK, _PAPER, _INK):
        colours += colour
    drawing.putpalette(colours)
    return drawing


def _drawing(image: Bytes, frame: Frame) -> Image.Image:
    """The panels of a frame next to each other, each below its caption."""
    from PIL import Image, ImageDraw

    panels = [with_points(image, panel.places, radius=2) for panel in frame]
    width = sum(panel.width for panel in panels) + _GAP * (len(panels) - 1)
    sheet = Image.new("RGB", (width, panels[0].height + _CAPTION), _PAPER)
    draw, left = ImageDraw.Draw(sheet), 0
    for panel, drawing in zip(frame, panels, strict=True):
        draw.text((left + 3, 3), _caption(panel), _INK)
        sheet.paste(drawing, (left, _CAPTION))
        left += drawing.width + _GAP
    return sheet


def _caption(panel: Panel) -> str:
    name = printable(panel.blob)
    if not panel.number:
        return name
    return f"{name}: {panel.number} point" + ("" if panel.number == 1 else "s")


def player(image: Bytes, sequence: Sequence[Frame], name: str) -> html.Html:
    """A slider over the frames, which a script of the page draws.

    Args:
        image: (h, w, 3) uint8 RGB.
        sequence: from ``frames``.
        name: what is shown, as text for screen readers.
    """
    factor = enlargement((image.shape[0], image.shape[1]))
    content = photograph(image, smallest=SMALLEST, largest=LARGEST)
    panels = max(len(frame) for frame in sequence)
    figures = [
        html.Html(
            f'<figure><canvas role="img" aria-label="{html.text(name)}"></canvas>'
            "<figcaption></figcaption></figure>"
        )
        for _ in range(panels)
    ]
    data = json.dumps(_script_data(sequence, factor), separators=(",", ":")).replace("<", "\\u003c")
    return html.Html(
        '<div class="player"><div class="controls"><button type="button">Play</button>'
        f'<input type="range" min="0" max="{len(sequence) - 1}" value="0" '
        f'aria-label="layer, {html.text(name)}"></div>'
        f"<div hidden>{html.image(content, name)}</div>"
        f'<div class="panels">{"".join(figures)}</div>'
        f'<script type="application/json">{data}</script></div>'
    )


def _script_data(sequence: Sequence[Frame], factor: float) -> list[list[Mapping[str, object]]]:
    return [
        [
            {
                "name": _caption(panel),
                "at": np.rint((panel.places + 0.5) * factor).astype(int).ravel().tolist(),
            }
            for panel in frame
        ]
        for frame in sequence
    ]


PLAYER_SCRIPT = html.Html("""<style>
.player .controls{margin-top:.6rem;display:flex;gap:.7rem;align-items:center;max-width:40rem}
.player input{flex:1;min-width:0}.player canvas{width:100%;display:block;border-radius:4px}
.player .panels{display:flex;flex-wrap:wrap;gap:.8rem;margin:.8rem 0}
.player figure{flex:1 1 15rem;max-width:34rem}
.player button{font:inherit;padding:.2rem .9rem;min-width:5rem}
</style><script>
document.querySelectorAll('.player').forEach(function(player){
  var frames=JSON.parse(player.querySelector('script').textContent),
    image=player.querySelector('img'),slider=player.querySelector('input'),
    button=player.querySelector('button'),figures=player.querySelectorAll('figure'),timer=null;
  function show(){
    var frame=frames[+slider.value];
    figures.forEach(function(figure,i){
      var panel=frame[i],canvas=figure.querySelector('canvas');
      figure.hidden=!panel;
      if(!panel)return;
      canvas.width=image.naturalWidth;canvas.height=image.naturalHeight;
      var c=canvas.getContext('2d');c.drawImage(image,0,0);
      c.fillStyle='rgba(0,0,0,.3)';c.fillRect(0,0,canvas.width,canvas.height);
      c.fillStyle='#ffe100';c.strokeStyle='#141414';
      for(var j=0;j<panel.at.length;j+=2){
        c.beginPath();c.arc(panel.at[j+1],panel.at[j],2.6,0,7);c.fill();c.stroke();}
      figure.querySelector('figcaption').textContent=
        panel.name+' ('+(+slider.value+1)+' of '+frames.length+')';
    });}
  function stop(){clearInterval(timer);timer=null;button.textContent='Play';}
  slider.addEventListener('input',function(){stop();show();});
  button.addEventListener('click',function(){
    if(timer){stop();return;}
    if(+slider.value===frames.length-1)slider.value=0;
    button.textContent='Pause';show();
    timer=setInterval(function(){
      slider.value=+slider.value+1;show();
      if(+slider.value===frames.length-1)stop();},350);});
  image.decode().then(show,show);
});</script>""")
