"""The command line: dump, cache, version, and errors without a traceback."""

import subprocess
import sys

import numpy as np
import pytest

from graphc import __version__, cli, pipeline
from graphc.errors import OptionError, UnknownNameError
from graphc.report.targets import parse_arguments
from graphc.trace.tracing import ArgSpec

MODEL = """
import numpy as np

SCALE = 2.0

def loss(params, x):
    return np.mean((x @ params["W"] + params["b"]) ** 2) * SCALE

def helper(x, y):
    return x * y
"""


def test_the_stages_are_those_of_the_pipeline():
    assert cli._STAGES == pipeline.STAGES  # which is not imported to print a usage


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.py"
    path.write_text(MODEL)
    return path


def run(capsys, *argv):
    code = cli.main([str(a) for a in argv])
    out, err = capsys.readouterr()
    return code, out, err


PARAMS = "{'W': f32[3,4], 'b': f32[4]}"


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"graphc {__version__}\n"


def test_dump_with_types(capsys, model):
    code, out, err = run(capsys, "dump", f"{model}:loss", "--args", PARAMS, "f32[n,3]")
    assert (code, err) == (0, "")
    assert "'x': f32[n,3]" in out and "params['W']" in out and "matmul" in out


@pytest.mark.parametrize(
    ("stage", "text"),
    [
        ("traced", "# model.py:7"),
        ("adjoint", "graph value_and_grad_loss("),
        ("optimized", "graph loss("),
        ("fused", "1 kernel, 1 temporary"),
        ("loops", "def main("),
        ("llvm", "define "),
    ],
)
def test_every_stage(capsys, model, stage, text):
    code, out, _ = run(
        capsys, "dump", f"{model}:loss", "--stage", stage, "--args", PARAMS, "f32[5,3]"
    )
    assert code == 0 and text in out


def test_dump_of_the_gradient(capsys, model):
    code, out, _ = run(capsys, "dump", f"{model}:loss", "--grad", "--args", PARAMS + " f32[5,3]")
    assert code == 0 and out.startswith("graph value_and_grad_loss(")


@pytest.mark.parametrize(
    "example",
    [
        "def example():\n    return np.ones(3, np.float32), np.ones(3, np.float32)\n",
        "EXAMPLE = (np.ones(3, np.float32), np.ones(3, np.float32))\n",
        "helper.example = lambda: (np.ones(3, np.float32), np.ones(3, np.float32))\n",
    ],
)
def test_example_in_the_file(capsys, model, example):
    model.write_text(MODEL + "\n" + example)
    code, out, _ = run(capsys, "dump", f"{model}:helper")
    assert code == 0 and "'x': f32[3], %1 'y': f32[3]" in out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nothing.py:loss"], "nothing.py: no such file"),
        (["model.py"], "expected FILE.py:FUNCTION"),
        (["model.py:los"], "unknown function 'los'; available: helper, loss"),
        (["model.py:SCALE"], "`SCALE` is a float, not a function"),
        (["model.py:loss"], "the arguments of `loss` are not known: (params, x)"),
        (["model.py:loss", "--stage", "asm"], "unknown stage 'asm'; available: adjoint,"),
        (["model.py:helper", "--args", "f32[3] f32[4]"], "model.py:10"),
        (["model.py:helper", "--args", "f99[3]"], "unknown dtype 'f99'; available: bool"),
        (["model.py:helper", "--args", "f32[3"], "argument 'f32[3': not a type such as"),
        (["model.py:helper", "--args", "f32[3.5] f32"], "3.5 is not a size"),
        (["model.py:helper", "--args", "f32[3] open('x')"], "open('x') is neither a type"),
    ],
)
def test_errors_have_no_traceback(capsys, model, monkeypatch, argv, message):
    monkeypatch.chdir(model.parent)
    code, out, err = run(capsys, "dump", *argv)
    assert code == 2 and out == ""
    assert message in err and err.startswith("graphc: ")
    assert "Traceback" not in err and len(err.splitlines()) <= 8


def test_error_in_the_file_names_its_line(capsys, model):
    model.write_text("import numpy as np\nx = np.zeros(3) + np.zeros(4)\n")
    code, _, err = run(capsys, "dump", f"{model}:loss")
    assert code == 2 and "ValueError: operands" in err and "at model.py:2" in err
    model.write_text("def f(:\n")
    code, _, err = run(capsys, "dump", f"{model}:loss")
    assert code == 2 and "SyntaxError" in err


def test_cache(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "cache"))
    code, out, _ = run(capsys, "cache")
    assert code == 0 and out == f"{tmp_path}/cache: 0 entries, 0.0 MiB\n"
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "abc.gco").write_bytes(b"x")
    assert run(capsys, "cache")[1].endswith("1 entries, 0.0 MiB\n")
    assert run(capsys, "cache", "--clear")[1] == f"removed 1 entries from {tmp_path}/cache\n"
    assert not list((tmp_path / "cache").iterdir())


def test_without_a_command_it_says_what_there_is(capsys):
    code, out, err = run(capsys)
    assert code == 2 and out == "" and "graphc dump examples/digits.py:loss" in err


def test_python_runs_the_package():
    command = [sys.executable, "-m", "graphc", "dump", "--help"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert out.startswith("usage: graphc dump") and "loops" in out


def test_starting_imports_nothing_heavy():
    code = (
        "import sys; from graphc import cli; cli._parser();"
        "print(sorted({'numpy', 'numba', 'optree', 'rich'} & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert out == "[]\n"


# ------------------------------------------------------------------------- types as text


def text(value):
    if isinstance(value, ArgSpec):
        return str(value.type)
    if isinstance(value, dict):
        return {k: text(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(text(v) for v in value)
    return value


@pytest.mark.parametrize(
    ("written", "parsed"),
    [
        ("f32[32,64] f32[64,10]", ("f32[32,64]", "f32[64,10]")),
        ("f32[32, 64], i64[n]", ("f32[32,64]", "i64[n]")),
        ("f32 f64[] float32[3]", ("f32[]", "f64[]", "f32[3]")),
        ("{'a': f32[3], 'b': [f32[4], (i8[2],)]}", ({"a": "f32[3]", "b": ["f32[4]", ("i8[2]",)]},)),
        ("f32[n,n] 0.5 'relu' None True -1", ("f32[n,n]", 0.5, "relu", None, True, -1)),
        ("(f32[2],)", (("f32[2]",),)),
        ("", ()),
    ],
)  # fmt: skip
def test_parse_arguments(written, parsed):
    assert text(parse_arguments(written)) == parsed


def test_parse_arguments_refuses():
    with pytest.raises(OptionError, match="neither a type"):
        parse_arguments("__import__('os').system('true')")
    with pytest.raises(UnknownNameError, match="unknown dtype 'name'"):
        parse_arguments("name")
    assert np.float32 == parse_arguments("f32")[0].type.dtype


@pytest.mark.parametrize("more", [[], ["--grad"]])
def test_dump_with_too_few_or_too_many_arguments(model, capsys, more):
    code, out, err = run(capsys, "dump", f"{model}:helper", "--args", "f32[3,4]", *more)
    assert code == 2 and out == "" and "Traceback" not in err
    assert "1 argument given, but the function is helper(x, y): missing a required" in err
    code, _, err = run(capsys, "dump", f"{model}:helper", "--args", "f32 f32 f32", *more)
    assert code == 2 and "3 arguments given, but the function is helper(x, y)" in err
