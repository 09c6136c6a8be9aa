# What an iteration made: to the log, then to the sync thread, with the results of what that handed
# in.
#
# Should the log fail, it keeps the record for its next file. Until that is open, writes are
# refused, and ops from peers and the active expiry of keys are left for later.

from libc.stdio cimport snprintf
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset, strerror

from crdtredis._core cimport (LOG_FAILED, LOG_OPEN, PENDING_SLICE, RECEIVED_UNLOGGED, RECORD_FULL,
                              RECORD_HEAD, WITNESS_SEQ, Actor, has_ops, leave_home, receive,
                              record_end, retry_pending, take_record)
from crdtredis.buffer cimport (Buffer, Span, buffer_add, buffer_free, buffer_need, need_memory,
                               span)
from crdtredis.errors cimport LOG_NOT_WRITTEN

cdef enum:
    RECEIVE_US = 2000       # time for peers' ops in an iteration
    PIECE_OF_MESSAGES = 256 << 10       # bytes, unless one is larger


cdef class Journal:
    def __cinit__(self, Executor executor, SegmentWriter log, Bridge bridge):
        self.d = &executor.d
        self.log = log
        self.bridge = bridge

    def __dealloc__(self):
        cdef uint32_t i
        buffer_free(&self.record.buf)
        for i in range(self.owed_n):
            give_back(self.owed[i].message)
        free(self.owed)


# ---- from the sync thread ------------------------------------------------------------------------

cdef void receive_messages(Journal self) noexcept nogil:
    """What may leave the causal buffer goes before what has just come: so that it does not
    grow while there is no time for both."""
    cdef uint64_t begun = cycles()
    cdef uint64_t most = <uint64_t>(RECEIVE_US * self.d.stopwatch.per_usec)
    cdef uint64_t count
    cdef Message *b
    if self.signalled:
        self.signalled = 0
        read(self.bridge.engine_fd, &count, 8)
    self.more = 1
    while self.more:
        if messages_pend(&self.d.abroad):
            return
        if self.d.guard & GUARD_MISCONF or not retry_pending(self.d.kernel, PENDING_SLICE):
            b = self.bridge.take() if self.bridge is not None else NULL
            if b != NULL:
                receive_message(self, b)
            else:
                self.more = 0
        if self.d.kernel.notices.on:
            notify_others(self.d)
        if cycles() - begun > most or iteration_is_full(self.d):
            return


cdef void receive_message(Journal self, Message *b) noexcept nogil:
    cdef int status = RECEIVED_UNLOGGED
    if b.kind == MESSAGE_HEARD:
        take_heard(self.d, b.bytes, b.n)
        status = 0
    elif b.kind == MESSAGE_INTEREST:
        hear_changes(self.d, b.bytes, b.n)
        status = 0
    elif not self.d.guard & GUARD_MISCONF:
        # the message stays until log_ops, in this very iteration
        self.d.kernel.inbox.lending = not self.d.guard & GUARD_LOADING
        status = receive(self.d.kernel, b.bytes, b.n)
        self.d.kernel.inbox.lending = 0
    if self.owed_n == self.owed_cap:
        self.owed_cap = self.owed_cap * 2 if self.owed_cap else 16
        self.owed = <Owed*>need_memory(realloc(self.owed, sizeof(Owed) * self.owed_cap))
    self.owed[self.owed_n].message = b
    self.owed[self.owed_n].status = status
    self.owed_n += 1


# ---- to the log ----------------------------------------------------------------------------------

cdef int log_ops(Journal self, size_t record_limit) noexcept nogil:
    """They are several records where they are many, and the sync thread is given each by itself:
    neither holds more at a time than a record or one op."""
    cdef Record *r = &self.record
    cdef Span head
    cdef uint64_t newest = self.d.kernel.actors.v[self.d.kernel.me].applied
    cdef int own = newest != self.own_logged
    cdef int logged = 1
    cdef Buffer shared
    memset(&shared, 0, sizeof(Buffer))
    self.own_logged = newest
    if self.log is not None and self.log.witness != NULL:
        self.log.witness[WITNESS_SEQ] = newest      # before any of it can be given out
    while take_record(self.d.kernel, r, record_limit):
        record_end(&r.buf, r.at, r.rest)
        head = span(r.buf.p + r.at, r.buf.n - r.at)
        if self.log is not None and self.log.append(head, r.rest, self.d.kernel.outbox.n > 0) != 0:
            logged = 0
        elif self.bridge is not None and self.bridge.wanted:
            head = span(head.p + RECORD_HEAD, head.n - RECORD_HEAD)
            if r.home:
                leave_home(head, &shared)
                if shared.n:
                    self.bridge.put_ops(shared.p, shared.n, own)
                buffer_free(&shared)
            elif r.rest.n:
                self.bridge.put_received(head, r.rest, message_of(self, r.rest.p))
            elif r.large:
                self.bridge.put_large(&r.buf, r.at + RECORD_HEAD, own)
            else:
                self.bridge.put_ops(head.p, head.n, own)
    if r.buf.cap > 2 * RECORD_FULL:
        buffer_free(&r.buf)
    return logged


cdef void give_messages(Journal self) noexcept nogil:
    """Behind the ops. What cannot be logged now will be sent later, and messages do not wait."""
    cdef Abroad *a = &self.d.abroad
    cdef Actor *newest = newest_own(self.d.kernel)
    cdef uint64_t head[2]
    cdef const char *p = a.out.p
    cdef const char *end = p + a.out.n
    cdef const char *begin
    cdef Message *b
    cdef Span channel, message
    cdef int kind
    head[0] = newest.id
    head[1] = newest.applied
    while p < end:
        begin = p
        while p - begin < PIECE_OF_MESSAGES and next_message(&p, end, &kind, &channel, &message):
            pass
        if (self.bridge is None or self.d.guard & GUARD_MISCONF
                or not self.bridge.has_room(p - begin)):
            a.dropped += count_messages(begin, p - begin)
            continue
        b = new_message(MESSAGE_PUBLISHED, 0, <char*>head, 16, 16 + (p - begin))
        memcpy(b.bytes + 16, begin, p - begin)
        b.n += p - begin
        self.bridge.put(b, 1)
    a.out.n = 0
    if a.out.cap > 2 * RECORD_FULL:
        buffer_free(&a.out)
    give_changes(self, &a.whole, &a.changes, MESSAGE_LISTENS, list_topics)
    give_changes(self, &self.d.consumers.whole, &self.d.consumers.changes, MESSAGE_CONSUMERS,
                 list_consumed)


cdef void give_changes(Journal self, int *whole, Buffer *changes, int kind,
                       void (*list_all)(Dispatch *d, Buffer *b) noexcept nogil) noexcept nogil:
    """All of it anew, or what has changed; while the last of this kind is not fetched, it waits."""
    cdef Buffer b
    cdef Message *m
    if not (whole[0] or changes.n) or self.bridge is None or self.bridge.untaken >> kind & 1:
        return
    memset(&b, 0, sizeof(Buffer))
    buffer_need(&b, 1)[0] = <char>whole[0]
    b.n = 1
    if whole[0]:
        list_all(self.d, &b)
    else:
        buffer_add(&b, changes.p, changes.n)
    whole[0] = 0
    changes.n = 0
    m = new_message(kind, 0, NULL, b.n)
    m.owned = m.bytes = b.p
    self.bridge.put(m, 1)


cdef void give_results(Journal self, int logged) noexcept nogil:
    cdef uint32_t i
    for i in range(self.owed_n):
        self.bridge.put_result(self.owed[i].message,
                               self.owed[i].status if logged else RECEIVED_UNLOGGED)
    self.owed_n = 0


cdef Message *message_of(Journal self, const char *p) noexcept nogil:
    """The RECEIVE of this iteration in whose bytes p lies."""
    cdef Owed *o = self.owed
    while not o.message.bytes <= p < o.message.bytes + o.message.n:
        o += 1
    return o.message


cdef void check_log(Journal self) noexcept nogil:
    if self.log is None:
        return
    if self.log.state == LOG_FAILED:
        if not self.d.guard & GUARD_MISCONF:
            snprintf(self.d.misconf, sizeof(self.d.misconf), LOG_NOT_WRITTEN,
                     strerror(self.log.error))
            self.d.guard |= GUARD_MISCONF
    elif self.d.guard & GUARD_MISCONF and self.log.state == LOG_OPEN:
        self.d.guard &= ~<uint32_t>GUARD_MISCONF
        if self.bridge is not None and self.bridge.wanted:
            # what waited is in the log now
            self.bridge.put(new_message(MESSAGE_GAP, 0, NULL, 0), 1)


cdef int unlogged(Journal self) noexcept nogil:
    return has_ops(self.d.kernel) or self.owed_n
