"""What stands in packaging/ and is no program: it names settings, paths and versions that exist."""
import re

import pytest

from crdtredis import __version__
from crdtredis.config import Config
from crdtredis.settings import BY_VARIABLE
from tests.real.cluster import ROOT

PACKAGING = ROOT / "packaging"


def text_of(name: str) -> str:
    return (PACKAGING / name).read_text()


@pytest.mark.parametrize("name", ["compose.yaml", "kubernetes.yaml"])
def test_what_containers_are_given(name):
    text = text_of(name)
    assert set(re.findall(r"\bCRDT_\w+", text)) <= set(BY_VARIABLE)
    assert set(re.findall(r"image: (\S+)", text)) == {f"crdt-redis:{__version__}"}


def environment_of(name: str) -> dict[str, str]:
    """Of the first replica there, but for its name."""
    found = dict(re.findall(r"\b(CRDT_\w+)(?:: |, value: |\n +value: )\"?(\$\{.*?\}|[^\"{}\n]+)",
                            text_of(name)))
    found = {k: re.sub(r"\$\{.*\}", "secret", v) for k, v in found.items()}
    return {k: v.replace("$(CRDT_REPLICA_ID)", "crdt-redis-0") for k, v in found.items()}


@pytest.mark.parametrize("name", ["compose.yaml", "kubernetes.yaml"])
def test_a_server_takes_that_environment(name, tmp_path):
    found = environment_of(name)
    for variable in [v for v in found if v.endswith("_FILE")]:
        (tmp_path / variable).write_text("secret")
        found[variable] = str(tmp_path / variable)
    config = Config.load(environ=found | {"CRDT_BIND": "* -::*"})
    assert len(config.peers) == 3 and config.requirepass == config.auth_token == "secret"
    assert config.warnings == [] or all("may read it" in w for w in config.warnings)


def test_kubernetes_does_not_set_our_port():
    """For a service crdt-redis it would give each pod CRDT_REDIS_PORT=tcp://...: our setting."""
    assert "CRDT_REDIS_PORT" in BY_VARIABLE
    assert re.findall("^ +(enableServiceLinks: .*)$", text_of("kubernetes.yaml"), re.M) == [
        "enableServiceLinks: false"]


def test_the_conffile(tmp_path):
    text = text_of("debian/crdt-redis.conf")
    assert not re.search("^[^#\n]", text, re.M)
    (tmp_path / "crdt-redis.conf").write_text(re.sub("^#(?=[a-z])", "", text, flags=re.M))
    (tmp_path / "crdt-redis.conf").chmod(0o600)
    config = Config.load(file=str(tmp_path / "crdt-redis.conf"))
    assert config.warnings == [] and config.peers == ("replica-2.example:8080",)


def test_the_unit_that_the_package_has_is_made_of_ours():
    """build_deb.sh edits it line by line: what it looks for is there."""
    unit = text_of("crdt-redis.service")
    for line in ("ExecStart=/usr/local/bin/crdt-redis --config", "DynamicUser=yes", "Description=",
                 "LoadCredential=crdt-redis.json:/etc/crdt-redis.json", "CacheDirectory=crdt-redis",
                 "Environment=TMPDIR=", "#LoadCredential=auth_token:/etc/crdt-redis.auth_token",
                 "# systemctl enable --now crdt-redis"):
        assert len(re.findall(f"^{re.escape(line)}", unit, re.M)) == 1, line
