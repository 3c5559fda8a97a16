"""Optimized nets: what is fused, and that they follow the net."""

import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from caffe_port.errors import LayerError, UsageError
from caffe_port.inference.planner import can_pack, has_type
from tests.layers.helpers import net_of
from tests.spec.making import conv, layer

X = (2, 3, 9, 7)
WIDE = 'num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "gaussian" std: 0.3 }'
SLOPE = "relu_param { negative_slope: 0.1 }"
NORM = layer("n", "BatchNorm", "c", "c") + layer("k", "Scale", "c", "c")
CHAIN = conv("c", "b0", options=WIDE) + NORM + layer("r", "ReLU", "c", "c")
BLOCK = (
    CHAIN + conv("d", "c", options=WIDE) + layer("dn", "BatchNorm", "d", "d")
    + layer("s", "Eltwise", "c d") + layer("sr", "ReLU", "s", "s")
)  # fmt: skip
# text -> the layers that are still run by themselves
FUSED = {
    "convolution, norm, scale, relu": (CHAIN, ["c"]),
    "residual block": (BLOCK, ["c", "d"]),
    "leaky": (conv("c", "b0", options=WIDE) + layer("r", "ReLU", "c", "c", SLOPE), ["c"]),
    "leaky after a sum": (BLOCK.replace('top: "s" }', f'top: "s" {SLOPE} }}'), ["c", "d"]),
    "nothing after a sum": (BLOCK.rpartition("layer {")[0], ["c", "d"]),
    "relu before scale": (
        conv("c", "b0", options=WIDE) + layer("r", "ReLU", "c", "c") + layer("k", "Scale", "c"),
        ["c", "k"],
    ),
    "two readers": (
        conv("c", "b0", options=WIDE) + layer("r", "ReLU", "c") + layer("t", "TanH", "c"),
        ["c", "r", "t"],
    ),
    "a sum with factors": (
        BLOCK.replace(
            'type: "Eltwise"', 'type: "Eltwise" eltwise_param { coeff: 1 coeff: 2 }'
        ),
        ["c", "d", "s", "sr"],
    ),
    "a value added to itself": (
        conv("c", "b0", options=WIDE) + layer("s", "Eltwise", "c c"), ["c", "s"]
    ),
    "dropout": (CHAIN + layer("o", "Dropout", "c", "c") + layer("t", "TanH", "c"), ["c", "t"]),
    "larger than its input": (
        conv("c", "b0", options=WIDE.replace("kernel_size: 3", "kernel_size: 6 dilation: 2 "
                                             "stride: 3"))
        + NORM + layer("r", "ReLU", "c", "c", SLOPE),
        ["c"],
    ),
    "groups and strides": (
        conv("c", "b0", options=WIDE.replace("num_output: 4", "num_output: 6 group: 3 stride: 2")),
        ["c"],
    ),
    "pooling": (
        CHAIN + layer("p", "Pooling", "c", more="pooling_param { kernel_size: 3 stride: 2 }")
        + layer("q", "Pooling", "c", more="pooling_param { kernel_size: 2 stride: 3 pad: 1 }"),
        ["c", "p", "q"],
    ),
    "deconvolution": (
        CHAIN + layer("u", "Deconvolution", "c",
                      more="convolution_param { num_output: 2 kernel_size: 4 stride: 2 "
                      'weight_filler { type: "gaussian" std: 0.3 } }'),
        ["c", "u"],
    ),
    "flattened and rectified": (
        CHAIN + layer("f", "Flatten", "c") + layer("fr", "ReLU", "f", "f"), ["c", "f", "fr"]
    ),
}  # fmt: skip


def _x(shape=X, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype)


def _net(text, *shapes):
    """With statistics and scales that are neither 0 nor 1."""
    net = net_of(text, *(shapes or (X,)))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for made in net.spec.layers:
            if made.type in ("BatchNorm", "Scale"):
                for blob in net.layer_params(made.name):
                    blob.copy_(torch.rand(blob.shape, generator=generator) + 0.5)
    return net


def _runs(fast):
    """The layers that the only program has steps of."""
    (only,) = fast._programs.values()
    return [step.layer.name for step in only._steps]


def _same(found, net, x, tolerance=1e-5, **options):
    with torch.no_grad():
        want = net(x, **options)
    assert set(found) == set(want)
    for name, blob in want.items():
        assert (found[name] - blob).abs().max() <= tolerance * blob.abs().max()


@pytest.mark.parametrize("options", [{}, {"fold": False}])
@pytest.mark.parametrize(("text", "runs"), FUSED.values(), ids=FUSED.keys())
def test_the_same_with_fewer_steps(text, runs, options):
    net, exact = _net(text), _net(text).double()
    fast = net.optimized(engine="torch", **options)
    _same(fast(_x()), net, _x())
    _same(fast(_x(seed=1)), net, _x(seed=1))
    if not options:
        assert _runs(fast) == runs
    _same(exact.optimized(**options)(_x().double()), exact, _x().double(), 1e-13)


def test_unfolded_layers_run_alone():
    fast = _net(CHAIN).optimized(fold=False, engine="torch")
    fast(_x())
    assert _runs(fast) == ["c", "n", "k", "r"]


def test_blobs_that_are_kept_are_made():
    net = _net(BLOCK)
    fast = net.optimized(engine="torch")
    for keep in (["c"], ["s", "c"], ["d"], ["b0"], [], "all", "outputs"):
        _same(fast(_x(), keep=keep), net, _x(), keep=keep)


def test_a_fed_blob_stays_as_it_was():
    net = _net(layer("r", "ReLU", "b0", "b0") + layer("q", "ReLU", "b0", "b0"))
    x = _x()
    fast = net.optimized(engine="torch")
    assert fast(x)["b0"].min() == 0
    assert torch.equal(x, _x())


def test_shapes_and_batches_may_change():
    net = _net(BLOCK)
    fast = net.optimized(engine="torch")
    for shape in (X, (1, 3, 5, 5), (4, 3, 12, 8), X, (1, 3, 1, 1)):
        _same(fast(_x(shape)), net, _x(shape))


def test_threads_share_a_plan():
    net = _net(BLOCK)
    fast = net.optimized(engine="torch")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: fast(_x(seed=seed)), range(8)))
    for seed, blobs in enumerate(found):
        _same(blobs, net, _x(seed=seed))
    assert len(fast._programs) == 1


def _train(net):
    net(_x())["s"].sum().backward()
    with torch.no_grad():
        for blob in net.parameters():
            if blob.grad is not None:
                blob.sub_(0.1 * blob.grad)
    net.zero_grad()


def _halve(net):
    with torch.no_grad():
        net.layer_params("c")[0].mul_(0.5)


CHANGES = {
    "in place": _halve,
    "a step of training": _train,
    "state dict": lambda net: net.load_state_dict(_net(BLOCK).state_dict()),
    "stored layers": lambda net: net.load_stored(_net(BLOCK).stored_layers()),
    "float64 and back": lambda net: net.double().float(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_changed_parameters_are_followed(change):
    net = _net(BLOCK)
    fast = net.optimized(engine="torch")
    fast(_x())
    change(net)
    _same(fast(_x()), net, _x())


def test_refresh_after_changes_that_torch_does_not_see():
    net = _net(BLOCK)
    fast = net.optimized(engine="torch")
    fast(_x())
    net.layer_params("c")[0].detach().numpy()[...] *= 2
    fast.refresh()
    _same(fast(_x()), net, _x())


def test_training_continues_unchanged():
    one, two = _net(BLOCK), _net(BLOCK)
    two.load_state_dict(one.state_dict())
    fast = two.optimized(engine="torch")
    for _ in range(2):
        fast(_x())
        _train(one)
        _train(two)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


def test_hooks_get_the_same_tensors():
    net = _net(CHAIN)
    fast = net.optimized(engine="torch")
    fast(_x())
    seen = []
    handle = net.module("n").register_forward_hook(lambda m, args, out: seen.append(out[0].clone()))
    _same(fast(_x()), net, _x())
    assert _runs(fast) == ["c", "n", "k", "r"]
    assert len(seen) == 2
    assert torch.allclose(seen[0], seen[1], atol=1e-5)
    handle.remove()
    fast(_x())
    assert _runs(fast) == ["c"]
    assert len(seen) == 2


def test_no_grad():
    net = _net(CHAIN)
    assert not net.optimized()(_x())["c"].requires_grad
    with pytest.raises(UsageError, match="input 'b0' requires grad"):
        net.optimized()(_x().requires_grad_())
    with torch.no_grad():
        net.optimized()(_x().requires_grad_())


SHARED = "".join(
    conv(name, "b0", more='param { name: "w" } param { name: "v" }', options=WIDE)
    for name in ("one", "two")
) + conv("three", "b1", more='param { name: "w" } param { name: "v" }', options=WIDE)


def test_shared_filters_are_packed_once():
    net = _net(SHARED, X, (1, 3, 30, 20))
    fast = net.optimized(engine="torch")
    fed = {"b0": _x(), "b1": _x((1, 3, 30, 20))}
    _same(fast(fed), net, fed)
    copies = [layout for found in fast._store._packed.values() for layout, _ in found]
    assert len(fast._store._packed) == int(can_pack(fed["b0"]))
    assert len(copies) == len(set(copies)) <= 2


def test_blobs_are_freed_after_their_last_reader(monkeypatch):
    from caffe_port.inference import program

    seen, most = [], [0]
    run = program._run

    def watched(step, bottoms):
        tops = run(step, bottoms)
        seen.extend(weakref.ref(top) for top in tops)
        del bottoms, step
        most[0] = max(most[0], sum(ref() is not None for ref in seen))
        return tops

    monkeypatch.setattr(program, "_run", watched)
    text = "".join(conv(f"c{i}", "b0" if i == 0 else f"c{i - 1}", options=WIDE) for i in range(6))
    _net(text).optimized(engine="torch")(_x())
    assert len(seen) == 6
    assert most[0] <= 2


@pytest.mark.skipif(
    torch.__version__.startswith("2.4."), reason="torch 2.4 cannot trace a torch.Size"
)
def test_compiled():
    net = _net(BLOCK + layer("t", "TanH", "s"))
    fast = net.optimized(compile="eager")
    for seed in range(3):
        _same(fast(_x(seed=seed)), net, _x(seed=seed))
    (only,) = fast._programs.values()
    assert len(only._compiled) == 1


def test_reduced_precision():
    net = _net(BLOCK + layer("t", "TanH", "s"))
    if not has_type(torch.device("cpu"), torch.bfloat16):
        with pytest.raises(UsageError, match="does not compute in bfloat16"):
            net.optimized(precision="bfloat16")(_x())
        return
    found = net.optimized(precision="bfloat16")(_x())
    assert found["t"].dtype == torch.float32
    _same(found, net, _x(), 0.05)
    with torch.no_grad():
        assert not torch.equal(found["t"], net(_x())["t"])


def test_unavailable_precisions():
    with pytest.raises(UsageError, match="precision is 'int8'; expected one of float32"):
        _net(CHAIN).optimized(precision="int8")
    with pytest.raises(UsageError, match="is for float32 nets"):
        _net(CHAIN).double().optimized(precision="bfloat16")(_x().double())


@pytest.fixture(params=[True, False], ids=["oneDNN", "no oneDNN"])
def onednn(request):
    """Convolutions with oneDNN, and with torch's own kernels."""
    before, *_ = torch.backends.mkldnn.set_flags(request.param)
    yield
    torch.backends.mkldnn.set_flags(before)


@pytest.mark.parametrize(
    ("shape", "error", "words"),
    [
        ((1, 5, 9, 7), LayerError, "layer 'c' (Convolution): cannot run on bottoms of shape (1, 5"),
        ((5, 9), LayerError, "layer 'c' (Convolution): cannot run on bottoms of shape (5, 9)"),
    ],
)
@pytest.mark.usefixtures("onednn")
def test_bottoms_that_do_not_fit(shape, error, words):
    with pytest.raises(error) as caught:
        _net(CHAIN).optimized()(_x(shape))
    assert words in str(caught.value)


def test_a_bottom_of_a_deconvolution_that_does_not_fit():
    net = _net(layer("d", "Deconvolution", "b0", more=f"convolution_param {{ {WIDE} }}"))
    with pytest.raises(LayerError, match=r"'d' \(Deconvolution\): cannot run .* shape \(5, 3\)"):
        net.optimized()(_x((5, 3)))


def test_inputs_are_checked_as_by_the_net():
    fast = _net(CHAIN).optimized(engine="torch")
    with pytest.raises(UsageError, match="'q' is not an input"):
        fast({"q": _x()})
    with pytest.raises(UsageError, match="keep names 'q'"):
        fast(_x(), keep=["q"])


def test_a_data_layer_runs():
    data = layer("d", "DummyData", tops="d", more="dummy_data_param { shape { dim: 2 dim: 3 dim: "
                 '9 dim: 7 } data_filler { type: "constant" value: 2 } }')  # fmt: skip
    net = _net(data + conv("c", "d", options=WIDE))
    fed = {"b0": _x()}
    _same(net.optimized()(fed), net, fed)


def test_statistics_of_a_train_net_move_as_without():
    text = conv("c", "b0", options=WIDE) + layer("n", "BatchNorm", "c", "c")
    one, two = (net_of(text, X, phase="TRAIN") for _ in range(2))
    two.load_state_dict(one.state_dict())
    fast = two.optimized(engine="torch")
    for seed in range(2):
        with torch.no_grad():
            want = one(_x(seed=seed))["c"]
        assert torch.allclose(fast(_x(seed=seed))["c"], want, atol=1e-5)
    for a, b in zip(one.layer_params("n"), two.layer_params("n"), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)
    assert one.layer_params("n")[2] != 0
