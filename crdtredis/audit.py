"""The audit log: what administrators do, a line each in the log, with `audit_log`.

    audit: app at 10.0.0.7:51234: CONFIG SET maxmemory 1gb
    audit: default at 127.0.0.1:40112: FLUSHALL
    audit: app at 10.0.0.7:51234: CONFIG SET maxmemory soon: ERR CONFIG SET failed ...
    audit: HTTP 10.0.0.9: PATCH /config max_memory: 200
    audit.refused: HTTP 10.0.0.13: GET /stats: 401

A command stands there after it has run, with the error if it was refused; one that waits, when it
has begun. Secrets are not shown. What users may not do is in ACL LOG, and no command runs then.
Lines do not depend on log_level, and none is left out however many there are (logs.Brake); but of
requests by HTTP that were refused, only so many in a while.
"""
from __future__ import annotations

import logging

from crdtredis.logs import AUDIT

log = logging.getLogger(AUDIT)
refused = log.getChild("refused")       # which has the brake that other messages have

# What changes the server, its users or all of the data, or shows all of it. What only asks, as
# monitoring does every few seconds, is left out.
COMMANDS = frozenset(
    "ACL|SETUSER ACL|DELUSER ACL|LOAD ACL|LOG ACL|SAVE BGREWRITEAOF BGSAVE CLIENT|KILL "
    "CLIENT|NO-EVICT CLIENT|PAUSE CLIENT|UNBLOCK CLIENT|UNPAUSE COMMANDLOG|RESET CONFIG|RESETSTAT "
    "CONFIG|REWRITE CONFIG|SET CRDT.CONFLICTS CRDT.PEER CRDT.REPAIR DEBUG FLUSHALL FLUSHDB "
    "FUNCTION|DELETE FUNCTION|FLUSH FUNCTION|KILL FUNCTION|LOAD FUNCTION|RESTORE LATENCY|RESET "
    "MONITOR PSYNC SAVE SCRIPT|FLUSH SCRIPT|KILL SHUTDOWN SLOWLOG|RESET SWAPDB SYNC".split())

REDACTED = b"(redacted)"                # in place of a secret
WORDS, BYTES = 32, 128                  # of a command that are shown, and of each word


def enable(on: bool) -> None:
    log.setLevel(logging.INFO if on else logging.CRITICAL + 1)


def is_on() -> bool:
    return log.isEnabledFor(logging.INFO)


def command(user: bytes, address: str, words: list[tuple[bytes, int]], count: int,
            reply: bytes) -> None:
    """words: the first WORDS of `count`, of each its first BYTES and its length; secrets replaced.
    reply: its first bytes."""
    if words[0][0].upper() == b"ACL" and words[1][0].upper() == b"LOG" and (
            count < 3 or words[2][0].upper() != b"RESET"):
        return                              # it only asks
    shown = [_shown(*word) for word in words]
    if count > len(words):
        shown.append(f"... ({count - len(words)} more)")
    error = reply[1:].split(b"\r\n")[0].decode("utf-8", "replace") if reply[:1] == b"-" else ""
    if any(word == REDACTED for word, _ in words):          # the error may repeat it
        error = error.split(" ")[0]
    _write(log, "%s at %s: %s%s", _shown(user, len(user)), address, " ".join(shown),
           error and f": {error}")


def replicated(replica: str, words: list[bytes]) -> None:
    """An act of an administrator at another replica, as it came into force here. replica: "": not
    known."""
    shown = [_shown(word, len(word)) for word in words[:WORDS]]
    if len(words) > WORDS:
        shown.append(f"... ({len(words) - WORDS} more)")
    _write(log, "replica %s: %s", replica or "(unknown)", " ".join(shown))


def request(address: str, method: str, path: str, status: int | None, what: str = "") -> None:
    """status: None where it has just begun. what: it was about. Requests that were refused are of
    strangers, perhaps, who may make millions: of these so many are shown as of other messages."""
    was_refused = status in (401, 403, 421)
    found = path.encode("utf-8", "surrogateescape")
    _write(refused if was_refused else log, "HTTP %s: %s %s%s%s", address, method,
           _shown(found, len(found)), what and f" {what}", "" if status is None else f": {status}")


def _write(logger: logging.Logger, text: str, *args: str) -> None:
    """Whether or not it is enabled: the last line says who ended that."""
    logger.handle(logger.makeRecord(logger.name, logging.INFO, "", 0, text, args, None))


def _shown(word: bytes, length: int) -> str:
    """As it is where it is one printable word, else as a literal."""
    text = word[:BYTES].decode("utf-8", "surrogateescape")
    if not text.isprintable() or " " in text or not text:       # an escaped byte is not printable
        text = repr(word[:BYTES])[1:]
    return text + (f"... ({length - BYTES} more bytes)" if length > BYTES else "")
