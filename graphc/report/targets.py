"""``FILE.py:FUNCTION`` and the types of arguments, as written on a command line."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from graphc import errors, syntax
from graphc.errors import GraphcError, OptionError
from graphc.functions import misfit, name_of, signature_of
from graphc.ir.dims import Dim, symbol
from graphc.ir.types import TensorType, dtype_names, named_dtype
from graphc.trace.tracing import ArgSpec
from graphc.wording import counted


def load(target: str) -> tuple[Callable, ModuleType]:
    """The function that ``FILE.py:FUNCTION`` names, and the module it is in."""
    file, colon, name = target.rpartition(":")
    if not colon or not file or not name:
        raise OptionError(f"{target!r}: expected FILE.py:FUNCTION")
    module = load_file(Path(file))
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            raise errors.unknown_name("function", name, _functions(module))
        value = getattr(value, part)
    if not callable(value):
        raise OptionError(f"{target}: `{name}` is a {type(value).__name__}, not a function")
    return value, module


def load_file(path: Path) -> ModuleType:
    """The module in a file, which may import its neighbours."""
    if not path.is_file():
        raise OptionError(f"{path}: no such file")
    # Not the bare name of the file: it may be that of a module in use.
    spec = importlib.util.spec_from_file_location(f"user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise OptionError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    folder = str(path.parent.resolve())
    sys.path.insert(0, folder)
    sys.modules[module.__name__] = module  # dataclasses look modules up by name
    try:
        spec.loader.exec_module(module)
    except GraphcError:
        raise
    except Exception as error:
        problem = f"{type(error).__name__}: {error}{_line_in(error, path)}"
        raise OptionError(f"{path}: {problem}") from None
    finally:
        sys.path.remove(folder)
    return module


def _line_in(error: BaseException, path: Path) -> str:
    line, traceback = None, error.__traceback__
    while traceback is not None:
        if Path(traceback.tb_frame.f_code.co_filename).name == path.name:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return f"\n  at {path.name}:{line}" if line else ""


def _functions(module: ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__
    ]


def example(function: Callable, module: ModuleType) -> tuple:
    """The arguments that the file gives for ``function``."""
    for holder, name in ((function, "example"), (module, "example"), (module, "EXAMPLE")):
        value = getattr(holder, name, None)
        if value is not None:
            value = value() if callable(value) else value
            return value if isinstance(value, tuple) else (value,)
    raise OptionError(
        f"the types of the arguments of `{name_of(function)}` are not known: "
        f"{signature_of(function) or 'it names none'}\n"
        'Give --args, e.g. --args "f32[32,64] f32[64,10]", or an `example` in the file: the tuple '
        "of\narguments, or a function that returns it."
    )


def check_arguments(function: Callable, args: tuple) -> None:
    """Raise OptionError where ``function(*args)`` has too few or too many arguments."""
    if (reason := misfit(function, *args)) is not None:
        raise OptionError(
            f"{counted(len(args), 'argument')} given, but the function is {name_of(function)}"
            f"{signature_of(function)}: {reason}.\nGive one type for each, e.g. --args "
            '"f32[32,64] f32[64,10]"; a dict, list or tuple counts as one.'
        )


def parse_arguments(text: str) -> tuple:
    """Arguments from text such as ``"{'W': f32[3,4]} f32[n,3] 0.5"``.

    Types stand for arrays: a dtype and sizes, of which names stay symbolic. Literals are values.

    >>> [str(a.type) for a in parse_arguments("f32[n,4] i64")]
    ['f32[n,4]', 'i64[]']
    """
    return tuple(_parse(part) for part in _split(text))


def _split(text: str) -> list[str]:
    """Parts at spaces and commas outside of brackets and quotes."""
    parts, current, depth, quote = [], "", 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif depth == 0 and (character.isspace() or character == ","):
            parts.append(current)
            current = ""
            continue
        current += character
    return [p for p in [*parts, current] if p]


def _parse(text: str) -> Any:
    python = re.sub(r"\b(\w+)\[\s*\]", r"\1", text)  # f32[] is a scalar, but not an expression
    try:
        tree = syntax.parse(python, mode="eval").body
    except SyntaxError:
        raise OptionError(f"argument {text!r}: not a type such as f32[32,64]") from None
    return _value(tree, text)


def _value(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.Name):
        return _array(node.id, ())
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        sizes = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return _array(node.value.id, tuple(_size(s, text) for s in sizes))
    if isinstance(node, ast.Dict) and all(k is not None for k in node.keys):
        pairs = zip(node.keys, node.values, strict=True)
        return {_literal(k, text): _value(v, text) for k, v in pairs}
    if isinstance(node, ast.List):
        return [_value(v, text) for v in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(v, text) for v in node.elts)
    return _literal(node, text)


def _literal(node: ast.expr, text: str) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise OptionError(
            f"argument {text!r}: {ast.unparse(node)} is neither a type such as f32[32,64] nor a "
            "literal"
        ) from None


def _size(node: ast.expr, text: str) -> int | Dim:
    if isinstance(node, ast.Name):
        return symbol(node.id)
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    raise OptionError(f"argument {text!r}: {ast.unparse(node)} is not a size; write 32 or n")


def _array(name: str, shape: tuple) -> ArgSpec:
    dtype = named_dtype(name)
    if dtype is None:
        raise errors.unknown_name("dtype", name, dtype_names())
    return ArgSpec(TensorType(dtype, shape))
