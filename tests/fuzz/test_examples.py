"""Every seed and every input that once failed, through its target, in the ordinary build."""
from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS, seeds

EXAMPLES = sorted(p for p in (Path(__file__).parent / "examples").glob("*/*") if p.is_file())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_example(path):
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_seeds(target):
    for data in seeds(target):
        TARGETS[target](data)
