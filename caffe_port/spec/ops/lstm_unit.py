"""LSTMUnit: one step of an LSTM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe_port.spec.ops._base import Op, Shape, expect, register_op


@register_op
@dataclass(frozen=True)
class LSTMUnit(Op):
    """Options of LSTMUnit: none. Source: BVLC/caffe lstm_unit_layer.cpp."""

    type = "LSTMUnit"
    bottoms = (3, 3)
    tops = (2, 2)
    fixed_bottoms = frozenset({2})

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        cell, gates, cont = bottoms
        expect(
            len(cell) == 3 and cell[0] == 1,
            f"a cell of shape {cell}; expected (1, streams, hidden)",
        )
        wanted = (1, cell[1], 4 * cell[2])
        expect(gates == wanted, f"gates of shape {gates}; expected {wanted}")
        expect(cont == cell[:2], f"cont of shape {cont}; expected {cell[:2]}")
        return [cell, cell]
