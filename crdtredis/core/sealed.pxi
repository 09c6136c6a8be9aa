# A block of entries of a stream: how little can an entry take, and still be come to by itself?
#
# An entry by itself is an element of 24 bytes and its id, in a table and an order: 92 bytes where
# the fields take 19. But nearly all are alike: the ids rise, the dots are those of an actor one
# after the other, the stamp is next to the id, and the names of the fields are those of the entry
# before. So up to SEALED_ENTRIES that stand side by side, each of one write, are held as
#
#     Sealed | names of the fields | rows | values | room to read 8 bytes from the last row on
#
#     row     ms of the id, seq of the id, slot of the actor, seq of the dot less the row's number,
#             stamp less what an id of `*` says of it, end of the values less what it is about
#
# Each number of a row is as wide as the greatest of its column needs, above the least (base), and
# without the bytes that are 0 in all below: none at all where all are the same. So every row is as
# long as the other, and an entry is found by its place or, by halves, by its id.
#
# The values are the fields as they came, or, where the names are those of the block, without them.
# A block is never changed, but for its marks, and that its first entries go (skip): who takes
# others out makes another.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from crdtredis.buffer cimport Span, copy_span, span

cdef extern from *:
    int bits_set "__builtin_popcountll"(unsigned long long x) noexcept nogil

cdef enum:
    COLUMN_MS = 0
    COLUMN_SEQ = 1
    COLUMN_SLOT = 2
    COLUMN_DOT = 3
    COLUMN_STAMP = 4
    COLUMN_END = 5
    SEALED_SPARE = 8

# of what may be below 0
cdef uint64_t COLUMN_MIDDLE = <uint64_t>1 << 63


cdef inline const char *sealed_names(const Sealed *b) noexcept nogil:
    return <const char*>b + sizeof(Sealed)


cdef inline const char *sealed_rows(const Sealed *b) noexcept nogil:
    return sealed_names(b) + b.names


cdef inline uint64_t column_next(const Sealed *b, int column, const char **p) noexcept nogil:
    """The number at *p, which moves on."""
    cdef uint64_t v
    cdef int bits = 8 * (b.width[column] & 15)
    if bits == 0:
        return b.base[column]
    memcpy(&v, p[0], sizeof(v))
    p[0] += bits >> 3
    if bits < 64:
        v &= (<uint64_t>1 << bits) - 1
    return b.base[column] + (v << 8 * (b.width[column] >> 4))


cdef inline const char *sealed_row(const Sealed *b, uint32_t i) noexcept nogil:
    return sealed_rows(b) + (i + b.skip) * b.row


cdef inline uint64_t sealed_ms(const Sealed *b, uint32_t i) noexcept nogil:
    cdef const char *p = sealed_row(b, i)
    return column_next(b, COLUMN_MS, &p)


cdef inline uint64_t sealed_seq(const Sealed *b, uint32_t i) noexcept nogil:
    cdef const char *p = sealed_row(b, i) + (b.width[COLUMN_MS] & 15)
    return column_next(b, COLUMN_SEQ, &p)


cdef inline uint64_t sealed_tick(uint64_t ms, uint64_t seq) noexcept nogil:
    """The stamp that an id of `*` is made of."""
    return ms << 16 | (seq >> 16 & 0xffff)


cdef uint32_t sealed_rank(const Sealed *b, uint64_t ms, uint64_t seq) noexcept nogil:
    """Entries below this id."""
    cdef uint32_t low = 0, high = b.n, middle
    cdef uint64_t x
    while low < high:
        middle = (low + high) // 2
        x = sealed_ms(b, middle)
        if x < ms or (x == ms and sealed_seq(b, middle) < seq):
            low = middle + 1
        else:
            high = middle
    return low


cdef inline uint64_t dot_next(const Sealed *b, uint32_t i, const char **p) noexcept nogil:
    cdef uint64_t slot = column_next(b, COLUMN_SLOT, p)
    return slot << 48 | (column_next(b, COLUMN_DOT, p) + i + b.skip - COLUMN_MIDDLE)


cdef uint64_t sealed_dot(const Sealed *b, uint32_t i) noexcept nogil:
    cdef const char *p = sealed_row(b, i) + (b.width[COLUMN_MS] & 15) + (b.width[COLUMN_SEQ] & 15)
    return dot_next(b, i, &p)


cdef inline size_t values_end(const Sealed *b, uint32_t row) noexcept nogil:
    cdef const char *p = sealed_rows(b) + (row + 1) * b.row - (b.width[COLUMN_END] & 15)
    return column_next(b, COLUMN_END, &p) + (row + 1) * b.each - COLUMN_MIDDLE


cdef void sealed_fields(const Sealed *b, uint32_t i, SealedEntry *x) noexcept nogil:
    """Nothing but these."""
    cdef const char *values = sealed_rows(b) + (b.n + b.skip) * b.row
    cdef size_t begin = values_end(b, i + b.skip - 1) if i + b.skip else 0
    x.fields = span(values + begin, values_end(b, i + b.skip) - begin)
    x.alike = b.alike & row_bit(b, i) != 0


cdef void sealed_get(const Sealed *b, uint32_t i, SealedEntry *x) noexcept nogil:
    cdef const char *p = sealed_row(b, i)
    x.ms = column_next(b, COLUMN_MS, &p)
    x.seq = column_next(b, COLUMN_SEQ, &p)
    x.dot = dot_next(b, i, &p)
    x.stamp = column_next(b, COLUMN_STAMP, &p) + sealed_tick(x.ms, x.seq) - COLUMN_MIDDLE
    sealed_fields(b, i, x)


cdef inline size_t fields_size(const Sealed *b, const SealedEntry *x) noexcept nogil:
    return x.fields.n + (b.names if x.alike else 0)


cdef inline char *put_sized(char *to, const char **p) noexcept nogil:
    """The text at *p, which moves on, with its length."""
    cdef const char *from_ = p[0]
    cdef uint64_t n = <uint8_t>from_[0]
    if n < 128:
        p[0] += n + 1
    else:
        get_varint(p, from_ + 10, &n)
        p[0] += n
    memcpy(to, from_, p[0] - from_)
    return to + (p[0] - from_)


cdef void fields_put(const Sealed *b, const SealedEntry *x, char *to) noexcept nogil:
    """All of them, into room for that."""
    cdef const char *name = sealed_names(b)
    cdef const char *names_end = name + b.names
    cdef const char *value = x.fields.p
    cdef uint64_t n
    if not x.alike:
        copy_span(to, x.fields)
        return
    get_varint(&name, names_end, &n)
    memcpy(to, sealed_names(b), name - sealed_names(b))
    to += name - sealed_names(b)
    while name < names_end:
        to = put_sized(to, &name)
        to = put_sized(to, &value)


# ---- making --------------------------------------------------------------------------------------

cdef char *put_names(char *to, Span fields) noexcept nogil:
    """How many pairs there are, and their names. Returns where they end."""
    cdef const char *p = fields.p
    cdef const char *end = fields.p + fields.n
    cdef const char *from_ = p
    cdef uint64_t pairs, n = 0, i
    get_varint(&p, end, &pairs)
    for i in range(2 * pairs + 1):
        if i:
            from_ = p
            get_varint(&p, end, &n)
            p += n
        if i == 0 or i & 1:
            memcpy(to, from_, p - from_)
            to += p - from_
    return to


cdef int are_alike(Span fields, const char *names, size_t n) noexcept nogil:
    """Are the names of these fields those?"""
    cdef const char *p = fields.p
    cdef const char *end = fields.p + fields.n
    cdef const char *from_ = p
    cdef const char *names_end = names + n
    cdef uint64_t pairs, length, i
    get_varint(&p, end, &pairs)
    for i in range(2 * pairs + 1):
        if i:
            from_ = p
            get_varint(&p, end, &length)
            p += length
        if i == 0 or i & 1:
            if names_end - names < p - from_ or memcmp(names, from_, p - from_):
                return 0
            names += p - from_
    return names == names_end


cdef char *put_values(char *to, Span fields) noexcept nogil:
    """Without the names."""
    cdef const char *p = fields.p
    cdef const char *end = fields.p + fields.n
    cdef const char *from_
    cdef uint64_t pairs, n, i
    get_varint(&p, end, &pairs)
    for i in range(2 * pairs):
        from_ = p
        get_varint(&p, end, &n)
        p += n
        if i & 1:
            memcpy(to, from_, p - from_)
            to += p - from_
    return to


cdef inline void entry_row(const SealedEntry *x, uint32_t i, uint64_t *row) noexcept nogil:
    """But for the last column."""
    row[COLUMN_MS] = x.ms
    row[COLUMN_SEQ] = x.seq
    row[COLUMN_SLOT] = x.dot >> 48
    row[COLUMN_DOT] = (x.dot & (<uint64_t>1 << 48) - 1) - i + COLUMN_MIDDLE
    row[COLUMN_STAMP] = x.stamp - sealed_tick(x.ms, x.seq) + COLUMN_MIDDLE


cdef Sealed *sealed_new(const SealedEntry *v, uint32_t n, uint64_t named) noexcept nogil:
    """Of 1 to SEALED_ENTRIES in order of their ids, with all of their fields."""
    cdef uint64_t rows[64][6]              # SEALED_ENTRIES, SEALED_COLUMNS
    cdef uint64_t bits
    cdef Sealed head
    cdef Sealed *b
    cdef char first[512]                   # SEALED_FIELDS
    cdef size_t names = put_names(first, v[0].fields) - first, bytes = 0
    cdef char *p
    cdef char *to
    cdef uint32_t i
    cdef int j
    memset(&head, 0, sizeof(Sealed))
    head.n = <uint8_t>n
    head.names = <uint16_t>names
    head.named = named
    for i in range(n):
        bytes += v[i].fields.n
        if are_alike(v[i].fields, first, names):
            head.alike |= <uint64_t>1 << i
            bytes -= names
        entry_row(&v[i], i, rows[i])
        rows[i][COLUMN_END] = bytes
    head.each = <uint16_t>(bytes // n)
    for i in range(n):
        rows[i][COLUMN_END] += COLUMN_MIDDLE - (i + 1) * head.each
    for j in range(SEALED_COLUMNS):
        head.base[j] = rows[0][j]
        for i in range(1, n):
            head.base[j] = min(head.base[j], rows[i][j])
        bits = 0
        for i in range(n):
            bits |= rows[i][j] - head.base[j]
        while bits and not bits & 255:
            head.width[j] += 1 << 4
            bits >>= 8
        while bits:
            head.width[j] += 1
            bits >>= 8
        head.row += head.width[j] & 15
    b = <Sealed*>mem_alloc(sizeof(Sealed) + names + n * head.row
                           + max(bytes, <size_t>SEALED_SPARE))
    b[0] = head
    memcpy(<char*>sealed_names(b), first, names)
    p = <char*>sealed_rows(b)
    for i in range(n):
        for j in range(SEALED_COLUMNS):
            bits = (rows[i][j] - b.base[j]) >> 8 * (b.width[j] >> 4)
            memcpy(p, &bits, sizeof(bits))     # what is too much is written over
            p += b.width[j] & 15
    to = p
    for i in range(n):
        if b.alike >> i & 1:
            to = put_values(to, v[i].fields)
        else:
            copy_span(to, v[i].fields)
            to += v[i].fields.n
    return b
