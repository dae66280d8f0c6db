"""graphc.special: twins of SciPy's functions on traced and plain values, and what to do where
SciPy's own cannot trace."""

import mpmath
import numpy as np
import pytest

import graphc as gc
from graphc import special
from graphc.errors import DTypeError, GradientError, OptionError, TraceError

scipy_special = pytest.importorskip("scipy.special")

POINTS = {"erfinv": (-0.9, 0.2, 0.99), "logit": (0.1, 0.5, 0.9), "ndtri": (0.01, 0.5, 0.99),
          "erfcinv": (0.01, 0.9, 1.7)}  # fmt: skip
ONE = ["digamma", "entr", "erf", "erfc", "erfcinv", "erfinv", "exp10", "expit", "gamma", "gammaln",
       "gammasgn", "log_expit", "log_ndtr", "logit", "ndtr", "ndtri", "psi"]  # fmt: skip
ONE += ["ellipe", "ellipk", "exp1", "expi", "fresnel", "i0", "i0e", "i1", "i1e", "j0", "j1",
        "sici", "spence", "y0", "y1"]  # fmt: skip
POINTS |= dict.fromkeys(("ellipk", "ellipe"), (-2.5, 0.3, 0.99))
TWO = ["beta", "betaln", "kl_div", "rel_entr", "xlog1py", "xlogy", "zeta",
       "gammainc", "gammaincc"]  # fmt: skip


@pytest.mark.parametrize("name", ONE)
def test_plain_arrays_of_one_argument(name):
    x = np.array(POINTS.get(name, (0.3, 1.7, 12.5)))
    found = getattr(special, name)(x)
    np.testing.assert_allclose(found, getattr(scipy_special, name)(x), 1e-12)
    small, number = getattr(special, name)(x.astype(np.float32)), getattr(special, name)(0.25)
    if name in ("fresnel", "sici"):
        (found, _), (small, _), (number, _) = found, small, number
    assert type(found) is np.ndarray and small.dtype == np.float32 and isinstance(number, float)


@pytest.mark.parametrize("name", TWO)
def test_plain_arrays_of_two_arguments(name):
    x, y = np.array([[1.5], [2.0]]), np.array([0.5, 1.0, 3.0])
    found = getattr(special, name)(x, y)
    np.testing.assert_allclose(found, getattr(scipy_special, name)(x, y), 1e-12)


@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax"])
@pytest.mark.parametrize("axis", [None, 0, -1])
def test_functions_of_whole_arrays(name, axis):
    x = np.array([[1.0, 700.0, -5.0], [0.0, -np.inf, 2.0]])
    expected = getattr(scipy_special, name)(x, axis=axis)
    np.testing.assert_allclose(getattr(special, name)(x, axis=axis), expected, 1e-13)
    traced = gc.interpret(lambda x: getattr(special, name)(x, axis=axis))(x)
    np.testing.assert_allclose(traced, expected, 1e-13)


def test_logsumexp_with_weights_and_signs():
    x, b = np.array([1.0, 2.0, 3.0]), np.array([1.0, -2.0, 0.5])
    value, sign = special.logsumexp(x, b=b, return_sign=True)
    expected = scipy_special.logsumexp(x, b=b, return_sign=True)
    np.testing.assert_allclose((value, sign), expected)
    assert special.logsumexp(np.zeros(0)) == -np.inf


@pytest.mark.parametrize("x", [-3.7, -0.5, -0.1, 0.3, 2.0, 40.0])
def test_derivatives_of_the_gamma_family_also_below_zero(x):
    first = gc.interpret(gc.grad(lambda x: special.gammaln(x)))(x)
    second = gc.interpret(gc.grad(gc.grad(lambda x: special.gammaln(x))))(x)
    third = gc.interpret(gc.grad(gc.grad(lambda x: special.digamma(x))))(x)
    for order, found in enumerate((first, second, third)):
        np.testing.assert_allclose(found, float(mpmath.polygamma(order, x)), 1e-12)


FAMILIES = {  # the function, mpmath's, points: also inside of and around the series of a derivative
    "i0": (lambda x: mpmath.besseli(0, x), (-3.0, -0.1, 0.0, 1e-6, 0.24, 0.26, 9.0)),
    "i1": (lambda x: mpmath.besseli(1, x), (-3.0, -0.1, 0.0, 1e-6, 0.24, 0.26, 9.0)),
    "i0e": (lambda x: mpmath.besseli(0, x) * mpmath.exp(-abs(x)), (-3.0, 0.24, 0.26, 9.0, 40.0)),
    "i1e": (lambda x: mpmath.besseli(1, x) * mpmath.exp(-abs(x)), (-3.0, 0.24, 0.26, 9.0, 40.0)),
    "j0": (lambda x: mpmath.besselj(0, x), (-3.0, -0.1, 0.0, 1e-6, 0.24, 0.26, 9.0)),
    "j1": (lambda x: mpmath.besselj(1, x), (-3.0, -0.1, 0.0, 1e-6, 0.24, 0.26, 9.0)),
    "y0": (lambda x: mpmath.bessely(0, x), (0.3, 5.5)),
    "y1": (lambda x: mpmath.bessely(1, x), (0.3, 5.5)),
    "exp1": (mpmath.e1, (0.01, 0.3, 5.0, 30.0)),
    "expi": (mpmath.ei, (-3.0, -0.1, 0.01, 0.3725, 5.0, 30.0)),
    "spence": (lambda x: mpmath.re(mpmath.polylog(2, 1 - x)), (0.01, 0.3, 0.985, 1.0, 1.019, 9.0)),
    "ellipk": (mpmath.ellipk, (-9.0, -0.3, -0.019, 0.0, 1e-6, 0.021, 0.3, 0.99)),
    "ellipe": (mpmath.ellipe, (-9.0, -0.3, -0.019, 0.0, 1e-6, 0.021, 0.3, 0.99)),
    "lambertw": (mpmath.lambertw, (-0.3, -0.01, 0.0, 0.3, 9.0, 1e4)),
    "sici": (mpmath.si, (-3.0, -0.1, 0.0, 1e-6, 0.24, 0.26, 9.0)),
    "gammainc": (lambda x: mpmath.gammainc(2.5, 0, x, regularized=True), (0.1, 2.5, 3.6, 20.0)),
    "gammaincc": (lambda x: mpmath.gammainc(2.5, x, regularized=True), (0.1, 2.5, 3.6, 20.0)),
    "fresnel": (mpmath.fresnels, (-3.0, -0.1, 0.0, 1e-6, 0.4, 2.3, 9.0)),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_three_derivatives(name):
    reference, points = FAMILIES[name]

    def f(x):
        value = getattr(special, name)(*[2.5] * name.startswith("gammainc"), x)
        return value[0] if isinstance(value, tuple) else value

    slope = f
    for order in range(1, 4):
        slope = gc.elementwise_grad(slope)
        found = gc.interpret(slope)(np.array(points))
        with mpmath.workdps(30):
            exact = [mpmath.re(mpmath.diff(reference, mpmath.mpf(x), order)) for x in points]
        np.testing.assert_allclose(found, np.array(exact, float), 1e-10, 1e-11)


@pytest.mark.parametrize("name", ["j0", "expi", "ellipk", "spence", "lambertw"])
def test_in_batches_loops_and_compiled(name):
    x = np.array([0.11, 0.37, 0.52, 0.9])
    f = getattr(special, name)
    compiled = gc.compile(gc.vmap(gc.value_and_grad(lambda v: f(v))))(x)
    steps = gc.interpret(lambda x: gc.map(gc.grad(lambda v: f(v)), x))(x)
    np.testing.assert_allclose(compiled[0], f(x), 1e-13)
    np.testing.assert_allclose(compiled[1], steps, 1e-12)


def test_scipys_lambertw_is_complex():
    with pytest.raises(DTypeError, match=r"graphc\.special\.lambertw"):
        gc.interpret(lambda x: scipy_special.lambertw(x))(np.ones(3))


def test_third_derivatives_of_erfinv():
    slope = lambda f: gc.interpret(gc.grad(f))  # noqa: E731
    third = slope(gc.grad(gc.grad(lambda x: special.erfinv(x))))
    np.testing.assert_allclose(third(0.6), float(mpmath.diff(mpmath.erfinv, 0.6, 3)), 1e-9)


@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax"])
def test_the_python_functions_of_scipy_name_their_twin(name):
    def fn(x):
        return getattr(scipy_special, name)(x)

    with pytest.raises(TraceError) as caught:
        gc.interpret(fn)(np.ones(3))
    message = str(caught.value)
    assert "graphc.special." in message or "needs the elements" in message, message
    assert "test_special_functions.py" in message


def test_scipys_logsumexp_written_out_names_its_twin():
    with pytest.raises(TraceError, match=r"graphc\.special\.logsumexp"):
        gc.interpret(lambda x: scipy_special.logsumexp(x))(np.ones(3))
    with pytest.raises(TraceError, match=r"graphc\.special\.polygamma"):
        gc.interpret(lambda x: scipy_special.polygamma(1, x))(np.ones(3))


def test_zeta_without_q_is_riemanns():
    s = np.array([1.0, 1.5, 2.0, 40.0])
    np.testing.assert_allclose(special.zeta(s), scipy_special.zeta(s), rtol=1e-14)
    assert gc.interpret(lambda x: x * special.zeta(3.0))(2.0) == 2 * special.zeta(3.0, 1.0)
    with pytest.raises(OptionError, match="s >= 1"):
        special.zeta([2.0, 0.5])


def test_zeta_has_no_derivative_by_its_order():
    with pytest.raises(GradientError, match="zeta has no derivative by its first argument"):
        gc.interpret(gc.grad(lambda s: scipy_special.zeta(s, 2.0)))(3.0)
    found = gc.interpret(lambda s: scipy_special.zeta(s, 2.0))(3.0)
    np.testing.assert_allclose(found, scipy_special.zeta(3.0, 2.0), 1e-14)


@pytest.mark.parametrize("name", ["gammainc", "gammaincc"])
def test_derivatives_of_the_incomplete_gamma_functions_by_both_arguments(name):
    a, x = np.array([0.2, 1.5, 9.0, 30.0, 800.0]), np.array([0.9, 2.5, 7.0, 31.0, 790.0])
    sign = 1 if name == "gammainc" else -1
    f = getattr(special, name)
    by_a = gc.compile(gc.elementwise_grad(f, argnums=0))(a, x)
    cross = gc.interpret(gc.elementwise_grad(gc.elementwise_grad(f, argnums=0), argnums=1))(a, x)
    with mpmath.workdps(40):
        for k, (p, q) in enumerate(zip(a, x, strict=True)):
            exact = mpmath.diff(lambda a, q=q: mpmath.gammainc(a, 0, q, regularized=True), p)
            density = q ** (mpmath.mpf(p) - 1) * mpmath.exp(-q) / mpmath.gamma(p)
            slope = density * (mpmath.log(q) - mpmath.digamma(p))
            np.testing.assert_allclose(by_a[k], sign * float(exact), 1e-13)
            np.testing.assert_allclose(cross[k], sign * float(slope), 1e-12, 1e-14)
    with pytest.raises(GradientError, match="gammainc_slope has no derivative by its first"):
        gc.interpret(gc.grad(gc.grad(lambda a: f(a, 2.0))))(3.0)
