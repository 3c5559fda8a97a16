#!/usr/bin/env python
"""Records what Caffe computes in random sequences of writes, partial forwards and backwards.

Copy this file and live_nets.py to where "import caffe" works; they need numpy besides. Then

    python record_live.py 0 40 > sequences.npz      # sequences 0 to 39

A sequence is a small net and a list of actions: blobs, diffs and parameters are written into, some
layers run forward or backward, the input changes its size. After each action every array that it
changed is recorded. tests/live/test_sequences.py repeats the actions in caffe_port.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import sys
import tempfile

import numpy as np

try:
    from live_nets import define_layers, draw_net, scales_in_place
except ImportError:  # imported as tools.record_live
    from tools.live_nets import define_layers, draw_net, scales_in_place

WAYS = ["all", "item", "element", "view", "scale", "out", "constant"]


def values(name, shape, seed):
    """What is written into a blob: labels into y, 0 or 1 into cont, else normal numbers."""
    numbers = np.random.RandomState(seed)
    if name == "cont":
        return numbers.randint(0, 2, shape)
    if name == "y":
        return numbers.randint(0, 2 if len(shape) == 4 and shape[1] > 1 else 3, shape)
    return numbers.standard_normal(shape)


def write(array, name, way, seed):
    """One of the ways in which a script changes an array."""
    new = np.asarray(values(name, array.shape, seed))
    if way == "all" or name in ("y", "cont") or not array.ndim:
        array[...] = new
    elif way == "item":
        array[0] = new[0]
    elif way == "element":
        array.flat[seed % array.size] = new.flat[0]
    elif way == "view":
        view = array.reshape(-1)
        view[::3] = new.reshape(-1)[::3]
    elif way == "scale":
        array *= 0.5
    elif way == "out":
        np.add(array, new, out=array)
    elif way == "constant":
        array[..., :2] = 0.25


def draw_write(dice, net, kind, way, seed):
    """A write into a blob or a parameter."""
    what = dice.choice(["data", "data", "diff"])
    if kind == "write":  # a mask's numbers are places in a blob
        return [kind, dice.choice([b for b in net.blobs if "_mask" not in b]), what, way, seed]
    layer = dice.choice(list(net.params))
    count = len(net.params[layer])
    # BatchNorm's variance stays positive
    return [kind, layer, dice.randrange(count), what, "scale" if count == 3 else way, seed]


def draw_action(dice, net, ready):
    """One action, as a list for JSON; backward only where ``ready``."""
    layers, blobs = list(net._layer_names), list(net.blobs)
    last = len(layers) - 1
    low = dice.randrange(last + 1)
    high = dice.randrange(low, last + 1)
    way, seed = dice.choice(WAYS), dice.randrange(1000)
    kinds = ["write"] * 5 + ["param", "inputs", "size", "clear"] + ["forward"] * 3
    kind = dice.choice(kinds + ["backward"] * 3 * ready)
    if kind == "write" or (kind == "param" and list(net.params)):
        return draw_write(dice, net, kind, way, seed)
    if kind in ("forward", "backward"):
        low, high = dice.choice([(low, high), (low, last), (0, high)])
        ends = [layers[low], layers[high]]
        return [kind, *(ends if kind == "forward" else reversed(ends))]
    if kind == "size":
        # ContrastiveLoss writes beyond its ends, RNN refuses, a loss of an axis loses its weight
        fixed = "ip2" in blobs or net.blobs[blobs[-1]].data.ndim == 1
        return [kind, 2 if "cont" in blobs else dice.randint(1, 2 if fixed else 4)]
    return [kind, seed] if kind == "inputs" else ["clear"]


def start(net):
    """Fills parameters and inputs."""
    for layer in net.params:
        for i, blob in enumerate(net.params[layer]):
            new = 0.5 * values("", blob.data.shape, i)
            statistics = net.layers[list(net._layer_names).index(layer)].type == "BatchNorm"
            blob.data[...] = 0.5 + np.abs(new) if statistics else new
    fill_inputs(net)


def fill_inputs(net):
    """Writes numbers into the inputs."""
    for name in net.inputs:
        net.blobs[name].data[...] = values(name, net.blobs[name].data.shape, 1)


def act(net, action):
    """Carries out an action."""
    kind, rest = action[0], action[1:]
    if kind == "write":
        name, what, way, seed = rest
        write(getattr(net.blobs[name], what), name, way, seed)
    elif kind == "param":
        layer, i, what, way, seed = rest
        write(getattr(net.params[layer][i], what), "", way, seed)
    elif kind == "forward":
        net.forward(start=rest[0], end=rest[1])
    elif kind == "backward":
        net.backward(start=rest[0], end=rest[1])
    elif kind == "inputs":
        shapes = {name: net.blobs[name].data.shape for name in net.inputs}
        net.forward(**{name: values(name, shape, rest[0]) for name, shape in shapes.items()})
    elif kind == "size":
        for name in net.inputs:
            net.blobs[name].reshape(rest[0], *net.blobs[name].data.shape[1:])
        net.reshape()
        fill_inputs(net)
    else:
        net.clear_param_diffs()


def state(net):
    """Every array of a net, by name."""
    found = {}
    for name, blob in net.blobs.items():
        found[f"data/{name}"], found[f"diff/{name}"] = blob.data.copy(), blob.diff.copy()
    for layer in net.params:
        for i, blob in enumerate(net.params[layer]):
            found[f"param/{layer}/{i}"] = blob.data.copy()
            found[f"pdiff/{layer}/{i}"] = blob.diff.copy()
    return found


def open_net(caffe, text, phase, seed):
    """The net, made from its text under a seed."""
    define_layers()
    caffe.set_random_seed(seed)
    folder = tempfile.mkdtemp()
    prototxt, gains = (os.path.join(folder, name) for name in ("net.prototxt", "gains"))
    with open(gains, "wb") as file:
        matrix = 0.5 + np.abs(values("", (1, 1, 4, 4), 0))
        file.write(caffe.io.array_to_blobproto(matrix).SerializeToString())
    with open(prototxt, "w") as file:
        file.write(text.replace("GAINS", gains))
    try:
        return caffe.Net(prototxt, getattr(caffe, phase))
    finally:
        shutil.rmtree(folder)


def record(caffe, number):
    """One sequence: its JSON, and the arrays that each action changed."""
    dice = random.Random(number)
    text, phase = draw_net(dice), dice.choice(["TRAIN", "TRAIN", "TEST"])
    net = open_net(caffe, text, phase, number)
    start(net)
    actions, arrays = [], {}
    before, ready = state(net), False
    for step in range(dice.randint(6, 14)):
        # backward needs what a whole forward has left in the layers' buffers
        action = ["inputs", number] if step == 1 else draw_action(dice, net, ready)
        ready = ready or action[0] == "inputs"
        if action[0] == "size" or (action[0] == "backward" and scales_in_place(text)):
            ready = False
        act(net, action)
        actions.append(action)
        after = state(net)
        for name, array in after.items():
            if array.tobytes() != before[name].tobytes():
                arrays[f"{number}/{step}/{name}"] = array
        before = after
    meta = {"net": text, "phase": phase, "seed": number, "actions": actions}
    arrays[f"{number}/meta"] = np.array(json.dumps(meta))
    return arrays


def record_apart(caffe, number):
    """The result of ``record`` in a child process; nothing if Caffe ends the process."""
    inner, outer = os.pipe()
    child = os.fork()
    if not child:
        packed = io.BytesIO()
        np.savez_compressed(packed, **record(caffe, number))
        with os.fdopen(outer, "wb") as file:
            file.write(packed.getvalue())
        os._exit(0)
    os.close(outer)
    with os.fdopen(inner, "rb") as file:
        packed = io.BytesIO(file.read())
    if os.waitpid(child, 0)[1] or not packed.getvalue():
        print(f"sequence {number}: Caffe ended the process", file=sys.stderr)
        return {}
    return dict(np.load(packed))


def main():
    """Prints the recordings of a range of numbers."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    import caffe
    import caffe.io

    arrays = {}
    for number in range(int(sys.argv[1]), int(sys.argv[2])):
        arrays.update(record_apart(caffe, number))
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    sys.stdout.buffer.write(packed.getvalue())


if __name__ == "__main__":
    main()
