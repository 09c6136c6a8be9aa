"""The manual page and the completions: they hold all that is declared, and the programs that read
them do."""
import shutil
import subprocess

import pytest

from crdtredis.manual import SHELLS, flags, page
from crdtredis.settings import SETTINGS
from crdtredis.tools import TOOLS
from tests.test_cli import refused, run


def needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"no {program} here")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("manual")
    (folder / "crdt-redis.1").write_text("\n".join(page()) + "\n")
    for shell, lines in SHELLS.items():
        (folder / shell).write_text("\n".join(lines()) + "\n")
    return folder


def test_all_that_is_declared_is_there(files):
    text = (files / "crdt-redis.1").read_text().replace("\\-", "-")
    for s in SETTINGS:
        assert all(f"\\fB{flag}\\fR" in text for flag in s.flags) and s.variable in text
    for tool in TOOLS.values():
        assert f".SS crdt-redis {tool.name}" in text
        for flag in flags(tool):
            assert all(name in text for name in flag.names)
    for shell in SHELLS:
        text = (files / shell).read_text()
        for name in [n for tool in (None, *TOOLS.values()) for f in flags(tool) for n in f.names]:
            assert not name.startswith("--") or name[2:] in text, (shell, name)
        assert all(tool in text for tool in TOOLS)


def test_man_reads_the_page(files):
    needs("man")
    found = subprocess.run(["man", "--warnings", "-l", files / "crdt-redis.1"], text=True,
                           capture_output=True, env={"MANWIDTH": "100", "LC_ALL": "C.UTF-8",
                                                     "PATH": "/usr/bin:/bin"})
    assert found.returncode == 0 and found.stderr == ""
    for words in ("crdt-redis - active-active Redis", "--appendfsync always|everysec|no",
                  "crdt-redis restore SOURCE DIR", "CRDT_MAX_MEMORY"):
        assert words in found.stdout


def test_mandoc_reads_the_page(files):
    needs("mandoc")
    found = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", files / "crdt-redis.1"],
                           text=True, capture_output=True).stdout.splitlines()
    # it is the same whenever it is made, so it has no date
    assert [line for line in found if "missing date" not in line] == []


@pytest.mark.parametrize("words, there, not_there", [
    (("", ), ("backup", "healthcheck"), ("--port", "bash")),
    (("--appendf",), ("--appendfsync",), ("backup", "--port")),
    (("--appendfsync", ""), ("always", "everysec", "no"), ("backup", "--port")),
    (("--port", ""), (), ("backup", "--appendfsync")),
    (("backup", "--"), ("--follow", "--from"), ("--appendfsync", "--port")),
    (("healthcheck", "--"), ("--alive", "--http-port"), ("--follow",)),
    (("healthcheck", "--appendfsync", ""), ("always",), ("--alive",)),
    (("completion", ""), ("bash", "zsh", "fish"), ("backup",)),
    (("check", "--re"), ("--repair",), ("--replica-id",)),
    (("check", "/et"), ("/etc",), ("--repair",)),
    (("--config", "/et"), ("/etc",), ("--port",)),
])
@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_completion(files, tmp_path, shell, words, there, not_there):
    needs(shell)
    if shell == "bash":
        script = ('source "$0"; COMP_WORDS=(crdt-redis "$@"); COMP_CWORD=$#; _crdt_redis; '
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        command = ["bash", "--norc", "-c", script, files / "bash", *words]
    else:
        line = " ".join(["crdt-redis", *words])
        command = ["fish", "--no-config", "-c", f"source {files / 'fish'}; complete -C '{line}'"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path,
                           env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)})
    assert found.returncode in (0, 1) and found.stderr == "", found
    got = {line.split("\t")[0].rstrip("/") for line in found.stdout.splitlines()}
    assert set(there) <= got and not set(not_there) & got, got


def test_zsh_reads_its_completion(files):
    needs("zsh")
    found = subprocess.run(["zsh", "-n", files / "zsh"], capture_output=True, text=True)
    assert found.returncode == 0 and found.stderr == ""


def test_the_tools(files):
    assert run("man").stdout == (files / "crdt-redis.1").read_text()
    for shell in SHELLS:
        assert run("completion", shell).stdout == (files / shell).read_text()
    refused(run("completion", "csh"), 2, "invalid choice: 'csh'")
    refused(run("man", "x"), 2, "unrecognized arguments: x")
