# The digest: the sum, modulo 2^64 and under two keys, of a hash of every write, live counter entry
# and deadline write with its place. A sum, so the order in which a replica meets them is no matter;
# actors stand in it by their ids, never by their slots.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, span

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


cdef void digest_key(void *arg, Element *e) noexcept nogil:
    """A TableVisit: every cell under a key."""
    cdef Digest *d = <Digest*>arg
    cdef Actor *actors = d.k.actors.v
    cdef uint64_t facts[5]
    cdef Walk w
    cdef Span name
    walk_key(&w, d.k, e)
    while walk_next_cell(&w):
        d.type = w.type
        d.key = span(NULL, 0) if w.type == T_STRING else span(element_key(e), e.klen)
        name = w.name
        if w.type == T_LIST:
            d.name.n = 0
            encode_position(&d.k.actors, &d.name, w.name, 0)
            name = span(d.name.p, d.name.n)
        if w.cell == NULL:
            facts[0] = facts[3] = actors[dot_slot(w.dot)].id
            facts[1] = dot_seq(w.dot)
            facts[2] = w.stamp if w.type != T_SET else 0
            facts[4] = w.flags
            digest_add(d, name, 0, facts, 5, w.value)
        else:
            digest_cell(d, name, 2 if w.is_deadline else 0, w.cell,
                        w.dot if w.type == T_LIST else 0)
    walk_end(&w)


cdef void digest_kernel(Kernel *k, uint64_t *sum) noexcept nogil:
    """Two words that are equal in two replicas exactly when their states are."""
    cdef Digest d
    cdef int i
    memset(&d, 0, sizeof(Digest))
    d.k = k
    for i in range(DATABASES):
        d.db = i
        table_walk(&k.db[i].table, digest_key, &d)
    buffer_free(&d.b)
    buffer_free(&d.name)
    buffer_free(&d.total)
    buffer_free(&d.totals)
    memcpy(sum, d.sum, sizeof(d.sum))
