"""The log of messages: lines, levels, files that are moved away, and messages that repeat."""
import json
import logging
import os
import re
import select
import socket
from types import SimpleNamespace

import pytest

from crdtredis import logs


@pytest.fixture
def output(tmp_path):
    """A log into a file; afterwards nothing of it is left in the process."""
    loggers = [logging.getLogger(name) for name in (logs.ROOT, *logs.LIBRARIES)]
    before = [(x.handlers, x.level, x.propagate) for x in loggers]
    for logger in loggers:
        logger.handlers = []
    output = logs.start("info", str(tmp_path / "log"), "text")
    yield output
    output.close()
    for logger, (handlers, level, propagate) in zip(loggers, before):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def lines(output) -> list[str]:
    with open(output.path, encoding="utf-8") as f:
        return f.read().splitlines()


def say(level: int, text: str, *args, part: str = "storage", **more) -> None:
    logging.getLogger(f"crdtredis.{part}").log(level, text, *args, **more)


def test_a_line_says_when_how_important_which_part_and_what(output):
    say(logging.WARNING, "segment %d is full", 7)
    when, rest = lines(output)[0].split(" ", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", when)
    assert rest == "warning storage: segment 7 is full"


def test_a_line_break_in_a_message_forges_no_line(output):
    say(logging.INFO, "peer said %s", "a\n2026-01-01T00:00:00.000Z error   storage: b\r\nc")
    line, = lines(output)
    assert line.endswith("peer said a 2026-01-01T00:00:00.000Z error   storage: b c")


def test_messages_below_the_level_are_left_out(output):
    say(logging.DEBUG, "fine")
    logs.set_level("debug")
    say(logging.DEBUG, "finer")
    assert [line.split()[-1] for line in lines(output)] == ["finer"]


def test_libraries_speak_from_warnings_on(output):
    logging.getLogger("aiohttp.server").info("hello")
    logging.getLogger("aiohttp.server").warning("careful")
    line, = lines(output)
    assert line.endswith("warning aiohttp.server: careful")


def test_json(output):
    logs.set_style("json")
    say(logging.ERROR, "ä %s", "\n")
    try:
        raise ValueError("no")
    except ValueError:
        say(logging.ERROR, "it failed", part="replication", exc_info=True)
    first, second = map(json.loads, lines(output))
    assert "traceback" not in first
    assert (first["level"], first["logger"], first["message"]) == ("error", "storage", "ä \n")
    assert second["traceback"].endswith("ValueError: no")


def test_text_has_the_traceback_below(output):
    try:
        raise ValueError("no")
    except ValueError:
        say(logging.ERROR, "it failed", exc_info=True)
    found = lines(output)
    assert found[0].endswith("error   storage: it failed") and found[-1] == "ValueError: no"


def test_a_file_that_was_moved_away_is_left_when_asked(output, tmp_path):
    say(logging.INFO, "before")
    os.rename(output.path, tmp_path / "log.1")
    say(logging.INFO, "still there")
    logs.reopen()
    say(logging.INFO, "after")
    old = (tmp_path / "log.1").read_text().splitlines()
    assert [line.split()[-1] for line in old] == ["before", "there"]
    assert [line.split()[-1] for line in lines(output)] == ["after"]


def test_a_file_that_cannot_be_opened_again_leaves_the_old_one(output, tmp_path):
    os.rename(output.path, tmp_path / "log.1")
    os.mkdir(output.path)
    with pytest.raises(OSError):
        logs.reopen()
    say(logging.INFO, "goes on")
    assert "goes on" in (tmp_path / "log.1").read_text()


def test_a_log_that_takes_nothing_stops_nobody(output):
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, output.fd)
    os.close(full)
    say(logging.ERROR, "into nothing")


def test_what_could_not_be_written_is_counted(output):
    real = os.dup(output.fd)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, output.fd)
    for _ in range(3):
        say(logging.ERROR, "into nothing")
    os.dup2(real, output.fd)
    for fd in (full, real):
        os.close(fd)
    say(logging.INFO, "there again")
    first, second = lines(output)
    assert first.endswith(" server: 3 lines are missing here: the log could not be written")
    assert second.endswith("there again")
    logs.set_style("json")
    output.lost = 1
    say(logging.INFO, "and so on")
    assert [json.loads(line)["level"] for line in lines(output)[2:]] == ["warning", "info"]


@pytest.mark.parametrize("kind", ["pipe", "socket", "terminal"])
def test_nobody_reads_and_nobody_waits(output, kind):
    """Until somebody reads: then whole lines follow, and one says how many are missing."""
    if kind == "socket":
        ours, theirs = (s.detach() for s in socket.socketpair())
    else:
        ours, theirs = os.pipe() if kind == "pipe" else os.openpty()
    os.dup2(theirs, output.fd)
    os.close(theirs)
    logs.set_level("debug")
    for i in range(200):
        logging.getLogger("crdtredis.storage").debug(f"%s {i}", "x" * 5000)
    assert os.get_blocking(output.fd)           # it may be another's, too
    assert output.lost > 50
    with open(ours, "rb", buffering=0) as f:
        os.set_blocking(ours, False)
        while f.read(1 << 20):
            pass
        say(logging.INFO, "goes on")
        text = b""
        while b"goes on" not in text and select.select([f], [], [], 20)[0]:
            text += f.read(1 << 20)         # of a terminal also what came to it late
    assert re.search(r"\s*\S+ warning server: \d+ lines are missing here: the log could not be "
                     r"written\r?\n\S+ info    storage: goes on\r?\n\Z", text.decode())


def test_a_terminal_that_has_a_little_room_is_not_waited_for(output):
    """It takes as much as it takes; poll() says only that it takes something."""
    logs.set_level("debug")
    for n in range(100, 5000, 100):
        ours, theirs = os.openpty()
        os.dup2(theirs, output.fd)
        os.close(theirs)
        for i in range(150_000 // n):
            say(logging.DEBUG, f"{'x' * n} {i}")
        assert os.get_blocking(output.fd) and output.lost
        os.close(ours)


def test_a_fifo_that_nobody_reads_is_refused(tmp_path):
    os.mkfifo(tmp_path / "log")
    with pytest.raises(OSError):
        logs.Output(str(tmp_path / "log"))


def test_a_line_that_was_cut_is_not_glued_to_the_next(output, monkeypatch):
    monkeypatch.setattr(logs.os, "write", lambda fd, line: os.writev(fd, [line[:40]]))
    say(logging.INFO, "a long line that does not fit")
    monkeypatch.undo()
    say(logging.INFO, "the next")
    cut, missing, whole = lines(output)
    assert len(cut) == 40 and "1 lines are missing" in missing and whole.endswith("the next")


def test_what_a_terminal_takes_for_an_order_is_shown(output):
    say(logging.INFO, "name %s", "x\x1b[2K\x1b[1A\x07\x9b")
    assert lines(output)[0].endswith(r"name x\x1b[2K\x1b[1A\x07\x9b")


def test_what_python_cannot_raise_is_written_a_few_times_in_a_while(output):
    for _ in range(8):
        logs.unraisable(SimpleNamespace(exc_type=ValueError, exc_value=ValueError("no name"),
                                        exc_traceback=None, err_msg=None, object=b"a client's"))
    assert lines(output)[1] == "ValueError: no name" and len(lines(output)) == 10
    assert lines(output)[0].endswith(" error   server: nobody handles a fault")


def test_start_says_that_a_file_cannot_be_opened(tmp_path):
    with pytest.raises(OSError):
        logs.Output(str(tmp_path / "missing" / "log"))


# ---- messages that repeat ------------------------------------------------------------------------

@pytest.fixture
def brake():
    now = [0.0]
    b = logs.Brake(lambda: now[0])
    b.now = now
    return b


def passes(brake, text: str, *args, fault: bool = False) -> str | None:
    """What is written of a record: None where it is left out."""
    exception = (ValueError, ValueError("x"), None) if fault else None
    record = logging.LogRecord("crdtredis.x", logging.INFO, "", 1, text, args, exception)
    return record.getMessage() if brake.filter(record) else None


def test_one_message_is_written_a_hundred_times_in_a_while(brake):
    found = [passes(brake, "client %d is wrong", i) for i in range(150)]
    assert found[:100] == [f"client {i} is wrong" for i in range(100)]
    assert found[100:] == [None] * 50
    assert passes(brake, "another") == "another"
    brake.now[0] = brake.PERIOD
    shown = passes(brake, "client %d is wrong", 7)
    assert shown == "client 7 is wrong (and 50 times more, not shown)"
    assert passes(brake, "client %d is wrong", 8) == "client 8 is wrong"


def test_faults_with_a_traceback_are_fewer(brake):
    found = [passes(brake, "it failed", fault=True) for _ in range(8)]
    assert found == ["it failed"] * 5 + [None] * 3


def test_made_up_messages_fill_no_memory(brake):
    for i in range(3 * brake.KINDS):
        assert passes(brake, f"message {i}")
    assert len(brake.kinds) <= brake.KINDS
