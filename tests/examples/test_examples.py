"""Every example runs and finds what it should."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from graphc.demo import IDX, example_path
from graphc.report.targets import load_file

FOLDER = Path(__file__).parents[2] / "examples"


def example(name):
    return load_file(FOLDER / f"{name}.py")


def test_linear_regression(capsys):
    params = example("linear_regression").main()
    np.testing.assert_allclose(params["w"], [2.0, -1.0, 0.5], atol=0.02)
    assert params["b"] == pytest.approx(3.0, abs=0.02)
    assert "loss 0.01" in capsys.readouterr().out


def test_xor(capsys):
    np.testing.assert_allclose(example("xor").main(), [0, 1, 1, 0], atol=0.02)
    assert "wanted 1" in capsys.readouterr().out


def test_curve_fit(capsys):
    fit = example("curve_fit").main()
    assert fit.success
    np.testing.assert_allclose(fit.x, [2.0, np.log(3.0), 1.0, np.log(0.4)], atol=0.1)
    assert "exp(-3." in capsys.readouterr().out


def test_float32_gradient_goes_into_scipy():
    """Row 27 of the errors: SciPy's L-BFGS-B takes a float32 gradient and value."""
    from scipy.optimize import minimize

    import graphc as gc

    module = example("curve_fit")
    t = np.linspace(0, 5, 100).astype(np.float32)
    true = np.array([2.0, np.log(3.0), 1.0, np.log(0.4)], np.float32)
    y = module.model(true, t)
    fun = gc.value_and_grad(module.misfit)
    value, slope = fun(np.ones(4, np.float32), t, y)
    assert value.dtype == slope.dtype == np.float32
    fit = minimize(
        lambda p: fun(p.astype(np.float32), t, y), [1, 0.5, 1, -0.5], jac=True, method="L-BFGS-B"
    )
    np.testing.assert_allclose(fit.x, true, atol=1e-3)


def test_symbolic(capsys):
    value, ways = example("symbolic").main()
    assert value == pytest.approx(11.652, abs=5e-4)
    for slopes in ways:  # reverse, forward, symbolic
        np.testing.assert_allclose(slopes, [5.5, 1.716], atol=5e-4)
    assert "log" in capsys.readouterr().out


def test_digits_is_run_as_the_readme_says():
    out = subprocess.run(
        [sys.executable, FOLDER / "digits.py"], capture_output=True, text=True, check=True
    ).stdout
    accuracy = float(out.split()[2])
    assert accuracy > 0.96 and "us a step" in out


def test_no_other_example_is_untested():
    names = {path.stem for path in FOLDER.glob("*.py")}
    assert names == {"curve_fit", "digits", "linear_regression", "symbolic", "xor"}
    assert example_path("digits").is_file()


# ------------------------------------------------------------------------- the demo


def demo(tmp_path, *argv):
    return subprocess.run(
        [sys.executable, "-m", "graphc.cli", "demo", "--out", "results", *map(str, argv)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


def check_results(folder, epochs_steps):
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["steps"] == epochs_steps
    for name in ("accuracy", "us_per_step", "interpreted_us_per_step", "compile_s", "seconds"):
        assert summary[name] > 0
    assert (folder / "loss-curve.png").read_bytes().startswith(b"\x89PNG")
    stages = {path.stem for path in (folder / "ir").iterdir()}
    assert stages == {"traced", "adjoint", "optimized", "fused", "loops", "llvm"}
    assert "digits.py:" in (folder / "ir" / "traced.txt").read_text()
    assert "sqrt(" in (folder / "ir" / "optimized.txt").read_text()  # Adam is in the step
    return summary


def test_demo(tmp_path):
    result = demo(tmp_path, "--epochs", 8)
    assert result.returncode == 0, result.stderr
    summary = check_results(tmp_path / "results", 8 * 45)
    assert summary["accuracy"] > 0.93
    assert f"{100 * summary['accuracy']:.2f} %" in result.stdout
    for text in ("held-out accuracy", "interpreted autodiff", "ratio to compiled", "compile"):
        assert text in result.stdout
    assert "360/360 steps" in result.stderr and "accuracy" in result.stderr


def write_idx(path, array):
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(head + array.astype(np.uint8).tobytes())


def write_images(folder, size=28):
    """Each class is a bright row of its own."""
    rng = np.random.default_rng(0)
    for part, n in (("train", 1000), ("t10k", 200)):
        labels = rng.integers(0, 10, n)
        images = rng.integers(0, 100, (n, size, size))
        images[np.arange(n), 2 * labels] = 255
        write_idx(folder / f"{part}-images-idx3-ubyte", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte", labels)


def test_demo_on_idx_files(tmp_path):
    write_images(tmp_path)
    result = demo(tmp_path, "--data", tmp_path, "--epochs", 5)
    assert result.returncode == 0, result.stderr
    summary = check_results(tmp_path / "results", 5 * 8)
    assert summary["accuracy"] > 0.9


def test_demo_errors(tmp_path):
    result = demo(tmp_path, "--data", tmp_path)
    assert result.returncode == 2 and "expected train-images-idx3-ubyte" in result.stderr
    assert "Traceback" not in result.stderr
    result = demo(tmp_path, "--epochs", 0)
    assert result.returncode == 2 and "--epochs must be at least 1, not 0" in result.stderr
    write_images(tmp_path, size=24)
    result = demo(tmp_path, "--data", tmp_path)
    assert result.returncode == 2 and "takes 784 pixels, these images have 24 x 24" in result.stderr


def test_phases():
    assert IDX.phases(None) == [(2e-3, 12), (2e-4, 3)]
    assert IDX.phases(1) == [(2e-3, 1)]
    assert IDX.phases(10) == [(2e-3, 8), (2e-4, 2)]
