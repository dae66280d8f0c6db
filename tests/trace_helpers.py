"""Trace a function, run its graph in the interpreter, compare with plain NumPy."""

from __future__ import annotations

import warnings

import numpy as np

from graphc import interp
from graphc.ir.verify import verify
from graphc.trace.tracing import Traced, spec_of, trace
from graphc.trace.tree import flatten, leaf_paths, unflatten

TOLERANCE = {"float16": (4e-3, 4e-3), "float32": (5e-6, 2e-6)}


def trace_like(fn, *args, **options) -> Traced:
    """``fn`` traced for arguments of the types of ``args``."""
    specs = []
    for i, arg in enumerate(args):
        leaves, treedef = flatten(arg)
        paths = leaf_paths(arg, f"a{i}")
        specs.append(unflatten(treedef, [spec_of(x, p) for x, p in zip(leaves, paths)]))
    traced = trace(fn, tuple(specs), **options)
    verify(traced.graph)
    return traced


def run_traced(fn, *args):
    """What ``fn`` returns, computed by its graph."""
    traced = trace_like(fn, *args)
    arrays = [np.asarray(x) for x in flatten(args)[0]]
    values = interp.evaluate(traced.graph, arrays)
    values = [v.item() if weak else v for v, weak in zip(values, traced.out_weak)]
    return unflatten(traced.out_tree, values)


def assert_like_numpy(fn, args, dtype="float64") -> Traced:
    """The graph of ``fn`` gives NumPy's values, dtypes, shapes and structure."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        expected, structure = flatten(fn(*args))
    traced = trace_like(fn, *args)
    assert traced.out_tree == structure
    arrays = [np.asarray(x) for x in flatten(args)[0]]
    got = interp.evaluate(traced.graph, arrays)
    rtol, atol = TOLERANCE.get(str(dtype), (1e-12, 1e-12))
    for i, (value, want, weak) in enumerate(zip(got, expected, traced.out_weak, strict=True)):
        assert weak == (type(want) in (bool, int, float)), f"output {i} is a {type(want)}"
        want = np.asarray(want)
        assert value.dtype == want.dtype, f"output {i}: {value.dtype}, NumPy {want.dtype}"
        assert value.shape == want.shape, f"output {i}: {value.shape}, NumPy {want.shape}"
        np.testing.assert_allclose(value, want, rtol, atol, equal_nan=True, err_msg=f"output {i}")
    return traced
