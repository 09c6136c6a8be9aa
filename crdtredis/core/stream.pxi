# The state given out and taken in, as Python sees it: records and their payloads.

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t

from crdtredis.buffer cimport Buffer, Span, buffer_free, span

from crdtredis.errors import DamagedState


cdef class StateWriter:
    """Walks through the state of a Replica that goes on working, from now on: each next() is one
    record of the stream, b"" behind the last.

    What is applied meanwhile, and what was when the walk began, are in the log; see above.
    """
    def __cinit__(self, Replica replica not None):
        self.replica = replica
        if has_ops(&replica.k):
            raise RuntimeError("there are ops that no log has")
        giving_begin(&self.g, &replica.k)

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
        with nogil:
            more = give(&self.g, most, &self.record, &at, &rest)
            if more:
                fits = self.record.n - at - RECORD_HEAD + rest.n <= RECORD_MAX
                if fits:
                    record_end(&self.record, at, rest)
        if not fits:
            raise OverflowError("an item of the state is larger than a record may be")
        if not more:
            return b""
        return (self.record.p[:self.record.n] + rest.p[:rest.n] if rest.n
                else self.record.p[:self.record.n])

    @property
    def over(self):
        """Whether the last record was given."""
        return self.g.stage == GIVING_OVER

    def counts(self):
        """(pieces, items) given so far."""
        return self.g.pieces, self.g.count


cdef class StateReader:
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

    def __dealloc__(self):
        taking_free(&self.t)

    def take(self, bytes payload not None):
        """DamagedState where the bytes are no message of this version that may come now; nothing
        of them has been put in."""
        cdef Span s = span(payload, len(payload))
        cdef int r
        with nogil:
            r = take(&self.t, s)
        if r == 0:
            raise DamagedState("a message that does not come next")
        if r < 0:
            raise DamagedState("no message of this version")

    @property
    def over(self):
        """Whether the end has come."""
        return self.t.stage == TAKING_OVER

    def clock(self):
        """{actor id: seq} of the giver as of the last message taken."""
        cdef uint32_t i
        return ({self.replica.k.actors.v[self.t.slots[i]].id: self.t.clock[i]
                for i in range(self.t.n) if self.t.clock[i]})

    def counts(self):
        """(pieces, items) taken so far."""
        return self.t.pieces, self.t.count
