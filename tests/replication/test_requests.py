"""The tests of conversations once more, where no streams can be had: pushes are requests of their
own."""
import pytest

from tests.replication import network, test_peers

TESTS = {name: test for name, test in vars(test_peers).items() if name.startswith("test_")
         and "_on_a_stream_" not in name and not getattr(test, "pytestmark", None)}


@pytest.mark.parametrize("name", TESTS)
def test_in_requests(name, monkeypatch):
    monkeypatch.setattr(network, "streams", False)
    TESTS[name]()
