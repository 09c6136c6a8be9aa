"""The audit log: what administrators do, a line each in the log, with `audit_log`.

    audit: app at 10.0.0.7:51234: CONFIG SET maxmemory 1gb
    audit: default at 127.0.0.1:40112: FLUSHALL
    audit: app at 10.0.0.7:51234: SHUTDOWN: NOPERM User app has no permissions ...
    audit: HTTP 10.0.0.9: PATCH /config: 200

A command stands there after it has run, with the error if it was refused; one that waits, when it
has begun. Secrets are not shown. What users may not do is in ACL LOG, and no command runs then.
Lines do not depend on log_level, and none is left out however many there are (logs.Brake).
"""
from __future__ import annotations

import logging

from crdtredis.logs import AUDIT

log = logging.getLogger(AUDIT)

# What changes the server, its users or all of the data, or shows all of it. What only asks, as
# monitoring does every few seconds, is left out.
COMMANDS = frozenset(
    "ACL|SETUSER ACL|DELUSER ACL|LOAD ACL|SAVE BGREWRITEAOF BGSAVE CLIENT|KILL CLIENT|NO-EVICT "
    "CLIENT|PAUSE CLIENT|UNBLOCK CLIENT|UNPAUSE COMMANDLOG|RESET CONFIG|RESETSTAT CONFIG|REWRITE "
    "CONFIG|SET CRDT.CONFLICTS CRDT.PEER CRDT.REPAIR DEBUG FLUSHALL FLUSHDB FUNCTION|DELETE "
    "FUNCTION|FLUSH FUNCTION|KILL FUNCTION|LOAD FUNCTION|RESTORE LATENCY|RESET MONITOR PSYNC SAVE "
    "SCRIPT|FLUSH SCRIPT|KILL SHUTDOWN SLOWLOG|RESET SWAPDB SYNC".split())

REDACTED = b"(redacted)"                # in place of a secret
WORDS, BYTES = 32, 128                  # of a command that are shown, and of each word


def enable(on: bool) -> None:
    log.setLevel(logging.INFO if on else logging.CRITICAL + 1)


def command(user: bytes, address: str, words: list[bytes], reply: bytes) -> None:
    """words: of the command, secrets replaced. reply: its first bytes."""
    shown = [_shown(word) for word in words[:WORDS]]
    if len(words) > WORDS:
        shown.append(f"... ({len(words) - WORDS} more)")
    error = reply[1:].split(b"\r\n")[0].decode("utf-8", "replace") if reply[:1] == b"-" else ""
    if REDACTED in words:                   # the error may repeat it
        error = error.split(" ")[0]
    log.info("%s at %s: %s%s", _shown(user), address, " ".join(shown), error and f": {error}")


def request(address: str, method: str, path: str, status: int | None) -> None:
    """status: None where it has just begun."""
    log.info("HTTP %s: %s %s%s", address, method, _shown(path.encode("utf-8", "surrogateescape")),
             "" if status is None else f": {status}")


def _shown(word: bytes) -> str:
    """As it is where it is one printable word, else as a literal."""
    text = word[:BYTES].decode("utf-8", "surrogateescape")
    if not text.isprintable() or " " in text or not text:       # an escaped byte is not printable
        text = repr(word[:BYTES])[1:]
    return text + (f"... ({len(word) - BYTES} more bytes)" if len(word) > BYTES else "")
