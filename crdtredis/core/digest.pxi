# The digest: the sum, modulo 2^64 and under two keys, of a hash of every write, live counter entry
# and deadline write with its place. A sum, so the order in which a replica meets them is no matter;
# actors stand in it by their ids, never by their slots.
#
# Of the whole keyspace at once, or of each bucket of keys (core/buckets.pxi), a little at a time
# while the replica goes on working. Such a walk goes through a table as SCAN does, but meets each
# element once: in the order of the cursor, what was scanned has hashes below it, also where a table
# that shrinks meanwhile begins a bucket again. A bucket that was changed while the walk was under
# way may hold a part of this and a part of that, and counts as unsure.
#
# Tombstones are let go of at different times, so replicas that have the same ops may differ in
# them. Yet where one gives its state to another they count: with a tombstone of which only the
# giver knows passed over, a late increment would count twice.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, span

cdef enum:
    # elements of collections under a key that are summed up with it, which is one: no packed key is
    # put down
    SUMMED_WHOLE = 65


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
        if d.tombstones or not is_tombstone(t):
            facts[0] = actors[t.actor].id
            facts[1] = t.run_seq
            facts[2] = t.run_index
            facts[3] = t.seq
            facts[4] = t.rare.cancelled_seq
            d.totals.n = 0
            digest_total(d, &t.total)
            digest_total(d, &t.rare.cancelled)
            buffer_add(&d.totals, &t.wide, sizeof(uint16_t))
            if t.rare.shown != NULL:
                buffer_add(&d.totals, &t.rare.shown.context, sizeof(uint64_t))
                buffer_add(&d.totals, t.rare.shown.number, EXTENDED)
            digest_add(d, name, what + 1, facts, 4 + d.tombstones, span(d.totals.p, d.totals.n))
        t = t.next


cdef void digest_total(Digest *d, const Number *v) noexcept nogil:
    cdef Total t
    number_total(v, &d.total, &t)
    buffer_add(&d.totals, &t.whole, sizeof(int64_t))
    buffer_add(&d.totals, &t.fraction.n, sizeof(size_t))
    buffer_add(&d.totals, t.fraction.p, t.fraction.n)
    buffer_add(&d.totals, &t.exact.n, sizeof(size_t))
    buffer_add(&d.totals, t.exact.p, t.exact.n)


cdef void digest_place(Digest *d, Walk *w, Span key) noexcept nogil:
    """The cell that w stands on, under `key`."""
    cdef Actor *actors = d.k.actors.v
    cdef uint64_t facts[5]
    cdef Span name = w.name
    d.type = w.type
    d.key = span(NULL, 0) if w.type == T_STRING else key
    if w.type == T_LIST:
        d.name.n = 0
        encode_position(&d.k.actors, &d.name, w.name, 0, -1)
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


cdef void digest_key(void *arg, Element *e) noexcept nogil:
    """A TableVisit: every cell under a key."""
    cdef Digest *d = <Digest*>arg
    cdef Walk w
    cdef char *packed = key_open(d.k, e)
    walk_key(&w, d.k, e)
    while walk_next_cell(&w):
        digest_place(d, &w, element_name(e))
    walk_end(&w)
    key_close(e, packed)


cdef void digest_free(Digest *d) noexcept nogil:
    buffer_free(&d.b)
    buffer_free(&d.name)
    buffer_free(&d.total)
    buffer_free(&d.totals)


cdef void digest_kernel(Kernel *k, uint64_t *sum) noexcept nogil:
    """Two words that are equal in two replicas exactly when their states are."""
    cdef Digest d
    cdef int i
    memset(&d, 0, sizeof(Digest))
    d.k = k
    d.sum = sum
    sum[0] = sum[1] = 0
    for i in range(SHARED):
        d.db = i
        table_walk(&k.db[i].table, digest_key, &d)
    digest_free(&d)


# ---- by buckets ----------------------------------------------------------------------------------

cdef void digesting_begin(Digesting *g, Kernel *k, int tombstones) noexcept nogil:
    memset(g, 0, sizeof(Digesting))
    g.d.k = k
    g.d.tombstones = tombstones
    g.sums = <uint64_t*>mem_zalloc(BUCKETS * 2 * sizeof(uint64_t))
    g.begun = k.changes
    g.type = T_HASH
    buckets_watch(k)


cdef void digesting_keys(Digesting *g, Kernel *k, const uint8_t *some) noexcept nogil:
    digesting_begin(g, k, 0)
    g.some = some
    g.keys_cap = BUCKETS


cdef void digesting_free(Digesting *g) noexcept nogil:
    if g.sums == NULL:
        return
    buckets_leave(g.d.k)
    digest_free(&g.d)
    buffer_free(&g.large)
    buffer_free(&g.names)
    mem_free(g.sums)
    g.sums = NULL


cdef size_t sum_place(Digesting *g, Span key, uint32_t bucket) noexcept nogil:
    """Where the sum of this key belongs: with those of its bucket, or to a place of its own."""
    cdef uint32_t head[2]
    if g.some == NULL:
        return bucket
    if g.keys == g.keys_cap:
        g.keys_cap *= 2
        g.sums = <uint64_t*>mem_realloc(g.sums, g.keys_cap * 2 * sizeof(uint64_t))
    g.sums[2 * g.keys] = g.sums[2 * g.keys + 1] = 0
    head[0] = g.d.db
    head[1] = <uint32_t>key.n
    buffer_add(&g.names, head, sizeof(head))
    buffer_add(&g.names, key.p, key.n)
    g.keys += 1
    return g.keys - 1


cdef inline int was_scanned(Kernel *k, Element *e, uint64_t cursor) noexcept nogil:
    """Did a call before this one, of table_scan at this cursor, come to e?"""
    return bits_reversed(element_hash(k, e)) < bits_reversed(cursor)


cdef void sum_key(void *arg, Element *e) noexcept nogil:
    """A TableVisit."""
    cdef Digesting *g = <Digesting*>arg
    cdef Collection *c = element_unpacked(e)
    cdef Span key = element_name(e)
    cdef size_t elements = 1 + (packed_n(e) if is_packed(e) else 0)
    cdef uint32_t bucket
    cdef size_t place
    cdef Walk w
    if was_scanned(g.d.k, e, g.cursor):
        return
    bucket = bucket_of(g.d.db, key)
    if g.some != NULL and not bucket_is_in(g.some, bucket):
        g.most -= 1
        return
    place = sum_place(g, key, bucket)
    g.d.sum = &g.sums[2 * place]
    while c != NULL:
        elements += collection_size(c)
        c = c.next
    if elements <= SUMMED_WHOLE:
        digest_key(&g.d, e)
        g.most -= <int64_t>elements
        return
    walk_key(&w, g.d.k, e)
    while walk_cell(&w):                   # no further than the key's own
        digest_place(&g.d, &w, key)
    walk_end(&w)
    buffer_add(&g.large, &place, sizeof(place))
    buffer_add(&g.large, &key.n, sizeof(key.n))
    buffer_add(&g.large, key.p, key.n)


cdef void sum_member(void *arg, Element *m) noexcept nogil:
    """A TableVisit, of a collection under the first of the large keys."""
    cdef Digesting *g = <Digesting*>arg
    cdef Walk w
    if was_scanned(g.d.k, m, g.member):
        return
    walk_begin(&w, &g.d.k.actors)
    w.type = g.type
    walk_element(&w, m)
    digest_place(&g.d, &w, g.key)
    g.most -= 1


cdef int sum_ordered(Digesting *g, Collection *c) noexcept nogil:
    """Goes on behind the first g.rank elements; 1 while more is left."""
    cdef Walk w
    walk_begin(&w, &g.d.k.actors)
    walk_open(&w, c)
    if g.rank and c.type == T_LIST:
        w.pos = list_seek(c, g.rank - 1, &w.at)
    elif g.rank:
        w.pos = order_at(order_of(c), g.rank - 1, &w.at.order) != NULL
    while (w.pos or g.rank == 0) and g.most > 0 and walk_cell(&w):
        digest_place(&g.d, &w, g.key)
        g.rank += 1
        g.most -= 1
    walk_end(&w)
    return (w.pos or g.rank == 0) and g.most <= 0


cdef void sum_large(Digesting *g) noexcept nogil:
    """Goes on with the first of the large keys, as it is now. Where it has changed, its bucket is
    unsure, and whatever becomes of the sum is right."""
    cdef Kernel *k = g.d.k
    cdef Collection *c
    cdef Element *e
    cdef int more
    cdef size_t head[2]
    memcpy(head, g.large.p + g.large_at, sizeof(head))
    g.key = span(g.large.p + g.large_at + sizeof(head), head[1])
    g.d.sum = &g.sums[2 * head[0]]
    e = key_in(k, g.d.db, g.key)
    while e != NULL and e.meta & E_ENTRY and g.type < T_COUNT:
        c = element_collection(k, e, g.type)
        more = c != NULL
        if more and (g.type == T_LIST or g.type == T_STREAM):
            more = sum_ordered(g, c)
        while g.type != T_LIST and g.type != T_STREAM and more and g.most > 0:
            g.member = table_scan(&c.table, g.member, sum_member, g)
            g.most -= 1
            more = g.member != 0
        if more:
            return
        g.type += 1
        g.member = g.rank = 0              # c may have gone in the middle of its walk
    g.type = T_HASH
    g.large_at += sizeof(head) + g.key.n
    if g.large_at == g.large.n:
        g.large_at = g.large.n = 0


cdef int digesting_step(Digesting *g, int64_t most) noexcept nogil:
    g.most = most
    while g.d.db < SHARED and g.most > 0:
        if g.large.n:
            sum_large(g)
            continue
        if g.passed:
            g.passed = 0
            g.d.db += 1
            continue
        g.cursor = table_scan(&g.d.k.db[g.d.db].table, g.cursor, sum_key, g)
        g.most -= 1
        g.passed = g.cursor == 0
    return g.d.db < SHARED
