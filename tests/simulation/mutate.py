"""Are the tests awake? Breaks the kernel, replication or the log on purpose, in a scratch copy, one
fault at a time, and sees which test notices.

    python -m tests.simulation.mutate                 # all faults; half an hour
    python -m tests.simulation.mutate --only "later"  # those whose name contains the word
    python -m tests.simulation.mutate --list

A property counts only after a deliberate fault has made it fail. Each fault below is one that is
easy to make and that the design has a sentence against. The script copies the checkout to a
temporary directory, replaces one piece of text, builds, and runs the tests in CHECKS, in
PEER_CHECKS where the text is one of replication, in STORAGE_CHECKS, SIZE_CHECKS and EARLY_CHECKS
where the fault is one of the log, of sizes, or of ops that come early and keys that expire. It ends
with 1 when a fault went unnoticed, or when a text to be replaced is no longer there exactly once:
then the fault wants to be written anew.
"""
from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORE = "crdtredis/core/"
PEERS = "crdtredis/replication/"
STORAGE = "crdtredis/storage/"

FAULTS = [
    ("take-back compared by size", CORE + "cell.pxi",
     "or s.seq <= t.back_seq:", "or (t.back_seq and s.total.whole <= t.back.whole):"),
    ("take-back of an older run applied to a newer one", CORE + "cell.pxi",
     "    if t == NULL or t.run_seq != s.run_seq or t.run_index != s.run_index or",
     "    if t == NULL or"),
    ("stub dropped at once", CORE + "cell.pxi",
     "        if slot == op.slot:                # its actor",
     "        if 1:                # its actor"),
    ("stub let go on an acknowledgement that overtook ops", CORE + "cell.pxi",
     "and a.v[t.actor].applied >= actor_has_seen(a, t.actor, t.actor)", "and 1"),
    ("equal stamps not decided by actor", CORE + "cell.pxi",
     "    return a.v[actor1].rank > a.v[actor2].rank", "    return 0"),
    ("increment applied as a step", CORE + "cell.pxi",
     "    number_take(&t.total, &x.total)\n    k", "    t.total.whole += x.total.whole\n    k"),
    ("clock advanced before the op is applied", CORE + "waiting.pxi",
     "    b.n += 1\n", "    b.n += 1\n    k.actors.v[slot].applied = seq\n"),
    ("duplicate applied", CORE + "receive.pxi",
     "    if h.seq <= k.actors.v[slot].applied:\n        return RECEIVED_ALL\n    if slot == k.me:",
     "    if h.seq < k.actors.v[slot].applied:\n        return RECEIVED_ALL\n"
     "    if h.seq == k.actors.v[slot].applied:\n        k.actors.v[slot].applied -= 1\n    if "
     "slot == k.me:"),
    ("dependencies not waited for", CORE + "waiting.pxi",
     "        if result == BLOCKED_NOT and k.actors.v[at].applied < seq:", "        if 0:"),
    ("timestamps of others not taken note of", CORE + "receive.pxi",
     "    if h.stamp > k.hlc:\n        k.hlc = h.stamp\n", ""),
    ("dependencies not sent", CORE + "effects.pxi",
     "    if k.deps_changed:\n", "    if k.deps_changed and 0:\n"),
    ("set does not list the tallies it saw", CORE + "effects.pxi",
     "    x.keep = keep_deadline\n    if e != NULL and e.meta & E_CELL:",
     "    x.keep = keep_deadline\n    if 0:"),
    ("deadline not asserted again", CORE + "effects.pxi",
     "    if stated == STATED_DEADLINE or (stated == STATED_CLEAR and removes_value):",
     "    if 0:"),
    ("deadline asserted again with a new stamp", CORE + "effects.pxi",
     "        x.stamp = stamp\n        x.actor = k.actors.v[actor].id\n        make(k, &x, e)\n    "
     "    return", "        make(k, &x, e)\n        return"),
    ("what has expired comes back with the next write", CORE + "effects.pxi",
     "    if not key_visible(k, e):\n        remove_key(k, db, e, 0)\n        return key_find(k, "
     "db, key)\n", ""),
    ("a key with a deadline still counted when it has none", CORE + "keyspace.pxi",
     "    count_expiring(k, x, 0)\n", ""),
    ("a run begun between majors that leave no room", CORE + "position.pxi",
     "            if room >= 2:\n                s.major",
     "            if room >= 1:\n                s.major"),
    ("a large collection removed whole although a newer write is there", CORE + "apply.pxi",
     "            return 0\n    return 1\n", "            continue\n    return 1\n"),
    ("a database let go of although a newer write is there", CORE + "apply.pxi",
     "(op.local or row_observed(op, &d.newest)) and leaves", "leaves"),
    ("a database let go of although stubs must stay", CORE + "apply.pxi",
     "    return own == k.db[x.db].tallies\n", "    return 1\n"),
    ("a deadline is no news of a database", CORE + "apply.pxi",
     "    if x.kind <= INCREMENT or x.kind == DEADLINE:\n        row_raise(",
     "    if x.kind <= INCREMENT:\n        row_raise("),
    ("newest dots noted once only", CORE + "apply.pxi",
     "    row_raise(&c.newest, op.slot, op.seq)\n", ""),
    ("flush removes what it did not see", CORE + "apply.pxi",
     "        if e.meta & (E_PLAIN | E_ENTRY) == E_PLAIN and observed(op, e.dot):\n            "
     "d.live -= 1\n            mem_free(e)",
     "        if e.meta & (E_PLAIN | E_ENTRY) == E_PLAIN:\n            d.live -= 1\n            "
     "mem_free(e)"),
    ("set outranks every deadline", CORE + "keyspace.pxi",
     "not later(&k.actors, clear_stamp, clear_actor, w.stamp, w.actor)", "0"),
    # numbers
    ("totals rounded to 80 bits", CORE + "exact.pxi",
     "if s.plus or s.minus or high - low > 63 or not", "if s.plus or s.minus or not"),
    ("halves rounded up", CORE + "exact.pxi",
     "& 1 and (m & 1 or lowest_bit(&size) < bit - 1):", "& 1:"),
    ("a total wraps at 64 bits", CORE + "effects.pxi",
     "        if whole == <int128>out.whole:\n            return",
     "        if 1:\n            return"),
    ("a take-back of what is no 64-bit number forgotten", CORE + "exact.pxi",
     "    sum_add_finite(s, less, 1)\n",
     "    if less.more == NULL:\n        sum_add_finite(s, less, 1)\n"),
    ("an infinity is not taken back", CORE + "exact.pxi",
     "v.more.plus > (less.more.plus if less.more != NULL else 0)", "v.more.plus > 0"),
    ("an answer holds whatever came since", CORE + "shown.pxi",
     "            if t.shown.context == context and (", "            if ("),
    ("the context of an answer knows nothing of take-backs", CORE + "shown.pxi",
     "        facts[4] = t.back_seq\n", "        facts[4] = 0\n"),
    ("what a client was answered is not kept", CORE + "effects.pxi",
     "    if not shows(&k.actors,", "    if 0 and not shows(&k.actors,"),
    ("what INCRBYFLOAT took beyond 64 bits stops there", CORE + "shown.pxi",
     "(kind == 2 and not is_real)", "kind == 2"),
    ("SET KEEPTTL over a hash forgets that there is no deadline", CORE + "effects.pxi",
     "    if stated != STATED_NOT:\n", "    if stated == STATED_DEADLINE and deadline:\n"),
    # what we encode we accept
    ("an encoder that its decoder does not follow", CORE + "codec.pxi",
     "        p = put_varint(p + 1, zigzag(s.low))",
     "        p = put_varint(p + 1, <uint64_t>s.low)"),
    ("a score that is no number is not refused", "crdtredis/commands/scored.pxd",
     "                if isnan(score): ", "                if 0: "),
    ("an actor that an op names is not declared in the log", CORE + "receive.pxi",
     "        declare_named(k, x)\n", ""),
    ("an actor that an op names is not declared to others", PEERS + "hub.py",
     "        return self.actors.keys() - known",
     "        return self.actors.keys() & self.head.keys() - set(known)"),
    ("a dep on no op is taken", CORE + "codec.pxi",
     " or f.v >> SEQ_BITS or f.v == 0:", " or f.v >> SEQ_BITS:"),
    ("totals of kilobytes count for nothing", CORE + "sizes.pxi",
     " + min(tallies * EXACT_ROOM, k.db[db].exact)", ""),
    # collections
    ("member removed without looking at its dot", CORE + "apply.pxi",
     "        if observed(op, e.dot):\n            live[0] -= 1\n            table_remove(t, e)",
     "        if 1:\n            live[0] -= 1\n            table_remove(t, e)"),
    ("removal of a whole collection takes what it did not see", CORE + "apply.pxi",
     "        if m.meta & E_PLAIN and observed(op, m.dot):", "        if m.meta & E_PLAIN:"),
    ("a large collection is let go at once for others' removals too", CORE + "apply.pxi",
     "(c.newest.v != NULL and row_observed(op, &c.newest))", "c.newest.v != NULL"),
    ("a collection that has become large counts only what comes then", CORE + "apply.pxi",
     "        while m != NULL:\n            if m.meta & E_PLAIN:\n                row_raise(",
     "        while 0:\n            if m.meta & E_PLAIN:\n                row_raise("),
    ("removal of a whole collection forgets cells", CORE + "apply.pxi",
     "            cell_remove_writes(element_cell(m), op)\n            settle(k, &c.table",
     "            settle(k, &c.table"),
    ("members of a removed collection not settled", CORE + "apply.pxi",
     "            cell_remove_writes(element_cell(m), op)\n            settle(k, &c.table, "
     "&c.live, m, live)",
     "            cell_remove_writes(element_cell(m), op)"),
    ("key not settled after its member", CORE + "apply.pxi",
     "    index(k, c, name, hash)\n    return settle(k, &d.table, &d.live, e, was_live)\n",
     "    index(k, c, name, hash)\n    d.live += element_live(e) - was_live\n    return e\n"),
    ("removal of one type removes all", CORE + "apply.pxi",
     "        if x.kind == DELETE or (x.kind == CLEAR and x.type == c.type):",
     "        if x.kind == DELETE or x.kind == CLEAR:"),
    ("increments do not move a score in the order", CORE + "apply.pxi",
     "    return score_hint(member_score(k, m))",
     "    return score_hint(0 if m.meta & E_CELL else member_score(k, m))"),
    ("tallies of a member not listed by what removes it", CORE + "effects.pxi",
     "    if x.kind != INCREMENT and m != NULL and m.meta & E_CELL:", "    if 0:"),
    ("tallies of members not listed by what removes the key", CORE + "effects.pxi",
     "        if c.cells and (only == T_NONE or only == c.type):", "        if 0:"),
    ("flush does not take members' tallies back", CORE + "apply.pxi",
     "    if m == NULL or not m.meta & E_CELL:\n        return\n    was_live",
     "    if m == NULL or c != NULL or not m.meta & E_CELL:\n        return\n    was_live"),
    ("hidden types outlive a write that saw them", CORE + "effects.pxi",
     "        if (other == T_STRING and value_live(e)) or (c != NULL and c.live):",
     "        if 0:"),
    ("a hidden set takes its word on the deadline along", CORE + "effects.pxi",
     "prepare(k, db, key, e, type != T_STRING and e != NULL and value_live(e))",
     "prepare(k, db, key, e, 0)"),
    # clients that wait for keys
    ("who waits does not hear of a flush", CORE + "keyspace.pxi",
     "key_find(k, db, watch_key(w)) != NULL:\n                note_watch(k, w)",
     "key_find(k, db, watch_key(w)) != NULL:\n                w.version += 1"),
    ("who came last is served first", "crdtredis/engine/blocking.pxi",
     "    x = (<Line*>watch.waiters + type).first\n",
     "    x = (<Line*>watch.waiters + type).last\n"),
    ("who waits is refused for keys of another type", "crdtredis/commands/blocking.pyx",
     "        if c.client.wait == NULL:\n            found", "        if 1:\n            found"),
    ("what is served makes nothing ready", "crdtredis/engine/blocking.pxi",
     "    while may_serve(d) and not turn_is_full(d):\n        watch = watch_take_ready",
     "    if may_serve(d) and not turn_is_full(d):\n        watch = watch_take_ready"),
    # lists
    ("a run continued by another actor", CORE + "position.pxi",
     "    return (dot_slot(of.run) == dot_slot(own) or d >= OWN_LEVELS) and of.major",
     "    return of.major"),
    ("a place in a run given out twice", CORE + "position.pxi",
     "    at.step.own = own\n    at.step.own_index = index\n",
     "    if at.step.own == 0:\n        at.step.own = own\n        at.step.own_index = index\n"),
    ("elements of one place in a run not told apart in the order", CORE + "position.pxi",
     "    return r if r else compare_dots(a, x.own, x.own_index, y.own, y.own_index)",
     "    return r"),
    ("runs in the order in which a replica met their actors", CORE + "position.pxi",
     "compare_int64(a.v[dot_slot(x)].rank, a.v[dot_slot(y)].rank)",
     "compare_int64(dot_slot(x), dot_slot(y))"),
    ("an insert left of what hangs below its neighbour stands behind it", CORE + "position.pxi",
     "    s.major = from_.major + (by if direction > 0 else -by)\n",
     "    s.major = from_.major + by\n"),
    ("an insert right of what hangs below its neighbour stands before it", CORE + "position.pxi",
     "    s.major = from_.major + (by if direction > 0 else -by)\n",
     "    s.major = from_.major - by\n"),
    ("room between two of a run is halved whatever the pattern", CORE + "position.pxi",
     "    way = <uint64_t>(<double>room / (<double>room / <double>way + 2))\n",
     "    way = room // 2\n"),
    ("inserts from both sides in turn are taken for some from one", CORE + "position.pxi",
     "    from_left[0] = (later == p) != (turns > 0)\n", "    from_left[0] = later == p\n"),
    ("others' inserts are not counted among the latest", CORE + "list.pxi",
     "        if not found:\n            list_recent(c)[1]",
     "        if not found and op.local:\n            list_recent(c)[1]"),
    ("no actor ever goes on in another's run", CORE + "position.pxi",
     "    return (dot_slot(of.run) == dot_slot(own) or d >= OWN_LEVELS) and of.major",
     "    return dot_slot(of.run) == dot_slot(own) and of.major"),
    ("in another's run two who insert at once take the same place", CORE + "position.pxi",
     "    return way - (x ^ x >> 32) % (way // 2 + 1)\n", "    return way\n"),
    ("a position is made that receivers refuse", CORE + "position.pxi",
     "    for d in range(MAX_STEPS):\n", "    for d in range(MAX_STEPS + 1):\n"),
    ("an insert that is refused leaves an op behind", CORE + "effects.pxi",
     "    if not list_place(k, c, index):\n",
     "    start(k, &x, ASSIGN, db, key)\n    if not list_place(k, c, index):\n"),
    ("nothing stands before a position that a peer made", CORE + "position.pxi",
     "    return known if depth and s.major > INT64_MIN else -1\n",
     "    return known if depth else -1\n"),
    ("majors wrap", CORE + "position.pxi",
     "    if room == 0 or from_.major == INT64_MIN:\n        return 0\n", ""),
    ("a made-up position shows what came first", CORE + "list.pxi",
     "op.stamp if own != dot else 0", "op.stamp"),
    ("an element moved to a list without room is lost", "crdtredis/commands/lists.pyx",
     "    if push(c, c.argv[2], to, &value, 1, to_tail):\n",
     "    if push(c, c.argv[2], to, &value, 1, to_tail) or 1:\n"),
    ("a value for an element that has gone is dropped", CORE + "list.pxi",
     "    if not found:\n        single = block_new(",
     "    if not found:\n        if own != dot:\n            return\n        single = block_new("),
    ("a list removed whole loses blocks of which only a part was seen", CORE + "list.pxi",
     "    elif not observed(op, b.last.own):", "    elif 0:"),
    ("an element assigned to keeps the value it was inserted with", CORE + "list.pxi",
     "    cell_remove_writes(&single.cell, op)\n    # An insert", "    # An insert"),
    ("what is left of two gaps in a block counts one", CORE + "block.pxi",
     "    g.seqs += h.seqs\n", "    g.seqs = h.seqs\n"),
    # replication
    ("acknowledged what still waits for others", PEERS + "hub.py",
     "            if not clocks.covers(self.head, last):\n                for p in",
     "            [self.log.head.advance(a, s) for a, s in last.items() if s > self.head.get(a, "
     "0)]\n"
     "            if not clocks.covers(self.head, last):\n                for p in"),
    ("claimed what the failed log lacks", PEERS + "hub.py",
     "                if not view.logged:", "                if 0:"),
    ("a pull's clock taken for what is logged", PEERS + "hub.py",
     "        if not request.limit:\n            self.has(session, clock)\n",
     "        self.has(session, clock)\n        if not request.limit:\n"),
    ("what one process has put down to another of its replica", PEERS + "hub.py",
     "            if p.replica == session.replica and p.process == session.process:",
     "            if p.replica == session.replica:"),
    ("a replica with two addresses counted twice", PEERS + "hub.py",
     "                newest[p.replica] = p\n", "                newest[p.url] = p\n"),
    ("what a former process had put down to the present one", PEERS + "hub.py",
     "if p.is_replica and p.process == n.process)", "if p.is_replica and p.replica == n.replica)"),
    ("a sync that gives up with the session of a former process", PEERS + "peer.py",
     "                if conversation and self._session == session:", "                if 0:"),
    ("two addresses of one replica that end each other's conversation", PEERS + "peer.py",
     "        if other := next((p for p in hub.peers if self._is_served_by(p)), None):",
     "        if other := None:"),
    ("an address that stands by for ever", PEERS + "peer.py",
     "        while self._is_served_by(other):", "        while True:"),
    ("a peer that stands still shown as up", PEERS + "peer.py",
     "        return (time.monotonic() - self._contact > MUTE\n", "        return (False\n"),
    ("a peer that says nothing holds a sync up", PEERS + "front.py",
     "                        task.cancel()\n                        asked.discard(p)\n",
     "                        pass\n"),
    ("the sides of two clusters exchanged", PEERS + "plan.py",
     "{hello.cluster!r} at {hello.replica} and {cluster!r} at {replica}",
     "{cluster!r} at {hello.replica} and {hello.cluster!r} at {replica}"),
    ("a Redis port taken for a broken replica", PEERS + "faults.py",
     '    if data[:1] in (b"+", b"-"):\n        return "redis"\n', ""),
    ("an actor claimed without an op not declared", PEERS + "hub.py",
     "            known = {a for a, seq in clock.items() if seq}\n",
     "            known = set(clock)\n            known.update(request.actors)\n"),
    ("ops sent that the asker does not want", PEERS + "hub.py",
     "                clock = clocks.leaving_out(clock, self.head, set(request.actors))\n",
     "                pass\n"),
    ("a refused process let in while the other lives", PEERS + "hub.py",
     "if hello.process in self._retired and session and", "if 0 and session and"),
    ("a refused process never let in again", PEERS + "hub.py",
     " and session and time.monotonic() - session.heard < self.settings.silence:", ":"),
    ("segments that hold nothing read for ever", PEERS + "hub.py",
     "            looks += not cursor.reading\n", ""),
    ("a link counted as up at the handshake although its ops are refused", PEERS + "peer.py",
     "        if self._impasse:\n            self._state, self.error =",
     "        if 0:\n            self._state, self.error ="),
    ("the clock of a peer's former life kept", PEERS + "peer.py",
     "        self.process, self.known, self.met = hello.process, to_clock(hello.clock), "
     "time.monotonic()\n",
     "        self.process, self.met = hello.process, time.monotonic()\n        "
     "clocks.join(self.known, to_clock(hello.clock))\n"),
    ("an answer to a push before those that came earlier", PEERS + "stream.py",
     "        while self._pending and self._pending[0][1]:", "        while self._pending:"),
    ("pushes on a stream taken without end", PEERS + "stream.py",
     "            self.link.transport.pause_reading()", "            pass"),
    ("a stream in anybody's name", "crdtredis/http/replication.py",
     "int(key, 16) if re.fullmatch(\"[0-9a-f]{1,16}\", key) else 0)",
     "self.hub.sessions[request.headers[\"X-Replica\"]].key)"),
    ("an actor counted as declared when it was sent", PEERS + "peer.py",
     "        self._outlet.push(piece, batch, told)",
     "        self._declared |= told\n        self._outlet.push(piece, batch, told)"),
    ("sent on a stream although paused", PEERS + "peer.py",
     "        if self.is_paused:\n            return\n        told", "        told"),
    ("a stream that stands still kept", PEERS + "stream.py",
     "        if self.unanswered and time.monotonic()", "        if 0 and time.monotonic()"),
    ("a relay left out", PEERS + "peer.py",
     "            if stuck and not self._it_lacks:", "            if 0 and not self._it_lacks:"),
    ("a part of an op taken wherever it belongs", PEERS + "flow.py",
     "            if part.at == self.have:\n", "            if 1:\n"),
    ("a large op begun anew with each connection", PEERS + "hub.py",
     "before.traffic if before else Traffic(", "Traffic("),
    ("a large op thrown away when it cannot be taken now", PEERS + "hub.py",
     "                if e.code == wire.MALFORMED:\n                    parts.clear()",
     "                parts.clear()"),
    ("a time limit in total", PEERS + "flow.py",
     "            self._limit.reschedule(", "            (lambda at: None)("),
    ("one budget for all peers", PEERS + "hub.py",
     "        return found.traffic if found else self.strangers", "        return self.strangers"),
    ("a body read to its end", PEERS + "flow.py",
     "            if size > most:\n                break\n", ""),
    ("what an answer holds written without a look at who reads", "crdtredis/http/replication.py",
     "                await answers.acquire()", "                pass"),
    ("the token sent to anybody", PEERS + "peer.py",
     "        if reason := plan.exposed(self.url, hub.settings):", "        if reason := '':"),
    ("a turn handed out uncut", PEERS + "oplog.py",
     "        for part in split(batch, self.most_entry):", "        for part in [batch]:"),
    ("a fallen back reader begins at the handshake", PEERS + "oplog.py",
     "                found = self.segments.find({**unwanted, **cursor.clock})",
     "                found = self.segments.find(cursor.clock)"),
    ("a reader's place forgotten", PEERS + "oplog.py",
     "                cursor.place = max(found, cursor.place) if cursor.place else found",
     "                cursor.place = found"),
    ("each reader its own copy of a large op", PEERS + "oplog.py",
     "        if found is None:\n            found =", "        if 1:\n            found ="),
    ("a cursor moved past what did not fit", PEERS + "oplog.py",
     "                if size and size + len(e.batch) > limit:\n                    break\n",
     "                if size and size + len(e.batch) > limit:\n                    cursor.at += "
     "1\n                    break\n"),
    ("a cursor's clock moved by what it does not want", PEERS + "oplog.py",
     "                for a, (first, last) in wanted.items():\n                    ops +=",
     "                for a, (first, last) in e.ranges.items():\n                    ops +="),
    ("what is fetched asked for while it is on its way", "crdtredis/clocks.py",
     "    return {a: s for a, s in lacking(have, there).items() if have.get(a, 0) == before.get(a, "
     "0)}", "    return lacking(have, there)"),
    ("hostile: sessions of made-up replicas kept for ever", PEERS + "hub.py",
     "        if len(self.sessions) > SESSIONS:\n", "        if 0:\n"),
    ("hostile: a listed peer loses its session to made-up ones", PEERS + "hub.py",
     "if s.replica not in listed)", "if s.replica != newest.replica)"),
    ("hostile: who does not read the answers is read from", PEERS + "stream.py",
     "self.session.traffic.inbound.most or self.link.is_full:",
     "self.session.traffic.inbound.most:"),
    ("hostile: a stream without a word kept", PEERS + "stream.py",
     "        if rest <= 0 and not self._pending:\n", "        if 0:\n"),
    ("hostile: made-up actors of a peer's clock kept", PEERS + "peer.py",
     "        if len(self.known) > ACTORS_MOST:\n", "        if 0:\n"),
    ("hostile: a newer peer's code ends the attempts", PEERS + "wire.py",
     "        known = wire.Code.DESCRIPTOR.values_by_number.get(self.code)\n",
     "        known = wire.Code.DESCRIPTOR.values_by_number[self.code]\n"),
    ("hostile: a peer's text goes into messages as it is", PEERS + "wire.py",
     "c if c.isprintable() else \" \" for c in text[:TEXT_MOST]", "c for c in text"),
    ("who waits no longer kept", PEERS + "waiters.py",
     "        waiter.done = None\n        self._gone += 1\n",
     "        return\n        self._gone += 1\n"),
    ("a client that has gone kept waiting for peers", "crdtredis/commands/server.py",
     "        token.ended = sync.when_acknowledged(", "        sync.when_acknowledged("),
    ("log: always without fdatasync", CORE + "log.pxi",
     "        if self.policy == LOG_ALWAYS and not more:\n", "        if 0:\n"),
    ("log: a failure forgotten with the next segment", CORE + "log.pxi",
     "        if self.state == LOG_FAILED and not healed:\n", "        if 0:\n"),
    ("log: what is in doubt synced again", STORAGE + "segments.py",
     "            if self._doubt is not None:\n                return ",
     "            if 0:\n                return "),
    ("log: former segments never synced", STORAGE + "segments.py",
     "                if f.durable < f.end:\n", "                if 0:\n"),
    ("log: names never synced", STORAGE + "segments.py",
     "        if number > self._named:\n", "        if 0:\n"),
    ("log: a start does not sync what a killed process left", STORAGE + "segments.py",
     "        self._loose = unsynced\n", "        self._loose = None\n"),
    ("log: a header silent about what is not synced", STORAGE + "segments.py",
     "        unsynced = self._unsynced(number, end, durable)\n        try:\n",
     "        unsynced = None\n        try:\n"),
    ("log: no mark", STORAGE + "segments.py",
     "        return self.writer.add(MARK)\n", "        return False\n"),
    ("log: a mark too early", STORAGE + "segments.py",
     "        if not self._unmarked or self._formers or self._loose is not None:\n",
     "        if not self._unmarked:\n"),
    ("log: the ceiling without what waits", STORAGE + "segments.py",
     "ceiling={**now, **self._beyond}", "ceiling=now"),
    ("log: written before the epoch is stored", STORAGE + "segments.py",
     "        if claim is not None:\n            self._try_claim()\n        elif", "        if"),
    ("log: a removed segment goes unnoticed", STORAGE + "segments.py",
     "        if self._is_gone():\n", "        if 0:\n"),
    ("log: a reader begins by the lower bound", STORAGE + "reader.py",
     "covers(clock, header.ceiling)\n", "covers(clock, header.clock)\n"),
    ("log: a reader trusts the headers of older versions", STORAGE + "reader.py",
     " and header.clock != before.clock:\n", ":\n"),
    ("log: headers read again for every segment", STORAGE + "reader.py",
     "        if not links or links[-1].number != newest:\n", "        if 1:\n"),
    ("log: marks not heeded", STORAGE + "recovery.py",
     "            if holds_mark(fd, read_header(fd).size):\n", "            if 0:\n"),
    ("log: a torn end where all was synced", STORAGE + "recovery.py",
     "    if unsynced is None or unsynced > place:\n", "    if unsynced is None:\n"),
    ('log: segments behind a torn end left there', STORAGE + "recovery.py",
     '            cut.path.rename(free_name(cut.path, "torn"))\n', '            pass\n'),
    ("log: segments behind a torn end removed from the oldest on", STORAGE + "recovery.py",
     "            for n in range(newest, number, -1) if",
     "            for n in range(number + 1, newest + 1) if"),
    ("log: check cuts a torn end", STORAGE + "recovery.py",
     "                    if change:\n", "                    if 1:\n"),
    ("log: a short read is the end", STORAGE + "format.py",
     "        size -= len(piece)\n", "        size = 0\n"),
    ("log: zeros in a header are damage", STORAGE + "format.py",
     " or data[-1] == 0:\n", ":\n"),
    ("log: only the file LOCK is locked", STORAGE + "lock.py",
     "            directory = self._lock(folder, os.O_RDONLY | os.O_DIRECTORY)\n",
     "            directory = False\n"),
    ("log: a repaired header keeps a lost ceiling", STORAGE + "check.py",
     "ceiling=after.header.ceiling if after and after.header else None)", "ceiling={})"),
    ("log: an actor declared again at each start", CORE + "receive.pxi",
     "    k.actors.v[slot].logged |= k.recovering\n", ""),
    ("log: an actor never declared", CORE + "effects.pxi",
     "        encode_actor(&k.declarations, &k.actors.v[slot])\n", ""),
    # ops that come early, clocks that are wrong, stubs, and who removes what has expired
    ("early: a full waiting room drops the op and says that it waits", CORE + "receive.pxi",
     "        return RECEIVED_FULL\n", "        return RECEIVED_ALL\n"),
    ("early: the waiting room has no bound", CORE + "waiting.pxi",
     "    return not k.recovering and (k.room.bytes", "    return 0 and (k.room.bytes"),
    ("early: a repaired log finds no room", CORE + "waiting.pxi",
     "    return not k.recovering and (k.room.bytes", "    return (k.room.bytes"),
    ("early: one actor may fill the waiting room", CORE + "waiting.pxi",
     "> k.room.limit // ROOM_SHARE)", "> k.room.limit)"),
    ("early: what has left the waiting room still counts", CORE + "waiting.pxi",
     "    k.room.bytes -= room_size(m.vlen)\n", ""),
    ("early: what follows the ops of an actor without room is not looked at", CORE + "receive.pxi",
     "        if r == RECEIVED_FULL:\n            result = r\n        elif r != RECEIVED_ALL:\n    "
     "        result = r\n            break\n",
     "        if r != RECEIVED_ALL:\n            result = r\n            break\n"),
    ("early: an op that waits is taken in twice", CORE + "receive.pxi",
     "    if room_find(k, slot, h.seq) != NULL:\n        return RECEIVED_ALL\n", ""),
    ("early: who waits for another's op is not woken", CORE + "waiting.pxi",
     "        look_at(k, first - 1)\n    if b.n", "    if b.n"),
    ("early: a turn applies all that is free", CORE + "waiting.pxi",
     "            most -= min(most, room_size(m.vlen))\n", ""),
    ("early: an op from the future is not held", CORE + "waiting.pxi",
     "        until[0] = h.stamp >> 16\n        return BLOCKED_BY_TIME\n",
     "        return BLOCKED_NOT\n"),
    ("early: accepted stamps are held all the same", CORE + "waiting.pxi",
     "    return max(k.now, k.accepted) + k.max_skew", "    return k.now + k.max_skew"),
    ("early: writes go on while the timestamps run ahead", "crdtredis/engine/dispatch.pxi",
     "    if d.guard & GUARD_CLOCK and effective & C_WRITE:", "    if 0:"),
    ("early: expired keys are removed while the timestamps run ahead", CORE + "effects.pxi",
     "    if stamps_run_ahead(k):\n", "    if 0:\n"),
    ("early: no grace before reaping", CORE + "keyspace.pxi",
     "        at += k.reap_grace\n", "        pass\n"),
    ("early: a stub of this replica's earlier process let go at once", CORE + "cell.pxi",
     "    return t.actor == k.me or (",
     "    return a.v[t.actor].replica_slot == a.v[k.me].replica_slot or ("),
    ("early: members with stubs not counted", CORE + "apply.pxi",
     "        c.stubs += has_stub(element_cell(m))\n", ""),
    ("early: a collection is looked through for stubs in one go", CORE + "stubs.pxi",
     "        if most[0] <= 0:\n            return\n", ""),
    ("early: the first live one among stubs is chosen", CORE + "keyspace.pxi",
     "            if random_takes(k, n):\n                found = e\n            if k.few.n",
     "            if n == 1:\n                found = e\n            if k.few.n"),
    ("early: the first of those that are known to live among stubs is chosen",
     CORE + "keyspace.pxi",
     "            if random_takes(k, n):\n                found = e\n    if n == live:",
     "            if n == 1:\n                found = e\n    if n == live:"),
    ("early: those once found among stubs are chosen from although there are others",
     CORE + "keyspace.pxi",
     "    if n == live:\n", "    if n:\n"),
    ("early: a key that was looked at counts until the reaper's next round",
     "crdtredis/engine/loop.pxi",
     "        if self.mono >= self.next_reap or (self.k.heap_n and self.k.heap[0].at <= "
     "self.k.now):", "        if self.mono >= self.next_reap:"),
    ("early: new actors without end", CORE + "receive.pxi",
     "    if k.newcomers == NEWCOMERS:\n", "    if 0:\n"),
    ("early: a new replica learns of few actors at once", CORE + "receive.pxi",
     "    if k.actors.n < FREELY:\n", "    if 0:\n"),
    # sizes
    ("size: a pipeline runs on although the turn is full", "crdtredis/engine/connection.pxi",
     "or client.reply.over or turn_is_full(d) or d.guard", "or client.reply.over or d.guard"),
    ("size: a record takes ops without end", CORE + "receive.pxi",
     "run_part(k, run, most - n if n < most else 0, ", "run_part(k, run, <size_t>-1, "),
    ("size: a large op has no room for many deps", CORE + "effects.pxi",
     "        if head + RUN_HEAD + RECORD_HEAD > HEAD_ROOM:", "        if head > HEAD_ROOM:"),
    ("size: a command is refused half done", CORE + "sizes.pxi",
     "    if k.changes == k.began and not op_fits(", "    if not op_fits("),
    ("size: effects counted without their keys", CORE + "sizes.pxi",
     "(n + 3) * (EFFECT_ROOM + key) + tallies", "(n + 3) * EFFECT_ROOM + tallies"),
    ("size: listed tallies not counted", CORE + "sizes.pxi",
     " + tallies * SEEN_ROOM + min(", " + min("),
    ("size: what a transaction has made before does not count", CORE + "sizes.pxi",
     "    return op_used(k) + (n + 3)", "    return (n + 3)"),
    ("size: a removal is cut inside a transaction", CORE + "sizes.pxi",
     "    return k.depth > 1 and k.changes == k.began", "    return 0"),
    ("size: a removal lists more than an op may hold", CORE + "effects.pxi",
     "    if not list_key(k, e, T_NONE, span(NULL, 0), k.op_most) or not op_fits(k, db, 0, klen, "
     "k.seen.n):",
     "    if not list_key(k, e, T_NONE, span(NULL, 0), <size_t>-1):"),
    ("size: what a transaction first removes of an expired key is not counted",
     "crdtredis/engine/transaction.pxi",
     "        if not remainders_fit(", "        if 0 and not remainders_fit("),
    ("size: what is copied is not counted", CORE + "effects.pxi",
     "    if not op_room(k, to_db, 0, to.n, bytes):", "    if 0:"),
    ("size: arguments are not counted", "crdtredis/engine/dispatch.pxi",
     "        if cmd.flags & C_DENYOOM and not op_room(", "        if 0 and not op_room("),
    ("size: effects of a received op that are decoded again are not looked at first",
     CORE + "receive.pxi",
     "        if r == 0:\n            return n if n else -1\n",
     "        if r == 0:\n            return n if n else -1\n        if n >= DECODED_KEPT:\n       "
     "     n += 1\n            continue\n"),
    ("size: effects are decoded again from the wrong one on", CORE + "receive.pxi",
     "        if n == DECODED_KEPT:\n            k.decoded_rest = p\n",
     "        if n == DECODED_KEPT - 1:\n            k.decoded_rest = p\n"),
    ("size: answers beyond the output limit are kept", "crdtredis/resp/writer.pxi",
     "    if r.most and (r.over", "    if 0 and (r.over"),
    ("size: what a peer sent is handed back although it holds more than the op",
     "crdtredis/engine/bridge.pxi",
     "        if from_.n == b.n and memcmp(from_.bytes, head.p, head.n) == 0:", "        if 1:"),
    ("size: a checksum without what was lent", CORE + "segment.pxi",
     "crc32c(crc, rest.p, rest.n) if rest.n else crc)", "crc)"),
    ("size: of a lent op that cannot be written only the head is kept", CORE + "log.pxi",
     "            buffer_add(&self.pending, rest.p, rest.n)\n", ""),
    ("size: a reply that nobody wants closes the client", "crdtredis/engine/dispatch.pxi",
     "    r.buf.n = at\n    r.over = over\n", "    r.buf.n = at\n"),
    ("size: what was dropped writes over earlier replies", "crdtredis/resp/writer.pxi",
     "        r.buf.n = min(r.keep, r.buf.n)\n", "        r.buf.n = 0\n"),
    ("size: an argument longer than an op can hold", "crdtredis/config.py",
     'S("proto_max_bulk_len", Size("1mb", "512mb")', 'S("proto_max_bulk_len", Size("1mb", "4gb")'),
]

# The quickest first: what one has caught is not shown to the next.
CHECKS = [
    ("collections", [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
                     "tests/core/test_collections.py",
                     "tests/core/test_flush.py", "tests/core/test_lists.py",
                     "tests/core/test_positions.py"]),
    ("waiting", [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
                 "tests/commands/test_blocking.py"]),
    ("numbers", [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
                 "tests/core/test_exact.py", "tests/core/test_soundness.py",
                 "tests/core/test_codec.py", "tests/commands/test_numbers.py",
                 "tests/commands/test_sizes.py"]),
    ("simulation", [sys.executable, "-m", "tests.simulation.world", "--schedules", "300"]),
    ("model", [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
               "tests/core/test_model.py"]),
    ("interleavings", [sys.executable, "-m", "tests.simulation.test_interleavings"]),
    ("pops", [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
              "tests/simulation/test_pops.py"]),
    ("inserts", [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
                 "tests/simulation/test_inserts.py"]),
    ("long simulation", [sys.executable, "-m", "tests.simulation.world", "--first", "301",
                         "--schedules", "2500"]),
]


PEER_CHECKS = [
    ("replication", [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
                     "tests/replication"]),
    ("commands", [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
                  "tests/commands/test_server.py"]),
]


STORAGE_CHECKS = [
    (name, [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
            f"tests/storage/test_{name}.py"])
    for name in ("segments", "reader", "identity", "power_loss", "check", "recovery")
]


SIZE_CHECKS = [
    ("sizes", [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
               "tests/commands/test_sizes.py",
               "tests/core/test_op_sizes.py", "tests/engine/test_turn_sizes.py",
               "tests/engine/test_loop.py"]),
    ("settings", [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
                  "tests/commands/test_server.py"]),
]


EARLY_CHECKS = [
    ("early", [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
               "tests/core/test_waiting.py", "tests/core/test_stubs.py",
               "tests/core/test_reaping.py", "tests/core/test_codec.py",
               "tests/engine/test_dispatch.py", "tests/engine/test_loop.py"]),
]


def checks_of(name: str, path: str) -> list[tuple[str, list[str]]]:
    if name.startswith("early:"):
        return EARLY_CHECKS
    if name.startswith("size:"):
        return SIZE_CHECKS
    if name.startswith("log:"):
        return STORAGE_CHECKS
    return PEER_CHECKS if path.endswith(".py") else CHECKS


def build(where: Path) -> None:
    out = subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=where,
                         capture_output=True, text=True,
                         env=os.environ | {"CRDT_REDIS_BUILD": "debug"})
    if out.returncode:
        raise SystemExit(out.stdout + out.stderr)


def change(where: Path, file: Path, text: str) -> None:
    """All modules depend on all parts. A part of the kernel keeps its time, and what it goes into
    is removed: so only that is built again."""
    before = file.stat()
    file.write_text(text)
    if CORE not in str(file):
        return
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    for old in where.glob("crdtredis/_core.*"):
        if old.suffix in (".c", ".so"):
            old.unlink()


def caught_by(where: Path, checks: list[tuple[str, list[str]]]) -> str | None:
    """The first of the checks that fails. One that hangs does; the limit is for a machine that does
    much else beside."""
    for name, argv in checks:
        try:
            done = subprocess.run(argv, cwd=where, capture_output=True, text=True, timeout=1800,
                                  env=os.environ | {"CRDT_MODEL_SCHEDULES": "1000"})
        except subprocess.TimeoutExpired:
            return f"{name} (hangs)"
        if done.returncode:
            return name
    return None


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--only", default="")
    p.add_argument("--list", action="store_true")
    a = p.parse_args()
    faults = [f for f in FAULTS if a.only in f[0]]
    if a.list:
        print(*(f[0] for f in faults), sep="\n")
        return 0
    bad = 0
    with tempfile.TemporaryDirectory(prefix="crdt-redis-mutate-") as d:
        where = Path(d) / "copy"
        shutil.copytree(ROOT, where,
                        ignore=shutil.ignore_patterns(".git", ".venv", "build", "*.so", "*.o",
                                                      "__pycache__", ".hypothesis"))
        build(where)
        for checks in [c for c in (PEER_CHECKS, STORAGE_CHECKS, SIZE_CHECKS, EARLY_CHECKS, CHECKS)
                       if any(checks_of(name, path) is c for name, path, *_ in faults)]:
            if sound := caught_by(where, checks):
                raise SystemExit(f"the unchanged source fails: {sound}")
        for name, path, old, new in faults:
            file = where / path
            text = file.read_text()
            if text.count(old) != 1:
                print(f"{name:70} OUT OF DATE: the text is there {text.count(old)} times",
                      flush=True)
                bad += 1
                continue
            change(where, file, text.replace(old, new))
            if file.suffix != ".py":
                build(where)
            found = caught_by(where, checks_of(name, path))
            print(f"{name:70} {'caught by ' + found if found else 'NOT CAUGHT'}", flush=True)
            bad += not found
            change(where, file, text)
    print(f"{len(faults) - bad} of {len(faults)} faults caught")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
