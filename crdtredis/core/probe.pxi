# The test door: what the tests need to reach of parts that the Replica does not show. Nothing in
# the product uses it.

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset

from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, buffer_need, span
from crdtredis.numbers cimport REAL_TEXT, format_long_double, parse_long_double


cdef class BlocksProbe:
    """Blocks of memory, each filled with bytes of its own; by address."""
    cdef dict blocks            # address: bytes, what they are filled with

    def __cinit__(self):
        self.blocks = {}

    def __dealloc__(self):
        for at in list(self.blocks):
            self.free(at)

    def add(self, size_t n, fill, zeroed=False):
        cdef void *p = mem_zalloc(n) if zeroed else mem_alloc(n)
        if zeroed:
            assert not any((<char*>p)[:n])
        return self.fill(p, n, fill)

    def resize(self, size_t at, size_t n, fill):
        size, kept = self.blocks.pop(at)
        cdef char *p = <char*>mem_realloc(<void*>at, n)
        cdef size_t i
        for i in range(min(size, n)):
            assert p[i] & 0xff == kept, "what was in a block has not come along"
        return self.fill(p, n, fill)

    def free(self, size_t at):
        self.check(at)
        del self.blocks[at]
        mem_free(<void*>at)

    def check(self, size_t at):
        cdef size_t i, n
        n, kept = self.blocks[at]
        assert mem_room(<void*>at) >= n
        for i in range(n):
            assert (<char*>at)[i] & 0xff == kept, "a block was written over"

    def is_slab(self, size_t at):
        return bool(is_slab(<void*>at))

    cdef fill(self, void *p, size_t n, fill):
        memset(p, fill, n)
        self.blocks[<size_t>p] = n, fill
        return <size_t>p

    @staticmethod
    def used():
        """Bytes, and blocks, of the whole process."""
        return mem_used(), mem_live()

    @staticmethod
    def empty():
        """Slabs that are, and have their pages."""
        return slabs_empty()

    @staticmethod
    def slabs():
        """Bytes of those that are not empty."""
        return slabs_bytes()

    @staticmethod
    def give():
        return slabs_give(1 << 30)


cdef class TableProbe:
    """A Table of plain elements without values, with a choice of hash so that tests can force
    collisions."""
    cdef Table t
    cdef uint64_t key[2]
    cdef uint64_t seed
    cdef Buffer seen            # elements a scan visited

    def __cinit__(self, uint64_t seed=1):
        table_init(&self.t)
        self.key[0] = seed * <uint64_t>0x9e3779b97f4a7c15
        self.key[1] = ~seed
        self.seed = seed

    def __dealloc__(self):
        self.clear()
        buffer_free(&self.seen)

    def clear(self):
        table_clear(&self.t, probe_free, NULL)

    def add(self, bytes key, hash=None):
        """Add an absent key. `hash` replaces the sum of the key; then find, remove and check need
        it too."""
        cdef uint32_t sum = self.sum(key, hash)
        table_add(&self.t, probe_element(key, sum), sum)

    def remove(self, bytes key, hash=None):
        cdef Element *e = table_find(&self.t, key, len(key), self.sum(key, hash))
        if e == NULL:
            raise KeyError(key)
        table_remove(&self.t, e)
        mem_free(e)

    def swap(self, bytes key):
        """Replace the key's element by a fresh one, the old being freed before."""
        cdef uint32_t hash = self.sum(key, None)
        cdef Element *old = table_find(&self.t, key, len(key), hash)
        cdef Element *new = probe_element(key, hash)
        mem_free(old)
        table_swap(&self.t, old, new)

    def find(self, bytes key, hash=None):
        cdef Element *e = table_find(&self.t, key, len(key), self.sum(key, hash))
        return None if e == NULL else probe_key(e)

    def random(self):
        cdef Element *e = table_random(&self.t, &self.seed)
        return None if e == NULL else probe_key(e)

    def scan(self, uint64_t cursor):
        self.seen.n = 0
        cursor = table_scan(&self.t, cursor, probe_visit, &self.seen)
        cdef Element **v = <Element**>self.seen.p
        return cursor, [probe_key(v[i]) for i in range(self.seen.n // sizeof(void*))]

    def keys(self):
        cdef size_t pos = 0
        cdef Element *e = table_next(&self.t, &pos)
        out = []
        while e != NULL:
            out.append(probe_key(e))
            e = table_next(&self.t, &pos)
        return out

    def work(self, int elements):
        return table_work(&self.t, elements)

    def check(self, hashed=True):
        return table_check(&self.t, self.key if hashed else NULL)

    def memory(self):
        return table_memory(&self.t)

    def resizing(self):
        return self.t.next != NULL

    def left(self):
        """Elements the old array still holds."""
        return self.t.array.used if self.t.next != NULL else 0

    def __len__(self):
        return table_count(&self.t)

    cdef uint32_t sum(self, bytes key, hash):
        return siphash(key, len(key), self.key) if hash is None else hash


cdef Element *probe_element(bytes key, uint32_t hash):
    cdef Element *e = <Element*>mem_alloc(sizeof(Element) + len(key))
    e.meta = E_MEMBER | E_LONG | E_PLAIN
    e.hash = hash
    e.long_klen = len(key)
    e.long_vlen = 0
    memcpy(element_key(e), <const char*>key, len(key))
    return e


cdef bytes probe_key(Element *e):
    return element_key(e)[:element_klen(e)]


cdef void probe_visit(void *arg, Element *e) noexcept nogil:
    buffer_add(<Buffer*>arg, &e, sizeof(e))


cdef void probe_free(void *arg, Element *e) noexcept nogil:
    mem_free(e)


def probe_memory():
    """(live allocations, bytes they hold)"""
    return mem_live(), mem_used()


def probe_siphash(bytes data, uint64_t k0, uint64_t k1):
    cdef uint64_t key[2]
    key[0] = k0
    key[1] = k1
    return siphash64(data, len(data), key), siphash(data, len(data), key)


def probe_crc32c(const unsigned char[::1] data, uint32_t crc=0, bint by_tables=False):
    cdef const char *p = <const char*>&data[0] if data.shape[0] else NULL
    if by_tables:
        return <uint32_t>~crc32c_tables(~crc, p, data.shape[0])
    return crc32c(crc, p, data.shape[0])


def probe_record(bytes payload, bytes before=b""):
    """`before` and one record with this payload, as the engine builds it."""
    cdef Buffer b
    cdef size_t at
    b.p = NULL
    b.n = b.cap = 0
    buffer_add(&b, <const char*>before, len(before))
    at = record_begin(&b)
    buffer_add(&b, <const char*>payload, len(payload))
    record_end(&b, at, span(NULL, 0))
    out = b.p[:b.n]
    buffer_free(&b)
    return out


def probe_take(Replica r, size_t most):
    """The records of about `most` bytes that the finished ops make, whole."""
    cdef Record record
    memset(&record, 0, sizeof(Record))
    out = []
    while take_record(&r.k, &record, most):
        record_end(&record.buf, record.at, record.rest)
        out.append(record.buf.p[record.at:record.buf.n] + record.rest.p[:record.rest.n])
    buffer_free(&record.buf)
    return out


def probe_records(bytes data):
    """The payloads up to the first that is not whole, the status there and its offset."""
    cdef const char *begin = data
    cdef const char *p = begin
    cdef Span payload
    cdef int status
    out = []
    while True:
        status = record_next(&p, begin + len(data), &payload)
        if status != 1:
            return out, status, p - begin
        out.append(payload.p[:payload.n])


def probe_make(Replica r, effects):
    """One op of the effects [(name, db, key, argument)]: ("set" | "keep", value), ("add", step),
    ("incr", step as text; the number shown is that of INCRBYFLOAT), ("del", None), ("expire", ms),
    ("flush", None), ("member", (what, type, name, value | step)) with what "set", "add" or
    "remove", for lists (what, T_LIST, value, index) with "insert", "set" or "remove", passed over
    where the visible type is another. Keys that "add" and "expire" need are looked after by the
    caller, as commands do."""
    cdef Kernel *k = &r.k
    cdef Span key
    cdef Element *e
    cdef bytes value, name_key
    op_begin(k)
    for what, db, name_key, argument in effects:
        key = span(name_key, len(name_key))
        e = key_find(k, db, key)
        if what == "set" or what == "keep":
            value = argument
            string_set(k, db, key, e, span(value, len(value)), what == "keep")
        elif what == "add":
            string_add(k, db, key, e, <long double><double>argument, NULL)
        elif what == "incr":
            probe_incr(k, db, key, e, argument)
        elif what == "flush":
            db_flush(k, db)
        elif what == "member":
            probe_member(k, db, key, argument)
        elif e != NULL and what == "del":
            key_delete(k, db, e)
        elif what == "expire" and key_visible(k, e):
            key_expire(k, db, e, argument)
    return op_end(k)


cdef probe_incr(Kernel *k, uint32_t db, Span key, Element *e, bytes text):
    cdef long double v = 0, step
    cdef Span shown
    if key_visible(k, e):
        shown = string_view(k, e)
        if not parse_long_double(shown.p, shown.n, &v):
            raise ValueError("not a number")
    if not parse_long_double(text, len(text), &step):
        raise ValueError(text)
    v += step
    string_add(k, db, key, e, step, &v)


cdef probe_member(Kernel *k, uint32_t db, Span key, tuple effect):
    cdef bytes name = effect[2]
    cdef bytes value
    cdef int type = effect[1]
    cdef Element *e = key_find(k, db, key)
    cdef Span n = span(name, len(name))
    cdef Collection *c
    cdef double score
    what, argument = effect[0], effect[3]
    if key_visible(k, e) and key_type(k, e) != type:
        return
    c = key_collection(k, e, type)
    if type == T_LIST:
        at = min(int(argument), c.live - (what != "insert")) if c != NULL else 0
        if what == "insert" or c != NULL:
            e = key_prepare(k, db, key, e, type)
        if what == "insert":
            list_insert(k, db, key, e, at, n)
        elif c != NULL and what == "set":
            list_set(k, db, key, e, at, n)
        elif c != NULL:
            list_remove(k, db, key, e, at)
        return
    if what == "remove":
        if c != NULL:
            member_remove(k, db, key, key_prepare(k, db, key, e, type), type, n)
        return
    e = key_prepare(k, db, key, e, type)
    if what == "add":
        member_add(k, db, key, e, type, n, argument, NULL)
    elif type == T_ZSET:
        score = argument
        member_set(k, db, key, e, type, n, span(<const char*>&score, 8))
    else:
        value = argument
        member_set(k, db, key, e, type, n, span(value, len(value)))


def probe_receive(Replica r, bytes batch):
    """One call of receive, as a loop iteration makes it: (Received, whether more waiting ops may
    be applied)."""
    cdef int status = receive(&r.k, batch, len(batch))
    return status, r.k.pending.ready != 0


def probe_retry(Replica r):
    """One more iteration for the causal buffer: whether more waiting ops may be applied."""
    return bool(retry_pending(&r.k, PENDING_SLICE))


def probe_pack(Replica r, bint change=True):
    """Packs every collection that can be packed; how many are. Not `change`: only that."""
    cdef Kernel *k = &r.k
    cdef Element *e
    cdef size_t pos, n = 0
    for db in range(DATABASES):
        pos = 0
        e = table_next(&k.db[db].table, &pos)
        while e != NULL:
            n += key_pack(k, e) if change else is_packed(e)
            e = table_next(&k.db[db].table, &pos)
    return n


def probe_seal(Replica r, uint64_t dice):
    """Of each stream opens a block, as `dice` falls, and seals what it comes to of others; with 0
    it opens all. How many blocks there are."""
    cdef Kernel *k = &r.k
    cdef Collection *c
    cdef Element *e
    cdef Item *item
    cdef OrderCursor at
    cdef size_t pos, rank, n = 0
    cdef int most, all = dice == 0
    dice |= 1
    for db in range(DATABASES):
        pos = 0
        e = table_next(&k.db[db].table, &pos)
        while e != NULL:
            c = stream_under(e)
            if c != NULL and order_of(c).n:
                rank = (next_random(&dice) >> 32) % order_of(c).n
                item = order_at(order_of(c), rank, &at)
                if sealed_n(item.e) and next_random(&dice) >> 63 and not all:
                    sealed_open(k, c, rank - at.within, sealed_of(item.e))
                rank = 0
                while all and rank < order_of(c).n:
                    item = order_at(order_of(c), rank, &at)
                    if sealed_n(item.e):
                        sealed_open(k, c, rank, sealed_of(item.e))
                    rank += 1
                rank = (next_random(&dice) >> 32) % order_of(c).n
                item = order_at(order_of(c), rank, &at)
                sealing_of(c).begin = entry_id(item, &at)
                most = 0 if all else 1 + <int>((next_random(&dice) >> 32) % 9)
                seal_some(k, c, (next_random(&dice) >> 32) % 3, &most, 2)
                n += sealing_of(c).blocks
            e = table_next(&k.db[db].table, &pos)
    return n


def probe_sealed(Replica r, uint32_t db, bytes key):
    """Of a stream (entries in blocks, blocks)."""
    cdef Collection *c = stream_under(key_in(&r.k, db, span(key, len(key))))
    return sealing_of(c).n, sealing_of(c).blocks


def probe_between(Replica r, bytes left, bytes right):
    """A position between two, in wire form with all dots (b"": an end of the list), for the next op
    of r; None where there is no room. DamagedBatch where one of them is no position of actors that
    r knows."""
    cdef Kernel *k = &r.k
    cdef Buffer steps, made, out
    cdef size_t middle
    cdef uint64_t recent[2]
    memset(recent, 0, sizeof(recent))
    memset(&steps, 0, sizeof(Buffer))
    memset(&made, 0, sizeof(Buffer))
    memset(&out, 0, sizeof(Buffer))
    try:
        if left and decode_position(&k.actors, &steps, span(left, len(left)), 0, 0) != 1:
            raise DamagedBatch("left is no position")
        middle = steps.n
        if right and decode_position(&k.actors, &steps, span(right, len(right)), 0, 0) != 1:
            raise DamagedBatch("right is no position")
        if not between(&k.actors, span(steps.p, middle), span(steps.p + middle, steps.n - middle),
                       span(NULL, 0), recent,
                       make_dot(k.me, k.actors.v[k.me].applied + 1), 0, &made):
            return None
        encode_position(&k.actors, &out, span(made.p, made.n), 0, -1)
        return out.p[:out.n]
    finally:
        buffer_free(&steps)
        buffer_free(&made)
        buffer_free(&out)


cdef bytes probe_id(StreamId id):
    cdef char name[16]
    put_id(name, id)
    return name[:16]


def probe_members(Replica r, uint32_t db, bytes key):
    """(type, members): {name: value or score, or (value, deadline) of a field}, sorted sets as a
    list in order; of a stream ({id: fields}, top, max-deleted, entries-added), ids as 16 bytes;
    (T_NONE, None) for no visible key."""
    cdef Kernel *k = &r.k
    cdef Element *e = key_find(k, db, span(key, len(key)))
    cdef int type = key_type(k, e)
    cdef Walk w
    cdef Span v
    out = []
    if type == T_NONE:
        return type, None
    walk_shown(&w, k, e, WALK_FORWARDS)
    while walk_next(&w):
        v = walk_value(k, &w)
        value = w.score if type == T_ZSET else v.p[:v.n]
        if walk_deadline(k, &w) >= 0:
            value = value, walk_deadline(k, &w)
        out.append((w.name.p[:w.name.n], value))
    if type == T_ZSET:
        return type, out
    if type == T_STREAM:
        return (type, (dict(out), probe_id(stream_top(w.c)), probe_id(stream_max_deleted(w.c)),
                       stream_added(k, w.c)))
    if type == T_STRING or type == T_LIST:
        values = [value for _, value in out]
        return type, values if type == T_LIST else values[0]
    return type, dict(out)


cdef list probe_pending(Kernel *k, const GroupView *g, Span owner):
    cdef PendingView p
    cdef StreamId id
    out = []
    memset(&id, 0, sizeof(StreamId))
    while pending_from(k, g, id, owner, &p):
        out.append((probe_id(p.id), p.owner.p[:p.owner.n], p.at, p.deliveries))
        id = p.id
        id.seq += 1
    return out


def probe_groups(Replica r, uint32_t db, bytes key):
    """Of a visible stream {group: (last, [new ids in order of arrival], {consumer}, [(id, owner,
    at, deliveries)])}."""
    cdef Kernel *k = &r.k
    cdef Element *e = key_find(k, db, span(key, len(key)))
    cdef Collection *s
    cdef StreamCursor at
    cdef GroupView g
    cdef ConsumerView c
    cdef PendingView p
    cdef size_t i = 0, j
    out = {}
    if key_type(k, e) != T_STREAM:
        return out
    s = key_collection(k, e, T_STREAM)
    while group_next(k, s, &i, &g):
        new, consumers = [], {}
        assert begins_right(k, s, &g), "something new stands before where it begins to look"
        group_new(k, s, &g, NULL, &at)
        while stream_next(&at):
            new.append(probe_id(at.id))
        j = 0
        while consumer_next(k, &g, &j, &c):
            consumers[c.name.p[:c.name.n]] = c.pending
        pending = probe_pending(k, &g, span(NULL, 0))
        assert len(new) == g.lag and len(pending) == g.pending, (len(new), g.lag, len(pending),
                                                                 g.pending, g.creates)
        for name, n in consumers.items():
            mine = probe_pending(k, &g, span(name, len(name)))
            assert mine == [row for row in pending if row[1] == name and (name or row[2])]
            assert len(mine) == n
        assert len(consumers) == g.consumers
        assert pending_last(k, &g, &p) == (len(pending) > 0)
        assert not pending or probe_id(p.id) == pending[len(pending) - 1][0]
        out[g.name.p[:g.name.n]] = probe_id(g.last), new, set(consumers), pending
    return out


cdef class OrderProbe:
    """An Order of elements without a table."""
    cdef Order o
    cdef dict names

    def __cinit__(self):
        memset(&self.o, 0, sizeof(Order))
        self.names = {}

    def __dealloc__(self):
        order_free(&self.o)
        for address in self.names.values():
            mem_free(<void*><size_t>address[1])

    def insert(self, double score, bytes name):
        cdef Element *e = probe_element(name, 0)
        self.names[name] = score, <size_t>e
        order_insert(&self.o, score_sort_key(score), e)

    def remove(self, bytes name):
        score, address = self.names.pop(name)
        cdef Element *e = <Element*><size_t>address
        order_remove(&self.o, score_sort_key(score), e)
        mem_free(e)

    def rank(self, double score, bytes name):
        return order_rank(&self.o, score_sort_key(score), span(name, len(name)))

    def at(self, size_t rank):
        cdef OrderCursor at
        cdef Item *item = order_at(&self.o, rank, &at)
        return None if item == NULL else probe_key(item.e)

    def names_from(self, size_t rank, bint backwards=False):
        cdef OrderCursor at
        cdef Item *item = order_at(&self.o, rank, &at)
        out = []
        while item != NULL:
            out.append(probe_key(item.e))
            item = order_prev(&at) if backwards else order_next(&at)
        return out

    def check(self):
        return order_check(&self.o)

    def memory(self):
        return order_memory(&self.o)

    def __len__(self):
        return self.o.n


def probe_get(Replica r, uint32_t db, bytes key):
    cdef Element *e = key_find(&r.k, db, span(key, len(key)))
    cdef Span s
    if not key_visible(&r.k, e):
        return None
    s = string_view(&r.k, e)
    return s.p[:s.n]


def probe_same_text(bytes v, bytes w):
    """(what same_text says, the two texts) of two 80-bit numbers."""
    cdef char texts[2][REAL_TEXT]
    cdef long double a = extended_load(v), b = extended_load(w)
    return bool(same_text(a, b)), texts[0][:format_long_double(a,
                                                               texts[0])], texts[1][
                                                                   :format_long_double(b, texts[1])]


def probe_sum(terms):
    """The sum of 64-bit integers and 80-bit numbers (10 bytes), those in a tuple taken away:
    (whole, fraction, exact) as in an op, sum_real as 10 bytes, sum_double."""
    cdef Sum s
    cdef Buffer b
    cdef Total t
    cdef Number v, less
    cdef char real[EXTENDED]
    memset(&b, 0, sizeof(Buffer))
    memset(&v, 0, sizeof(Number))
    sum_zero(&s)
    for term in terms:
        memset(&less, 0, sizeof(Number))
        if isinstance(term, tuple):
            memset(&t, 0, sizeof(Total))
            term = term[0]
            if isinstance(term, int):
                t.whole = term
            else:
                t.fraction = span(term, len(term))
            number_take(&less, &t)
            sum_add_difference(&s, &v, &less)
            number_free(&less)
        elif isinstance(term, int):
            sum_add_whole(&s, term)
        else:
            sum_add_extended(&s, term)
    sum_total(&s, &b, &t)
    number_take(&v, &t)                     # and what is taken in is what was given out
    sum_zero(&s)
    sum_add_number(&s, &v)
    extended_store(real, sum_real(&s))
    out = (t.whole, t.fraction.p[:t.fraction.n],
           t.exact.p[:t.exact.n]), real[:EXTENDED], sum_double(&s)
    number_free(&v)
    buffer_free(&b)
    return out


def probe_reencode(bytes op, uint64_t own=0, form=None):
    """An op's body, of this actor, decoded and encoded again, all the way down, its effects in the
    form they had, or in the shorter one, or not (form); None where the decoder refuses it."""
    cdef OpHead h
    cdef Buffer b, seen, effects
    cdef const char *p
    cdef const char *q
    cdef uint64_t actor, seq
    cdef Effects at
    cdef Before before
    cdef Effect x
    cdef int compact
    cdef ObservedCount s
    cdef int r
    if decode_op(span(op, len(op)), &h) < 0:
        return None
    memset(&b, 0, sizeof(Buffer))
    memset(&seen, 0, sizeof(Buffer))
    memset(&effects, 0, sizeof(Buffer))
    memset(&before, 0, sizeof(Before))
    before.actor = own
    compact = h.compact if form is None else bool(form)
    put_varint(buffer_need(&b, 20) + 1, h.seq)
    b.p[0] = 1 << 3
    b.n = 1 + varint_size(h.seq)
    b.p[b.n] = 2 << 3 | 1
    put_fixed64(b.p + b.n + 1, h.stamp)
    b.n += 9
    p = h.deps.p
    r = decode_dep(&p, h.deps.p + h.deps.n, &actor, &seq)
    while r == 1:
        encode_dep(&b, actor, seq)
        r = decode_dep(&p, h.deps.p + h.deps.n, &actor, &seq)
    begin_effects(&at, &h, own)
    while r == 0:
        r = take_effect(&at, &x)
        if r != 1:
            break
        q = x.observed.p
        seen.n = 0
        while decode_observed(&q, x.observed.p + x.observed.n, &s) == 1:
            encode_observed(&seen, &s)
        x.observed = span(seen.p, seen.n)
        if compact:
            encode_compact(&effects, &x, &before)
        else:
            encode_effect(&b, &x)
        r = 0
    if compact:
        put_span(buffer_need(&b, 11 + effects.n), 5 << 3 | 2, content(&effects))
        b.n += 1 + varint_size(effects.n) + effects.n
    out = b.p[:b.n] if r == 0 else None
    buffer_free(&effects)
    buffer_free(&b)
    buffer_free(&seen)
    return out


def halve_origins(Replica r):
    origins_halve(&r.k.origins)
