#!/usr/bin/env python
"""Record what your Caffe computes, so that a port of the net can be compared with it.

Run this with the Python that can "import caffe" (2.7 or 3; numpy and h5py). It runs the net once
and writes one HDF5 file: inputs, blobs, parameters and, with --backward, diffs. For instance

    record_caffe.py test.prototxt net.caffemodel -o r.h5 --image data=cat.jpg --mean 104,117,123
    record_caffe.py train.prototxt net.caffemodel -o r.h5 --phase TRAIN --backward \\
        --array data=data.npy --labels label=21,255

Then run   caffe-port verify test.prototxt net.caffemodel r.h5

Every input and every top of a MemoryData layer needs an option; what other data layers read is
recorded. An image is resized to its blob: BGR, or grey for one channel, 0..255, less the mean.
The backward pass starts from the loss weights, or from random diffs where there is no loss. Caffe
computes the diff of an input only if the prototxt says force_backward: true.
"""

# Python 2.7 reads this file too.
# ruff: noqa: C408, RUF005, UP010, UP024, UP031
from __future__ import division, print_function

import argparse
import functools
import hashlib
import json
import os
import platform
import re
import sys
import traceback

import h5py
import numpy as np

#: Layers without a backward pass: with force_backward Caffe calls it all the same, and aborts.
NO_BACKWARD = ("Accuracy", "ArgMax", "SegAccuracy", "Threshold")
#: Which bottom holds class numbers, by layer type; and layers that only pass them on.
LABEL_BOTTOM = dict(SoftmaxWithLoss=1, MultinomialLogisticLoss=1, InfogainLoss=1, HingeLoss=1,
                    Accuracy=1, SegAccuracy=1, Embed=0, BatchReindex=1)  # fmt: skip
PASS_ON = ("Split", "Reshape", "Flatten", "Slice", "Interp", "Tile")


def parse_arguments(arguments):
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    add = parser.add_argument
    add("net", metavar="NET.prototxt", help="the net, as you give it to Caffe")
    add("weights", metavar="WEIGHTS", nargs="?", help=".caffemodel or .caffemodel.h5, if any")
    add("-o", "--out", required=True, metavar="FILE.h5", help="where to write")
    add("--phase", choices=("TEST", "TRAIN"), default="TEST", help="default TEST")
    group = parser.add_argument_group("inputs (each may be given several times)")
    add = functools.partial(group.add_argument, action="append", default=[])
    add("--image", metavar="BLOB=FILE", help="an image; several fill the batch in turn")
    add("--array", metavar="BLOB=FILE.npy", help="an array; the net is reshaped to it")
    add("--random", metavar="BLOB", help="normally distributed numbers")
    add("--labels", metavar="BLOB=N[,IGNORED]", help="class numbers 0..N-1, a tenth IGNORED")
    group.add_argument("--mean", default="0", metavar="B,G,R", help="subtracted from images")
    group.add_argument("--seed", type=int, default=1, help="of all random numbers (default 1)")
    add = parser.add_argument_group("what to record").add_argument
    add("--blobs", metavar="A,B,C", help="only these blobs (default: all, which may be large)")
    add("--backward", action="store_true", help="also run backward, and record diffs")
    add("--no-params", action="store_true", help="leave the parameters out")
    return parser.parse_args(arguments)


def main(arguments=None):
    options = parse_arguments(arguments)
    for path in (options.net, options.weights):
        if path and not os.path.isfile(path):  # Caffe itself would abort
            fail("no such file: %s" % path)
    temporary = "%s.%d.part" % (options.out, os.getpid())  # a broken run leaves no recording
    try:
        open(temporary, "wb").close()
    except IOError as error:
        fail("cannot write %s: %s" % (options.out, error.strerror))
    try:
        status = run_guarded(lambda report: record(options, temporary, report))
        if status == 0:
            getattr(os, "replace", os.rename)(temporary, options.out)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)
    return status


def fail(message):
    sys.exit("record_caffe: " + message)


def run_guarded(work):
    """Runs ``work`` in a child process where there is fork: Caffe ends the process on errors."""
    if not hasattr(os, "fork"):
        return work(lambda step: None)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = work(lambda step: os.write(writer, (step + "\n").encode("utf-8")))
        except SystemExit as error:
            print(error, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        steps = pipe.read().decode("utf-8").splitlines() or ["import caffe"]
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        why = "probably out of memory" if os.WTERMSIG(status) == 9 else "its message is above"
        fail("Caffe ended by signal %d in %s: %s" % (os.WTERMSIG(status), steps[-1], why))
    return os.WEXITSTATUS(status)


def record(options, path, report):
    """Runs the net and writes the file, array by array, as the net may need most of the memory."""
    import caffe  # not at the top, so that --help works without it

    if hasattr(caffe, "set_random_seed"):
        caffe.set_random_seed(options.seed)
    report("the set-up of the net")
    net = open_net(caffe, options)
    layers = list_layers(net)
    chosen = list(net.blobs) if options.blobs is None else options.blobs.split(",")
    inputs = options.image + options.array + options.random + options.labels
    for name in chosen + [item.partition("=")[0] for item in inputs]:
        if name not in net.blobs:
            fail("the net has no blob '%s'; it has %s" % (name, ", ".join(net.blobs)))
    report("the setting of the inputs")
    given = set_inputs(caffe, net, layers, options)
    report("a pass through the net")
    with h5py.File(path, "w") as out:
        describe(out, caffe, options)
        write(out, "input", given.items())
        sums = write(out, "param", () if options.no_params else params_of(net, "data"))
        write(out, "input", run_forward(net, layers, given, report))
        write(out, "data", blobs_of(net, chosen, "data"))
        # What the forward pass itself changed: BatchNorm's statistics in TRAIN.
        write(out, "after", params_of(net, "data") if sums else (), sums)
        if options.backward:
            starts, scratch = start_diffs(net, layers, options.seed)
            write(out, "topdiff", starts.items())
            run_backward(net, layers, report)
            check_computed(net, starts, scratch, options.net)
            write(out, "diff", blobs_of(net, chosen, "diff", scratch))
            write(out, "pdiff", params_of(net, "diff"))
    print("%s: %d of %d blobs recorded" % (options.out, len(chosen), len(net.blobs)))
    return 0


def open_net(caffe, options):
    paths = [str(path) for path in (options.net, options.weights) if path]
    if hasattr(caffe, "TEST"):
        caffe.set_mode_cpu()
        return caffe.Net(*(paths + [getattr(caffe, options.phase)]))
    # In Caffe of 2014 (DeepLab v1) mode and phase are global, but are set through a net.
    net = caffe.Net(*paths)
    net.set_mode_cpu()
    getattr(net, "set_phase_" + options.phase.lower())()
    return caffe.Net(*paths)


def list_layers(net):
    """(name, type, bottoms, tops) of every layer; [] where Caffe is too old to say."""
    if not hasattr(net, "_bottom_ids"):
        if not net.inputs:
            fail("this Caffe does not say what its data layers made: replace them by inputs")
        return []
    blobs, layers = list(net.blobs), []
    for i, name in enumerate(net._layer_names):
        bottoms, tops = ([blobs[k] for k in find(i)] for find in (net._bottom_ids, net._top_ids))
        layers.append((name, getattr(net.layers[i], "type", ""), bottoms, tops))
    return layers


def set_inputs(caffe, net, layers, options):
    """Fills the blobs named on the command line; returns what was put in."""
    values = read_inputs(caffe, net, layers, options)
    memory = [tops for _, kind, _, tops in layers if kind == "MemoryData"]
    for name in sum(memory, list(net.inputs)):
        if name not in values:
            fail("set input '%s' with --image, --array, --random or --labels" % name)
    if memory:
        set_memory_data(net, memory, values)
    plain = set(values).difference(*memory)
    made = [top for _, _, bottoms, tops in layers if not bottoms for top in tops]
    for name in plain.intersection(made).difference(net.inputs):
        fail("a data layer fills '%s' at every forward pass: leave it out" % name)
    stale = [n for n in plain if values_of(net.blobs[n], "data").shape != values[n].shape]
    for name in stale:
        net.blobs[name].reshape(*values[name].shape)
    if stale:
        net.reshape()
    for name in plain:
        if values[name].size:
            net.blobs[name].data[...] = values[name]
    return values


def set_memory_data(net, memory, values):
    if net.layers[0].type != "MemoryData" or len(memory) > 1:
        fail("Caffe's Python interface fills only one MemoryData layer, the net's first layer")
    data, labels = (values[top] for top in memory[0])
    shape = values_of(net.blobs[memory[0][0]], "data").shape
    if data.shape != shape or labels.size != shape[0]:
        text = "the MemoryData layer takes data of shape %s with %d labels, not %s with %d"
        fail(text % (shape, shape[0], data.shape, labels.size))
    values[memory[0][1]] = labels = labels.reshape(-1, 1, 1, 1)
    net.set_input_arrays(np.ascontiguousarray(data), np.ascontiguousarray(labels))


def read_inputs(caffe, net, layers, options):
    generator = np.random.RandomState(options.seed)
    values, images = {}, {}

    def add(name, make, *arguments):
        if name in values:
            fail("the blob '%s' is given twice" % name)
        try:
            shape = values_of(net.blobs[name], "data").shape
            values[name] = np.array(make(shape, *arguments), np.float32)
        except (AttributeError, TypeError, ValueError, IOError) as error:
            fail("input '%s' from %s: %s" % (name, arguments, error))

    for name, path in pairs(options.array, "BLOB=FILE"):
        add(name, lambda shape, file: np.load(file, allow_pickle=False), path)
    for name, path in pairs(options.image, "BLOB=FILE"):
        images.setdefault(name, []).append(path)
    for name, paths in images.items():
        add(name, functools.partial(load_images, caffe, options.mean), paths)
    for name, text in pairs(options.labels, "BLOB=N or BLOB=N,IGNORED"):
        add(name, functools.partial(random_labels, generator), text)
    for name in options.random:
        check_no_labels(name, layers)
        add(name, lambda shape: generator.randn(*shape))
    return values


def pairs(items, expected):
    for item in items:
        name, _, text = item.partition("=")
        if not name or not text:
            fail("'%s': expected %s" % (item, expected))
        if expected.endswith("FILE") and not os.path.isfile(text):
            fail("no such file: %s" % text)
        yield name, text


def load_images(caffe, mean, shape, paths):
    """Images as Caffe's nets read them: (N, 3, H, W), BGR, 0..255, less the mean; or (N, 1, ...)"""
    if len(shape) != 4 or shape[1] not in (1, 3):
        fail("an image needs a blob (N, 3, H, W) or (N, 1, H, W), this one is %s" % (shape,))
    numbers = np.array(mean.split(","), np.float32)
    if len(numbers) not in (1, shape[1]):
        fail("--mean %s: expected 1 number, or 1 for each of %d channels" % (mean, shape[1]))
    made = []
    for path in paths:
        pixels = caffe.io.resize_image(load_image(caffe, path, shape[1] == 3), shape[2:])
        made.append((pixels[:, :, ::-1] * 255 - numbers).transpose(2, 0, 1))
    return np.array([made[i % len(made)] for i in range(shape[0])])


def load_image(caffe, path, color):
    try:
        return caffe.io.load_image(path, color)
    except TypeError:  # skimage calls it as_gray today
        reader = caffe.io.skimage.io.imread
        caffe.io.skimage.io.imread = lambda file, as_grey: reader(file, as_gray=as_grey)
        return caffe.io.load_image(path, color)


def random_labels(generator, shape, text):
    numbers = re.match(r"([1-9]\d*)(?:,(-?\d+))?$", text)
    if not numbers:
        fail("--labels ...=%s: expected N or N,IGNORED" % text)
    labels = generator.randint(0, int(numbers.group(1)), shape)
    if numbers.group(2):
        labels[generator.rand(*shape) < 0.1] = int(numbers.group(2))
    return labels


def check_no_labels(name, layers):
    found = [name]
    for layer, kind, bottoms, tops in layers:
        if kind in LABEL_BOTTOM and bottoms[LABEL_BOTTOM[kind]] in found:
            text = "layer '%s' (%s) reads class numbers from '%s': use --labels %s=N for N classes"
            fail(text % (layer, kind, name, name))
        if kind in PASS_ON and bottoms[0] in found:
            found += tops


def run_forward(net, layers, given, report):
    """Runs forward; yields what data layers made, before a layer in place changes it."""
    if not layers:
        net.forward()
    for index, (name, kind, bottoms, tops) in enumerate(layers):
        report("the forward pass of layer '%s' (%s)" % (name, kind))
        net._forward(index, index)
        for top in tops:
            if not bottoms and top not in given and kind != "Parameter":
                yield top, values_of(net.blobs[top], "data")


def start_diffs(net, layers, seed):
    """Sets the diffs to start from; returns them, and the diffs that a forward pass left.

    Caffe keeps a loss's weight as the diff of its top. HingeLoss uses its bottom's as scratch.
    """
    present = {name: diff for name, diff in blobs_of(net, net.blobs, "diff") if diff.any()}
    losses = getattr(net, "blob_loss_weights", dict.fromkeys(net.outputs, 1))
    starts = {name: diff for name, diff in present.items() if losses.get(name)}
    scratch = {name: diff for name, diff in present.items() if name not in starts}
    dead = set().union(*(la[3] for la in layers if not la[2] or la[1] in NO_BACKWARD))
    generator = np.random.RandomState(seed + 1)
    for name in [] if starts else net.outputs:
        shape = values_of(net.blobs[name], "data").shape
        if name not in dead and np.prod(shape):
            starts[name] = np.array(generator.randn(*shape), np.float32)
    for name in net.params:  # their diffs add up in Caffe
        for param in net.params[name]:
            param.diff[...] = 0
    # afterwards: the top of a Parameter layer shares its parameter's diff
    for name, start in starts.items():
        net.blobs[name].diff[...] = start
    return starts, scratch


def run_backward(net, layers, report):
    if not layers:
        net.backward()
    for index, (name, kind, _, _) in reversed(list(enumerate(layers))):
        report("the backward pass of layer '%s' (%s)" % (name, kind))
        if kind not in NO_BACKWARD:
            net._backward(index, index)


def check_computed(net, starts, scratch, prototxt):
    """Refuses to record where Caffe computed no diff: it leaves zeros."""
    diffs = blobs_of(net, net.blobs, "diff", scratch)
    computed = any((diff != starts.get(name, 0)).any() for name, diff in diffs)
    if not computed and not any(diff.any() for _, diff in params_of(net, "diff")):
        fail("Caffe computed no diff: nothing in the net asks for one. Add force_backward: true to "
             "%s, outside of every layer, and record again; if it is there, no output has a "
             "backward pass: leave --backward out" % prototxt)  # fmt: skip


def values_of(blob, which):
    if getattr(blob, "count", 1):
        return np.array(getattr(blob, which), np.float32)
    return np.zeros(tuple(blob.shape), np.float32)  # Caffe aborts when asked for 0 values


def blobs_of(net, names, which, scratch=()):
    """(name, copy) each; a diff that still is the given scratch counts as not computed: 0."""
    for name in names:
        values = values_of(net.blobs[name], which)
        unused = name in scratch and np.array_equal(values, scratch[name])
        yield name, np.zeros_like(values) if unused else values


def params_of(net, which):
    for layer in net.params:
        for index, param in enumerate(net.params[layer]):
            yield (layer, index), values_of(param, which)


def describe(out, caffe, options):
    version, python = str(getattr(caffe, "__version__", "unknown")), platform.python_version()
    versions = dict(caffe=version, python=python, numpy=np.__version__, h5py=h5py.__version__)
    meta = dict(phase=options.phase, backward=options.backward, seed=options.seed,
                blobs_kept="chosen" if options.blobs else "all", oracle="caffe " + version,
                versions=versions, notes="record_caffe.py " + " ".join(sys.argv[1:]))  # fmt: skip
    texts = {"format": "caffe recording", "version": "1", "meta": json.dumps(meta, sort_keys=True)}
    for name, text in texts.items():
        out.attrs[name] = np.array(text.encode("ascii"))  # a text of fixed length


def write(out, part, arrays, known=None):
    """Writes (key, array) pairs that have not the known checksums; returns checksums by key."""
    group, sums = out.require_group(part), {}
    for key, array in arrays:
        name = "%s/%d" % (escape(key[0]), key[1]) if isinstance(key, tuple) else escape(key)
        values = np.array(array, "<f4", order="C")
        sums[key] = hashlib.sha256(values.tobytes()).hexdigest()
        if known is None or known[key] != sums[key]:
            packed = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
            data = group.create_dataset(name, data=values, **(packed if values.size > 1 else {}))
            data.attrs["sha256"] = np.array(sums[key].encode("ascii"))
    return sums


def escape(name):
    """Escapes slashes, which separate groups in HDF5, and empty names of layers."""
    name = (name or "unnamed").replace("%", "%25").replace("/", "%2F")
    return name.replace(".", "%2E") if name in (".", "..") else name


if __name__ == "__main__":
    sys.exit(main())
