"""trace(): inputs, names, statics, outputs, sources, constants, contexts."""
# ruff: noqa: E501 (tables of expressions)

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from trace_helpers import assert_like_numpy, run_traced, trace_like

from graphc.errors import TraceError
from graphc.ir import build
from graphc.ir.types import tensor_type
from graphc.trace.tracing import ArgSpec, active_trace, current_trace, spec_of, trace, wrap

F32 = ArgSpec(tensor_type(np.float32, (3,)))


def test_inputs_are_named_by_the_functions_own_parameters():
    @dataclasses.dataclass
    class Params:
        w: object
        b: object

    def loss(params, x, *rest, scale, flag=True):
        return params["a"].w + x + rest[0] + rest[1]["k"] + scale

    tree = {"a": Params(F32, F32), "b": [F32]}
    traced = trace(loss, (tree, F32, F32, {"k": F32}), {"scale": ArgSpec(tensor_type("f8"), True)})
    names = ("params['a'].w", "params['a'].b", "params['b'][0]", "x", "rest[0]", "rest[1]['k']")
    assert traced.in_paths == (*names, "scale")
    assert [i.attr("name") for i in traced.graph.inputs] == [*names, "scale"]
    assert [i.attr("index") for i in traced.graph.inputs] == list(range(7))
    assert traced.graph.name == "loss"


def test_static_values_reach_the_function_as_they_are():
    seen = {}

    def fn(x, mode, options, axes):
        seen.update(mode=mode, options=options, axes=axes)
        return x.sum(axis=axes) * options["scale"] if mode == "sum" else x

    options = {"scale": 3, "names": ["a", None]}
    traced = trace(fn, (F32, "sum", options, (0,)))
    assert seen == {"mode": "sum", "options": options, "axes": (0,)}
    assert seen["options"] is options
    assert traced.in_paths == ("x",)


def test_static_by_name_or_position_is_not_opened():
    spec = {"k": F32}
    assert trace(
        lambda x, cfg: x if cfg is spec else None, (F32, spec), static=("cfg",)
    ).in_paths == ("x",)
    assert trace(lambda x, cfg: x if cfg is spec else None, (F32, spec), static=(1,)).in_paths == (
        "x",
    )


def test_outputs_keep_their_structure_and_weakness():
    def fn(x, s):
        return {"a": (x, None), "b": [s * 2, 5, np.float32(1), np.arange(2), True]}

    traced = trace_like(fn, np.ones(3), 2.0)
    assert traced.out_weak == (False, True, True, False, False, True)
    result = run_traced(fn, np.ones(3), 2.0)
    assert result["b"][:2] == [4.0, 5] and result["b"][4] is True and result["a"][1] is None
    assert result["b"][3].dtype == np.int64


def test_every_computed_node_has_the_line_that_wrote_it():
    def fn(x):
        y = np.exp(x)
        z = y.mean(
            axis=0,
        )
        return np.linalg.norm(z) + np.einsum("i,i->", z, z)

    first = fn.__code__.co_firstlineno
    graph = trace_like(fn, np.ones((2, 3))).graph
    computed = [n for n in graph.order if n.op not in ("input", "const")]
    assert all(n in graph.sources for n in computed)
    lines = {n.op: graph.sources[n].line - first for n in computed}
    assert lines["exp"] == 1 and lines["div"] in (2, 3) and lines["sqrt"] == 5
    source = graph.sources[computed[0]]
    assert source.file == __file__ and source.function == "fn"


def test_the_same_computation_is_one_node():
    def fn(x):
        table = np.arange(3.0)
        return x * table + 1, x * np.arange(3.0) + 1

    first, second = trace_like(fn, np.ones(3)).graph.outputs
    assert first is second


def test_a_large_constant_is_kept_once():
    big = np.random.default_rng(0).normal(size=(50, 50))
    graph = trace_like(lambda x: x @ big + x.T @ big.T.T + big, np.ones((50, 50))).graph
    constants = [n for n in graph.order if n.op == "const" and n.ndim]
    assert len(constants) == 1


def test_numbers_known_while_tracing_may_steer_python():
    def fn(x):
        limit = np.zeros_like(x)
        return x * 2 if (limit + 1 > 0).all() and float(limit.sum()) == 0 else x

    assert_like_numpy(fn, (np.ones(3),))


def test_shapes_are_plain_numbers():
    def fn(x):
        rows, columns = x.shape
        return x.reshape(columns, rows) * len(x), np.zeros(rows) + x.ndim, range(columns)[1] * x

    assert_like_numpy(fn, (np.ones((2, 3)),))


def test_deep_graphs_do_not_recurse():
    def fn(x):
        for _ in range(3000):
            x = np.sin(x[:]) + 1
        return x

    assert len(trace(fn, (F32,)).graph.order) > 6000


def test_a_dropped_result_leaves_no_node():
    def fn(x):
        np.exp(x)
        return x + 1

    assert "exp" not in {n.op for n in trace(fn, (F32,)).graph.order}


def test_the_trace_of_values_and_the_running_one():
    seen = {}

    def fn(x, params):
        seen["context"] = current_trace(3, x)
        assert (
            current_trace({"a": [x]}) is current_trace(params) is seen["context"] is active_trace()
        )
        assert current_trace(1.0, [np.ones(2)], None) is None
        level = seen["context"].new_level()
        assert seen["context"].new_level() == level + 1
        placeholder = build.placeholder(level, 0, x.node.type)
        assert (wrap(seen["context"], placeholder) * 2).node.inputs[0] is placeholder
        lifted = seen["context"].lift(2.0)
        assert lifted.weak and not seen["context"].lift(np.float64(2)).weak
        return wrap(seen["context"], build.elementwise("exp", x.node))

    graph = trace(fn, (F32, {"w": F32})).graph
    assert graph.outputs[0] in graph.sources
    assert active_trace() is None


def test_specs_of_leaves():
    assert str(spec_of(np.ones((2, 3), np.float32), "x").type) == "f32[2,3]"
    assert spec_of(2.0, "x") == ArgSpec(tensor_type(np.float64), True)
    assert spec_of(2, "x") == ArgSpec(tensor_type(np.int64), True)
    assert spec_of(True, "x") == ArgSpec(tensor_type(bool), True)
    assert spec_of(np.float64(2), "x") == ArgSpec(tensor_type(np.float64), False)
    assert spec_of(np.ones(2, ">f8"), "x").type.dtype == np.dtype("float64")


def test_a_traced_function_calls_others_and_recurses():
    def power(x, n):
        return x if n == 1 else x * power(x, n - 1)

    assert_like_numpy(lambda x: np.asarray([1.0]) * power(x, 4), (np.ones(3),))
    assert_like_numpy(
        lambda x: np.apply_along_axis if x is None else list(map(np.sin, x)), (np.ones(2),)
    )


def test_the_callers_exception_is_untouched():
    def fn(x):
        return x + undefined_name  # noqa: F821

    with pytest.raises(NameError, match="undefined_name"):
        trace(fn, (F32,))
    with pytest.raises(ZeroDivisionError):
        trace(lambda x: x * (1 // 0), (F32,))
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        trace(lambda x, y: x, (F32,))


def test_an_unfit_name_becomes_a_plain_one():
    assert trace(lambda x: x, (F32,)).graph.name == "function"
    assert trace(lambda x: x, (F32,), name="loss").graph.name == "loss"


def test_spec_refuses_objects_by_path():
    with pytest.raises(TraceError, match=r"`params\['mode'\]` is a str(.|\n)*in static_argnames"):
        spec_of("relu", "params['mode']")
    with pytest.raises(TraceError, match=r"`x` has dtype object"):
        spec_of(np.array([None, 1]), "x")
    with pytest.raises(TraceError, match=r"`x` has dtype <U1"):
        spec_of(np.array(["a"]), "x")


def test_importing_the_tracer_imports_no_compiler_and_no_optree():
    code = (
        "import sys, json, graphc.numpy, graphc.trace.tracing;"
        "print(json.dumps([m for m in ('numba', 'optree', 'sympy', 'llvmlite', 'numpy.random') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_random_numbers_are_noticed_even_if_the_trace_imports_them():
    code = (
        "import sys, numpy as np; from graphc.trace.tracing import *;"
        "assert 'numpy.random' not in sys.modules;"
        "f = lambda x: x + np.random.normal(size=3);"
        "trace(lambda x: x, (spec_of(np.ones(3), 'x'),)); trace(f, (spec_of(np.ones(3), 'x'),))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "np.random was used inside `function`" in done.stderr


def test_seeding_alone_and_python_random():
    import random

    random.random()
    trace(lambda x: x, (F32,))
    with pytest.raises(TraceError, match="random was used inside"):
        trace(lambda x: x * random.random(), (F32,))


def test_types_carry_the_dtype_object_of_plain_arrays():
    """A native call tells dtypes by identity; what newbyteorder makes is equal, not identical."""
    plain = np.dtype(np.float64)
    for dtype in (plain, plain.newbyteorder(">"), plain.newbyteorder("=")):
        assert spec_of(np.zeros(3, dtype), "x").type.dtype is plain
