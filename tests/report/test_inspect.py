"""gc.inspect: every stage as text."""

import numpy as np
import pytest

import graphc as gc
from graphc.errors import OptionError, TraceError, UnknownNameError
from graphc.ir.parser import parse
from graphc.report import Report


def loss(params, x, y):
    return np.mean((np.tanh(x @ params["w"]) - y) ** 2)


ARGS = ({"w": np.ones((3, 2))}, np.ones((4, 3)), np.ones((4, 2)))


@pytest.fixture(scope="module")
def report():
    return gc.inspect(loss, *ARGS)


def test_stages_of_a_function(report):
    assert report.stages == ("traced", "adjoint", "optimized", "fused", "loops", "llvm")
    assert "tanh(" in report.traced and "test_inspect.py:" in report.traced
    assert "value_and_grad" in report.adjoint and report.adjoint.count("matmul(") > 1
    assert report.ir == report.optimized == report.stage("optimized")
    assert "def main(" in report.loops
    assert "define void @graphc_main" in report.llvm


def test_graph_stages_parse_back(report):
    for stage in ("traced", "adjoint", "optimized"):
        assert parse(report.stage(stage)).inputs[0].attr("name") == "params['w']"


def inspect_apart():
    """Of a function that is two kernels."""
    return gc.inspect(lambda x: np.exp(x) / np.sum(np.exp(x), axis=0), np.ones((4, 3)))


def test_kernels_and_reasons(report):
    assert len(report.kernels) == 1
    assert "computes matmul, tanh" in report.kernels[0] and not report.why_not_fused
    reasons = [r for r in inspect_apart().why_not_fused if "must finish first" in r]
    assert reasons and all("  # test_inspect.py:" in r for r in reasons)  # the lines of both


def test_summary(report):
    text = str(report)
    assert "graphc report of `loss`" in text and "1 kernel" in text
    assert "not fused: " not in text
    assert "not fused: " in str(inspect_apart())
    assert repr(report).startswith("<graphc report of loss")


def test_stages_are_made_once_and_only_when_asked(report):
    assert report.stage("traced") is report.stage("traced")
    fresh = gc.inspect(loss, *ARGS)
    assert fresh._texts == {}


def test_derivatives():
    report = gc.inspect(gc.grad(loss), *ARGS)
    assert report.traced.startswith("graph loss(") and report.adjoint.startswith("graph grad_loss(")
    assert report.optimized.startswith("graph grad_loss(")


def test_function_without_gradient():
    report = gc.inspect(lambda x: x + 1, np.ones(3))
    assert "adjoint   none: output 0 of" in str(report)


def test_training_step():
    trainer = gc.Trainer(loss, gc.optim.adam())
    report = gc.inspect(trainer, *ARGS)
    assert report.traced.startswith("graph loss(")
    assert "sqrt(" in report.optimized and "sqrt(" not in report.adjoint
    assert "loss training step" in str(report)


def test_unknown_stage(report):
    with pytest.raises(UnknownNameError, match="unknown stage 'asm'; available: adjoint, fused"):
        report.stage("asm")


def test_a_trainer_is_inspected_as_it_is_given_data():
    def mse(w, x, y):
        return np.mean((x @ w - y) ** 2)

    trainer, batch = gc.Trainer(mse, gc.optim.sgd(0.1)), (np.ones((4, 2)), np.ones(4))
    together, apart = (gc.inspect(trainer, np.ones(2), *data) for data in ((batch,), batch))
    assert together.optimized == apart.optimized
    with pytest.raises(OptionError, match=r"not the class(.|\n)*gc.Trainer\(loss, gc.optim"):
        gc.inspect(gc.Trainer, np.ones(2), batch)
    with pytest.raises(TraceError, match="not the class `Report`: pass an object"):
        gc.inspect(Report, np.ones(2))
