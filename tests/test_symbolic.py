"""Torch's shape expressions as sympy's, and numbers put into symbolic tables."""

from __future__ import annotations

import pytest
import sympy
import torch
from torch import nn
from torch.utils._sympy import functions as theirs

from costmodel.errors import CostModelError
from costmodel.expressions import convert
from costmodel.ir import symbol
from costmodel.substitution import substitute, symbols_of
from costmodel.symbolic import Session, constructing, trace
from costmodel.table import CostTable, cost

a, b = sympy.Symbol("s0", integer=True), sympy.Symbol("s1", integer=True)
NAMES = {a: symbol("A"), b: symbol("B")}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (theirs.FloorDiv(a, b), 17 // 5),
        (theirs.PythonMod(a, b), 17 % 5),
        (theirs.Mod(a, b), 17 % 5),
        (theirs.CeilDiv(a, b), 4),
        (theirs.ModularIndexing(a, 2, 3), 17 // 2 % 3),
        (theirs.Max(a, b), 17),
        (theirs.Min(a, b), 5),
        (theirs.PowByNatural(b, sympy.Integer(3)), 125),
        (theirs.FloorDiv(a - 1, 2) + 1, 9),
    ],
    ids=str,
)
def test_functions_of_shapes(expression: sympy.Expr, value: int) -> None:
    ours = convert(expression, NAMES)
    assert ours.free_symbols <= set(NAMES.values())
    assert not any("torch" in type(node).__module__ for node in sympy.preorder_traversal(ours))
    assert ours.xreplace({symbol("A"): sympy.Integer(17), symbol("B"): sympy.Integer(5)}) == value


def test_a_number_becomes_an_int() -> None:
    assert type(convert(sympy.Integer(7), {})) is int


def table() -> CostTable:
    session = Session({"N": 3, "H": 20, "C": 6})
    with session.active(), constructing():
        module = nn.Conv2d(session.integers["C"], 8, 3, stride=2, padding=1)
    i = session.integers
    return cost(trace(session, module, [((i["N"], i["C"], i["H"], 24), "float32")]))


def test_put_numbers_into_a_table() -> None:
    symbolic = table()
    assert symbols_of(symbolic) == {"N", "H", "C"}
    # 2 samples, 4x12 positions, 8 outputs of 9 taps in 5 channels.
    at = symbolic.at(N=2, H=7, C=5)
    assert at.total.macs == 2 * 4 * 12 * 8 * 45
    assert type(at.total.macs) is int
    assert at.rows[0].op.out.shape == (2, 8, 4, 12)
    assert at.total.params == 8 * 45 + 8
    assert symbols_of(at) == set()


def test_put_some_numbers_into_a_table() -> None:
    partly = table().at(C=5, H=7)
    assert symbols_of(partly) == {"N"}
    assert partly.total.macs == symbol("N") * 4 * 12 * 8 * 45


def test_unknown_symbols_and_fractions_are_refused() -> None:
    with pytest.raises(CostModelError, match="no symbol Q in this table; it has C, H, N"):
        table().at(Q=3)
    halved = table()
    spec = halved.info.inputs[0]
    from dataclasses import replace

    halved = replace(
        halved, info=replace(halved.info, inputs=(replace(spec, shape=(symbol("N") / 2,)),))
    )
    with pytest.raises(CostModelError, match="N/2 is 3/2 there, which is not a count"):
        substitute(halved, {"N": 3})


def test_the_model_and_torch_are_left_as_they_were() -> None:
    module = nn.Linear(4, 4)
    weight, init = module.weight, nn.init.kaiming_uniform_
    session = Session({"N": 5})
    with constructing():
        assert nn.init.kaiming_uniform_ is not init
    assert nn.init.kaiming_uniform_ is init
    trace(session, module, [((session.integers["N"], 4), "float32")])
    assert module.weight is weight
    assert type(weight) is nn.Parameter


def test_a_size_that_the_code_forces_is_noticed() -> None:
    class Only224(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.shape[0] == 224
            return x.relu()

    session = Session({"N": 224})
    trace(session, Only224(), [((session.integers["N"], 4), "float32")])
    assert session.specialised() == {"N": 224}


def test_a_trace_that_takes_too_long_ends() -> None:
    session = Session({"N": 5}, limit_s=-1.0)
    with pytest.raises(TimeoutError):
        trace(session, nn.Linear(4, 4), [((session.integers["N"], 4), "float32")])
