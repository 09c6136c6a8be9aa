"""Logging: lines for people or JSON, to standard error or a file that log rotation may move away.

The standard library's logging does the work; every module logs to
logging.getLogger("crdtredis.<part>"). Times are UTC with milliseconds. A text line is
"2026-01-31T12:00:00.123Z info    storage: message"; a JSON line is one object with time, level,
logger, message and, after an exception, traceback. A line break inside a message becomes a space,
so that no client or peer can forge a line.

A log that cannot be written (disk full, standard error closed) must never stop the server: such
errors are swallowed. Nor does it wait for whoever is to read its pipe, socket or terminal and does
not: what does not fit there is left out, and counted. Nor may a fault that a client can repeat fill
the disk: of one message (see Brake) only so many are written in a while, and the next one says how
many were not. Of the audit log (audit.py) none is left out so.
"""
from __future__ import annotations

import json
import logging
import os
import select
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

ROOT = "crdtredis"
# what they say goes where ours does, from warnings on
LIBRARIES = ("aiohttp", "asyncio", "opentelemetry")
# what a terminal takes for an order is shown instead
CONTROLS = {c: f"\\x{c:02x}" for c in (*range(32), *range(127, 160))}
AUDIT = "crdtredis.audit"               # its logger
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING,
          "error": logging.ERROR}


def _time(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S",
                         time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


def _part(record: logging.LogRecord) -> str:
    return record.name.removeprefix(ROOT).lstrip(".") or "server"


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = (f"{_time(record)} {record.levelname.lower():7} {_part(record)}: "
                f"{' '.join(record.getMessage().splitlines()).translate(CONTROLS)}")
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = {"time": _time(record), "level": record.levelname.lower(), "logger": _part(record),
                  "message": record.getMessage()}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


class Brake(logging.Filter):
    """Lets through so many records of one kind in PERIOD: MOST of one message, FAULTS of those with
    a traceback. A message is a format, so its arguments make no difference. The first record of the
    next period says how many were left out."""

    PERIOD = 10.0           # seconds
    MOST, FAULTS = 100, 5
    KINDS = 1000            # messages counted at a time

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.clock = clock
        # -> begin of its period, records in it
        self.kinds: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == AUDIT:
            return True
        now, kind = self.clock(), (record.name, str(record.msg))
        most = self.FAULTS if record.exc_info else self.MOST
        begun, count = self.kinds.get(kind, (now, 0))
        if now - begun >= self.PERIOD:
            if count > most:
                record.msg, record.args = (f"{record.getMessage()} (and {count - most} times "
                                           "more, not shown)", ())
            begun, count = now, 0
        elif not count and len(self.kinds) >= self.KINDS:
            self.kinds.clear()
        self.kinds[kind] = (begun, count + 1)
        return count < most


class Output(logging.Handler):
    """One append-mode file descriptor. A line is one write, so lines of several processes never mix
    inside; but what is no file takes a page at a time, and only while there is room for it. (Its
    O_NONBLOCK is not ours to set: whoever started this process shares it.)"""

    def __init__(self, path: str = "") -> None:
        """OSError when the file cannot be opened."""
        super().__init__()
        self.addFilter(Brake())
        self.path = path
        self.lost, self.torn = 0, False         # lines; whether the last one was cut
        self.fd = self._open()

    def _open(self) -> int:
        # O_NONBLOCK: a FIFO that nobody reads is refused
        return (os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                        | os.O_NONBLOCK, 0o640) if self.path else 2)

    def _write(self, line: bytes) -> int:
        """How much of it went out. OSError where nothing did."""
        mode = os.fstat(self.fd).st_mode
        if stat.S_ISREG(mode):
            return os.write(self.fd, line)
        if stat.S_ISCHR(mode):                  # has room, but who knows for how much
            with suppress(PermissionError, FileNotFoundError):
                return self._write_terminal(line)
        room = select.poll()
        room.register(self.fd, select.POLLOUT)
        n = 0
        while n < len(line) and room.poll(0):
            n += os.write(self.fd, line[n:n + select.PIPE_BUF])
        if not n:
            raise BlockingIOError
        return n

    def _write_terminal(self, line: bytes) -> int:
        """As _write, through a description of our own."""
        fd = os.open(f"/proc/self/fd/{self.fd}",
                     os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            return os.write(fd, line)
        finally:
            os.close(fd)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self._line(record)
            if self.lost:
                line = b"\n" * self.torn + self._line(logging.LogRecord(
                    ROOT, logging.WARNING, "", 0, "%d lines are missing here: the log could not "
                    "be written", (self.lost,), None)) + line
            written = self._write(line)
        except (OSError, ValueError):
            self.lost += 1
        else:
            self.torn = written < len(line)
            self.lost = self.lost + 1 if self.torn else 0

    def _line(self, record: logging.LogRecord) -> bytes:
        return self.format(record).encode("utf-8", "replace") + b"\n"

    def reopen(self) -> None:
        """Go on in a new file under the old name; stay with the old file when that fails. OSError
        then."""
        if self.path:
            with self.lock:
                old, self.fd = self.fd, self._open()
                os.close(old)

    def close(self) -> None:
        if self.path and self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        super().close()


def unraisable(fault: Any) -> None:
    """As sys.unraisablehook: Python writes to standard error as often as it happens. What it
    happened to is left out: a client may have named it."""
    logging.getLogger(ROOT).error("nobody handles a fault%s", f": {fault.err_msg}" * bool(
        fault.err_msg), exc_info=(fault.exc_type, fault.exc_value, fault.exc_traceback))


def start(level: str, path: str, style: str) -> Output:
    """Direct the log of this process. OSError when the file cannot be opened. Call again to direct
    it elsewhere."""
    output = Output(path)
    for name in (ROOT, *LIBRARIES):
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()
        logger.addHandler(output)
        logger.propagate = False
    set_level(level)
    set_style(style)
    return output


def set_level(level: str) -> None:
    logging.getLogger(ROOT).setLevel(LEVELS[level])


def set_style(style: str) -> None:
    for handler in logging.getLogger(ROOT).handlers:
        handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())


def reopen() -> None:
    """What SIGHUP asks for."""
    for handler in logging.getLogger(ROOT).handlers:
        if isinstance(handler, Output):
            handler.reopen()
