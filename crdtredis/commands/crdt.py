"""CRDT.*: a look into the replicated state, and a hand on replication.

CLOCK, DIGEST, INSPECT and CONFLICTS read the kernel; PEERS, PEER and SYNC speak to the sync thread
through `server.sync`. A server without one (tests, the simulation) has no peers. Replies are maps
in RESP3 and flat arrays in RESP2, as usual.

An actor is written replica/epoch: one process start of one replica, and those behind it that go on
with it (storage/witness.py). Two replicas hold the same state exactly when their CRDT.DIGESTs are
equal; equal CRDT.CLOCKs say that they have applied the same operations, from which that follows.
"""
import time
from dataclasses import asdict
from urllib.parse import urlsplit

from crdtredis import advice, clocks, info, staleness
from crdtredis._resp import Refusal, Simple
from crdtredis.commands import usage
from crdtredis.commands.table import COMMANDS, NO_REPLY, command
from crdtredis.errors import (JOINING, NOT_A_CLOCK, NOT_INTEGER, NOT_IN_SYNC, NOT_REPAIRED,
                              NO_REPLICATION, NO_SUCH_PEER, OWN_ADDRESS, PEER_ADDRESS,
                              REMOVES_ITSELF, SYNTAX, WRONG_ARITY, CommandError, integer,
                              time_limit)
from crdtredis.kinds import is_peer
from crdtredis.members import MEMBERS, removal, removed_field
from crdtredis.sockets import listens_at

OK = Simple("OK")


def crdt(synopsis: str, arity: int, flags: str, summary: str, complexity: str = "O(1)", keys=()):
    return command(f"CRDT.{synopsis}", arity=arity, flags=flags, keys=keys, group="crdt",
                   since="0.1.0", complexity=complexity, summary=summary)


def front(session):
    sync = info.parts(session.executor).sync
    if sync is None:
        raise CommandError(NO_REPLICATION)
    return sync


@crdt("CLOCK [TOKEN]", -1, "loading stale fast",
      "The clock: of each actor, the highest operation applied without gaps. TOKEN: as one word, "
      "for CRDT.WAITFOR at another replica.", "O(N) with the actors")
def clock(session, argv):
    if len(argv) > 1:
        if len(argv) > 2 or argv[1].upper() != b"TOKEN":
            raise CommandError(SYNTAX)
        return clocks.as_token(session.replica.clock().items())
    return {f"{replica}/{epoch}": seq for (replica, epoch),
            seq in sorted(session.replica.clock().items())}


@crdt("WAITFOR token timeout-ms", 3, "blocking noscript",
      "Waits until this replica has applied all that CRDT.CLOCK TOKEN told of another: a client "
      "that moves reads its own writes. Answers 1, or 0 when the time is up. 0: no limit.",
      "O(N) with the actors")
def waitfor(session, argv):
    try:
        target = clocks.from_token(argv[1])
    except ValueError:
        raise CommandError(NOT_A_CLOCK) from None
    timeout = time_limit(argv[2], session.replica.now)

    def here() -> int:
        return int(clocks.observed(session.replica.clock_ids(), target))

    if here() or not session.can_block:
        return here()
    replication = info.parts(session.executor).sync
    token = session.defer(timeout or None, here)
    if replication is not None:
        token.ended = replication.when_here(target, lambda: token.resolve(1))
    return NO_REPLY


@crdt("DIGEST", 1, "admin",
      "A digest of the whole state, equal on two replicas exactly when their states are.",
      "O(N) with the keys in all databases")
def digest(session, argv):
    return session.replica.digest()


@crdt("INSPECT key", 2, "readonly",
      "All that is kept under a key: writes (the winner first), losers, counter entries, "
      "deadlines, actors and stamps. Of groups that are read: what this replica gives out.",
      "O(size of the value)", (1, 1, 1))
def inspect(session, argv):
    state = session.replica.inspect(session.db, argv[1])
    given = session.executor.gives(session.db, argv[1]) if state is not None else {}
    return state | {"gives_out": given_out(session, argv[1], given)} if given else state


def given_out(session, key: bytes, given: dict[bytes, dict]) -> dict[bytes, dict]:
    """Of a stream's groups what this replica gives out, and what others have said of them."""
    replication = info.parts(session.executor).sync
    if replication is not None:
        said = replication.consumers
        for name, x in given.items():
            x["consumers_at"] = said.readers((session.db, key, name))
            x["waits_for"] = said.waits_for((session.db, key, name))
    return given


def verbose(argv: list[bytes], most: int) -> bool:
    """Takes a last argument VERBOSE off argv, which may then be of `most` words."""
    found = len(argv) > 1 and argv[-1].upper() == b"VERBOSE"
    if found:
        del argv[-1]
    if len(argv) > most:
        raise CommandError(SYNTAX)
    return found


@crdt("CONFLICTS [TOP] [count] [VERBOSE]", -1, "admin",      # values of all keys
      "The newest concurrent writes that had to be decided, a line each: when, where, winner, "
      "loser. TOP: where most were, by beginning of keys, type and replicas. VERBOSE: all that is "
      "known of them. 128 are kept.", "O(N) with the count")
def conflicts(session, argv):
    argv = list(argv)
    whole = verbose(argv, 3)
    top = len(argv) > 1 and argv[1].upper() == b"TOP"
    if top:
        del argv[1]
    if len(argv) > 2:
        raise CommandError(SYNTAX)
    count = integer(argv[1], NOT_INTEGER, 0) if len(argv) == 2 else 10
    found = (session.replica.meetings if top else session.replica.conflicts)(count)
    return found if whole else [(meeting_line if top else conflict_line)(c) for c in found]


def conflict_line(c: dict) -> str:
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(c["ms"] / 1000))
    at = " ".join(repr(part)[1:] for part in (c["key"], c["name"]) if part or part is c["key"])
    return f"{when} db {c['db']} {c['type']} {at}: {outcome(c)}"


def outcome(c: dict) -> str:
    won, lost = (f"{repr(side['value'])[1:]} of {side['actor'].rpartition('/')[0]}"
                 for side in (c["winner"], c["loser"]))
    return f"{won} won over {lost}"


def meeting_line(m: dict) -> str:
    last, n = m["latest"], m["conflicts"]
    rest = b"" if m["prefix"] == last["key"] else b"*"
    won = ", ".join(f"{replica} won {times}" for replica, times in m["won"].items())
    over = f" (up to {m['over']} less)" if m["over"] else ""
    text = (f"{n}{over} in db {last['db']} {m['type']} {repr(m['prefix'] + rest)[1:]}: {won}; "
            f"{m['lost_bytes']} bytes lost, the latest under {repr(last['key'])[1:]}: "
            f"{outcome(last)}")
    if command := advice.increase(m):
        text += f"; {m['integers']} of integers: {command} would have kept both"
    return text


@crdt("ADVICE [count] [VERBOSE]", -1, "admin loading stale",
      "What could be done better, a line each with its evidence: where INCRBY would keep what SET "
      "loses, lists with inserts in the middle, and keys that one replica nearly alone writes. "
      "VERBOSE: as fields.")
def advise(session, argv):
    argv = list(argv)
    whole = verbose(argv, 2)
    count = integer(argv[1], NOT_INTEGER, 0) if len(argv) == 2 else 10
    found = info.advised(session.executor)[:count]
    return found if whole else [advice.line(x) for x in found]


@crdt("LAG [VERBOSE]", -1, "loading stale",
      "How late writes of other replicas become visible here, a line for each of them: quantiles "
      "of what was measured, what is predicted, and how often that was right. VERBOSE: as "
      "numbers.", "O(N) with the replicas")
def lag(session, argv):
    whole = verbose(list(argv), 1)
    found = staleness.lags(info.delays(session.executor))
    return found if whole else [staleness.line(x) for x in found]


@crdt("PEERS [VERBOSE]", -1, "admin loading stale",
      "The peers, a line each: address, replica, state, what it lacks, the last error. VERBOSE: "
      "all that is counted of them.", "O(N) with the peers")
def peers(session, argv):
    whole = verbose(list(argv), 1)
    found = info.peer_infos(session.executor)
    return [asdict(p) if whole else peer_line(p, session.executor.replica.now) for p in found]


# states of peers that tell what they have
TELLING = {"up", "needs full sync", "full sync"}


def peer_line(p, now: int) -> str:
    words = [f"{p.url} {p.replica or '(no handshake yet)'}: {p.state}"]
    if p.state not in ("self", "standby"):
        words.append(f"it lacks {p.lag_ops} of ours" + (f" for {p.lag_ms} ms" if p.lag_ops else ""))
        words.append(f"we lack {p.missing_ops} of its" if p.state in TELLING else
                     f"we lacked {p.missing_ops} of its when it last told")
        words.append("no contact yet" if p.last_contact_ms < 0
                     else f"last contact {p.last_contact_ms} ms ago")
        if p.state not in TELLING and p.calls_ms >= 0:
            words.append(f"it called here {p.calls_ms} ms ago")
    elif p.state == "standby":
        words.append("it is reached by another address")
    if p.full_sync:
        words.append(p.full_sync)
    if p.certificate_ends and (days := p.certificate_ends / 86400 - now / 86_400_000) < 14:
        words.append(f"its certificate expires in {days:.1f} days" if days > 0
                     else "its certificate has expired")
    return ", ".join(words) + (f"; {p.error}" if p.error else "")


@crdt("MEMBERS", 1, "admin loading stale",
      "The replicas of the cluster as all of them know it: id, address, since when, and whether it "
      "was removed.", "O(N) with the members")
def members(session, argv):
    table = front(session).registry.members.table
    return [{"replica": replica, **asdict(m)} for replica, m in sorted(table.items())]


def remove(session, sync, name: str) -> None:
    """A member leaves the cluster; a peer of which nothing is known yet, only this replica."""
    try:
        replica = sync.member(name)
    except KeyError:
        sync.remove(name)
        return
    if replica == session.replica.id:
        raise CommandError(REMOVES_ITSELF)
    if session.executor.misconf:
        raise CommandError(session.executor.misconf)
    try:
        session.replica.system_set(MEMBERS, {removed_field(replica):
                                             removal(True, session.replica.now)})
    except RuntimeError:
        raise CommandError(JOINING) from None
    sync.take_members(session.replica.system_hash(MEMBERS))
    sync.part_from(replica)


PEER_HELP = """\
CRDT.PEER <subcommand> [<arg> ...]. Subcommands are:
ADD <host:port>
    Call the replica with its HTTP port there; the whole cluster then knows it.
    One that was removed belongs to the cluster again.
REMOVE <replica-id | address>
    Take a replica out of the cluster, everywhere.
PAUSE <replica-id | address | *>
    Cut replication with one peer, or all, in both directions, at this replica
    and until it stops.
RESUME <replica-id | address | *>
    End that.
HELP
    Print this help."""


@crdt("PEER <HELP | <ADD | REMOVE | PAUSE | RESUME> peer>", -2, "admin",
      "ADD: calls a replica, which the whole cluster then knows. REMOVE: takes one out of the "
      "cluster, everywhere. PAUSE cuts replication with one (or *) in both directions, at this "
      "replica and until it stops; RESUME ends that.")
def peer(session, argv):
    what = argv[1].upper()
    if what == b"HELP" and len(argv) == 2:
        return [Simple(line) for line in PEER_HELP.splitlines()]
    if what not in (b"ADD", b"REMOVE", b"PAUSE", b"RESUME"):
        raise CommandError(SYNTAX)
    if len(argv) != 3:
        raise CommandError(WRONG_ARITY % "crdt.peer")
    name = argv[2].decode("utf-8", "surrogateescape")
    sync = front(session)
    if what == b"ADD":
        if not is_peer(name):
            if sync.take_back(name):
                return OK
            raise CommandError(PEER_ADDRESS)
        scheme = "https" if info.setting(session.executor, "enable_tls", False) else "http"
        url = urlsplit((name if "://" in name else f"{scheme}://{name}").rstrip("/"))
        if url.port == info.setting(session.executor, "http_port", 0) and listens_at(
                info.setting(session.executor, "http_addresses", ()), url.hostname):
            raise CommandError(OWN_ADDRESS)
        try:
            sync.add(url.geturl())
        except ValueError as e:
            raise CommandError(f"ERR {e}") from None
        return OK
    try:
        if what == b"REMOVE":
            remove(session, sync, name)
        elif what == b"PAUSE":
            sync.pause(name)
        else:
            sync.resume(name)
    except KeyError:
        raise CommandError(NO_SUCH_PEER % name[:128]) from None
    return OK


@crdt("SYNC [timeout-ms]", -1, "noscript no_multi",
      "Waits until every reachable peer has what this replica has, and the reverse. 0: without a "
      "limit of time.", "O(N) with the operations that are missing somewhere")
def sync(session, argv):
    if len(argv) > 2:
        raise CommandError(WRONG_ARITY % "crdt.sync")
    default = info.setting(session.executor, "sync_timeout", 30_000_000_000) // 1_000_000
    timeout = time_limit(argv[1], session.replica.now) if len(argv) == 2 else default
    replication = info.parts(session.executor).sync
    if replication is None:
        return {"synced": [], "unreachable": []}
    token = session.defer()

    def done(outcome):
        if outcome.unfinished:
            token.resolve(Refusal(NOT_IN_SYNC % (", ".join(outcome.unfinished), timeout)))
        else:
            token.resolve({"synced": list(outcome.synced),
                           "unreachable": list(outcome.unreachable)})

    token.ended = replication.when_synced(done, timeout / 1000 if timeout else None)
    return NO_REPLY


@crdt("VERIFY [peer]", -1, "admin noscript no_multi",      # names keys
      "Compares the data with a peer's, or with every peer's, at equal clocks: how many of 4096 "
      "buckets of keys were compared and differ, and which keys do.",
      "O(N) with the keys, in slices")
def verify(session, argv):
    if len(argv) > 2:
        raise CommandError(WRONG_ARITY % "crdt.verify")
    replication = front(session)
    names = ([argv[1].decode("utf-8", "surrogateescape")] if len(argv) == 2 else
             [p.url for p in replication.peers() if p.state not in ("self", "standby")])
    for name in names if len(argv) == 2 else []:
        try:
            replication.find(name)
        except KeyError:
            raise CommandError(NO_SUCH_PEER % name[:128]) from None
    token = session.defer()

    def done(found):
        token.resolve([{"peer": name, "error": v} if isinstance(v, str) else
                       {"peer": name, "compared": v.compared, "differ": v.differ,
                        "keys": [[db, key] for db, key in v.keys]} for name, v in found])

    token.ended = replication.when_verified(names, done)
    return NO_REPLY


@crdt("REPAIR peer", 2, "admin noscript no_multi",
      "Takes in a peer's state, as far as it differs: what the peer has observed and lacks goes "
      "here, what it has and is lacking here comes.",
      "O(N) with the keys, in slices; O(M) with what differs")
def repair(session, argv):
    replication, name = front(session), argv[1].decode("utf-8", "surrogateescape")
    try:
        replication.find(name)
    except KeyError:
        raise CommandError(NO_SUCH_PEER % name[:128]) from None
    token = session.defer()

    def done(error, now):
        token.resolve(Refusal(NOT_REPAIRED % error) if error else
                      {"buckets": now.asked, "bytes": now.bytes, "ms": round(now.seconds * 1000)})

    token.ended = replication.when_repaired(name, done)
    return NO_REPLY


@crdt("HELP", 1, "loading stale fast", "Lists the CRDT commands.")
def help_(session, argv):
    return [Simple(line) for spec in COMMANDS.values() if spec.name.startswith("CRDT.")
            for line in usage.synopsis(spec, spec.name)]
