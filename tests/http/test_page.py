"""The page at /: what it asks for, and the page itself in a browser, where there is one."""
import asyncio
import base64
import json
import re
import shutil
import subprocess
import urllib.parse

import aiohttp
import pytest

from tests.http.test_operators import ask, until

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
               None)


def get(s, path: str, token: str | None = None, **query):
    status, _, text = ask(s, f"{path}?{urllib.parse.urlencode(query)}", token=token)
    return json.loads(text) if status == 200 else status


def described(s, key: bytes, db: int = 0):
    found = get(s, "/page/key", db=db, id=base64.b64encode(key).decode())
    return (found["facts"], {title: rows for title, _, rows in found["tables"]}
            ) if isinstance(found, dict) else found


def test_the_page_loads_nothing_from_elsewhere_and_runs_no_other_script(server):
    status, headers, text = ask(server(), "/")
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; connect-src 'self'; script-src 'sha256-")
    assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert not re.findall(r"(?:src|href)\s*=|@import|url\(|innerHTML|onclick=", text)


def test_conflicts_and_slow_commands(cluster):
    a, b, _ = cluster(3, slowlog_log_slower_than=0)
    a("CRDT.PEER", "PAUSE", "*")
    a("SET", "k\n", "<b>\xff")
    b("SET", "k\n", "other")
    a("CRDT.PEER", "RESUME", "*")
    found = until(lambda: get(a, "/page/conflicts"))[0]
    assert found["key"] == "k\\n" and {found["winner"]["value"], found["loser"]["value"]} == {
        "<b>ÿ", "other"}
    assert {found["winner"]["replica"], found["loser"]["replica"]} == {"a", "b"}
    met, = get(a, "/page/meetings")
    assert (met["keys"], met["conflicts"], met["latest"]["winner"]) == ("k\\n", 1, found["winner"])
    slow = get(a, "/page/slow", count=1000)
    assert ["SET", "k\\n", "<b>ÿ"] in [entry["args"] for entry in slow]
    assert get(a, "/page/slow", count=1001) == get(a, "/page/conflicts", count="x") == 400
    assert get(a, "/page/advice") == []
    a("CRDT.PEER", "PAUSE", "*")
    a("SET", "hits:<1>", "1"), b("SET", "hits:<1>", "2")
    a("CRDT.PEER", "RESUME", "*")
    x, = until(lambda: get(a, "/page/advice"))
    assert (x["kind"], x["db"], x["keys"]) == ("numbers", 0, "'hits:*'")
    assert f"{x['evidence']}: {x['advice']}".encode() == a("CRDT.ADVICE")[0]
    stats = ask(a, "/stats")[2]
    assert json.loads(stats)["advice"] == {"numbers": 1} and "hits:" not in stats


def test_keys_are_found_a_part_at_a_time(server):
    s = server()
    with s.connect() as c:
        c.pipeline([("SET", f"k:{i}", "v") for i in range(3000)])
        c("SET", b"\xff\x00", "v")
        c("SELECT", 3)
        c("SADD", "other", "m")
    cursor, names, asked = "0", [], 0
    while True:
        found = get(s, "/page/keys", cursor=cursor, match="k:*")
        names += [k["key"] for k in found["keys"]]
        cursor, asked = found["cursor"], asked + 1
        if cursor == "0":
            break
    assert len(names) == len(set(names)) == 3000 and asked > 3
    found = get(s, "/page/keys", match="k:2999")        # however many do not match
    assert [k["key"] for k in found["keys"]] == ["k:2999"] and found["cursor"] == "0"
    odd, = (k for k in get(s, "/page/keys", match="[^k]*")["keys"])
    assert odd["key"] == "\\xff\\x00" and base64.b64decode(odd["id"]) == b"\xff\x00"
    assert get(s, "/page/keys", db=3)["keys"][0]["type"] == "set"
    for wrong in ({"db": 16}, {"db": "x"}, {"cursor": "-1"}, {"cursor": 1 << 64}):
        assert get(s, "/page/keys", **wrong) == 400, wrong


def test_all_that_is_kept_of_a_key(cluster):
    a, b, _ = cluster(3)
    for s in (a, b):
        s("INCRBY", "n", 5)
    a("SET", "s", "x" * 2000)
    a("EXPIRE", "s", 1000)
    a("HSET", "h", "f", "v")
    a("SADD", "set", "m")
    a("ZADD", "z", 1.5, "m")
    a("RPUSH", "l", *range(60))
    a("CRDT.SYNC")
    b("CRDT.SYNC")
    facts, tables = described(a, b"n")
    assert tables["Value"] == [["10"]] and sorted(
        (row[0][0], row[1]) for row in tables["Counter entries"]) == [("a", "5"), ("b", "5")]
    facts, tables = described(a, b"s")
    assert facts["Type"] == "string" and re.fullmatch(r"in \d+(\.\d+)? s", facts["Ends"])
    assert tables["Value"] == [["x" * 1000]] and len(tables["Deadlines"]) == 1
    assert tables["Writes, the one that shows first"][0][0] == "x" * 1000 + "... (2000 bytes)"
    for key, kind, rows in ((b"h", "hash", [["f", "v"]]), (b"set", "set", [["m"]]),
                            (b"z", "zset", [["m", "1.5"]]), (b"l", "list", [[str(i)] for i in
                                                                            range(50)])):
        facts, tables = described(a, key)
        assert facts["Type"] == kind and tables["Value (its beginning)"] == rows
    assert described(a, b"none") == 404 and get(a, "/page/key", id="?") == 400
    assert get(a, "/page/key", db=-1, id="bg==") == 400


def test_what_is_large_holds_nobody_up(server):
    s = server()
    with s.connect() as c:
        c.pipeline([("SET", "string", "x" * (5 << 20)), ("SET", "n" * 10_000, "v"),
                    *[("HSET", "hash", f"f{i}", "x" * (1 << 20)) for i in range(8)],
                    *[("SADD", "many", *range(i, i + 1000)) for i in range(0, 100_000, 1000)]])
    for key in (b"string", b"hash"):
        facts, tables = described(s, key)
        assert "too much to be shown" in facts["Memory"] and not tables
    facts, tables = described(s, b"many")
    assert len(tables["Value (its beginning)"]) == 50
    long, = (k for k in get(s, "/page/keys", match="n*")["keys"])
    assert long["key"] == "n" * 1000 + "... (10000 bytes)" and len(long["id"]) < 6000


def test_looking_is_for_operators_needs_no_user_and_leaves_no_trace(server):
    s = server(auth_token="peer", operator_token="op", metrics_token="m",
               maxmemory_policy="allkeys-lru")
    s("SET", "k", "v")
    s("ACL", "SETUSER", "me", "on", ">p", "~*", "+@all")
    with s.connect() as c:
        c("AUTH", "me", "p")
        c("ACL", "SETUSER", "default", "off", "-@all")      # operators are none of Redis's users
        until(lambda: c("OBJECT", "IDLETIME", "k") >= 1)
        paths = [("/page/conflicts", {}), ("/page/slow", {}), ("/page/keys", {}),
                 ("/page/key", {"id": "aw=="})]
        for path, query in paths:
            assert isinstance(get(s, path, "op", **query), (list, dict)), path
            assert [get(s, path, token, **query) for token in (None, "x", "peer", "m")] == [
                401, 401, 403, 403], path
        assert c("OBJECT", "IDLETIME", "k") >= 1
    assert ask(s, "/")[0] == 200


# ---- in a browser --------------------------------------------------------------------------------

class Tab:
    """One tab of a browser, told what to do by the DevTools protocol."""

    def __init__(self, connection: aiohttp.ClientWebSocketResponse) -> None:
        self.connection, self.sent, self.said = connection, 0, []

    async def __call__(self, method: str, **params):
        self.sent += 1
        await self.connection.send_json({"id": self.sent, "method": method, "params": params})
        while True:
            reply = await self.connection.receive_json(timeout=60)
            if reply.get("id") == self.sent:
                assert "error" not in reply, reply
                return reply["result"]
            if reply.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.said.append(reply["params"])

    async def js(self, expression: str):
        found = await self("Runtime.evaluate", expression=expression, awaitPromise=True,
                           returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def until(self, expression: str):
        for _ in range(1200):
            if found := await self.js(f"document.readyState == 'complete' && ({expression})"):
                return found
            await asyncio.sleep(0.05)
        raise AssertionError((expression, await self.js("document.body.innerText")))

    async def type(self, text: str) -> None:
        await self("Input.insertText", text=text)
        await self.key("Enter")

    async def key(self, name: str) -> None:
        for kind in ("rawKeyDown", "char", "keyUp"):
            await self("Input.dispatchKeyEvent", type=kind, key=name,
                       **({"text": "\r", "code": name, "windowsVirtualKeyCode": 13}
                          if name == "Enter" else {}))


async def look_at(url: str, folder, drive) -> list:
    """Runs drive(tab) on a page; what the browser complained about."""
    browser = subprocess.Popen(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
         f"--user-data-dir={folder}", "--no-first-run", "about:blank"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port = await asyncio.to_thread(until, lambda: (folder / "DevToolsActivePort").exists() and (
            folder / "DevToolsActivePort").read_text().split("\n")[0])
        async with aiohttp.ClientSession() as http:
            async with http.get(f"http://127.0.0.1:{port}/json") as reply:
                where = next(t["webSocketDebuggerUrl"] for t in await reply.json()
                             if t["type"] == "page")
            async with http.ws_connect(where, max_msg_size=0) as connection:
                tab = Tab(connection)
                for domain in ("Page", "Runtime", "Log"):
                    await tab(f"{domain}.enable")
                await tab("Page.navigate", url=url)
                await drive(tab)
                return tab.said
    finally:
        browser.kill()
        browser.wait()


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here: the page is not looked at")
def test_the_page_in_a_browser(cluster, tmp_path):
    a, b, _ = cluster(3, auth_token="peer", operator_token="hush", slowlog_log_slower_than=0)
    a("SET", "<img src=x onerror=alert(1)>", "<script>alert(2)</script>")
    b("HSET", "h", "f", "v")
    a("CRDT.SYNC")

    async def drive(tab: Tab) -> None:
        # it asks for the token, refuses a wrong one, and goes on with the right one
        await tab.until("!document.querySelector('#ask').hidden")
        await tab.js("document.querySelector('#word').focus()")
        await tab.type("wrong")
        await tab.until("document.querySelector('#wrong').textContent != ''")
        await tab.js("document.querySelector('#word').value = ''; "
                     "document.querySelector('#word').focus()")
        await tab.type("hush")
        assert await tab.until("document.querySelector('#name').textContent") == "a in default"
        await tab.until("document.querySelectorAll('#peers tr').length == 3")
        await tab.until("document.querySelectorAll('#slow tr').length > 1")
        # by keyboard alone: a search, and a key of it; what they hold is text
        await tab.js("document.querySelector('#match').focus()")
        await tab.key("Enter")
        await tab.until("document.querySelectorAll('#keys button').length == 2")
        await tab.js("[...document.querySelectorAll('#keys button')].find("
                     "b => b.textContent.startsWith('<img')).focus()")
        await tab.key("Enter")
        assert "<script>alert(2)</script>" in await tab.until(
            "document.querySelector('#key').textContent")
        assert await tab.js("document.images.length") == 0
        # a replica that is cut off is seen at once
        await asyncio.to_thread(b, "CRDT.PEER", "PAUSE", "*")
        await tab.until("document.querySelector('#peers').textContent.includes('paused')")
        await tab.until("document.querySelector('#status').textContent == 'warnings'")
        # light and dark, on a phone: nothing is cut off
        for width in (1300, 360):
            await tab("Emulation.setDeviceMetricsOverride", width=width, height=800,
                      deviceScaleFactor=1, mobile=width < 500)
            assert await tab.js("document.documentElement.scrollWidth") <= width
            assert width < 1000 or await tab.js(
                "[...document.querySelectorAll('.scroll')].every(x => "
                "x.scrollWidth <= x.clientWidth)")
            colour = "getComputedStyle(document.body).backgroundColor"
            before = await tab.js(colour)
            await tab.js("document.querySelector('#theme').click()")
            assert await tab.js(colour) != before

    said = asyncio.run(look_at(f"http://{a.address}/", tmp_path, drive))
    # the browser's own words on the 401s, and on no icon; nothing of the policy or of a script
    assert all(s.get("entry", {}).get("source") == "network" for s in said), said
