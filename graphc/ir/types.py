"""The type of a value: a NumPy dtype and a shape of dimensions."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from graphc.ir.dims import Dim, DimLike, evaluate, parse, product

_SHORT = {
    "bool": "bool", "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64",
    "uint8": "u8", "uint16": "u16", "uint32": "u32", "uint64": "u64",
    "float16": "f16", "float32": "f32", "float64": "f64",
    "complex64": "c64", "complex128": "c128",
}  # fmt: skip
_LONG = {short: np.dtype(name) for name, short in _SHORT.items()}
# NumPy takes a microsecond to spell a dtype.
_NAMES = {np.dtype(name): name for name in _SHORT}


def dtype_name(dtype: np.dtype) -> str:
    """``float32``, and so on."""
    return _NAMES.get(dtype) or np.dtype(dtype).name


def short_dtype(dtype: np.dtype) -> str:
    """``f32`` for float32, and so on."""
    return _SHORT[dtype_name(dtype)]


def named_dtype(name: str) -> np.dtype | None:
    """The dtype called ``f32`` or ``float32``, None for others."""
    return np.dtype(name) if name in _SHORT else _LONG.get(name)


def dtype_names() -> list[str]:
    """The short names."""
    return list(_LONG)


def is_supported_dtype(dtype) -> bool:
    return dtype in _NAMES or np.dtype(dtype).name in _SHORT


@dataclass(frozen=True, slots=True)
class TensorType:
    """dtype + shape; prints as ``f32[n,10]``."""

    dtype: np.dtype
    shape: tuple[DimLike, ...]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> DimLike:
        return product(self.shape)

    @property
    def nbytes(self) -> DimLike:
        return self.size * self.dtype.itemsize

    @property
    def symbols(self) -> frozenset[str]:
        return frozenset().union(*(d.symbols for d in self.shape if isinstance(d, Dim)))

    def concrete_shape(self, env) -> tuple[int, ...]:
        return tuple([evaluate(d, env) for d in self.shape])

    def __str__(self) -> str:
        return f"{short_dtype(self.dtype)}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class TupleType:
    """Of an op with several results; only ``item`` nodes read such a value.

    It has the attributes of a tensor without elements, of a dtype that is no number, so that
    code that asks any node for them needs no case of its own.
    """

    items: tuple[TensorType, ...]

    dtype = np.dtype("V")
    shape = ()
    ndim = 0
    size = 0
    nbytes = 0

    @property
    def symbols(self) -> frozenset[str]:
        return frozenset().union(*(t.symbols for t in self.items))

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.items))})"


def tensor_type(dtype, shape=()) -> TensorType:
    return TensorType(np.dtype(dtype), tuple(shape))


def parse_type(text: str) -> TensorType | TupleType:
    """Inverse of ``str`` of a type."""
    if text.startswith("("):
        return TupleType(tuple(map(parse_type, re.findall(r"\w+\[[^\]]*\]", text))))
    short, _, rest = text.partition("[")
    dims = rest.rstrip("]")
    return TensorType(_LONG[short], tuple(parse(d) for d in dims.split(",")) if dims else ())
