"""The sources look as pyproject.toml says: ruff reads the Python files, these tests the others."""
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 100                           # characters of a line, as in pyproject.toml
COMPILED = sorted(p for kind in ("pyx", "pxd", "pxi") for p in ROOT.glob(f"crdtredis/**/*.{kind}"))


def test_ruff_finds_nothing():
    argv = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise", "."]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_compiled_sources():
    assert len(COMPILED) > 50


@pytest.mark.parametrize("path", COMPILED, ids=lambda p: str(p.relative_to(ROOT)))
def test_lines_of_compiled_sources(path):
    """Neither ruff nor another formatter reads Cython."""
    text = path.read_text()
    assert not text or (text.endswith("\n") and not text.endswith("\n\n")), "one line break ends it"
    for number, line in enumerate(text.split("\n"), 1):
        assert len(line) <= LONGEST, f"line {number} has {len(line)} characters"
        assert line == line.rstrip(), f"line {number} ends with white space"
        assert "\t" not in line, f"line {number} has a tab"
