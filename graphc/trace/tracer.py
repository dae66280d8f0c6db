"""The stand-in for an array while a function is traced.

It answers NumPy's protocols, the operators, indexing and the ndarray methods; what each of them
means is declared in the modules that fill ``dispatch``.
"""

from __future__ import annotations

import operator as _operator
import sys

import numpy as np

from graphc.errors import TraceAttributeError, TraceError
from graphc.ir.dims import Dim
from graphc.ir.node import Node
from graphc.ir.types import short_dtype
from graphc.trace import blame, dispatch, protocols
from graphc.trace.openshape import open_shape
from graphc.trace.source import is_user, located
from graphc.trace.storage import Storage, View, layout, read, write


def _unary(ufunc):
    def method(self):
        return protocols.operator(ufunc, self.context, (self,))

    return method


def _binary(ufunc, swapped=False):
    def method(self, other):
        if not isinstance(other, _OPERANDS):
            return NotImplemented
        operands = (other, self) if swapped else (self, other)
        return protocols.operator(ufunc, self.context, operands)

    return method


def _inplace(ufunc):
    def method(self, other):
        if not isinstance(other, _OPERANDS):
            return NotImplemented
        return protocols.inplace(ufunc, self.context, self, other)

    return method


def _method(function):
    def method(self, *args, **kwargs):
        return protocols.with_out(function, self.context, (self, *args), kwargs)

    method.__name__ = function.__name__
    return method


def _shape_arguments(args):
    return args[0] if len(args) == 1 and not isinstance(args[0], int) else args


class Tracer:
    """A traced array or number. ``node`` is its place in the graph; ``weak`` marks a Python
    number, which does not widen the dtype of what it meets."""

    __slots__ = ("__weakref__", "_node", "_seen", "_storage", "_view", "context", "weak")
    __array_priority__ = 1000
    __graphc_leaf__ = True

    def __init__(self, context, node: Node, weak: bool = False):
        self.context = context
        self.weak = weak
        self._storage = Storage(node)
        self._view: View | None = None
        self._node = node
        self._seen = 0

    # ------------------------------------------------------------------ what it stands for

    @property
    def node(self) -> Node:
        """The current node; in-place updates and views are taken into account."""
        self.check_alive()
        if self._seen != self._storage.version:
            with dispatch.Located():
                self._node = self.context.record(read(self._storage, self._view))
            self._seen = self._storage.version
        return self._node

    def check_alive(self) -> None:
        if not self.context.alive:
            blame.escaped(self)

    def view(self, dtype=None, type=None) -> Tracer:
        """ndarray.view: the same memory under another name."""
        if type is not None or (dtype is not None and np.dtype(dtype) != self.dtype):
            raise TraceError(
                located(
                    "traced arrays have no bytes to see as another dtype; write x.astype(dtype) "
                    "to convert the values"
                )
            )
        return self.seen_as(self.node, lambda parent: parent, lambda _, new: new, move=lambda a: a)

    def seen_as(self, node: Node, read_view, write_view, index=None, move=None) -> Tracer:
        """A tracer of ``node`` that shares memory with this one, as NumPy's views do."""
        tracer = Tracer(self.context, self.context.record(node))
        tracer._storage = self._storage
        tracer._view = View(self._view, read_view, write_view, index, move)
        tracer._seen = self._storage.version
        return tracer

    @property
    def is_view(self) -> bool:
        return self._view is not None

    def layout(self) -> np.ndarray | None:
        """How it lies in memory, as an array of NumPy's; None if that is not known."""
        return layout(self._storage, self._view)

    def assign(self, node: Node) -> None:
        """Replace the value in place; the arrays this one is a view of see it."""
        self.check_alive()
        with dispatch.Located():
            write(self._storage, self._view, self.context.record(node))
            self.context.record(self._storage.node)
        self._node = self.context.record(node)
        self._seen = self._storage.version

    def _shape(self) -> tuple:
        shape = self.node.shape
        is_open = any(type(d) is Dim for d in shape) and is_user(sys._getframe(1))
        return open_shape(shape) if is_open else shape

    shape = property(_shape, lambda self, _: blame.reshaped_in_place())
    dtype = property(lambda self: self.node.dtype)
    ndim = property(lambda self: self.node.ndim)
    size = property(lambda self: self.node.type.size)
    nbytes = property(lambda self: self.node.type.nbytes)
    itemsize = property(lambda self: self.node.dtype.itemsize)
    T = property(lambda self: self.transpose())
    mT = property(lambda self: self.swapaxes(-1, -2))
    real = property(_method(np.real), lambda self, value: self.real.__setitem__(..., value))
    imag = property(_method(np.imag), lambda self, value: self.imag.__setitem__(..., value))
    flat = property(lambda self: self.ravel(), lambda self, value: self._fill_flat(value))

    # ------------------------------------------------------------------ NumPy's protocols

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        return protocols.array_ufunc(ufunc, method, inputs, kwargs)

    def __array_function__(self, function, types, args, kwargs):
        return protocols.array_function(function, args, kwargs)

    def __array__(self, dtype=None, copy=None):
        return blame.to_array(self)

    # ------------------------------------------------------------------ operators

    __add__, __radd__ = _binary(np.add), _binary(np.add, True)
    __sub__, __rsub__ = _binary(np.subtract), _binary(np.subtract, True)
    __mul__, __rmul__ = _binary(np.multiply), _binary(np.multiply, True)
    __truediv__, __rtruediv__ = _binary(np.true_divide), _binary(np.true_divide, True)
    __floordiv__, __rfloordiv__ = _binary(np.floor_divide), _binary(np.floor_divide, True)
    __mod__, __rmod__ = _binary(np.remainder), _binary(np.remainder, True)
    __divmod__, __rdivmod__ = _binary(np.divmod), _binary(np.divmod, True)
    __pow__, __rpow__ = _binary(np.power), _binary(np.power, True)
    __matmul__, __rmatmul__ = _binary(np.matmul), _binary(np.matmul, True)
    __and__, __rand__ = _binary(np.bitwise_and), _binary(np.bitwise_and, True)
    __or__, __ror__ = _binary(np.bitwise_or), _binary(np.bitwise_or, True)
    __xor__, __rxor__ = _binary(np.bitwise_xor), _binary(np.bitwise_xor, True)
    __lt__, __le__ = _binary(np.less), _binary(np.less_equal)
    __gt__, __ge__ = _binary(np.greater), _binary(np.greater_equal)
    __eq__, __ne__ = _binary(np.equal), _binary(np.not_equal)  # type: ignore[assignment]
    __neg__, __pos__, __abs__ = _unary(np.negative), _unary(np.positive), _unary(np.absolute)
    __invert__ = _unary(np.invert)
    __iadd__, __isub__, __imul__ = _inplace(np.add), _inplace(np.subtract), _inplace(np.multiply)
    __itruediv__, __ifloordiv__ = _inplace(np.true_divide), _inplace(np.floor_divide)
    __imod__, __ipow__ = _inplace(np.remainder), _inplace(np.power)
    __imatmul__ = _inplace(np.matmul)
    __iand__, __ior__ = _inplace(np.bitwise_and), _inplace(np.bitwise_or)
    __ixor__ = _inplace(np.bitwise_xor)
    __lshift__, __rlshift__ = _binary(np.left_shift), _binary(np.left_shift, True)
    __rshift__, __rrshift__ = _binary(np.right_shift), _binary(np.right_shift, True)
    __ilshift__, __irshift__ = _inplace(np.left_shift), _inplace(np.right_shift)

    def __round__(self, digits=None):
        rounded = dispatch.call(np.round, self.context, (self, digits or 0), {})
        if digits is not None or self.ndim or self.dtype.kind != "f":
            return rounded
        return self.context.wrap(rounded.astype(np.int64).node, weak=True)  # a Python int

    # ------------------------------------------------------------------ indexing

    def __getitem__(self, index):
        return dispatch.call(_operator.getitem, self.context, (self, index), {})

    def __setitem__(self, index, value):
        dispatch.call(_operator.setitem, self.context, (self, index, value), {})

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of unsized object")
        return self.shape[0].__index__()

    def __iter__(self):
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return iter([self[i] for i in range(len(self))])

    def __contains__(self, item):
        return blame.to_bool((self == item).any())

    # ------------------------------------------------------------------ methods

    sum, prod, mean = _method(np.sum), _method(np.prod), _method(np.mean)
    max, min, ptp = _method(np.max), _method(np.min), _method(np.ptp)
    var, std = _method(np.var), _method(np.std)
    all, any = _method(np.all), _method(np.any)
    argmax, argmin = _method(np.argmax), _method(np.argmin)
    clip, round, dot = _method(np.clip), _method(np.round), _method(np.dot)
    cumsum, cumprod = _method(np.cumsum), _method(np.cumprod)
    take, repeat, squeeze = _method(np.take), _method(np.repeat), _method(np.squeeze)
    swapaxes, ravel = _method(np.swapaxes), _method(np.ravel)
    trace, diagonal = _method(np.trace), _method(np.diagonal)
    copy = __copy__ = _method(np.copy)
    nonzero = _method(np.nonzero)
    argsort, searchsorted = _method(np.argsort), _method(np.searchsorted)
    choose, argpartition = _method(np.choose), _method(np.argpartition)

    def compress(self, condition, axis=None):
        return dispatch.call(np.compress, self.context, (condition, self, axis), {})

    def conj(self):
        conjugate = dispatch.call(np.conjugate, self.context, (self,), {})
        return conjugate if self.dtype.kind == "c" else self

    conjugate = conj

    def sort(self, axis=-1, kind=None, order=None, *, stable=None):
        self[...] = dispatch.call(np.sort, self.context, (self, axis), {})

    def partition(self, kth, axis=-1, kind="introselect", order=None):
        self.sort(axis)

    def put(self, indices, values, mode="raise"):
        dispatch.call(np.put, self.context, (self, indices, values), {"mode": mode})

    def __deepcopy__(self, memo):
        return self.copy()

    def flatten(self, order="C"):
        return self.ravel(order).copy()

    def reshape(self, *shape, **kwargs):
        arguments = (self, _shape_arguments(shape)) if shape else (self,)
        return dispatch.call(np.reshape, self.context, arguments, kwargs)

    def transpose(self, *axes):
        axes = _shape_arguments(axes) if axes else None
        return dispatch.call(np.transpose, self.context, (self, axes), {})

    def astype(self, dtype, order="K", casting="unsafe", subok=True, copy=True):
        if not np.can_cast(self.dtype, dtype, casting):
            raise TypeError(f"cannot cast {self.dtype} to {np.dtype(dtype)} under {casting!r}")
        if not copy and np.dtype(dtype) == self.dtype:
            return self
        return dispatch.call(np.astype, self.context, (self, dtype), {})

    def fill(self, value):
        self[...] = value

    def _fill_flat(self, value):
        self[...] = np.resize(self.context.lift(value), self.shape)

    def item(self, *index):
        """A Python number, so weak; it stays traced, and has a gradient."""
        if not index:
            if self.size != 1:
                raise ValueError("can only convert an array of size 1 to a Python scalar")
            found = self.reshape(())
        elif len(index) == 1 and not isinstance(index[0], tuple):
            found = self.ravel()[index[0]]
        else:
            found = self[index[0] if isinstance(index[0], tuple) else index]
        wide = {"f": np.float64, "i": np.int64, "c": np.complex128}.get(self.dtype.kind, self.dtype)
        return self.context.wrap(found.astype(wide).node, weak=True)

    def tolist(self):
        return [part.tolist() for part in self] if self.ndim else self.item()

    # ------------------------------------------------------------------ what cannot be traced

    def __hash__(self):  # as ndarray, whose == is elementwise
        return blame.unhashable(self)

    def __bool__(self):
        return blame.to_bool(self)

    def __float__(self):
        return float(blame.to_number(self, "float()"))

    def __int__(self):
        return int(blame.to_number(self, "int()"))

    def __complex__(self):
        return complex(blame.to_number(self, "complex()"))

    def __index__(self):
        return blame.to_index(self)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        self.check_alive()
        if name in _NDARRAY:
            raise TraceAttributeError(blame.no_attribute(name, _SUPPORTED))
        told = blame.foreign_attribute(name)
        if told is not None:
            raise TraceAttributeError(told)
        raise AttributeError(f"'Tracer' object (a traced array) has no attribute {name!r}")

    def __repr__(self) -> str:
        node, where = self._node, f"of `{self.context.name}`"
        if node.op in ("input", "placeholder"):
            where = f"{node.attr('name')} {where}"
        elif source := self.context.sources.get(node):
            where = f"{where}, made at {source}"
        shape = ",".join(map(str, node.shape))
        return f"<traced {short_dtype(node.dtype)}[{shape}] {where}>"

    def __str__(self) -> str:
        return f"{self!r} (its values: gc.debug_print)"

    def __format__(self, spec) -> str:
        return str(self)

    def __reduce__(self):
        raise TraceError(located("a traced value cannot be pickled"))


_OPERANDS = (Tracer, Dim, bool, int, float, complex, np.generic, np.ndarray, list, tuple)
_NDARRAY = frozenset(n for n in dir(np.ndarray) if not n.startswith("__"))
_SUPPORTED = sorted(n for n in dir(Tracer) if n in _NDARRAY)
