"""What TLS costs: CPU time per request, of clients in the clear and over TLS, beside redis-server.

    python -m bench.tls [-n 600000] [--rounds 3] [--tests set,get]

One interleaved run: in each round each server has each load, and the least CPU time of all rounds
counts, since others on the machine only add to it. redis-server, redis-benchmark and openssl must
have been built with TLS; Debian's are.
"""
from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

from tests.real.cluster import Process, Reference, Server, free_port, stop_all


def certificate(folder: Path) -> tuple[Path, Path]:
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key,
                    "-out", cert, "-days", "2", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)
    return cert, key


def load(port: int, test: str, depth: int, n: int, *options: str) -> None:
    subprocess.run(["redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-t", test, "-n", str(n),
                    "-c", "50", "-P", str(depth), "-r", "100000", "-q", *options], check=True,
                   capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=600_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tests", default="set,get")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cert, key = certificate(Path(folder))
        secure = {"redis": free_port(), "ours": free_port()}
        servers: dict[str, Process] = {
            "redis": Reference("--save", "", "--appendonly", "yes", "--tls-port",
                               str(secure["redis"]), "--tls-cert-file", str(cert), "--tls-key-file",
                               str(key), "--tls-auth-clients", "no", "--tls-ca-cert-file",
                               str(cert)),
            "ours": Server("a", tls_port=secure["ours"], tls_cert_file=cert, tls_key_file=key,
                           tls_auth_clients="no")}
        best: dict[tuple[str, str, int, str], float] = {}
        try:
            for s in servers.values():
                s.start()
            for _ in range(given.rounds):
                for test in given.tests.split(","):
                    for depth, n in ((16, given.n), (1, given.n // 6)):
                        for way in ("plain", "tls"):
                            for name, s in servers.items():
                                options = ("--tls", "--cacert", str(cert)) if way == "tls" else ()
                                before = s.cpu_seconds()
                                load(secure[name] if way == "tls" else s.port, test, depth, n,
                                     *options)
                                took = (s.cpu_seconds() - before) / n * 1e6
                                at = test, way, depth, name
                                best[at] = min(best.get(at, took), took)
        finally:
            stop_all()
    print("| test | -P | | redis µs CPU/req | ours µs CPU/req | ratio |\n|---|---|---|---|---|---|")
    for test, way, depth in dict.fromkeys(at[:3] for at in best):
        redis, ours = (best[test, way, depth, name] for name in ("redis", "ours"))
        print(f"| {test} | {depth} | {way} | {redis:.2f} | {ours:.2f} | {ours / redis:.2f} |")


if __name__ == "__main__":
    main()
