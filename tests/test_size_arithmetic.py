"""Sizes in float arithmetic stay symbolic: one compile serves them, with NumPy's own results."""
# ruff: noqa: E501 (tables of expressions)

import math
import warnings

import numpy as np
import pytest

import graphc as gc
import graphc.numpy as gnp

SIZES = (5, 6, 7, 13, 100)

# Of n = x.shape[0]. What is rounded once by the standard's rules is equal to the bit natively too.
ROUNDED_ONCE = """
0.5 * n
n - 0.5, 0.5 - n, n + 0.5, -n, +n, abs(n - 7), round(n), round(n, 2), math.ceil(n), math.floor(n)
1 / n, x / n, x * (1 / n), n / 3, n / x.shape[1], True / n
n ** 2 * x, (2 * n + 1) ** 3, x / (n - 1) ** 0.5, n ** 0.5 * x, (n + 0.25) ** 2
n // 2 * x, n % 3 + x, divmod(n, 3), 100 // n, 100 % n, n // 2.0, divmod(n, 0.75)
np.sqrt(n), np.sqrt(n) * x, x / np.sqrt(x.shape[-1]), np.sqrt(n / 2.5) * x.shape[1], np.square(n) * x
np.float64(3) * n, np.float32(3) * n, np.int64(3) * n, n * np.float32(0.1), np.arange(3) * n
x.size / 3.0 * x, 1e-3 * x.size + n / x.shape[1], 2.0 * n * x, np.true_divide(n, 7)
np.maximum(n, 8) * x, np.minimum(x, n), np.clip(n, 6, 7.5), np.where(x > 0, n, 0.5)
n * math.log(2 * math.pi), -0.5 * n * math.log(2 * math.pi) * x
gnp.full(n, 1 / n), gnp.arange(n) * 0.1, np.full_like(x, 1 / n), gnp.zeros(2 * n + 1) + 0.5 * n
np.prod(x.shape) * x, x / np.prod(x.shape), np.prod(x.shape[:1]), x.reshape(np.prod(x.shape)), np.sum(x.shape) * x
np.max(x.shape), np.cumprod(x.shape), np.multiply.reduce(x.shape), np.mean(np.shape(x)), np.dot(x.shape, [1, 2])
gnp.array(x.shape) * 2, np.zeros_like(x, shape=x.shape[:1]), x.reshape(x.shape + (1,))
np.ones(3) * n / 2, np.linspace(0, n, 5), n * 1j, 0.25 * (n, )[0] * x, n
""".strip().splitlines()

FUNCTIONS = """
np.log(n), np.log(n) * x, np.exp(-0.1 * n) * x, np.log1p(0.5 * n), np.log(2 * math.pi * n)
n ** 0.3, n ** -0.5 * x, n ** -1, n ** -2 * x
""".strip().splitlines()


def function(text):
    return eval(
        f"lambda x, n=None: (lambda n: [{text}])(x.shape[0])", {"np": np, "gnp": gnp, "math": math}
    )


def differences(fn, traced, compare):
    for dtype in (np.float32, np.float64):
        for n in SIZES:
            x = np.random.default_rng(n).normal(size=(n, 3)).astype(dtype)
            for want, got in zip(fn(x), traced(x), strict=True):
                for w, g in zip(np.atleast_1d(want), np.atleast_1d(got), strict=True):
                    assert np.asarray(w).dtype == np.asarray(g).dtype
                    compare(g, w)
                kinds = (bool, int, float, complex)
                assert isinstance(got, kinds) == isinstance(want, kinds)
    assert len(traced.compiles) == 4, traced.compiles[-1].reason  # a fixed and an open size each


@pytest.mark.parametrize("text", ROUNDED_ONCE)
def test_equal_to_numpy_with_one_compile(text):
    fn = function(text)
    differences(fn, gc.interpret(fn), np.testing.assert_array_equal)


def test_compiled_programs_are_equal_to_the_bit():
    fn = function(", ".join(f"*[{line}]" for line in ROUNDED_ONCE))
    differences(fn, gc.compile(fn), np.testing.assert_array_equal)


def test_functions_of_sizes():
    def close(got, want):
        np.testing.assert_allclose(got, want, rtol=1e-6 if want.dtype.itemsize == 4 else 1e-15)

    fn = function(", ".join(FUNCTIONS))
    differences(fn, gc.interpret(fn), close)
    differences(fn, gc.compile(fn), close)


def test_gradients_see_a_constant():
    def loss(x):
        n = x.shape[0]
        return np.sum(x**2) / n - 0.5 * n * np.log(n) * x[0]

    slope = gc.grad(loss)
    for n in (3, 4, 5, 6):
        x = np.arange(n) + 1.0
        want = 2 * x / n - np.eye(n)[0] * 0.5 * n * np.log(n)
        np.testing.assert_allclose(slope(x), want, rtol=1e-14)
    assert len(slope.compiles) == 2


def test_sizes_inside_of_loops_and_batches():
    def f(x):
        return gc.scan(lambda c, row: (c + row / x.shape[0], c * np.sqrt(x.shape[0])), 0.0, x)

    traced = gc.interpret(f)
    batched = gc.interpret(gc.vmap(lambda row: row / row.shape[0] ** 0.5))
    for n in (4, 5, 6):
        x, total, steps = np.arange(n) + 1.0, 0.0, []
        for row in x:
            steps.append(total * np.sqrt(n))
            total = total + row / n
        np.testing.assert_array_equal(traced(x)[1], steps)
        assert traced(x)[0] == total
        np.testing.assert_array_equal(batched(np.ones((2, n))), np.ones((2, n)) / n**0.5)
    assert len(traced.compiles) == len(batched.compiles) == 2


NUMBERS = {  # what Python's rules make a number of, and what to write
    "x / len(x)": "by `len`; write x.shape[0] in place of len(x)",
    "x / float(x.shape[0])": "by `float`; write n / 2 or np.sqrt(n) without float()",
    "x * int(x.shape[0] / 2)": "by `int`; write",
    "x * math.sqrt(x.shape[0])": "by `math.sqrt`; write np.sqrt",
    "x * math.log(0.5 * x.shape[0])": "by `math.log`; write np.log",
    "x + np.arange(x.shape[0])[:, None]": "by `np.arange`; write graphc.numpy.arange",
    "x * np.full(3, 1 / x.shape[0])": "by `np.full`; write graphc.numpy.full",
    "x[: x.shape[0] // 2]": "a number computed from sizes is needed",
    "x * np.array(x.shape)[1]": "by `np.array`; write graphc.numpy.array",
    "x * (1 if x.shape[0] / 2 > 3 else 2)": "a number computed from sizes is needed",
    "x * np.hanning(x.shape[0])[:, None]": "by `np.hanning`",
}


@pytest.mark.parametrize("text", NUMBERS)
def test_what_needs_a_number_says_what_to_write(text, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(f"import math\nimport numpy as np\ndef fn(x):\n    return {text}\n")
    names = {"__name__": "program"}
    exec(compile(path.read_text(), str(path), "exec"), names)
    traced = gc.interpret(names["fn"])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for n in (4, 6, 8):
            x = np.ones((n, 3))
            np.testing.assert_array_equal(traced(x), names["fn"](x))
    assert len(traced.compiles) == 3
    assert NUMBERS[text] in str(seen[0].message) and f"return {text}" in str(seen[0].message)


def test_an_error_of_the_program_is_told_as_such():
    def f(x):
        if x.shape[0] / 2 * x.sum() < 0:
            raise ValueError("negative")
        return np.sqrt(x) @ np.ones(3)

    traced = gc.interpret(f)
    for n in (4, 5, 6):
        traced(np.ones((n, 3)))
        with pytest.raises(ValueError, match="negative"):
            traced(-np.ones((n, 3)))
    with pytest.raises(gc.errors.ShapeError, match="2 != 3"):
        traced(np.ones((7, 2)))


def test_an_open_shape_is_a_tuple():
    """As arguments, results and keys: where a program hands it on."""

    def fn(x):
        shapes = {"a": x.shape, "b": (x.shape, x.shape[::-1])}
        rows, columns = x.shape
        assert isinstance(x.shape, tuple) and len(x.shape[1:]) == 1
        return shapes, x.reshape(columns, rows), {x.shape: 1}[x.shape] * x

    traced = gc.interpret(fn)
    for n in (4, 5, 6):
        shapes, turned, same = traced(np.ones((n, 3)))
        assert shapes == {"a": (n, 3), "b": ((n, 3), (3, n))}
        assert turned.shape == (3, n) and same.shape == (n, 3)
    assert len(traced.compiles) == 2
