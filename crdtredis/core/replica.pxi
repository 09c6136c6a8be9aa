# The replica: the heart of the server, with no socket, no file, no clock and no thread of its own.
# Whoever owns it sets `now` (ms since 1970), lets commands make effects, takes the finished ops for
# the log and the peers, and hands received ones in. So a test can run a whole cluster in one
# process with simulated time, network and disk.
#
# The owner must not use it from two threads at once. Native commands work on the Kernel
# inside without the GIL.

import os

from crdtredis.errors import DamagedBatch, UndeclaredActor, CausalBufferFull


cdef enum:
    DEADLINE_SAMPLE = 1000  # keys looked at for the mean time to live

TYPE_NAMES = {T_STRING: "string", T_HASH: "hash", T_SET: "set", T_ZSET: "zset", T_LIST: "list",
              T_NONE: "none"}


cdef class Replica:
    """The state of one replica, acting as the actor (replica_id, epoch).

    replica_id: 1 to 255 bytes of UTF-8 without NUL. epoch: ms, greater than every earlier one of
    this replica id. seed: makes hashing and random choices repeatable (tests); left out, they are
    unpredictable. expiry_grace: ms that other replicas leave to the one that set a deadline to
    remove the key. max_clock_skew: ms; ops stamped further ahead of `now` wait. pending_limit:
    bytes of ops that may wait for others, half of it of one actor.
    """

    def __init__(self, str replica_id, uint64_t epoch, *, seed=None, int64_t expiry_grace=10_000,
                 int64_t max_clock_skew=60_000,
                 size_t pending_limit=64 << 20):
        cdef Kernel *k = &self.k
        if k.actors.n:
            raise RuntimeError("a Replica is made once")
        randomness = os.urandom(24) if seed is None else (seed + 1).to_bytes(24, "little")
        k.hash_key[0] = int.from_bytes(randomness[:8], "little")
        k.hash_key[1] = int.from_bytes(randomness[8:16], "little")
        k.seed = int.from_bytes(randomness[16:], "little") | 1
        k.expiry_grace = expiry_grace
        k.max_skew = max_clock_skew
        k.pending.limit = pending_limit
        k.op_most = OP_MOST
        self.id = replica_id
        self.act_as(epoch)

    def __cinit__(self, *args, **kwargs):
        cdef Kernel *k = &self.k
        memset(k, 0, sizeof(Kernel))
        actors_init(&k.actors)
        k.conflict = <Conflict*>mem_alloc(CONFLICTS * sizeof(Conflict))
        k.decoded = <Effect*>mem_alloc(DECODED_KEPT * sizeof(Effect))

    def __dealloc__(self):
        cdef Kernel *k = &self.k
        free_garbage(k, 0x7fffffff)
        cdef Watch *w
        cdef int i
        for i in range(DATABASES):
            table_clear(&k.db[i].table, free_visited, k)
            mem_free(k.db[i].written.v)
        for i in range(<int>k.watch_mask + 1 if k.watches != NULL else 0):
            while k.watches[i] != NULL:
                w = k.watches[i]
                k.watches[i] = w.next
                mem_free(w)
        mem_free(k.watches)
        table_clear(&k.pending.ops, free_visited, k)
        actors_free(&k.actors)
        buffer_free(&k.effects)
        buffer_free(&k.listed)
        buffer_free(&k.position)
        buffer_free(&k.made)
        buffer_free(&k.total)
        buffer_free(&k.few)
        buffer_free(&k.declarations)
        buffer_free(&k.ops)
        for i in range(<int>k.run_n):
            buffer_free(&k.runs[i].large)
        mem_free(k.runs)
        mem_free(k.decoded)
        mem_free(k.heap)
        mem_free(k.conflict)

    # ---- identity and clocks ---------------------------------------------------------------------

    cdef act_as(self, uint64_t epoch):
        replica = self.id.encode()
        if not 0 < len(replica) <= MAX_REPLICA_ID or b"\0" in replica:
            raise ValueError("a replica id is 1 to 255 bytes of UTF-8 without NUL")
        cdef uint16_t slot = actors_declare(&self.k.actors, actor_id(replica, len(replica), epoch),
                                            replica, len(replica), epoch)
        if slot == NO_SLOT:
            raise ValueError("too many actors, or two with one id")
        if self.k.actors.v[slot].applied or self.k.actors.v[slot].backlog.n:
            raise ValueError(f"epoch {epoch} of {self.id} has ops that others hold")
        self.k.me = slot
        self.k.deps_changed = 1

    def new_epoch(self, uint64_t epoch):
        """Goes on as a new actor, because this one's identity was met elsewhere. Never inside a
        command."""
        if epoch <= self.epoch:
            raise ValueError(f"epoch {epoch} is not above {self.epoch}")
        self.act_as(epoch)

    @property
    def epoch(self):
        return self.k.actors.v[self.k.me].epoch

    @property
    def actor(self):
        """The 64-bit id of the actor that this replica acts as."""
        return self.k.actors.v[self.k.me].id

    @property
    def now(self):
        return self.k.now

    @now.setter
    def now(self, int64_t ms):
        self.k.now = ms

    @property
    def max_clock_skew(self):
        return self.k.max_skew

    @max_clock_skew.setter
    def max_clock_skew(self, int64_t ms):
        self.k.max_skew = ms

    @property
    def op_limit(self):
        """Bytes of the effects of one op, beyond which commands are refused (core/sizes.pxi)."""
        return self.k.op_most

    @op_limit.setter
    def op_limit(self, size_t n):
        self.k.op_most = n

    @property
    def newest_stamp(self):
        """The greatest stamp seen or made: ms << 16 | counter."""
        return self.k.newest_stamp

    @property
    def accepted(self):
        """ms since 1970: up to here, and max_clock_skew beyond, no stamp is too far ahead, whatever
        the clock says."""
        return self.k.accepted

    @accepted.setter
    def accepted(self, int64_t ms):
        self.k.accepted = ms

    @property
    def runs_ahead(self):
        """Are the stamps here so far ahead of the clock that others would hold back the next
        op? The owner then lets no command write."""
        return bool(stamps_run_ahead(&self.k))

    def actors(self):
        """[(actor id, replica id, epoch, highest seq applied)] in no particular order."""
        cdef uint32_t i
        return [(self.k.actors.v[i].id, self.k.actors.v[i].replica.decode(),
                 self.k.actors.v[i].epoch, self.k.actors.v[i].applied)
                for i in range(self.k.actors.n)]

    def declared(self):
        """[(actor id, replica id, epoch)] of the actors that the log names, or will with what
        take_ops gives next: those with ops, and those that an op names. One that is only known,
        since a peer said hello, is nobody else's business."""
        cdef uint32_t i
        return [(self.k.actors.v[i].id, self.k.actors.v[i].replica.decode(),
                 self.k.actors.v[i].epoch)
                for i in range(self.k.actors.n) if self.k.actors.v[i].logged]

    def clock(self):
        """{(replica id, epoch): highest seq applied}, actors without ops left out."""
        return {(replica, epoch): seq for _, replica, epoch, seq in self.actors() if seq}

    def clock_ids(self):
        """{actor id: highest seq applied}, actors without ops left out."""
        cdef uint32_t i
        return {self.k.actors.v[i].id: self.k.actors.v[i].applied for i in range(self.k.actors.n)
                if self.k.actors.v[i].applied}

    def declare(self, str replica_id, uint64_t epoch):
        """Makes an actor known (a peer that said hello); returns its id. UndeclaredActor when that
        is impossible."""
        name = replica_id.encode()
        id = actor_id(name, len(name), epoch)
        cdef uint16_t slot = actors_declare(&self.k.actors, id, name, len(name), epoch)
        if slot == NO_SLOT:
            raise UndeclaredActor(f"actor {replica_id}/{epoch} cannot be taken in")
        self.k.actors.v[slot].logged |= self.k.recovering
        return id

    def record_clock(self, uint64_t actor, clock):
        """An acknowledgement or handshake: the clock {actor id: seq} of `actor`, without its ops.
        Unknown actors are passed over."""
        cdef uint16_t who = actors_find(&self.k.actors, actor)
        cdef uint16_t of
        if who == NO_SLOT or who == self.k.me:
            return
        for id, seq in clock.items():
            of = actors_find(&self.k.actors, id)
            if of != NO_SLOT:
                vector_raise(&self.k.actors.v[who].told, of, seq)

    # ---- ops -------------------------------------------------------------------------------------

    def take_ops(self):
        """The encoded Batch of all ops, own and received, that were finished since the last call;
        b"" when there are none."""
        cdef Record r
        memset(&r, 0, sizeof(Record))
        out = []
        while take_record(&self.k, &r, <size_t>-1):
            out.append(r.buf.p[r.at + RECORD_HEAD:r.buf.n] + r.rest.p[:r.rest.n])
        buffer_free(&r.buf)
        return b"".join(out)

    def receive(self, bytes batch):
        """Applies an encoded Batch; ops whose dependencies are missing wait, known ones are
        dropped.

        DamagedBatch: the bytes are not a Batch; ops before the damage are applied. UndeclaredActor:
        an actor is not declared, or its declaration contradicts a known one; ops before it are
        applied. CausalBufferFull: send what is not applied again later. Cost: linear in the bytes,
        and those of the waiting ops that may be applied then: all of them are, while the loop
        spreads them over its iterations.
        """
        cdef int r
        cdef const char *p = batch
        cdef size_t n = len(batch)
        with nogil:
            r = receive(&self.k, p, n)
            while retry_pending(&self.k, PENDING_SLICE):
                pass
        if r == RECEIVED_BAD:
            raise DamagedBatch("the bytes are not a batch of this version")
        if r == RECEIVED_CROWD:
            raise UndeclaredActor("more new actors at once than are taken in")
        if r == RECEIVED_UNDECLARED:
            raise UndeclaredActor("a run of an actor that is not declared, or a declaration that "
                                "contradicts a known one")
        if r == RECEIVED_FULL:
            raise CausalBufferFull("too many ops wait for others")

    @property
    def recovering(self):
        """While True, what is received or declared comes from the log: it is neither given to
        take_ops nor held back for its stamp."""
        return bool(self.k.recovering)

    @recovering.setter
    def recovering(self, bint value):
        self.k.recovering = value

    def pending(self):
        """{"ops", "bytes", "held"}: ops that wait, the bytes they take, and how many of them for
        the clock on the wall."""
        return {"ops": table_count(&self.k.pending.ops), "bytes": self.k.pending.bytes,
                "held": self.k.pending.held_ops}

    def held(self):
        """[(replica id, epoch, number of ops, ms of the first one's stamp)] of the actors whose ops
        wait for the clock on the wall."""
        cdef Actor *a
        cdef uint32_t i
        out = []
        for i in range(self.k.actors.n if self.k.pending.held else 0):
            a = &self.k.actors.v[i]
            if a.backlog.state == BACKLOG_HELD:
                out.append((a.replica.decode(), a.epoch, a.backlog.n, a.backlog.until))
        return out

    def tick(self):
        """What the loop does now and then: retries held ops, and reaps. Returns ms until the next
        deadline, or -1."""
        cdef int64_t wait
        with nogil:
            while retry_pending(&self.k, PENDING_SLICE):
                pass
            wait = active_expiry(&self.k, 1 << 30)
        return wait

    def collect(self, int most=1 << 20):
        """Lets go of tombstones nobody needs any more, looking at `most` buckets of keys or members
        from where the last call ended. True when it has been through all of them. Cost: linear in
        `most`."""
        cdef int over
        with nogil:
            over = collect(&self.k, most)
        return bool(over)

    def collect_garbage(self, int most=0x7fffffff):
        """Frees about `most` members of deleted collections; True while more are left."""
        return bool(free_garbage(&self.k, most))

    def purge(self):
        """Has free memory given back to the system, step by step."""
        pages_purge()

    # ---- views -----------------------------------------------------------------------------------

    def stats(self):
        cdef Kernel *k = &self.k
        return {"changes": k.changes, "expired": k.expired, "conflicts": k.conflicts,
                "tombstones": k.tombstones, "actors": k.actors.n,
                "deadlines": k.heap_n, "torn": k.torn, "watched": k.watch_n, "memory": mem_used()}

    def keys(self, uint32_t db=0):
        """(live keys, all elements) of a database; the difference is tombstones and deadlines
        without content."""
        return self.k.db[db].live, table_count(&self.k.db[db].table)

    def deadlines(self, uint32_t db=0):
        """(number of live keys with a deadline, mean ms until it) of a database. The mean is that
        of a sample where deadlines are many: 0 when the sample has none of this database. Cost:
        that of looking at DEADLINE_SAMPLE keys."""
        cdef Kernel *k = &self.k
        cdef uint32_t step = k.heap_n // DEADLINE_SAMPLE + 1
        # a place in the heap says nothing of others a fixed step away
        cdef uint32_t i = <uint32_t>(k.now % step)
        cdef int64_t n = 0
        cdef double sum = 0
        if k.db[db].expiring == 0:
            return 0, 0
        while i < k.heap_n:
            if k.heap[i].entry.db == db and k.heap[i].entry.expiring:
                n += 1
                sum += <double>max(key_deadline(k, k.heap[i].entry.owner) - k.now, 0)
            i += step
        return k.db[db].expiring, <int64_t>(sum / n) if n else 0

    def digest(self):
        """32 hex digits, equal on two replicas exactly when their states are equal, metadata
        included but for tombstones. Cost: linear in the keyspace."""
        cdef Digest d
        cdef int i
        memset(&d, 0, sizeof(Digest))
        d.k = &self.k
        with nogil:
            for i in range(DATABASES):
                d.db = i
                table_walk(&self.k.db[i].table, digest_element, &d)
            buffer_free(&d.b)
            buffer_free(&d.name)
            buffer_free(&d.total)
            buffer_free(&d.totals)
        return f"{d.sum[0]:016x}{d.sum[1]:016x}"

    def inspect(self, uint32_t db, bytes key):
        """The state of a key as a dict: writes (latest first, so the first is the winner), counter
        entries, deadline writes; None for no key."""
        cdef Element *e = key_find(&self.k, db, span(key, len(key)))
        cdef Collection *c
        if e == NULL:
            return None
        out = {"type": TYPE_NAMES[live_type(e)], "visible": bool(key_visible(&self.k, e)),
               "writes": [], "counter_entries": [],
               "collections": {}, "deadline": key_deadline(&self.k, e), "deadlines": [],
               "memory": key_memory(&self.k, e)}
        self.describe_value(e, out)
        if e.meta & E_ENTRY:
            self.describe(&element_entry(e).deadline, out["deadlines"], None)
            c = element_entry(e).collections
            while c != NULL:
                out["collections"][TYPE_NAMES[c.type]] = {"live": c.live,
                                                          "elements": table_count(&c.table) +
                                                          c.order.n * (c.type == T_LIST)}
                c = c.next
        return out

    def inspect_member(self, uint32_t db, bytes key, bytes name):
        """{type: {"writes", "counter entries"}} of a member of each collection under a key that has
        it; None for no key. A set's member has no time (0)."""
        cdef Element *e = key_find(&self.k, db, span(key, len(key)))
        cdef Element *m
        cdef Collection *c
        if e == NULL:
            return None
        out = {}
        c = element_entry(e).collections if e.meta & E_ENTRY else NULL
        while c != NULL:
            m = table_find(&c.table, name, len(name), key_hash(&self.k, name, len(name)))
            if m != NULL:
                out[TYPE_NAMES[c.type]] = {"writes": [], "counter_entries": []}
                self.describe_value(m, out[TYPE_NAMES[c.type]])
            c = c.next
        return out

    cdef describe_value(self, Element *e, dict out):
        if e.meta & E_PLAIN:
            out["writes"].append(self.write(e.dot, element_stamp(e), dot_slot(e.dot),
                                            e.meta & E_CLEARS, element_value(e)[:e.vlen]))
        elif e.meta & E_CELL:
            self.describe(element_cell(e), out["writes"], out["counter_entries"])

    cdef str name(self, uint16_t slot):
        return f"{self.k.actors.v[slot].replica.decode()}/{self.k.actors.v[slot].epoch}"

    cdef dict write(self, uint64_t dot, uint64_t stamp, uint16_t actor, int clears, value):
        return {"actor": self.name(dot_slot(dot)), "seq": dot_seq(dot), "ms": stamp >> 16,
                "counter": stamp & 0xffff,
                "stamped_by": self.name(actor), "clears_deadline": bool(clears), "value": value}

    cdef describe(self, Cell *c, list writes, list counts):
        cdef Write *w = c.writes
        cdef Count *t = c.counts
        rows = []
        while w != NULL:
            value = (<int64_t*>write_value(w))[0] if w.flags & W_NUMBER else write_value(w)[:w.n]
            rows.append(((w.stamp, self.k.actors.v[w.actor].rank),
                         self.write(w.dot, w.stamp, w.actor, w.flags & W_CLEARS, value)))
            w = w.next
        writes += [row for _, row in sorted(rows, key=lambda r: r[0], reverse=True)]
        while t != NULL:
            counts.append({"actor": self.name(t.actor), "run": [t.run_seq, t.run_index],
                           "seq": t.seq, "total": number_text(&t.total),
                           "cancelled_seq": t.cancelled_seq,
                           "cancelled": number_text(&t.cancelled),
                           "tombstone": bool(is_tombstone(t))})
            t = t.next

    def conflicts(self, count=10):
        """The newest `count` (at most 128) concurrent writes that had to be decided, latest
        first."""
        cdef Kernel *k = &self.k
        cdef Conflict *c
        out = []
        for i in range(min(count, k.conflicts, CONFLICTS)):
            c = &k.conflict[(k.conflicts - 1 - i) % CONFLICTS]
            sides = [{"actor": self.name(c.actor[j]), "ms": c.stamp[j] >> 16,
                      "counter": c.stamp[j] & 0xffff,
                      "value": c.value[j][:c.n[j]]} for j in range(2)]
            out.append({"ms": c.at, "db": c.db, "key": c.key[:c.key_n], "type": TYPE_NAMES[c.type],
                        "name": c.name[:c.name_n], "winner": sides[0], "loser": sides[1]})
        return out

    def check(self):
        """Raises AssertionError when an invariant of the kernel does not hold. Cost: linear in the
        keyspace."""
        cdef Kernel *k = &self.k
        cdef Database *d
        cdef Element *e
        cdef Entry *x
        cdef Collection *c
        cdef size_t pos, live, expiring
        cdef size_t counts[2]
        cdef uint32_t i, timed
        cdef int64_t tombstones = 0
        for db in range(DATABASES):
            pos = live = counts[0] = counts[1] = timed = expiring = 0
            tombstones += check_table(k, db, &k.db[db].table, &live, counts)
            while True:
                e = table_next(&k.db[db].table, &pos)
                if e == NULL:
                    break
                if not e.meta & E_ENTRY:
                    continue
                x = element_entry(e)
                assert x.owner == e and x.db == db, "an entry that is not its element's"
                assert x.expiring == (element_live(e) and key_deadline(k, e) != -1), \
                    "a deadline counted that is none, or not counted"
                expiring += x.expiring
                timed += x.heap != 0
                c = x.collections
                while c != NULL:
                    tombstones += check_collection(k, db, c, counts)
                    c = c.next
            d = &k.db[db]
            assert live == d.live, f"db {db}: {d.live} keys counted, {live} there"
            assert expiring == d.expiring, \
                f"db {db}: {d.expiring} deadlines counted, {expiring} there"
            assert counts[0] == d.counts, \
                f"db {db}: {d.counts} counter entries counted, {counts[0]} there"
            assert counts[1] == d.exact, \
                f"db {db}: {d.exact} bytes of exact totals counted, {counts[1]} there"
            assert timed == d.timed, f"db {db}: {d.timed} keys in the heap counted, {timed} there"
        assert tombstones == k.tombstones, f"{k.tombstones} tombstones counted, {tombstones} there"
        for i in range(k.heap_n):
            assert k.heap[i].entry.heap == i + 1, "heap: an entry that does not know its place"
            assert i == 0 or k.heap[(i - 1) // 2].at <= k.heap[i].at, "heap: order"
        assert k.depth == 0 and not k.has_op, "an op was left open"
        check_pending(k)
        check_actors(&k.actors)


cdef int check_actors(Actors *a) except -1:
    cdef Actor *x
    cdef Actor *y
    cdef uint32_t i
    for i in range(a.n):
        x = &a.v[a.ordered[i]]
        assert actors_find(a, x.id) == a.ordered[i], "actors: one that is not found by its id"
        assert strcmp(x.replica, a.v[x.replica_slot].replica) == 0, "actors: of another replica"
        if i:
            y = &a.v[a.ordered[i - 1]]
            assert actor_before(y,
                                x) and y.rank < x.rank < <uint64_t>1 << 63, "actors: out of order"
            assert (y.replica_slot == x.replica_slot) == (strcmp(y.replica, x.replica)
                                                          == 0), "actors: replicas not told apart"
    return 0


cdef int check_pending(Kernel *k) except -1:
    """Asserts that what waits is counted, and that each actor is where it belongs by what its next
    op waits for."""
    cdef Actors *a = &k.actors
    cdef Backlog *b
    cdef Element *m
    cdef OpHead h
    cdef uint16_t of = 0
    cdef uint64_t until = 0
    cdef size_t pos = 0, bytes = 0, held = 0, n
    cdef uint32_t slot
    cdef int why
    ops = [[0, 0] for _ in range(a.n)]
    why = table_check(&k.pending.ops, k.hash_key)
    assert why == 0, f"causal buffer: table: {why}"
    while True:
        m = table_next(&k.pending.ops, &pos)
        if m == NULL:
            break
        memcpy(&until, element_key(m), sizeof(until))
        assert dot_seq(until) > a.v[dot_slot(until)].applied, "causal buffer: an op that is applied"
        ops[dot_slot(until)][0] += 1
        ops[dot_slot(until)][1] += pending_size(m.vlen)
    waiting = heap_slots(a, k.pending.held)
    held_slots = [slot for slot in range(a.n) if a.v[slot].backlog.state == BACKLOG_HELD]
    assert sorted(waiting) == held_slots, "causal buffer: the heap of those held"
    for slot in range(a.n):
        b = &a.v[slot].backlog
        assert ops[slot] == [b.n, b.bytes], \
            f"causal buffer: {ops[slot]} there, {b.n} and {b.bytes} counted"
        bytes += b.bytes
        held += b.n if b.state == BACKLOG_HELD else 0
        below = heap_slots(a, b.blocked)
        for x in below:
            assert a.v[x].backlog.state == BACKLOG_BLOCKED, \
                "causal buffer: in a heap, but not blocked"
            assert a.v[x].backlog.until > a.v[slot].applied, \
                "causal buffer: what it waits for is here"
        waiting += below
        m = pending_find(k, slot, a.v[slot].applied + 1)
        if b.state == BACKLOG_READY:
            continue
        why = BLOCKED_BY_OWN
        if m != NULL:
            assert decode_op(span(element_value(m), m.vlen), &h) == 1, \
                "causal buffer: bytes that are no op"
            why = blocked(k, slot, &h, &of, &until)
        if b.state == BACKLOG_IDLE:
            assert why == BLOCKED_BY_OWN, f"causal buffer: idle, but {why}"
        elif b.state == BACKLOG_BLOCKED:
            assert why == BLOCKED_BY_OTHER, f"causal buffer: blocked, but {why}"
    assert len(waiting) == len(set(waiting)), "causal buffer: in two heaps"
    n = sum(1 for slot in range(a.n) if a.v[slot].backlog.state in (BACKLOG_BLOCKED, BACKLOG_HELD))
    assert len(waiting) == n, f"causal buffer: {n} wait, {len(waiting)} in heaps"
    assert bytes == k.pending.bytes and held == k.pending.held_ops, "causal buffer: counts"
    return 0


cdef list heap_slots(Actors *a, uint16_t root):
    """The slots in a heap; asserts its order."""
    out, left = [], [(root, 0)] if root else []
    while left:
        x, least = left.pop()
        assert a.v[x - 1].backlog.until >= least, "causal buffer: heap order"
        out.append(x - 1)
        child = a.v[x - 1].backlog.child
        while child:
            left.append((child, a.v[x - 1].backlog.until))
            child = a.v[child - 1].backlog.next
    return out


cdef int64_t check_table(Kernel *k, uint32_t db, Table *t, size_t *live, size_t *counts) except -1:
    """Asserts what holds for keys and members alike; returns the tombstones in t and counts its
    live elements, counter entries and bytes of exact totals."""
    cdef Element *e
    cdef Count *y
    cdef size_t pos = 0
    cdef int64_t tombstones = 0
    assert table_check(t, k.hash_key) == 0, f"table: {table_check(t, k.hash_key)}"
    while True:
        e = table_next(t, &pos)
        if e == NULL:
            return tombstones
        live[0] += element_live(e)
        assert e.meta & (E_PLAIN | E_CELL | E_ENTRY), "an element without content"
        assert (e.meta & (E_PLAIN | E_CELL)) != E_PLAIN | E_CELL, "two values"
        assert (not e.meta & E_PLAIN
                or dot_seq(e.dot) <= vector_get(&k.db[db].written, dot_slot(e.dot))), \
            "a write newer than the newest"
        y = element_cell(e).counts if e.meta & E_CELL else NULL
        while y != NULL:
            counts[0] += 1
            counts[1] += number_room(&y.total)
            check_number(&y.total)
            check_number(&y.cancelled)
            tombstones += is_tombstone(y)
            assert y.next == NULL or k.actors.v[y.actor].rank < k.actors.v[
                    y.next.actor].rank, "counter entries out of order"
            y = y.next


cdef int check_number(const Number *v) except -1:
    cdef const uint64_t *limb = limbs_of(v.more)
    cdef int n = v.more.n if v.more != NULL else 0
    if v.more == NULL:
        return 0
    assert n == 0 or LIMB_LOW <= v.more.low and v.more.low + n <= LIMB_HIGH, "a total out of bounds"
    assert n == 0 or limb[0] and (n == 1 or limb[n - 1]
                                  != sign_of(limb, n - 1)), "a total with limbs that say nothing"
    assert v.more.plus or v.more.minus or n > 1 or n and v.more.low, (
        "a total that is a 64-bit number")
    return 0


cdef int64_t check_collection(Kernel *k, uint32_t db, Collection *c, size_t *counts) except -1:
    cdef OrderCursor at
    cdef Item *item
    cdef Element *m
    cdef size_t live = 0, cells = 0, pos = 0, with_tombstones = 0
    cdef int64_t tombstones
    if c.type == T_LIST:
        check_list(k, c)
        return 0
    tombstones = check_table(k, db, &c.table, &live, counts)
    assert table_count(&c.table), "an empty collection"
    assert live == c.live, f"{c.live} members counted, {live} there"
    while True:
        m = table_next(&c.table, &pos)
        if m == NULL:
            break
        cells += (m.meta & E_CELL) != 0
        with_tombstones += m.meta & E_CELL and has_tombstone(element_cell(m))
    assert with_tombstones == c.tombstones, \
        f"{c.tombstones} members with tombstones counted, {with_tombstones} there"
    assert cells == c.cells, f"{c.cells} cells counted, {cells} there"
    assert order_check(&c.order) == 0, f"order: {order_check(&c.order)}"
    assert c.order.n == (live if c.type == T_ZSET else 0), f"{c.order.n} in order, {live} live"
    item = order_at(&c.order, 0, &at)
    while item != NULL:
        m = item.e
        assert item.sort_key == member_sort_key(k, c, m), \
            "order: a sort key that is not the member's"
        assert table_find(&c.table, element_key(m), m.klen, m.hash) == m, \
            "order: a member that is not there"
        item = order_next(&at)
    return tombstones


cdef int check_list(Kernel *k, Collection *c) except -1:
    cdef OrderCursor at
    cdef Item *item
    assert c.order.n, "an empty list"
    assert c.order.n == c.live and table_count(
            &c.table) == 0 and c.cells == 0, f"{c.live} elements counted, {c.order.n} in order"
    assert order_check(&c.order) == 0, f"order: {order_check(&c.order)}"
    item = order_at(&c.order, 0, &at)
    while item != NULL:
        assert item.sort_key == (<Block*>item.e).n, "order: a block that has another size"
        assert block_check(<Block*>item.e) == 0, f"block: {block_check(<Block*>item.e)}"
        item = order_next(&at)
    return 0


cdef void free_visited(void *arg, Element *e) noexcept nogil:
    element_free(<Kernel*>arg, e)


cdef void table_walk(Table *t, TableVisit visit, void *arg) noexcept nogil:
    cdef size_t pos = 0
    cdef Element *e = table_next(t, &pos)
    while e != NULL:
        visit(arg, e)
        e = table_next(t, &pos)


cdef bytes number_text(const Number *v):
    """As INCRBYFLOAT writes numbers, so rounded."""
    cdef char text[REAL_TEXT]
    cdef Sum s
    sum_zero(&s)
    sum_add_number(&s, v)
    return text[:format_long_double(sum_real(&s), text)]


# ---- digest --------------------------------------------------------------------------------------
# The sum, modulo 2^64 and under two keys, of a hash of every write, live counter entry and deadline
# write with its place. A sum, so the order in which a replica meets them is no matter; actors stand
# in it by their ids, never by their slots.

cdef struct Digest:
    Kernel *k
    uint32_t db
    int type
    Span key                # of the collection whose members are being added
    uint64_t sum[2]
    Buffer b
    # a list element's: its position, which in memory names slots, as it is sent
    Buffer name
    Buffer total
    Buffer totals           # of a counter entry, as they are sent


cdef void digest_add(Digest *d, Span name, int what, const uint64_t *facts, int n,
                     Span value) noexcept nogil:
    cdef uint64_t key[2]
    cdef uint32_t head[5]
    cdef int i
    d.b.n = 0
    head[0] = d.db
    head[1] = d.type
    head[2] = what
    head[3] = <uint32_t>d.key.n
    head[4] = <uint32_t>name.n
    buffer_add(&d.b, name.p, name.n)
    buffer_add(&d.b, head, sizeof(head))
    buffer_add(&d.b, d.key.p, d.key.n)
    buffer_add(&d.b, facts, n * sizeof(uint64_t))
    buffer_add(&d.b, value.p, value.n)
    for i in range(2):
        key[0] = <uint64_t>0x6372647472656469 + i
        key[1] = <uint64_t>0x7363727431323334
        d.sum[i] += siphash64(d.b.p, d.b.n, key)


cdef void digest_cell(Digest *d, Span name, int what, const Cell *c, uint64_t own) noexcept nogil:
    """own: dot of the insert of a list element, else 0."""
    cdef Actor *actors = d.k.actors.v
    cdef Write *w = c.writes
    cdef Count *t = c.counts
    cdef uint64_t facts[5]
    while w != NULL:
        facts[0] = actors[dot_slot(w.dot)].id
        facts[1] = dot_seq(w.dot)
        facts[2] = w.stamp if w.dot != own and d.type != T_SET else 0
        facts[3] = actors[w.actor].id
        facts[4] = w.flags
        digest_add(d, name, what, facts, 5, span(write_value(w), w.n))
        w = w.next
    while t != NULL:
        if not is_tombstone(t):
            facts[0] = actors[t.actor].id
            facts[1] = t.run_seq
            facts[2] = t.run_index
            facts[3] = t.seq
            d.totals.n = 0
            digest_total(d, &t.total)
            digest_total(d, &t.cancelled)
            buffer_add(&d.totals, &t.wide, sizeof(uint16_t))
            if t.shown != NULL:
                buffer_add(&d.totals, &t.shown.context, sizeof(uint64_t))
                buffer_add(&d.totals, t.shown.number, EXTENDED)
            digest_add(d, name, what + 1, facts, 4, span(d.totals.p, d.totals.n))
        t = t.next


cdef void digest_total(Digest *d, const Number *v) noexcept nogil:
    cdef Total t
    number_total(v, &d.total, &t)
    buffer_add(&d.totals, &t.whole, sizeof(int64_t))
    buffer_add(&d.totals, &t.fraction.n, sizeof(size_t))
    buffer_add(&d.totals, t.fraction.p, t.fraction.n)
    buffer_add(&d.totals, &t.exact.n, sizeof(size_t))
    buffer_add(&d.totals, t.exact.p, t.exact.n)


cdef void digest_value(void *arg, Element *e) noexcept nogil:
    cdef Digest *d = <Digest*>arg
    cdef uint64_t facts[5]
    if e.meta & E_PLAIN:
        facts[0] = facts[3] = d.k.actors.v[dot_slot(e.dot)].id
        facts[1] = dot_seq(e.dot)
        facts[2] = element_stamp(e) if d.type != T_SET else 0
        facts[4] = W_CLEARS if e.meta & E_CLEARS else 0
        digest_add(d, span(element_key(e), e.klen), 0, facts, 5, span(element_value(e), e.vlen))
    elif e.meta & E_CELL:
        digest_cell(d, span(element_key(e), e.klen), 0, element_cell(e), 0)


cdef void digest_element(void *arg, Element *e) noexcept nogil:
    cdef Digest *d = <Digest*>arg
    cdef Collection *c
    d.type = T_STRING
    d.key = span(NULL, 0)
    digest_value(d, e)
    if not e.meta & E_ENTRY:
        return
    digest_cell(d, span(element_key(e), e.klen), 2, &element_entry(e).deadline, 0)
    c = element_entry(e).collections
    d.key = span(element_key(e), e.klen)
    while c != NULL:
        d.type = c.type
        table_walk(&c.table, digest_value, d)
        if c.type == T_LIST:
            digest_list(d, c)
        c = c.next


cdef void digest_list(Digest *d, Collection *c) noexcept nogil:
    cdef uint64_t facts[5]
    cdef Place place
    cdef ListCursor at
    cdef int more = list_seek(c, 0, &at)
    facts[2] = facts[4] = 0                # an insert has no stamp
    while more:
        place = block_place_of(at.block, page_place(at.block, at.at))
        d.b.n = d.name.n = 0
        block_position(at.block, &place, &d.b)
        encode_position(&d.k.actors, &d.name, span(d.b.p, d.b.n), 0)
        if block_packed(at.block):
            facts[0] = facts[3] = d.k.actors.v[dot_slot(place.own)].id
            facts[1] = dot_seq(place.own)
            digest_add(d, span(d.name.p, d.name.n), 0, facts, 5, list_value(d.k, &at))
        else:
            digest_cell(d, span(d.name.p, d.name.n), 0, &at.block.cell, place.own)
        more = list_next(&at)
