"""Compares a net with a recording of real Caffe, blob by blob, and names the first bad layer."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace

import torch

from caffe_port.errors import ParityError, escaped
from caffe_port.parity.bench import Net, exact_sums
from caffe_port.parity.compare import Comparison, Verdict
from caffe_port.parity.judge import Row, RowMaker
from caffe_port.parity.recording import Recording, check_phase
from caffe_port.parity.topology import study


@dataclass(frozen=True)
class VerifyResult:
    """The outcome.

    Args:
        net: its name.
        recording: what it was compared with.
        isolated: the port ran single layers on Caffe's bottoms, not the whole net.
        rows: parameters, blobs in net order, changed parameters, diffs from the outputs back.
        parameters: ``digest`` of the net.
    """

    net: str
    recording: Recording
    isolated: bool
    rows: tuple[Row, ...]
    parameters: str

    def __repr__(self) -> str:
        from caffe_port.parity.report import headline

        return f"<VerifyResult {escaped(headline(self))}>"

    def _repr_html_(self) -> str:
        from caffe_port.parity import report
        from caffe_port.reports.html import folded

        return folded(
            f"{'pass' if self.passed else 'FAIL'}: {report.headline(self)}", report.HEADERS,
            report.shown_rows(self), report.cells_of,
        )  # fmt: skip

    @property
    def first_bad(self) -> Row | None:
        """The first row that fails, in the order of computation: there the trouble starts."""
        return next((r for r in self.rows if r.comparison.verdict is Verdict.FAIL), None)

    @property
    def passed(self) -> bool:
        """No row fails."""
        return self.first_bad is None

    def count(self, verdict: Verdict) -> int:
        """Rows of that verdict."""
        return sum(row.comparison.verdict is verdict for row in self.rows)


_TAKEN = Comparison(
    Verdict.NOT_RECORDED, "no weights were given for it: it has the recorded values"
)


def digest(net: Net) -> str:
    """SHA-256 of the layers, shapes and values of all parameters, in hexadecimal."""
    found, shared = hashlib.sha256(), set()
    for layer in net.spec.layers:
        for i, parameter in enumerate(net.layer_params(layer.name)):
            if id(parameter) not in shared:
                shared.add(id(parameter))
                values = parameter.detach().cpu().contiguous()
                found.update(f"{layer.name} {i} {tuple(values.shape)} {values.dtype}\n".encode())
                found.update(values.view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def verify(
    net: Net,
    recording: Recording,
    *,
    isolate: bool = False,
    keep_going: bool = True,
    adopted: Collection[tuple[str, int]] = (),
    device: str | torch.device = "cpu",
    fastest: bool = False,
) -> VerifyResult:
    """Compares every recorded blob, of Caffe and of the port, with the exact result of its layer.

    Exact is the port's layer in float64 on the very numbers that the layer was given: by Caffe, as
    recorded, and in the port's own run of the whole net. Both must be within the bound of
    ``parity.tolerance``. See docs/verify.md.

    Args:
        net: the port; it is copied, not changed.
        recording: of the same net.
        isolate: the port runs each layer alone on Caffe's bottoms, instead of the whole net.
        keep_going: compare everything; otherwise stop at the first bad row.
        adopted: parameters that were set from this recording: there is nothing to compare.
        device: where the port computes; exact results are always computed on the CPU.
        fastest: the port computes with the kernels that torch finds fastest, as it does
            elsewhere, some of which round worse; by default as in ``bench.exact_sums``.
    Raises:
        ParityError: the recording is of another phase, lacks an input, or holds nothing that can
            be compared.
        FormatError: an array of the recording is damaged.
    Examples:
        >>> import caffe_port as cp
        >>> from caffe_port.parity.verify import verify
        >>> folder = "examples/shapes_voc/caffe_run/recording"
        >>> net = cp.load(f"{folder}/net.prototxt", f"{folder}/net.caffemodel")
        >>> verify(net, cp.parity.read_recording(folder)).passed
        True
    """
    check_phase(net.spec.phase, recording)
    topology = study(net.spec, frozenset(recording.inputs))
    rows: list[Row] = []
    maker = RowMaker(net, recording, topology, isolate, torch.device(device))
    not_loaded = {f"{layer}/{i}" for layer, i in adopted}
    with contextlib.nullcontext() if fastest else exact_sums():
        for row in maker.rows():
            taken = row.kind == "param" and row.name in not_loaded
            rows.append(replace(row, comparison=_TAKEN) if taken else row)
            if row.comparison.verdict is Verdict.FAIL and not keep_going:
                break
    result = VerifyResult(net.spec.name, recording, isolate, tuple(rows), digest(net))
    # Inputs and weights alone prove nothing.
    work = (row for row in rows if row.layers and row.kind != "param")
    if result.passed and not any(row.comparison.verdict is Verdict.PASS for row in work):
        raise ParityError(f"{recording.path}: none of its blobs can be compared with this net")
    return result
