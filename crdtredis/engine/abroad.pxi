# What other replicas listen to, and what is to be sent to them.
#
# Each replica tells its peers which channels and patterns somebody listens to there, so that no
# message crosses the wire that nobody would hear. Of a channel they are told a hash of 64 bits, the
# same for all; two channels of one hash cost a message in vain. What has begun and ceased is told
# as changes:
#
#     change = [1: begun, 0: ceased][TopicKind][of a pattern: bytes of text, u32; text
#               / of a channel: topic_id, u64]
#
# A message goes to the sync thread at the end of the iteration, behind the iteration's ops, and is
# encoded as
#
#     message = [topic_id, u64][bytes of channel, u32][bytes of message, u32][TopicKind][channel]
#               [message]
#
# Little endian all. Keyspace notifications are fired by each replica for itself, so their channels
# stay at home, and so do those that match pubsub_local.

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

from crdtredis._core cimport key_hash, siphash64
from crdtredis.buffer cimport (Buffer, Span, buffer_add, buffer_free, buffer_need, copy_span,
                               need_memory, span)
from crdtredis.glob cimport GLOB_STEPS, glob_match

cdef enum:
    HEARD_CHAINS = 64


cdef uint64_t topic_id(int kind, Span name) noexcept nogil:
    cdef uint64_t key[2]
    key[0] = <uint64_t>0x6372647463686e6c
    key[1] = <uint64_t>kind
    return siphash64(name.p, name.n, key)


cdef int is_own_event(Span name) noexcept nogil:
    return name.n >= 11 and (memcmp(name.p, <const char*>"__keyspace@", 11) == 0
                             or memcmp(name.p, <const char*>"__keyevent@", 11) == 0)


cdef int matches_one(Span pattern, Span name, int64_t *left) noexcept nogil:
    """As in Redis, "*" is not special here: it does not match the empty name."""
    return glob_match(pattern.p, pattern.n, name.p, name.n, 0, left)


# ---- what is listened to here --------------------------------------------------------------------

cdef void add_change(Buffer *b, int kind, Span name, int begun) noexcept nogil:
    cdef char *p
    cdef uint32_t n = <uint32_t>name.n
    cdef uint64_t id
    p = buffer_need(b, 14 + name.n)
    p[0] = <char>begun
    p[1] = <char>kind
    if kind == TOPIC_PATTERN:
        memcpy(p + 2, &n, 4)
        copy_span(p + 6, name)
        b.n += 6 + name.n
    else:
        id = topic_id(kind, name)
        memcpy(p + 2, &id, 8)
        b.n += 10


cdef void note_topic(Dispatch *d, int kind, Span name, int begun) noexcept nogil:
    """Where changes are many and nobody fetches them, all will be told anew."""
    if not d.abroad.tell or d.abroad.whole or is_own_event(name):
        return
    if d.abroad.changes.n > CHANGES_MOST:
        d.abroad.whole = 1
        buffer_free(&d.abroad.changes)
        return
    add_change(&d.abroad.changes, kind, name, begun)


# ---- what is listened to abroad ------------------------------------------------------------------

cdef inline Heard **heard_chain(Dispatch *d, uint64_t id) noexcept nogil:
    """Hashed once more, with our own key: peers choose the ids."""
    return &d.abroad.heard[key_hash(d.kernel, <const char*>&id, sizeof(id)) & d.abroad.heard_mask]


cdef void hear_chains(Dispatch *d, uint32_t n) noexcept nogil:
    cdef Abroad *a = &d.abroad
    cdef Heard **old = a.heard
    cdef Heard **at
    cdef Heard *h
    cdef Heard *next
    cdef uint32_t i, old_n = a.heard_mask + 1 if old != NULL else 0
    a.heard = <Heard**>need_memory(calloc(n, sizeof(Heard*)))
    a.heard_mask = n - 1
    for i in range(old_n):
        h = old[i]
        while h != NULL:
            next = h.next
            at = heard_chain(d, h.id)
            h.next = at[0]
            at[0] = h
            h = next
    free(old)


cdef void hear(Dispatch *d, uint64_t id, int begun) noexcept nogil:
    cdef Abroad *a = &d.abroad
    cdef Heard **at
    cdef Heard *h
    if a.heard == NULL:
        hear_chains(d, HEARD_CHAINS)
    at = heard_chain(d, id)
    while at[0] != NULL and at[0].id != id:
        at = &at[0].next
    h = at[0]
    if not begun:
        if h != NULL:
            h.peers -= 1
            if h.peers == 0:
                at[0] = h.next
                free(h)
                a.heard_n -= 1
        return
    if h == NULL:
        h = <Heard*>need_memory(calloc(1, sizeof(Heard)))
        h.id = id
        at[0] = h
        a.heard_n += 1
    h.peers += 1
    if a.heard_n > a.heard_mask:
        hear_chains(d, 2 * (a.heard_mask + 1))


cdef inline Span heard_text(const Heard *h) noexcept nogil:
    return span(<const char*>h + sizeof(Heard), h.id)


cdef void hear_pattern(Abroad *a, Span text, int begun) noexcept nogil:
    cdef Heard **at = &a.heard_patterns
    cdef Heard *h
    while at[0] != NULL and not (at[0].id == text.n
                                 and memcmp(heard_text(at[0]).p, text.p, text.n) == 0):
        at = &at[0].next
    h = at[0]
    if h == NULL and begun:
        h = <Heard*>need_memory(calloc(1, sizeof(Heard) + text.n))
        h.id = text.n
        copy_span(<char*>h + sizeof(Heard), text)
        at[0] = h
    if h != NULL:
        h.peers += 1 if begun else -1
        if h.peers == 0:
            at[0] = h.next
            free(h)


cdef void hear_changes(Dispatch *d, const char *p, size_t n) noexcept nogil:
    cdef const char *end = p + n
    cdef uint32_t size
    cdef uint64_t id
    while end - p >= 6:
        if p[1] == TOPIC_PATTERN:
            memcpy(&size, p + 2, 4)
            if <size_t>(end - p) < 6 + <size_t>size:
                return
            hear_pattern(&d.abroad, span(p + 6, size), p[0])
            p += 6 + size
        else:
            if end - p < 10:
                return
            memcpy(&id, p + 2, 8)
            hear(d, id, p[0])
            p += 10


cdef int is_heard(Dispatch *d, int kind, uint64_t id, Span channel) noexcept nogil:
    cdef int64_t left = GLOB_STEPS
    cdef Heard *h = heard_chain(d, id)[0] if d.abroad.heard != NULL else NULL
    while h != NULL and h.id != id:
        h = h.next
    if h != NULL:
        return 1
    h = d.abroad.heard_patterns if kind == TOPIC_CHANNEL else NULL
    while h != NULL:
        if matches_one(heard_text(h), channel, &left):
            return 1
        h = h.next
    return 0


# ---- messages ------------------------------------------------------------------------------------

cdef void send_abroad(Dispatch *d, int kind, Span channel, Span message) noexcept nogil:
    cdef Buffer *b = &d.abroad.out
    cdef int64_t left = GLOB_STEPS
    cdef uint32_t sizes[2]
    cdef uint64_t id
    cdef char *p
    cdef uint32_t i
    if d.abroad.heard_n == 0 and d.abroad.heard_patterns == NULL:
        return
    id = topic_id(kind, channel)
    if is_own_event(channel) or not is_heard(d, kind, id, channel):
        return
    for i in range(d.abroad.local_n):
        if matches_one(d.abroad.local[i], channel, &left):
            return
    if (channel.n + message.n > MESSAGE_MOST
            or b.n + MESSAGE_HEAD + channel.n + message.n > ABROAD_MOST):
        d.abroad.dropped += 1
        return
    sizes[0] = <uint32_t>channel.n
    sizes[1] = <uint32_t>message.n
    p = buffer_need(b, MESSAGE_HEAD + channel.n + message.n)
    memcpy(p, &id, 8)
    memcpy(p + 8, sizes, 8)
    p[16] = <char>kind
    copy_span(p + MESSAGE_HEAD, channel)
    copy_span(p + MESSAGE_HEAD + channel.n, message)
    b.n += MESSAGE_HEAD + channel.n + message.n
    d.abroad.sent += 1


cdef int next_message(const char **p, const char *end, int *kind, Span *channel,
                      Span *message) noexcept nogil:
    cdef uint32_t sizes[2]
    cdef const char *at = p[0]
    if end - at < MESSAGE_HEAD:
        return 0
    memcpy(sizes, at + 8, 8)
    kind[0] = at[16]
    at += MESSAGE_HEAD
    if (<size_t>(end - at) < <size_t>sizes[0] + sizes[1]
            or (kind[0] != TOPIC_CHANNEL and kind[0] != TOPIC_SHARD)):
        return 0
    channel[0] = span(at, sizes[0])
    message[0] = span(at + sizes[0], sizes[1])
    p[0] = at + sizes[0] + sizes[1]
    return 1


cdef void set_local_patterns(Dispatch *d, const Span *patterns, int n) noexcept nogil:
    cdef int i
    cdef char *p
    for i in range(<int>d.abroad.local_n):
        free(<void*>d.abroad.local[i].p)
    free(d.abroad.local)
    d.abroad.local = <Span*>need_memory(calloc(<size_t>n + 1, sizeof(Span)))
    d.abroad.local_n = <uint32_t>n
    for i in range(n):
        p = <char*>need_memory(malloc(patterns[i].n + 1))
        copy_span(p, patterns[i])
        d.abroad.local[i] = span(p, patterns[i].n)


cdef void abroad_free(Dispatch *d) noexcept nogil:
    cdef Heard *h
    cdef uint32_t i
    for i in range(d.abroad.heard_mask + 1 if d.abroad.heard != NULL else 0):
        while d.abroad.heard[i] != NULL:
            h = d.abroad.heard[i]
            d.abroad.heard[i] = h.next
            free(h)
    free(d.abroad.heard)
    while d.abroad.heard_patterns != NULL:
        h = d.abroad.heard_patterns
        d.abroad.heard_patterns = h.next
        free(h)
    set_local_patterns(d, NULL, 0)
    free(d.abroad.local)
    buffer_free(&d.abroad.changes)
    buffer_free(&d.abroad.out)
