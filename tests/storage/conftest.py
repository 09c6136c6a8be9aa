import pytest

from tests.storage.node import Node


@pytest.fixture(params=["longer", "short"])
def form(request, monkeypatch):
    """Of effects and records that nodes write."""
    monkeypatch.setattr(Node, "short", request.param == "short")
    if Node.short:
        monkeypatch.setenv("SHORT_RECORDS", "1")        # and of those that children make
    return request.param
