# The state given out and taken in, as Python sees it: records and their payloads.

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MAX, int64_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from crdtredis.buffer cimport Buffer, Span, buffer_free, span

from crdtredis.errors import DamagedState


cdef void refuse_while_joining(Replica replica) except *:
    if replica.k.joining:
        raise RuntimeError("a state is being joined")


cdef class BucketDigests:
    """What two replicas compare before one gives the other its state: a digest of each bucket of
    keys (core/buckets.pxi) of a Replica that goes on working, from now on: step() until it says
    False, then result().

    tombstones: they count, as they must before a state is joined. Without them the digests of
    replicas that have applied the same ops are equal.
    """
    def __cinit__(self, Replica replica not None, bint tombstones=True):
        cdef Giving from_here
        refuse_while_joining(replica)
        if has_ops(&replica.k):
            raise RuntimeError("there are ops that no log has")
        self.replica = replica
        self.more = 1
        giving_begin(&from_here, &replica.k, 0)
        giving_tell(&from_here, &self.start)
        giving_free(&from_here)
        digesting_begin(&self.g, &replica.k, tombstones)

    def __dealloc__(self):
        digesting_free(&self.g)
        buffer_free(&self.start)

    def step(self, int64_t most=1000):
        """Goes on with about `most` elements; True while more are left. Cost: linear in `most`, and
        the values' bytes."""
        refuse_while_joining(self.replica)
        with nogil:
            self.more = digesting_step(&self.g, most)
        return bool(self.more)

    def result(self):
        """(16 bytes of digest by bucket, a bitmap of the unsure ones: those whose keys were changed
        since this was made)."""
        cdef uint32_t i
        if self.more:
            raise RuntimeError("the digests are not whole yet")
        unsure = bytearray(BUCKETS_MAP)
        for i in range(BUCKETS):
            if self.replica.k.touched.at[i] > self.g.begun:
                unsure[i >> 3] |= 1 << (i & 7)
        return (<char*>self.g.sums)[:BUCKETS * 16], bytes(unsure)

    def cursor(self):
        """For StateWriter: a stream that begins with the moment in which this was made."""
        return self.start.p[:self.start.n]


def bucket_map(digests, others):
    """A bitmap of the buckets that must be given, from the result() of both sides' BucketDigests:
    those that differ or are unsure. ValueError where one is none."""
    for sums, unsure in (digests, others):
        if len(sums) != BUCKETS * 16 or len(unsure) != BUCKETS_MAP:
            raise ValueError("no digests of buckets")
    asked = bytearray(a | b for a, b in zip(digests[1], others[1]))
    for i in range(BUCKETS):
        if digests[0][16 * i:16 * i + 16] != others[0][16 * i:16 * i + 16]:
            asked[i >> 3] |= 1 << (i & 7)
    return bytes(asked)


def key_bucket(uint32_t db, bytes key not None):
    """The number of a key's bucket, 0 to 4095: the same in every replica."""
    return bucket_of(db, span(key, len(key)))


@cython.no_gc_clear                        # whoever clears `replica` would not let go
cdef class PatchHold:
    """While it is there no patch of a string is folded (core/fold.pxi): a state is given, in
    however many walks."""
    def __cinit__(self, Replica replica not None):
        self.replica = replica
        replica.k.texts.giving += 1

    def __dealloc__(self):
        if self.replica is not None:
            self.replica.k.texts.giving -= 1

    def release(self):
        if self.replica is not None:
            self.replica.k.texts.giving -= 1
            self.replica = None


cdef class StateWriter:
    """Walks through the state of a Replica that goes on working, from now on: each next() is one
    record of the stream, b"" behind the last.

    buckets: a bitmap of those whose keys are given (bucket_map); None: all. cursor: where another
    StateWriter of this process was, which goes on here; or the beginning that BucketDigests noted.
    ValueError where it is none of this process. home: keys that stay at home are given, too, as
    only a checkpoint has them.

    What is applied meanwhile, and what was when the walk began, are in the log; see above.
    """
    def __cinit__(self, Replica replica not None, bytes buckets=None, bytes cursor not None=b"",
                  bint home=False):
        self.replica = replica
        refuse_while_joining(replica)
        if buckets is not None and len(buckets) != BUCKETS_MAP:
            raise ValueError("no bitmap of buckets")
        if cursor:
            if giving_resume(&self.g, &replica.k, span(cursor, len(cursor))) < 0:
                raise ValueError("no cursor of this process")
        elif has_ops(&replica.k):
            raise RuntimeError("there are ops that no log has")
        else:
            giving_begin(&self.g, &replica.k, home)
        self.hold = PatchHold(replica)
        if buckets is not None:
            self.g.some = 1
            memcpy(self.g.buckets, <const char*>buckets, BUCKETS_MAP)

    def __dealloc__(self):
        giving_free(&self.g)
        buffer_free(&self.record)

    def next(self, size_t most=PIECE):
        """The next record, of about `most` bytes, and one item more. Cost: linear in them, and a
        look at every actor. OverflowError where one item is more than a record holds: the walk is
        to be given up."""
        cdef Span rest
        cdef size_t at
        cdef int more, fits = 1
        refuse_while_joining(self.replica)
        with nogil:
            more = give(&self.g, most, &self.record, &at, &rest)
            if more:
                fits = self.record.n - at - RECORD_HEAD + rest.n <= RECORD_MAX
                if fits:
                    record_end(&self.record, at, rest)
        if not fits:
            raise OverflowError("an item of the state is larger than a record may be")
        if not more:
            self.hold.release()
            return b""
        return (self.record.p[:self.record.n] + rest.p[:rest.n] if rest.n
                else self.record.p[:self.record.n])

    def cursor(self):
        """Where the walk is, behind what next() gave last: for a StateWriter that goes on there, in
        this process, with the same buckets. Some bytes for each actor, and the name of a key that
        is walked in pieces."""
        cdef Buffer b
        memset(&b, 0, sizeof(Buffer))
        giving_tell(&self.g, &b)
        told = b.p[:b.n]
        buffer_free(&b)
        return told

    @property
    def over(self):
        """Whether the last record was given."""
        return self.g.stage == GIVING_OVER

    def counts(self):
        """(pieces, items) given so far."""
        return self.g.pieces, self.g.count


REFUSED_STATES = {
    TAKEN_NOT: "a message that does not come next",
    TAKEN_BAD: "no message of this version",
    TAKEN_ACTOR: "an actor that cannot be taken in, or an op of this process that it never made",
    TAKEN_AHEAD: "stamps that are further ahead of the clock than max_clock_skew",
    TAKEN_OTHER: "a key that was not asked for"}


cdef class StateTaker:
    """What those who take a stream of state have in common."""

    def __dealloc__(self):
        taking_free(&self.t)

    @property
    def over(self):
        """Whether the end has come."""
        return self.t.stage == TAKING_OVER

    def clock(self):
        """{actor id: seq} of the giver as of the last message taken."""
        cdef uint32_t i
        return ({self.replica.k.actors.v[self.t.slots[i]].id: self.t.clock[i]
                for i in range(self.t.n) if self.t.clock[i]})

    def start_clock(self):
        """{actor id: seq} of the giver as the stream began."""
        cdef uint32_t i
        return ({self.replica.k.actors.v[self.t.slots[i]].id: self.t.begin[i]
                for i in range(self.t.n) if self.t.begin[i]})

    def counts(self):
        """(pieces, items) taken so far."""
        return self.t.pieces, self.t.count


cdef class StateReader(StateTaker):
    """Puts a stream of state into a Replica that holds nothing yet: take() each of its messages,
    in order.

    The replica's clock is set when the stream has ended, to that of its beginning; until the ops
    that were logged since are applied too, it holds more than its clock says, and must make no op.
    If anything fails it is to be thrown away.
    """
    def __cinit__(self, Replica replica not None):
        self.replica = replica
        taking_begin(&self.t, &replica.k)
        if any(replica.keys(db)[1] for db in range(DATABASES)) or replica.clock_ids():
            raise ValueError("the replica holds something")

    def expect(self, elements):
        """elements: about how many the stream holds, as Replica.elements says; ahead of its first
        piece. Tables are then made as large as they will be."""
        cdef uint32_t db, n
        for db, n in enumerate(elements[:DATABASES]):
            if n > FEW and table_count(&self.replica.k.db[db].table) == 0:
                table_reserve(&self.replica.k.db[db].table, n)

    def take(self, bytes payload not None):
        """DamagedState where the bytes are no message of this version that may come now; nothing
        of them has been put in."""
        cdef Span s = span(payload, len(payload))
        cdef uint32_t db
        cdef int r
        with nogil:
            r = take(&self.t, s)
            while r == TAKEN and take_some(&self.t, INT64_MAX):
                pass
            pack_due(&self.replica.k, PACK_MOST)
            if r == TAKEN and self.t.stage == TAKING_OVER:
                taking_settle(&self.t)
                for db in range(DATABASES):
                    table_fit(&self.replica.k.db[db].table)
        if r != TAKEN:
            raise DamagedState(REFUSED_STATES[r])


cdef class StateCheck(StateTaker):
    """Looks at a stream of state that another replica sent, and at the ops that it logged
    meanwhile, before any of it is joined: take() each message, then tail() each Batch. What it
    accepts whole, StateJoin takes. Nothing of it is put in; but the actors that it names are
    declared.

    buckets: those that were asked for, None: all.
    """
    def __cinit__(self, Replica replica not None, bytes buckets=None):
        self.replica = replica
        refuse_while_joining(replica)
        taking_begin(&self.t, &replica.k)
        self.t.looks = 1
        ask_for(&self.t, buckets)

    def take(self, bytes payload not None):
        """DamagedState where the message may not come now, or cannot be joined: the text says why.
        Cost: linear in the bytes."""
        cdef Span s = span(payload, len(payload))
        cdef int r
        with nogil:
            r = take(&self.t, s)
        if r != TAKEN:
            raise DamagedState(REFUSED_STATES[r])

    def tail(self, bytes batch not None):
        """A Batch of what the giver logged since the stream began, in its order, behind the End;
        ops that are known may be among it. DamagedState as above."""
        take_batch(self, batch)

    def clock(self):
        """{actor id: seq} of the giver as of the last message or Batch taken."""
        clock = StateTaker.clock(self)
        for id, seq in tail_clock(self).items():
            clock[id] = max(clock.get(id, 0), seq)
        return clock

    @property
    def whole(self):
        """Whether the end has come, and all ops that the giver applied till then."""
        tail = tail_clock(self)
        return self.over and all(seq <= tail.get(id, 0)
                                 for id, seq in StateTaker.clock(self).items())


cdef class StateJoin(StateTaker):
    """Joins a stream of state with what a Replica holds: take() each message, and where that says
    True step() until it says False; when `over`, apply() each Batch of the giver's ops since; then
    finish(). See core/join.pxi.

    From the first to the last of these the replica makes no op and receives none; it can be read
    all the time. What is taken has been looked at by a StateCheck: if anything fails, or this is
    not finished, the replica is to be thrown away.

    buckets: those that were asked for; of the others nothing goes.
    """
    def __cinit__(self, Replica replica not None, bytes buckets=None):
        self.replica = replica
        refuse_while_joining(replica)
        if has_ops(&replica.k):
            raise RuntimeError("there are ops that no log has")
        taking_begin(&self.t, &replica.k)
        ask_for(&self.t, buckets)
        replica.k.joining = 1

    def take(self, bytes payload not None, int64_t most=1000):
        """A message; True while step() has to go on with it. DamagedState where it is none that may
        come now: nothing of it has been put in. Cost: a look at all of its bytes, and about `most`
        elements."""
        cdef Span s = span(payload, len(payload))
        cdef int r
        if self.more:
            raise RuntimeError("the message before is not done")
        with nogil:
            r = take(&self.t, s)
        if r != TAKEN:
            raise DamagedState(REFUSED_STATES[r])
        self.payload = payload
        return self.step(most)

    def step(self, int64_t most=1000):
        """Goes on with about `most` elements; True while more are left. Behind the End: with those
        that no piece has named."""
        with nogil:
            self.t.join.most = most
            if self.t.stage == TAKING_OVER:
                self.more = joining_tidy(&self.t.join)
            else:
                self.more = take_some(&self.t, most)
        return bool(self.more)

    def apply(self, bytes batch not None):
        """A Batch of what the giver logged since the stream began, in its order; ops that are known
        may be among it. DamagedState: it is none. Cost: that of its ops."""
        if self.more or not self.over or not self.replica.k.joining:
            raise RuntimeError("the state is not joined yet")
        settle(self)
        take_batch(self, batch)

    def finish(self):
        """The join is over: the clock is what both had, and ops may be made and received. What is
        joined is in no log of this replica. RuntimeError where it is not over."""
        cdef Kernel *k = &self.replica.k
        cdef uint32_t i
        if self.more or not self.over or not k.joining:
            raise RuntimeError("the state is not joined yet")
        settle(self)
        for i in range(k.actors.n):        # ops made here will name them
            if k.actors.v[i].applied:
                declare(k, <uint16_t>i)
        for i in range(self.t.n):
            declare(k, self.t.slots[i])
        k.joining = 0
        texts_loaded(k)
        k.system_changes += 1 + USERS_CHANGE
        self.replica.bar()


cdef int ask_for(Taking *t, bytes buckets) except -1:
    if buckets is None:
        return 0
    if len(buckets) != BUCKETS_MAP:
        raise ValueError("no bitmap of buckets")
    t.join.some = 1
    memcpy(t.join.buckets, <const char*>buckets, BUCKETS_MAP)
    return 0


cdef int settle(StateJoin join) except -1:
    """Once, before the first op: from then on the clock may be ahead of the stream's beginning."""
    taking_settle(&join.t)
    return 0


cdef int take_batch(StateTaker taker, bytes batch) except -1:
    cdef Span s = span(batch, len(batch))
    cdef int r = TAKEN_NOT
    if taker.t.stage == TAKING_OVER:
        with nogil:
            r = take_tail(&taker.t, s)
    if r != TAKEN:
        taker.t.stage = TAKING_BROKEN
        raise DamagedState(REFUSED_STATES[r])
    return 0


cdef dict tail_clock(StateTaker taker):
    cdef uint32_t i
    return {taker.replica.k.actors.v[i].id: vector_get(&taker.t.tail, <uint16_t>i)
            for i in range(taker.replica.k.actors.n) if vector_get(&taker.t.tail, <uint16_t>i)}
