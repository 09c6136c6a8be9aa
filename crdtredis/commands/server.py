"""Server commands: INFO, CONFIG, saving and stopping, waiting for replication, and what clients ask
at their start.

What Redis does with snapshots and rewrites the log does here (storage/): it is always as new as the
last loop iteration. So SAVE, BGSAVE and BGREWRITEAOF force it to disk, whatever `appendfsync` says,
and LASTSAVE tells when that was last done; and they begin a checkpoint, so that the next start need
not replay all of the log. An iteration is logged when it ends, so all that waits
for the log (SAVE, WAITAOF) is looked at after the iteration in which it was asked.

WAIT counts the peers that have this client's last write in their logs, and all before it. WAITAOF
asks the same of this replica's own disk and of the peers; peers acknowledge what they have logged,
and their disks get it by their own `appendfsync`.
"""
import threading
import time

from crdtredis import REDIS_VERSION, __version__, info
from crdtredis._resp import Refusal, Simple, Verbatim
from crdtredis.commands.command import check_patterns
from crdtredis.commands.keys import matches
from crdtredis.commands.table import NO_REPLY, command
from crdtredis.commands.usage import container
from crdtredis.config import is_glob
from crdtredis.redisconf import quote
from crdtredis.sources import ConfigError
from crdtredis.errors import (BUSY_SCRIPT, CONFIG_REWRITE, CONFIG_SET, CONFIG_UNKNOWN,
                              NOT_0_OR_1, NOT_POSITIVE, NO_CLUSTER, NO_CONFIG, NO_SHUTDOWN,
                              REWRITE_IN_PROGRESS, SAVE_IN_PROGRESS, SHUTDOWN_FAILED, SYNTAX,
                              WRONG_ARITY, CommandError, integer, time_limit)

OK = Simple("OK")


def text(arg: bytes) -> str:
    return arg.decode("utf-8", "surrogateescape")


def parts(session) -> info.Parts:
    return info.parts(session.executor)


# ---- INFO and what clients ask -------------------------------------------------------------------

@command("INFO [section]...", arity=-1, flags="loading stale", group="server", since="1.0.0",
         tips="nondeterministic_output request_policy:all_shards response_policy:special",
         categories="dangerous", summary="Tells about the server, by sections.")
def info_(session, argv):
    return Verbatim(info.text(session.executor, map(text, argv[1:])))


@command("TIME", arity=1, flags="loading stale fast", group="server", since="2.6.0",
         tips="nondeterministic_output", summary="The time: seconds since 1970, and microseconds.")
def time_(session, argv):
    # The kernel's clock stands still during an iteration and counts milliseconds.
    microseconds = (time.time_ns() // 1000 if parts(session).engine is not None
                    else session.replica.now * 1000)
    return [str(microseconds // 1_000_000), str(microseconds % 1_000_000)]


@command("ROLE", arity=1, flags="noscript loading stale fast", group="server", since="2.8.12",
         categories="admin dangerous",
         summary="The role in Redis's own replication: always that of a master without replicas.")
def role(session, argv):
    return ["master", 0, []]


@command("LOLWUT [VERSION version]", arity=-1, flags="readonly fast", group="server", since="5.0.0",
         categories="read", summary="The version.")
def lolwut(session, argv):
    return Verbatim(f"crdt-redis {__version__}, Redis ver. {REDIS_VERSION}\n")


def no_cluster(session, argv):
    raise CommandError(NO_CLUSTER)


for _name, _flags in (("READONLY", "loading stale fast"), ("READWRITE", "loading stale fast"),
                      ("ASKING", "fast")):
    command(_name, arity=1, flags=_flags, group="cluster", since="3.0.0",
            summary="For Redis Cluster; an error here.",
            categories="connection")(no_cluster)
command("CLUSTER", arity=-2, group="cluster", since="3.0.0",
        summary="For Redis Cluster; an error here.")(no_cluster)


# ---- CONFIG --------------------------------------------------------------------------------------

container("CONFIG", "server", "2.0.0", "Reads and changes settings.", help_since="5.0.0")


def config_command(synopsis: str, arity: int, summary: str, since: str = "2.0.0", tips: str = ""):
    return command(f"CONFIG|{synopsis}", arity=arity, flags="admin noscript loading stale",
                   group="server", since=since, complexity="O(N) with the number of settings",
                   tips=tips, summary=summary)


def configuration(session):
    config = parts(session).config
    if config is None:
        raise CommandError(NO_CONFIG)
    return config


@config_command("GET parameter...", -3, "The settings whose names match the patterns.")
def config_get(session, argv):
    config = parts(session).config
    if config is None:
        return {}
    patterns = [text(p) for p in argv[2:]]
    check_patterns([p for p in argv[2:] if is_glob(text(p))])
    found = config.get(patterns, lambda glob,
                       name: matches(glob.encode("utf-8", "surrogateescape"), name.encode()))
    # A name asked for literally is answered as it was spelled.
    for spelled in patterns:
        if spelled not in found and spelled.lower() in found:
            found[spelled] = found.pop(spelled.lower())
    return found


@config_command("SET <parameter value>...", -4, "Changes settings, all or none.",
                tips="request_policy:all_nodes response_policy:all_succeeded")
def config_set(session, argv):
    if len(argv) % 2:
        raise CommandError(WRONG_ARITY % "config|set")
    words = [text(a) for a in argv[2:]]
    try:
        configuration(session).set_texts(zip(words[::2], words[1::2]))
    except ConfigError as e:
        fault = next((f for f in e.faults if f.reason == "unknown"), e.faults[0])
        if fault.reason == "unknown":
            raise CommandError(CONFIG_UNKNOWN % fault.setting) from None
        problem = fault.problem
        if fault.reason == "fixed" or fault.setting.lower() == "databases":
            problem = ("can't set immutable config" +
                       " (CRDT.PEER changes them until the next start)" *
                       (fault.setting.lower() == "peers"))
        raise CommandError(CONFIG_SET % (fault.setting, problem)) from None
    return OK


@config_command("RESETSTAT", 2, "Sets the counters that INFO shows to 0.")
def config_resetstat(session, argv):
    session.executor.reset_stats()
    return OK


@config_command("REWRITE", 2, "Writes settings changed at run time into the configuration file.",
                "2.8.0")
def config_rewrite(session, argv):
    try:
        config = configuration(session)
        users = None if config.aclfile else tuple(
            " ".join(quote(text(word)) for word in line.split(b" "))
            for line in session.executor.users.lines())
        config.rewrite(users)
    except ValueError as e:
        raise CommandError(f"ERR {str(e)[:1].upper()}{str(e)[1:]}") from None
    except OSError as e:
        raise CommandError(CONFIG_REWRITE % e.strerror) from None
    return OK


# ---- the log -------------------------------------------------------------------------------------

class Saves:
    """Who waits for the log to be forced to disk. One thread at a time works for all who have asked
    so far; who asks meanwhile is served by the next, since what he did may not be in what is being
    forced. Engine thread only."""

    def __init__(self, server) -> None:
        self.server, self.asked, self.busy = server, [], False

    def ask(self, done) -> None:
        self.asked.append(done)
        if not self.busy:
            self.busy = True
            # once this iteration's ops are in the log
            self.server.engine.call_soon(self.start)

    def start(self) -> None:
        served, self.asked = self.asked, []
        threading.Thread(target=self.work, args=(served,), name="save", daemon=True).start()

    def work(self, served) -> None:
        self.server.log.sync(all_policies=True)
        failure = self.server.log.status().failure
        self.server.engine.call_soon(lambda: self.finish(served, failure))

    def finish(self, served, failure) -> None:
        if failure is None:
            self.server.last_save = time.time_ns() // 1_000_000_000
        self.busy = bool(self.asked)
        if self.busy:
            self.server.engine.call_soon(self.start)
        for done in served:
            done(failure)


def sync_log(session, done) -> None:
    """Forces to disk all that was done up to this command; done(why it failed or None) in the
    engine thread."""
    server = parts(session)
    if server.log is None:
        done(None)
        return
    if server.saves is None:
        server.saves = Saves(server)
    server.saves.ask(done)


def begin_checkpoint(session, in_progress: str, schedule: bool = False) -> bool:
    """And has the log forced to disk at once. schedule: where one is under way, another follows it,
    and that is no error. Returns whether it does."""
    checkpoints = parts(session).checkpoints
    waits = checkpoints is not None and checkpoints.in_progress
    if waits and not schedule:
        raise CommandError(in_progress)
    sync_log(session, lambda failure: None)
    if checkpoints is not None:
        checkpoints.begin()
    return waits


@command("SAVE", arity=1, flags="admin noscript no_async_loading no_multi", group="server",
         since="1.0.0", summary="Forces the log to disk, makes a checkpoint, and answers then.")
def save(session, argv):
    """One that is under way was begun before: another follows it, and is waited for."""
    if parts(session).log is None:
        return OK
    checkpoints = parts(session).checkpoints
    token = session.defer()

    def checkpointed(failure):
        token.resolve(OK if failure is None else Refusal(f"ERR {failure}"))

    sync_log(session,
             lambda failure: checkpointed(failure) if failure or checkpoints is None
             else checkpoints.begin(checkpointed))
    return NO_REPLY


@command("BGSAVE [SCHEDULE]", arity=-1, flags="admin noscript no_async_loading", group="server",
         since="1.0.0", summary="Has the log forced to disk, and a checkpoint made.")
def bgsave(session, argv):
    if len(argv) > 2 or (len(argv) == 2 and argv[1].upper() != b"SCHEDULE"):
        raise CommandError(SYNTAX)
    waits = begin_checkpoint(session, SAVE_IN_PROGRESS, schedule=len(argv) == 2)
    return Simple("Background saving scheduled" if waits else "Background saving started")


@command("BGREWRITEAOF", arity=1, flags="admin noscript no_async_loading", group="server",
         since="1.0.0",
         summary="Has the log forced to disk, and a checkpoint made.")
def bgrewriteaof(session, argv):
    begin_checkpoint(session, REWRITE_IN_PROGRESS)
    return Simple("Background append only file rewriting started")


@command("LASTSAVE", arity=1, flags="loading stale fast", group="server", since="1.0.0",
         tips="nondeterministic_output", categories="admin dangerous",
         summary="When the log was last forced to disk on request.")
def lastsave(session, argv):
    return info.last_save(session.executor)


@command("SHUTDOWN [NOSAVE | SAVE] [NOW] [FORCE] [ABORT]", arity=-1,
         flags="admin noscript loading stale no_multi allow_busy", group="server", since="1.0.0",
         summary="Stops the server: the loop iteration is finished and the log forced to disk.")
def shutdown(session, argv):
    words = [a.upper() for a in argv[1:]]
    if (not set(words) <= {b"NOSAVE", b"SAVE", b"NOW", b"FORCE", b"ABORT"}
        or {b"SAVE", b"NOSAVE"} <= set(words)):
        raise CommandError(SYNTAX)
    if b"ABORT" in words:
        if len(words) > 1:
            raise CommandError(SYNTAX)
        raise CommandError(NO_SHUTDOWN)
    if session.executor.misconf and not {b"NOSAVE", b"FORCE"} & set(words):
        raise CommandError(SHUTDOWN_FAILED)
    if session.server is None:
        raise CommandError(SHUTDOWN_FAILED)
    if session.executor.runs_script and b"NOSAVE" not in words:
        raise CommandError(BUSY_SCRIPT)
    session.server.stop("SHUTDOWN")
    return NO_REPLY


# ---- waiting -------------------------------------------------------------------------------------

def wait_for(session, local: int, peers: int, timeout_ms: int, reply) -> object:
    """Answers reply(local copies, peers' copies) as soon as both numbers are reached, or the time
    (0: no limit) is up."""
    sync = parts(session).sync
    wrote = session.wrote_as, session.wrote             # (0, 0): nothing, so any replica has it
    count = sync.acknowledged(*wrote) if sync is not None else 0
    if (not local and count >= peers) or not session.can_block:
        return reply(0, count)
    have = {"local": 0, "peers": count}

    def current():
        return reply(have["local"], sync.acknowledged(*wrote) if sync is not None else 0)

    token = session.defer(timeout_ms or None, current)

    def check():
        if have["local"] >= local and have["peers"] >= peers:
            token.resolve(reply(have["local"], have["peers"]))

    def acknowledged(n):
        have["peers"] = n
        check()

    def on_disk(failure):
        have["local"] = int(failure is None)
        check()

    if local:
        sync_log(session, on_disk)
    if count < peers and sync is not None:
        token.ended = sync.when_acknowledged(*wrote, peers, acknowledged)
    return NO_REPLY


@command("WAIT numreplicas timeout", arity=3, flags="blocking", group="generic", since="3.0.0",
         tips="request_policy:all_shards response_policy:agg_min",
         categories="-keyspace connection",
         summary="Waits until so many peers have logged this client's writes; answers how many "
                 "have.")
def wait(session, argv):
    peers = integer(argv[1])
    return wait_for(session, 0, peers, time_limit(argv[2], session.replica.now), lambda local, n: n)


@command("WAITAOF numlocal numreplicas timeout", arity=4, flags="blocking noscript",
         group="generic", since="7.2.0", tips="request_policy:all_shards response_policy:agg_min",
         categories="-keyspace connection",
         summary="Waits until this client's writes are on this replica's disk and logged by so "
                 "many peers.")
def waitaof(session, argv):
    local, peers = integer(argv[1]), integer(argv[2])
    if not 0 <= local <= 1:
        raise CommandError(NOT_0_OR_1)
    if peers < 0:
        raise CommandError(NOT_POSITIVE)
    return wait_for(session, local, peers, time_limit(argv[3], session.replica.now), lambda here,
                    n: [here, n])


container("MODULE", "server", "4.0.0", "Modules: there are none.", help_since="5.0.0")


@command("MODULE|LIST", arity=2, flags="admin noscript", group="server", since="4.0.0",
         tips="nondeterministic_output_order", summary="The modules: none.")
def module_list(session, argv):
    return []
