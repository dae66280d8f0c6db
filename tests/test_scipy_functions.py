"""Functions of scipy.special that are SciPy's own rows or made of them: values and derivatives of
each, compiled too, edges, orders, and what is said where something is missing."""

import functools
import subprocess
import sys

import numpy as np
import pytest

import graphc as gc
from graphc.errors import GradientError, OptionError, TraceError
from graphc.ir.scipy_functions import MISSING, SCIPY_FUNCTIONS
from graphc.runtime import scipy_calls
from graphc.trace.special import RULES

sp = pytest.importorskip("scipy.special")

X = np.array([0.31, 0.83, 1.7, 2.6])
P = np.array([0.12, 0.4, 0.61, 0.93])
S = np.array([-1.9, -0.4, 0.7, 2.2])
A, B = np.array([0.6, 1.3, 2.5, 7.0]), np.array([3.2, 0.7, 1.9, 4.4])
N = np.array([0.0, 1.0, 2.0, 4.0])

# The arguments, and by which there are derivatives.
CASES = {
    "jv": ((A, X), (1,)), "jn": ((N, X), (1,)), "jve": ((A, X), (1,)), "yv": ((A, X), (1,)),
    "yn": ((N, X), (1,)), "yve": ((A, X), (1,)), "iv": ((A, X), (1,)), "kv": ((A, X), (1,)),
    "kn": ((N, X), (1,)), "ive": ((N, S), (1,)), "kve": ((A, X), (1,)),
    **dict.fromkeys(("k0", "k1", "k0e", "k1e", "ellipkm1", "itj0y0", "iti0k0"), ((X,), (0,))),
    **dict.fromkeys(("airy", "ber", "bei", "berp", "beip", "itstruve0", "itmodstruve0", "erfcx",
                     "erfi", "dawsn", "exprel", "wrightomega", "sindg", "cosdg", "tandg", "cotdg"),
                    ((S,), (0,))),
    **dict.fromkeys(("airye", "ker", "kei", "kerp", "keip", "shichi"), ((X,), (0,))),
    "struve": ((A, X), (1,)), "modstruve": ((A, X), (1,)),
    "wright_bessel": ((A, B, X), (2,)),
    "hyp0f1": ((B, S), (1,)), "hyp1f1": ((A, B, S), (2,)), "hyp2f1": ((A, B, B[::-1], S / 3), (3,)),
    "hyperu": ((A, B, X), (2,)), "lpmv": ((N, A + 4, P), (2,)),
    "pbdv": ((A, S), (1,)), "pbvv": ((A, S), (1,)),
    "betainc": ((A, B, P), (2,)), "betaincc": ((A, B, P), (2,)),
    "betaincinv": ((A, B, P), (2,)), "betainccinv": ((A, B, P), (2,)),
    "stdtr": ((A, S), (1,)), "stdtrit": ((A, P), (1,)),
    "gammaincinv": ((A, P), (0, 1)), "gammainccinv": ((A, P), (0, 1)),
    "chndtr": ((X, B, A), (0, 2)), "expn": ((N, X), (1,)), "owens_t": ((S, X), (0, 1)),
    "ndtri_exp": ((-X,), (0,)), "ellipkinc": ((S, P / 2), (0, 1)),
    "ellipeinc": ((S, P / 2), (0, 1)), "ellipj": ((S, P), (0,)),
    "elliprf": ((X, A, B), (0, 1, 2)),
    "bdtr": ((N, N + 3, P), (2,)), "bdtrc": ((N, N + 3, P), (2,)), "bdtri": ((N, N + 3, P), (2,)),
    "nbdtr": ((N, N + 3, P), (2,)), "nbdtrc": ((N, N + 3, P), (2,)),
    "nbdtri": ((N, N + 3, P), (2,)), "pdtr": ((N, X), (1,)), "pdtrc": ((N, X), (1,)),
    "pdtri": ((N, P), (1,)), "chdtr": ((A, X), (0, 1)), "chdtrc": ((A, X), (0, 1)),
    "chdtri": ((A, P), (0, 1)), "gdtr": ((A, B, X), (0, 1, 2)), "gdtrc": ((A, B, X), (0, 1, 2)),
    "gdtrix": ((A, B, P), (0, 1, 2)), "gdtria": ((P, B, X), (0, 1, 2)), "fdtr": ((A, B, X), (2,)),
    "fdtrc": ((A, B, X), (2,)), "fdtri": ((A, B, P), (2,)),
    "nrdtrimn": ((P, A, S), (0, 1, 2)), "nrdtrisd": ((S, P, A), (0, 1, 2)),
    "agm": ((A, B), (0, 1)), "powm1": ((X, S), (0, 1)), "inv_boxcox": ((X, P), (0, 1)),
    "inv_boxcox1p": ((X, P), (0, 1)), "radian": ((S, A, B), (0, 1, 2)), "round": ((S,), (0,)),
}  # fmt: skip
#: Arguments by which there is no second derivative.
ONCE = {
    *((f"{name}{tail}", 0) for name in ("gammainc", "gammaincc") for tail in ("", "inv")),
    *((name, 0) for name in ("chdtr", "chdtrc", "chdtri", "chndtr")),
    *((name, 1) for name in ("gdtr", "gdtrc", "gdtrix", "gdtria", "ellipkinc", "ellipeinc")),
    *(("elliprf", k) for k in range(3)),
}
#: Values alone.
VALUES = {
    "kolmogorov": (X,), "kolmogi": (P,), "zetac": (X + 1,), "chdtriv": (P, X), "stdtridf": (P, X),
    "pdtrik": (P, X), "smirnov": (N + 3, P), "smirnovi": (N + 3, P), "tklmbda": (S, P),
    "mathieu_a": (N, X), "mathieu_b": (N + 1, X), "voigt_profile": (S, A, B),
    "nctdtr": (A, B, S), "nctdtrit": (A, S, P), "nctdtridf": (P, S, X), "nctdtrinc": (A, P, X),
    "chndtrix": (P, B, A), "chndtridf": (X, P / 9, A), "chndtrinc": (X, B / 9, P / 9),
    "btdtria": (P, B, P[::-1]), "btdtrib": (A, P, P[::-1]), "bdtrik": (P, N + 3, P[::-1]),
    "bdtrin": (N, P, P[::-1]), "nbdtrik": (P, N + 3, P[::-1]), "nbdtrin": (N, P, P[::-1]),
    "fdtridfd": (A, P, X), "gdtrib": (A, P, X), "besselpoly": (A, B, N), "ncfdtr": (A, B, P, X),
    "ncfdtri": (A, B, P, P), "ncfdtridfd": (A, P / 2, P, X), "ncfdtridfn": (P / 2, B, P, X),
    "ncfdtrinc": (A, B, P / 4, X), "log_wright_bessel": (A, B, X), "elliprc": (X, A),
    "elliprd": (X, A, B), "elliprg": (X, A, B), "elliprj": (X, A, B, P), "betaln": (A, B),
}  # fmt: skip
POLYNOMIALS = {
    **dict.fromkeys((f"eval_{name}" for name in (
        "legendre", "chebyt", "chebyu", "chebys", "chebyc", "hermite", "hermitenorm", "laguerre",
        "sh_legendre", "sh_chebyt", "sh_chebyu")), ()),
    "eval_genlaguerre": (0.7,), "eval_gegenbauer": (1.3,), "eval_jacobi": (0.4, 1.7),
}  # fmt: skip
#: Of complex numbers, of wave functions with characteristic values, and inverses of those.
UNKNOWN = set(
    [
        "eval_sh_jacobi",
        "hankel1",
        "hankel1e",
        "hankel2",
        "hankel2e",
        "it2i0k0",
        "it2j0y0",
        "it2struve0",
        "itairy",
        "kelvin",
        "mathieu_cem",
        "mathieu_modcem1",
        "mathieu_modcem2",
        "mathieu_modsem1",
        "mathieu_modsem2",
        "mathieu_sem",
        "modfresnelm",
        "modfresnelp",
        "obl_ang1",
        "obl_ang1_cv",
        "obl_cv",
        "obl_rad1",
        "obl_rad1_cv",
        "obl_rad2",
        "obl_rad2_cv",
        "pbwa",
        "pro_ang1",
        "pro_ang1_cv",
        "pro_cv",
        "pro_rad1",
        "pro_rad1_cv",
        "pro_rad2",
        "pro_rad2_cv",
        "wofz",
    ]
)


def one(values):
    """All results as one."""
    return sum(values) if isinstance(values, tuple) else values


def slope(f, x, step=2e-3):
    """A central difference of order 8."""
    weights = (4 / 5, -1 / 5, 4 / 105, -1 / 280)
    return sum(w * (f(x + k * step) - f(x - k * step)) for k, w in enumerate(weights, 1)) / step


def assert_close(found, exact, tolerance, name):
    scale = np.maximum(np.abs(exact), 1e-3 * np.max(np.abs(exact), initial=1e-300))
    np.testing.assert_array_less(np.abs(found - exact), tolerance * scale, err_msg=str(name))


@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives_to_second_order(name):
    arrays, by = CASES[name]
    ufunc = getattr(sp, name)
    expected = ufunc(*arrays)
    found = gc.interpret(lambda *a: ufunc(*a))(*arrays)
    np.testing.assert_allclose(np.array(found), np.array(expected), 2e-13, 1e-15)
    for k in by:

        def exact(x, k=k):
            return one(ufunc(*arrays[:k], x, *arrays[k + 1 :]))

        def traced(x, k=k):
            return one(ufunc(*arrays[:k], x, *arrays[k + 1 :]))

        first = gc.elementwise_grad(traced)
        assert_close(gc.interpret(first)(arrays[k]), slope(exact, arrays[k]), 3e-8, (name, k))
        if (name, k) not in ONCE:
            second = gc.interpret(gc.elementwise_grad(first))
            numeric = slope(gc.interpret(first), arrays[k])
            assert_close(second(arrays[k]), numeric, 3e-8, (name, k))


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_orthogonal_polynomials(name):
    ufunc, others = getattr(sp, name), POLYNOMIALS[name]
    for degree in (0, 1, 2, 7, 30):
        found = gc.interpret(lambda x, n=degree: ufunc(n, *others, x))(P)
        np.testing.assert_allclose(found, ufunc(degree, *others, P), 1e-11, 1e-12)
    first = gc.interpret(gc.elementwise_grad(lambda x: ufunc(7, *others, x)))(P)
    assert_close(first, slope(lambda x: ufunc(7, *others, x), P), 1e-8, name)


def test_the_degree_of_a_polynomial_is_known():
    with pytest.raises(TraceError, match="eval_legendre: its degree must be one integer"):
        gc.interpret(lambda n: sp.eval_legendre(n, 0.5))(2.0)


def test_values_alone():
    found = gc.interpret(lambda a: {k: getattr(sp, k)(*v) for k, v in a.items()})(VALUES)
    for name, value in found.items():
        np.testing.assert_allclose(value, getattr(sp, name)(*VALUES[name]), 1e-13, err_msg=name)


def test_all_of_them_compiled_as_interpreted():
    arguments = {name: arrays for name, (arrays, _) in CASES.items()} | VALUES

    def values(arguments):
        return {name: getattr(sp, name)(*arrays) for name, arrays in arguments.items()}

    compiled, expected = gc.compile(values)(arguments), gc.interpret(values)(arguments)
    for name, value in expected.items():
        found = np.array(compiled[name])
        np.testing.assert_allclose(found, np.array(value), 1e-13, 1e-15, err_msg=name)


def test_gradients_compiled_in_batches_and_threads():
    def f(x):
        return sp.jv(1.5, x) * sp.betainc(2.0, 3.0, x / 9) + sp.airy(x)[0] + sp.hyp2f1(1, 2, 3, -x)

    x = np.linspace(0.1, 8, 4000)
    expected = gc.interpret(gc.elementwise_grad(f))(x)
    for gradient in (
        gc.elementwise_grad(f),
        gc.elementwise_grad(f, threads=2),
        gc.compile(gc.vmap(gc.grad(lambda v: f(v)))),
    ):
        np.testing.assert_allclose(gradient(x), expected, 1e-12)
    steps = gc.compile(lambda x: gc.map(lambda v: sp.kv(0.5, v), x))(x)
    np.testing.assert_allclose(steps, sp.kv(0.5, x), 1e-14)


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (2, 3)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_shapes_and_dtypes(shape, dtype):
    x = np.full(shape, 2, dtype)
    for f in (lambda x: sp.jv(1, x), lambda x: sp.stdtr(3, x), lambda x: sp.ellipj(x, 0.3)[1]):
        found, expected = gc.interpret(f)(x), f(x)
        assert found.dtype == expected.dtype and found.shape == expected.shape
        np.testing.assert_allclose(found, expected, 1e-6 if dtype == "float32" else 1e-14)


def test_edges_are_scipys():
    edges = np.array([0.0, -0.0, -1.5, 1.0, np.inf, -np.inf, np.nan, 1e-310, 30.0])

    def values(x):
        return (sp.jv(0.5, x), sp.kv(1, x), sp.iv(2, x), sp.betainc(2, 3, x), sp.stdtr(4, x),
                sp.expn(2, x), sp.erfcx(x), sp.airy(x))  # fmt: skip

    expected = values(edges)
    for run in (gc.compile, gc.interpret):
        for found, value in zip(run(values)(edges), expected, strict=True):
            np.testing.assert_array_equal(np.array(found), np.array(value))


def test_derivatives_at_the_ends_of_their_domains():
    density = gc.interpret(gc.elementwise_grad(lambda x: sp.betainc(1.0, 2.0, x)))
    np.testing.assert_allclose(density(np.array([0.0, 0.25, 1.0])), [2.0, 1.5, 0.0])
    for ufunc, exact in ((sp.erfcx, -1.4104209937e-05), (sp.dawsn, -1.2500468779e-05)):
        found = gc.interpret(gc.grad(lambda x, f=ufunc: f(x)))(200.0)
        np.testing.assert_allclose(found, exact, 1e-6)
    np.testing.assert_allclose(gc.interpret(gc.grad(lambda x: sp.exprel(x)))(0.0), 0.5)
    np.testing.assert_allclose(gc.interpret(gc.grad(lambda x: sp.jv(1, x)))(0.0), 0.5)


def test_twins():
    for name in ("jv", "betainc", "hyp2f1", "airy", "bdtr", "eval_hermite"):
        assert name in dir(gc.special) and getattr(gc.special, name).__doc__
    np.testing.assert_array_equal(gc.special.jv(1, X), sp.jv(1, X))
    assert isinstance(gc.special.betainc(1.0, 2.0, 0.5), float)
    np.testing.assert_allclose(
        gc.grad(lambda x: gc.special.stdtr(3.0, x))(0.0), 0.36755259694786136
    )


@pytest.mark.parametrize("transform", [gc.grad, lambda f: lambda x: gc.jvp(f)(x, 1.0)[1]])
def test_what_has_no_derivative_says_so(transform):
    with pytest.raises(GradientError, match="jv has no derivative by its first argument") as caught:
        gc.interpret(transform(lambda v: sp.jv(v, 2.0)))(1.5)
    assert "test_scipy_functions.py" in str(caught.value)
    assert "stop_gradient" in str(caught.value) and str(caught.value).count("\n") < 8
    f = gc.interpret(transform(lambda v: sp.jv(gc.stop_gradient(v), v)))
    np.testing.assert_allclose(f(1.5), sp.jvp(1.5, 1.5), 1e-14)


def test_without_scipy_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(OptionError, match=r"graphc\[special\]"):
        gc.interpret(lambda x: gc.special.jv(1.0, x))(2.0)


def test_a_cached_program_finds_scipys_functions_in_a_new_process(tmp_path):
    code = (
        "import sys, numpy as np, graphc as gc\n"
        "f = gc.compile(lambda x: gc.special.kv(1.5, x) + gc.special.ellipj(x, 0.3)[0])\n"
        "print(repr(float(f(np.float64(0.7)))), 'graphc.codegen.native' in sys.modules)\n"
    )
    environment = {"GRAPHC_CACHE_DIR": str(tmp_path)}
    script = tmp_path / "script.py"
    script.write_text(code)
    run = functools.partial(subprocess.run, capture_output=True, text=True, check=True)
    found = [run([sys.executable, script], env=environment).stdout.split() for _ in range(2)]
    exact = repr(float(sp.kv(1.5, 0.7) + sp.ellipj(0.7, 0.3)[0]))
    assert found == [[exact, "True"], [exact, "False"]]


def test_every_row_has_a_c_function_and_is_tested():
    for function in SCIPY_FUNCTIONS.values():
        assert scipy_calls.address(function.symbol)
        slopes = {k for k, text in enumerate(function.derivative) if text != MISSING}
        tested = CASES.get(function.function, (VALUES.get(function.function), ()))
        assert tested[0] is not None, function.name
        assert slopes <= {*tested[1]} or function.name == "betaln", function.name


def test_every_function_of_scipy_special_is_known_or_listed_as_not():
    ufuncs = [n for n in dir(sp) if isinstance(getattr(sp, n), np.ufunc)]
    known = {n for n in ufuncs if getattr(sp, n).__name__.strip("_") in RULES}
    assert {*ufuncs} - known == UNKNOWN
