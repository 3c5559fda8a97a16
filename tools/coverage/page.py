"""The page of coverage: figures by group of repositories, and the reasons of failures."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from string import Template

from tools.coverage.kinds import NET, TEMPLATE

Row = dict[str, object]
_PAGE = Path(__file__).with_name("page.md")
GROUPS = {"segmentation": "segmentation and edges", "detection": "detection",
          "caffe": "whole Caffes (mostly copies of BVLC's models)", "models": "models"}  # fmt: skip


def page(rows: Sequence[Row], missing: Sequence[str], judged: bool) -> str:
    """Markdown of the whole page."""
    nets = [row for row in rows if row["kind"] == NET]
    read = [row for row in nets if not row["refused"]]
    texts = list({row["digest"]: row for row in read}.values())
    once = f"Equal files counted once: {_line('texts', texts)}"
    figures = [*_missing(missing), _groups(rows, judged), "", once]
    return Template(_PAGE.read_text()).substitute(
        figures="\n".join(figures), apart=_apart(rows, nets), reasons=_reasons(read)
    )


def _missing(missing: Sequence[str]) -> list[str]:
    return ["**Not complete.** Missing: " + "; ".join(missing), ""] if missing else []


def _share(part: int, whole: int) -> str:
    return f"{part} ({100 * part / whole:.1f} %)" if whole else "-"


def _counts(read: Sequence[Row]) -> tuple[int, int, int, int, int]:
    parsed = [row for row in read if row["stage"]]
    built = [row for row in parsed if row["stage"] in ("built", "run")]
    small = [row for row in built if not row["too_large"]]
    run = [row for row in small if row["stage"] == "run"]
    return len(read), len(parsed), len(built), len(small), len(run)


def _line(title: str, read: Sequence[Row]) -> str:
    nets, parsed, built, small, run = _counts(read)
    return (
        f"{nets} {title}, {_share(parsed, nets)} parsed, {_share(built, nets)} built, "
        f"{run} of {small} of moderate size run."
    )


def _groups(rows: Sequence[Row], judged: bool) -> str:
    lines = [
        "| repositories | number | nets | parsed | built | of those with no Python layer | run |",
        "|---|---|---|---|---|---|---|",
    ]
    for group, title in [*GROUPS.items(), ("", "all")]:
        chosen = [row for row in rows if group in ("", row["group"])]
        read = [row for row in chosen if row["kind"] == NET and not row["refused"]]
        plain = [row for row in read if not str(row["reason"]).startswith("a Python layer")]
        nets, parsed, built, small, run = _counts(read)
        lines.append(
            f"| {title} | {len({row['repository'] for row in chosen})} | {nets} | "
            f"{_share(parsed, nets)} | {_share(built, nets)} | "
            f"{_share(_counts(plain)[2], len(plain))} | {_share(run, small)} |"
        )
    if not judged:
        lines.append("\nWithout --protoc: nets that their own Caffe refuses are among them.")
    return "\n".join(lines)


def _apart(rows: Sequence[Row], nets: Sequence[Row]) -> str:
    kinds = Counter(str(row["kind"]) for row in rows)
    lines = [f"- {count} files: {what}" for what, count in kinds.most_common() if what != NET]
    templates = [row for row in rows if row["kind"] == TEMPLATE]
    if templates:
        lines.append(f"- With a value for each variable, of {_line('templates', templates)}")
    refused = Counter(
        (str(row["repository"]), re.sub(r"line \d+|\d+", "N", str(row["refused"]))[:110])
        for row in nets if row["refused"]
    )  # fmt: skip
    lines.append(f"- {sum(refused.values())} nets that their own Caffe's schema refuses:")
    lines += [f"    - {count} of {name}: {why}" for (name, why), count in sorted(refused.items())]
    return "\n".join(lines)


def _reasons(read: Sequence[Row]) -> str:
    lines = ["| step | reason | nets | distinct | an example |", "|---|---|---|---|---|"]
    steps = {"": "parse", "parsed": "build", "built": "run"}
    failed = [row for row in read if row["reason"]]
    counted = Counter((steps[str(row["stage"])], str(row["reason"])) for row in failed)
    for (step, reason), count in sorted(counted.items(), key=lambda x: (x[0][0], -x[1])):
        same = [
            row for row in failed if (steps[str(row["stage"])], row["reason"]) == (step, reason)
        ]
        distinct = len({row["digest"] for row in same})
        example = f"{same[0]['repository']} {same[0]['path']}"
        shown = reason.replace("|", "\\|")
        lines.append(f"| {step} | {shown} | {count} | {distinct} | {example} |")
    return "\n".join(lines)
