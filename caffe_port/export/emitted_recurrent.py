"""Parts of emitted modules that go step by step: recurrent layers and the domain transform.

As in ``emitted``, the source text is copied into modules and is TorchScript too.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


def lstm_unit(cell: Tensor, gates: Tensor, cont: Tensor) -> tuple[Tensor, Tensor]:
    """One step of Caffe's LSTM: the cell and the output; where cont is 0 a sequence starts."""
    i, f, o, g = gates.chunk(4, -1)
    c = cont[..., None] * torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    return c, torch.sigmoid(o) * torch.tanh(c)


def first_state(kept: Tensor, x: Tensor, hidden: int) -> Tensor:
    """The state before the first step: what was kept for as many streams, else zeros."""
    if kept.numel() != x.shape[1] * hidden:
        return torch.zeros(x.shape[1], hidden, dtype=x.dtype, device=x.device)
    return kept.detach().to(x).reshape(x.shape[1], hidden)


class LSTM(nn.Module):
    """Caffe's LSTM over the first axis of x; a pass continues from the state of the last one."""

    h: Tensor
    c: Tensor

    def __init__(self, inputs: int, hidden: int, static: int = 0) -> None:
        super().__init__()
        self.hidden = hidden
        self.W_xc = nn.Parameter(torch.zeros(4 * hidden, inputs))
        self.b_c = nn.Parameter(torch.zeros(4 * hidden))
        self.W_xc_static = nn.Parameter(torch.zeros(4 * hidden, static)) if static > 0 else None
        self.W_hc = nn.Parameter(torch.zeros(4 * hidden, hidden))
        self.register_buffer("h", torch.zeros(0), persistent=False)
        self.register_buffer("c", torch.zeros(0), persistent=False)

    def forward(self, x: Tensor, cont: Tensor, static: Tensor | None = None) -> Tensor:
        y, self.h, self.c = self.run(x, cont, static, self.h, self.c)
        return y

    def run(
        self, x: Tensor, cont: Tensor, static: Tensor | None, h: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The outputs, and the state after the last step."""
        shares = F.linear(x.flatten(2), self.W_xc, self.b_c)
        weight = self.W_xc_static
        if weight is not None and static is not None:
            shares = shares + F.linear(static.flatten(1), weight)
        h, c = first_state(h, x, self.hidden), first_state(c, x, self.hidden)
        outputs: list[Tensor] = []
        for i in range(x.shape[0]):
            now = cont[i].detach()
            gates = F.linear(h * now[:, None], self.W_hc) + shares[i]
            c, h = lstm_unit(c, gates, now)
            outputs.append(h)
        return torch.stack(outputs), h.detach()[None], c.detach()[None]


class RNN(nn.Module):
    """Caffe's RNN over the first axis of x; a pass continues from the state of the last one."""

    h: Tensor

    def __init__(self, inputs: int, hidden: int, static: int = 0) -> None:
        super().__init__()
        self.hidden = hidden
        self.W_xh = nn.Parameter(torch.zeros(hidden, inputs))
        self.b_h = nn.Parameter(torch.zeros(hidden))
        self.W_xh_static = nn.Parameter(torch.zeros(hidden, static)) if static > 0 else None
        self.W_hh = nn.Parameter(torch.zeros(hidden, hidden))
        self.W_ho = nn.Parameter(torch.zeros(hidden, hidden))
        self.b_o = nn.Parameter(torch.zeros(hidden))
        self.register_buffer("h", torch.zeros(0), persistent=False)

    def forward(self, x: Tensor, cont: Tensor, static: Tensor | None = None) -> Tensor:
        y, self.h = self.run(x, cont, static, self.h)
        return y

    def run(
        self, x: Tensor, cont: Tensor, static: Tensor | None, h: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The outputs, and the state after the last step."""
        shares = F.linear(x.flatten(2), self.W_xh, self.b_h)
        weight = self.W_xh_static
        if weight is not None and static is not None:
            shares = shares + F.linear(static.flatten(1), weight)
        h = first_state(h, x, self.hidden)
        outputs: list[Tensor] = []
        for i in range(x.shape[0]):
            h = torch.tanh(F.linear(h * cont[i].detach()[:, None], self.W_hh) + shares[i])
            outputs.append(torch.tanh(F.linear(h, self.W_ho, self.b_o)))
        return torch.stack(outputs), h.detach()[None]


def sweep(x: Tensor, weight: Tensor, axis: int) -> Tensor:
    """Filters along an axis in both directions; each value is mixed with its neighbour's."""
    lines = list(x.unbind(axis))
    weights = weight.expand_as(x).unbind(axis)
    for i in range(1, len(lines)):
        lines[i] = lines[i] + weights[i] * (lines[i - 1] - lines[i])
    for i in range(len(lines) - 2, -1, -1):
        lines[i] = lines[i] + weights[i + 1] * (lines[i + 1] - lines[i])
    return torch.stack(lines, axis)


def domain_transform(
    x: Tensor, gradient: Tensor, sizes: Tensor, scales: list[float], ratio: float, least: float
) -> Tensor:
    """DeepLab's DomainTransform of each item's real area, an iteration per scale."""
    top = x.clone()
    for item in range(x.shape[0]):
        height, width = int(sizes[item].flatten()[0]), int(sizes[item].flatten()[1])
        assert 0 <= height <= x.shape[2]
        assert 0 <= width <= x.shape[3]
        if height * width > 0:
            inside = x[item, :, :height, :width]
            edges = gradient[item, :, :height, :width]
            for scale in scales:
                weight = (scale * (1 + edges * ratio)).exp().clamp(min=least).clamp(max=1)
                inside = sweep(sweep(inside, weight, 2), weight, 1)
            top[item, :, :height, :width] = inside
    return top
