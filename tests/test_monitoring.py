"""packaging/alerts.yml and packaging/grafana.json: what they ask for is in /metrics, and where
there is a Prometheus, it answers."""
import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request

import pytest

from tests.http.test_operators import ask, until
from tests.real.certificates import Authority
from tests.real.cluster import ROOT, free_port

ALERTS = ROOT / "packaging/alerts.yml"
DASHBOARD = json.loads((ROOT / "packaging/grafana.json").read_text())
PROMTOOL, PROMETHEUS = shutil.which("promtool"), shutil.which("prometheus")


def questions() -> list[str]:
    """What the dashboard asks, of all replicas."""
    asked = [t["expr"] for panel in DASHBOARD["panels"] for t in panel.get("targets", ())]
    for name, value in (("$job", "crdt-redis"), ("$instance", ".*"), ("$__rate_interval", "1m")):
        asked = [expr.replace(name, value) for expr in asked]
    return asked


def test_each_metric_they_name_is_there(cluster):
    a, b, _ = cluster(3)
    a("SET", "k", "v")
    b("SET", "k", "v")
    b("CRDT.SYNC")
    text = ask(a, "/metrics")[2]
    there = set(re.findall(r"^(?:# TYPE )?(\w+)(?:\{| )", text, re.M))
    named = set(re.findall(r"crdt_redis_\w+", ALERTS.read_text() + json.dumps(DASHBOARD)))
    assert len(named) > 30 and named <= there, named - there
    states = set(re.findall(r'crdt_redis_peer_state\{.*state="([^"]+)"', text))
    for pattern in re.findall(r'state[=!]~?"([^"]+)', "".join([ALERTS.read_text(), *questions()])):
        assert set(pattern.split("|")) <= states, pattern


def test_panels_do_not_overlap_and_have_names():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"])
                 for y in range(at["y"], at["y"] + at["h"])}
        assert panel["title"] and not cells & taken and max(x for x, _ in cells) < 24
        taken |= cells


@pytest.mark.skipif(PROMTOOL is None or PROMETHEUS is None, reason="no Prometheus here")
def test_a_prometheus_answers(cluster, tmp_path):
    subprocess.run([PROMTOOL, "check", "rules", ALERTS], check=True)
    a, b, _ = cluster(3, tls_ca_file=Authority(tmp_path).file)
    metrics = subprocess.run([PROMTOOL, "check", "metrics"], input=ask(a, "/metrics")[2], text=True,
                             capture_output=True)
    assert metrics.returncode == 0, metrics.stdout + metrics.stderr
    config, port = tmp_path / "prometheus.yml", free_port()
    config.write_text(json.dumps({
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ALERTS)], "scrape_configs": [
            {"job_name": "crdt-redis", "static_configs": [{"targets": [a.address, b.address]}]}]}))
    process = subprocess.Popen(
        [PROMETHEUS, f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}",
         f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"])

    def answer(path: str, **query):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{path}?"
                                    + urllib.parse.urlencode(query), timeout=10) as reply:
            return json.load(reply)["data"]

    try:
        with a.connect() as c:
            c.pipeline([("SET", f"k{i % 10}", "v") for i in range(1000)] + [("GET", "k1")] * 1000)
        until(lambda: answer("query", query="rate(crdt_redis_commands_total[1m])")["result"])
        # none of which may be there in a cluster that is well
        empty = ("peer_state", "memory_limit_bytes")
        for question in questions():
            found = until(lambda: any(e in question for e in empty) or answer(
                "query", query=question)["result"])
            assert found, question
        rules = answer("rules")["groups"][0]["rules"]
        assert len(rules) == ALERTS.read_text().count("- alert:")
        a("CONFIG", "SET", "max_memory", "1mb")
        until(lambda: all(r["health"] == "ok" for r in answer("rules")["groups"][0]["rules"]))
        a("CRDT.PEER", "PAUSE", "*")
        until(lambda: {r["name"] for r in answer("rules")["groups"][0]["rules"]
                       if r["state"] == "pending"} >= {"CrdtRedisPeerPaused"})
    finally:
        process.kill()
        process.wait()
