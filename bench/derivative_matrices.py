"""Runners for a dense matrix of derivatives of a function of one vector, one call each (W10)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bench.calls import CallRunner, call_reference
from bench.core import Case, Params, Runner, Tolerance


def read(matrix) -> tuple[float, Params]:
    matrix = np.asarray(matrix)
    return float(np.abs(matrix).sum()), {"matrix": matrix}


def case(
    kind: str, make: Callable, points: Sequence[np.ndarray], by_hand: Callable, numba: Callable
):
    """``kind`` is "hessian" or "jacobian"; ``by_hand(x)`` is the truth, in NumPy; ``numba()``
    makes the same as compiled loops, ``call(x, out)``."""
    args = [(x,) for x in points]
    peers = {
        "graphc-step": lambda: _graphc(kind, make, args),
        "numpy": lambda: CallRunner(by_hand, args, read),
        "autograd": lambda: _autograd(kind, make, args),
        "jax-step": lambda: _jax(kind, make, args),
        "torch": lambda: _torch(kind, make, points),
        "casadi": lambda: _casadi(kind, make, points, dense=True),
        "casadi-sparse": lambda: _casadi(kind, make, points, dense=False),
        "numba": lambda: _numba(numba, points),
    }
    reference = call_reference([read(by_hand(x)) for x in points])
    return Case(reference, Tolerance(loss=1e-12, params=1e-10), peers)


def _graphc(kind, make, args) -> Runner:
    import graphc as gc

    derivative = gc.hessian if kind == "hessian" else gc.jacobian
    return CallRunner(derivative(make(np)), args, read)


def _autograd(kind, make, args) -> Runner:
    import autograd
    import autograd.numpy as anp

    derivative = autograd.hessian if kind == "hessian" else autograd.jacobian
    return CallRunner(derivative(make(anp)), args, read)


def _jax(kind, make, args) -> Runner:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_cpu_enable_async_dispatch", False)  # as in jax_peer.py

    def double():
        return jax.enable_x64(True)

    with double():
        points = [(jnp.asarray(x),) for (x,) in args]
    derivative = jax.hessian if kind == "hessian" else jax.jacfwd
    return CallRunner(jax.jit(derivative(make(jnp))), points, read, jax.block_until_ready, double)


def _torch(kind, make, points) -> Runner:
    import torch

    torch.set_num_threads(1)
    derivative = torch.func.hessian if kind == "hessian" else torch.func.jacfwd
    args = [(torch.from_numpy(x),) for x in points]
    return CallRunner(derivative(make(torch)), args, read)


def _casadi(kind, make, points, dense: bool) -> Runner:
    """Through its buffer interface: arguments and results stay in their place."""
    import casadi

    x = casadi.SX.sym("x", len(points[0]))
    value = make(casadi)(x)
    # Its matrices are stored by columns: the transposed one is NumPy's.
    matrix = casadi.hessian(value, x)[0] if kind == "hessian" else casadi.jacobian(value, x).T
    result = casadi.densify(matrix) if dense else matrix
    function = casadi.Function("f", [x], [result])
    columns, rows = result.shape

    def bind(point):
        out = np.zeros((rows, columns) if dense else result.nnz())
        buffers, evaluate = function.buffer()
        buffers.set_arg(0, memoryview(point))
        buffers.set_res(0, memoryview(out))

        def call():
            evaluate()
            return out

        call.kept = buffers
        return (call,)

    def read_sparse(entries):
        full = casadi.DM(result.sparsity(), np.array(entries))
        return read(np.array(casadi.densify(full)).T)

    bound = [bind(x) for x in points]
    return CallRunner(lambda call: call(), bound, read if dense else read_sparse)


def _numba(make, points) -> Runner:
    """Loops by hand into memory that is made once: the floor."""
    function, shape = make()
    args = [(x, np.zeros(shape)) for x in points]

    def call(x, out):
        function(x, out)
        return out

    return CallRunner(call, args, read)
