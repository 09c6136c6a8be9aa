"""What web pages can have a browser send to the HTTP port: requests across origins, and DNS
rebinding."""
from __future__ import annotations

import http.client
import json

import pytest

from crdtredis.replication.wire import CONTENT_TYPE, decode, proto

OURS = ["127.0.0.1:8080", "127.0.0.1", "localhost", "LocalHost:80", "localhost.", "a.localhost:1",
        "[::1]:8080", "[::1]", "10.1.2.3:8080", None]
FOREIGN = ["evil.example:8080", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example",
           "2130706433", "0x7f.1", "", "[evil.example]", "::1:8080x"]


def ask(server, path, method="GET", host="127.0.0.1", body=None, **headers):
    """(status, headers, body). host None: no Host header, as in HTTP/1.0."""
    c = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=10)
    if host is None:
        c._http_vsn, c._http_vsn_str = 10, "HTTP/1.0"
    c.putrequest(method, path, skip_host=True)
    if host is not None:
        c.putheader("Host", host)
    for name, value in headers.items():
        c.putheader(name.replace("_", "-"), value)
    if body is not None:
        c.putheader("Content-Length", str(len(body)))
    c.endheaders(body)
    r = c.getresponse()
    return r.status, r.headers, r.read()


@pytest.mark.parametrize("path", ["/stats", "/metrics", "/config", "/nothing"])
def test_without_a_token_no_foreign_name_is_replied(server, path):
    s = server()
    for host in OURS:
        assert ask(s, path, host=host)[0] == (404 if path == "/nothing" else 200), host
    for host in FOREIGN:
        status, _, body = ask(s, path, host=host)
        assert status in (421, 400) and b"replica" not in body, host


def test_a_rebound_page_changes_no_setting(server):
    s = server()
    change = json.dumps({"requirepass": "mine"}).encode()
    assert (ask(s, "/config", "PATCH", "evil.example:8080", change,
                Content_Type="application/json")[0] == 421)
    assert s("CONFIG", "GET", "requirepass")[1] == b""
    assert (ask(s, "/config", "PATCH", "localhost", change, Content_Type="application/json")[0]
            == 200)


@pytest.mark.parametrize("header", [{"Origin": "http://evil.example"}, {"Origin": "null"},
                                    {"origin": "http://127.0.0.1:8080"},
                                    {"Sec_Fetch_Site": "cross-site"},
                                    {"Sec_Fetch_Site": "same-site"}, {"sec_fetch_site": "none"}])
@pytest.mark.parametrize("token", [None, "open-sesame"])
def test_no_page_changes_a_setting_or_replicates(server, header, token):
    s = server(**({"auth_token": token} if token else {}))
    sent = {"Authorization": f"Bearer {token}"} if token else {}
    change = json.dumps({"log_level": "debug"}).encode()
    assert (ask(s, "/config", "PATCH", body=change, Content_Type="application/json", **sent,
                **header)[0] == 403)
    assert s("CONFIG", "GET", "loglevel")[1] == b"info"
    for route in ("handshake", "push", "pull"):
        status, headers, body = ask(s, f"/replication/{route}", "POST", body=b"",
                                    Content_Type=CONTENT_TYPE, **sent, **header)
        assert status == 403 and headers["Content-Type"] == CONTENT_TYPE
        assert decode(proto.Refusal, body)[0].code == proto.UNAUTHORIZED
    # what it may not read, it may not have made either, for that takes time
    expected = 200 if header == {"sec_fetch_site": "none"} else 403
    for path in ("/config", "/stats", "/page/keys", "/v1/bdbs"):
        assert ask(s, path, **sent, **header)[0] == expected, path
    assert ask(s, "/", **header)[0] == ask(s, "/health", **header)[0] == 200


def test_browsers_that_ask_first_get_no_permission(server):
    s = server()
    for path in ("/config", "/replication/push", "/stats"):
        status, headers, _ = ask(s, path, "OPTIONS", Origin="http://evil.example",
                                 Access_Control_Request_Method="PATCH")
        assert (status == 403 and not any(name.lower().startswith("access-control")
                                          for name in headers))
    assert not any(name.lower().startswith("access-control")
                   for name in ask(s, "/stats", Origin="http://evil.example")[1])


def test_health_replies_any_name_and_gives_reasons_to_ours(server):
    s = server()
    assert json.loads(ask(s, "/health")[2]) == {"status": "ok", "reasons": [], "warnings": []}
    for host in FOREIGN[:4]:
        assert json.loads(ask(s, "/health", host=host)[2]) == {"status": "ok"}


def test_with_a_token_any_name_will_do(server):
    s = server(auth_token="open-sesame")
    assert ask(s, "/stats", host="evil.example")[0] == 401
    assert ask(s, "/stats", host="redis.example", Authorization="Bearer open-sesame")[0] == 200
    assert ask(s, "/stats", Authorization="bearer open-sesame")[0] == 200
    assert b"token is missing or wrong" in ask(s, "/stats", Authorization="open-sesame")[2]
    assert (json.loads(ask(s, "/health", host="redis.example",
                           Authorization="Bearer open-sesame")[2])["reasons"] == [])


def own_address() -> str:
    """One of this machine's that is no loopback address; "": it has none."""
    import socket
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        return s.getsockname()[0]


def test_health_gives_reasons_for_a_token_or_on_this_machine(server):
    s = server(auth_token="open-sesame", metrics_token="look")
    here = {"status": "ok", "reasons": [], "warnings": []}
    assert json.loads(ask(s, "/health")[2]) == here
    for name in ("X_Forwarded_For", "X_Forwarded_Proto", "X_Envoy_Internal", "Forwarded", "Via",
                 "X_Real_IP"):
        proxied = {name: "for=192.0.2.1"}
        assert json.loads(ask(s, "/health", **proxied)[2]) == {"status": "ok"}
        for token, found in ("look", here), ("wrong", {"status": "ok"}):
            assert json.loads(ask(s, "/health", Authorization=f"Bearer {token}",
                                  **proxied)[2]) == found
    if at := own_address():             # for the kernel, another address than the one it asks
        for token, found in ("look", here), ("", {"status": "ok"}):
            c = http.client.HTTPConnection("127.0.0.1", s.http_port, timeout=10,
                                           source_address=(at, 0))
            c.request("GET", "/health", headers={"Authorization": f"Bearer {token}"})
            reply = c.getresponse()
            assert reply.status == 200 and json.loads(reply.read()) == found
            c.close()


def test_replicas_call_each_other_by_names_without_a_token(server):
    """localhost.localdomain and the like: a name that operators' routes would not reply to."""
    a = server("a")
    status, headers, body = ask(a, "/replication/push", "POST", "replica-a.internal:8080", b"",
                                Content_Type=CONTENT_TYPE)
    assert (headers["Content-Type"] == CONTENT_TYPE
            and decode(proto.Refusal, body)[0].code not in (proto.UNAUTHORIZED,))


def test_nobody_is_told_versions(server):
    s = server()
    for path, headers in (("/health", {}), ("/nothing", {}), ("/stats", {"Host ": "x"}),
                          ("/config", {"Content_Length": "x"})):
        reply = ask(s, path, **headers)
        assert reply[1]["Server"] == "crdt-redis", path
    for raw in (b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"x" * 20_000):
        import socket
        with socket.create_connection(("127.0.0.1", s.http_port), 10) as c:
            c.sendall(raw)
            got = c.recv(65536)
            assert got.startswith(b"HTTP/1.") and b"aiohttp" not in got and b"Python" not in got
