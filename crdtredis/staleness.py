"""How late the writes of other replicas become visible here: what CRDT.LAG, /stats and the page say
of the kernel's counts (core/delay.pxi).
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

NONE = -1               # ms, where nothing was measured


def quantile(counts: Mapping[int, int], part: float) -> int:
    """The delay in ms within which so many of the operations were applied. NONE: there are none."""
    left = total = sum(counts.values())
    for ms, n in sorted(counts.items()):
        left -= n
        if left <= total * (1 - part):
            return ms
    return NONE


def lag(replica: str, delays: Mapping[str, Any]) -> dict[str, Any]:
    """Of one of Replica.delays(): quantiles of the last one or two minutes in which something
    came, and how good predictions were since the start, the one in force included."""
    window, before = Counter(dict(delays["window"])), Counter(dict(delays["before"]))
    recent = window + before
    predicted = delays["predicted"]
    foretold = sum(window.values()) if predicted is not None else 0
    within = sum(n for ms, n in window.items() if predicted is not None and ms <= predicted)
    return {"replica": replica, "ops": recent.total(), "p50_ms": quantile(recent, .5),
            "p99_ms": quantile(recent, .99), "p999_ms": quantile(recent, .999),
            "max_ms": quantile(recent, 1), "predicted_ms": NONE if predicted is None else predicted,
            "foretold": delays["foretold"] + foretold, "within": delays["within"] + within}


def lags(delays: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [lag(replica, d) for replica, d in sorted(delays.items())]


def line(x: Mapping[str, Any]) -> str:
    """As CRDT.LAG writes it."""
    text = (f"{x['replica']}: of its last {x['ops']} operations 50 % were here within "
            f"{x['p50_ms']} ms, 99 % within {x['p99_ms']} ms, 99.9 % within {x['p999_ms']} ms, "
            f"all within {x['max_ms']} ms")
    if x["predicted_ms"] == NONE:
        return text
    text += f"; predicted: 99.9 % within {x['predicted_ms']} ms"
    if x["foretold"]:
        part = 100 * x["within"] / x["foretold"]
        text += f"; predictions held for {floor_of(part)} % of {x['foretold']}"
    return text


def floor_of(percent: float) -> str:
    """With two digits, and 100 only where it is."""
    return f"{int(percent * 100) / 100:g}"


def doublings(counts: Iterable[tuple[int, int]]) -> list[tuple[str, float]]:
    """As a histogram of Prometheus has it: (seconds at most, how many), each with those below."""
    left, done, out = list(counts), 0, []
    for bit in range(22):                   # half an hour
        most = (1 << bit) - 1
        while left and left[0][0] <= most:
            done += left.pop(0)[1]
        out.append((f"{most / 1000:g}", float(done)))
    return [*out, ("+Inf", float(done + sum(n for _, n in left)))]
