#!/usr/bin/env python
"""Record what your Caffe computes, so that a port of the net can be proven equal to it.

Run this with the Python that can "import caffe". It needs numpy and h5py, nothing else; Python 2.7
and 3 both do. It runs the net once and writes one HDF5 file with the inputs, every blob, the
parameters and, with --backward, the diffs. Take that file to where caffe_port is and run

    caffe-port verify NET.prototxt WEIGHTS.caffemodel recording.h5

Examples:

  a picture, resized to 513 x 513, the mean subtracted:
    record_caffe.py test.prototxt net.caffemodel -o recording.h5 \\
        --image data=cat.jpg --mean 104.008,116.669,122.675

  arrays you prepared yourself, of the shapes the net wants:
    record_caffe.py test.prototxt net.caffemodel -o recording.h5 --array data=data.npy

  seeded random numbers, a training net, and the backward pass too:
    record_caffe.py train.prototxt net.caffemodel -o recording.h5 --phase TRAIN --backward \\
        --array label=label.npy --random data

Inputs that you do not name are left to the net (a data layer reads them as usual); what it read is
recorded. A prototxt with ${NAME} places must have them filled first, as for Caffe itself.
"""

# Python 2.7 reads this file too.
# ruff: noqa: UP010, UP031, RUF005
from __future__ import division, print_function

import argparse
import hashlib
import json
import os
import platform
import sys
import tempfile

import h5py
import numpy as np

FORMAT = "caffe recording"
VERSION = "1"


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("net", metavar="NET.prototxt", help="the net, as you give it to Caffe")
    parser.add_argument(
        "weights", metavar="WEIGHTS", nargs="?", help=".caffemodel or .caffemodel.h5, if any"
    )
    parser.add_argument("-o", "--out", required=True, metavar="FILE.h5", help="where to write")
    parser.add_argument("--phase", choices=("TEST", "TRAIN"), default="TEST", help="default TEST")
    add_inputs(parser.add_argument_group("inputs (each may be given several times)"))
    what = parser.add_argument_group("what to record")
    what.add_argument(
        "--blobs", metavar="A,B,C", help="only these blobs (default: every one, which may be large)"
    )
    what.add_argument(
        "--backward",
        action="store_true",
        help="also run backward. In a net with losses their weights are the start; otherwise every "
        "output gets seeded random diffs, and the net should say force_backward: true",
    )
    what.add_argument("--no-params", action="store_true", help="leave the parameters out")
    return parser.parse_args(arguments)


def add_inputs(inputs):
    inputs.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="BLOB=FILE",
        help="a picture: BGR, 0..255, resized to the blob's height and width",
    )
    inputs.add_argument(
        "--array",
        action="append",
        default=[],
        metavar="BLOB=FILE.npy",
        help="an array; the net is reshaped to it",
    )
    inputs.add_argument(
        "--random",
        action="append",
        default=[],
        metavar="BLOB",
        help="normally distributed numbers from --seed",
    )
    inputs.add_argument(
        "--mean",
        default="0",
        metavar="B,G,R",
        help="subtracted from pictures: one number, or one per channel (default 0)",
    )
    inputs.add_argument("--seed", type=int, default=1, help="of all random numbers (default 1)")


def main(arguments=None):
    options = parse_arguments(arguments)
    import caffe  # not at the top, so that --help works without it

    if hasattr(caffe, "set_random_seed"):
        caffe.set_random_seed(options.seed)
    net = open_net(caffe, options)
    chosen = choose_blobs(net, options.blobs)
    recording = {"input": set_inputs(caffe, net, options)}
    fed_by_net = [name for name in data_layer_tops(net) if name not in recording["input"]]
    if not options.no_params:
        recording["param"] = copy_params(net, "data")
    net.forward()
    # What the net's own data layers read is an input too.
    recording["input"].update(copy_blobs(net, fed_by_net, "data"))
    recording["data"] = copy_blobs(net, chosen, "data")
    if not options.no_params:
        recording["after"] = changed(recording["param"], copy_params(net, "data"))
    if options.backward:
        recording["topdiff"] = run_backward(net, options.seed)
        recording["diff"] = copy_blobs(net, chosen, "diff")
        recording["pdiff"] = copy_params(net, "diff")
    write(options.out, recording, describe(caffe, options))
    count = len(recording["data"])
    print("%s: %d of %d blobs recorded" % (options.out, count, len(net.blobs)))
    return 0


def open_net(caffe, options):
    for path in (options.net, options.weights):
        if path and not os.path.isfile(path):  # Caffe itself would abort
            sys.exit("record_caffe: no such file: %s" % path)
    paths = [str(path) for path in (options.net, options.weights) if path]
    if hasattr(caffe, "TEST"):
        caffe.set_mode_cpu()
        return caffe.Net(*(paths + [caffe.TRAIN if options.phase == "TRAIN" else caffe.TEST]))
    # In Caffe of 2014 (DeepLab v1) mode and phase are global, but are set through a net.
    net = caffe.Net(*paths)
    net.set_mode_cpu()
    if options.phase == "TRAIN":
        net.set_phase_train()
    else:
        net.set_phase_test()
    return caffe.Net(*paths)


def choose_blobs(net, names):
    if names is None:
        return list(net.blobs)
    chosen = [name.strip() for name in names.split(",")]
    for name in chosen:
        check_blob(net, name)
    return chosen


def check_blob(net, name):
    if name not in net.blobs:
        sys.exit("record_caffe: the net has no blob '%s'; it has %s" % (name, ", ".join(net.blobs)))


def check_settable(net, name):
    check_blob(net, name)
    if name in data_layer_tops(net):
        sys.exit("record_caffe: a data layer fills '%s' at every forward pass: leave it out" % name)


def set_inputs(caffe, net, options):
    """Fills the blobs named on the command line; returns what was put in."""
    values = {}
    for name, path in pairs(options.array):
        values[name] = np.load(path, allow_pickle=False).astype(np.float32)
    for name, path in pairs(options.image):
        check_blob(net, name)
        values[name] = read_image(caffe, path, net.blobs[name].data.shape, options.mean)
    generator = np.random.RandomState(options.seed)
    for name in options.random:
        check_blob(net, name)
        values[name] = generator.randn(*net.blobs[name].data.shape).astype(np.float32)
    reshaped = False
    for name, value in values.items():
        check_settable(net, name)
        if value.shape != tuple(net.blobs[name].data.shape):
            net.blobs[name].reshape(*value.shape)
            reshaped = True
    if reshaped:
        net.reshape()
    for name, value in values.items():
        net.blobs[name].data[...] = value
    unset = [name for name in net.inputs if name not in values]
    if unset:
        sys.exit("record_caffe: set input '%s' with --image, --array or --random" % unset[0])
    return values


def pairs(items):
    for item in items:
        name, equals, path = item.partition("=")
        if not equals or not name or not path:
            sys.exit("record_caffe: '%s': expected BLOB=FILE" % item)
        if not os.path.isfile(path):
            sys.exit("record_caffe: no such file: %s" % path)
        yield name, path


def read_image(caffe, path, shape, mean):
    """A picture as Caffe's nets want it: (N, 3, H, W), BGR, 0..255, less the mean."""
    if len(shape) != 4 or shape[1] != 3:
        sys.exit("record_caffe: an image needs a blob (N, 3, H, W), this one is %s" % (shape,))
    try:
        numbers = np.array([float(number) for number in mean.split(",")], np.float32)
    except ValueError:
        sys.exit("record_caffe: --mean %s: expected numbers" % mean)
    if len(numbers) not in (1, 3):
        sys.exit("record_caffe: --mean %s: expected 1 or 3 numbers" % mean)
    image = caffe.io.load_image(path)  # (H, W, 3), RGB, 0..1
    image = caffe.io.resize_image(image, shape[2:])
    bgr = image[:, :, ::-1] * 255 - numbers
    return np.tile(bgr.transpose(2, 0, 1), (shape[0], 1, 1, 1)).astype(np.float32)


def data_layer_tops(net):
    """Tops of the layers that read no blob, the net's declared inputs left out."""
    if not hasattr(net, "bottom_names"):
        if not net.inputs:
            sys.exit(
                "record_caffe: this Caffe is too old to say what its data layers made: "
                "write a prototxt with inputs instead of the data layer"
            )
        return []
    tops = []
    for name in net._layer_names:
        if not net.bottom_names[name]:
            tops.extend(top for top in net.top_names[name] if top not in net.inputs)
    return tops


def run_backward(net, seed):
    """Runs backward; returns the diffs it started from."""
    # Caffe keeps a loss's weight as the diff of its top, from the set-up on.
    topdiffs = copy_blobs(net, [name for name in net.blobs if net.blobs[name].diff.any()], "diff")
    if not topdiffs:
        generator = np.random.RandomState(seed + 1)
        for name in net.outputs:
            blob = net.blobs[name]
            topdiffs[name] = generator.randn(*blob.data.shape).astype(np.float32)
            blob.diff[...] = topdiffs[name]
    # Gradients of parameters add up in Caffe; start from nothing.
    for name in net.params:
        for param in net.params[name]:
            param.diff[...] = 0
    net.backward()
    return topdiffs


def copy_blobs(net, names, which):
    return {name: np.array(getattr(net.blobs[name], which), np.float32) for name in names}


def copy_params(net, which):
    copies = {}
    for layer in net.params:
        for index, param in enumerate(net.params[layer]):
            copies[layer, index] = np.array(getattr(param, which), np.float32)
    return copies


def changed(before, after):
    """Parameters the forward pass itself changed: BatchNorm's statistics in TRAIN."""
    return {key: after[key] for key in after if not np.array_equal(before[key], after[key])}


def describe(caffe, options):
    return {
        "phase": options.phase,
        "backward": options.backward,
        "blobs_kept": "chosen" if options.blobs else "all",
        "oracle": "caffe %s" % getattr(caffe, "__version__", "of unknown version"),
        "versions": {
            "caffe": str(getattr(caffe, "__version__", "unknown")),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "h5py": h5py.__version__,
        },
        "notes": "record_caffe.py " + " ".join(sys.argv[1:]),
        "seed": options.seed,
    }


def write(path, recording, meta):
    """Writes beside the final name first, so that a broken run leaves no broken recording."""
    folder = os.path.dirname(os.path.abspath(path))
    handle, temporary = tempfile.mkstemp(suffix=".h5", dir=folder)
    os.close(handle)
    try:
        with h5py.File(temporary, "w") as file:
            meta_text = json.dumps(meta, sort_keys=True)
            for name, value in (("format", FORMAT), ("version", VERSION), ("meta", meta_text)):
                file.attrs[name] = np.array(value.encode("ascii"))  # a text of fixed length
            for part in sorted(recording):
                group = file.create_group(part)
                for key in sorted(recording[part]):
                    write_array(group, key, recording[part][key])
        if os.path.exists(path) and os.name == "nt":
            os.remove(path)  # there, rename does not replace
        os.chmod(temporary, 0o644)
        os.rename(temporary, path)
    except BaseException:
        os.remove(temporary)
        raise


def write_array(group, key, values):
    if isinstance(key, tuple):
        layer, index = key
        name = "%s/%d" % (escape(layer), index)
    else:
        name = escape(key)
    values = np.array(values, "<f4", order="C")
    packing = {"compression": "gzip", "shuffle": True} if values.size > 1 and values.ndim else {}
    dataset = group.create_dataset(name, data=values, **packing)
    checksum = hashlib.sha256(values.tobytes()).hexdigest()
    dataset.attrs["sha256"] = np.array(checksum.encode("ascii"))


def escape(name):
    """Blob names may hold slashes, which HDF5 takes for groups."""
    name = name.replace("%", "%25").replace("/", "%2F")
    return name.replace(".", "%2E") if name in (".", "..") else name


if __name__ == "__main__":
    sys.exit(main())
