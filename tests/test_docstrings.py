"""Examples in docstrings run, and everything public has a docstring."""

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

import graphc

ROOT = Path(graphc.__file__).parent
MODULES = sorted(
    ".".join(("graphc", *p.relative_to(ROOT).with_suffix("").parts))
    for p in ROOT.rglob("*.py")
    if ">>> " in p.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried and not failed


def public():
    for name in sorted(set(graphc.__all__) - {"__version__"}):
        value = getattr(graphc, name)
        if not inspect.ismodule(value):
            yield f"graphc.{name}", value
            continue
        names = getattr(value, "__all__", None) or [
            n for n, v in vars(value).items()
            if getattr(v, "__module__", None) == value.__name__ and not n.startswith("_")
        ]  # fmt: skip
        for inner in names:
            yield f"graphc.{name}.{inner}", getattr(value, inner)


@pytest.mark.parametrize("name, value", list(public()))
def test_public_names_have_docstrings(name, value):
    if inspect.ismodule(value) or callable(value):
        assert inspect.getdoc(value), name


def test_functions_for_users_have_an_example():
    for name, value in public():
        if inspect.isfunction(value) and name.split(".")[1] not in ("numpy", "special", "errors"):
            assert ">>> " in inspect.getdoc(value), name
