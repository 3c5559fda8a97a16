"""Answers about one image: labels, confidence, entropy, scores of a class, the dense CRF, IoU."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from caffe_port.crf import DenseCRF
from caffe_port.crf.params import REPEATED, CRFParameters, from_mapping
from caffe_port.data.images import Bytes, decode_image, decoded_image, open_image, read_content
from caffe_port.data.label_values import label_values
from caffe_port.data.voc import LABEL_SUFFIXES, file_named
from caffe_port.datasets.rules import IGNORED, LabelRules
from caffe_port.errors import DataError, UsageError
from caffe_port.evaluation.network import Floats
from caffe_port.evaluation.refinement import CRFFactory
from caffe_port.evaluation.scoring import ConfusionMatrix
from caffe_port.exploring.jobs import Answer
from caffe_port.exploring.sessions import Limits, Photo, Sample, Session, Subject
from caffe_port.prediction.segmentation import Segmentation, softmax

MOST_ITERATIONS, MOST_KERNELS = 100, 8
_FINE = 65535  # confidence and entropy are sent as 16-bit numbers
_THUMBNAIL = 160  # pixels of the longer side


def find_samples(images: Path, truth: Path | None) -> list[Sample]:
    """The images of a folder and its subfolders, with their label maps.

    Args:
        images: the folder.
        truth: the folder of the label maps, named as the images; None for none.
    Raises:
        DataError: it holds no image.
    """
    from caffe_port.prediction.inputs import image_files

    found = []
    for path in image_files(images):
        own = None if truth is None else file_named(truth, path.stem, LABEL_SUFFIXES)
        found.append(Sample(path.relative_to(images).as_posix(), path, own))
    return found


def sample_photo(subject: Subject, number: int, limits: Limits) -> Photo:
    """The image of that number, with its truth.

    Raises:
        CaffePortError: there is none, or it or its label map cannot be read.
    """
    if not 0 <= number < len(subject.samples):
        raise UsageError(f"image {number}; there are {len(subject.samples)}")
    sample = subject.samples[number]
    photo = make_photo(subject, read_content(sample.path), sample.name, limits)
    if sample.truth is not None:
        rules, classes = subject.rules or LabelRules(), subject.classes
        photo.truth = _fitted(rules.read(sample.truth, classes).labels, photo, str(sample.truth))
    return photo


def thumbnail(sample: Sample) -> bytes:
    """A small JPEG of a sample.

    Raises:
        DataError: it cannot be read.
    """
    image = open_image(sample.path, draft="RGB").convert("RGB")
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return stream.getvalue()


def make_photo(subject: Subject, content: bytes, name: str, limits: Limits) -> Photo:
    """Decodes an image and runs the network on it.

    Args:
        content: of the file.
        name: shown, and in errors.
        limits: an image of more pixels is reduced to at most so many.
    Raises:
        CaffePortError: it is no image, or the network cannot run on it.
    """
    bgr = decode_image(content, name, True)
    stored = bgr.shape[0], bgr.shape[1]
    bgr = _reduced(bgr, limits.pixels_for(subject.classes))
    scores = next(subject.segmenter.predict_scores([bgr]))
    return Photo(name, bgr, stored, scores)


def _reduced(bgr: Bytes, most: int) -> Bytes:
    """An image of at most so many pixels; each is the mean of those that it replaces."""
    from PIL import Image

    height, width = bgr.shape[:2]
    if height * width <= most:
        return bgr
    factor = (most / (height * width)) ** 0.5
    size = max(1, int(width * factor)), max(1, int(height * factor))
    return np.asarray(Image.fromarray(bgr).resize(size, Image.Resampling.BOX))


def read_truth(subject: Subject, photo: Photo, content: bytes, name: str) -> Bytes:
    """A label map of the photo: (h, w) uint8 classes, 255 where none counts.

    Raises:
        CaffePortError: it is no label map, of another size, or of other classes.
    """
    stored = label_values(name, decoded_image(content, name))
    rules = subject.rules or LabelRules()
    return _fitted(rules.applied(stored, subject.classes, name).labels, photo, name)


def _fitted(labels: Bytes, photo: Photo, where: str) -> Bytes:
    """A label map of the file's size, reduced as its image was: to the nearest labels."""
    if labels.shape != photo.stored:
        found, wanted = (f"{size[1]} x {size[0]}" for size in (labels.shape, photo.stored))
        raise DataError(f"{where}: {found} pixels; the image has {wanted}")
    rows, columns = (
        (np.arange(new) * 2 + 1) * old // (2 * new)
        for new, old in zip(photo.size, photo.stored, strict=True)
    )
    return np.ascontiguousarray(labels[rows][:, columns])


def photo_answer(subject: Subject, session: Session) -> Answer:
    """The image, and what the network says of it."""
    photo = session.expect_photo()
    labels = labels_answer(subject, session, "network")
    height, width = photo.size
    head = {
        **labels.head, "name": photo.name, "height": height, "width": width,
        "stored": list(photo.stored), "truth": photo.truth is not None,
    }  # fmt: skip
    arrays: dict[str, npt.NDArray[Any]] = {**labels.arrays, "image": photo.image}
    if photo.truth is not None:
        arrays["truth"] = photo.truth
    return Answer(head, arrays)


def labels_answer(subject: Subject, session: Session, which: str) -> Answer:
    """Labels, confidence, entropy and IoU of the network's or the CRF's result."""
    found = session.segmentation(subject, which)
    arrays: dict[str, npt.NDArray[Any]] = {
        "labels": found.labels,
        "confidence": _as_16_bit(found.confidence),
        "entropy": _as_16_bit(found.entropy),
    }
    head = {
        "found": [[one.label, one.name, one.share] for one in found.found],
        "iou": _iou(subject, session, found),
    }
    return Answer(head, arrays)


def _as_16_bit(values: Floats) -> npt.NDArray[np.uint16]:
    scaled: npt.NDArray[np.uint16] = np.rint(values * np.float32(_FINE)).astype(np.uint16)
    return scaled


def _iou(subject: Subject, session: Session, found: Segmentation) -> dict[str, Any] | None:
    """Mean IoU, pixel accuracy and IoU by class; None without a truth."""
    truth = session.expect_photo().truth
    if truth is None:
        return None
    matrix = ConfusionMatrix(subject.classes, ignore_label=IGNORED)
    matrix.add(truth, found.labels)
    return {
        "mean": matrix.mean_iou(),
        "accuracy": matrix.pixel_accuracy(),
        "classes": matrix.iou().tolist(),
    }


def values_answer(subject: Subject, session: Session, asked: Mapping[str, Any]) -> Answer:
    """The scores or the probabilities of one class.

    Args:
        asked: "label"; "kind", "score" (of the network, before the softmax) or "probability";
            "which", "network" or "crf".
    """
    found, label = session.segmentation(subject, str(asked.get("which"))), asked.get("label")
    if not isinstance(label, int) or not 0 <= label < subject.classes:
        raise UsageError(f"class {label!r}; expected 0 to {subject.classes - 1}")
    if asked.get("kind") == "score":
        values = found.scores[label]
    elif found.refined is None:
        values = softmax(found.scores)[label]
    else:
        values = found.refined[label]
    span = [float(values.min()), float(values.max())]
    return Answer({"label": label, "range": span}, {"values": values})


def crf_answer(subject: Subject, session: Session, asked: Mapping[str, Any]) -> Answer:
    """Refines the kept scores by the dense CRF.

    Args:
        asked: "parameters", as ``CRFParameters.as_dict`` gives them, and "colours", "layer" or
            "rgb".
    Raises:
        UsageError: a setting is wrong, or too small for the image.
    """
    parameters, colours = _settings(asked)
    photo = session.expect_photo()
    crf = _lattices(subject, session, parameters, colours)
    crf = crf.with_weights(*parameters.pos_w, *parameters.bi_w)
    session.refined = crf.infer(-photo.scores, parameters.iterations)
    answer = labels_answer(subject, session, "crf")
    before = session.segmentation(subject).labels
    changed = int((before != answer.arrays["labels"]).sum())
    setting = crf_text(parameters) + (" --crf-colours rgb" if colours == "rgb" else "")
    return Answer({**answer.head, "changed": changed, "setting": setting}, answer.arrays)


def _settings(asked: Mapping[str, Any]) -> tuple[CRFParameters, Any]:
    values, colours = asked.get("parameters"), asked.get("colours")
    if not isinstance(values, Mapping) or colours not in ("layer", "rgb"):
        raise UsageError("expected the CRF's parameters, and its colours: layer or rgb")
    parameters = from_mapping(values)
    kernels = len(parameters.pos_w) + len(parameters.bi_w)
    if parameters.iterations > MOST_ITERATIONS or kernels > MOST_KERNELS:
        raise UsageError(
            f"{parameters.iterations} iterations of {kernels} kernels; the page computes at most "
            f"{MOST_ITERATIONS} of {MOST_KERNELS}"
        )
    return parameters, colours


def _lattices(
    subject: Subject, session: Session, parameters: CRFParameters, colours: Any
) -> DenseCRF:
    """The kernels, kept until a width or the colours change: weights alone need no new ones."""
    photo = session.expect_photo()
    key = parameters.pos_xy_std, parameters.bi_xy_std, parameters.bi_rgb_std, colours
    if session.crf is None or session.crf[0] != key:
        session.crf = None  # before new ones are made, for memory
        factory = CRFFactory(parameters, colours, subject.segmenter.mean)
        session.crf = key, factory.crf(photo.scores, photo.bgr, subject.threads)
    return session.crf[1]


def crf_text(parameters: CRFParameters) -> str:
    """The option --crf of ``caffe-port evaluate`` and ``predict``; ``crf.parse`` reads it back."""
    parts = [f"{name}={value!r}" for name in REPEATED for value in getattr(parameters, name)]
    parts = [part.removesuffix(".0") for part in parts]
    return f"--crf {','.join(parts)},iterations={parameters.iterations}"
