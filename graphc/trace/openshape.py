"""The shape of a traced array some of whose sizes are not known yet."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.ir.dims import Dim, product


class OpenShape(tuple):
    """A tuple that NumPy's functions take as the vector of sizes that it is.

    Of a plain tuple they would make an array, for which each size must be known.
    """

    __slots__ = ()

    def __getitem__(self, index):
        found = tuple.__getitem__(self, index)
        return OpenShape(found) if isinstance(index, slice) else found

    def __array_function__(self, function, types, args, kwargs) -> Any:
        from graphc.trace import protocols

        if function is np.prod and len(args) == 1 and not kwargs:
            return _number(product(self))
        return protocols.array_function(function, args, kwargs)

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs) -> Any:
        from graphc.trace import protocols

        if ufunc is np.multiply and method == "reduce" and len(inputs) == 1 and not kwargs:
            return _number(product(self))
        return protocols.array_ufunc(ufunc, method, inputs, kwargs)


def _number(size) -> Any:
    """An int64 of NumPy's: traced, where a size is open."""
    from graphc.ir import build
    from graphc.trace.context import active_trace

    context = active_trace()
    if context is None or not isinstance(size, Dim):
        return np.int64(size.__index__())
    return context.wrap(build.size(size, np.int64))


def open_shape(shape: tuple) -> tuple:
    """``shape``, as an :class:`OpenShape` if a size is open."""
    return OpenShape(shape) if any(isinstance(d, Dim) for d in shape) else shape
