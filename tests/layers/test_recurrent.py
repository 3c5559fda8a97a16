"""RNN and LSTM: the loop, the state between passes, exposed states, static inputs."""

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer, net_of

STEPS, STREAMS, HIDDEN = 4, 3, 5
X, STATIC = (STEPS, STREAMS, 2, 3), (STREAMS, 2, 2)
CONT, STATE = (STEPS, STREAMS), (1, STREAMS, HIDDEN)
STARTED = torch.tensor([[0.0] * 3, [1, 1, 1], [1, 0, 1], [1, 1, 1]])
KINDS = {"RNN": 1, "LSTM": 2}


def text(kind, bottoms=2, tops=1, options=""):
    blobs = [f'bottom: "b{i}"' for i in range(bottoms)] + [f'top: "y{i}"' for i in range(tops)]
    filler = 'type: "uniform" min: -0.5 max: 0.5'
    return (
        f'type: "{kind}" {" ".join(blobs)} recurrent_param {{ num_output: {HIDDEN} {options} '
        f"weight_filler {{ {filler} }} bias_filler {{ {filler} }} }}"
    )


def exposed(kind, static=False):
    count = KINDS[kind]
    shapes = [X, CONT, *([STATIC] if static else []), *[STATE] * count]
    return layer(text(kind, 2 + static + count, 1 + count, "expose_hidden: true"), *shapes)


def copied(kind, source, *shapes, **options):
    module = layer(text(kind, **options), *shapes)
    module.load_state_dict(source.state_dict())
    return module


def slow(kind, module, x, cont, static=None, state=None):
    """The equations of Caffe's headers, stream by stream."""
    blobs = {name: p.detach() for name, p in module.named_parameters()}
    suffix = "c" if kind == "LSTM" else "h"
    y = torch.zeros(x.shape[0], x.shape[1], HIDDEN)
    for n in range(x.shape[1]):
        h, c = (s[0, n] for s in (state or [torch.zeros(STATE)] * 2))
        for t in range(x.shape[0]):
            h, c = (s * cont[t, n] for s in (h, c))
            total = blobs[f"W_x{suffix}"] @ x[t, n].flatten() + blobs[f"b_{suffix}"]
            total = total + blobs[f"W_h{suffix}"] @ h
            if static is not None:
                total = total + blobs[f"W_x{suffix}_static"] @ static[n].flatten()
            if kind == "RNN":
                h = torch.tanh(total)
                y[t, n] = torch.tanh(blobs["W_ho"] @ h + blobs["b_o"])
            else:
                i, f, o = torch.sigmoid(total[: 3 * HIDDEN]).chunk(3)
                c = f * c + i * torch.tanh(total[3 * HIDDEN :])
                y[t, n] = h = o * torch.tanh(c)
    return y


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_in_caffes_order(kind):
    module = layer(text(kind, 3), X, CONT, STATIC)
    shapes = {p.name: p.shape for p in module.spec.params}
    n, size, static = HIDDEN, 6, 4
    wanted = {
        "RNN": {"W_xh": (n, size), "b_h": (n,), "W_xh_static": (n, static), "W_hh": (n, n),
                "W_ho": (n, n), "b_o": (n,)},
        "LSTM": {"W_xc": (4 * n, size), "b_c": (4 * n,), "W_xc_static": (4 * n, static),
                 "W_hc": (4 * n, n)},
    }  # fmt: skip
    assert list(shapes.items()) == list(wanted[kind].items())
    assert all(p.abs().max() > 0 for p in module.parameters())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("static", [False, True])
def test_against_the_equations(kind, static):
    shapes = [X, CONT, STATIC][: 2 + static]
    module = layer(text(kind, 2 + static), *shapes)
    x, s = torch.rand(X), torch.rand(STATIC)
    (y,) = module(x, STARTED, *[s][:static])
    assert y.shape == (STEPS, STREAMS, HIDDEN)
    assert torch.allclose(y, slow(kind, module, x, STARTED, s if static else None), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_may_continue_in_the_next_pass(kind):
    whole = layer(text(kind), X, CONT)
    x = torch.rand(X)
    (wanted,) = whole(x, STARTED)
    single = copied(kind, whole, (1, *X[1:]), (1, STREAMS))
    steps = [single(x[t : t + 1], STARTED[t : t + 1])[0] for t in range(STEPS)]
    assert torch.allclose(torch.cat(steps), wanted, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_cont_0_forgets_the_pass_before(kind):
    module = layer(text(kind), X, CONT)
    x = torch.rand(X)
    (first,) = module(x, STARTED)
    (again,) = module(x, STARTED)
    assert torch.equal(first, again)
    (going_on,) = module(x, torch.ones(CONT))
    assert not torch.allclose(first, going_on)


@pytest.mark.parametrize("kind", KINDS)
def test_another_number_of_streams_resets_the_state(kind):
    module = layer(text(kind), X, CONT)
    module(torch.rand(X), STARTED)
    x = torch.rand(STEPS, 2, 2, 3)
    (y,) = module(x, torch.ones(STEPS, 2))
    (fresh,) = copied(kind, module, X, CONT)(x, torch.ones(STEPS, 2))
    assert torch.equal(y, fresh)


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_is_not_saved(kind):
    module = layer(text(kind), X, CONT)
    before = set(module.state_dict())
    module(torch.rand(X), STARTED)
    assert set(module.state_dict()) == before == {p.name for p in module.spec.params}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("static", [False, True])
def test_exposed_states_come_in_and_go_out(kind, static):
    module = exposed(kind, static)
    x, given = torch.rand(X), [torch.rand(STATE) for _ in range(KINDS[kind])]
    s = [torch.rand(STATIC)][:static]
    y, *states = module(x, torch.ones(CONT), *s, *given)
    wanted = slow(kind, module, x, torch.ones(CONT), *(s or [None]), (given * 2)[:2])
    assert torch.allclose(y, wanted, atol=1e-6)
    assert all(state.shape == STATE for state in states)
    again, *_ = module(x, torch.ones(CONT), *s, *states)
    starts = torch.ones(2 * STEPS, STREAMS)
    both = slow(kind, module, torch.cat([x, x]), starts, *(s or [None]), (given * 2)[:2])
    assert torch.allclose(torch.cat([y, again]), both, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_no_diff_passes_through_exposed_states(kind):
    given = [torch.rand(STATE, requires_grad=True) for _ in range(KINDS[kind])]
    y, *states = exposed(kind)(torch.rand(X), torch.ones(CONT), *given)
    assert not any(state.requires_grad for state in states)
    y.sum().backward()
    assert all(state.grad is None for state in given)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("static", [False, True])
def test_gradients(kind, static):
    shapes = [(3, 2, 2), (3, 2), (2, 2)][: 2 + static]
    module = layer(text(kind, 2 + static), *shapes)
    cont = torch.tensor([[0.0, 0], [1, 1], [1, 0]])
    bottoms = [torch.rand(shapes[0]), cont, torch.rand(2, 2)][: 2 + static]
    check_gradients(module, *bottoms, wrt=(0, 2)[: 1 + static])


def test_cont_never_gets_a_diff():
    net = net_of(f'force_backward: true layer {{ name: "op" {text("LSTM")} }}', X, CONT)
    (op,) = [spec for spec in net.spec.layers if spec.name == "op"]
    assert op.bottom_needs_backward == (True, False)


def test_multiply_adds():
    per_step = {"RNN": 5 * 6 + 5 * 5 + 5 * 5, "LSTM": 20 * 6 + 20 * 5}
    for kind, each in per_step.items():
        assert layer(text(kind), X, CONT).spec.multiply_adds == STEPS * STREAMS * each
    static = layer(text("RNN", 3), X, CONT, STATIC).spec.multiply_adds
    assert static == STREAMS * (STEPS * per_step["RNN"] + 5 * 4)


@pytest.mark.parametrize(
    ("snippet", "shapes", "message"),
    [
        (text("RNN").replace(f"num_output: {HIDDEN}", ""), (X, CONT), "num_output is missing"),
        (text("LSTM", 4), (X, CONT, STATIC, STATE), "4 bottom blobs; expected 2, or 3"),
        (text("LSTM", 3, 3, "expose_hidden: true"), (X, CONT, STATE), "expected 4, or 5"),
        (text("RNN", 2, 2), (X, CONT), "2 top blobs; expected 1"),
        (text("RNN"), (X, (STEPS, 2)), "cont of shape"),
        (text("RNN"), ((4,), (4,)), "x of shape"),
        (text("LSTM"), (X[:2], CONT), "x of shape"),
        (text("LSTM", 3), (X, CONT, (STREAMS,)), "static input"),
        (text("RNN", 3), (X, CONT, (2, 2)), "static input"),
        (text("RNN", 3, 2, "expose_hidden: true"), (X, CONT, (STREAMS, HIDDEN)), "hidden state"),
    ],
)
def test_what_it_refuses(snippet, shapes, message):
    with pytest.raises(LayerError, match=message):
        layer(snippet, *shapes)
