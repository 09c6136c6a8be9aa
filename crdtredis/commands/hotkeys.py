"""HOTKEYS: which keys cost the most, by time and by bytes.

A session counts what commands cost and to which keys (engine/hotkeys.pxi), from START until STOP or
until its time is up; what it has counted stays until RESET or the next START. It is this replica's,
of its own clients' commands.
"""
from crdtredis._resp import Simple
from crdtredis.commands.table import command
from crdtredis.commands.usage import container
from crdtredis.errors import (HOTKEYS_ACTIVE, HOTKEYS_COUNT, HOTKEYS_DURATION, HOTKEYS_METRIC_COUNT,
                              HOTKEYS_METRIC_MISSING, HOTKEYS_METRIC_TWICE, HOTKEYS_METRICS,
                              HOTKEYS_NO_METRIC, HOTKEYS_SAMPLE, HOTKEYS_SLOTS, HOTKEYS_STARTED,
                              SYNTAX, CommandError, integer)

OK = Simple("OK")
# option -> (name in hotkeys_start, the greatest, what is said of others)
OPTIONS = {b"COUNT": ("shown", 64, HOTKEYS_COUNT),
           b"DURATION": ("seconds", 1_000_000, HOTKEYS_DURATION),
           b"SAMPLE": ("sample", 2**31 - 1, HOTKEYS_SAMPLE)}

container("HOTKEYS", "server", "8.6.0", "The keys that cost the most.", help_since="8.6.1")


def metrics_in(words: list[bytes]) -> dict[str, bool]:
    """What METRICS asks for; words it may name one day are passed over, as in Redis."""
    found = {"cpu": False, "net": False}
    for word in (w.decode("latin-1").lower() for w in words):
        if found.get(word):
            raise CommandError(HOTKEYS_METRIC_TWICE % word.upper())
        if word in found:
            found[word] = True
    return found


@command("HOTKEYS|START METRICS count [CPU] [NET] [COUNT k] [DURATION seconds] [SAMPLE ratio] "
         "[SLOTS count slot...]", arity=-2, flags="admin noscript", group="server", since="8.6.0",
         summary="Begins to count what commands cost their keys.")
def hotkeys_start(session, argv):
    executor = session.executor
    if executor.hotkeys_active:
        raise CommandError(HOTKEYS_STARTED)
    if len(argv) < 4 or argv[2].upper() != b"METRICS":
        raise CommandError(HOTKEYS_METRICS)
    end = 4 + integer(argv[3], HOTKEYS_METRIC_COUNT, 1, 2)
    metrics = metrics_in(argv[4:end])
    if len(argv) < end:
        raise CommandError(HOTKEYS_METRIC_MISSING)
    if not any(metrics.values()):
        raise CommandError(HOTKEYS_NO_METRIC)
    options = {}
    for i in range(end, len(argv), 2):
        word = argv[i].upper()
        if word == b"SLOTS" and i + 1 < len(argv):
            raise CommandError(HOTKEYS_SLOTS)
        if word not in OPTIONS or i + 1 == len(argv):
            raise CommandError(SYNTAX)
        name, most, text = OPTIONS[word]
        options[name] = integer(argv[i + 1], text, 1, most)
    executor.hotkeys_start(**metrics, **options)
    return OK


@command("HOTKEYS|STOP", arity=2, flags="admin noscript", group="server", since="8.6.0",
         summary="Ends counting; what was counted stays.")
def hotkeys_stop(session, argv):
    return OK if session.executor.hotkeys_stop() else None


@command("HOTKEYS|GET", arity=2, flags="admin noscript", group="server", since="8.6.0",
         complexity="O(K) with K keys answered",
         summary="The keys that have cost the most, and what all have cost.")
def hotkeys_get(session, argv):
    found = session.executor.hotkeys()
    return None if found is None else [found]


@command("HOTKEYS|RESET", arity=2, flags="admin noscript", group="server", since="8.6.0",
         summary="Forgets what was counted.")
def hotkeys_reset(session, argv):
    if session.executor.hotkeys_active:
        raise CommandError(HOTKEYS_ACTIVE)
    session.executor.hotkeys_reset()
    return OK
