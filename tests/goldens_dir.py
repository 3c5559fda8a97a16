"""Where the recordings are: a part in the repository, all of them next to it if present."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GOLDENS = ROOT / "tests" / "goldens"
SHAPES = ROOT / "examples" / "shapes_voc"


def _beside(name: str) -> Path | None:
    folder = ROOT.parent / "shared" / name
    return folder if folder.is_dir() else None


FULL_GOLDENS = _beside("goldens")
FULL_WIDE = _beside("goldens_wide")
VOC_SAMPLE = _beside("voc_sample")
FULL_SHAPES = _beside("shapes_voc")


def cases(kind: str) -> list[Path]:
    """Folders of the recorded cases of a kind: the bundled ones and, where they are, all others."""
    roots = [GOLDENS, FULL_GOLDENS] if FULL_GOLDENS is not None else [GOLDENS]
    found = {path.parent.name: path.parent
             for root in roots for path in (root / kind).glob("*/case.json")}  # fmt: skip
    return [found[name] for name in sorted(found)]


def wide_cases() -> list[Path]:
    """Layers of published width, each recorded with one of two BLAS libraries."""
    full = [] if FULL_WIDE is None else sorted(p.parent for p in FULL_WIDE.glob("*/*/case.json"))
    return full or sorted(path.parent for path in (GOLDENS / "wide").glob("*/case.json"))


def dialect_of(case: Path) -> str:
    """Whose Caffe made a recording; the same text can mean two things (Accuracy's ties)."""
    oracles = {"deeplab": "deeplab2", "deeplab1": "deeplab1"}
    return oracles.get(case.name.partition("_")[0], "bvlc")
