"""The part of the differential test that runs in the Python which can "import caffe".

It is sent to that Python through its standard input, so it is one file that needs numpy and Caffe
only, under Python 2.7 and 3. It answers requests, one frame each, on standard output. Every request
is carried out in a forked child: when Caffe aborts, that request ends and the next one is served.

The port's side of the test calls the same functions with ``caffe_port.pycaffe`` as ``caffe``.
"""

# Python 2.7 reads this file too.
# ruff: noqa: UP010, UP031
from __future__ import division, print_function

import contextlib
import json
import os
import platform
import re
import resource
import select
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
if __name__ == "__main__":  # a process of its own, which imports numpy and Caffe next
    for _name in THREADS:
        os.environ.setdefault(_name, "1")
    os.environ.setdefault("GLOG_minloglevel", "2")

import numpy as np  # noqa: E402  (reads the number of threads when it is imported)

MAGIC = b"CDT1"
HEAD = struct.Struct(">4sQQ")
LOG_KEPT = 8000  # characters of what Caffe wrote before it ended
FATAL = re.compile(r"^F\d{4,8} [^\]]*\] *(.*)", re.MULTILINE)  # glog's line of a failed check


def pack(header, arrays):
    """One frame as bytes. ``arrays`` are float32 or uint8, by name."""
    names = sorted(arrays)
    values = [np.array(arrays[name], order="C") for name in names]
    listed = [[n, v.dtype.str, list(v.shape)] for n, v in zip(names, values)]  # noqa: B905
    text = json.dumps(dict(header, arrays=listed)).encode("ascii")
    body = b"".join(value.tobytes() for value in values)
    return HEAD.pack(MAGIC, len(text), len(body)) + text + body


def read_frame(stream):
    """(header, arrays) of the next frame, or None where the stream ends before its end."""
    head = stream.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    magic, text_size, body_size = HEAD.unpack(head)
    if magic != MAGIC:
        raise ValueError("not a frame: it starts with %r" % head[:4])
    text, body = stream.read(text_size), stream.read(body_size)
    if len(text) < text_size or len(body) < body_size:
        return None
    header, arrays, start = json.loads(text.decode("ascii")), {}, 0
    for name, kind, shape in header.pop("arrays"):
        dtype = np.dtype({"<f4": "<f4", "|u1": "|u1"}[kind])
        count = 1
        for size in shape:
            count *= size
        end = start + count * dtype.itemsize
        if end > body_size:
            raise ValueError("array '%s' goes beyond the end of its frame" % name)
        arrays[name] = np.frombuffer(body[start:end], dtype).reshape(shape).copy()
        start = end
    return header, arrays


def describe(caffe):
    """Versions, layer types and the options that this Caffe's schema has."""
    types = list(caffe.layer_type_list()) if hasattr(caffe, "layer_type_list") else None
    schema = {}
    add_message(schema, caffe.proto.caffe_pb2.LayerParameter.DESCRIPTOR)
    versions = {
        "caffe": str(getattr(caffe, "__version__", "unknown")),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    return {"versions": versions, "types": types, "schema": schema, "pid": os.getpid()}


def add_message(schema, kind):
    """Adds a message type and those inside it: field -> [type, repeated, default, choices]."""
    if kind.name in schema:
        return
    schema[kind.name] = fields = {}
    for field in kind.fields:
        name, choices = None, None
        if field.message_type is not None:
            name = field.message_type.name
            add_message(schema, field.message_type)
        elif field.enum_type is not None:
            name, choices = "enum", [value.name for value in field.enum_type.values]
        fields[field.name] = [
            name or SCALARS.get(field.cpp_type, "other"), is_repeated(field), choices,
        ]  # fmt: skip


SCALARS = {1: "int", 2: "int", 3: "uint", 4: "uint", 5: "float", 6: "float", 7: "bool", 9: "string"}


def is_repeated(field):
    flag = getattr(field, "is_repeated", None)  # protobuf 6 and later; the label is gone in 7
    if flag is None:
        return field.label == field.LABEL_REPEATED
    return bool(flag() if callable(flag) else flag)


def run_net(caffe, request, arrays, emit):
    """One pass of a net; weights and inputs come from the request."""
    net = open_net(caffe, request)
    describe_net(net, emit)
    set_params(net, arrays)
    set_blobs(net, arrays, "input/", "data")
    if request.get("save"):
        net.save("net.caffemodel")
        emit({}, {"file/net.caffemodel": read_bytes("net.caffemodel")})
    before = copy_params(net, "param", "data")
    net.forward()
    answer = copy_blobs(net, "data")
    for key, value in copy_params(net, "after", "data").items():
        if not np.array_equal(value, before["param" + key[5:]]):
            answer[key] = value
    emit({"stage": "forward"}, answer)
    if not request.get("backward"):
        return
    for blobs in net.params.values():  # first: a Parameter layer's top shares its parameter's diff
        for blob in blobs:
            if blob.count:
                blob.diff[...] = 0
    for name, value in chosen(arrays, "topdiff/"):
        if not net.blobs[name].count:
            continue
        diff = net.blobs[name].diff
        # a Filter's top may have fewer items than there is room for
        diff[...] = value.reshape(-1)[: diff.size].reshape(diff.shape)
    starts = {"topdiff/" + name: content(net.blobs[name], "diff") for name in request["starts"]}
    net.backward()
    answer = copy_blobs(net, "diff")
    answer.update(copy_params(net, "pdiff", "diff"))
    answer.update(starts)
    emit({"stage": "backward"}, answer)


def run_solver(caffe, request, arrays, emit):
    """A training: the request's actions in order, on a solver of its text."""
    seed(caffe, request)
    for name in ("net", "solver"):
        write(name + ".prototxt", request[name].encode("utf-8"))
    solver = caffe.get_solver("solver.prototxt")
    describe_net(solver.net, emit)
    set_params(solver.net, arrays)
    emit({}, copy_params(solver.net, "start", "data"))
    for place, action in enumerate(request["actions"]):
        answer = {}
        if action[0] == "step":
            set_blobs(solver.net, arrays, "input/%d/" % action[1], "data")
            solver.step(1)
            for name in solver.net.outputs:
                answer["output/%d/%s" % (place, name)] = content(solver.net.blobs[name], "data")
            answer.update(copy_params(solver.net, "weights/%d" % place, "data"))
        elif action[0] == "snapshot" and hasattr(solver, "snapshot"):
            solver.snapshot()
            for name in sorted(os.listdir(".")):
                if name.startswith("s_iter_"):
                    answer["file/%s" % name] = read_bytes(name)
        elif action[0] == "restore":
            for name, value in chosen(arrays, "file/"):
                write(name, value.tobytes())
            solver.restore(str(action[1]))
        emit({"stage": "%s %d" % (action[0], place)}, answer)


def run_files(caffe, request, arrays, emit):
    """Reads files of the port's and writes Caffe's own; text likewise."""
    net = open_net(caffe, request)
    describe_net(net, emit)
    for name, value in chosen(arrays, "file/"):
        if not hasattr(net, "load_hdf5") and name.endswith(".h5"):
            continue
        set_params(net, {}, zero=True)
        write(name, value.tobytes())
        (net.load_hdf5 if name.endswith(".h5") else net.copy_from)(str(name))
        emit({"stage": "read " + name}, copy_params(net, "read/" + name, "data"))
    set_params(net, arrays)
    net.save("net.caffemodel")
    answer = {"file/net.caffemodel": read_bytes("net.caffemodel")}
    if hasattr(net, "save_hdf5"):
        net.save_hdf5("net.caffemodel.h5")
        answer["file/net.caffemodel.h5"] = read_bytes("net.caffemodel.h5")
    emit({"stage": "written", "text": printed(caffe, request["net"])}, answer)


def printed(caffe, text):
    """A net's text as this Caffe's protobuf reads and prints it."""
    from google.protobuf import text_format

    message = caffe.proto.caffe_pb2.NetParameter()
    return text_format.MessageToString(text_format.Merge(text, message))


REQUESTS = {"net": run_net, "solver": run_solver, "files": run_files}


def open_net(caffe, request):
    seed(caffe, request)
    write("net.prototxt", request["net"].encode("utf-8"))
    caffe.set_mode_cpu()
    return caffe.Net("net.prototxt", caffe.TRAIN if request["phase"] == "TRAIN" else caffe.TEST)


def seed(caffe, request):
    if hasattr(caffe, "set_random_seed"):
        caffe.set_random_seed(request["seed"])


def describe_net(net, emit):
    blobs = [[name, list(blob.shape)] for name, blob in net.blobs.items()]
    params = [[name, [list(p.shape) for p in blobs]] for name, blobs in net.params.items()]
    emit({"stage": "built", "blobs": blobs, "params": params}, {})


def set_params(net, arrays, zero=False):
    for layer in net.params:
        for index, blob in enumerate(net.params[layer]):
            value = arrays.get("param/%s/%d" % (layer, index))
            if zero and blob.count:
                blob.data[...] = 0
            if value is not None and value.size == blob.count > 0:
                blob.data[...] = value.reshape(blob.data.shape)


def set_blobs(net, arrays, start, which):
    for name, value in chosen(arrays, start):
        blob = net.blobs[name]
        if blob.count:
            getattr(blob, which)[...] = value.reshape(blob.data.shape)


def chosen(arrays, start):
    return [(name[len(start) :], arrays[name]) for name in sorted(arrays) if name.startswith(start)]


def copy_blobs(net, which):
    found = {}
    for name, blob in net.blobs.items():
        found["%s/%s" % (which, name)] = content(blob, which)
    return found


def copy_params(net, part, which):
    found = {}
    for layer in net.params:
        for index, blob in enumerate(net.params[layer]):
            found["%s/%s/%d" % (part, layer, index)] = content(blob, which)
    return found


def content(blob, which):
    """The data or diff of a blob; an empty one has no memory that Caffe could show."""
    return as_float32(getattr(blob, which) if blob.count else np.zeros(list(blob.shape)))


def as_float32(values):
    return np.array(values, "<f4", order="C")


def read_bytes(path):
    with open(path, "rb") as stream:
        return np.frombuffer(stream.read(), "|u1")


def write(path, content):
    with open(path, "wb") as stream:
        stream.write(content)


@contextlib.contextmanager
def own_folder():
    """A folder of its own to work in, gone afterwards."""
    before, path = os.getcwd(), tempfile.mkdtemp(prefix="differential")
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)
        shutil.rmtree(path, ignore_errors=True)


def carried_out(caffe, request, arrays):
    """Header and bytes that answer a request, which a child of this process carries out."""
    with own_folder(), tempfile.TemporaryFile() as log:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            work_as_child(caffe, request, arrays, writer, log)
        os.close(writer)
        content, late = read_all(reader, time.time() + request.get("timeout", 60))
        os.close(reader)
        if late:
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        size = log.seek(0, os.SEEK_END) or log.tell()
        log.seek(max(0, size - LOG_KEPT))
        written = log.read().decode("utf-8", "replace")
    return ending(status, late, written), content


def work_as_child(caffe, request, arrays, writer, log):
    """Never returns: the process ends here."""
    code = 1
    try:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with os.fdopen(writer, "wb") as stream:

            def emit(header, answer):
                stream.write(pack(header, answer))
                stream.flush()

            REQUESTS[request["do"]](caffe, request, arrays, emit)
        code = 0
    except BaseException as error:  # whatever it is, it is the answer
        traceback.print_exc()
        message = "%s: %s" % (type(error).__name__, error)
        os.write(2, ("\nexception " + message).encode("utf-8", "replace"))
    finally:
        os._exit(code)


def read_all(handle, deadline):
    """(bytes, late): all that comes until the writer is gone, or until the deadline."""
    pieces = []
    while True:
        left = deadline - time.time()
        if left <= 0 or not select.select([handle], [], [], left)[0]:
            return b"".join(pieces), True
        piece = os.read(handle, 1 << 20)
        if not piece:
            return b"".join(pieces), False
        pieces.append(piece)


def ending(status, late, log):
    """How the child ended: "ok", "refused", "crashed" or "late", and what it said."""
    if late:
        return {"ended": "late", "message": "no answer in time", "log": log}
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
        return {"ended": "ok", "message": "", "log": log}
    fatal = FATAL.search(log)
    if fatal:
        return {"ended": "refused", "message": fatal.group(1), "log": log}
    if "\nexception " in log:
        return {"ended": "refused", "message": log.rpartition("\nexception ")[2], "log": log}
    if os.WIFSIGNALED(status):
        return {"ended": "crashed", "message": "signal %d" % os.WTERMSIG(status), "log": log}
    return {"ended": "crashed", "message": "exit status %d" % os.WEXITSTATUS(status), "log": log}


def serve():
    """Answers requests until standard input ends."""
    incoming = getattr(sys.stdin, "buffer", sys.stdin)
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what Caffe and its layers print does not get between the frames
    import caffe
    import caffe.proto.caffe_pb2

    outgoing.write(pack(describe(caffe), {}))
    outgoing.flush()
    while True:
        frame = read_frame(incoming)
        if frame is None:
            return
        header, content = carried_out(caffe, *frame)
        outgoing.write(pack(header, {"frames": np.frombuffer(content, "|u1")}))
        outgoing.flush()


if __name__ == "__main__":
    serve()
