"""``ufunc.reduce``, ``.accumulate``, ``.reduceat`` and ``.at`` of every ufunc of two operands."""

from __future__ import annotations

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from graphc.errors import DTypeError, IndexingError, ShapeError, TraceError
from graphc.trace import blame
from graphc.trace.dispatch import call, public_name
from graphc.trace.dtypes import resolve
from graphc.trace.indexing import add_at
from graphc.trace.indices import data_dependent
from graphc.trace.reductions import axes_of, given, logaddexp_reduce
from graphc.trace.tracer import Tracer

# Their reductions and running values have rows of the table, or formulas of their own.
_REDUCTIONS = {
    np.add: np.sum,
    np.multiply: np.prod,
    np.maximum: np.max,
    np.minimum: np.min,
    np.logical_and: np.all,
    np.logical_or: np.any,
    np.logaddexp: logaddexp_reduce,
}
_ACCUMULATIONS = {np.add: np.cumsum, np.multiply: np.cumprod}
# Of these the order of operands does not matter: log2(n) operations on whole arrays.
_IN_ANY_ORDER = frozenset({
    np.maximum, np.minimum, np.fmax, np.fmin, np.logaddexp, np.logaddexp2, np.hypot, np.logical_and,
    np.logical_or, np.logical_xor, np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.gcd, np.lcm,
})  # fmt: skip
_OF_TRUTH = frozenset({np.logical_and, np.logical_or, np.logical_xor})


def reduce(ufunc, context, array, axis=0, dtype=None, keepdims=False, initial=None, where=None):
    options = {"keepdims": keepdims, "initial": initial, "where": where}
    options = {k: v for k, v in options.items() if given(v)}
    if ufunc in (np.logical_and, np.logical_or):
        _operand(ufunc, context, array, dtype)
        options.pop("initial", None)
        found = call(_REDUCTIONS[ufunc], context, (array, axis), options)
        return ufunc(found, bool(initial)) if given(initial) else found
    if ufunc in _REDUCTIONS:
        if given(dtype) and ufunc in (np.add, np.multiply):
            options["dtype"] = dtype
        elif given(dtype):
            array = context.lift(array).astype(dtype)
        return call(_REDUCTIONS[ufunc], context, (array, axis), options)
    x = _operand(ufunc, context, array, dtype)
    chosen = None
    if given(where) and where is not True:
        if ufunc.identity is not None and ufunc in _IN_ANY_ORDER:
            x = np.where(where, x, np.asarray(ufunc.identity).astype(x.dtype))
        elif not given(initial):
            raise TraceError(f"{public_name(ufunc)}.reduce with where= needs initial=")
        else:
            chosen = np.broadcast_to(context.lift(where).astype(bool), x.shape)
    axes = axes_of(axis, x.ndim)
    if len(axes) > 1 and ufunc not in _IN_ANY_ORDER:
        raise ShapeError(f"{public_name(ufunc)}.reduce is over one axis: its order counts")
    rest = [i for i in range(x.ndim) if i not in axes]
    count = int(np.prod([x.shape[i].__index__() for i in axes], dtype=int))
    shape = (count, *(x.shape[i] for i in rest))
    x = np.transpose(x, [*axes, *rest]).reshape(shape)
    if chosen is not None:
        chosen = np.transpose(chosen, [*axes, *rest]).reshape(shape)
    start = initial if given(initial) else ufunc.identity if count < 2 else None
    if start is not None:
        first = np.broadcast_to(context.lift(start).astype(x.dtype), (1, *x.shape[1:]))
        x = np.concatenate([first, x])
    if not x.shape[0]:
        raise ShapeError(f"{public_name(ufunc)}.reduce of no elements, without initial=")
    if chosen is None:
        result = _folded(ufunc, x)
    else:
        result = x[0]
        for i in range(count):
            result = np.where(chosen[i], ufunc(result, x[i + 1]), result)
    if given(keepdims) and keepdims:
        result = np.expand_dims(result, axes)
    return result


def _operand(ufunc, context, array, dtype):
    """The array in the dtype that all steps have."""
    x = context.lift(array)
    if ufunc in _OF_TRUTH:
        if given(dtype) and np.dtype(dtype) != bool:
            raise DTypeError(f"{public_name(ufunc)} of dtype {np.dtype(dtype)}: it gives bool")
        return x.astype(bool)
    start = np.dtype(dtype) if given(dtype) else x.dtype
    kind, _, result = resolve(ufunc, (start, start))
    if given(dtype) and kind != start:
        raise DTypeError(f"{public_name(ufunc)} has no loop for dtype {start}")
    if kind != result:
        raise DTypeError(f"{public_name(ufunc)} of {kind} values is {result}: it cannot go on")
    return x.astype(kind)


def _folded(ufunc, x):
    """All of the first axis combined into one."""
    if ufunc not in _IN_ANY_ORDER:
        result = x[0]
        for i in range(1, x.shape[0]):
            result = ufunc(result, x[i])
        return result
    while x.shape[0] > 1:
        half = x.shape[0] // 2
        joint = ufunc(x[:half], x[half : 2 * half])
        x = np.concatenate([joint, x[2 * half :]]) if x.shape[0] % 2 else joint
    return x[0]


def _one_axis(axis, ndim: int) -> int:
    if isinstance(axis, tuple) and len(axis) == 1:
        axis = axis[0]
    return 0 if axis is None and ndim == 1 else normalize_axis_index(axis, ndim)


def accumulate(ufunc, context, array, axis=0, dtype=None):
    if ufunc in _ACCUMULATIONS:
        options = {"dtype": dtype} if given(dtype) else {}
        return call(_ACCUMULATIONS[ufunc], context, (array, axis), options)
    x = _operand(ufunc, context, array, dtype)
    axis = _one_axis(axis, x.ndim)
    x = np.moveaxis(x, axis, 0)
    count = x.shape[0].__index__()
    if ufunc in _IN_ANY_ORDER:
        reach = 1
        while reach < count:
            x = np.concatenate([x[:reach], ufunc(x[:-reach], x[reach:])])
            reach *= 2
    elif count:
        steps = [x[0]]
        for i in range(1, count):
            steps.append(ufunc(steps[-1], x[i]))
        x = np.stack(steps)
    return np.moveaxis(x, 0, axis)


def reduceat(ufunc, context, array, indices, axis=0, dtype=None):
    x = context.lift(array)
    at = blame.constant_value(context.lift(indices).node)
    if at is None:
        raise TraceError(
            f"{public_name(ufunc)}.reduceat: the indices must be known while tracing.\n"
            "Pass them as a static argument, or sum by np.add.at(gc.numpy.zeros(n), segment, x)."
        )
    axis = _one_axis(axis, x.ndim)
    x = np.moveaxis(x, axis, 0)
    outside = at[(at < 0) | (at >= x.shape[0].__index__())]
    if outside.size:
        raise IndexingError(
            f"{public_name(ufunc)}.reduceat: index {outside[0]} is out of bounds: the axis has "
            f"size {x.shape[0]}"
        )
    ends = [*at[1:].tolist(), x.shape[0].__index__()]
    x = x if ufunc in _REDUCTIONS else _operand(ufunc, context, x, dtype)
    parts = [x[i : max(end, i + 1)] for i, end in zip(at.tolist(), ends, strict=True)]
    if ufunc in _REDUCTIONS:
        pieces = [reduce(ufunc, context, part, dtype=dtype) for part in parts]
    else:
        pieces = [_folded(ufunc, part) for part in parts]
    return np.moveaxis(np.stack(pieces), 0, axis)


def at(ufunc, context, array, index, *values) -> None:
    """``ufunc.at(x, index, values)``: of equal indices one after the other."""
    if isinstance(index, Tracer) and index.dtype == bool and isinstance(array, Tracer):
        if any(context.lift(v).ndim > array.ndim - index.ndim for v in values):
            raise data_dependent(f"{public_name(ufunc)}.at of a mask with a value an element")
        chosen = index.reshape((*index.shape, *(1,) * (array.ndim - index.ndim)))
        array[...] = np.where(chosen, ufunc(array, *values), array)  # no element twice
        return
    value = context.lift(values[0]) if values else None
    same = value is not None and np.can_cast(value.dtype, array.dtype, "same_kind")
    if ufunc in (np.add, np.subtract) and (same or not isinstance(array, Tracer)):
        if ufunc is np.subtract:
            value = np.negative(value.astype(int) if value.dtype == bool else value)
        add_at(context, array, index, value)
        return
    if not isinstance(array, Tracer):
        raise TraceError(
            f"{public_name(ufunc)}.at on a plain NumPy array cannot hold traced values; create it "
            "with graphc.numpy.zeros"
        )
    places = _places(ufunc, context, array.shape, index)
    values = [np.broadcast_to(context.lift(v), places.shape).reshape(-1) for v in values]
    places = places.ravel()
    turns = _turns(places)
    flat = array.reshape(-1).copy()
    for turn in range(turns.max(initial=-1) + 1):
        now = np.flatnonzero(turns == turn)
        flat[places[now]] = ufunc(flat[places[now]], *(v[now] for v in values))
    array[...] = flat.reshape(array.shape)


def _places(ufunc, context, shape, index) -> np.ndarray:
    """Row-major positions that a constant index names."""
    items = index if isinstance(index, tuple) else (index,)
    constant = []
    for item in items:
        if isinstance(item, Tracer):
            item = blame.constant_value(item.node)
            if item is None:
                raise TraceError(
                    f"{public_name(ufunc)}.at with an index that is not known while tracing is not "
                    "supported.\nWrite a loop: gc.fori_loop(0, n, step, x), whose step assigns "
                    "x[i[k]] = ...; np.add.at works."
                )
        constant.append(item)
    sizes = [d.__index__() for d in shape]
    return np.arange(int(np.prod(sizes))).reshape(sizes)[tuple(constant)]


def _turns(places: np.ndarray) -> np.ndarray:
    """How many earlier places are the same, for each."""
    order = np.argsort(places, kind="stable")
    sorted_places = places[order]
    starts = np.searchsorted(sorted_places, sorted_places)
    turns = np.empty(len(places), int)
    turns[order] = np.arange(len(places)) - starts
    return turns
