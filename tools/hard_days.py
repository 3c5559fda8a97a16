"""Kills commands at random moments, fills their disk, and holds what is left against a whole run.

usage: python tools/hard_days.py [--kills 100] [--only NAME ...] [--seed N]

Each command is killed (SIGKILL, with all its children) so many times, begun again each time, and at
last let finish. After every kill each file that has its final name must be whole; at the end the
result must be that of a run which nothing disturbed. The outcome goes to docs/hard_days.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "hard_days.md"
RUN = ROOT / "examples" / "shapes_voc" / "caffe_run"
PROGRAMS = ROOT / "tests" / "goldens" / "programs"
TIMED = ("seconds", "images_per_second", "per_image")  # what may differ from run to run
HEAD = """# Hard days

Made by `python tools/hard_days.py`. Each command was killed with SIGKILL at random moments of
its run, begun again each time, and at last let finish; after every kill, every file under its
final name was read to its end, and the last result was compared with that of a run that nothing
disturbed. Then each ran with its files limited to half of what it writes, as on a full disk.

| command | kills | half-written files | result at the end | on a full disk |
|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Job:
    """A command whose output folder is OUT, and what of its output must not change."""

    name: str
    command: Callable[[Path], list[str]]
    kept: str  # a pattern of the files that are its result


def main() -> None:
    """Runs the jobs asked for and, with all of them, writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--only", nargs="+", choices=list(JOBS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = []
    for name, job in JOBS.items():
        if options.only is None or name in options.only:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(hard_day(job, Path(folder), options.kills, random.Random(options.seed)))
            print(rows[-1], flush=True)
    if options.only is None:
        PAGE.write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")
    sys.exit(0 if all("equal" in row and "| 0 |" in row for row in rows) else 1)


def hard_day(job: Job, folder: Path, kills: int, numbers: random.Random) -> str:
    """One job's row of the table."""
    began = time.monotonic()
    finish(job, folder / "whole")
    length = time.monotonic() - began
    wanted, broken, done = result(job, folder / "whole"), 0, 0
    out = folder / "killed"
    while done < kills:
        done += killed(job, out, numbers.uniform(0, length))
        broken += len(unreadable(out))
        if finished(job, out, wanted):  # from the beginning, for more moments to be killed at
            shutil.rmtree(out)
    finish(job, out)
    same = "equal" if result(job, out) == wanted else "DIFFERENT"
    return f"| `{job.name}` | {done} | {broken} | {same} | {full_disk(job, folder)} |"


def killed(job: Job, out: Path, after: float) -> bool:
    """Begins a job and kills it and its children after so many seconds; False if it was done."""
    process = started(job, out)
    try:
        process.communicate(timeout=after)
        return False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True


def finish(job: Job, out: Path) -> None:
    """Lets a job run to its end.

    Raises:
        SystemExit: it fails.
    """
    process = started(job, out)
    _, said = process.communicate()
    if process.returncode != 0:
        sys.exit(f"{job.name}: status {process.returncode}\n{said.decode()[-2000:]}")


def started(job: Job, out: Path, limit: int | None = None) -> subprocess.Popen[bytes]:
    """Starts a job in a process group of its own, its files limited to so many bytes."""

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing fails with EFBIG
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit or 0, limit or 0))

    out.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        job.command(out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=None if limit is None else limited,  # noqa: PLW1509  (one thread here)
    )  # fmt: skip


def full_disk(job: Job, folder: Path) -> str:
    """What a job says when its largest file no longer fits; what it leaves must be whole."""
    sizes = [path.stat().st_size for path in final(folder / "whole")]
    out = folder / "full"
    process = started(job, out, max(sizes) // 2)
    _, said = process.communicate()
    lines = [line for line in said.decode().splitlines() if "File too large" in line]
    if process.returncode == 0 or not lines or unreadable(out):
        return f"NOT TOLD (status {process.returncode}, {len(unreadable(out))} broken)"
    return f"status {process.returncode}, told, nothing half-written"


def final(out: Path) -> list[Path]:
    """The files under their final names; unfinished ones begin with a dot."""
    files = [path for path in sorted(out.rglob("*")) if path.is_file()]
    return [f for f in files if not any(p.startswith(".") for p in f.relative_to(out).parts)]


def result(job: Job, out: Path) -> dict[str, str]:
    """What must not change: the contents of a job's results."""
    return {
        str(path.relative_to(out)): hashlib.sha256(content(path)).hexdigest()
        for path in final(out) if path.match(job.kept)
    }  # fmt: skip


def finished(job: Job, out: Path, wanted: dict[str, str]) -> bool:
    """Whether all of a job's results are there."""
    return set(result(job, out)) == set(wanted)


def content(path: Path) -> bytes:
    """A file's bytes; of JSON, all but the times."""
    if path.suffix != ".json":
        return path.read_bytes()
    values = json.loads(path.read_text(encoding="utf-8"))
    return json.dumps({k: v for k, v in values.items() if k not in TIMED}, sort_keys=True).encode()


def unreadable(out: Path) -> list[Path]:
    """The files under final names that cannot be read to their end."""
    from caffe_port.errors import CaffePortError

    broken = []
    for path in final(out):
        reader = READERS.get(path.suffix)
        try:
            if reader is not None:
                reader(path)
        except (CaffePortError, OSError, ValueError, SyntaxError):
            broken.append(path)
    return broken


def read_picture(path: Path) -> None:
    """Decodes a picture."""
    from PIL import Image

    with Image.open(path) as picture:
        picture.load()


def read_weights(path: Path) -> None:
    """Reads every blob of a weight file."""
    from caffe_port.weights import read_weights

    for layer in read_weights(path).layers:
        for blob in layer.blobs:
            blob.data.sum()


def read_state(path: Path) -> None:
    """Reads a solver state."""
    from caffe_port.weights.solver_state import read_solver_state

    read_solver_state(path)


def read_json(path: Path) -> None:
    """Reads JSON."""
    json.loads(path.read_text(encoding="utf-8"))


READERS: dict[str, Callable[[Path], None]] = {
    ".png": read_picture, ".pt": read_weights, ".caffemodel": read_weights, ".json": read_json,
    ".solverstate": read_state, ".runstate": read_json,
}  # fmt: skip


def port(*words: str | Path) -> list[str]:
    """The command line of caffe-port, in this Python."""
    return [sys.executable, "-c", "from caffe_port.cli import main; main()", *map(str, words)]


def convert(out: Path) -> list[str]:
    """A conversion."""
    weights = RUN / "model" / "train_iter_2400.caffemodel"
    return port("convert", RUN / "recording" / "net.prototxt", weights, "-o", out / "net.pt")


def evaluate(out: Path) -> list[str]:
    """An evaluation of twelve images with the CRF."""
    few = out.parent / "twelve.txt"
    names = (RUN.parent / "ImageSets" / "Segmentation" / "val.txt").read_text().split()[:12]
    few.write_text("\n".join(names) + "\n")
    model = (RUN / "recording" / "net.prototxt", RUN / "model" / "train_iter_2400.caffemodel")
    data = ("--images", RUN.parent, "--list", few, "--crop", "161")
    return port("evaluate", *model, *data, "--crf", "v1_largefov", "-o", out)


def crf(out: Path) -> list[str]:
    """DeepLab's program over its recorded inputs."""
    return port("crf", "-id", PROGRAMS / "ppm", "-fd", PROGRAMS / "bin", "-sd", out, "-bw", "4")


def train(out: Path) -> list[str]:
    """Twelve steps with a snapshot every two, from the last one that is there."""
    text = (RUN / "train.prototxt").read_text().replace("${ROOT}", str(RUN.parent))
    net, solver = out.parent / "train.prototxt", out.parent / f"{out.name}.prototxt"
    net.write_text(text.replace("batch_size: 8", "batch_size: 2"))
    solver.write_text(
        f'train_net: "{net}" type: "Adam" base_lr: 0.001 lr_policy: "fixed" momentum: 0.9 '
        f'max_iter: 12 snapshot: 2 random_seed: 1712 snapshot_prefix: "{out}/net"\n'
    )
    command = [sys.executable, "-m", "caffe_port.cli.caffe", "train", f"--solver={solver}"]
    states = sorted(
        out.glob("[!.]*.solverstate"), key=lambda path: int(path.stem.rpartition("_")[2])
    )
    return [*command, f"--snapshot={states[-1]}"] if states else command


JOBS = {
    job.name: job for job in (
        Job("convert", convert, "net.pt"),
        Job("evaluate", evaluate, "*/*.png"),
        Job("crf", crf, "*.bin"),
        Job("train", train, "net_iter_12.caffemodel"),
    )
}  # fmt: skip

if __name__ == "__main__":
    main()
