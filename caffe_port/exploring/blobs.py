"""Answers about layers: channels of blobs, filters, and the comparison with a recording."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from caffe_port.errors import UsageError
from caffe_port.exploring.fixations import activations, window_at
from caffe_port.exploring.jobs import Answer
from caffe_port.exploring.sessions import Session, Subject
from caffe_port.parity.bench import copy_as, exact_sums
from caffe_port.parity.compare import Verdict
from caffe_port.parity.judge import Row
from caffe_port.parity.report import footnotes, headline, shown_rows
from caffe_port.parity.topology import study
from caffe_port.parity.values import PortRun, run_port
from caffe_port.parity.verify import VerifyResult, verify

if TYPE_CHECKING:
    from collections.abc import Collection

    from caffe_port.net import Net
    from caffe_port.parity.recording import Recording

PAGE = 48  # channels of an answer
_TILE = 128  # pixels of a channel's longer side, at most
_MOST_ROWS = 5000


class Verification:
    """A recording of real Caffe, compared with the net when the page asks for it.

    Args:
        net: the net of the recording's inputs.
        recording: of the same net.
        adopted: see ``verify``.
    """

    def __init__(
        self, net: Net, recording: Recording, adopted: Collection[tuple[str, int]] = ()
    ) -> None:
        self.net, self.recording, self._adopted = net, recording, adopted

    @cached_property
    def result(self) -> VerifyResult:
        """The comparison of all that was recorded."""
        return verify(self.net, self.recording, adopted=self._adopted)

    @cached_property
    def _run(self) -> PortRun:
        topology = study(self.net.spec, frozenset(self.recording.inputs))
        with exact_sums():  # as ``verify`` runs it
            return run_port(copy_as(self.net, torch.float32), self.recording, topology)

    def difference(self, kind: str, blob: str) -> Tensor:
        """What the port's blob or diff has less what Caffe's has.

        Args:
            kind: "data" or "diff".
            blob: its name.
        Raises:
            UsageError: it was not recorded, or has another size.
        """
        is_data = kind == "data"
        recorded = self.recording.data if is_data else self.recording.diffs
        own = self._run.values.data if is_data else self._run.values.diffs
        if kind not in ("data", "diff") or blob not in recorded or blob not in own:
            raise UsageError(f"there is no {kind} of '{blob}' to compare")
        caffe, port = recorded[blob], own[blob]
        if caffe.size != port.size:
            raise UsageError(f"'{blob}' has {port.size} values, {caffe.size} were recorded")
        return torch.from_numpy(port.reshape(caffe.shape) - caffe)


def blobs_answer(subject: Subject, session: Session) -> Answer:
    """Every blob with its writers, shape and range, in the order of the layers."""
    blobs = _activations(subject, session)
    writers: dict[str, list[list[str]]] = {}
    for layer in subject.segmenter.scores.net.spec.layers:
        for top in layer.tops:
            writers.setdefault(top, []).append([layer.name, layer.type])
    listed = [
        {
            "name": name, "shape": list(blob.shape), "layers": writers.get(name, []),
            "range": _range(blob), "channels": _channels(blob).shape[0],
        }
        for name, blob in blobs.items()
        if not all(type == "Split" for _, type in writers.get(name, [["", ""]]))
    ]  # fmt: skip
    return Answer({"blobs": listed})


def channels_answer(subject: Subject, session: Session, asked: Mapping[str, Any]) -> Answer:
    """Some channels of a blob as small images.

    Args:
        asked: "blob", and "first", the number of the first channel.
    """
    blobs = _activations(subject, session)
    if asked.get("blob") not in blobs:
        raise UsageError(f"{asked.get('blob')!r} is not a blob of the net")
    return _tiles(blobs[asked["blob"]], asked)


def difference_answer(subject: Subject, asked: Mapping[str, Any]) -> Answer:
    """The difference of a blob from its recording, as small images of its channels.

    Args:
        asked: "kind", "blob" and "first".
    """
    verification = _expect_verification(subject)
    blob = verification.difference(str(asked.get("kind")), str(asked.get("blob")))
    return _tiles(blob, asked)


def channel_answer(subject: Subject, session: Session, asked: Mapping[str, Any]) -> Answer:
    """One channel of a blob with all its values.

    Args:
        asked: "blob" and "channel"; with "kind", the difference of that blob from its recording.
    """
    if asked.get("kind") is not None:
        verification = _expect_verification(subject)
        blob = verification.difference(str(asked["kind"]), str(asked.get("blob")))
    else:
        blobs = _activations(subject, session)
        if asked.get("blob") not in blobs:
            raise UsageError(f"{asked.get('blob')!r} is not a blob of the net")
        blob = blobs[asked["blob"]]
    channels, number = _channels(blob), asked.get("channel")
    if not isinstance(number, int) or not 0 <= number < len(channels):
        raise UsageError(f"channel {number!r}; expected 0 to {len(channels) - 1}")
    return Answer({"range": _range(channels[number])}, {"values": _array(channels[number])})


def _tiles(blob: Tensor, asked: Mapping[str, Any]) -> Answer:
    channels, first = _channels(blob), asked.get("first", 0)
    if not isinstance(first, int) or not 0 <= first < max(1, len(channels)):
        raise UsageError(f"first is {first!r}; expected 0 to {len(channels) - 1}")
    part = channels[first : first + PAGE]
    ranges = [_range(channel) for channel in part]
    longest = max(part.shape[1:])
    if longest > _TILE:
        height, width = (max(1, round(side * _TILE / longest)) for side in part.shape[1:])
        part = functional.adaptive_avg_pool2d(part, (height, width))
    head = {
        "first": first, "channels": len(channels), "size": list(channels.shape[1:]),
        "ranges": ranges, "range": _range(blob),
    }  # fmt: skip
    return Answer(head, {"tiles": _array(part)})


def _activations(subject: Subject, session: Session) -> dict[str, Tensor]:
    photo = session.expect_photo()
    middle = photo.size[0] // 2, photo.size[1] // 2
    return activations(subject, photo, window_at(subject, photo, *middle))


def _channels(blob: Tensor) -> Tensor:
    """(C, H, W) of the first item of a batch; a vector becomes one row."""
    values = blob.detach().float()
    if values.dim() >= 4:
        return values[0].reshape(values.shape[1], values.shape[2], -1)
    if values.dim() == 3:
        return values
    return values.reshape(1, 1, -1) if values.dim() < 2 else values.reshape(1, len(values), -1)


def _range(blob: Tensor) -> list[float | None]:
    if not blob.numel():
        return [None, None]
    low, high = blob.aminmax()
    return [float(low), float(high)]


def _array(values: Tensor) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = values.contiguous().cpu().numpy().astype(np.float32)
    return found


def weights_answer(subject: Subject) -> Answer:
    """The filters of the first convolution: (K, C, kh, kw), blue first where they see the image.

    Raises:
        UsageError: the net has none.
    """
    net = subject.segmenter.scores.net
    layer = next((one for one in net.spec.layers if one.type == "Convolution"), None)
    if layer is None:
        raise UsageError("the net has no Convolution layer")
    weights = net.layer_params(layer.name)[0].detach()
    head = {"layer": layer.name, "shape": list(weights.shape), "range": _range(weights)}
    return Answer(head, {"filters": _array(weights[: 4 * PAGE])})


def parity_answer(subject: Subject) -> Answer:
    """The comparison with the recording, row by row in the order of computation."""
    verification = _expect_verification(subject)
    result = verification.result
    rows = [_row(row) for row in shown_rows(result)[:_MOST_ROWS]]
    first = next((i for i, row in enumerate(rows) if row["verdict"] == Verdict.FAIL.value), None)
    head = {
        "headline": headline(result), "passed": result.passed, "rows": rows, "first_bad": first,
        "notes": footnotes(result), "recording": verification.recording.name,
    }  # fmt: skip
    return Answer(head)


def _row(row: Row) -> dict[str, Any]:
    found = row.comparison
    return {
        "kind": row.kind, "name": row.name, "layers": list(row.layers),
        "verdict": found.verdict.value, "reason": found.reason, "shape": list(found.shape),
        "peak": found.peak, "port": found.port_share, "caffe": found.caffe_share,
        "distance": found.distance, "where": None if found.where is None else list(found.where),
        "image": row.kind in ("data", "diff") and found.verdict is not Verdict.NOT_RECORDED,
    }  # fmt: skip


def _expect_verification(subject: Subject) -> Verification:
    if subject.verification is None:
        raise UsageError("no recording was given: start with --recording FILE")
    return subject.verification
