"""Clients of Redis Enterprise find out where to go: by its paths, and with a client of redis-py."""
import asyncio
import base64
import json
import random
from types import SimpleNamespace

import pytest

from tests.http.test_operators import ask, until
from tests.real.cluster import Server
from tests.real.links import Links

LAG = "/v1/bdbs/1/availability?extend_check=lag&availability_lag_tolerance_ms="


def test_the_database_and_its_addresses(server):
    s = server(cluster_name="shop")
    status, _, text = ask(s, "/v1/bdbs")
    found, = json.loads(text)
    assert status == 200 and (found["uid"], found["name"], found["status"]) == (1, "shop", "active")
    assert found["endpoints"] == [{"uid": "1:1", "dns_name": "127.0.0.1", "addr": ["127.0.0.1"],
                                   "addr_type": "internal", "port": s.port}]
    for path in ("/v1/bdbs/1/availability", "/v1/local/bdbs/1/endpoint/availability", LAG + "0",
                 "/v1/bdbs/1/availability?extend_check=lag"):
        assert ask(s, path)[0] == 200, path
    for path, status, code in (("/v1/bdbs/2/availability", 404, "db_not_found"),
                               ("/v1/bdbs/1/availability?extend_check=all", 400, "invalid_param"),
                               (LAG + "-1", 400, "invalid_param"),
                               (LAG + "9" * 5000, 400, "invalid_param")):
        found, _, text = ask(s, path)
        assert (found, json.loads(text)["error_code"]) == (status, code)


def test_tokens_as_bearer_and_as_password(server):
    s = server(auth_token="peer", metrics_token="watch")

    def basic(given: str) -> int:
        return ask(s, "/v1/bdbs", authorization=f"Basic {given}")[0]

    assert ask(s, "/v1/bdbs")[0] == 401 and ask(s, "/v1/bdbs", token="watch")[0] == 200
    assert basic(base64.b64encode(b"anyone:watch").decode()) == 200
    assert [basic(g) for g in (base64.b64encode(b"watch").decode(), "", "=", "\xff",
                               base64.b64encode(b"a:b").decode())] == [401] * 5
    # nowhere else, since browsers keep passwords and show them by themselves
    assert ask(s, "/stats", authorization="Basic "
               + base64.b64encode(b"anyone:watch").decode())[0] == 401


@pytest.fixture
def slow_pair(processes):
    """b, which its writers fill, and a, to which little comes at a time once `slow` is called."""
    links = Links()
    a, b = (Server(name, sync_interval="50ms", peer_discovery="no") for name in "ab")
    to = [links.to(s.http_port) for s in (b, a)]
    for s, link in zip((a, b), to, strict=True):
        s.peers = [link.address]
        s.start()

    def slow() -> None:
        for link in to:
            link.rate = 100_000.0

    yield a, b, slow
    links.close()


def test_a_replica_that_lags_is_not_available(slow_pair):
    a, b, slow = slow_pair
    until(lambda: all(": up" in str(s("CRDT.PEERS")) for s in (a, b)))
    assert ask(a, LAG + "1000")[0] == ask(b, LAG + "1000")[0] == 200
    slow()
    for i in range(20):
        b("SET", f"k{i}", bytes(random.randbytes(100_000)))
    status, _, text = until(lambda: (found := ask(a, LAG + "100"))[0] == 503 and found)
    found = json.loads(text)
    assert found["error_code"] == "bdb_unavailable" and "for more than 100 ms" in text
    assert ask(a, "/v1/bdbs/1/availability")[0] == 200          # it can be read and written
    assert ask(a, LAG + "3600000")[0] == 200
    assert ask(b, LAG + "100")[0] == 200                        # it lacks nothing
    # however seldom somebody asks: since when it lags is known
    assert until(lambda: ask(a, LAG + "1500")[0] == 503)
    # who cannot be reached does not count
    a("CRDT.PEER", "PAUSE", "*")
    assert ask(a, LAG + "0")[0] == 200


def test_a_client_of_redis_py_finds_its_database(server):
    from redis import Redis
    from redis.asyncio.multidb.healthcheck import LagAwareHealthCheck

    s = server(auth_token="hush")

    def healthy(password: str) -> bool:
        check = LagAwareHealthCheck(rest_api_port=int(s.address.rpartition(":")[2]),
                                    auth_basic=("me", password))
        database = SimpleNamespace(client=Redis(port=s.port, host="127.0.0.1"),
                                   health_check_url="http://127.0.0.1")
        return asyncio.run(check.check_health(database, None))

    assert healthy("hush")
    with pytest.raises(Exception, match="token is missing"):
        healthy("wrong")
