"""The commands that faults are injected into, and which of their output is their result."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHAPES = ROOT / "examples" / "shapes_voc"
RUN = SHAPES / "caffe_run"
NET, WEIGHTS = RUN / "recording" / "net.prototxt", RUN / "model" / "train_iter_2400.caffemodel"
PROGRAMS = ROOT / "tests" / "goldens" / "programs"


@dataclass(frozen=True)
class Job:
    """A command with an output folder.

    Attributes:
        command: output folder -> command line.
        results: pattern of the files that are its result.
        rewrite: arguments that make it rewrite existing output.
    """

    name: str
    command: Callable[[Path], list[str]]
    results: str
    rewrite: tuple[str, ...] = ()

    def rewriting(self) -> Job:
        """The same job, rewriting everything."""
        return replace(self, command=lambda out: [*self.command(out), *self.rewrite])


def port(*words: str | Path) -> list[str]:
    """The command line of caffe-port in this Python."""
    return [sys.executable, "-c", "from caffe_port.start import caffe_port; caffe_port()",
            *map(str, words)]  # fmt: skip


def few(out: Path, count: int, kind: str = "val") -> Path:
    """A list of the example's first images, next to the output folder."""
    path = out.parent / f"{kind}_{count}.txt"
    names = (SHAPES / "ImageSets" / "Segmentation" / f"{kind}.txt").read_text().split()[:count]
    if not path.exists():
        path.write_text("\n".join(names) + "\n")
    return path


def convert(out: Path) -> list[str]:
    """A conversion."""
    return port("convert", NET, WEIGHTS, "-o", out / "net.pt")


def evaluate(out: Path) -> list[str]:
    """An evaluation of twelve images with the CRF."""
    data = ("--images", SHAPES, "--list", few(out, 12), "--crop", "161")
    return port("evaluate", NET, WEIGHTS, *data, "--crf", "v1_largefov", "-o", out)


def crf(out: Path) -> list[str]:
    """DeepLab's program over its recorded inputs."""
    return port("crf", "-id", PROGRAMS / "ppm", "-fd", PROGRAMS / "bin", "-sd", out, "-bw", "4")


def solver(out: Path, steps: int = 12, every: int = 2, seed: int = 1712) -> Path:
    """The prototxt of a short training with a snapshot every ``every`` steps."""
    text = (RUN / "train.prototxt").read_text().replace("${ROOT}", str(SHAPES))
    net, path = out.parent / "train.prototxt", out.parent / f"{out.name}_{seed}.prototxt"
    net.write_text(text.replace("batch_size: 8", "batch_size: 2"))
    path.write_text(
        f'train_net: "{net}" type: "Adam" base_lr: 0.001 lr_policy: "fixed" momentum: 0.9 '
        f"max_iter: {steps} snapshot: {every} random_seed: {seed} "
        f'snapshot_prefix: "{out}/net"\n'
    )
    return path


def train(out: Path) -> list[str]:
    """Twelve steps with a snapshot every two, resumed from the last snapshot."""
    program = "from caffe_port.start import caffe; caffe()"
    command = [sys.executable, "-c", program, "train", f"--solver={solver(out)}"]
    states = sorted(
        out.glob("[!.]*.solverstate"), key=lambda path: int(path.stem.rpartition("_")[2])
    )
    return [*command, f"--snapshot={states[-1]}"] if states else command


def finetune(out: Path) -> list[str]:
    """Two steps of one recipe, scored on one image."""
    lists = ("--train-list", few(out, 8, "train"), "--val-list", few(out, 1))
    init = RUN / "model" / "train_iter_1200.caffemodel"
    return port(
        "finetune", RUN, "--data", SHAPES, "--init", init, *lists, "--variant", "poly_softmax",
        "--seeds", "1", "--steps", "2", "--threads", "1", "-o", out,
    )  # fmt: skip


def unravel(out: Path) -> list[str]:
    """The points of one image."""
    image = SHAPES / "JPEGImages" / f"{few(out, 1).read_text().strip()}.jpg"
    return port("unravel", NET, WEIGHTS, image, "--curves", "0", "-o", out)


def crf_grid(out: Path) -> list[str]:
    """Eight settings on the recorded features of two images."""
    from PIL import Image

    truth = out.parent / "truth"
    if not truth.exists():
        truth.mkdir()
        for file in (PROGRAMS / "ppm").iterdir():
            with Image.open(file) as image:
                Image.new("L", image.size, 1).save(truth / f"{file.stem}.png")
    folders = ("-id", PROGRAMS / "ppm", "-fd", PROGRAMS / "bin", "-gt", truth)
    axes = ("--bi-w", "3,4", "--bi-xy-std", "30,50", "--bi-rgb-std", "3,5")
    return port("crf-grid", *folders, *axes, "-o", out)


def prepare_voc(out: Path) -> list[str]:
    """The example's images in VOC's layout, prepared."""
    voc = out.parent / "VOC2012"
    if not voc.exists():
        sets = voc / "ImageSets" / "Segmentation"
        sets.mkdir(parents=True)
        for name in ("JPEGImages", "SegmentationClass"):
            (voc / name).symlink_to(SHAPES / name)
        names = {kind: few(out, 12, kind).read_text() for kind in ("train", "val")}
        for kind, text in {**names, "trainval": "".join(names.values())}.items():
            (sets / f"{kind}.txt").write_text(text)
    return port("prepare-voc", voc, "-o", out)


def demo(out: Path) -> list[str]:
    """The bundled model."""
    return port("demo", "-o", out)


def verify(out: Path) -> list[str]:
    """The bundled recording."""
    return port("verify", NET, WEIGHTS, RUN / "recording", "-o", out)


def score(out: Path) -> list[str]:
    """The example's label maps, scored as if they were results."""
    data = ("--images", SHAPES, "--list", few(out, 12), "--classes", "7")
    return port("score", SHAPES / "SegmentationClass", *data, "--json", out / "score.json")


def upgrade(out: Path) -> list[str]:
    """A prototxt."""
    return port("upgrade", NET, out / "net.prototxt")


def export(out: Path) -> list[str]:
    """A module of plain PyTorch."""
    return port("convert", NET, WEIGHTS, "--emit-module", out / "net.py")


JOBS = {
    job.name: job for job in (
        Job("convert", convert, "net.pt"),
        Job("evaluate", evaluate, "*/*.png", ("--fresh",)),
        Job("crf", crf, "*.bin", ("--fresh",)),
        Job("train", train, "net_iter_12.caffemodel"),
        Job("finetune", finetune, "net_iter_2.caffemodel"),
        Job("unravel", unravel, "*.gif"),
        Job("crf-grid", crf_grid, "best.json"),
        Job("prepare-voc", prepare_voc, "*/*.png", ("--fresh",)),
        Job("demo", demo, "*/*.png"),
        Job("verify", verify, "none"),
        Job("score", score, "score.json"),
        Job("upgrade", upgrade, "net.prototxt"),
        Job("convert --emit-module", export, "net.*"),
    )
}  # fmt: skip
