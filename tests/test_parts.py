"""The parts of the kernel: each uses only those that stand before it in the index, so there is no
circle among them, and each has a contract, core/<part>.pxd.

A part is core/<part>.pxi together with core/<part>.pxd. What it defines (functions, structs, enums
and their constants, classes, globals) and what it uses is read from the sources: words, without
comments, strings, attributes and the names of fields. So nothing local may have the name of
something in a later part.
"""
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "crdtredis"
CORE = PACKAGE / "core"
INDEX = re.findall(r'include "core/(\w+)\.pxd"', (PACKAGE / "_core.pxd").read_text())
DEFINITIONS = [re.compile(p, re.M) for p in (
    r"^(?:cdef|def) [^\n(]*\b(\w+)\(",                                  # functions
    r"^(?:cdef )?(?:struct|enum|class|ctypedef \w+) (\w+)",             # types
    r"^ctypedef .*\(\*(\w+)\)",
    r"^cdef (?:\w+ )+\**(\w+)(?:\[\w+\])?(?: = .*)?$")]                 # globals
BLOCK = re.compile(r"^cdef (struct|enum|extern)\b.*:\n((?:    .*\n|\n)*)", re.M)
FIELD = re.compile(r"\b\w+(?:\[\w+\])*$", re.M)


def source(part: str) -> str:
    """Both files of a part without docstrings, strings and comments."""
    files = [CORE / f"{part}.pxd", CORE / f"{part}.pxi"]
    text = "\n".join(f.read_text() for f in files if f.exists())
    text = re.sub(r'"""(?:[^\\]|\\.)*?"""', '""', text, flags=re.S)
    return re.sub(r" *(#.*)?$", "", re.sub(r'"(?:[^"\\\n]|\\.)*"', '""', text), flags=re.M)


def defined(text: str) -> set[str]:
    found = {name for pattern in DEFINITIONS for name in pattern.findall(text)}
    for kind, body in BLOCK.findall(text):
        if kind == "enum":
            found |= set(re.findall(r"^    (\w+)", body, re.M))
        elif kind == "extern":
            found |= set(re.findall(r"^    [^\n(]*\b(\w+)\(", body, re.M))
    return found


def used(text: str) -> set[str]:
    text = BLOCK.sub(lambda b: FIELD.sub("", b[2]) if b[1] == "struct" else b[0], text)
    return set(re.findall(r"(?<![.\w])[A-Za-z_]\w*", text))


SOURCES = {part: source(part) for part in INDEX}
HOME = {name: part for part, text in reversed(SOURCES.items()) for name in defined(text)}


def test_each_file_is_in_the_index_and_each_part_has_a_contract():
    parts = re.findall(r'include "core/(\w+)\.pxi"', (PACKAGE / "_core.pyx").read_text())
    assert {f.stem for f in CORE.glob("*.pxi")} == set(parts)
    assert {f.stem for f in CORE.glob("*.pxd")} == set(INDEX)
    assert [p for p in INDEX if p in parts] == parts, "one order in both indexes"


@pytest.mark.parametrize("part", INDEX)
def test_a_part_uses_only_those_before_it(part):
    place = INDEX.index(part)
    later = {n: HOME[n] for n in used(SOURCES[part])
             if n in HOME and INDEX.index(HOME[n]) > place}
    assert later == {}


def test_what_is_defined_and_used_is_found():
    text = ("cdef struct Box:\n    Lid *lid\n    int blocked\n\ncdef enum:\n    MOST = 3\n\n"
            "cdef inline Lid *open(Box *b) noexcept nogil:\n    return take(b.give, MOST)\n")
    assert defined(text) == {"Box", "MOST", "open"}
    assert {"Lid", "take"} <= used(text) and not {"blocked", "give"} & used(text)
