"""HyperLogLog: PFADD, PFCOUNT, PFMERGE, and PFDEBUG and PFSELFTEST as Redis has them.

A HyperLogLog is a string of a form of its own (core/hyperloglog.pxi, which also says what
concurrent replicas get). A command that raises a register copies the image, changes the copy, as
Redis changes its own, to the byte, and writes it; one that raises none makes no effect.

Elements are counted by MurmurHash64A: 14 bits of the hash choose the register, and the number of
zero bits before the first one of the others, plus one, is what it is raised to. The cardinality is
estimated from how many registers have each value (O. Ertl, New cardinality estimation algorithms
for HyperLogLog sketches, 2017), with a standard error of 1.04 / sqrt(16384) = 0.81 %.

PFCOUNT makes no effect either: that an image was counted, which its head says, is remembered beside
it. In Redis it is a write, which here could undo a DEL of another replica.
"""
from libc.math cimport INFINITY, llroundl, pow, sqrt
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memmove, memset

from crdtredis._core cimport (HLL_HEAD, HLL_REGISTERS, HLL_SPARSE_VALUE, Element, cardinality_put,
                              image_counted, image_registers, image_write, is_image, key_find,
                              string_set, string_view)
from crdtredis._engine cimport Call, is_word, native, refuse
from crdtredis._resp cimport reply_array, reply_bulk, reply_int, reply_ok, reply_simple
from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, buffer_need, span
from crdtredis.commands.common cimport (FOUND, MISSING, REFUSED, copy_grown, find_string,
                                        read_string)
from crdtredis.errors cimport (HLL_CORRUPTED, HLL_NOT_SPARSE, NOT_HLL, PFDEBUG_NO_KEY,
                               PFDEBUG_SUBCOMMAND, PFSELFTEST_FAILED)
from libc.stdio cimport snprintf

from crdtredis.commands.table import KeyRange, command

cdef extern from *:
    int __builtin_ctzll(unsigned long long v) nogil

cdef enum:
    INDEX_BITS = 14
    HASH_BITS = 50              # the others
    UNKNOWN = 0x80              # in the last byte of the head: the cardinality is not known

cdef enum Raised:
    DAMAGED = -1
    NOT_RAISED = 0
    RAISED = 1


# ---- counting ------------------------------------------------------------------------------------
cdef uint64_t murmur(Span s) noexcept nogil:
    """MurmurHash64A, little endian, with Redis's seed."""
    cdef uint64_t m = <uint64_t>0xc6a4a7935bd1e995
    cdef uint64_t h = <uint64_t>0xadc83b19 ^ s.n * m
    cdef uint64_t word
    cdef const char *p = s.p
    cdef size_t left = s.n
    while left >= 8:
        memcpy(&word, p, 8)
        word *= m
        h = (h ^ (word ^ word >> 47) * m) * m
        p += 8
        left -= 8
    if left:
        word = 0
        memcpy(&word, p, left)
        h = (h ^ word) * m
    h = (h ^ h >> 47) * m
    return h ^ h >> 47


cdef double zeros_share(double x) noexcept nogil:
    """Ertl's sigma."""
    cdef double y = 1, z = x, before = -1
    if x == 1:
        return INFINITY
    while z != before:
        x *= x
        before = z
        z += x * y
        y += y
    return z


cdef double full_share(double x) noexcept nogil:
    """Ertl's tau."""
    cdef double y = 1, z = 1 - x, before = -1
    if x == 0 or x == 1:
        return 0
    while z != before:
        x = sqrt(x)
        before = z
        y *= 0.5
        z -= pow(1 - x, 2) * y
    return z / 3


cdef uint64_t estimate(const uint8_t *registers) noexcept nogil:
    cdef int having[64]
    cdef double m = HLL_REGISTERS, z
    cdef int i
    memset(having, 0, sizeof(having))
    for i in range(HLL_REGISTERS):
        having[registers[i]] += 1
    z = m * full_share((m - having[HASH_BITS + 1]) / m)
    for i in range(HASH_BITS, 0, -1):
        z = (z + having[i]) * 0.5
    z += m * zeros_share(having[0] / m)
    return <uint64_t>llroundl(0.721347520444481703680 * m * m / z)         # 1 / (2 ln 2)


# ---- raising a register of an image --------------------------------------------------------------
cdef int dense_raise(Buffer *b, int index, int value) noexcept nogil:
    cdef uint8_t *p = <uint8_t*>b.p + HLL_HEAD + index * 6 // 8
    cdef int shift = index * 6 & 7
    cdef int there = p[0] >> shift
    if shift > 2:
        there |= p[1] << (8 - shift)
    if there & 63 >= value:
        return NOT_RAISED
    p[0] = <uint8_t>(p[0] & ~(63 << shift) | value << shift)
    if shift > 2:
        p[1] = <uint8_t>(p[1] & ~(63 >> (8 - shift)) | value >> (8 - shift))
    return RAISED


cdef int make_dense(Buffer *b) noexcept nogil:
    """The head keeps the cardinality. 0 where b is damaged."""
    cdef uint8_t registers[HLL_REGISTERS]
    cdef char head[HLL_HEAD]
    memset(registers, 0, HLL_REGISTERS)
    memcpy(head, b.p, HLL_HEAD)
    if not image_registers(span(b.p, b.n), registers):
        return 0
    image_write(b, registers, 1)
    head[4] = 0
    memcpy(b.p, head, HLL_HEAD)
    return 1


# Registers side by side that are the same: one piece of a sparse image.
cdef struct Stretch:
    int value
    int n
    int bytes


cdef inline Stretch stretch_at(const uint8_t *p) noexcept nogil:
    """p may be followed by one byte that is not its."""
    cdef Stretch s
    s.value = (p[0] >> 2 & 31) + 1 if p[0] & 0x80 else 0
    s.bytes = 2 if p[0] & 0xc0 == 0x40 else 1
    if s.value:
        s.n = (p[0] & 3) + 1
    elif s.bytes == 2:
        s.n = ((p[0] & 63) << 8 | p[1]) + 1
    else:
        s.n = p[0] + 1
    return s


cdef inline int stretch_put(uint8_t *p, int value, int n) noexcept nogil:
    """How many bytes it takes."""
    if n == 0:
        return 0
    if value:
        p[0] = <uint8_t>(0x80 | (value - 1) << 2 | (n - 1))
    elif n <= 64:
        p[0] = <uint8_t>(n - 1)
    else:
        p[0] = <uint8_t>(0x40 | (n - 1) >> 8)
        p[1] = <uint8_t>(n - 1)
        return 2
    return 1


cdef void join_stretches(Buffer *b, size_t at) noexcept nogil:
    """Of the five from `at` on, makes one of neighbours of the same value where one can hold
    them."""
    cdef uint8_t *p = <uint8_t*>b.p + at
    cdef Stretch s, next
    cdef int i
    for i in range(5):
        if p >= <uint8_t*>b.p + b.n:
            break
        s = stretch_at(p)
        if s.value and p + 1 < <uint8_t*>b.p + b.n:
            next = stretch_at(p + 1)
            if s.value == next.value and s.n + next.n <= 4:
                stretch_put(p, s.value, s.n + next.n)
                memmove(p + 1, p + 2, <uint8_t*>b.p + b.n - p - 2)
                b.n -= 1
                continue
        p += s.bytes


cdef int sparse_raise(Buffer *b, int index, int value, int64_t most) noexcept nogil:
    """Splits the stretch that holds the register. An image of more than `most` bytes, or with a
    higher value than it can hold, becomes dense."""
    cdef uint8_t pieces[5]
    cdef Stretch s
    cdef size_t at = HLL_HEAD, before = HLL_HEAD
    cdef int first = 0, n
    while value <= HLL_SPARSE_VALUE:
        if at >= b.n:
            return DAMAGED
        buffer_need(b, 1)
        s = stretch_at(<uint8_t*>b.p + at)
        if at + s.bytes > b.n:
            return DAMAGED
        if index < first + s.n:
            break
        before = at
        at += s.bytes
        first += s.n
    if value <= HLL_SPARSE_VALUE:
        if s.value >= value:
            return NOT_RAISED
        n = stretch_put(pieces, s.value, index - first)
        n += stretch_put(pieces + n, value, 1)
        n += stretch_put(pieces + n, s.value, first + s.n - 1 - index)
        if n <= s.bytes or <int64_t>b.n + n - s.bytes <= most:
            buffer_need(b, n)
            memmove(b.p + at + n, b.p + at + s.bytes, b.n - at - s.bytes)
            memcpy(b.p + at, pieces, n)
            b.n = b.n + n - s.bytes
            join_stretches(b, before)
            return RAISED
    return dense_raise(b, index, value) if make_dense(b) else DAMAGED


cdef int image_raise(Buffer *b, int index, int value, int64_t most) noexcept nogil:
    """Raises a register: a Raised."""
    return sparse_raise(b, index, value, most) if b.p[4] else dense_raise(b, index, value)


cdef int image_add(Buffer *b, Span element, int64_t most) noexcept nogil:
    cdef uint64_t hash = murmur(element)
    return image_raise(b, hash & (HLL_REGISTERS - 1),
                       __builtin_ctzll(hash >> INDEX_BITS | <uint64_t>1 << HASH_BITS) + 1, most)


cdef Buffer new_image() noexcept nogil:
    """Sparse, of one stretch."""
    cdef Buffer b
    memset(&b, 0, sizeof(b))
    buffer_add(&b, b"HYLL\1\0\0\0\0\0\0\0\0\0\0\x80\x7f\xff", HLL_HEAD + 2)
    return b


# ---- commands ------------------------------------------------------------------------------------
cdef int view_image(Call *c, int found, Element *e, Span *v) noexcept nogil:
    """What stands under a key that was looked up, where that is an image; else 0, after a refusal
    if there is something else."""
    if found != FOUND:
        return 0
    v[0] = string_view(c.kernel, e)
    if is_image(v[0]):
        return 1
    refuse(c, NOT_HLL)
    return 0


cdef int open_image(Call *c, Element **e, Buffer *b) noexcept nogil:
    """A copy of the image under argv[1], or a new one: FOUND or MISSING. *e as by find_string."""
    cdef Span v
    cdef int found = find_string(c, 1, e)
    if found == MISSING:
        b[0] = new_image()
        return MISSING
    if not view_image(c, found, e[0], &v):
        return REFUSED
    b[0] = copy_grown(v, 0)
    return FOUND


cdef void store_image(Call *c, Span key, Element *e, Buffer *b) noexcept nogil:
    b.p[15] = <char>(b.p[15] | UNKNOWN)
    string_set(c.kernel, c.db, key, e, span(b.p, b.n), 1)


cdef void pfadd(Call *c) noexcept nogil:
    cdef Element *e
    cdef Buffer b
    cdef int i, raised = NOT_RAISED
    cdef int found = open_image(c, &e, &b)
    if found == REFUSED:
        return
    c.changes = found == MISSING
    for i in range(2, c.argc):
        raised = image_add(&b, c.argv[i], c.dispatch.encoding.hll_sparse)
        if raised == DAMAGED:
            break
        c.changes += raised
    if raised == DAMAGED:
        refuse(c, HLL_CORRUPTED)
    else:
        if c.changes:
            store_image(c, c.argv[1], e, &b)
        reply_int(c.reply, c.changes > 0)
    buffer_free(&b)


cdef void pfcount(Call *c) noexcept nogil:
    cdef uint8_t registers[HLL_REGISTERS]
    cdef Element *e
    cdef Span v
    cdef uint64_t n
    cdef int i, found = MISSING
    memset(registers, 0, HLL_REGISTERS)
    for i in range(1, c.argc):
        found = read_string(c, i, &e)
        if found == MISSING:
            continue
        if not view_image(c, found, e, &v):
            return
        if c.argc == 2 and image_counted(v):
            memcpy(&n, v.p + 8, 8)
            reply_int(c.reply, <int64_t>n)
            return
        if not image_registers(v, registers):
            refuse(c, HLL_CORRUPTED)
            return
    n = estimate(registers)
    if c.argc == 2 and found == FOUND:
        cardinality_put(c.kernel, e, v, n)
    reply_int(c.reply, <int64_t>n)


cdef void pfmerge(Call *c) noexcept nogil:
    cdef uint8_t registers[HLL_REGISTERS]
    cdef Element *e
    cdef Span v
    cdef Buffer b
    cdef int i, found, dense = 0
    memset(registers, 0, HLL_REGISTERS)
    for i in range(1, c.argc):
        found = read_string(c, i, &e)
        if found == MISSING:
            continue
        if not view_image(c, found, e, &v):
            return
        dense |= v.p[4] == 0
        if not image_registers(v, registers):
            refuse(c, HLL_CORRUPTED)
            return
    if open_image(c, &e, &b) == REFUSED:
        return
    if dense and b.p[4]:
        make_dense(&b)
    for i in range(HLL_REGISTERS):
        if registers[i]:
            image_raise(&b, i, registers[i], c.dispatch.encoding.hll_sparse)
    c.changes = 1
    store_image(c, c.argv[1], e, &b)
    reply_ok(c.reply)
    buffer_free(&b)


cdef void reply_stretches(Call *c, const Buffer *b) noexcept nogil:
    cdef Buffer text
    cdef char part[32]
    cdef Stretch s
    cdef size_t at = HLL_HEAD
    cdef int n
    memset(&text, 0, sizeof(text))
    while at < b.n:
        s = stretch_at(<const uint8_t*>b.p + at)
        n = (snprintf(part, sizeof(part), b"v:%d,%d ", s.value, s.n) if s.value
             else snprintf(part, sizeof(part), b"%c:%d ", c'Z' if s.bytes == 2 else c'z', s.n))
        buffer_add(&text, part, n)
        at += s.bytes
    reply_bulk(c.reply, text.p, text.n - (text.n > 0))
    buffer_free(&text)


cdef void reply_registers(Call *c, const Buffer *b) noexcept nogil:
    cdef uint8_t registers[HLL_REGISTERS]
    cdef int i
    memset(registers, 0, HLL_REGISTERS)
    image_registers(span(b.p, b.n), registers)
    reply_array(c.reply, HLL_REGISTERS)
    for i in range(HLL_REGISTERS):
        reply_int(c.reply, registers[i])


cdef void debug_image(Call *c, Element *e, Buffer *b) noexcept nogil:
    cdef int sparse = b.p[4] != 0
    cdef int registers = is_word(c.argv[1], b"GETREG")
    cdef char text[256]
    if registers or is_word(c.argv[1], b"TODENSE"):
        if sparse and not make_dense(b):
            refuse(c, HLL_CORRUPTED)
            return
        if sparse:
            string_set(c.kernel, c.db, c.argv[2], e, span(b.p, b.n), 1)
        if registers:
            reply_registers(c, b)
        else:
            reply_int(c.reply, sparse)
    elif is_word(c.argv[1], b"DECODE"):
        if sparse:
            reply_stretches(c, b)
        else:
            refuse(c, HLL_NOT_SPARSE)
    elif is_word(c.argv[1], b"ENCODING"):
        reply_simple(c.reply, b"sparse" if sparse else b"dense")
    else:
        snprintf(text, sizeof(text), PFDEBUG_SUBCOMMAND, <int>min(c.argv[1].n, <size_t>128),
                 c.argv[1].p)
        refuse(c, text)


cdef void pfdebug(Call *c) noexcept nogil:
    cdef Element *e
    cdef Span v
    cdef Buffer b
    cdef int found = find_string(c, 2, &e)
    if found == MISSING:
        refuse(c, PFDEBUG_NO_KEY)
    elif view_image(c, found, e, &v):
        b = copy_grown(v, v.n + 1)          # of what is damaged, the last stretch may go on
        b.n = v.n
        debug_image(c, e, &b)
        buffer_free(&b)


cdef int self_test() noexcept nogil:
    """The two forms agree while elements are added, and the estimate is never four times the
    standard error off."""
    cdef uint8_t registers[2][HLL_REGISTERS]
    cdef Buffer sparse = new_image(), dense = new_image()
    cdef int64_t i, n
    cdef int sound = make_dense(&dense), added
    for i in range(1, 100001):
        added = image_add(&sparse, span(<const char*>&i, 8), 3000)
        sound &= added == image_add(&dense, span(<const char*>&i, 8), 3000)
        if i in (1, 10, 100, 1000, 10000, 100000):
            memset(registers, 0, sizeof(registers))
            sound &= image_registers(span(sparse.p, sparse.n), registers[0])
            sound &= image_registers(span(dense.p, dense.n), registers[1])
            n = <int64_t>estimate(registers[0])
            sound &= n == <int64_t>estimate(registers[1])
            sound &= -0.0325 * i <= n - i <= 0.0325 * i
    buffer_free(&sparse)
    buffer_free(&dense)
    return sound


cdef void pfselftest(Call *c) noexcept nogil:
    if self_test():
        reply_ok(c.reply)
    else:
        refuse(c, PFSELFTEST_FAILED)


# ---- registration --------------------------------------------------------------------------------
UNION = ("Of concurrent writes, a SET of a HyperLogLog included, all are counted. A concurrent "
         "removal leaves what this replica had.")

command("PFADD key [element]...", arity=-2, flags="write denyoom fast", keys=(1, 1, 1),
        access="RW insert", group="hyperloglog", since="2.8.9",
        complexity="O(1) for each element, and up to 12 KiB to write where one is new",
        summary="Adds elements to a HyperLogLog; answers whether its cardinality may have changed.",
        replicas=UNION + " Where all elements were counted already, nothing is written.")(
        native(pfadd))
command("PFCOUNT key...", arity=-2, flags="readonly may_replicate", keys=(1, -1, 1),
        access="RW access", group="hyperloglog", since="2.8.9",
        complexity="O(1) where nothing was added since, O(N) with N keys",
        summary="Answers about how many different elements HyperLogLogs have seen together.")(
        native(pfcount))
command("PFMERGE destkey [sourcekey]...", arity=-2, flags="write denyoom",
        keys=[KeyRange("RW access insert", 1), KeyRange("RO access", 2, -1)], group="hyperloglog",
        since="2.8.9", complexity="O(N) with N sources",
        summary="Makes a HyperLogLog of what it and others have seen.",
        replicas="The sources are this replica's. " + UNION)(native(pfmerge))
command("PFDEBUG subcommand key", arity=3, flags="write denyoom admin", keys=(2, 2, 1),
        access="RW access", group="hyperloglog", since="2.8.9",
        complexity="O(1)", summary="Shows how a HyperLogLog is held, or makes it dense.",
        replicas=UNION)(native(pfdebug))
command("PFSELFTEST", arity=1, flags="admin", group="hyperloglog", since="2.8.9",
        complexity="O(1)", summary="Tests the counting.")(native(pfselftest))
