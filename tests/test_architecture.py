"""The order of the stages, read from the imports: a module imports earlier stages only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import graphc

ROOT = Path(graphc.__file__).parent

# Lowest first; parts on one line do not import each other. `ir` and what stands below it are the
# shared vocabulary of all stages.
LEVELS = (
    ("errors", "forks", "functions", "vmath", "wording"),
    ("compiles", "pickling", "syntax"),
    ("ir",),
    ("interp",),
    ("trace",),
    ("linalg", "numpy", "nn", "special", "ad", "control"),
    ("passes",),
    ("schedule",),
    ("codegen",),
    ("runtime",),
    ("pipeline", "memory"),
    ("paths", "request", "nonfinite", "memory_limit"),
    ("compiled", "data"),
    ("transforms", "check", "optim"),
    ("api",),
    ("train", "symbolic"),
    ("report",),
    ("demo",),
    ("cli",),
    ("__main__",),
)
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
MODULES = sorted(ROOT.rglob("*.py"))


def unit(module: str) -> str:
    """The part of graphc that a dotted name belongs to: ``graphc.ir.dims`` -> ``ir``."""
    return module.split(".")[1]


def name_of(path: Path) -> str:
    return ".".join(("graphc", *path.relative_to(ROOT).with_suffix("").parts))


def imports(path: Path, everywhere: bool = True) -> set[str]:
    """Dotted names imported by a module; ``everywhere``: inside its functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: a relative import hides its stage"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_earlier_stages_only(path):
    if path == ROOT / "__init__.py":
        return
    own = unit(name_of(path))
    assert own in LEVEL, f"{own} has no place among the stages: give it one in LEVELS"
    for name in sorted(n for n in imports(path) if n.startswith("graphc.")):
        other = unit(name)
        if other == "__version__":
            continue
        assert other == own or LEVEL[other] < LEVEL[own], f"{name_of(path)} imports {name}"


# Who may import a large library, and whether only when it is needed.
ALLOWED = {
    "numba": {
        "graphc.codegen.numba_call": "at import",
        "graphc.codegen.numba_words": "at import",
    },
    "sympy": {
        "graphc.symbolic.lower": "at import",
        "graphc.symbolic.stable": "at import",
        "graphc.symbolic.export": "at import",
        "graphc.symbolic.system": "at import",
        "graphc.symbolic.formula": "lazily",
        "graphc.symbolic.operation": "lazily",
    },
    "llvmlite": {
        "graphc.codegen.native": "at import",
        "graphc.codegen.kinds": "at import",
        "graphc.codegen.lower": "at import",
        "graphc.codegen.native_team": "at import",
        "graphc.codegen.native_words": "at import",
        "graphc.codegen.numba_call": "at import",
        "graphc.codegen.llvm_backend": "at import",
        "graphc.codegen.interleave": "at import",
        "graphc.codegen.loop_wishes": "at import",
        "graphc.codegen.vectors": "at import",
        "graphc.codegen.product": "at import",
        "graphc.codegen.convolution": "at import",
        "graphc.codegen.pooling": "at import",
        "graphc.runtime.loader": "lazily",
        "graphc.runtime.blas": "lazily",
        "graphc.runtime.cache": "lazily",
        "graphc.vmath.llvm_ops": "lazily",
    },
}


@pytest.mark.parametrize("library", ALLOWED)
def test_large_libraries_are_imported_where_they_are_needed(library):
    def uses(names):
        return any(n.split(".")[0] == library for n in names)

    for path in MODULES:
        module = name_of(path)
        if uses(imports(path)):
            assert module in ALLOWED[library], f"{module} imports {library}"
        if ALLOWED[library].get(module) == "lazily":
            assert not uses(imports(path, everywhere=False)), f"{module} imports {library} at once"


def test_importing_the_package_loads_no_compiler():
    code = (
        "import sys, graphc.api, graphc.train, graphc.report, graphc.cli, graphc.symbolic\n"
        "print([m for m in ('numba', 'llvmlite', 'sympy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
