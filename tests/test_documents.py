"""Every code block of the documents runs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def python_blocks():
    for document in (
        "README.md",
        "docs/design.md",
        "docs/linalg.md",
        "docs/gradients.md",
        "bench/README.md",
    ):
        for index, block in enumerate(blocks(document, "python")):
            yield pytest.param(block, id=f"{document}-{index}")


@pytest.mark.parametrize("block", list(python_blocks()))
def test_python_block_runs(block, tmp_path):
    script = tmp_path / "block.py"
    script.write_text(block)
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_readme_example_is_short_and_first():
    example, *_ = blocks("README.md", "python")
    assert len([line for line in example.splitlines() if line.strip()]) <= 18


def test_readme_dump_command_runs():
    commands = [b.strip() for b in blocks("README.md", "sh") if b.startswith("graphc dump")]
    assert commands
    for command in commands:
        arguments = shlex.split(command)[1:]
        done = subprocess.run(
            [sys.executable, "-m", "graphc.cli", *arguments],
            cwd=ROOT, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "def main(" in done.stdout


def test_readme_names_the_two_commands_on_its_first_screen():
    head = "\n".join((ROOT / "README.md").read_text().splitlines()[:20])
    assert 'python3 -m pip install ".[demo]" && graphc demo' in head
    assert 'python3 -m pip install ".[test]" && python3 -m pytest' in head
