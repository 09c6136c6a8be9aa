# The causal buffer: received ops that may not be applied yet. Which ones may be by now, without
# looking at the others?
#
# Ops of one actor are applied in order, so of each actor only the next op matters, and it waits for
# one thing at a time:
#
#     its predecessor          nothing is noted: whoever applies an op looks whether the next one is
#                              here
#     an op of another actor   the first that its deps name and that is missing: its actor is put
#                              into that other actor's heap, by the seq that is waited for; when an
#                              op with that seq is applied, it is taken out and looked at again
#     the clock on the wall    its actor is in the heap of those, by the time of the op
#
# So an op comes in at the cost of a look-up (a table by dot: the ops of one actor are in no order),
# and leaves at that of two. Nothing is ever looked at in vain: an op that is applied wakes exactly
# those whose wait is over. The heaps are pairing heaps that link the actors themselves, so they
# take no memory and an actor is in one of them at most.
#
# What is woken stands in a queue, and `retry_pending` works on it for as many bytes as its caller
# grants: one op that was missing can set a million free, and they are then applied over many
# iterations of the loop.
#
# The room is bounded in bytes, and one actor may take half of it: so one replica whose ops nobody
# may apply (its clock is wrong, or what they depend on is nowhere to be had) does not keep the
# others' from waiting their moment. Ops that need not wait are taken in however full it is, which
# is what empties it.
#
# Invariant, between two calls: an op in the room has a seq above what is applied of its actor; an
# actor is BLOCKED or HELD exactly if its next op is here, is not READY, and that is what it waits
# for (Replica.check).

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, copy_span, span

cdef enum Blocked:
    BLOCKED_UNDECLARED = -2   # its deps name an actor that nobody declared
    BLOCKED_BAD = -1        # its deps are not what the format says
    BLOCKED_NOT = 0         # may be applied
    BLOCKED_BY_OWN = 1      # an earlier op of its actor is missing, or it is barred or beyond
    BLOCKED_BY_OTHER = 2    # an op of another actor is
    BLOCKED_BY_TIME = 3     # it is stamped too far ahead of the clock on the wall


cdef inline int64_t latest_stamp(Kernel *k) noexcept nogil:
    """ms: stamps beyond are too far ahead. With stamps accepted up to some time it is as if the
    clock were there already."""
    return max(k.now, k.inbox.accepted) + k.inbox.max_skew


cdef int stamps_run_ahead(Kernel *k) noexcept nogil:
    """A stamp made here is above all that were seen, so a clock that has once been wrong, here or
    where an accepted stamp came from, leaves its mark on every later one. That agrees with
    causality, and without it a deadline that has been replaced could win again. So neither are such
    stamps made smaller, nor is more of them made: it is for people to say which time holds."""
    return <int64_t>(k.newest_stamp >> 16) > latest_stamp(k)


cdef inline int is_refused(const Actor *x, uint64_t seq) noexcept nogil:
    """Has the replica that made it gone on as another actor, and been agreed to have made less?"""
    return x.frozen and seq >= x.frozen


cdef int blocked(Kernel *k, uint16_t slot, const OpHead *h, uint16_t *of,
                 uint64_t *until) noexcept nogil:
    """What an op waits for, a Blocked. BY_OTHER: for op `until` of the actor `of`; BY_TIME: for the
    ms `until`."""
    cdef const char *p = h.deps.p
    cdef uint64_t actor, seq
    cdef uint16_t at
    cdef int r, result = BLOCKED_NOT
    while True:
        r = decode_dep(&p, h.deps.p + h.deps.n, &actor, &seq)
        if r == 0:
            break
        at = actors_find(&k.actors, actor)
        if r < 0 or at == slot:
            return BLOCKED_BAD
        if at == NO_SLOT:
            return BLOCKED_UNDECLARED
        if result == BLOCKED_NOT and k.actors.v[at].applied < seq:
            result = BLOCKED_BY_OTHER
            of[0] = at
            until[0] = seq
    if is_refused(&k.actors.v[slot], h.seq):
        return BLOCKED_BY_OWN
    if (h.seq != k.actors.v[slot].applied + 1
            or h.seq <= vector_get(&k.inbox.barred, slot)):
        return BLOCKED_BY_OWN
    if (result == BLOCKED_NOT and not k.inbox.recovering
        and <int64_t>(h.stamp >> 16) > latest_stamp(k)):
        until[0] = h.stamp >> 16
        return BLOCKED_BY_TIME
    return result


# ---- heaps of actors -----------------------------------------------------------------------------

cdef uint16_t heap_join(Actors *a, uint16_t x, uint16_t y) noexcept nogil:
    """The root of both heaps in one."""
    if x == 0 or y == 0:
        return x | y
    if a.v[y - 1].backlog.until < a.v[x - 1].backlog.until:
        x, y = y, x
    a.v[y - 1].backlog.next = a.v[x - 1].backlog.child
    a.v[x - 1].backlog.child = y
    return x


cdef uint16_t heap_rest(Actors *a, uint16_t root) noexcept nogil:
    """The root without it: its children joined in pairs from the first on, and the pairs from the
    last back."""
    cdef uint16_t at = a.v[root - 1].backlog.child
    cdef uint16_t pairs = 0
    cdef uint16_t x, y
    a.v[root - 1].backlog.child = 0
    while at:
        x = at
        y = a.v[x - 1].backlog.next
        at = a.v[y - 1].backlog.next if y else 0
        x = heap_join(a, x, y)
        a.v[x - 1].backlog.next = pairs
        pairs = x
    at = 0
    while pairs:
        x = pairs
        pairs = a.v[x - 1].backlog.next
        at = heap_join(a, at, x)
    if at:
        a.v[at - 1].backlog.next = 0
    return at


# ---- in and out ----------------------------------------------------------------------------------

cdef Element *pending_find(Kernel *k, uint16_t slot, uint64_t seq) noexcept nogil:
    cdef uint64_t dot = make_dot(slot, seq)
    if k.actors.v[slot].backlog.n == 0:
        return NULL
    return table_find(&k.pending.ops, <const char*>&dot, sizeof(dot),
                      key_hash(k, <const char*>&dot, sizeof(dot)))


cdef inline size_t pending_size(size_t n) noexcept nogil:
    """Bytes that an op of n bytes takes in the room."""
    return sizeof(Element) + sizeof(uint64_t) + n + 2 * sizeof(uint64_t)


cdef int pending_is_full(Kernel *k, uint16_t slot, size_t n) noexcept nogil:
    """Is there no room for one more op of n bytes? For what this replica's own log holds there
    always is: nobody would send it again."""
    cdef size_t size = pending_size(n)
    return not k.inbox.recovering and (
        k.pending.bytes + size > k.pending.limit
        or k.actors.v[slot].backlog.bytes + size > k.pending.limit // PENDING_SHARE)


cdef void pending_put(Kernel *k, uint16_t slot, uint64_t seq, Span raw) noexcept nogil:
    cdef Backlog *b = &k.actors.v[slot].backlog
    cdef uint64_t dot = make_dot(slot, seq)
    cdef Span key = span(<const char*>&dot, sizeof(dot))
    cdef Element *m = element_new(k, key, key_hash(k, key.p, key.n), E_MEMBER | E_PLAIN, raw.n)
    copy_span(element_value(m), raw)
    table_add(&k.pending.ops, m, m.hash)
    k.pending.bytes += pending_size(raw.n)
    b.bytes += pending_size(raw.n)
    b.n += 1
    k.pending.held_ops += b.state == BACKLOG_HELD


cdef void pending_take(Kernel *k, uint16_t slot, Element *m) noexcept nogil:
    """Of an actor that is READY."""
    cdef Backlog *b = &k.actors.v[slot].backlog
    k.pending.bytes -= pending_size(element_vlen(m))
    b.bytes -= pending_size(element_vlen(m))
    b.n -= 1
    table_remove(&k.pending.ops, m)
    element_free(m)


# ---- waiting and waking --------------------------------------------------------------------------

cdef void look_at(Kernel *k, uint16_t slot) noexcept nogil:
    """Puts an actor that is in no heap at the end of the queue."""
    cdef Backlog *b = &k.actors.v[slot].backlog
    if b.state == BACKLOG_READY:
        return
    b.state = BACKLOG_READY
    b.next = 0
    if k.pending.ready == 0:
        k.pending.ready = slot + 1
    else:
        k.actors.v[k.pending.ready_last - 1].backlog.next = slot + 1
    k.pending.ready_last = slot + 1


cdef void put_off(Kernel *k, uint16_t slot, int why, uint16_t of, uint64_t until) noexcept nogil:
    """An actor that is in no heap and not in the queue: its next op is here and waits."""
    cdef Backlog *b = &k.actors.v[slot].backlog
    b.until = until
    b.next = b.child = 0
    if why == BLOCKED_BY_TIME:
        b.state = BACKLOG_HELD
        k.pending.held = heap_join(&k.actors, k.pending.held, slot + 1)
        k.pending.held_ops += b.n
    else:
        b.state = BACKLOG_BLOCKED
        k.actors.v[of].backlog.blocked = heap_join(&k.actors, k.actors.v[of].backlog.blocked,
                                                   slot + 1)


cdef void wake(Kernel *k, uint16_t slot) noexcept nogil:
    """After an op of an actor was applied: whose next op may be applied by now?"""
    cdef Backlog *b = &k.actors.v[slot].backlog
    cdef uint16_t first
    while b.blocked and k.actors.v[b.blocked - 1].backlog.until <= k.actors.v[slot].applied:
        first = b.blocked
        b.blocked = heap_rest(&k.actors, first)
        k.actors.v[first - 1].backlog.state = BACKLOG_IDLE
        look_at(k, first - 1)
    if b.n and b.state == BACKLOG_IDLE:
        look_at(k, slot)


cdef void gather_waiting(void *arg, Element *m) noexcept nogil:
    """A TableVisit."""
    buffer_add(<Buffer*>arg, &m, sizeof(Element*))


cdef void pending_settle(Kernel *k) noexcept nogil:
    """After the clock has moved without ops being applied one by one, or what was barred may come:
    lets go of the ops that are known by now, and has all others looked at. Cost: linear in those
    that wait, and the actors."""
    cdef Actors *a = &k.actors
    cdef Buffer all
    cdef Element *m
    cdef uint64_t dot
    cdef uint32_t i
    memset(&all, 0, sizeof(Buffer))
    table_walk(&k.pending.ops, gather_waiting, &all)
    for i in range(a.n):
        a.v[i].backlog.state = BACKLOG_IDLE
        a.v[i].backlog.next = a.v[i].backlog.child = a.v[i].backlog.blocked = 0
    k.pending.held = k.pending.ready = 0
    k.pending.held_ops = 0
    for i in range(<uint32_t>(all.n // sizeof(Element*))):
        m = (<Element**>all.p)[i]
        memcpy(&dot, element_key(m), sizeof(dot))
        if dot_seq(dot) <= a.v[dot_slot(dot)].applied:
            pending_take(k, dot_slot(dot), m)
    buffer_free(&all)
    for i in range(a.n):
        if a.v[i].backlog.n:
            look_at(k, <uint16_t>i)
