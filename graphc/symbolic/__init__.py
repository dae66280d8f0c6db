"""SymPy in and out: expressions become traceable functions, programs become expressions.

SymPy is an extra (``pip install "graphc[symbolic]"``) and is loaded by the first use of a name of
this package: ``import graphc`` and compiled calls do without it.

>>> import sympy, graphc as gc
>>> x, y = sympy.symbols("x y")
>>> f = gc.symbolic.from_sympy(sympy.log(x) + x * y - sympy.sin(y))
>>> value, slopes = gc.value_and_grad(f, argnums=(0, 1))(2.0, 5.0)
>>> round(float(value), 3), [round(float(s), 3) for s in slopes]
(11.652, [5.5, 1.716])
>>> gc.symbolic.to_sympy(gc.grad(f), x, y)
y + 1/x
"""

from __future__ import annotations

from graphc.symbolic.operation import Elementwise, elementwise

_LAZY = {
    "from_sympy": "lower", "supported": "lower", "to_sympy": "export", "latex": "export",
    "value_and_jacobian": "system",
}  # fmt: skip

__all__ = [*_LAZY, "Elementwise", "elementwise"]


def __getattr__(name: str):
    import importlib

    if name not in _LAZY:
        raise AttributeError(f"module 'graphc.symbolic' has no attribute {name!r}")
    try:
        module = importlib.import_module(f"graphc.symbolic.{_LAZY[name]}")
    except ModuleNotFoundError as error:
        if error.name != "sympy":
            raise
        raise ImportError(f"graphc.symbolic.{name} needs SymPy: {INSTALL}") from None
    globals()[name] = value = getattr(module, name)
    return value


INSTALL = 'pip install "graphc[symbolic]"'


def __dir__():
    return sorted(__all__)
