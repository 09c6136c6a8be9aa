"""The deliberate faults that mutate.py tries. Each is easy to make, and the design has a sentence
against it.

A fault names the test that must catch it: arguments of pytest below tests/, or one of
mutate.PROGRAMS. `old` is the text that `new` replaces. White space between words does not count,
except that an indent before `old` says that a line begins there, and a line break behind it that a
line ends there.
"""
from typing import NamedTuple

CORE = "crdtredis/core/"
ENGINE = "crdtredis/engine/"
COMMANDS = "crdtredis/commands/"
STORAGE = "crdtredis/storage/"
PEERS = "crdtredis/replication/"
HTTP = "crdtredis/http/"


class Fault(NamedTuple):
    name: str
    path: str
    test: str
    old: str
    new: str


FAULTS = [
    Fault("cancellation compared by size",
          CORE + "cell.pxi",
          "core/test_collections.py::test_random_clusters_converge_to_what_the_ops_say",
          "or s.seq <= t.cancelled_seq):",
          "or (t.cancelled_seq and s.total.whole <= t.cancelled.whole)):"),
    Fault("cancellation of an older run applied to a newer one",
          CORE + "cell.pxi",
          "core/test_collections.py::test_random_clusters_converge_to_what_the_ops_say",
          "    if (t == NULL or t.run_seq != s.run_seq or t.run_index != s.run_index or",
          "    if (t == NULL or"),
    Fault("tombstone dropped at once",
          CORE + "cell.pxi",
          "core/test_collections.py::test_random_clusters_converge_to_what_the_ops_say",
          "    if is_tombstone(t) and slot == op.slot:",
          "    if is_tombstone(t):"),
    Fault("tombstone let go on an acknowledgement that overtook ops",
          CORE + "tombstones.pxi",
          "simulation",
          "and a.v[t.actor].applied >= actor_observed(a, t.actor, t.actor)",
          "and 1"),
    Fault("equal stamps not decided by actor",
          CORE + "cell.pxi",
          "core/test_model.py::test_random_schedules",
          "    return a.v[actor1].rank > a.v[actor2].rank",
          "    return 0"),
    Fault("increment applied as a step",
          CORE + "cell.pxi",
          "core/test_collections.py::test_random_clusters_converge_to_what_the_ops_say",
          "    number_take(&t.total, &x.total)\n"
          "    counted",
          "    t.total.whole += x.total.whole\n"
          "    counted"),
    Fault("clock advanced before the op is applied",
          CORE + "pending.pxi",
          "simulation",
          "    b.n += 1\n",
          "    b.n += 1\n"
          "    k.actors.v[slot].applied = seq\n"),
    Fault("duplicate applied",
          CORE + "receive.pxi",
          "simulation",
          "    if h.seq <= k.actors.v[slot].applied:\n"
          "        return RECEIVED_ALL\n"
          "    if slot == k.me:",
          "    if h.seq < k.actors.v[slot].applied:\n"
          "        return RECEIVED_ALL\n"
          "    if h.seq == k.actors.v[slot].applied:\n"
          "        k.actors.v[slot].applied -= 1\n"
          "    if slot == k.me:"),
    Fault("dependencies not waited for",
          CORE + "pending.pxi",
          "simulation",
          "        if result == BLOCKED_NOT and k.actors.v[at].applied < seq:",
          "        if 0:"),
    Fault("timestamps of others not taken note of",
          CORE + "receive.pxi",
          "simulation",
          "    if h.stamp > k.newest_stamp:\n"
          "        k.newest_stamp = h.stamp\n",
          ""),
    Fault("dependencies not sent",
          CORE + "op.pxi",
          "simulation",
          "    if k.open.deps_changed:\n",
          "    if k.open.deps_changed and 0:\n"),
    Fault("set does not list the counter entries it saw",
          CORE + "effects.pxi",
          "simulation",
          "    x.keep = keep_deadline\n"
          "    if e != NULL and e.meta & E_CELL:",
          "    x.keep = keep_deadline\n"
          "    if 0:"),
    Fault("deadline not asserted again",
          CORE + "effects.pxi",
          "core/test_model.py::test_random_schedules",
          "    if stated == STATED_DEADLINE or (stated == STATED_CLEAR and removes_value):",
          "    if 0:"),
    Fault("deadline asserted again with a new stamp",
          CORE + "effects.pxi",
          "core/test_model.py::test_random_schedules",
          "        x.stamp = stamp\n"
          "        x.actor = k.actors.v[actor].id\n"
          "        make(k, &x, e)\n"
          "        return",
          "        make(k, &x, e)\n"
          "        return"),
    Fault("what has expired comes back with the next write",
          CORE + "effects.pxi",
          "simulation",
          "    if not key_visible(k, e):\n"
          "        remove_key(k, db, e, 0)\n"
          "        return key_find(k, db, key)\n",
          ""),
    Fault("a key with a deadline still counted when it has none",
          CORE + "deadline.pxi",
          "simulation",
          "    count_expiring(k, x, 0)\n",
          ""),
    Fault("a run begun between majors that leave no room",
          CORE + "position.pxi",
          "core/test_collections.py::test_random_clusters_converge_to_what_the_ops_say",
          "            if room >= 2:\n"
          "                s.major",
          "            if room >= 1:\n"
          "                s.major"),
    Fault("a large collection removed whole although a newer write is there",
          CORE + "cell.pxi",
          "simulation",
          "            return 0\n"
          "    return 1\n",
          "            continue\n"
          "    return 1\n"),
    Fault("a database let go of although a newer write is there",
          CORE + "apply.pxi",
          "simulation",
          "(op.local or vector_observed(op, &d.written)) and leaves_no_count",
          "leaves_no_count"),
    Fault("a database let go of although tombstones must stay",
          CORE + "apply.pxi",
          "core/test_flush.py::test_random_clusters_with_many_flushes",
          "    return own == op.counted.entries\n",
          "    return 1\n"),
    Fault("a deadline is no news of a database",
          CORE + "apply.pxi",
          "core/test_flush.py::test_a_deadline_alone_that_the_flush_had_not_seen_stays",
          "    if x.kind <= INCREMENT or x.kind == DEADLINE:\n"
          "        vector_raise(",
          "    if x.kind <= INCREMENT:\n"
          "        vector_raise("),
    Fault("newest dots noted once only",
          CORE + "collection.pxi",
          "core/test_collections.py::"
          "test_a_large_collection_goes_at_once_only_where_all_of_it_was_seen",
          "    vector_raise(&c.written, op.slot, op.seq)\n",
          ""),
    Fault("flush removes what it did not see",
          CORE + "apply.pxi",
          "simulation",
          "        if e.meta & (E_PLAIN | E_ENTRY) == E_PLAIN and observed(op, e.dot):\n"
          "            d.live -= 1\n"
          "            mem_free(e)",
          "        if e.meta & (E_PLAIN | E_ENTRY) == E_PLAIN:\n"
          "            d.live -= 1\n"
          "            mem_free(e)"),
    Fault("set outranks every deadline",
          CORE + "deadline.pxi",
          "simulation",
          "not later(&k.actors, clear_stamp, clear_actor, w.stamp, w.actor)",
          "0"),

    # numbers
    Fault("totals rounded to 80 bits",
          CORE + "exact.pxi",
          "core/test_exact.py::test_random_sums",
          "if s.plus or s.minus or high - low > 63 or not",
          "if s.plus or s.minus or not"),
    Fault("halves rounded up",
          CORE + "exact.pxi",
          "core/test_exact.py::test_random_sums",
          "& 1 and (m & 1 or lowest_bit(&size) < bit - 1):",
          "& 1:"),
    Fault("a total wraps at 64 bits",
          CORE + "effects.pxi",
          "commands/test_numbers.py::"
          "test_an_increment_that_the_deleter_had_not_seen_is_left_exactly",
          "        if whole == <int128>out.whole:\n"
          "            return",
          "        if 1:\n"
          "            return"),
    Fault("a cancellation of what is no 64-bit number forgotten",
          CORE + "exact.pxi",
          "core/test_exact.py::test_random_sums",
          "    sum_add_finite(s, less, 1)\n",
          "    if less.more == NULL:\n"
          "        sum_add_finite(s, less, 1)\n"),
    Fault("an infinity is not taken back",
          CORE + "exact.pxi",
          "commands/test_numbers.py::"
          "test_an_increment_of_a_score_that_the_remover_had_not_seen_is_left_exactly",
          "v.more.plus > (less.more.plus if less.more != NULL else 0)",
          "v.more.plus > 0"),
    Fault("an answer holds whatever came since",
          CORE + "shown.pxi",
          "commands/test_numbers.py::test_what_is_answered_is_what_is_read_at_the_limit",
          "            if (t.shown.context == context\n"
          "                and (best",
          "            if ((best"),
    Fault("the context of an answer knows nothing of cancellations",
          CORE + "shown.pxi",
          "core/test_model.py::test_random_schedules",
          "        facts[4] = t.cancelled_seq\n",
          "        facts[4] = 0\n"),
    Fault("what a client was answered is not kept",
          CORE + "effects.pxi",
          "commands/test_numbers.py::test_what_is_answered_is_what_is_read_at_the_limit",
          "    if not shows(&k.actors,",
          "    if 0 and not shows(&k.actors,"),
    Fault("what INCRBYFLOAT took beyond 64 bits stops there",
          CORE + "shown.pxi",
          "simulation",
          "(kind == 2 and not is_real)",
          "kind == 2"),
    Fault("SET KEEPTTL over a hash forgets that there is no deadline",
          CORE + "effects.pxi",
          "commands/test_numbers.py::test_a_set_that_keeps_the_deadline_keeps_that_there_is_none",
          "    if stated != STATED_NOT:\n",
          "    if stated == STATED_DEADLINE and deadline:\n"),

    # what we encode we accept
    Fault("an encoder that its decoder does not follow",
          CORE + "exact.pxi",
          "simulation",
          "        p = put_varint(p + 1, zigzag(s.low))",
          "        p = put_varint(p + 1, <uint64_t>s.low)"),
    Fault("a score that is no number is not refused",
          COMMANDS + "scored.pxd",
          "commands/test_numbers.py::test_infinite_scores",
          "                if isnan(score): ",
          "                if 0: "),
    Fault("an actor that an op names is not declared in the log",
          CORE + "receive.pxi",
          "core/test_soundness.py::"
          "test_an_actor_that_an_op_names_is_declared_in_the_log_and_to_others",
          "        declare_named(k, x)\n",
          ""),
    Fault("an actor that an op names is not declared to others",
          PEERS + "tail.py",
          "replication/test_peers.py::"
          "test_an_actor_without_ops_that_a_hostile_op_names_is_declared_to_others",
          "        return self.actors.keys() - known",
          "        return self.actors.keys() & self.head.keys() - set(known)"),
    Fault("a dep on no op is taken",
          CORE + "codec.pxi",
          "core/test_soundness.py::test_a_dep_on_no_op_is_refused",
          " or f.v >> SEQ_BITS or f.v == 0):",
          " or f.v >> SEQ_BITS):"),
    Fault("totals of kilobytes count for nothing",
          CORE + "sizes.pxi",
          "commands/test_sizes.py::test_totals_that_take_kilobytes_count",
          " + min(counts * EXACT_ROOM, k.db[db].counted.exact)",
          ""),

    # collections
    Fault("member removed without looking at its dot",
          CORE + "apply.pxi",
          "simulation",
          "        if observed(op, e.dot):\n"
          "            live[0] -= 1\n"
          "            table_remove(t, e)",
          "        if 1:\n"
          "            live[0] -= 1\n"
          "            table_remove(t, e)"),
    Fault("removal of a whole collection takes what it did not see",
          CORE + "apply.pxi",
          "simulation",
          "        if m.meta & E_PLAIN and observed(op, m.dot):",
          "        if m.meta & E_PLAIN:"),
    Fault("a large collection is let go at once for others' removals too",
          CORE + "collection.pxi",
          "simulation",
          "(c.written.v != NULL and vector_observed(op, &c.written))",
          "c.written.v != NULL"),
    Fault("a collection that has become large counts only what comes then",
          CORE + "collection.pxi",
          "simulation",
          "        while types[c.type].walk(&w):",
          "        while 0:"),
    Fault("removal of a whole collection forgets cells",
          CORE + "apply.pxi",
          "simulation",
          "            cell_remove_writes(element_cell(m), op)\n"
          "            reencode(k, &c.table",
          "            reencode(k, &c.table"),
    Fault("members of a removed collection not re-encoded",
          CORE + "apply.pxi",
          "simulation",
          "            cell_remove_writes(element_cell(m), op)\n"
          "            reencode(k, &c.table, &c.live, m, live)",
          "            cell_remove_writes(element_cell(m), op)"),
    Fault("key not re-encoded after its member",
          CORE + "apply.pxi",
          "simulation",
          "    reindex(k, c, name, hash)\n"
          "    return reencode(k, &d.table, &d.live, e, was_live)\n",
          "    reindex(k, c, name, hash)\n"
          "    d.live += element_live(e) - was_live\n"
          "    return e\n"),
    Fault("removal of one type removes all",
          CORE + "apply.pxi",
          "simulation",
          "        if x.kind == DELETE or (x.kind == CLEAR and x.type == c.type):",
          "        if x.kind == DELETE or x.kind == CLEAR:"),
    Fault("increments do not move a score in the order",
          CORE + "collection.pxi",
          "simulation",
          "    return score_sort_key(member_score(k, m))",
          "    return score_sort_key(0 if m.meta & E_CELL else member_score(k, m))"),
    Fault("counter entries of a member not listed by what removes it",
          CORE + "effects.pxi",
          "simulation",
          "    if x.kind != INCREMENT and m != NULL and m.meta & E_CELL:",
          "    if 0:"),
    Fault("counter entries of members not listed by what removes the key",
          CORE + "op.pxi",
          "simulation",
          "        if c.cells and (only == T_NONE or only == c.type):",
          "        if 0:"),
    Fault("flush does not take members' counter entries back",
          CORE + "apply.pxi",
          "simulation",
          "    if m == NULL or not m.meta & E_CELL:\n"
          "        return\n"
          "    was_live",
          "    if m == NULL or c != NULL or not m.meta & E_CELL:\n"
          "        return\n"
          "    was_live"),
    Fault("hidden types outlive a write that saw them",
          CORE + "effects.pxi",
          "commands/test_keys.py::"
          "test_a_write_removes_the_types_under_its_key_that_are_hidden",
          "        if (other == T_STRING and value_live(e)) or (c != NULL and c.live):",
          "        if 0:"),
    Fault("a hidden set takes its word on the deadline along",
          CORE + "effects.pxi",
          "core/test_collections.py core/test_flush.py",
          "prepare(k, db, key, e, type != T_STRING and e != NULL and value_live(e))",
          "prepare(k, db, key, e, 0)"),

    # clients that wait for keys
    Fault("who waits does not hear of a flush",
          CORE + "watch.pxi",
          "commands/test_blocking.py",
          "key_find(k, db, watch_key(w)) != NULL:\n"
          "                note_watch(k, w)",
          "key_find(k, db, watch_key(w)) != NULL:\n"
          "                w.version += 1"),
    Fault("who came last is served first",
          ENGINE + "serving.pxi",
          "commands/test_blocking.py",
          "    x = (<WaitQueue*>watch.waiters + type).first\n",
          "    x = (<WaitQueue*>watch.waiters + type).last\n"),
    Fault("who waits is refused for keys of another type",
          COMMANDS + "members.pxd",
          "commands/test_blocking.py",
          "        if c.client.wait == NULL:\n"
          "            found",
          "        if 1:\n"
          "            found"),
    Fault("what is served makes nothing ready",
          ENGINE + "serving.pxi",
          "commands/test_blocking.py",
          "    while may_serve(d) and not iteration_is_full(d):\n"
          "        watch = watch_take_ready",
          "    if may_serve(d) and not iteration_is_full(d):\n"
          "        watch = watch_take_ready"),

    # lists
    Fault("a run continued by another actor",
          CORE + "position.pxi",
          "core/test_lists.py core/test_positions.py simulation/test_inserts.py",
          "    return (dot_slot(of.run) == dot_slot(own) or d >= OWN_LEVELS) and of.major",
          "    return of.major"),
    Fault("a place in a run given out twice",
          CORE + "position.pxi",
          "core/test_lists.py core/test_positions.py simulation/test_inserts.py",
          "    at.step.own = own\n"
          "    at.step.own_index = index\n",
          "    if at.step.own == 0:\n"
          "        at.step.own = own\n"
          "        at.step.own_index = index\n"),
    Fault("elements of one place in a run not told apart in the order",
          CORE + "position.pxi",
          "core/test_lists.py core/test_positions.py simulation/test_inserts.py",
          "    return r if r else compare_dots(a, x.own, x.own_index, y.own, y.own_index)",
          "    return r"),
    Fault("runs in the order in which a replica met their actors",
          CORE + "position.pxi",
          "core/test_lists.py core/test_positions.py simulation/test_inserts.py",
          "compare_int64(a.v[dot_slot(x)].rank, a.v[dot_slot(y)].rank)",
          "compare_int64(dot_slot(x), dot_slot(y))"),
    Fault("an insert left of what hangs below its neighbour stands behind it",
          CORE + "position.pxi",
          "core/test_lists.py core/test_positions.py simulation/test_inserts.py",
          "    s.major = from_.major + (by if direction > 0 else -by)\n",
          "    s.major = from_.major + by\n"),
    Fault("an insert right of what hangs below its neighbour stands before it",
          CORE + "position.pxi",
          "core/test_lists.py core/test_positions.py simulation/test_inserts.py",
          "    s.major = from_.major + (by if direction > 0 else -by)\n",
          "    s.major = from_.major - by\n"),
    Fault("room between two of a run is halved whatever the pattern",
          CORE + "position.pxi",
          "core/test_lists.py core/test_positions.py simulation/test_inserts.py",
          "    way = <uint64_t>(<double>room / (<double>room / <double>way + 2))\n",
          "    way = room // 2\n"),
    Fault("inserts from both sides in turn are taken for some from one",
          CORE + "position.pxi",
          "core/test_lists.py core/test_positions.py simulation/test_inserts.py",
          "    from_left[0] = (later == p) != (turns > 0)\n",
          "    from_left[0] = later == p\n"),
    Fault("others' inserts are not counted among the latest",
          CORE + "list.pxi",
          "core/test_lists.py core/test_positions.py simulation/test_inserts.py",
          "        if not found:\n"
          "            list_recent(c)[1]",
          "        if not found and op.local:\n"
          "            list_recent(c)[1]"),
    Fault("no actor ever goes on in another's run",
          CORE + "position.pxi",
          "core/test_lists.py core/test_positions.py simulation/test_inserts.py",
          "    return (dot_slot(of.run) == dot_slot(own) or d >= OWN_LEVELS) and of.major",
          "    return dot_slot(of.run) == dot_slot(own) and of.major"),
    Fault("in another's run two who insert at once take the same place",
          CORE + "position.pxi",
          "core/test_lists.py core/test_positions.py simulation/test_inserts.py",
          "    return way - (x ^ x >> 32) % (way // 2 + 1)\n",
          "    return way\n"),
    Fault("a position is made that receivers refuse",
          CORE + "position.pxi",
          "core/test_lists.py core/test_positions.py simulation/test_inserts.py",
          "    for d in range(MAX_STEPS):\n",
          "    for d in range(MAX_STEPS + 1):\n"),
    Fault("an insert that is refused leaves an op behind",
          CORE + "effects.pxi",
          "core/test_lists.py core/test_positions.py simulation/test_inserts.py",
          "    if not list_place(k, c, index):\n",
          "    begin_effect(k, &x, ASSIGN, db, key)\n"
          "    if not list_place(k, c, index):\n"),
    Fault("nothing stands before a position that a peer made",
          CORE + "position.pxi",
          "core/test_lists.py core/test_positions.py simulation/test_inserts.py",
          "    return known if depth and s.major > INT64_MIN else -1\n",
          "    return known if depth else -1\n"),
    Fault("majors wrap",
          CORE + "position.pxi",
          "core/test_lists.py core/test_positions.py simulation/test_inserts.py",
          "    if room == 0 or from_.major == INT64_MIN:\n"
          "        return 0\n",
          ""),
    Fault("a made-up position shows what came first",
          CORE + "list.pxi",
          "core/test_lists.py core/test_positions.py simulation/test_inserts.py",
          "op.stamp if own != dot else 0",
          "op.stamp"),
    Fault("an element moved to a list without room is lost",
          COMMANDS + "lists.pyx",
          "core/test_lists.py core/test_positions.py simulation/test_inserts.py",
          "    if push(c, c.argv[2], to, &value, 1, to_tail):\n",
          "    if push(c, c.argv[2], to, &value, 1, to_tail) or 1:\n"),
    Fault("a value for an element that has gone is dropped",
          CORE + "list.pxi",
          "core/test_lists.py core/test_positions.py simulation/test_inserts.py",
          "    if not found:\n"
          "        single = block_new(",
          "    if not found:\n"
          "        if own != dot:\n"
          "            return\n"
          "        single = block_new("),
    Fault("a list removed whole loses blocks of which only a part was seen",
          CORE + "list.pxi",
          "core/test_lists.py core/test_positions.py simulation/test_inserts.py",
          "    elif not observed(op, b.last.own):",
          "    elif 0:"),
    Fault("an element assigned to keeps the value it was inserted with",
          CORE + "list.pxi",
          "core/test_lists.py core/test_positions.py simulation/test_inserts.py",
          "    cell_remove_writes(&single.cell, op)\n"
          "    # An insert",
          "    # An insert"),
    Fault("what is left of two gaps in a block counts one",
          CORE + "block.pxi",
          "core/test_lists.py core/test_positions.py simulation/test_inserts.py",
          "    g.seqs += h.seqs\n",
          "    g.seqs = h.seqs\n"),

    # replication
    Fault("acknowledged what still waits for others",
          PEERS + "tail.py",
          "replication/test_links.py::test_nothing_is_claimed_that_is_not_logged",
          "            if not clocks.observed(self.head, last):\n",
          "            for a, s in last.items():\n"
          "                if s > self.head.get(a, 0):\n"
          "                    self.log.head.advance(a, s)\n"
          "            if not clocks.observed(self.head, last):\n"),
    Fault("claimed what the failed log lacks",
          PEERS + "tail.py",
          "replication/test_links.py::test_what_the_failed_log_lacks_is_not_claimed",
          "                if not view.logged:",
          "                if 0:"),
    Fault("a pull's clock taken for what is logged",
          PEERS + "sessions.py",
          "replication/test_links.py::test_a_pull_of_ops_says_nothing_about_what_is_logged",
          "        if not request.limit:\n"
          "            self._record(session, clock)\n",
          "        self._record(session, clock)\n"
          "        if not request.limit:\n"),
    Fault("what one process has put down to another of its replica",
          PEERS + "registry.py",
          "replication/test_links.py::"
          "test_what_a_process_has_is_not_put_down_to_another_of_the_same_replica",
          "            if p.replica == replica and p.process == process:",
          "            if p.replica == replica:"),
    Fault("a replica with two addresses counted twice",
          PEERS + "registry.py",
          "replication/test_links.py::"
          "test_one_replica_under_two_addresses_has_one_conversation_and_counts_once",
          "                newest[p.replica] = p\n",
          "                newest[p.url] = p\n"),
    Fault("what a former process had put down to the present one",
          PEERS + "registry.py",
          "replication/test_links.py::"
          "test_what_a_process_had_and_the_next_lost_is_not_acknowledged",
          "if p.is_replica and p.process == n.process)",
          "if p.is_replica and p.replica == n.replica)"),
    Fault("a sync that gives up with the session of a former process",
          PEERS + "peer.py",
          "replication/test_links.py::"
          "test_what_fails_in_a_session_that_has_ended_is_tried_in_a_new_one",
          "                if conversation and self._session == session:",
          "                if 0:"),
    Fault("two addresses of one replica that end each other's conversation",
          PEERS + "peer.py",
          "replication/test_links.py::"
          "test_one_replica_under_two_addresses_has_one_conversation_and_counts_once",
          "        if other := next((p for p in self._registry.peers "
          "if self._is_served_by(p)), None):",
          "        if other := None:"),
    Fault("an address that stands by for ever",
          PEERS + "peer.py",
          "replication/test_links.py::"
          "test_one_replica_under_two_addresses_has_one_conversation_and_counts_once",
          "        while self._is_served_by(other):",
          "        while True:"),
    Fault("a peer that stands still shown as up",
          PEERS + "peer.py",
          "replication/test_peers.py::test_a_peer_that_has_stopped_replying_is_shown_so",
          "        return (time.monotonic() - self._contact > MUTE\n",
          "        return (False\n"),
    Fault("a peer that says nothing holds a sync up",
          PEERS + "service.py",
          "replication/test_service.py::"
          "test_who_says_nothing_is_unreachable_long_before_a_sync_has_to_end",
          "                        task.cancel()\n"
          "                        asked.discard(p)\n",
          "                        pass\n"),
    Fault("the sides of two clusters exchanged",
          PEERS + "plan.py",
          "replication/test_plan.py::test_a_refusal_is_read_on_both_sides_and_names_them",
          "cluster_name is {hello.cluster!r} at {hello.replica} and {cluster!r} at",
          "cluster_name is {cluster!r} at {hello.replica} and {hello.cluster!r} at"),
    Fault("a Redis port taken for a broken replica",
          PEERS + "faults.py",
          "replication/test_faults.py::test_who_is_there_instead_is_named",
          '    if data[:1] in (b"+", b"-"):\n'
          '        return "redis"\n',
          ""),
    Fault("an actor claimed without an op not declared",
          PEERS + "sessions.py",
          "replication/test_peers.py::"
          "test_an_actor_without_ops_that_a_hostile_op_names_is_declared_to_others",
          "            known = {a for a, seq in clock.items() if seq}\n",
          "            known = set(clock)\n"
          "            known.update(request.actors)\n"),
    Fault("ops sent that the asker does not want",
          PEERS + "sessions.py",
          "replication/test_links.py::test_a_pull_brings_ops_of_the_wanted_actors_only",
          "                clock = clocks.leaving_out(clock, self._tail.head, "
          "set(request.actors))\n",
          "                pass\n"),
    Fault("a refused process let in while the other lives",
          PEERS + "sessions.py",
          "replication/test_peers.py::test_two_processes_with_one_replica_id_are_refused_clearly",
          "if (hello.process in self._retired and session\n",
          "if (0 and session\n"),
    Fault("a refused process never let in again",
          PEERS + "sessions.py",
          "replication/test_links.py::test_a_refused_process_comes_back_when_the_other_has_gone",
          " and session\n"
          "            and time.monotonic() - session.last_request < "
          "self.runtime.settings.silence):",
          "):"),
    Fault("segments that hold nothing read for ever",
          PEERS + "tail.py",
          "replication/test_links.py::test_a_reader_whom_the_segments_cannot_serve_does_not_spin",
          "            looks += not cursor.reading\n",
          ""),
    Fault("a link counted as up at the handshake although its ops are refused",
          PEERS + "peer.py",
          "replication/test_links.py::test_a_link_whose_ops_are_refused_says_so_all_the_time",
          "        if self._refused_ops:\n"
          "            self._state, self.error =",
          "        if 0:\n"
          "            self._state, self.error ="),
    Fault("the clock of a peer's former life kept",
          PEERS + "peer.py",
          "replication/test_peers.py::test_what_a_peer_acknowledged_and_lost_is_sent_again",
          "        self.process, self.acked = hello.process, to_clock(hello.clock)\n",
          "        self.process = hello.process\n"
          "        clocks.join(self.acked, to_clock(hello.clock))\n"),
    Fault("a reply to a push before those that came earlier",
          PEERS + "stream.py",
          "replication/test_stream.py::test_replies_come_in_order_and_few",
          "        while self._pending and self._pending[0][1]:",
          "        while self._pending:"),
    Fault("pushes on a stream taken without end",
          PEERS + "stream.py",
          "replication/test_stream.py::test_a_receiver_whose_engine_is_slow_stops_reading",
          "            self.link.transport.pause_reading()",
          "            pass"),
    Fault("a stream in anybody's name",
          HTTP + "replication.py",
          "replication/test_stream.py::"
          "test_a_stream_wants_a_session_and_a_second_one_replaces_the_first",
          'int(key, 16) if re.fullmatch("[0-9a-f]{1,16}", key) else 0)',
          'self.sessions.by_replica[request.headers["X-Replica"]].key)'),
    Fault("an actor counted as declared when it was sent",
          PEERS + "peer.py",
          "replication/test_stream.py::test_a_full_receiver_is_tried_again_with_fewer_at_a_time",
          "        self._sender.push(chunk, batch, told)",
          "        self._declared |= told\n"
          "        self._sender.push(chunk, batch, told)"),
    Fault("sent on a stream although paused",
          PEERS + "peer.py",
          "replication/test_peers.py::"
          "test_nothing_leaves_on_a_stream_from_the_moment_of_a_pause",
          "        if self.is_paused:\n"
          "            return\n"
          "        batch, told",
          "        batch, told"),
    Fault("a stream that stands still kept",
          PEERS + "stream.py",
          "replication/test_stream.py::test_a_stream_that_stands_still_is_given_up",
          "        if self.unreplied and time.monotonic()",
          "        if 0 and time.monotonic()"),
    Fault("a relay left out",
          PEERS + "peer.py",
          "replication/test_peers.py::test_what_a_third_replica_missed_is_handed_on",
          "            if stuck and not self._it_lacks:",
          "            if 0 and not self._it_lacks:"),
    Fault("a part of an op taken wherever it belongs",
          PEERS + "flow.py",
          "replication/test_bodies.py::"
          "test_parts_hold_what_has_come_and_nothing_that_was_only_announced",
          "            if part.at == self.have:\n",
          "            if 1:\n"),
    Fault("a large op begun anew with each connection",
          PEERS + "sessions.py",
          "replication/test_bodies.py::"
          "test_after_a_broken_connection_a_large_op_goes_on_where_it_stopped",
          "before.traffic if before else Traffic(",
          "Traffic("),
    Fault("a large op thrown away when it cannot be taken now",
          PEERS + "sessions.py",
          "replication/test_bodies.py::"
          "test_a_refused_large_op_stays_whole_at_the_receiver_until_it_can_be_taken",
          "                if e.code == proto.MALFORMED:\n"
          "                    parts.clear()",
          "                parts.clear()"),
    Fault("a time limit in total",
          PEERS + "flow.py",
          "replication/test_bodies.py::test_each_step_that_moves_renews_the_time_limit",
          "            self._limit.reschedule(",
          "            (lambda at: None)("),
    Fault("one budget for all peers",
          PEERS + "sessions.py",
          "replication/test_bodies.py::test_a_peer_that_uploads_slowly_keeps_nobody_else_waiting",
          "        return found.traffic if found else self.unidentified_traffic",
          "        return self.unidentified_traffic"),
    Fault("a body read to its end",
          PEERS + "flow.py",
          "replication/test_bodies.py::test_a_reply_without_end_is_not_read_to_its_end",
          "            if size > most:\n"
          "                break\n",
          ""),
    Fault("what a reply holds written without a look at who reads",
          HTTP + "replication.py",
          "replication/test_bodies.py::test_replies_that_nobody_reads_are_few_and_given_up",
          "                await replies.acquire()",
          "                pass"),
    Fault("the token sent to anybody",
          PEERS + "peer.py",
          "replication/test_bodies.py::"
          "test_the_token_crosses_no_network_unencrypted_unless_that_is_allowed",
          "        if reason := plan.exposed(self.url, self._runtime.settings):",
          "        if reason := '':"),
    Fault("a loop iteration handed out uncut",
          PEERS + "oplog.py",
          "replication/test_oplog.py::"
          "test_an_iteration_larger_than_a_request_is_handed_out_in_requests",
          "        for part in split_batch(batch, self.most_entry):",
          "        for part in [batch]:"),
    Fault("a fallen back reader begins at the handshake",
          PEERS + "oplog.py",
          "replication/test_oplog.py::test_a_reader_that_falls_back_goes_on_near_where_it_was",
          "                found = self.segments.find({**unwanted, **cursor.clock})",
          "                found = self.segments.find(cursor.clock)"),
    Fault("a reader's position forgotten",
          PEERS + "oplog.py",
          "replication/test_oplog.py::"
          "test_a_pause_between_two_readings_costs_nothing_although_segments_begin_far_back",
          "                cursor.position = max(found, cursor.position) if cursor.position "
          "else found",
          "                cursor.position = found"),
    Fault("each reader its own copy of a large op",
          PEERS + "oplog.py",
          "replication/test_oplog.py::"
          "test_readers_share_the_bytes_of_a_large_op_wherever_each_got_them",
          "        if found is None:\n"
          "            found =",
          "        if 1:\n"
          "            found ="),
    Fault("a cursor moved past what did not fit",
          PEERS + "oplog.py",
          "replication/test_oplog.py::test_a_reader_gets_each_op_once_wherever_it_lies",
          "                if size and size + len(e.batch) > limit:\n"
          "                    break\n",
          "                if size and size + len(e.batch) > limit:\n"
          "                    cursor.at += 1\n"
          "                    break\n"),
    Fault("a cursor's clock moved by what it does not want",
          PEERS + "oplog.py",
          "replication/test_oplog.py::test_a_reader_of_some_actors_gets_no_others",
          "                for a, (first, last) in wanted.items():\n"
          "                    ops +=",
          "                for a, (first, last) in e.ranges.items():\n"
          "                    ops +="),
    Fault("what is fetched asked for while it is on its way",
          "crdtredis/clocks.py",
          "test_clocks.py::test_only_what_stands_still_is_overdue",
          "    return {a: s for a, s in lacking(have, there).items() if have.get(a, 0) == "
          "before.get(a, 0)}",
          "    return lacking(have, there)"),
    Fault("hostile: sessions of made-up replicas kept for ever",
          PEERS + "sessions.py",
          "replication/test_hostile.py::"
          "test_sessions_of_made_up_replicas_are_few_and_a_peer_keeps_its_own",
          "        if len(self.by_replica) > SESSIONS:\n",
          "        if 0:\n"),
    Fault("hostile: a listed peer loses its session to made-up ones",
          PEERS + "sessions.py",
          "replication/test_hostile.py::"
          "test_sessions_of_made_up_replicas_are_few_and_a_peer_keeps_its_own",
          "if s.replica not in listed)",
          "if s.replica != newest.replica)"),
    Fault("hostile: who does not read the replies is read from",
          PEERS + "stream.py",
          "replication/test_hostile.py::test_who_does_not_read_the_replies_is_not_read_from",
          "self.session.traffic.inbound.most or self.link.is_full:",
          "self.session.traffic.inbound.most:"),
    Fault("hostile: a stream without a word kept",
          PEERS + "stream.py",
          "replication/test_hostile.py::test_a_stream_on_which_nothing_is_said_ends",
          "        if rest <= 0 and not self._pending:\n",
          "        if 0:\n"),
    Fault("hostile: made-up actors of a peer's clock kept",
          PEERS + "peer.py",
          "replication/test_hostile.py::test_clocks_of_made_up_actors_are_passed_over",
          "        if len(self.acked) > ACTORS_MOST:\n",
          "        if 0:\n"),
    Fault("hostile: a newer peer's code ends the attempts",
          PEERS + "wire.py",
          "replication/test_hostile.py::"
          "test_a_peer_with_an_unknown_code_and_much_text_is_shown_and_tried_again",
          "        known = proto.Code.DESCRIPTOR.values_by_number.get(self.code)\n",
          "        known = proto.Code.DESCRIPTOR.values_by_number[self.code]\n"),
    Fault("hostile: a peer's text goes into messages as it is",
          PEERS + "wire.py",
          "replication/test_hostile.py::"
          "test_a_peer_with_an_unknown_code_and_much_text_is_shown_and_tried_again",
          'c if c.isprintable() else " " for c in text[:TEXT_MOST]',
          "c for c in text"),
    Fault("who waits no longer kept",
          PEERS + "waiters.py",
          "replication/test_waiters.py::test_against_a_model",
          "        waiter.done = None\n"
          "        self._gone += 1\n",
          "        return\n"
          "        self._gone += 1\n"),
    Fault("a client that has gone kept waiting for peers",
          COMMANDS + "server.py",
          "replication/test_service.py::test_who_waits_for_replicas_and_leaves_is_forgotten",
          "        token.ended = sync.when_acknowledged(",
          "        sync.when_acknowledged("),
    Fault("log: a torn tail kept",
          STORAGE + "recovery.py",
          "storage/test_recovery.py::"
          "test_a_torn_tail_is_cut_back_to_the_last_whole_record_and_reported",
          "                        os.ftruncate(fd, at)\n",
          ""),
    Fault("log: a segment header's clock one too high",
          STORAGE + "segments.py",
          "storage/test_power_loss.py::"
          "test_what_comes_back_is_a_prefix_that_holds_all_that_was_synced",
          "now if clock is None else clock, follows,",
          "{a: s + 1 for a, s in now.items()} if clock is None else clock, follows,"),
    Fault("log: a new epoch used before it is durable",
          STORAGE + "identity.py",
          "storage/test_identity.py",
          "        os.fsync(fd)\n",
          ""),
    Fault("acknowledged before it is logged",
          PEERS + "tail.py",
          "replication/test_links.py::test_what_the_failed_log_lacks_is_not_claimed",
          "        self._engine.receive(self._tokens, batch)\n",
          "        self._engine.receive(self._tokens, batch)\n"
          "        done(last, None)\n"),
    Fault("log: always without fdatasync",
          CORE + "segment_writer.pxi",
          "storage",
          "        if self.policy == LOG_ALWAYS and not more:\n",
          "        if 0:\n"),
    Fault("log: a failure forgotten with the next segment",
          CORE + "segment_writer.pxi",
          "storage",
          "        if self.state == LOG_FAILED and not healed:\n",
          "        if 0:\n"),
    Fault("log: what is in doubt synced again",
          STORAGE + "segments.py",
          "storage/test_segments.py::"
          "test_what_was_in_doubt_stays_so_however_often_the_kernel_is_asked_again",
          "            if self._doubt is not None:\n"
          "                return ",
          "            if 0:\n"
          "                return "),
    Fault("log: former segments never synced",
          STORAGE + "segments.py",
          "storage/test_segments.py::"
          "test_the_thread_makes_former_segments_and_the_open_one_durable_and_closes_the_former",
          "                if f.durable < f.end:\n",
          "                if 0:\n"),
    Fault("log: names never synced",
          STORAGE + "segments.py",
          "storage/test_segments.py::"
          "test_the_thread_makes_former_segments_and_the_open_one_durable_and_closes_the_former",
          "        if number > self._named:\n",
          "        if 0:\n"),
    Fault("log: a start does not sync what a killed process left",
          STORAGE + "segments.py",
          "storage/test_segments.py::"
          "test_room_that_a_killed_process_or_a_failed_segment_has_set_aside_is_given_back",
          "        self._loose = unsynced\n",
          "        self._loose = None\n"),
    Fault("log: a header silent about what is not synced",
          STORAGE + "segments.py",
          "storage/test_segments.py::"
          "test_room_that_a_killed_process_or_a_failed_segment_has_set_aside_is_given_back",
          "        unsynced = self._unsynced(number, end, durable)\n"
          "        try:\n",
          "        unsynced = None\n"
          "        try:\n"),
    Fault("log: no mark",
          STORAGE + "segments.py",
          "storage/test_reader.py::"
          "test_ops_that_a_repaired_log_holds_but_could_not_apply_are_not_behind_a_later_beginning",
          "        return self.writer.add(MARK)\n",
          "        return False\n"),
    Fault("log: a mark too early",
          STORAGE + "segments.py",
          "storage/test_power_loss.py::"
          "test_what_comes_back_is_a_prefix_that_holds_all_that_was_synced",
          "        if not self._unmarked or self._closed or self._loose is not None:\n",
          "        if not self._unmarked:\n"),
    Fault("log: the ceiling without what waits",
          STORAGE + "segments.py",
          "storage/test_reader.py::"
          "test_ops_that_a_repaired_log_holds_but_could_not_apply_are_not_behind_a_later_beginning",
          "ceiling={**now, **self._unapplied}",
          "ceiling=now"),
    Fault("log: written before the epoch is stored",
          STORAGE + "segments.py",
          "storage/test_segments.py::test_nothing_is_written_before_the_epoch_is_claimed",
          "        if claim is not None:\n"
          "            self._try_claim()\n"
          "        elif",
          "        if"),
    Fault("log: a removed segment goes unnoticed",
          STORAGE + "segments.py",
          "storage/test_segments.py::test_an_open_segment_that_lost_its_name_is_written_again",
          "        if self._is_gone():\n",
          "        if 0:\n"),
    Fault("log: a reader begins by the lower bound",
          STORAGE + "reader.py",
          "storage/test_reader.py::"
          "test_ops_that_a_repaired_log_holds_but_could_not_apply_are_not_behind_a_later_beginning",
          "observed(clock, header.ceiling)\n",
          "observed(clock, header.clock)\n"),
    Fault("log: a reader trusts the headers of older versions",
          STORAGE + "reader.py",
          "storage/test_reader.py::test_nor_is_one_that_an_older_version_began_so",
          " and header.clock != before.clock:\n",
          ":\n"),
    Fault("log: headers read again for every segment",
          STORAGE + "reader.py",
          "storage/test_reader.py::test_headers_are_read_once_not_once_for_every_segment",
          "links = read_chain(self._folder, newest, None, links)",
          "links = read_chain(self._folder, newest, None, [])"),
    Fault("log: marks not heeded",
          STORAGE + "recovery.py",
          "storage/test_reader.py::"
          "test_ops_that_a_repaired_log_holds_but_could_not_apply_are_not_behind_a_later_beginning",
          "            if holds_mark(fd, read_header(fd).size):\n",
          "            if 0:\n"),
    Fault("log: a torn end where all was synced",
          STORAGE + "recovery.py",
          "storage/test_power_loss.py::"
          "test_what_was_on_disk_before_the_newest_segment_was_begun_is_damaged_when_it_is_lost",
          "    if unsynced is None or unsynced > position:\n",
          "    if unsynced is None:\n"),
    Fault("log: segments behind a torn end left there",
          STORAGE + "recovery.py",
          "storage/test_power_loss.py::"
          "test_what_comes_back_is_a_prefix_that_holds_all_that_was_synced",
          '            truncation.path.rename(free_name(truncation.path, "torn"))\n',
          "            pass\n"),
    Fault("log: segments behind a torn end removed from the oldest on",
          STORAGE + "recovery.py",
          "storage/test_recovery.py::"
          "test_segments_behind_a_torn_end_are_set_aside_the_newest_first",
          "            for n in range(newest, number, -1) if",
          "            for n in range(number + 1, newest + 1) if"),
    Fault("log: check cuts a torn end",
          STORAGE + "recovery.py",
          "storage/test_check.py::test_a_torn_tail_is_no_damage",
          "                    if change:\n",
          "                    if 1:\n"),
    Fault("log: a short read is the end",
          STORAGE + "format.py",
          "storage/test_recovery.py::"
          "test_a_read_that_gives_less_than_was_asked_for_is_not_the_end_of_the_file",
          "        size -= len(piece)\n",
          "        size = 0\n"),
    Fault("log: zeros in a header are damage",
          STORAGE + "format.py",
          "storage/test_power_loss.py::"
          "test_what_comes_back_is_a_prefix_that_holds_all_that_was_synced",
          " or data[-1] == 0:\n",
          ":\n"),
    Fault("log: only the file LOCK is locked",
          STORAGE + "lock.py",
          "storage/test_identity.py::test_whoever_removes_the_file_lock_admits_nobody",
          "            directory = self._lock(folder, os.O_RDONLY | os.O_DIRECTORY)\n",
          "            directory = False\n"),
    Fault("log: a repaired header keeps a lost ceiling",
          STORAGE + "check.py",
          "storage/test_reader.py::test_nor_is_one_whose_header_a_repair_rebuilt",
          "ceiling=after.header.ceiling if after and after.header else None)",
          "ceiling={})"),
    Fault("log: an actor declared again at each start",
          CORE + "receive.pxi",
          "storage",
          "    k.actors.v[slot].logged |= k.inbox.recovering\n",
          ""),
    Fault("log: an actor never declared",
          CORE + "outbox.pxi",
          "storage",
          "        encode_actor(&k.outbox.declarations, &k.actors.v[slot])\n",
          ""),

    # ops that come early, clocks that are wrong, tombstones, and who removes what has expired
    Fault("early: a full causal buffer drops the op and says that it waits",
          CORE + "receive.pxi",
          "core/test_pending.py core/test_tombstones.py core/test_reaping.py core/test_codec.py "
          "engine/test_dispatch.py engine/test_loop.py",
          "        return RECEIVED_FULL\n",
          "        return RECEIVED_ALL\n"),
    Fault("early: the causal buffer has no bound",
          CORE + "pending.pxi",
          "core/test_pending.py core/test_tombstones.py core/test_reaping.py core/test_codec.py "
          "engine/test_dispatch.py engine/test_loop.py",
          "    return not k.inbox.recovering and (k.pending.bytes",
          "    return 0 and (k.pending.bytes"),
    Fault("early: a repaired log finds no room",
          CORE + "pending.pxi",
          "core/test_pending.py core/test_tombstones.py core/test_reaping.py core/test_codec.py "
          "engine/test_dispatch.py engine/test_loop.py",
          "    return not k.inbox.recovering and (k.pending.bytes",
          "    return (k.pending.bytes"),
    Fault("early: one actor may fill the causal buffer",
          CORE + "pending.pxi",
          "core/test_pending.py core/test_tombstones.py core/test_reaping.py core/test_codec.py "
          "engine/test_dispatch.py engine/test_loop.py",
          "> k.pending.limit // PENDING_SHARE)",
          "> k.pending.limit)"),
    Fault("early: what has left the causal buffer still counts",
          CORE + "pending.pxi",
          "core/test_pending.py core/test_tombstones.py core/test_reaping.py core/test_codec.py "
          "engine/test_dispatch.py engine/test_loop.py",
          "    k.pending.bytes -= pending_size(m.vlen)\n",
          ""),
    Fault("early: what follows the ops of an actor without room is not looked at",
          CORE + "receive.pxi",
          "core/test_pending.py core/test_tombstones.py core/test_reaping.py core/test_codec.py "
          "engine/test_dispatch.py engine/test_loop.py",
          "        if r == RECEIVED_FULL:\n"
          "            result = r\n"
          "        elif r != RECEIVED_ALL:\n"
          "            result = r\n"
          "            break\n",
          "        if r != RECEIVED_ALL:\n"
          "            result = r\n"
          "            break\n"),
    Fault("early: an op that waits is taken in twice",
          CORE + "receive.pxi",
          "core/test_pending.py core/test_tombstones.py core/test_reaping.py core/test_codec.py "
          "engine/test_dispatch.py engine/test_loop.py",
          "    if pending_find(k, slot, h.seq) != NULL:\n"
          "        return RECEIVED_ALL\n",
          ""),
    Fault("early: who waits for another's op is not woken",
          CORE + "pending.pxi",
          "core/test_pending.py core/test_tombstones.py core/test_reaping.py core/test_codec.py "
          "engine/test_dispatch.py engine/test_loop.py",
          "        look_at(k, first - 1)\n"
          "    if b.n",
          "    if b.n"),
    Fault("early: a loop iteration applies all that is free",
          CORE + "receive.pxi",
          "core/test_pending.py core/test_tombstones.py core/test_reaping.py core/test_codec.py "
          "engine/test_dispatch.py engine/test_loop.py",
          "            most -= min(most, pending_size(m.vlen))\n",
          ""),
    Fault("early: an op from the future is not held",
          CORE + "pending.pxi",
          "core/test_pending.py core/test_tombstones.py core/test_reaping.py core/test_codec.py "
          "engine/test_dispatch.py engine/test_loop.py",
          "        until[0] = h.stamp >> 16\n"
          "        return BLOCKED_BY_TIME\n",
          "        return BLOCKED_NOT\n"),
    Fault("early: accepted stamps are held all the same",
          CORE + "pending.pxi",
          "core/test_pending.py core/test_tombstones.py core/test_reaping.py core/test_codec.py "
          "engine/test_dispatch.py engine/test_loop.py",
          "    return max(k.now, k.inbox.accepted) + k.inbox.max_skew",
          "    return k.now + k.inbox.max_skew"),
    Fault("early: writes go on while the timestamps run ahead",
          ENGINE + "execute.pxi",
          "core/test_pending.py core/test_tombstones.py core/test_reaping.py core/test_codec.py "
          "engine/test_dispatch.py engine/test_loop.py",
          "    if d.guard & GUARD_CLOCK and effective & C_WRITE:",
          "    if 0:"),
    Fault("early: expired keys are removed while the timestamps run ahead",
          CORE + "effects.pxi",
          "core/test_pending.py core/test_tombstones.py core/test_reaping.py core/test_codec.py "
          "engine/test_dispatch.py engine/test_loop.py",
          "    if stamps_run_ahead(k):\n",
          "    if 0:\n"),
    Fault("early: no grace before reaping",
          CORE + "deadline.pxi",
          "core/test_pending.py core/test_tombstones.py core/test_reaping.py core/test_codec.py "
          "engine/test_dispatch.py engine/test_loop.py",
          "        at += k.deadlines.grace\n",
          "        pass\n"),
    Fault("early: a tombstone of this replica's earlier process let go at once",
          CORE + "tombstones.pxi",
          "core/test_pending.py core/test_tombstones.py core/test_reaping.py core/test_codec.py "
          "engine/test_dispatch.py engine/test_loop.py",
          "    return t.actor == k.me or (",
          "    return a.v[t.actor].replica_slot == a.v[k.me].replica_slot or ("),
    Fault("early: members with tombstones not counted",
          CORE + "collection.pxi",
          "core/test_pending.py core/test_tombstones.py core/test_reaping.py core/test_codec.py "
          "engine/test_dispatch.py engine/test_loop.py",
          "        c.tombstones += has_tombstone(element_cell(m))\n",
          ""),
    Fault("early: a collection is looked through for tombstones in one go",
          CORE + "tombstones.pxi",
          "core/test_pending.py core/test_tombstones.py core/test_reaping.py core/test_codec.py "
          "engine/test_dispatch.py engine/test_loop.py",
          "        if most[0] <= 0:\n"
          "            return\n",
          ""),
    Fault("early: the first live one among tombstones is chosen",
          CORE + "keyspace.pxi",
          "core/test_pending.py core/test_tombstones.py core/test_reaping.py core/test_codec.py "
          "engine/test_dispatch.py engine/test_loop.py",
          "            if random_takes(k, n):\n"
          "                found = e\n"
          "            if k.scratch.few.n",
          "            if n == 1:\n"
          "                found = e\n"
          "            if k.scratch.few.n"),
    Fault("early: the first of those that are known to live among tombstones is chosen",
          CORE + "keyspace.pxi",
          "core/test_pending.py core/test_tombstones.py core/test_reaping.py core/test_codec.py "
          "engine/test_dispatch.py engine/test_loop.py",
          "            if random_takes(k, n):\n"
          "                found = e\n"
          "    if n == live:",
          "            if n == 1:\n"
          "                found = e\n"
          "    if n == live:"),
    Fault("early: those once found among tombstones are chosen from although there are others",
          CORE + "keyspace.pxi",
          "core/test_pending.py core/test_tombstones.py core/test_reaping.py core/test_codec.py "
          "engine/test_dispatch.py engine/test_loop.py",
          "    if n == live:\n",
          "    if n:\n"),
    Fault("early: a key that was looked at counts until the reaper's next round",
          ENGINE + "loop.pxi",
          "core/test_pending.py core/test_tombstones.py core/test_reaping.py core/test_codec.py "
          "engine/test_dispatch.py engine/test_loop.py",
          "        if (self.d.steady >= self.next_expiry or "
          "(self.k.deadlines.n and self.k.deadlines.heap[0].at <= self.k.now)):",
          "        if self.d.steady >= self.next_expiry:"),
    Fault("early: new actors without end",
          CORE + "receive.pxi",
          "core/test_pending.py core/test_tombstones.py core/test_reaping.py core/test_codec.py "
          "engine/test_dispatch.py engine/test_loop.py",
          "    if k.inbox.newcomers == NEWCOMERS:\n",
          "    if 0:\n"),
    Fault("early: a new replica learns of few actors at once",
          CORE + "receive.pxi",
          "core/test_pending.py core/test_tombstones.py core/test_reaping.py core/test_codec.py "
          "engine/test_dispatch.py engine/test_loop.py",
          "    if k.actors.n < FREELY:\n",
          "    if 0:\n"),

    # sizes
    Fault("size: a pipeline runs on although the iteration is full",
          ENGINE + "input.pxi",
          "commands/test_sizes.py core/test_op_sizes.py engine/test_iteration_sizes.py "
          "engine/test_loop.py",
          "or client.reply.over or iteration_is_full(d) or d.guard",
          "or client.reply.over or d.guard"),
    Fault("size: a record takes ops without end",
          CORE + "outbox.pxi",
          "commands/test_sizes.py core/test_op_sizes.py engine/test_iteration_sizes.py "
          "engine/test_loop.py",
          "run_part(k, run, most - n if n < most else 0, ",
          "run_part(k, run, <size_t>-1, "),
    Fault("size: a large op has no room for many deps",
          CORE + "op.pxi",
          "commands/test_sizes.py core/test_op_sizes.py engine/test_iteration_sizes.py "
          "engine/test_loop.py",
          "        if head + RUN_HEAD + RECORD_HEAD > HEAD_ROOM:",
          "        if head > HEAD_ROOM:"),
    Fault("size: a command is refused half done",
          CORE + "sizes.pxi",
          "commands/test_sizes.py core/test_op_sizes.py engine/test_iteration_sizes.py "
          "engine/test_loop.py",
          "    if k.changes == k.open.began and not op_fits(",
          "    if not op_fits("),
    Fault("size: effects counted without their keys",
          CORE + "sizes.pxi",
          "commands/test_sizes.py core/test_op_sizes.py engine/test_iteration_sizes.py "
          "engine/test_loop.py",
          "(n + 3) * (EFFECT_ROOM + key) + listed",
          "(n + 3) * EFFECT_ROOM + listed"),
    Fault("size: listed counter entries not counted",
          CORE + "sizes.pxi",
          "commands/test_sizes.py core/test_op_sizes.py engine/test_iteration_sizes.py "
          "engine/test_loop.py",
          " = counts * COUNT_ROOM + min(",
          " = min("),
    Fault("size: what a transaction has made before does not count",
          CORE + "sizes.pxi",
          "commands/test_sizes.py core/test_op_sizes.py engine/test_iteration_sizes.py "
          "engine/test_loop.py",
          "    return op_used(k) + (n + 3)",
          "    return (n + 3)"),
    Fault("size: a removal is cut inside a transaction",
          CORE + "sizes.pxi",
          "commands/test_sizes.py core/test_op_sizes.py engine/test_iteration_sizes.py "
          "engine/test_loop.py",
          "    return k.open.depth > 1 and k.changes == k.open.began",
          "    return 0"),
    Fault("size: a removal lists more than an op may hold",
          CORE + "effects.pxi",
          "commands/test_sizes.py core/test_op_sizes.py engine/test_iteration_sizes.py "
          "engine/test_loop.py",
          "    if (not list_key(k, e, T_NONE, span(NULL, 0), k.open.most)\n"
          "        or not",
          "    if (not list_key(k, e, T_NONE, span(NULL, 0), <size_t>-1)\n"
          "        or not"),
    Fault("size: what a transaction first removes of an expired key is not counted",
          ENGINE + "transaction.pxi",
          "commands/test_sizes.py core/test_op_sizes.py engine/test_iteration_sizes.py "
          "engine/test_loop.py",
          "        if not remainders_fit(",
          "        if 0 and not remainders_fit("),
    Fault("size: what is copied is not counted",
          CORE + "effects.pxi",
          "commands/test_sizes.py core/test_op_sizes.py engine/test_iteration_sizes.py "
          "engine/test_loop.py",
          "    if not op_room(k, to_db, 0, to.n, bytes):",
          "    if 0:"),
    Fault("size: arguments are not counted",
          ENGINE + "run.pxi",
          "commands/test_sizes.py core/test_op_sizes.py engine/test_iteration_sizes.py "
          "engine/test_loop.py",
          "        if (not cmd.flags & C_DENYOOM or op_room(",
          "        if (1 or op_room("),
    Fault("size: effects of a received op that are decoded again are not looked at first",
          CORE + "receive.pxi",
          "core/test_op_sizes.py::"
          "test_an_op_is_applied_whole_or_not_at_all_however_many_effects_it_has",
          "        if r == 0:\n"
          "            return n if n else -1\n",
          "        if r == 0:\n"
          "            return n if n else -1\n"
          "        if n >= DECODED_KEPT:\n"
          "            n += 1\n"
          "            continue\n"),
    Fault("size: effects are decoded again from the wrong one on",
          CORE + "receive.pxi",
          "commands/test_sizes.py::test_a_removal_too_large_for_an_op_is_cut",
          "        if n == DECODED_KEPT:\n"
          "            k.inbox.decoded_rest = p\n",
          "        if n == DECODED_KEPT - 1:\n"
          "            k.inbox.decoded_rest = p\n"),
    Fault("size: answers beyond the output limit are kept",
          "crdtredis/resp/writer.pxi",
          "engine/test_iteration_sizes.py::"
          "test_what_a_command_answers_beyond_the_output_limit_is_not_kept",
          "    if r.most and (r.over",
          "    if 0 and (r.over"),
    Fault("size: what a peer sent is handed back although it holds more than the op",
          ENGINE + "bridge.pxi",
          "engine/test_iteration_sizes.py::"
          "test_large_ops_among_others_in_one_batch_are_handed_back_one_by_one",
          "        if from_.n == b.n and memcmp(from_.bytes, head.p, head.n) == 0:",
          "        if 1:"),
    Fault("size: a checksum without what was lent",
          CORE + "record.pxi",
          "engine/test_iteration_sizes.py::"
          "test_a_large_op_that_a_peer_sent_is_logged_as_it_came_and_handed_back_as_the_same_object",
          "crc32c(crc, rest.p, rest.n) if rest.n else crc)",
          "crc)"),
    Fault("size: of a lent op that cannot be written only the head is kept",
          CORE + "segment_writer.pxi",
          "engine/test_iteration_sizes.py::"
          "test_a_large_op_that_cannot_be_logged_is_kept_and_lent_no_longer",
          "            buffer_add(&self.pending, rest.p, rest.n)\n",
          ""),
    Fault("size: a reply that nobody wants closes the client",
          ENGINE + "dispatch.pxi",
          "engine/test_loop.py::test_replies_that_nobody_wants_are_under_no_limit",
          "    r.buf.n = at\n"
          "    r.over = over\n",
          "    r.buf.n = at\n"),
    Fault("size: what was dropped writes over earlier replies",
          "crdtredis/resp/writer.pxi",
          "engine/test_loop.py::test_replies_that_nobody_wants_are_under_no_limit",
          "        r.buf.n = min(r.keep, r.buf.n)\n",
          "        r.buf.n = 0\n"),
    Fault("size: an argument longer than an op can hold",
          "crdtredis/settings.py",
          "commands/test_server.py::test_no_argument_may_be_longer_than_an_op_can_hold",
          'S("proto_max_bulk_len", Size("1mb", "512mb")',
          'S("proto_max_bulk_len", Size("1mb", "4gb")'),
]
