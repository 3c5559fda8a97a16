"""The document of the attacks: one line each, with its slowest and largest outcome."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from tests.attacks.running import MEGABYTES, SECONDS, Outcome

HEAD = """# Hostile files

What reading an untrusted prototxt, caffemodel or `.pt` can and cannot do. Reading a file never runs code
from it, never writes to a place that it names, and never takes much longer or more memory than a valid file
of its size. Faults raise an error of `caffe_port.errors` that names the file and the place, or the system's
own error if a file cannot be opened.

`make attacks` runs every attack below through the commands, `caffe train` and the Python interface,
each in a process of its own with limits, and writes this table. It is held to **{seconds:g} seconds** of
processor time and **{megabytes:g} MB** above the file's own size (imports left out), nothing written,
nothing executed, no control codes printed. The tests run the same attacks without time limits.

## What is allowed, and what is not

- **Python layers** run the code that a prototxt names: only with `--allow-python-layers`,
  `allow_python_layers=True`, in a script started by `python -m caffe_port.pycaffe` or that finds `caffe`
  through `caffe-port pythonpath`, or with `CAFFE_PORT_ALLOW_PYTHON_LAYERS=1` in the environment, which
  gives a warning.
- **Pickles** are never run. A `.pt` or `.pth` is read by torch's reader of plain tensors
  (`weights_only=True`); no other pickle is opened.
- **Model folders** are safetensors, a text and JSON of at most 1 MiB; their README.md is not read
  ([model folders](hub.md)).
- **Links** out of an HDF5 file, external storage and virtual datasets are refused, in weights and in
  training data alike.
- **Pipes and devices** are refused wherever a file is read: a list can name `/dev/zero`.
- **Lists** are joined to their root folder as Caffe joins them, so a list may name any file that you
  may read, by `../` or by an absolute path. The file is only decoded as an image or refused; results
  are named by the last part of its name, in your output folder, and two lines with the same last part
  are refused.
- **Results stay in their folder.** A link in place of an output file is replaced, or refused
  if a lock or a log would be written through it; a folder that is a link is followed.
- **Layers that write** (MatWrite, HDF5Output) write where the prototxt says, as in Caffe, when you
  train or test the net; `inspect`, `convert`, `verify`, `evaluate` and `net(...)` write nothing.
  The names in MatWrite's list cannot lead out of the folder of its prefix, as they can in Caffe.
- **Names** of layers, blobs, types and files may contain anything and are kept unchanged; errors,
  tables, logs and pages show control codes spelled out (`\\x1b`, `\\u202e`), markup as text,
  words of over 1000 characters shortened, and a message's further lines indented.
- **NaN in weights** is loaded, as in Caffe; `convert` names the layers that have any. A mean image must
  be finite, because it is subtracted from every image.
- **Images** have at most 24.2 million pixels, a JPEG no more scans than can be decoded in time, and
  only the formats that OpenCV reads.
- **A net** needs no more memory for its parameters than the machine has; its blobs take what its
  input shapes require. Set them yourself (`--input-shape`) for an untrusted net.

## Attacks

{count} attacks at {entries} entry points; the slowest took {slowest:.2f} s, the largest
{largest:.0f} MB. "read" means that an entry point does not reach the faulty part.

"""


def page(outcomes: Sequence[Outcome]) -> str:
    """The document, in Markdown."""
    attacks = {(o.family, o.attack) for o in outcomes}
    head = HEAD.format(
        seconds=SECONDS, megabytes=MEGABYTES, count=len(attacks), entries=len(outcomes),
        slowest=max(o.seconds for o in outcomes), largest=max(o.megabytes for o in outcomes),
    )  # fmt: skip
    return head + "\n".join(_lines(outcomes)) + "\n"


def table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes as JSON: of each attack [entry's number, end, error, seconds, MB]."""
    entries = list(dict.fromkeys(o.entry for o in outcomes))
    attacks = [
        {
            "family": family, "attack": attack,
            "outcomes": [[entries.index(o.entry), o.end, o.error, o.seconds, o.megabytes]
                         for o in group],
        }
        for (family, attack), group in groupby(outcomes, lambda o: (o.family, o.attack))
    ]  # fmt: skip
    lines = ",\n".join(json.dumps(attack) for attack in attacks)
    return f'{{"entries": {json.dumps(entries)}, "attacks": [\n{lines}\n]}}\n'


def _lines(outcomes: Sequence[Outcome]) -> Iterator[str]:
    for family, members in groupby(outcomes, lambda o: o.family):
        found = list(members)
        entries = dict.fromkeys(o.entry for o in found)
        yield f"### {family[0].upper()}{family[1:]}\n"
        yield "Given to " + ", ".join(f"`{' '.join(e.split())[:90]}`" for e in entries) + ".\n"
        lines = [_line(attack, list(group)) for attack, group in groupby(found, lambda o: o.attack)]
        slowest = max(o.seconds for o in found)
        yield f"<details><summary>{len(lines)} attacks, at most {slowest:.2f} s</summary>\n"
        yield "| attack | ends in | seconds | MB |"
        yield "|---|---|---|---|"
        yield from lines
        yield "\n</details>\n"


def _line(attack: str, group: Sequence[Outcome]) -> str:
    ends = Counter(o.error or "read" for o in group)
    named = ", ".join(f"{end} x{n}" if n > 1 else end for end, n in ends.items())
    seconds, megabytes = max(o.seconds for o in group), max(o.megabytes for o in group)
    return f"| {attack} | {named} | {seconds:.2f} | {megabytes:.0f} |"
