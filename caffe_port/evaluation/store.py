"""The files of an evaluation: cached scores, label maps, and a lock."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from caffe_port import locks
from caffe_port.data.images import (
    Bytes,
    PathLike,
    note_of,
    open_written,
    read_note,
    voc_palette,
    write_labels,
)
from caffe_port.data.label_values import label_values, stored_palette
from caffe_port.errors import DataError, FormatError, UsageError, option
from caffe_port.evaluation.network import Floats
from caffe_port.evaluation.refinement import Prediction
from caffe_port.files import (
    atomic_path,
    open_regular,
    read_json,
    reading,
    sync_folder,
    write_text,
)

NAME = ".evaluation.lock"


def locked(folder: PathLike) -> AbstractContextManager[None]:
    """Keeps other processes from evaluating into a folder during the block.

    Raises:
        UsageError: another process holds it, or the folder cannot be written.
    """
    return locks.locked(
        Path(folder) / NAME, str(folder), "evaluating into this folder", "choose another folder"
    )


_LONGEST_HEADER = 1000
_KIND = "caffe_port scores 1"


class ScoreCache:
    """A folder of scores, so that other CRF settings can be tried without running the network.

        DIR/ab/abcd....scores    one for each image: a line of JSON (shape, digest), then float32

    A file's name is the digest of everything that decides its scores: network, image and
    preprocessing. Where the net ends by enlarging its scores, the small ones are stored: some
    0.4 MB for a VOC image, else some 16 MB. Several processes may share the folder.

    Args:
        folder: created when the first scores are saved.
        decisive: what decides the scores besides the image, as JSON.
    """

    def __init__(self, folder: PathLike, decisive: dict[str, object]) -> None:
        self.folder = Path(folder)
        self._start = json.dumps([_KIND, decisive], sort_keys=True)

    def path(self, image: str) -> Path:
        """The file of an image's scores, given the digest of the image's file."""
        name = hashlib.sha256(f"{self._start}{image}".encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.scores"

    def load(self, image: str) -> Floats | None:
        """The scores, or None where there are none yet.

        Args:
            image: digest of its file.
        Raises:
            DataError: the file is not one that ``save`` wrote.
        """
        path = self.path(image)
        if not path.exists():
            return None
        with reading(path), open_regular(path) as file:
            header = file.readline(_LONGEST_HEADER)
            data = file.read()
        try:
            entry = json.loads(header)
            shape = tuple(int(size) for size in entry["shape"])
            whole = entry["kind"] == _KIND and entry["sha256"] == hashlib.sha256(data).hexdigest()
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise DataError(f"{path}: not scores of this package") from error
        if not whole or min(shape, default=0) < 1 or len(data) != 4 * math.prod(shape):
            raise DataError(f"{path}: damaged scores")
        return np.frombuffer(data, "<f4").reshape(shape).astype(np.float32)

    def save(self, image: str, scores: Floats) -> None:
        """Writes scores; the file appears whole or not at all.

        Raises:
            UsageError: the folder cannot be written.
        """
        path, data = self.path(image), scores.astype("<f4", copy=False).tobytes()
        digest = hashlib.sha256(data).hexdigest()
        header = json.dumps({"kind": _KIND, "shape": scores.shape, "sha256": digest})
        try:
            with atomic_path(path, durable=False) as temporary:
                temporary.write_bytes(header.encode() + b"\n" + data)
        except OSError as error:
            raise UsageError(
                f"{self.folder}: scores cannot be written: {error.strerror or error}"
            ) from error


COMP6 = Path("results", "VOC2012", "Segmentation", "comp6_test_cls")
_MARK = "caffe_port"
_CLASSES = frozenset(map(str, range(1, 256)))
_UNFINISHED = re.compile(r"\..+\.[a-z0-9_]{8}\.png")


class Store:
    """The output folder: label maps that a later run can reuse, and the settings behind them.

        OUT/settings.json                                      what decided the label maps
        OUT/before/ID.png, OUT/after/ID.png                    palette PNGs before and after it
        OUT/results/VOC2012/Segmentation/comp6_test_cls/ID.png the final ones, for the VOC server

    Each PNG's note has the digests of the settings and of the image file, so that a label map of
    another run or of a changed image is never reused.

    Args:
        root: the output folder.
        settings: what decides the label maps, as JSON.
        refined: whether there are label maps after a CRF.
        comp6: also write the files for the VOC server, in VOC's colours.
        colours: (256, 3) uint8 red, green, blue by class; VOC's by default.
    """

    def __init__(
        self,
        root: PathLike,
        settings: dict[str, object],
        *,
        refined: bool,
        comp6: bool = False,
        colours: Bytes | None = None,
    ) -> None:
        self.root, self.refined, self.comp6 = Path(root), refined, comp6
        self.colours = voc_palette() if colours is None else colours
        self.settings: dict[str, object] = json.loads(json.dumps(settings))
        text = json.dumps(self.settings, sort_keys=True)
        self._unsynced: list[Path] = []
        self._digest = hashlib.sha256(text.encode()).hexdigest()[:16]

    def open(self, *, fresh: bool = False) -> None:
        """Prepares the folder, or refuses one that holds another evaluation.

        No other process may be writing to it: files that a killed run left unfinished are removed.

        Args:
            fresh: remove the label maps of an earlier run.
        Raises:
            UsageError: the folder's settings differ and ``fresh`` is not set, or it cannot be
                written.
        """
        self._remove_unfinished()
        if fresh:
            self._remove_label_maps()
        else:
            self._check_settings()
        try:
            write_text(
                self.root / "settings.json",
                json.dumps(self.settings, indent=1, sort_keys=True) + "\n",
            )
        except OSError as error:
            raise UsageError(f"{self.root}: cannot be written: {error.strerror}") from error

    def is_open(self) -> bool:
        """Whether another process has prepared the folder for these settings."""
        try:
            return bool(read_json(self.root / "settings.json") == self.settings)
        except FormatError:
            return False

    def before(self, id: str) -> Path:
        """The file of the label map before the CRF."""
        return self.root / "before" / f"{id}.png"

    def after(self, id: str) -> Path:
        """The file of the label map after the CRF."""
        return self.root / "after" / f"{id}.png"

    def load(self, id: str, image: str) -> Prediction | None:
        """The finished prediction of this image under these settings, or None.

        Files of other colours, from a run with another data set, get this one's.

        Args:
            id: the image's.
            image: digest of its file.
        """
        files = [self.before(id)] + ([self.after(id)] if self.refined else [])
        written = [open_written(file) for file in files]
        notes = {None if one is None else note_of(one) for one in written}
        start = self._note(image)
        note = notes.pop() or ""
        classes = note.removeprefix(start)
        if notes or not note.startswith(start) or classes not in _CLASSES:
            return None
        maps = []
        for file, one in zip(files, written, strict=True):
            assert one is not None  # it has a note
            palette = stored_palette(one)
            labels = label_values(str(file), one).astype(np.uint8)
            maps.append(labels)
            if not _has_colours(palette, labels, self.colours):
                write_labels(file, labels, note=note, colours=self.colours)
        after = maps[1] if self.refined else None
        return Prediction(maps[0], after, int(classes))

    def save(self, id: str, image: str, prediction: Prediction) -> None:
        """Writes a prediction; each file appears whole or not at all."""
        note = f"{self._note(image)}{prediction.classes}"
        self._write(self.before(id), prediction.before, note=note, colours=self.colours)
        if prediction.after is not None:
            self._write(self.after(id), prediction.after, note=note, colours=self.colours)

    def save_comp6(self, id: str, prediction: Prediction) -> None:
        """Writes the final label map for the VOC server, if asked for."""
        if self.comp6:
            final = prediction.before if prediction.after is None else prediction.after
            self._write(self.root / COMP6 / f"{id}.png", final)

    def _write(self, path: Path, labels: Bytes, **options: Any) -> None:
        write_labels(path, labels, durable=False, **options)
        self._unsynced.append(path)

    def sync(self) -> None:
        """Waits until the disk has all label maps.

        Not after each: waiting would take longer than the network. Where the machine itself stops
        before, ``load`` refuses what is incomplete, and a later run computes it again.
        """
        written, self._unsynced = self._unsynced, []
        for path in written:
            with contextlib.suppress(FileNotFoundError), path.open("rb+") as stream:
                os.fsync(stream.fileno())
        for folder in {path.parent for path in written}:
            sync_folder(folder)

    def _note(self, image: str) -> str:
        return f"{_MARK} settings {self._digest} image {image[:16]} classes "

    def _check_settings(self) -> None:
        path = self.root / "settings.json"
        if not path.exists():
            return
        try:
            old = read_json(path)
        except FormatError as error:
            raise UsageError(
                f"{path}: not the settings of an evaluation ({error.message}); choose another "
                "folder"
            ) from error
        if old == self.settings:
            return
        raise UsageError(
            f"{self.root} holds label maps made with other settings "
            f"({'; '.join(_differences(old, self.settings))}): choose another folder, or remove "
            f"them: {option('fresh', True)}"
        )

    def _remove_unfinished(self) -> None:
        """Removes the temporary files of ``atomic_path``."""
        for folder in (self.root / "before", self.root / "after", self.root / COMP6):
            for file in sorted(folder.glob(".*.png")):
                if _UNFINISHED.fullmatch(file.name):
                    file.unlink()

    def _remove_label_maps(self) -> None:
        """Removes the label maps that this package wrote, and nothing else."""
        for folder in (self.root / "before", self.root / "after"):
            for file in sorted(folder.glob("*.png")):
                if (read_note(file) or "").startswith(_MARK):
                    file.unlink()


def earlier_network(output: PathLike) -> object:
    """What the settings of the label maps in a folder say of the network, None without any."""
    try:
        settings = read_json(Path(output) / "settings.json")
    except (FormatError, DataError):
        return None
    return settings.get("network") if isinstance(settings, dict) else None


def _has_colours(stored: Bytes, labels: Bytes, colours: Bytes) -> bool:
    """Whether the palette of a label map has these colours for the labels that it holds."""
    used = np.unique(labels)
    return int(used[-1]) < len(stored) and np.array_equal(stored[used], colours[used])


def _differences(old: object, new: object, name: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in sorted(old.keys() | new.keys()):
            inner = f"{name}.{key}" if name else key
            found += _differences(old.get(key), new.get(key), inner)
        return found
    return [] if old == new else [f"{name or 'settings'} was {_short(old)}, is {_short(new)}"]


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."
