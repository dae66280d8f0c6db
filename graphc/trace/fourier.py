"""``np.fft``: transforms of one or several axes, and the shifts of their results.

All is composed of one row, ``dft``, and of real arithmetic on parts (``ir/parts.py``): a real
transform of even length is a complex one of half the length, and where the length has a large
prime factor the transform is a convolution (Bluestein 1970).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from graphc.errors import ShapeError
from graphc.ir import build, fourier
from graphc.ir.build import elementwise as op
from graphc.ir.dims import product
from graphc.ir.node import Node
from graphc.ir.parts import Parts, is_complex, join, multiply, parts_of
from graphc.trace.dispatch import implements
from graphc.trace.dtypes import cast


def _map(fn, parts: Parts) -> Parts:
    return Parts(fn(parts.re), fn(parts.im))


def _conjugate(z: Parts) -> Parts:
    return Parts(z.re, op("neg", z.im))


def _add(a: Parts, b: Parts) -> Parts:
    return Parts(op("add", a.re, b.re), op("add", a.im, b.im))


def _sub(a: Parts, b: Parts) -> Parts:
    return Parts(op("sub", a.re, b.re), op("sub", a.im, b.im))


def _with_zeros(x: Node) -> Parts:
    return Parts(x, build.full_like(x, 0))


def _along(values: np.ndarray, like: Node, axis: int) -> Node:
    """A constant vector along one axis of an array of the shape of ``like``."""
    return build.broadcast(build.const(values, like.dtype), like.shape, (axis,))


def _roots(turns, of: int, like: Node, axis: int) -> Parts:
    """exp(2j pi turns / of) along one axis."""
    return Parts(*(_along(v, like, axis) for v in fourier.unit_roots(np.asarray(turns), of)))


def _piece(x: Node, axis: int, start: int, count: int, step: int = 1) -> Node:
    return build.slice_(
        x,
        [start if a == axis else 0 for a in range(x.ndim)],
        [count if a == axis else d for a, d in enumerate(x.shape)],
        [step if a == axis else 1 for a in range(x.ndim)],
    )


def _resized(x: Node, n: int, axis: int) -> Node:
    """Cut, or filled up with zeros, to n elements along one axis."""
    have = x.shape[axis].__index__()
    if n <= have:
        return _piece(x, axis, 0, n)
    low = [0] * x.ndim
    return build.pad(x, low, [n - have if a == axis else 0 for a in range(x.ndim)])


# ------------------------------------------------------------------------------- one axis


def _dft(z: Parts, axis: int, inverse: bool) -> Parts:
    """Unnormalised."""
    shape = z.re.shape
    n = shape[axis].__index__()
    if n == 1:
        return z
    if fourier.radices(n) is None:
        return _bluestein(z, axis, inverse)
    inner = product(shape[axis + 1 :])
    columns = (product(shape[:axis]), 1, n, inner)
    single = isinstance(inner, int) and inner == 1
    pairs = build.concat([build.reshape(p, columns) for p in z], 1)
    table = build.const(fourier.plan(n, single).table, pairs.dtype)
    out = build.make("dft", (pairs, table), n=n, single=int(single), inverse=int(inverse))
    return Parts(*(build.reshape(_piece(out, 1, k, 1), shape) for k in (0, 1)))


def _bluestein(z: Parts, axis: int, inverse: bool) -> Parts:
    """j k = (j**2 + k**2 - (k - j)**2) / 2 makes it a convolution of any longer length."""
    n = z.re.shape[axis].__index__()
    size = 1 << (2 * n - 2).bit_length()
    squares = np.arange(n, dtype=np.int64) ** 2 % (2 * n)
    turns = squares if inverse else -squares
    filter_turns = np.zeros(size, np.int64)
    filter_turns[:n] = -turns
    filter_turns[size - n + 1 :] = -turns[:0:-1]
    cosine, sine = fourier.unit_roots(filter_turns, 2 * n)
    used = np.zeros(size)
    used[:n] = used[size - n + 1 :] = 1 / size
    spectrum = np.fft.fft((cosine + 1j * sine) * used)
    chirp = _roots(turns, 2 * n, z.re, axis)
    longer = _map(lambda p: _resized(p, size, axis), multiply(z, chirp))
    found = _dft(longer, axis, False)
    weights = Parts(*(_along(v, found.re, axis) for v in (spectrum.real, spectrum.imag)))
    found = _dft(multiply(found, weights), axis, True)
    return multiply(_map(lambda p: _piece(p, axis, 0, n), found), chirp)


def _real_dft(x: Node, axis: int) -> Parts:
    """The first n // 2 + 1 elements of the transform of real values."""
    n = x.shape[axis].__index__()
    if n % 2 or n < 4:
        return _map(lambda p: _piece(p, axis, 0, n // 2 + 1), _dft(_with_zeros(x), axis, False))
    half = n // 2
    z = Parts(*(_piece(x, axis, k, half, 2) for k in (0, 1)))
    z = _dft(z, axis, False)
    z = _map(lambda p: build.concat([p, _piece(p, axis, 0, 1)], axis), z)
    mirrored = _conjugate(_map(lambda p: build.reverse(p, axis), z))
    even, odd = _add(z, mirrored), _sub(z, mirrored)
    turned = multiply(odd, _roots(-np.arange(half + 1), n, odd.re, axis))
    both = _add(even, Parts(turned.im, op("neg", turned.re)))  # -i times
    return _map(lambda p: op("mul", p, build.full_like(p, 0.5)), both)


def _inverse_real_dft(z: Parts, n: int, axis: int) -> Node:
    """The n real values of n // 2 + 1 elements; the imaginary parts of the first and, where n is
    even, of the last do not count. Unnormalised."""
    z = _map(lambda p: _resized(p, n // 2 + 1, axis), z)
    counts = np.ones(n // 2 + 1)
    counts[0] = 0
    if n % 2 == 0:
        counts[-1] = 0
    z = Parts(z.re, op("mul", z.im, _along(counts, z.im, axis)))
    if n % 2 or n < 4:
        return _dft(_hermitian(z, n, axis), axis, True).re
    half = n // 2
    mirrored = _conjugate(_map(lambda p: build.reverse(p, axis), z))
    z, mirrored = (_map(lambda p: _piece(p, axis, 0, half), a) for a in (z, mirrored))
    even, odd = _add(z, mirrored), _sub(z, mirrored)
    turned = multiply(odd, _roots(np.arange(half), n, odd.re, axis))
    z = _dft(_add(even, Parts(op("neg", turned.im), turned.re)), axis, True)
    shape = z.re.shape
    pairs = [build.reshape(p, (*shape[: axis + 1], 1, *shape[axis + 1 :])) for p in z]
    return build.reshape(build.concat(pairs, axis + 1), (*shape[:axis], n, *shape[axis + 1 :]))


def _hermitian(z: Parts, n: int, axis: int) -> Parts:
    """All n elements, of which the last are conjugate to the first."""
    rest = n - z.re.shape[axis].__index__()
    if not rest:
        return z
    tail = _conjugate(_map(lambda p: build.reverse(_piece(p, axis, 1, rest), axis), z))
    return Parts(*(build.concat(pair, axis) for pair in zip(z, tail, strict=True)))


def _scale(n: int, norm: str | None, inverse: bool) -> float:
    if norm not in (None, "backward", "ortho", "forward"):
        raise ValueError(f'Invalid norm value {norm}; should be "backward", "ortho" or "forward".')
    if norm == "ortho":
        return 1 / math.sqrt(n)
    return 1 / n if inverse == (norm != "forward") else 1.0


def _scaled(x: Node, factor: float) -> Node:
    return x if factor == 1 else op("mul", x, build.full_like(x, factor))


def _length(n, default) -> int:
    n = (default if n is None else n).__index__()
    if n < 1:
        raise ValueError(f"Invalid number of FFT data points ({n}) specified.")
    return n


def _floating(context, a) -> Node:
    node = context.lift(a).node
    if not node.ndim:
        raise ShapeError("np.fft takes arrays of one axis or more")
    return node if node.dtype.kind in "fc" else cast(node, np.float64)


def _complex(x: Node, n, axis: int, norm, inverse: bool) -> Node:
    """``np.fft.fft`` or ``ifft`` of one axis."""
    n = _length(n, x.shape[axis])
    factor = _scale(n, norm, inverse)
    if is_complex(x):
        z = _dft(_map(lambda p: _resized(p, n, axis), parts_of(x)), axis, inverse)
    else:
        z = _hermitian(_real_dft(_resized(x, n, axis), axis), n, axis)
        z = _conjugate(z) if inverse else z
    return join(_map(lambda p: _scaled(p, factor), z))


def _to_half(x: Node, n, axis: int, norm, inverse: bool = False) -> Node:
    """``np.fft.rfft`` of one axis (``inverse``: ``ihfft``)."""
    n = _length(n, x.shape[axis])
    if is_complex(x):
        x = parts_of(x).re
    factor = _scale(n, norm, inverse)
    z = _real_dft(_resized(x, n, axis), axis)
    return join(_map(lambda p: _scaled(p, factor), _conjugate(z) if inverse else z))


def _from_half(x: Node, n, axis: int, norm, inverse: bool = True) -> Node:
    """``np.fft.irfft`` of one axis (not ``inverse``: ``hfft``)."""
    n = _length(n, None if n is not None else 2 * (x.shape[axis].__index__() - 1))
    z = parts_of(x) if is_complex(x) else _with_zeros(x)
    z = z if inverse else _conjugate(z)
    return _scaled(_inverse_real_dft(z, n, axis), _scale(n, norm, inverse))


# ------------------------------------------------------------------------------- the functions


def _one_axis(context, a, axis: int, transform, n, norm, inverse: bool):
    """``transform`` of one axis."""
    x = _floating(context, a)
    return context.wrap(transform(x, n, normalize_axis_index(axis, x.ndim), norm, inverse))


@implements(np.fft.fft)
def fft(context, a, n=None, axis=-1, norm=None):
    return _one_axis(context, a, axis, _complex, n, norm, False)


@implements(np.fft.ifft)
def ifft(context, a, n=None, axis=-1, norm=None):
    return _one_axis(context, a, axis, _complex, n, norm, True)


@implements(np.fft.rfft)
def rfft(context, a, n=None, axis=-1, norm=None):
    x = _floating(context, a)
    if is_complex(x):
        raise TypeError("np.fft.rfft takes real values; use np.fft.fft")
    return context.wrap(_to_half(x, n, normalize_axis_index(axis, x.ndim), norm))


@implements(np.fft.irfft)
def irfft(context, a, n=None, axis=-1, norm=None):
    return _one_axis(context, a, axis, _from_half, n, norm, True)


@implements(np.fft.hfft)
def hfft(context, a, n=None, axis=-1, norm=None):
    return _one_axis(context, a, axis, _from_half, n, norm, False)


@implements(np.fft.ihfft)
def ihfft(context, a, n=None, axis=-1, norm=None):
    return _one_axis(context, a, axis, _to_half, n, norm, True)


def _sizes_and_axes(x: Node, s, axes) -> tuple[list, list[int]]:
    if axes is None:
        count = x.ndim if s is None else len(s)
        axes = range(-count, 0)
    axes = [normalize_axis_index(a, x.ndim) for a in axes]
    sizes = [None] * len(axes) if s is None else [None if n == -1 else n for n in s]
    if len(sizes) != len(axes):
        raise ValueError("Shape and axes have different lengths.")
    return sizes, axes


def _over(context, a, s, axes, norm, inverse: bool):
    x = _floating(context, a)
    sizes, axes = _sizes_and_axes(x, s, axes)
    for n, axis in reversed(list(zip(sizes, axes, strict=True))):
        x = _complex(x, n, axis, norm, inverse)
    return context.wrap(x if is_complex(x) else join(_with_zeros(x)))


@implements(np.fft.fftn)
def fftn(context, a, s=None, axes=None, norm=None):
    return _over(context, a, s, axes, norm, False)


@implements(np.fft.ifftn)
def ifftn(context, a, s=None, axes=None, norm=None):
    return _over(context, a, s, axes, norm, True)


@implements(np.fft.fft2)
def fft2(context, a, s=None, axes=(-2, -1), norm=None):
    return fftn(context, a, s, axes, norm)


@implements(np.fft.ifft2)
def ifft2(context, a, s=None, axes=(-2, -1), norm=None):
    return ifftn(context, a, s, axes, norm)


@implements(np.fft.rfftn)
def rfftn(context, a, s=None, axes=None, norm=None):
    x = _floating(context, a)
    if is_complex(x):
        raise TypeError("np.fft.rfftn takes real values; use np.fft.fftn")
    sizes, axes = _sizes_and_axes(x, s, axes)
    x = _to_half(x, sizes[-1], axes[-1], norm)
    for n, axis in list(zip(sizes, axes, strict=True))[-2::-1]:
        x = _complex(x, n, axis, norm, False)
    return context.wrap(x)


@implements(np.fft.irfftn)
def irfftn(context, a, s=None, axes=None, norm=None):
    x = _floating(context, a)
    sizes, axes = _sizes_and_axes(x, s, axes)
    for n, axis in zip(sizes[:-1], axes[:-1], strict=True):
        x = _complex(x, n, axis, norm, True)
    return context.wrap(_from_half(x, sizes[-1], axes[-1], norm))


@implements(np.fft.rfft2)
def rfft2(context, a, s=None, axes=(-2, -1), norm=None):
    return rfftn(context, a, s, axes, norm)


@implements(np.fft.irfft2)
def irfft2(context, a, s=None, axes=(-2, -1), norm=None):
    return irfftn(context, a, s, axes, norm)


def _rolled(context, x, axes, shift):
    x = context.lift(x)
    axes = range(x.ndim) if axes is None else axes
    axes = (axes,) if isinstance(axes, int | np.integer) else axes
    for axis in axes:
        x = np.roll(x, shift(x.shape[axis].__index__()), axis)
    return x


@implements(np.fft.fftshift)
def fftshift(context, x, axes: Sequence[int] | int | None = None):
    return _rolled(context, x, axes, lambda n: n // 2)


@implements(np.fft.ifftshift)
def ifftshift(context, x, axes: Sequence[int] | int | None = None):
    return _rolled(context, x, axes, lambda n: -(n // 2))
