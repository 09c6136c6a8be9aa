# Messages from and to other replicas: when are they given out?
#
# A message must not be heard before the writes that its replica had made:
#
#     A: SET k v; PUBLISH ch k     C has the message  ->  GET k at C is v
#
# It comes with actor and seq of its replica's newest op, be it from before a restart, and waits
# here until that op is applied, which may itself wait for ops of other replicas. Messages of one
# replica stay in order: seqs only grow.
# The waiting is bounded in bytes, number and time; what is beyond is dropped and counted, for
# messages are sent at most once. A batch of very many messages is given out in several iterations,
# what is left of it waits like the others.

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from crdtredis._core cimport NO_SLOT, Actor, Kernel, actors_find
from crdtredis.buffer cimport Span, need_memory, span
from crdtredis.glob cimport GLOB_STEPS


cdef int is_applied(Dispatch *d, uint64_t actor, uint64_t seq) noexcept nogil:
    cdef uint16_t slot
    if seq == 0:
        return 1
    slot = actors_find(&d.kernel.actors, actor)
    return slot != NO_SLOT and d.kernel.actors.v[slot].applied >= seq


cdef enum:
    GIVE_US = 1000          # of an iteration, for messages: before and behind its ops


cdef inline uint64_t give_until(Dispatch *d) noexcept nogil:
    return cycles() + <uint64_t>(GIVE_US * d.stopwatch.per_usec)


cdef size_t give_out(Dispatch *d, const char *p, size_t n, uint64_t until) noexcept nogil:
    """How many bytes are left."""
    cdef const char *end = p + n
    cdef Span channel, message
    cdef int kind
    while next_message(&p, end, &kind, &channel, &message):
        d.abroad.received += 1
        publish(d, NULL, kind, channel, message)
        if cycles() >= until:
            return <size_t>(end - p)
    return 0


cdef uint64_t count_messages(const char *p, size_t n) noexcept nogil:
    cdef const char *end = p + n
    cdef Span channel, message
    cdef uint64_t count = 0
    cdef int kind
    while next_message(&p, end, &kind, &channel, &message):
        count += 1
    return count


cdef int messages_pend(const Abroad *a) noexcept nogil:
    return a.more and (a.parked_n > PARKED_MOST // 2 or a.parked_bytes > PARKED_BYTES // 2)


cdef void take_heard(Dispatch *d, const char *p, size_t n) noexcept nogil:
    cdef Abroad *a = &d.abroad
    cdef Parked *w
    cdef uint64_t head[2]
    cdef size_t left
    cdef int waits = 0
    if n < 16:
        return
    if a.parked != NULL:
        release_parked(d)                               # what was sent before comes before
    memcpy(head, p, 16)
    p += 16
    n -= 16
    w = a.parked
    while w != NULL:
        if w.actor == head[0]:
            waits = 1
            head[1] = max(head[1], w.seq)       # behind it in any case
        w = w.next
    if not waits and is_applied(d, head[0], head[1]):
        left = give_out(d, p, n, give_until(d))
        if left == 0:
            return
        a.more = 1
        p += n - left
        n = left
    # What waits for time alone is not dropped: no more than this is taken then (messages_pend).
    # Nor is the first, which may be one message of the longest.
    if not a.more and a.parked_n and (a.parked_n == PARKED_MOST
                                      or a.parked_bytes + n > PARKED_BYTES):
        a.dropped += count_messages(p, n)
        return
    w = <Parked*>need_memory(malloc(sizeof(Parked) + n))
    w.next = NULL
    w.actor = head[0]
    w.seq = head[1]
    w.until = d.steady + PARKED_MS
    w.n = w.left = n
    memcpy(<char*>w + sizeof(Parked), p, n)
    if a.parked == NULL:
        a.parked = w
    else:
        a.parked_last.next = w
    a.parked_last = w
    a.parked_n += 1
    a.parked_bytes += n


cdef void release_parked(Dispatch *d) noexcept nogil:
    cdef Abroad *a = &d.abroad
    cdef Parked **at = &a.parked
    cdef Parked *w
    cdef uint64_t until = give_until(d)
    a.parked_last = NULL
    a.more = 0
    while at[0] != NULL:
        w = at[0]
        if not a.more and is_applied(d, w.actor, w.seq):
            w.left = give_out(d, <char*>w + sizeof(Parked) + w.n - w.left, w.left, until)
            a.more = cycles() >= until
        elif not a.more and d.steady >= w.until:
            a.dropped += count_messages(<char*>w + sizeof(Parked), w.n)
            w.left = 0
        if w.left:
            a.parked_last = w
            at = &w.next
            continue
        at[0] = w.next
        a.parked_n -= 1
        a.parked_bytes -= w.n
        free(w)
    a.more = a.more and a.parked != NULL


cdef void list_topics(Dispatch *d, Buffer *b) noexcept nogil:
    cdef Topic *t
    cdef uint32_t i
    for i in range(d.pubsub.topic_mask + 1 if d.pubsub.topic_n else 0):
        t = d.pubsub.topics[i]
        while t != NULL:
            if not is_own_event(topic_name(t)):
                add_change(b, <int>t.kind, topic_name(t), 1)
            t = t.next


cdef Actor *newest_own(Kernel *k) noexcept nogil:
    """After a restart it is a former one at first."""
    cdef Actor *found = &k.actors.v[k.me]
    cdef Actor *other
    cdef uint32_t i
    for i in range(k.actors.n if found.applied == 0 else 0):
        other = &k.actors.v[i]
        if (other.applied and other.replica_slot == found.replica_slot and i != k.home.slot
                and (found.applied == 0 or other.epoch > found.epoch)):
            found = other
    return found


cdef void parked_free(Dispatch *d) noexcept nogil:
    cdef Parked *w
    while d.abroad.parked != NULL:
        w = d.abroad.parked
        d.abroad.parked = w.next
        free(w)


# ---- for the sync thread -------------------------------------------------------------------------

def select_messages(bytes batch not None, set ids not None, list patterns not None):
    """Of a batch of messages those that somebody listens to who named these topic_ids and patterns:
    (the batch of them, how many)."""
    cdef const char *begin = batch
    cdef const char *p = begin
    cdef const char *end = p + len(batch)
    cdef const char *from_ = p
    cdef Span channel, message
    cdef bytes pattern
    cdef uint64_t id
    cdef int64_t left
    cdef int kind
    cdef Py_ssize_t n = 0, all_n = 0
    parts = []
    while next_message(&p, end, &kind, &channel, &message):
        all_n += 1
        memcpy(&id, from_, 8)
        wanted = id in ids
        left = GLOB_STEPS
        if not wanted and kind == TOPIC_CHANNEL:
            for pattern in patterns:
                if matches_one(span(pattern, <size_t>len(pattern)), channel, &left):
                    wanted = True
                    break
        if wanted:
            parts.append(from_[:p - from_])
            n += 1
        from_ = p
    return (batch if n == all_n and p == end else b"".join(parts)), n
