"""The recipe from graph to executable, and the texts of its stages."""

from __future__ import annotations

import numpy as np
import pytest
from generated import assert_same
from random_graphs import random_graph

import graphc as gc
from graphc import api, interp, passes, pipeline
from graphc.ir.parser import parse
from graphc.ir.verify import verify
from graphc.runtime.artifact import Artifact, from_bytes
from graphc.schedule import schedule


def loss(w, x, y):
    return np.mean((np.tanh(x @ w) - y) ** 2)


ARGS = np.ones((3, 2)), np.ones((5, 3)), np.zeros((5, 2))


def test_every_stage_has_a_text():
    texts = api.stages(loss, *ARGS)
    assert tuple(texts) == pipeline.STAGES
    assert "graph loss(" in texts["traced"]() and "tanh" in texts["traced"]()
    assert "matmul" in texts["adjoint"]() and texts["adjoint"]() != texts["traced"]()
    assert "graph" in texts["optimized"]()
    assert texts["fused"]().splitlines()[0] == "1 kernel, 1 temporary"
    assert "def main(args, arena, ints):" in texts["loops"]()
    assert "define void @graphc_main" in texts["llvm"]()


def test_graph_stages_parse_back_to_sound_graphs():
    texts = api.stages(gc.value_and_grad(loss), *ARGS)
    for stage in ("traced", "adjoint", "optimized"):
        verify(parse(texts[stage]()))
    again = api.stages(gc.value_and_grad(loss), *ARGS)
    for stage in pipeline.STAGES:
        assert texts[stage]() == again[stage](), stage


def test_an_artifact_travels_as_bytes():
    graph = api.compile(lambda x, i: np.exp(x[i]) @ np.arange(12.0).reshape(3, 4)).graph(
        np.ones((5, 3)), np.array([0, 1])
    )
    artifact = pipeline.compile_graph(graph)
    back = from_bytes(artifact.to_bytes("name"), "name")
    for field in Artifact.__dataclass_fields__:
        if field == "consts":
            for a, b in zip(artifact.consts, back.consts, strict=True):
                np.testing.assert_array_equal(a, b)
        else:
            assert getattr(back, field) == getattr(artifact, field), field
    data = artifact.to_bytes("name")
    for damaged in (data[:-1], data + b"x", data[:100] + b"?" + data[101:], b"", b"graphc"):
        with pytest.raises(ValueError):
            from_bytes(damaged, "name")
    with pytest.raises(ValueError, match="checksum"):
        from_bytes(data, "another name")


def test_facts_count_what_was_made():
    graph = api.compile(loss).graph(*ARGS)
    artifact = pipeline.compile_graph(graph)
    made = schedule(passes.optimize(graph))
    assert artifact.facts["kernels"] == len(made.kernels)
    assert artifact.facts["products"] == 1
    assert artifact.compile_seconds > 0


def test_results_repeat_bit_by_bit():
    graph, arrays = random_graph(11)
    first = pipeline.build(graph)(arrays)
    for _ in range(2):
        for a, b in zip(pipeline.build(graph)(arrays), first, strict=True):
            assert a.tobytes() == b.tobytes()
    assert_same(first, interp.evaluate(graph, arrays))


def test_large_constants_are_abbreviated_for_people_alone():
    table = np.arange(5000.0)
    texts = api.stages(gc.compile(lambda x: np.sum(x * table)), np.ones(5000))
    for stage in ("traced", "adjoint", "optimized", "fused", "loops"):
        assert len(texts[stage]()) < 4000, stage
    assert "f64[5000] 0.0 1.0 2.0 ... 4999.0" in texts["traced"]()
    with pytest.raises(gc.errors.GraphcError, match="is abbreviated"):
        parse(texts["traced"]())
