"""The deliberate faults stand in the text, and it does not matter how that is wrapped."""
from collections import Counter

import pytest

from tests.simulation.faults import FAULTS, Fault
from tests.simulation.mutate import PROGRAMS, ROOT, PARTS, replaced


def test_names_are_unique():
    assert [name for name, n in Counter(f.name for f in FAULTS).items() if n > 1] == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.name)
def test_a_fault_is_in_its_file_once_and_its_test_exists(fault):
    found = replaced((ROOT / fault.path).read_text(), fault)
    assert len(found) == 1, f"the text is there {len(found)} times"
    if fault.path.endswith(".py"):
        compile(found[0], fault.path, "exec")
    for check in fault.test.split() if fault.test not in PROGRAMS else ():
        path, _, test = check.partition("::")
        assert (ROOT / "tests" / path).exists(), check
        assert not test or f"def {test}(" in (ROOT / "tests" / path).read_text(), check


def test_the_parts_are_all():
    assert Counter(f for n in range(PARTS) for f in FAULTS[n::PARTS]) == Counter(FAULTS)


def change(source: str, old: str, new: str) -> list[str]:
    return replaced(source, Fault("x", "x.py", "x", old, new))


def test_wrapping_and_indentation_do_not_count():
    old, new = "    if a and f(b, c):\n", "    if a:\n"
    for condition in ("a and f(b, c)", "a and f(\n            b, c)",
                      "a \\\n            and f(b,\n                  c)"):
        source = f"y\n    if {condition}:\n        x\n"
        assert change(source, old, new) == ["y\n    if a:\n        x\n"]
    source, changed = "        if a and f(b, c):\n            x\n", "        if a:\n            x\n"
    assert change(source, old, new) == [changed]


def test_lines_of_a_fault_move_with_its_first():
    old, new = "    b += 1\n", "    b += 1\n    if b:\n        c = 1\n"
    changed = "for x in y:\n        b += 1\n        if b:\n            c = 1\n"
    assert change("for x in y:\n        b += 1\n", old, new) == [changed]


def test_a_statement_that_goes_leaves_its_block():
    assert change("if x:\n    b = 1\n\n", "    b = 1\n", "") == ["if x:\n    pass\n\n"]


def test_parts_of_words_and_of_lines_are_no_match():
    assert change("    bb += 1\n", "b += 1", "") == []
    source, changed = "    return 1 + x\n    return 1\n", "    return 1 + x\n    return 2\n"
    assert change(source, "    return 1\n", "    return 2\n") == [changed]
    assert change("x = f(a)\nif y and f(a):\n", " and f(a)", "") == ["x = f(a)\nif y:\n"]


def test_every_place_is_found():
    assert len(change("f(a)\nf( a )\n", "f(a)", "g()")) == 2
