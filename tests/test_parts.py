"""The parts of the kernel, the codec and the engine: each uses only those that stand before it in
the index, so there is no circle among them, and each has a contract, <folder>/<part>.pxd.

A part is <folder>/<part>.pxi together with <folder>/<part>.pxd. What it defines (functions,
structs, enums and their constants, classes, globals) and what it uses is read from the sources:
words, without comments, strings, attributes and the names of fields. So nothing local may have the
name of something in a later part. What the index declares without saying what is in it (`cdef
struct Box`) may be pointed to by every part.
"""
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "crdtredis"
FOLDERS = ("core", "resp", "engine")
DEFINITIONS = [re.compile(p, re.M) for p in (
    r"^(?:cdef|def) [^\n(]*\b(\w+)\(",                                  # functions
    r"^(?:cdef )?(?:struct|enum|class|ctypedef \w+) (\w+)",             # types
    r"^ctypedef .*\(\*(\w+)\)",
    r"^cdef (?:\w+ )+\**(\w+)(?:\[\w+\])?(?: = .*)?$")]                 # globals
BLOCK = re.compile(r"^cdef (struct|enum|extern)\b.*:\n((?:    .*\n|\n)*)", re.M)
FIELD = re.compile(r"\b\w+(?:\[\w+\])*$", re.M)


def index(folder: str, ending: str) -> list[str]:
    """The parts in the order in which the index includes them."""
    text = (PACKAGE / f"_{folder}.{ending}").read_text()
    return re.findall(rf'include "{folder}/(\w+)\.px[di]"', text)


def source(folder: str, part: str) -> str:
    """Both files of a part without docstrings, strings and comments."""
    files = [PACKAGE / folder / f"{part}.pxd", PACKAGE / folder / f"{part}.pxi"]
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


PARTS = {folder: index(folder, "pxd") for folder in FOLDERS}
SOURCES = {(folder, part): source(folder, part) for folder in FOLDERS for part in PARTS[folder]}
HOME = {folder: {name: part for part in reversed(PARTS[folder])
                 for name in defined(SOURCES[folder, part])} for folder in FOLDERS}
OPAQUE = {folder: re.findall(r"^cdef struct (\w+)$", (PACKAGE / f"_{folder}.pxd").read_text(),
                             re.M) for folder in FOLDERS}


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_file_is_in_the_index_and_each_part_has_a_contract(folder):
    parts = index(folder, "pyx")
    assert {f.stem for f in (PACKAGE / folder).glob("*.pxi")} == set(parts)
    assert {f.stem for f in (PACKAGE / folder).glob("*.pxd")} == set(PARTS[folder])
    assert [p for p in PARTS[folder] if p in parts] == parts, "one order in both indexes"


@pytest.mark.parametrize("folder, part", SOURCES, ids=map("/".join, SOURCES))
def test_a_part_uses_only_those_before_it(folder, part):
    home, place = HOME[folder], PARTS[folder].index
    text = re.sub(rf"\b(?:{'|'.join(OPAQUE[folder])}) \*", "*", SOURCES[folder, part])
    later = {n: home[n] for n in used(text) if n in home and place(home[n]) > place(part)}
    assert later == {}


def test_what_is_defined_and_used_is_found():
    text = ("cdef struct Box:\n    Lid *lid\n    int blocked\n\ncdef enum:\n    MOST = 3\n\n"
            "cdef inline Lid *open(Box *b) noexcept nogil:\n    return take(b.give, MOST)\n")
    assert defined(text) == {"Box", "MOST", "open"}
    assert {"Lid", "take"} <= used(text) and not {"blocked", "give"} & used(text)
