# Idempotent ids: how does a producer that adds an entry again, as no reply came, add it once?
#
# What a producer has added under an id is a member beside the stream's groups, a cell like any
# other (core/groups.pxi). The XADD itself makes it, so it is there wherever the entry has come:
#
#     "i" producer iid        the id of the entry
#
# An XADD that finds it answers that id and adds nothing, here or at another replica:
#
#     A: XADD s IDMP p 1 * f v, which B gets; A fails.   B: XADD s IDMP p 1 * f v  ->  A's entry
#     A: XADD s IDMP p 1 * f v   ||   B: XADD s IDMP p 1 * f v  ->  two entries, and the member has
#         two writes. All answer the lower id from then on
#
# That two replicas that do not hear of each other both add it cannot be helped by whoever answers
# at once; and which of the two has been read already, nobody knows. So neither goes.
#
# An id is known for a while (idempotence_of), by the stamp of what wrote it, and of each producer
# as many as are said: by XCFGSET, or by a setting of the replica that executes the XADD. So two
# replicas with other settings answer differently, and hold the same: what either forgets is an
# effect, and no effect reads how long or how many.
#
#     A, whose setting is 2: XADD s IDMP p 3 .., behind 1 and 2    ||   B, whose is 100: the same, 4
#     both hold 2, 3 and 4: A forgets 1, by name. A's next XADD forgets two more, B's none
#
# Whether one has run out is seen as it is asked for; what is too old, or too
# much, goes with a later XADD IDMP: of the same producer, the oldest first, and of any a few that
# are looked at in turn, so producers that come no more are forgotten, too; and where no XADD IDMP
# comes, as core/sweep.pxi goes round. These removals are effects, for what two replicas hold must
# be the same. DEL removes what it observed, as it does of entries. XTRIM and XDEL remove none: what
# was added is not to be added again.
#
# Texts that are long stand there as 128 bits of a hash that all replicas share.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, span

cdef enum:
    TAG_TEXT = 0                # first byte of a part of a name
    TAG_HASH = 1
    TAG_PAIRS = 2
    TEXT_MOST = 64              # bytes of one that stands as it is
    FORGOTTEN_MOST = 12         # ids of a producer that go with one that comes,
    SAME_MOST = 1024            # of the same ms, of which those go first that were first,
    LOOKED_AT = 3               # and others that are looked at: more than come

cdef struct Known:
    StreamId id
    Element *e

cdef uint64_t[4] HASH_KEYS
HASH_KEYS[0] = 0x6372647472656469
HASH_KEYS[1] = 0x7320696d706f7465
HASH_KEYS[2] = 0x6e74206f66207072
HASH_KEYS[3] = 0x6f64756365727321


cdef void hash_wide(const char *p, size_t n, uint64_t *out) noexcept nogil:
    out[0] = siphash64(p, n, HASH_KEYS)
    out[1] = siphash64(p, n, HASH_KEYS + 2)


cdef void add_tagged(Buffer *b, Span text) noexcept nogil:
    cdef uint64_t[2] sums
    cdef char tag = TAG_TEXT if text.n <= TEXT_MOST else TAG_HASH
    buffer_add(b, &tag, 1)
    if tag == TAG_TEXT:
        buffer_add(b, text.p, text.n)
    else:
        hash_wide(text.p, text.n, sums)
        buffer_add(b, <char*>sums, sizeof(sums))


cdef void begin_name(Buffer *name, Span producer) noexcept nogil:
    cdef char letter = G_PRODUCED
    cdef Buffer tagged
    memset(&tagged, 0, sizeof(Buffer))
    add_tagged(&tagged, producer)
    name.n = 0
    buffer_add(name, &letter, 1)
    add_bytes(name, content(&tagged))
    buffer_free(&tagged)


cdef void produced_name(Buffer *name, Span producer, Span iid) noexcept nogil:
    begin_name(name, producer)
    add_tagged(name, iid)


cdef void produced_name_hashed(Buffer *name, Span producer, const Span *pairs,
                               size_t n) noexcept nogil:
    """The order of the pairs is no matter."""
    cdef uint64_t[2] sums
    cdef uint64_t[2] all
    cdef char tag = TAG_PAIRS
    cdef Buffer pair
    cdef size_t i
    memset(&pair, 0, sizeof(Buffer))
    memset(all, 0, sizeof(all))
    for i in range(0, n, 2):
        pair.n = 0
        add_bytes(&pair, pairs[i])
        add_bytes(&pair, pairs[i + 1])
        hash_wide(pair.p, pair.n, sums)
        all[0] += sums[0]
        all[1] += sums[1]
    buffer_free(&pair)
    begin_name(name, producer)
    buffer_add(name, &tag, 1)
    buffer_add(name, <char*>all, sizeof(all))


cdef inline int has_run_out(Kernel *k, Element *m, Idempotence of) noexcept nogil:
    return k.now - born_at(m) >= of.seconds * 1000


cdef int added_first(Element *m, StreamId *id) noexcept nogil:
    """The lowest id of what was added under it; 0: nothing was."""
    cdef StreamId x
    cdef Said w
    cdef size_t i = 0
    while nth_write(m, i, &w):
        x = id_of(w.value.p)
        if i == 0 or id_below(x, id[0]):
            id[0] = x
        i += 1
    return i > 0


cdef int produced_find(Kernel *k, Collection *s, Span name, StreamId *id) noexcept nogil:
    cdef Collection *c = groups_of(s) if s != NULL else NULL
    cdef Element *m = NULL
    if c != NULL:
        m = table_find(&c.table, name.p, name.n, key_hash(k, name.p, name.n))
    if m == NULL or has_run_out(k, m, idempotence_of(k, s)) or not added_first(m, id):
        return 0
    stream_of(s).refused += 1
    return 1


cdef Idempotence idempotence_of(Kernel *k, Collection *s) noexcept nogil:
    cdef Element *m = head_member(s, HEAD_IDEMPOTENCE)
    cdef Idempotence said
    cdef Span value
    cdef StreamId x
    said.seconds = k.streams.known_seconds
    said.most = k.streams.known_most
    said.of_stream = 0
    if m != NULL and value_live(m):
        value = field_view(k, m)
        if value.n == STREAM_ID:
            x = id_of(value.p)
            said.of_stream = 1
            said.seconds = <int64_t>min(max(x.ms, <uint64_t>1), <uint64_t>SECONDS_MOST)
            said.most = <int64_t>min(max(x.seq, <uint64_t>1), <uint64_t>KNOWN_MOST)
    return said


cdef Element *first_produced(Collection *s, OrderCursor *at) noexcept nogil:
    cdef Collection *c = groups_of(s)
    cdef char letter = G_PRODUCED
    cdef size_t rank
    cdef Element *m = first_from(c, span(&letter, 1), &rank, at) if c != NULL else NULL
    return m if m != NULL and is_produced(m) else NULL


cdef Element *idempotence_put(Kernel *k, uint32_t db, Span key, Element *e,
                              Idempotence said) noexcept nogil:
    cdef char value[16]
    cdef char name = HEAD_IDEMPOTENCE
    cdef Effect head
    cdef StreamId x
    x.ms = <uint64_t>said.seconds
    x.seq = <uint64_t>said.most
    put_id(value, x)
    db = home_of(k, db, key, &e)
    begin_effect(k, &head, ASSIGN, db, key)
    head.type = T_STREAM_HEAD
    head.name = span(&name, 1)
    head.value = span(value, STREAM_ID)
    return make(k, &head, e)


cdef Element *idempotence_set(Kernel *k, uint32_t db, Span key, Element *e,
                              Idempotence said) noexcept nogil:
    cdef Buffer nothing
    cdef OrderCursor at
    cdef Collection *s = key_collection(k, e, T_STREAM)
    cdef Idempotence before = idempotence_of(k, s)
    cdef int some = first_produced(s, &at) != NULL and (
        before.seconds != said.seconds or before.most != said.most)
    memset(&nothing, 0, sizeof(Buffer))
    e = idempotence_put(k, db, key, e, said)
    if some:
        e = make_of_group(k, db, key, e, ASSIGN, G_FORGET, span(NULL, 0), &nothing)
    return e


cdef size_t keep_first(Known *found, size_t n, size_t most, Element *m) noexcept nogil:
    """m is among the `most` that were added first, or is not; how many there are."""
    cdef size_t i = n
    cdef Known x
    x.e = m
    if not added_first(m, &x.id):
        return n
    while i and id_below(x.id, found[i - 1].id):
        if i < most:
            found[i] = found[i - 1]
        i -= 1
    if i < most:
        found[i] = x
    return min(n + 1, most)


cdef void gather_old(Kernel *k, Collection *c, Span head, Idempotence of,
                     Buffer *names) noexcept nogil:
    """Names, each behind its length, of a producer's: what is too old, or more than is kept. An op,
    or a replica whose clock is behind others', may well add as many within a ms."""
    cdef Order *o = &groups_data(c).produced
    cdef Known[FORGOTTEN_MOST] found
    cdef Buffer first
    cdef OrderCursor at
    cdef Item *item
    cdef size_t begin, end, n = 0, i, most, some, looked = 0
    cdef uint64_t last, now
    memset(&first, 0, sizeof(Buffer))
    last = time_key(k, head, INT64_MAX)
    begin = order_rank(o, time_key(k, head, 0), span(b"", 0))
    item = order_at(o, begin, &at)
    end = order_rank(o, last + 1, span(b"", 0))
    if end - begin <= <size_t>of.most and item != NULL and not has_run_out(k, item.e, of):
        return                              # nor are there too many of others that stand there
    buffer_add(&first, head.p, head.n)
    range_behind(c, &first, &begin, &end)
    buffer_free(&first)
    while (item != NULL and item.sort_key <= last and n < FORGOTTEN_MOST
           and looked < SAME_MOST):
        if not begins_with(item.e, head):
            item = order_next(&at)
            continue
        most = FORGOTTEN_MOST - n
        if not has_run_out(k, item.e, of):
            if end - begin <= n + <size_t>of.most:
                break
            most = min(most, end - begin - n - <size_t>of.most)
        now = item.sort_key
        some = looked = 0
        while item != NULL and item.sort_key == now and looked < SAME_MOST:
            if begins_with(item.e, head):
                some = keep_first(found, some, most, item.e)
            looked += 1
            item = order_next(&at)
        for i in range(some):
            add_bytes(names, element_name(found[i].e))
        n += some


cdef int64_t runs_out_at(Kernel *k, Element *m, Idempotence of) noexcept nogil:
    """ms; for what another replica wrote that one has longer."""
    cdef int64_t at = 0
    cdef size_t i = 0
    cdef Said w
    while nth_write(m, i, &w):
        i += 1
        at = max(at, <int64_t>(w.stamp >> 16) + grace_of(k, w.actor))
    return at + of.seconds * 1000


cdef int produced_look(Kernel *k, Collection *c, Idempotence of, size_t *at, size_t most,
                       Buffer *names, int64_t *next) noexcept nogil:
    cdef size_t n = groups_data(c).produced.n
    cdef char letter = G_PRODUCED
    cdef OrderCursor cursor
    cdef Item *item
    cdef size_t i
    cdef int64_t out
    most = min(most, n - min(at[0], n))
    item = order_at(order_of(c), order_rank(order_of(c), name_sort_key(span(&letter, 1)),
                                            span(&letter, 1)) + at[0], &cursor)
    for i in range(most):
        out = runs_out_at(k, item.e, of)
        if out <= k.now:
            add_bytes(names, element_name(item.e))
        else:
            at[0] += 1                      # what goes leaves its rank to the next
            if next[0] == 0 or out < next[0]:
                next[0] = out
        item = order_next(&cursor)
    return <int>most


cdef Element *put_produced(Kernel *k, uint32_t db, Span key, Element *e, Span name,
                           StreamId id) noexcept nogil:
    cdef Buffer value
    memset(&value, 0, sizeof(Buffer))
    add_id(&value, id)
    e = make_of_group(k, db, key, e, ASSIGN, G_PRODUCED, span(name.p + 1, name.n - 1), &value)
    buffer_free(&value)
    return e


cdef Element *produced_put(Kernel *k, uint32_t db, Span key, Element *e, Span name,
                           StreamId id) noexcept nogil:
    cdef Collection *s
    cdef Collection *c
    cdef Idempotence of
    cdef Buffer names
    cdef Groups *g
    cdef int64_t next = 0
    cdef Span head
    e = put_produced(k, db, key, e, name, id)
    s = key_collection(k, e, T_STREAM)
    c = groups_of(s)
    stream_of(s).produced += 1
    memset(&names, 0, sizeof(Buffer))
    head = producer_head(table_find(&c.table, name.p, name.n, key_hash(k, name.p, name.n)))
    of = idempotence_of(k, s)
    gather_old(k, c, head, of, &names)
    g = groups_data(c)
    g.looked = g.looked if g.looked < g.produced.n else 0
    produced_look(k, c, of, &g.looked, LOOKED_AT, &names, &next)
    if names.n:
        e = make_of_group(k, db, key, e, ASSIGN, G_FORGET, span(NULL, 0), &names)
    buffer_free(&names)
    return e


cdef int produced_counts(Kernel *k, Collection *s, size_t *producers, size_t *ids, uint64_t *added,
                         uint64_t *refused) noexcept nogil:
    cdef Collection *c = groups_of(s)
    cdef Buffer head
    cdef OrderCursor at
    cdef size_t begin, end
    cdef Element *m = first_produced(s, &at)
    producers[0] = ids[0] = 0
    added[0] = stream_of(s).produced
    refused[0] = stream_of(s).refused
    memset(&head, 0, sizeof(Buffer))
    while m != NULL and is_produced(m):
        head.n = 0
        buffer_add(&head, element_key(m), producer_head(m).n)
        range_behind(c, &head, &begin, &end)
        producers[0] += 1
        ids[0] += end - begin
        m = order_at(order_of(c), end, &at).e if end < order_of(c).n else NULL
    buffer_free(&head)
    return ids[0] > 0 or added[0] > 0 or head_member(s, HEAD_IDEMPOTENCE) != NULL


cdef void produced_carry(Kernel *k, Collection *s, Buffer *b) noexcept nogil:
    cdef OrderCursor at
    cdef Element *m = first_produced(s, &at)
    cdef Idempotence of = idempotence_of(k, s)
    cdef StreamId id
    cdef size_t n
    buffer_add(b, &of, sizeof(of))
    while m != NULL and is_produced(m):
        if not has_run_out(k, m, of) and added_first(m, &id):
            n = element_klen(m)
            buffer_add(b, &id, sizeof(id))
            buffer_add(b, &n, sizeof(n))
            buffer_add(b, element_key(m), n)
        m = next_in_order(&at)


cdef Element *produced_load(Kernel *k, uint32_t db, Span key, Element *e,
                            Span carried) noexcept nogil:
    cdef const char *p = carried.p + sizeof(Idempotence)
    cdef Idempotence of
    cdef StreamId id
    cdef Span name
    memcpy(&of, carried.p, sizeof(of))
    if of.of_stream:
        e = idempotence_put(k, db, key, e, of)
    while p < carried.p + carried.n:
        memcpy(&id, p, sizeof(id))
        memcpy(&name.n, p + sizeof(id), sizeof(name.n))
        name.p = p + sizeof(id) + sizeof(name.n)
        e = put_produced(k, db, key, e, name, id)
        p = name.p + name.n
    return e


cdef size_t produced_size(Collection *s, size_t key) noexcept nogil:
    cdef OrderCursor at
    cdef Element *m = first_produced(s, &at)
    cdef size_t bytes = records_size(key, 1)
    while m != NULL and is_produced(m):
        bytes += records_size(key + element_klen(m), 1)
        m = next_in_order(&at)
    return bytes
