"""Transforms that users call: derivatives and vmap.

Each returns a :class:`graphc.compiled.CompiledFunction`, which compiles once for each kind of
arguments, and traces inline inside another traced function: so they nest in any order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from graphc.ad import jacobian as jacobians
from graphc.ad import transforms
from graphc.ad.directions import without_direction
from graphc.ad.run import check_argnums
from graphc.ad.sparsity import scipy_sparse
from graphc.ad.transforms import Argnums
from graphc.ad.vmap import vmap as batching_vmap
from graphc.compiled import CompiledFunction, with_own_options
from graphc.errors import GradientError
from graphc.functions import identifier_of, name_of
from graphc.pickling import Recipe, reduced
from graphc.trace.tracing import active_trace
from graphc.trace.tree import map_instances

_NAMED = ("argnums", "has_aux")


def grad(fn: Callable, argnums: Argnums = 0, has_aux: bool = False, **options):
    """The compiled gradient of a scalar function with respect to ``argnums``.

    >>> import numpy as np, graphc as gc
    >>> gc.grad(lambda x: np.sum(x ** 3))(np.array([1.0, 2.0]))
    array([ 3., 12.])
    """
    return _derivative(transforms.grad, "grad", fn, argnums, has_aux, options)


def value_and_grad(fn: Callable, argnums: Argnums = 0, has_aux: bool = False, **options):
    """The compiled function that returns ``(value, gradient)``, sharing their work.

    With ``has_aux`` the function returns ``(value, aux)`` and the result is
    ``((value, aux), gradient)``.

    >>> import numpy as np, graphc as gc
    >>> value, slope = gc.value_and_grad(lambda x: np.sin(x))(0.0)
    >>> float(value), float(slope)
    (0.0, 1.0)
    """
    return _derivative(transforms.value_and_grad, "value_and_grad", fn, argnums, has_aux, options)


def jvp(fn: Callable, argnums: Argnums = 0, has_aux: bool = False, **options) -> CompiledFunction:
    """Forward mode: ``jvp(f)(x, v)`` is ``(f(x), the change of f at x along v)``.

    The tangent ``v`` stands behind the arguments of ``f`` (those with a default are given by
    keyword) and is a tree like argument ``argnums``, or a tuple of such trees. ``f`` may return
    any tree of arrays; with ``has_aux`` a pair, and the result is ``(value, change, aux)``.
    It costs about as much as ``f`` itself, whatever the sizes.

    >>> import numpy as np, graphc as gc
    >>> value, change = gc.jvp(lambda x: x ** 2)(np.array([1.0, 2.0]), np.array([1.0, 0.5]))
    >>> value, change
    (array([1., 4.]), array([2., 2.]))
    """
    return _directional(transforms.jvp, "tangent", fn, argnums, has_aux, options)


def vjp(fn: Callable, argnums: Argnums = 0, has_aux: bool = False, **options) -> CompiledFunction:
    """Reverse mode: ``vjp(f)(x, ct)`` is ``(f(x), the gradient of sum(f(x) * ct))``.

    The cotangent ``ct`` stands behind the arguments of ``f`` (those with a default are given by
    keyword) and is a tree like what ``f`` returns. With ``has_aux`` the function returns a pair,
    and the result is ``(value, gradient, aux)``.

    >>> import numpy as np, graphc as gc
    >>> gc.vjp(lambda x: x ** 2)(np.array([1.0, 2.0]), np.array([1.0, 0.5]))[1]
    array([2., 2.])
    """
    return _directional(transforms.vjp, "cotangent", fn, argnums, has_aux, options)


def hvp(fn: Callable, argnums: Argnums = 0, has_aux: bool = False, **options) -> CompiledFunction:
    """``hvp(f)(x, v)``: the second derivatives of a scalar function times ``v``.

    The gradient differentiated in forward mode: a few times the cost of ``f``, and the matrix of
    second derivatives is never made. ``v`` stands behind the arguments of ``f`` and is a tree
    like argument ``argnums``, as is the result.

    >>> import numpy as np, graphc as gc
    >>> gc.hvp(lambda x: np.sum(x ** 3))(np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    array([ 6., 12.])
    """
    return _directional(transforms.hvp, "vector", fn, argnums, has_aux, options)


def elementwise_grad(fn: Callable, argnums: int = 0, **options) -> CompiledFunction:
    """The derivative of a function that acts on each element alone, at every element.

    Where elements do interact, it is the gradient of the sum of the results.

    >>> import numpy as np, graphc as gc
    >>> gc.elementwise_grad(lambda x: x ** 2)(np.array([1.0, 2.0, 3.0]))
    array([2., 4., 6.])
    """
    argnums = check_argnums(argnums, "gc.elementwise_grad(f)(x)")
    recipe = Recipe(elementwise_grad, fn, (argnums,), options)
    fn, options = with_own_options(fn, options, "static_argnames", "dims", named=("argnums",))
    name = f"elementwise_grad_{identifier_of(fn)}"
    return CompiledFunction(
        transforms.elementwise_grad(fn, argnums), name=name, primal=fn, recipe=recipe, **options
    )


def jacobian(
    fn: Callable, argnums: Argnums = 0, has_aux: bool = False, sparse: bool = False,
    holomorphic: bool = False, parts: bool = False, **options,
):  # fmt: skip
    """The compiled function that returns the derivative of each result by each argument.

    For a result of shape ``s`` and an argument of shape ``r`` it has the shape ``(*s, *r)``. Of
    trees it is a tree like the result with trees like argument ``argnums`` (or a tuple of them)
    at its leaves. With ``has_aux`` ``fn`` returns a pair, and the result is ``(jacobian, aux)``.

    Forward mode (:func:`jacfwd`), but reverse mode (:func:`jacrev`) where there are fewer results
    than arguments. All basis vectors go through the graph at once, as indices for as long as an
    element depends on few of them: no identity matrix is made or multiplied with.

    >>> import numpy as np, graphc as gc
    >>> gc.jacobian(lambda x: x[1:] * x[:-1])(np.array([1.0, 2.0, 3.0]))
    array([[2., 1., 0.],
           [0., 3., 2.]])

    With ``sparse`` each matrix is a ``scipy.sparse.csr_array``, with a row for each element of the
    result and a column for each of the argument. Which entries can be other than zero is read
    from the graph; columns (or rows) that never meet are computed as one. Such a function is
    called with arrays only, not inside other traced functions. See :class:`SparseJacobian`.

    Of real results by complex arguments it has rows like :func:`grad`, ``df/dx + i df/dy``; of
    complex results by real arguments it is complex. Complex results by complex arguments need
    ``holomorphic=True``, your word that ``fn`` has a complex derivative, which is returned, or
    ``parts=True``: derivatives of real and imaginary parts by real and imaginary parts, real
    arrays with an axis of 2 before the axes of each complex result and argument.
    """
    if sparse:
        return SparseJacobian(fn, argnums, has_aux, options)
    made = functools.partial(jacobians.jacobian, holomorphic=holomorphic, parts=parts)
    return _derivative(made, "jacobian", fn, argnums, has_aux, options)


class SparseJacobian:
    """What ``jacobian(fn, sparse=True)`` returns: a function whose results are CSR matrices.

    ``sweeps`` is the number of directions that the last call differentiated along, that of the
    block which took most: 3 for a tridiagonal matrix of any size.

    >>> import numpy as np, graphc as gc
    >>> slopes = gc.jacobian(lambda x: np.diff(x) ** 2, sparse=True)
    >>> slopes(np.array([1.0, 2.0, 4.0])).toarray()
    array([[-2.,  2.,  0.],
           [ 0., -4.,  4.]])
    >>> slopes.sweeps
    2
    """

    def __init__(self, fn: Callable, argnums: Argnums, has_aux: bool, options: dict):
        self._sparse = scipy_sparse()
        self.entries = _derivative(
            jacobians.sparse_jacobian, "sparse_jacobian", fn, argnums, has_aux, options
        )
        self.has_aux, self.sweeps = has_aux, 0
        self.recipe = Recipe(SparseJacobian, fn, (argnums, has_aux, options))

    def __reduce__(self):
        return reduced(self, self.recipe)

    def __call__(self, *args, **kwargs):
        if active_trace() is not None:
            raise GradientError(
                f"a sparse Jacobian of `{name_of(self.entries.primal)}` is a SciPy matrix, which "
                "traced code cannot hold.\nCall it outside, or use jacobian without sparse=True, "
                "or jvp and vjp."
            )
        found = self.entries(*args, **kwargs)
        blocks, aux = found if self.has_aux else (found, None)
        self.sweeps = 0
        matrices = map_instances(self._matrix, jacobians.Entries, blocks)
        return (matrices, aux) if self.has_aux else matrices

    def _matrix(self, entries: jacobians.Entries):
        self.sweeps = max(self.sweeps, int(entries.sweeps))
        parts = (entries.data, entries.indices, entries.indptr)
        return self._sparse.csr_array(parts, shape=entries.shape)


def jacfwd(
    fn: Callable, argnums: Argnums = 0, has_aux: bool = False, holomorphic: bool = False,
    parts: bool = False, **options,
):  # fmt: skip
    """:func:`jacobian` in forward mode: a column for each element of the arguments.

    >>> import numpy as np, graphc as gc
    >>> gc.jacfwd(lambda x: np.array([[2.0, 1.0]]) @ x)(np.array([1.0, 2.0]))
    array([[2., 1.]])
    """
    made = functools.partial(jacobians.jacfwd, holomorphic=holomorphic, parts=parts)
    return _derivative(made, "jacfwd", fn, argnums, has_aux, options)


def jacrev(
    fn: Callable, argnums: Argnums = 0, has_aux: bool = False, holomorphic: bool = False,
    parts: bool = False, **options,
):  # fmt: skip
    """:func:`jacobian` in reverse mode: a row for each element of the result.

    >>> import numpy as np, graphc as gc
    >>> gc.jacrev(lambda x: {"total": np.sum(x ** 2)})(np.array([1.0, 2.0]))
    {'total': array([2., 4.])}
    """
    made = functools.partial(jacobians.jacrev, holomorphic=holomorphic, parts=parts)
    return _derivative(made, "jacrev", fn, argnums, has_aux, options)


def hessian(
    fn: Callable, argnums: Argnums = 0, has_aux: bool = False, holomorphic: bool = False,
    **options,
):  # fmt: skip
    """The compiled function that returns all second derivatives: forward over reverse mode.

    For an argument of shape ``r`` of a scalar function it has the shape ``(*r, *r)``; of a tree it
    is a tree of trees. :func:`hvp` multiplies with it without making it.

    >>> import numpy as np, graphc as gc
    >>> gc.hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])

    By a complex argument x + iy it is the real matrix of second derivatives by x and y, of shape
    ``(2, *r, 2, *r)``; for :func:`grad` it is ``np.stack([g.real, g.imag])``. With
    ``holomorphic=True`` it is ``f''``, of a complex result that has one.
    """
    made = functools.partial(jacobians.hessian, holomorphic=holomorphic)
    return _derivative(made, "hessian", fn, argnums, has_aux, options)


def vmap(fn: Callable, in_axes: Any = 0, out_axes: Any = 0, **options) -> CompiledFunction:
    """The compiled function that calls ``fn`` on each example of a batch, without a loop.

    Parameters
    ----------
    in_axes : the batch axis of the arguments: one int for all, or one entry an argument, each an
        int, None (the same for all examples) or a tree of these like the front of the argument.
        Keyword arguments have the batch as axis 0.
    out_axes : where the batch goes in the results: an int, or a tree of these like the front of
        what ``fn`` returns. None is for results that do not depend on the example.

    The graph of one example is rewritten for a batch (a matrix that all examples share meets
    one large product), so it nests with every other transform in any order. Raises
    graphc.errors.ShapeError where batch sizes differ or an axis is not there.

    >>> import numpy as np, graphc as gc
    >>> gc.vmap(np.dot, in_axes=(0, None))(np.eye(3), np.array([1.0, 2.0, 3.0]))
    array([1., 2., 3.])
    """
    recipe = Recipe(vmap, fn, (in_axes, out_axes), options)
    fn, options = with_own_options(
        fn, options, "static_argnames", "dims", named=("in_axes", "out_axes")
    )
    mapped = batching_vmap(fn, in_axes, out_axes)
    return CompiledFunction(mapped, name=f"vmap_{identifier_of(fn)}", recipe=recipe, **options)


def _directional(transform, direction, fn, argnums, has_aux, options) -> CompiledFunction:
    argnums = check_argnums(argnums, f"gc.{transform.__name__}(f)(x, {direction})")
    recipe = Recipe(_remade, fn, (_directional, (transform, direction), argnums, has_aux), options)
    fn, options = with_own_options(fn, options, "static_argnames", "dims", named=_NAMED)
    name = f"{transform.__name__}_{identifier_of(fn)}"
    primal = without_direction(fn, direction)
    return CompiledFunction(
        transform(fn, argnums, has_aux), name=name, primal=primal, recipe=recipe, **options
    )


def _derivative(transform, label, fn, argnums, has_aux, options) -> CompiledFunction:
    argnums = check_argnums(argnums, f"gc.{label}(f)(x)")
    recipe = Recipe(_remade, fn, (_derivative, (transform, label), argnums, has_aux), options)
    fn, options = with_own_options(fn, options, "static_argnames", "dims", named=_NAMED)
    derivative = transform(fn, argnums, has_aux)
    derivative.argnums = argnums  # for those who show the derivative
    name = f"{label}_{identifier_of(fn)}"
    return CompiledFunction(derivative, name=name, primal=fn, recipe=recipe, **options)


def _remade(fn, maker, what, argnums, has_aux, **options) -> CompiledFunction:
    """As :func:`_directional` or :func:`_derivative` made it, in another process."""
    return maker(*what, fn, argnums, has_aux, options)
