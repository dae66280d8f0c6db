"""``elementwise``: an operation from a formula, with SymPy's derivative."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from graphc.ad.custom import custom_vjp
from graphc.errors import DTypeError, SymbolicError
from graphc.ir import build
from graphc.symbolic.formula import names_in, natural, parse
from graphc.trace.elementwise import fit_all
from graphc.trace.source import located
from graphc.trace.tracing import Tracer, current_trace


def elementwise(
    name: str,
    formula: Any,
    derivative: str | Sequence[str] | None = None,
    *,
    args: Sequence[str] | None = None,
    doc: str = "",
) -> Elementwise:
    """An operation on every element, from its formula; SymPy derives the derivative.

    Parameters
    ----------
    formula : text in Python's arithmetic with the names of NumPy's functions (``where``,
        ``maximum``, ``tanh``, ``sigmoid``, ...) or SymPy's, or a SymPy expression. It is parsed,
        never evaluated as Python.
    derivative : a formula in the same arguments, or one for each argument, instead of SymPy's.
    args : the arguments in order; without it the formula's names, sorted.

    The operation takes arrays, which broadcast, and traced values; integers become float64. It
    differentiates to any order, since each derivative is such an operation, and its code is
    emitted in place: it fuses, is vectorised, and the kernel cache sees its formula. Logistic
    functions are recognised, so neither value nor derivative overflows where they do not.
    A second operation of the same name leaves the first as it is. SymPy is loaded at the first
    use. Raises errors.SymbolicError for what the formula language does not have.

    >>> import numpy as np, graphc as gc
    >>> swish = gc.elementwise("swish", "x/(1+exp(-x))")
    >>> swish
    <elementwise swish(x) = x/(1+exp(-x))>
    >>> swish.derivatives
    ('(x*sigmoid(-x) + 1)*sigmoid(x)',)
    >>> gc.elementwise_grad(swish)(np.array([-1000.0, 0.0, 1000.0]))
    array([-0. ,  0.5,  1. ])
    """
    return Elementwise(name, formula, derivative, args, doc)


class Elementwise:
    """Made by :func:`elementwise`: ``formula``, ``args`` and ``derivatives`` are its texts."""

    def __init__(self, name, formula, derivative=None, args=None, doc=""):
        self.formula = formula if isinstance(formula, str) else str(formula)
        found = names_in(formula) if isinstance(formula, str) else _symbols(formula)
        self.args = tuple(args) if args is not None else found
        missing = [n for n in found if n not in self.args]
        if missing or not self.args:
            what = f"{', '.join(missing)} is not in args" if missing else "it has no argument"
            raise SymbolicError(f"elementwise {name!r}: {what}: {self.formula}")
        self._expression = None if isinstance(formula, str) else formula
        self._given = self._checked(name, derivative)
        self.__name__ = self.__qualname__ = name
        self.__doc__ = doc or f"{name}({', '.join(self.args)}) = {self.formula}"
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        self.__signature__ = inspect.Signature([inspect.Parameter(n, kind) for n in self.args])
        self._marked = custom_vjp(self._value, self._backward)
        functools.update_wrapper(self._marked, self)

    def _checked(self, name: str, derivative) -> tuple[str, ...] | None:
        if derivative is None:
            return None
        texts = (derivative,) if isinstance(derivative, str) else tuple(derivative)
        if len(texts) != len(self.args):
            raise SymbolicError(
                f"elementwise {name!r} has the arguments {', '.join(self.args)}, and "
                f"{len(texts)} derivatives; give one formula for each"
            )
        unknown = sorted({n for t in texts for n in names_in(t)} - set(self.args))
        if unknown:
            raise SymbolicError(f"elementwise {name!r}: its derivative has {', '.join(unknown)}")
        return texts

    @functools.cached_property
    def expression(self):
        """The formula as a SymPy expression in real symbols of its arguments."""
        with _sympy(self.__name__):
            import sympy

            symbols = {n: sympy.Symbol(n, real=True) for n in self.args}
            if self._expression is None:
                return parse(self.formula, symbols)
            return self._expression.xreplace(
                {s: symbols[str(s)] for s in self._expression.free_symbols}
            )

    @functools.cached_property
    def _symbols(self) -> list:
        import sympy

        return [sympy.Symbol(n, real=True) for n in self.args]

    @functools.cached_property
    def _stable(self):
        from graphc.symbolic.stable import stable

        return stable(self.expression)

    @functools.cached_property
    def _function(self) -> Callable:
        with _sympy(self.__name__):
            from graphc.symbolic.lower import from_sympy

            return from_sympy(self._stable, self._symbols, self.__name__)

    @functools.cached_property
    def gradient(self) -> tuple[Elementwise, ...]:
        """The derivative by each argument: operations as well."""
        from graphc.symbolic.stable import derivative, shorter

        found = []
        for k, (name, symbol) in enumerate(zip(self.args, self._symbols, strict=True)):
            if self._given is not None:
                slope = self._given[k]
            else:
                slope = shorter(derivative(self._stable, symbol))
            found.append(Elementwise(f"d{self.__name__}_d{name}", slope, args=self.args))
        return tuple(found)

    @property
    def derivatives(self) -> tuple[str, ...]:
        """The formula of the derivative by each argument."""
        return tuple(g.formula for g in self.gradient)

    def __call__(self, *values):
        if len(values) != len(self.args):
            raise TypeError(
                f"{self.__name__} takes {len(self.args)} arguments ({', '.join(self.args)}), "
                f"{len(values)} given"
            )
        context = current_trace(*values)
        if context is None:
            return self._on_arrays(values)
        nodes = fit_all(context, self.__name__, *values)
        nodes = [build.cast(n, self._float(n.dtype)) for n in nodes]
        weak = all(not isinstance(v, Tracer) or v.weak for v in values)
        return self._marked(*(context.wrap(n, weak) for n in nodes))

    def _on_arrays(self, values):
        import numpy as np

        dtype = self._float(np.result_type(*values))
        arrays = np.broadcast_arrays(*(np.asarray(v, dtype) for v in values))
        return self._function(*(a[()] for a in arrays))

    def _float(self, dtype):
        """The dtype that arguments of ``dtype`` are computed in."""
        if dtype.kind == "c":
            raise DTypeError(
                located(f"{self.__name__} takes real values, not {dtype}: {self.formula}")
            )
        return dtype if dtype.kind == "f" else "float64"

    def _value(self, *values):
        return self._function(*values)

    def _backward(self, ct, result, *values):
        found: list = []
        for slope in self.gradient:
            number = slope.constant
            if number is None:
                found.append(ct * slope(*values))
            else:
                found.append(None if number == 0 else ct if number == 1 else ct * number)
        return tuple(found)

    @property
    def constant(self) -> float | None:
        """The value, where the formula has no argument in it."""
        return float(self.expression) if self.expression.is_number else None

    def __repr__(self) -> str:
        return f"<elementwise {self.__name__}({', '.join(self.args)}) = {self.formula}>"


def _symbols(expression) -> tuple[str, ...]:
    free = getattr(expression, "free_symbols", None)
    if free is None:
        raise SymbolicError(
            f"elementwise takes a formula as text or a SymPy expression, not {expression!r}"
        )
    return tuple(sorted(map(str, free), key=natural))


class _sympy:
    """Turns a missing SymPy into what to do about it."""

    def __init__(self, name: str):
        self.name = name

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if isinstance(error, ModuleNotFoundError) and error.name == "sympy":
            raise ImportError(
                f"elementwise {self.name!r} needs SymPy for its formula: "
                'pip install "graphc[symbolic]"'
            ) from None
