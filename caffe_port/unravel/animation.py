"""The points of a label in each blob, from the scores to the image: frames, a GIF, a player."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from caffe_port.errors import UsageError, printable
from caffe_port.reports import html
from caffe_port.reports.images import photograph
from caffe_port.spec import NetSpec
from caffe_port.unravel.drawing import (
    DARK,
    LARGEST,
    SMALLEST,
    YELLOW,
    Bytes,
    enlargement,
    with_points,
)
from caffe_port.unravel.points import Placement, Points, placements
from caffe_port.unravel.trace import Traces, frame_order

if TYPE_CHECKING:
    from PIL import Image

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
