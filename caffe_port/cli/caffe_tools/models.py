"""Caffe's programs that read a net: upgrade, draw, extract features, classify."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING

import numpy as np

from caffe_port.cli.caffe_tools._program import GPU, NET_FLAGS, allow, expect, run, use_device
from caffe_port.cli.gflags import Flag, Flags
from caffe_port.errors import DataError, UsageError
from caffe_port.solver.log import ERROR, WARNING, log

if TYPE_CHECKING:
    from caffe_port.live.net import Net


# the output that each program names, and the line of Caffe's source that logs it
_WRITTEN = {
    "upgrade_net_proto_text": ("NetParameter text", 49),
    "upgrade_net_proto_binary": ("NetParameter binary", 48),
    "upgrade_solver_proto_text": ("SolverParameter text", 49),
}


def _upgrade(program: str, is_text: bool, arguments: Sequence[str] | None) -> int:
    """Runs an upgrade program. Source: BVLC/caffe tools/upgrade_*.cpp."""
    about = f"{program} INPUT OUTPUT"

    def body(flags: Flags, others: list[str]) -> None:
        from caffe_port import files
        from caffe_port.inspection import upgrade_file

        expect(others, 2, 2, about)
        source, target = others
        if files.is_text(files.read_head(source)) != is_text:
            raise UsageError(f"{source}: expected a {'prototxt' if is_text else '.caffemodel'}")
        for remark in upgrade_file(source, target):
            log(remark, WARNING, place=f"{program}.cpp:1")
        what, line = _WRITTEN[program]
        log(f"Wrote upgraded {what} proto to {target}", place=f"{program}.cpp:{line}")

    return run(program, body, {}, about, arguments)


def upgrade_net_proto_text(arguments: Sequence[str] | None = None) -> int:
    """upgrade_net_proto_text INPUT OUTPUT."""
    return _upgrade("upgrade_net_proto_text", True, arguments)


def upgrade_net_proto_binary(arguments: Sequence[str] | None = None) -> int:
    """upgrade_net_proto_binary INPUT OUTPUT."""
    return _upgrade("upgrade_net_proto_binary", False, arguments)


def upgrade_solver_proto_text(arguments: Sequence[str] | None = None) -> int:
    """upgrade_solver_proto_text INPUT OUTPUT."""
    return _upgrade("upgrade_solver_proto_text", True, arguments)


_DRAW_USAGE = "draw_net NET_PROTOTXT OUTPUT_IMAGE [flags]"
_PHASES = ("ALL", "TRAIN", "TEST")
_DIRECTIONS = ("LR", "RL", "TB", "BT")
FLAGS = {
    "rankdir": Flag("LR", f"Direction of the data: {', '.join(_DIRECTIONS)}."),
    "phase": Flag("ALL", "Layers to draw: TRAIN, TEST or ALL."),
    "display_lrm": Flag(False, "Show lr_mult of layers with parameters."),
}


def _draw(flags: Flags, others: list[str]) -> None:
    from caffe_port.proto import caffe_pb2, read_net_text
    from caffe_port.pycaffe.draw import draw_net_to_file
    from caffe_port.spec.rules import check_fields

    expect(others, 2, 2, _DRAW_USAGE)
    if flags.phase not in _PHASES:
        raise UsageError(f"-phase is '{flags.phase}'; expected one of {', '.join(_PHASES)}")
    if flags.rankdir not in _DIRECTIONS:
        raise UsageError(f"-rankdir is '{flags.rankdir}'; expected {', '.join(_DIRECTIONS)}")
    phase = None if flags.phase == "ALL" else caffe_pb2.Phase.Value(flags.phase)
    print(f"Drawing net to {others[1]}")
    net = read_net_text(others[0])
    check_fields(net, strict=True)
    try:
        draw_net_to_file(net.message, others[1], flags.rankdir, phase, flags.display_lrm)
    except ValueError as error:  # raised by pycaffe for layers that cannot be drawn
        raise UsageError(f"{others[0]}: {error}") from error


def draw_net(arguments: Sequence[str] | None = None) -> int:
    """Draws a net as an image; see ``run`` for the exit status.

    Source: BVLC/caffe python/draw_net.py.
    """
    return run("draw_net", _draw, FLAGS, _DRAW_USAGE, arguments)


_FEATURES_USAGE = (
    "extract_features WEIGHTS NET_PROTOTXT BLOB[,BLOB..] DATABASE[,DATABASE..] BATCHES "
    "lmdb|leveldb [CPU|GPU] [DEVICE_ID=0]"
)


def _log(message: str, line: int) -> None:
    log(message, ERROR, place=f"extract_features.cpp:{line}")  # Caffe's severity, too


def _log_device(gpu: int | None) -> None:
    if gpu is None:
        _log("Using CPU", 62)
        return
    _log("Using GPU", 52)
    _log(f"Using Device_id={gpu}", 58)


def _extract_features(flags: Flags, others: list[str]) -> None:
    from caffe_port.data.database import check_backend, write_database
    from caffe_port.live.net import Net
    from caffe_port.proto import caffe_pb2

    expect(others, 6, 8, _FEATURES_USAGE)
    weights, prototxt, blobs, databases, batches, backend, *device = others
    check_backend(backend)
    gpu = use_device((device[1] if len(device) > 1 else "0") if device[:1] == ["GPU"] else "")
    _log_device(gpu)
    names, folders = blobs.split(","), databases.split(",")
    if len(names) != len(folders):
        raise UsageError(f"{len(names)} blobs for {len(folders)} databases")
    if not (batches.isascii() and batches.isdigit()):
        raise UsageError(f"the number of batches is '{batches}'; expected a whole number")
    allow(flags)
    net = Net(prototxt, phase=caffe_pb2.TEST, weights=weights)
    for name in names:
        if name not in net.blobs:
            raise UsageError(f"{prototxt}: no blob '{name}'; there are {', '.join(net.blobs)}")
    _log("Extracting Features", 133)
    with ExitStack() as stack:
        files = {name: stack.enter_context(tempfile.TemporaryFile()) for name in names}
        shapes = _extract(net, files, int(batches))
        for name, folder in zip(names, folders, strict=True):
            records = _records(files[name], shapes.get(name, []))
            count = write_database(folder, records, backend)
            _log(f"Extracted features of {count} query images for feature blob {name}", 176)
    _log("Successfully extracted the features!", 181)


def _extract(
    net: Net, files: Mapping[str, IO[bytes]], batches: int
) -> dict[str, list[tuple[int, ...]]]:
    """Runs the net; puts the blobs' items into files, and returns their shapes."""
    shapes: dict[str, list[tuple[int, ...]]] = {}
    for _ in range(batches):
        net._forward(0, len(net.layers) - 1)
        for name, file in files.items():
            values = np.ascontiguousarray(net.blobs[name].data, np.float32)
            file.write(values.tobytes())
            shapes.setdefault(name, []).extend([values.shape[1:]] * len(values))
    return shapes


def _records(file: IO[bytes], shapes: Sequence[tuple[int, ...]]) -> Iterator[tuple[bytes, bytes]]:
    from caffe_port.proto import caffe_pb2

    file.seek(0)
    for i, shape in enumerate(shapes):
        values = np.frombuffer(file.read(4 * int(np.prod(shape))), np.float32)
        channels, height, width = (*shape, 1, 1, 1)[:3]
        datum = caffe_pb2.Datum(channels=channels, height=height, width=width)
        datum.float_data.extend(values.tolist())
        yield b"%010d" % i, datum.SerializeToString()


def extract_features(arguments: Sequence[str] | None = None) -> int:
    """Writes blobs of a net, item by item, into databases; see ``run`` for the exit status.

    Source: BVLC/caffe tools/extract_features.cpp.
    """
    return run("extract_features", _extract_features, NET_FLAGS, _FEATURES_USAGE, arguments)


if TYPE_CHECKING:
    import numpy.typing as npt

    from caffe_port.data.images import Bytes
    from caffe_port.live.net import Net

    Floats = npt.NDArray[np.float32]

_CLASSIFICATION_USAGE = (
    "classification [flags] deploy.prototxt network.caffemodel mean.binaryproto labels.txt img.jpg"
)
_MOST = 5  # classes that are shown
_GREY = np.array([3735, 19235, 9798])  # blue, green, red in OpenCV's grey, in 1 / 2^15


def _classify(flags: Flags, others: list[str]) -> None:
    from caffe_port.data.images import decode_image, read_content
    from caffe_port.live.net import TEST, Net

    expect(others, 5, 5, _CLASSIFICATION_USAGE)
    prototxt, weights, mean, names, image = others
    use_device(flags.gpu)
    net = Net(prototxt, TEST, weights=weights)
    _check(net, prototxt)
    _, channels, height, width = net.blobs[net.inputs[0]].data.shape
    means, labels = _means(mean, channels), _labels(names, net)
    print(f"---------- Prediction for {image} ----------")
    pixels = decode_image(read_content(image), image)
    scores = _scores(net, _prepared(pixels, channels, height, width) - means)
    for label in np.argsort(-scores, kind="stable")[: min(_MOST, len(labels))]:
        print(f'{scores[label]:.4f} - "{labels[label]}"')


def _check(net: Net, prototxt: str) -> None:
    if len(net.inputs) != 1 or len(net.outputs) != 1:
        raise UsageError(
            f"{prototxt}: inputs {net.inputs}, outputs {net.outputs}; expected one of each"
        )
    shape = net.blobs[net.inputs[0]].shape
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise UsageError(f"{prototxt}: the input is {shape}; expected (N, 1 or 3, H, W)")


def _means(path: str, channels: int) -> Floats:
    """The average of each channel over the mean image, (C, 1, 1)."""
    from caffe_port.weights import read_mean

    mean = read_mean(path)
    if len(mean) != channels:
        raise DataError(f"{path}: a mean of {len(mean)} channels; the net's input has {channels}")
    averages: Floats = mean.mean((1, 2), dtype=np.float64).astype(np.float32)[:, None, None]
    return averages


def _labels(path: str, net: Net) -> list[str]:
    """The lines of a file, one for each class."""
    from caffe_port.files import read_text

    labels, classes = read_text(path).splitlines(), net.blobs[net.outputs[0]].channels
    if len(labels) != classes:
        raise DataError(f"{path}: {len(labels)} labels; the net's output has {classes} channels")
    return labels


def _prepared(pixels: Bytes, channels: int, height: int, width: int) -> Floats:
    """An image as OpenCV reads it, (H, W, 1, 3 or 4), as the net's (C, H, W)."""
    from caffe_port.data.decoding import resize_linear

    colours = pixels[:, :, :3]
    if channels == 1 and colours.shape[2] == 3:
        grey = (colours.astype(np.int32) @ _GREY + 2**14) >> 15
        colours = grey.astype(np.uint8)[:, :, None]
    elif channels == 3 and colours.shape[2] == 1:
        colours = np.repeat(colours, 3, 2)
    return resize_linear(colours, height, width).transpose(2, 0, 1).astype(np.float32)


def _scores(net: Net, data: Floats) -> Floats:
    net.blobs[net.inputs[0]].reshape(1, *data.shape)
    net.reshape()
    net.blobs[net.inputs[0]].data[0] = data
    scores: Floats = net.forward()[net.outputs[0]].ravel()[: net.blobs[net.outputs[0]].channels]
    return scores


def classification(arguments: Sequence[str] | None = None) -> int:
    """Prints the five best classes of an image; see ``run`` for the exit status.

    Source: BVLC/caffe examples/cpp_classification/classification.cpp.
    """
    return run("classification", _classify, {"gpu": GPU}, _CLASSIFICATION_USAGE, arguments)
