"""Every error a user can meet. Messages teach the fix and stay within eight lines."""

from __future__ import annotations

import difflib
import pickle


class GraphcError(Exception):
    """Base of all graphc errors."""


class TraceError(GraphcError, TypeError):
    """The traced function did something that a static graph cannot hold."""


class ShapeError(GraphcError, ValueError):
    """Shapes that do not fit together."""


class DTypeError(GraphcError, TypeError):
    """A dtype that the operation does not take."""


class IndexingError(GraphcError, IndexError):
    """An index that does not fit the shape it is used on."""


class EscapedTracerError(TraceError):
    """A traced value was used outside the trace that made it."""


class TraceAttributeError(TraceError, AttributeError):
    """An ndarray method or attribute that traced values do not have."""


class GradientError(GraphcError, TypeError):
    """A gradient was asked for where there is none."""


class GradientMismatchError(GraphcError, AssertionError):
    """check_grads found a derivative that does not fit its function."""


class UnknownNameError(GraphcError, ValueError):
    """An unknown option, stage, optimizer, dtype or device name."""


class FunctionPicklingError(GraphcError, pickle.PicklingError):
    """A compiled function that other processes would not find by its name."""


class DataError(GraphcError, ValueError):
    """Training data that cannot be used as it is."""


class OptionError(GraphcError, ValueError):
    """An option outside its range, of an optimizer or of training."""


class NonFiniteError(GraphcError, FloatingPointError):
    """A checked function returned NaN or infinity; says where it first appeared.

    ``op`` and ``index`` say which operation and element, ``source`` the user's line (its
    ``direction`` is not empty where the operation belongs to a derivative).
    """

    op: str = ""
    source = None
    index: tuple[int, ...] | None = None


class SymbolicError(GraphcError, ValueError):
    """A formula or expression that has no translation, or a program that is no expression."""


class VerifyError(GraphcError):
    """An internal graph is malformed: a bug in graphc, never the user's fault."""


class CompileLimitError(GraphcError, RuntimeError):
    """A function would compile more often, or take more paths, than it may."""


class TapeError(GraphcError, MemoryError):
    """The gradient of a loop keeps more than the memory budget."""


class SymbolicDimError(GraphcError):
    """A symbolic dimension was used where a plain integer is needed.

    The tracing driver catches it and specialises on the concrete size.
    """


class CacheWarning(UserWarning):
    """The kernel cache cannot be used or an entry was rebuilt."""


class TrainingWarning(UserWarning):
    """Training ended before its last epoch, or did not where somebody seems to have wanted that."""


class CompileWarning(UserWarning):
    """Something compiles more often than it should."""


def unknown_name(kind: str, name: object, available) -> UnknownNameError:
    """The error for a name that is not in a fixed set."""
    names = sorted(available)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.7)
    meant = f"; did you mean {close[0]!r}?" if close else ""
    return UnknownNameError(f"unknown {kind} {name!r}; available: {', '.join(names)}{meant}")


def no_attribute(module: str, name: str, hint: str) -> AttributeError:
    """For a module's ``__getattr__``: plain for what Python itself looks for."""
    hint = "" if name.startswith("_") else f"; {hint}"
    return AttributeError(f"module {module!r} has no attribute {name!r}{hint}")


__all__ = [name for name, value in globals().items() if isinstance(value, type)]


def __dir__() -> list[str]:
    return __all__
