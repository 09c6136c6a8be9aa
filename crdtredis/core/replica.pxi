# The replica: the heart of the server, with no socket, no file, no clock and no thread of its own.
# Whoever owns it sets `now` (ms since 1970), lets commands make effects, takes the finished ops for
# the log and the peers, and hands received ones in. So a test can run a whole cluster in one
# process with simulated time, network and disk.
#
# The owner must not use it from two threads at once. Native commands work on the Kernel
# inside without the GIL.

import os
from enum import IntEnum

from crdtredis.errors import DamagedBatch, UndeclaredActor, CausalBufferFull

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from crdtredis.buffer cimport buffer_add, buffer_free, need_memory, span
from crdtredis.numbers cimport REAL_TEXT, format_long_double

cdef enum:
    DEADLINE_SAMPLE = 1000  # keys looked at for the mean time to live

HOME_EPOCH = 0xffffffffffffffff     # of HOME_ACTOR: no time, so that no process has it

TYPE_NAMES = {T_STRING: "string", T_HASH: "hash", T_SET: "set", T_ZSET: "zset", T_LIST: "list",
              T_DEADLINES: "field deadlines", T_STREAM: "stream", T_STREAM_HEAD: "stream head",
              T_GROUPS: "consumer groups", T_PATCHES: "patches",
              T_NONE: "none"}

EVICTION_POLICIES = {
    "noeviction": 0, "allkeys-lru": EVICT_LRU, "volatile-lru": EVICT_LRU | EVICT_VOLATILE,
    "allkeys-lfu": EVICT_LFU, "volatile-lfu": EVICT_LFU | EVICT_VOLATILE,
    "allkeys-random": EVICT_RANDOM, "volatile-random": EVICT_RANDOM | EVICT_VOLATILE,
    "volatile-ttl": EVICT_TTL | EVICT_VOLATILE}

# What became of a Batch (enum Received in receive.pxd), for Python.
ReceiveStatus = IntEnum("ReceiveStatus", {
    "ALL": RECEIVED_ALL, "BAD": RECEIVED_BAD, "FULL": RECEIVED_FULL,
    "UNDECLARED": RECEIVED_UNDECLARED, "UNLOGGED": RECEIVED_UNLOGGED, "CROWD": RECEIVED_CROWD})


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
        for db in range(DATABASES):
            k.db[db].table.key = k.hash_key
        k.seed = int.from_bytes(randomness[16:], "little") | 1
        k.origins.seed ^= k.seed & ~<uint64_t>1
        k.deadlines.grace = expiry_grace
        k.streams.known_seconds = PRODUCED_SECONDS
        k.streams.known_most = PRODUCED_MOST
        k.inbox.max_skew = max_clock_skew
        k.pending.limit = pending_limit
        k.open.most = OP_MOST
        k.eviction.shares = 1
        k.texts.others = MAX_ACTORS             # until set_members says who there is
        self.id = replica_id
        self.act_as(epoch)
        replica = replica_id.encode()
        k.home.slot = actors_declare(&k.actors, HOME_ACTOR, replica, len(replica), HOME_EPOCH)
        k.actors.v[k.home.slot].logged = 1      # nobody else is to know of it
        k.actors.hidden = k.home.slot + 1

    def __cinit__(self, *args, **kwargs):
        cdef Kernel *k = &self.k
        memset(k, 0, sizeof(Kernel))
        actors_init(&k.actors)
        k.home.slot = NO_SLOT
        k.conflicts.ring = <Conflict*>mem_alloc(CONFLICTS * sizeof(Conflict))
        k.conflicts.meetings = <Meeting*>need_memory(calloc(MEETINGS, sizeof(Meeting)))
        origins_init(&k.origins, 1)
        k.inbox.decoded = <Effect*>mem_alloc(DECODED_KEPT * sizeof(Effect))
        k.inbox.forms = <Forms*>mem_alloc(sizeof(Forms))
        memset(k.inbox.forms, 0, sizeof(Forms))

    def __dealloc__(self):
        cdef Kernel *k = &self.k
        free_garbage(k, 0x7fffffff)
        cdef Watch *w
        cdef int i
        for i in range(DATABASES):
            table_clear(&k.db[i].table, free_visited_key, k)
            vector_free(&k.db[i].written)
        for i in range(<int>k.watched.mask + 1 if k.watched.chains != NULL else 0):
            while k.watched.chains[i] != NULL:
                w = k.watched.chains[i]
                k.watched.chains[i] = w.next
                mem_free(w)
        mem_free(k.watched.chains)
        buffer_free(&k.notices.rows)
        mirror_set(k, 0, 0)
        eviction_free(k)
        table_clear(&k.pending.ops, free_visited, NULL)
        actors_free(&k.actors)
        buffer_free(&k.open.effects)
        buffer_free(&k.open.other.effects)
        buffer_free(&k.home.patterns)
        buffer_free(&k.packing.views)
        buffer_free(&k.packing.opened)
        buffer_free(&k.packing.made)
        buffer_free(&k.scratch.listed)
        buffer_free(&k.scratch.position)
        buffer_free(&k.scratch.made)
        buffer_free(&k.scratch.total)
        buffer_free(&k.scratch.entry)
        buffer_free(&k.scratch.gathered)
        buffer_free(&k.scratch.few)
        buffer_free(&k.scratch.image)
        buffer_free(&k.outbox.declarations)
        buffer_free(&k.outbox.ops)
        for i in range(<int>k.outbox.n):
            buffer_free(&k.outbox.runs[i].large)
        mem_free(k.outbox.runs)
        mem_free(k.inbox.decoded)
        mem_free(k.inbox.forms)
        vector_free(&k.inbox.barred)
        vector_free(&k.texts.folded)
        vector_free(&k.texts.loaded)
        table_clear(&k.texts.marks, free_visited, NULL)
        buffer_free(&k.scratch.mark)
        mem_free(k.deadlines.heap)
        mem_free(k.conflicts.ring)
        free(k.conflicts.meetings)
        origins_free(&k.origins)
        delays_free(k)

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
        self.k.open.deps_changed = 1

    def new_epoch(self, uint64_t epoch):
        """Goes on as a new actor, because this one's identity was met elsewhere. Never inside a
        command."""
        if self.k.joining:
            raise RuntimeError("a state is being joined")
        if epoch <= self.epoch:
            raise ValueError(f"epoch {epoch} is not above {self.epoch}")
        self.act_as(epoch)

    def resume(self, uint64_t epoch):
        """Goes on as the actor of a former process of this replica. The caller knows that all that
        one ever gave out, or said that it had, is applied here (storage/witness.py). Before the
        first op of this process."""
        if self.k.actors.v[self.k.me].applied or self.k.joining or self.k.inbox.recovering:
            raise RuntimeError("too late, or too early")
        replica = self.id.encode()
        cdef uint16_t slot = actors_find(&self.k.actors, actor_id(replica, len(replica), epoch))
        if slot == NO_SLOT or self.k.actors.v[slot].backlog.n:
            raise ValueError(f"epoch {epoch} of {self.id} is not known here to its end")
        self.k.me = slot

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
        return self.k.inbox.max_skew

    @max_clock_skew.setter
    def max_clock_skew(self, int64_t ms):
        self.k.inbox.max_skew = ms

    @property
    def op_limit(self):
        """Bytes of the effects of one op, beyond which commands are refused (core/sizes.pxi)."""
        return self.k.open.most

    @op_limit.setter
    def op_limit(self, size_t n):
        self.k.open.most = n

    @property
    def newest_stamp(self):
        """The greatest stamp seen or made: ms << 16 | counter."""
        return self.k.newest_stamp

    @property
    def accepted(self):
        """ms since 1970: up to here, and max_clock_skew beyond, no stamp is too far ahead, whatever
        the clock says."""
        return self.k.inbox.accepted

    @accepted.setter
    def accepted(self, int64_t ms):
        self.k.inbox.accepted = ms

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
                for i in range(self.k.actors.n) if i != self.k.home.slot]

    def declared(self):
        """[(actor id, replica id, epoch)] of the actors that the log names, or will with what
        take_ops gives next: those with ops, and those that an op names. One that is only known,
        since a peer said hello, is nobody else's business."""
        cdef uint32_t i
        return [(self.k.actors.v[i].id, self.k.actors.v[i].replica.decode(),
                 self.k.actors.v[i].epoch)
                for i in range(self.k.actors.n)
                if self.k.actors.v[i].logged and i != self.k.home.slot]

    def clock(self):
        """{(replica id, epoch): highest seq applied}, actors without ops left out."""
        return {(replica, epoch): seq for _, replica, epoch, seq in self.actors() if seq}

    def clock_ids(self, bint home=False):
        """{actor id: highest seq applied}, actors without ops left out. home: with the one of keys
        that stay at home, which is nobody else's business."""
        cdef uint32_t i
        return {self.k.actors.v[i].id: self.k.actors.v[i].applied for i in range(self.k.actors.n)
                if self.k.actors.v[i].applied and (home or i != self.k.home.slot)}

    def declare(self, str replica_id, uint64_t epoch):
        """Makes an actor known (a peer that said hello); returns its id. UndeclaredActor when that
        is impossible."""
        name = replica_id.encode()
        id = actor_id(name, len(name), epoch)
        cdef uint16_t slot = actors_declare(&self.k.actors, id, name, len(name), epoch)
        if slot == NO_SLOT:
            raise UndeclaredActor(f"actor {replica_id}/{epoch} cannot be taken in")
        self.k.actors.v[slot].logged |= self.k.inbox.recovering
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
        vector_share(&self.k.actors.v[who].told, &self.k.actors.common)

    @property
    def joining(self):
        """Is another replica's state being joined? Till that is over no op is made or received,
        nothing expires and no tombstone is let go of; what only reads works as ever."""
        return bool(self.k.joining)

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
        if self.k.joining:
            raise RuntimeError("a state is being joined")
        with nogil:
            r = receive(&self.k, p, n)
            while retry_pending(&self.k, PENDING_SLICE):
                pass
            pack_due(&self.k, PACK_MOST)
        if r == RECEIVED_BAD:
            raise DamagedBatch("the bytes are not a batch of this version")
        if r == RECEIVED_CROWD:
            raise UndeclaredActor("more new actors at once than are taken in")
        if r == RECEIVED_UNDECLARED:
            raise UndeclaredActor("a run of an actor that is not declared, or a declaration that "
                                "contradicts a known one")
        if r == RECEIVED_FULL:
            raise CausalBufferFull("too many ops wait for others")

    def bar(self, clock=None):
        """From now on ops that `clock` {actor id: seq} covers wait in the causal buffer: they are
        to come with a state that will be joined. None: they need wait no longer. Actors that are
        not declared are passed over. Cost: linear in the actors and the ops that wait."""
        cdef VersionVector *barred = &self.k.inbox.barred
        cdef uint16_t of
        vector_free(barred)
        for id, seq in (clock or {}).items():
            of = actors_find(&self.k.actors, id)
            if of != NO_SLOT:
                vector_raise(barred, of, seq)
        if not self.k.joining:
            pending_settle(&self.k)
            while retry_pending(&self.k, PENDING_SLICE):
                pass

    def freeze(self, limits):
        """From now on of these actors, {actor id: seq}, no later ops are applied, of others any:
        they wait in the causal buffer until other limits allow it. Actors may be declared later.
        Cost: linear in the actors and the ops that wait."""
        cdef Actors *a = &self.k.actors
        cdef uint32_t i
        cdef uint16_t of
        for i in range(a.n):
            a.v[i].frozen = 0
        mem_free(a.to_freeze)
        a.to_freeze = <uint64_t*>mem_alloc((2 * len(limits) + 1) * sizeof(uint64_t))
        a.to_freeze_n = 0
        for id, seq in limits.items():
            of = actors_find(a, id)
            if of != NO_SLOT:
                a.v[of].frozen = max(<uint64_t>seq, a.v[of].applied) + 1
            else:
                a.to_freeze[2 * a.to_freeze_n] = id
                a.to_freeze[2 * a.to_freeze_n + 1] = <uint64_t>seq + 1
                a.to_freeze_n += 1
        if table_count(&self.k.pending.ops) and not self.k.joining:
            pending_settle(&self.k)
            while retry_pending(&self.k, PENDING_SLICE):
                pass

    def takes(self, clock):
        """Does freeze() allow all ops that `clock` {actor id: seq} covers?"""
        cdef uint64_t frozen
        for id, seq in clock.items():
            frozen = actors_frozen(&self.k.actors, id)
            if frozen and <uint64_t>seq >= frozen:
                return False
        return True

    def close(self, actors):
        """Of these actors, ids, no replica will ever apply more than is applied here: their
        tombstones go."""
        cdef uint16_t of
        for id in actors:
            of = actors_find(&self.k.actors, id)
            if of != NO_SLOT:
                self.k.actors.v[of].closed = 1

    @property
    def recovering(self):
        """While True, what is received or declared comes from the log: it is neither given to
        take_ops nor held back for its stamp."""
        return bool(self.k.inbox.recovering)

    @recovering.setter
    def recovering(self, bint value):
        self.k.inbox.recovering = value
        if not value:
            texts_loaded(&self.k)
        self.k.actors.hidden = 0 if value else self.k.home.slot + 1

    @property
    def local_keys(self):
        """[bytes]: patterns of keys that stay at home, from the next command on (core/home.pxi).
        ValueError where they are too many, or one is too long; nothing is changed then."""
        cdef const char *p = self.k.home.patterns.p
        cdef uint32_t n
        out = []
        for _ in range(self.k.home.known):
            memcpy(&n, p, sizeof(n))
            out.append(p[sizeof(n):sizeof(n) + n])
            p += sizeof(n) + n
        return out

    @local_keys.setter
    def local_keys(self, patterns):
        cdef Home *home = &self.k.home
        cdef uint32_t n, db
        cdef bytes pattern
        patterns = list(patterns)
        if len(patterns) > HOME_PATTERNS or any(len(x) > HOME_PATTERN for x in patterns):
            raise ValueError(f"at most {HOME_PATTERNS} patterns, of {HOME_PATTERN} bytes each")
        home.patterns.n = 0
        home.known = 0
        for pattern in patterns:
            n = len(pattern)
            buffer_add(&home.patterns, &n, sizeof(n))
            buffer_add(&home.patterns, <const char*>pattern, n)
            home.known += 1
        home.on = home.known > 0
        for db in range(HOME_DB, DATABASES):
            home.on |= table_count(&self.k.db[db].table) > 0

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
            texts_work(&self.k, 1 << 30)
            wait = active_expiry(&self.k, 1 << 30)
            sweep_streams(&self.k, 1 << 30)
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

    def pack(self, int most=0x7fffffff):
        """Packs about `most` of the small collections that nobody has looked at for a while; True
        while more are left."""
        return bool(pack_due(&self.k, most))

    def set_eviction(self, str policy not None, uint32_t samples=5, uint32_t log_factor=10,
                     uint32_t decay=1):
        """How keys to evict are found: EVICTION_POLICIES has the names, Redis's. log_factor, decay
        (minutes): of the count of accesses under an LFU policy."""
        cdef Eviction *x = &self.k.eviction
        if x.policy != EVICTION_POLICIES[policy]:
            x.pooled = 0                       # scores of different policies do not compare
        x.policy = EVICTION_POLICIES[policy]
        x.samples = samples
        x.log_factor = log_factor
        x.decay = decay

    def share_eviction(self, uint32_t shares, uint32_t share):
        """This replica evicts its share of the keys, from 0 on, of so many."""
        self.k.eviction.shares = max(shares, <uint32_t>1)
        self.k.eviction.share = share

    def evict(self, int most=1) -> int:
        """Evicts up to `most` keys as the policy says, in one op; how many it were."""
        cdef int n = 0
        if self.k.eviction.policy == 0 or stamps_run_ahead(&self.k):
            return 0
        op_begin(&self.k)
        while n < most and evict_key(&self.k):
            n += 1
        op_end(&self.k)
        return n

    def purge(self):
        """Has free memory given back to the system, step by step."""
        pages_purge(mem_used())

    @property
    def makes_compact(self):
        """Have the effects of ops that are begun from now on the shorter form? See set_members."""
        return bool(self.k.inbox.forms.compacts)

    # ---- strings that are changed in place -------------------------------------------------------

    def set_members(self, names, bint know_patches=True, bint know_compact=False):
        """names: the replica ids of all members, this one's among them; None: that is not certain.
        Patches of others are waited for by none (core/fold.pxi). know_patches: none is of a version
        that does not; else changes of strings are written as SETs, until there is a patch: whoever
        made it knew of all that they do. know_compact: nor of one that does not know the shorter
        form of effects (core/compact.pxi), in which they are made from now on."""
        cdef Actors *a = &self.k.actors
        cdef uint32_t i
        if self.k.texts.off >= 0:
            self.k.texts.off = not know_patches
        self.k.inbox.forms.compacts = know_compact
        self.k.texts.known = 0
        self.k.texts.others = max(len(names) - 1, 0) if names is not None else MAX_ACTORS
        for i in range(a.n):
            a.v[i].gone = names is not None and a.v[i].replica.decode() not in names

    def set_apart(self, bint apart):
        """Is a member away? What late ops touched is written anew later then (core/fold.pxi)."""
        self.k.texts.apart = apart

    def fold(self, int most=1 << 20):
        """Forgets about `most` patches that all have observed; True while more are left."""
        cdef int more
        with nogil:
            more = texts_work(&self.k, most)
        return bool(more)

    def mend(self, int most=1 << 20):
        """Writes anew, without delay, what late ops have touched."""
        with nogil:
            texts_mend(&self.k, most)

    @property
    def patches(self):
        """Of all keys: how many have patches, how many those are, keys to be mended, and how many
        were."""
        cdef Collection *c = self.k.texts.first
        cdef size_t keys = 0, n = 0
        while c != NULL:
            keys += 1
            n += patched_of(c).n
            c = patched_of(c).after
        return keys, n, table_count(&self.k.texts.marks), self.k.texts.mended

    # ---- views -----------------------------------------------------------------------------------

    def stats(self):
        cdef Kernel *k = &self.k
        return {"changes": k.changes, "expired": k.expired,
                "expired_fields": k.expired_fields, "evicted": k.eviction.evicted,
                "conflicts": k.conflicts.n,
                "tombstones": kernel_tombstones(k), "patched": k.texts.first != NULL,
                "actors": k.actors.n - 1,
                "deadlines": k.deadlines.n, "torn": k.open.torn,
                "watched": k.watched.n, "memory": mem_used()}

    def elements(self):
        """How many elements the table of each database has, those of keys that stay at home apart
        and behind the shared ones: DATABASES numbers."""
        return [table_count(&self.k.db[db].table) for db in range(DATABASES)]

    def keys(self, uint32_t db=0):
        """(live keys, all elements) of a database; the difference is tombstones and deadlines
        without content. Of a client's, those that stay at home included."""
        cdef Database *d = &self.k.db[db]
        cdef Database *home
        if db >= SYSTEM_DB:
            return d.live, table_count(&d.table)
        home = &self.k.db[HOME_DB + db]
        return d.live + home.live, table_count(&d.table) + table_count(&home.table)

    def shared_keys(self, uint32_t db=0):
        """Live keys of a database that do not stay at home."""
        return self.k.db[db].live

    def deadlines(self, uint32_t db=0):
        """(number of live keys with a deadline, mean ms until it) of a database. The mean is that
        of a sample where deadlines are many: 0 when the sample has none of this database. Cost:
        that of looking at DEADLINE_SAMPLE keys."""
        cdef Kernel *k = &self.k
        cdef uint32_t step = k.deadlines.n // DEADLINE_SAMPLE + 1
        # a place in the heap says nothing of others a fixed step away
        cdef uint32_t i = <uint32_t>(k.now % step)
        cdef int64_t n = 0
        cdef double sum = 0
        cdef Element *e
        cdef size_t expiring = k.db[db].expiring
        if db < SYSTEM_DB:
            expiring += k.db[HOME_DB + db].expiring
        if expiring == 0:
            return 0, 0
        while i < k.deadlines.n:
            e = item_owner(&k.deadlines.heap[i])
            if shown_db(item_db(&k.deadlines.heap[i])) == db and (
                    is_joint(e) or element_entry(e).expiring & 1):
                n += 1
                sum += <double>max(key_deadline(k, e) - k.now, 0)
            i += step
        return expiring, <int64_t>(sum / n) if n else 0

    def subexpiring(self, uint32_t db=0):
        """Keys of a client's database with a field that has a deadline."""
        return self.k.db[db].subexpiring + self.k.db[HOME_DB + db].subexpiring

    def system_hash(self, bytes key not None):
        """{field: value} of a hash in the system's database."""
        cdef Kernel *k = &self.k
        cdef Element *e = key_find(k, SYSTEM_DB, span(key, len(key)))
        cdef Walk w
        cdef Span value
        out = {}
        if e == NULL or live_type(&self.k, e) != T_HASH:
            return out
        walk_shown(&w, k, e, WALK_FORWARDS)
        while walk_next(&w):
            value = walk_value(k, &w)
            out[w.name.p[:w.name.n]] = value.p[:value.n]
        walk_end(&w)
        return out

    def system_set(self, bytes key not None, fields not None):
        """Sets fields of a hash in the system's database, {field: value}, or removes those whose
        value is None: one op, or a part of the one that is being made. The owner sees to it that
        writes are let in. RuntimeError, with nothing done, where no op can be made of it."""
        cdef Kernel *k = &self.k
        cdef Span s = span(key, len(key))
        cdef Element *e
        cdef size_t size = sum(len(f) + len(v or b"") for f, v in fields.items())
        cdef int refused
        op_begin(k)
        if op_room(k, SYSTEM_DB, <uint32_t>len(fields) + 1, len(key), size):
            e = key_prepare(k, SYSTEM_DB, s, key_find(k, SYSTEM_DB, s), T_HASH)
            for field, value in fields.items():
                if value is None:
                    member_remove(k, SYSTEM_DB, s, e, T_HASH, span(field, len(field)))
                else:
                    member_set(k, SYSTEM_DB, s, e, T_HASH, span(field, len(field)),
                               span(value, len(value)))
                e = key_find(k, SYSTEM_DB, s)
        refused = k.open.refused
        op_end(k)
        if refused:
            raise RuntimeError("the op is too large, or a join is under way")

    @property
    def system_changes(self):
        """Grows with whatever may have changed in the system's database."""
        return self.k.system_changes

    @property
    def users_changes(self):
        """Grows with whatever may have changed in its hash of users."""
        return self.k.system_changes // USERS_CHANGE

    def digest(self):
        """32 hex digits, equal on two replicas exactly when their states are equal, metadata
        included but for tombstones. Cost: linear in the keyspace."""
        cdef uint64_t sum[2]
        with nogil:
            digest_kernel(&self.k, sum)
        return f"{sum[0]:016x}{sum[1]:016x}"

    def inspect(self, uint32_t db, bytes key):
        """The state of a key as a dict: writes (latest first, so the first is the winner), counter
        entries, deadline writes; None for no key."""
        cdef Element *e = key_find(&self.k, db, span(key, len(key)))
        cdef DeadlineRoom room
        cdef Cell *deadline
        cdef Collection *c
        if e == NULL:
            return None
        out = {"type": TYPE_NAMES[live_type(&self.k, e)], "visible": bool(key_visible(&self.k, e)),
               "writes": [], "counter_entries": [],
               "collections": {}, "deadline": key_deadline(&self.k, e), "deadlines": [],
               "memory": key_memory(&self.k, e)}
        if db < SYSTEM_DB and e == home_find(&self.k, db, span(key, len(key))):
            out["local"] = True         # no other replica has it,
            # but one of this name is there for all replicas, too
            out["hides"] = bool(key_visible(&self.k, key_in(&self.k, db, span(key, len(key)))))
        self.describe_value(e, out)
        if e.meta & E_ENTRY:
            deadline = deadline_cell(&self.k, e, &room)
            if deadline != NULL:
                self.describe(deadline, out["deadlines"], None)
            c = element_collections(&self.k, e)
            while c != NULL:
                if c.type == T_PATCHES:
                    out["patches"] = patched_of(c).n
                else:
                    out["collections"][TYPE_NAMES[c.type]] = {"live": c.live,
                                                              "elements": collection_size(c)}
                c = c.next
        return out

    def inspect_member(self, uint32_t db, bytes key, bytes name):
        """{type: {"writes", "counter entries"}} of a member of each collection under a key that has
        it; None for no key. A set's member has no time (0)."""
        cdef Element *e = key_find(&self.k, db, span(key, len(key)))
        cdef Element *m
        cdef Collection *c
        cdef uint32_t hash
        if e == NULL:
            return None
        out = {}
        c = element_collections(&self.k, e)
        while c != NULL:
            hash = key_hash(&self.k, name, len(name))
            if c.type == T_STREAM and len(name) == STREAM_ID:
                m = entry_find(&self.k, c, span(name, len(name)), hash)
            else:
                m = table_find(&c.table, name, len(name), hash)
            if m != NULL:
                out[TYPE_NAMES[c.type]] = {"writes": [], "counter_entries": []}
                self.describe_value(m, out[TYPE_NAMES[c.type]])
            c = c.next
        return out

    cdef describe_value(self, Element *e, dict out):
        cdef LoneRoom room
        cdef Cell *c
        if e.meta & E_PLAIN:
            out["writes"].append(self.write(e.dot, element_stamp(e), dot_slot(e.dot),
                                            e.meta & E_CLEARS, element_value(e)[:element_vlen(e)]))
        else:
            c = cell_of(e, &room)
            if c != NULL:
                self.describe(c, out["writes"], out["counter_entries"])

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
            row = self.write(w.dot, w.stamp, w.actor, w.flags & W_CLEARS, value)
            if w.flags & W_LOOSE:
                row["loose"] = True        # no SET made it: see core/patches.pxi
            rows.append(((not w.flags & W_LOOSE, w.stamp, self.k.actors.v[w.actor].rank), row))
            w = w.next
        writes += [row for _, row in sorted(rows, key=lambda r: r[0], reverse=True)]
        while t != NULL:
            counts.append({"actor": self.name(t.actor), "run": [t.run_seq, t.run_index],
                           "seq": t.seq, "total": number_text(&t.total),
                           "cancelled_seq": t.rare.cancelled_seq,
                           "cancelled": number_text(&t.rare.cancelled),
                           "tombstone": bool(is_tombstone(t))})
            t = t.next

    def conflicts(self, count=10):
        """The newest `count` (at most 128) concurrent writes that had to be decided, latest
        first."""
        cdef Kernel *k = &self.k
        return [self.conflict(&k.conflicts.ring[(k.conflicts.n - 1 - i) % CONFLICTS])
                for i in range(min(count, k.conflicts.n, CONFLICTS))]

    cdef dict conflict(self, const Conflict *c):
        secret = c.db == SYSTEM_DB and c.key[:c.key_n] == b"users"     # hashes of passwords
        sides = [{"actor": self.name(c.actor[j]), "ms": c.stamp[j] >> 16,
                  "counter": c.stamp[j] & 0xffff,
                  "value": b"(redacted)" if secret else conflict_text(c, j)} for j in range(2)]
        return {"ms": c.at, "db": c.db, "key": c.key[:c.key_n], "type": TYPE_NAMES[c.type],
                "name": c.name[:c.name_n], "winner": sides[0], "loser": sides[1]}

    def meetings(self, count=10):
        """Where most concurrent writes had to be decided since the start: `count` (at most 128)
        rows, that with most first."""
        cdef Kernel *k = &self.k
        cdef Meeting *m
        out = []
        for i in range(k.conflicts.met):
            m = &k.conflicts.meetings[i]
            names = [k.actors.v[m.replica[j]].replica.decode() for j in range(2)]
            at_most = k.conflicts.times[i]
            out.append({"conflicts": at_most, "over": m.over, "db": m.last.db,
                        "prefix": m.last.key[:m.prefix_n], "type": TYPE_NAMES[m.last.type],
                        "won": {names[0]: m.won, names[1]: at_most - m.over - m.won}
                               if names[0] != names[1] else {names[0]: at_most - m.over},
                        "lost_bytes": m.lost, "integers": m.numbers,
                        "latest": self.conflict(&m.last)})
        out.sort(key=lambda row: -row["conflicts"])
        return out[:count]

    def origins(self):
        """Where writes come from: how many were sampled, one of how many that is, and of each
        database and prefix (at most 128) what core/origins.pxi counts of them. by: of each
        replica; "" are all that are not told apart."""
        cdef Origins *all = &self.k.origins
        cdef Origin *row
        cdef uint32_t i, j
        rows = []
        for i in range(all.met):
            row = &all.rows[i]
            by = {self.k.actors.v[row.replica[j]].replica.decode(): row.by[j]
                  for j in range(row.replicas)}
            rows.append({"db": all.db[i], "prefix": row.prefix[:row.prefix_n],
                         "cut": row.prefix_n == MEETING_PREFIX, "sampled": row.n,
                         "by": by | ({"": row.others} if row.others else {}),
                         "inserts": row.inserts, "inside": row.inside, "longest": row.longest})
        return {"sampled": all.n, "one_in": ORIGIN_GAP, "rows": rows}

    def delays(self):
        """{replica: how late its ops were applied here}: ops, sum and most of their delays since
        the start, and counts as [(ms at most, ops)]: all; the window under way; the one before
        it. predicted: of the window under way, ms, or None; foretold: ops of windows before it
        for which there was a prediction; within: those that it held for. Times are ms."""
        cdef Kernel *k = &self.k
        cdef Delays *d
        cdef uint32_t i, j
        out = {}
        for i in range(k.delayed.n):
            d = &k.delayed.of[i]
            out[k.actors.v[k.delayed.replica[i]].replica.decode()] = {
                "ops": d.n, "sum": d.sum, "most": d.most, "since": d.since,
                "predicted": delay_bound(d.predicted) if d.predicted < DELAYS else None,
                "foretold": d.foretold, "within": d.within,
                "all": [(delay_bound(j), d.all[j]) for j in range(DELAYS) if d.all[j]],
                "window": [(delay_bound(j), d.window[j]) for j in range(DELAYS) if d.window[j]],
                "before": [(delay_bound(j), d.before[j]) for j in range(DELAYS) if d.before[j]]}
        return out

    def check(self):
        """Raises AssertionError when an invariant of the kernel does not hold. Cost: linear in the
        keyspace."""
        check_kernel(&self.k)



cdef bytes conflict_text(const Conflict *c, int side):
    """As a client knows it: a score is a number."""
    cdef double score
    if c.type != T_ZSET or c.n[side] != sizeof(double):
        return c.value[side][:c.n[side]]
    memcpy(&score, c.value[side], sizeof(double))
    return repr(score).removesuffix(".0").encode()


cdef bytes number_text(const Number *v):
    """As INCRBYFLOAT writes numbers, so rounded."""
    cdef char text[REAL_TEXT]
    cdef Sum s
    sum_zero(&s)
    sum_add_number(&s, v)
    return text[:format_long_double(sum_real(&s), text)]
