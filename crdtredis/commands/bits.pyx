"""Bitmap commands: SETBIT, GETBIT, BITCOUNT, BITPOS, BITOP, BITFIELD and BITFIELD_RO.

A bitmap is a string; bit 0 is the highest bit of the first byte, and what lies beyond the end reads
as zero. What sets bits changes the string in place (core/patches.pxi). A command whose bits are
already as asked makes no effect, unless it makes the string longer.

Scanning goes by words of eight bytes: counting 512 MB takes no longer than in Redis.
"""
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MAX, int64_t, uint64_t, uint8_t
from libc.string cimport memcpy, memset

from crdtredis._core cimport (EFFECT_ROOM, Element, key_delete, key_find, key_visible, may_change,
                              op_room, string_change, string_set, string_view)
from crdtredis._engine cimport Call, is_word, native, refuse, refuse_syntax
from crdtredis._resp cimport reply_array, reply_int, reply_null
from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, buffer_need, span
from crdtredis.commands.common cimport (FOUND, MAX_STRING, MISSING, REFUSED, clamp_range,
                                        copy_grown, find_string, read_int, read_string)
from crdtredis.errors cimport (BITFIELD_OVERFLOW, BITFIELD_RO_GET, BITFIELD_TYPE, BITOP_NOT_ONE_KEY,
                               BITPOS_BIT, BIT_OFFSET, BIT_VALUE)
from crdtredis.numbers cimport parse_int64

from crdtredis.commands.table import KeyRange, command

cdef extern from *:
    int __builtin_clz(unsigned int v) nogil
    bint __builtin_add_overflow(int64_t a, int64_t b, int64_t *sum) nogil


# ---- bits of a span ------------------------------------------------------------------------------
cdef inline uint64_t word_at(const char *p) noexcept nogil:
    cdef uint64_t w
    memcpy(&w, p, 8)
    return w


cdef inline unsigned int bits_in(uint8_t v) noexcept nogil:
    v = v - ((v >> 1) & 0x55)
    v = (v & 0x33) + ((v >> 2) & 0x33)
    return (v + (v >> 4)) & 0x0f


cdef int64_t count_bits(const char *p, size_t n) noexcept nogil:
    """Set bits in n bytes. Up to 31 words are counted into eight byte-wide sums side by side (at
    most 31 * 8 = 248 in each) before those are added up."""
    cdef int64_t total = 0
    cdef uint64_t w, sums
    cdef size_t words
    while n >= 8:
        words = min(n // 8, <size_t>31)
        n -= words * 8
        sums = 0
        while words:
            w = word_at(p)
            w = w - ((w >> 1) & 0x5555555555555555ULL)
            w = (w & 0x3333333333333333ULL) + ((w >> 2) & 0x3333333333333333ULL)
            sums += (w + (w >> 4)) & 0x0f0f0f0f0f0f0f0fULL
            p += 8
            words -= 1
        sums = (sums & 0x00ff00ff00ff00ffULL) + ((sums >> 8) & 0x00ff00ff00ff00ffULL)
        total += (sums * 0x0001000100010001ULL) >> 48
    while n:
        total += bits_in(p[0])
        p += 1
        n -= 1
    return total


cdef int64_t find_bit(const uint8_t *p, int64_t first, int64_t last, int bit) noexcept nogil:
    """Position of the first bit of that value among the bits first to last, both included and
    inside; -1 if there is none."""
    cdef int64_t i = first >> 3, end = last >> 3
    cdef uint64_t flip = 0 if bit else ~<uint64_t>0             # makes what is looked for a set bit
    cdef unsigned int b = (p[i] ^ <uint8_t>flip) & (0xff >> (first & 7))
    while True:
        if i == end:
            b &= 0xff << (7 - (last & 7))
        if b:
            return i * 8 + __builtin_clz(b) - 24
        if i == end:
            return -1
        i += 1
        while end - i >= 8 and word_at(<const char*>p + i) == flip:
            i += 8
        b = p[i] ^ <uint8_t>flip


cdef uint64_t get_field(Span v, uint64_t at, int bits) noexcept nogil:
    """The unsigned number in `bits` (1 to 64) bits from bit `at` on, most significant first."""
    cdef uint64_t i = at >> 3, field = 0
    cdef int left = bits, take, skip = at & 7
    cdef uint8_t b
    while left:
        b = <uint8_t>v.p[i] if i < v.n else 0
        take = min(8 - skip, left)
        field = field << take | ((b >> (8 - skip - take)) & ((1 << take) - 1))
        left -= take
        skip = 0
        i += 1
    return field


cdef void put_field(uint8_t *p, uint64_t at, int bits, uint64_t field) noexcept nogil:
    """Write the low `bits` of field where get_field reads them; the bytes are there."""
    cdef int left = bits, put, skip = at & 7, shift
    cdef unsigned int mask
    p += at >> 3
    while left:
        put = min(8 - skip, left)
        left -= put
        shift = 8 - skip - put
        mask = ((1 << put) - 1) << shift
        p[0] = <uint8_t>((p[0] & ~mask) | ((<unsigned int>(field >> left) << shift) & mask))
        skip = 0
        p += 1


# ---- SETBIT, GETBIT ------------------------------------------------------------------------------
cdef int read_offset(Call *c, Span arg, int field, int64_t *out) noexcept nogil:
    """A bit offset inside a value of the greatest size, or a refusal. field: bits of a field, if
    '#n' may name the n-th such field; else 0."""
    cdef int64_t v, unit = 1
    if field and arg.n and arg.p[0] == c'#':
        unit = field
        arg.p += 1
        arg.n -= 1
    if (not parse_int64(arg.p, arg.n, &v) or v < 0 or v > INT64_MAX // unit
        or v * unit >= <int64_t>MAX_STRING * 8):
        refuse(c, BIT_OFFSET)
        return 0
    out[0] = v * unit
    return 1


cdef void write_field(Call *c, Element *e, Span v, int64_t at, int bits,
                      uint64_t field) noexcept nogil:
    """Puts it into the string under argv[1], where e and v are what was found."""
    cdef uint8_t change[9]
    cdef int skip = at & 7, n = (skip + bits + 7) >> 3
    cdef Buffer b
    memset(change, 0, sizeof(change))
    put_field(change, skip, bits, field)
    if string_change(c.kernel, c.db, c.argv[1], e, 0, at, span(<const char*>change, n),
                     8 * n - skip - bits):
        return
    b = copy_grown(v, (at + bits + 7) >> 3)
    put_field(<uint8_t*>b.p, at, bits, field)
    string_set(c.kernel, c.db, c.argv[1], e, span(b.p, b.n), 1)
    buffer_free(&b)


cdef void setbit(Call *c) noexcept nogil:
    cdef int64_t at, on
    cdef Element *e
    cdef Span v
    cdef uint64_t old
    cdef int found
    if not read_offset(c, c.argv[2], 0, &at):
        return
    if not parse_int64(c.argv[3].p, c.argv[3].n, &on) or on < 0 or on > 1:
        refuse(c, BIT_VALUE)
        return
    found = find_string(c, 1, &e)
    if found == REFUSED:
        return
    v = string_view(c.kernel, e) if found else span(b"", 0)
    old = get_field(v, at, 1)
    if old != <uint64_t>on or <uint64_t>(at >> 3) >= v.n:
        write_field(c, e, v, at, 1, on)
    reply_int(c.reply, old)


cdef void getbit(Call *c) noexcept nogil:
    cdef int64_t at
    cdef Element *e
    cdef int found
    if not read_offset(c, c.argv[2], 0, &at):
        return
    found = read_string(c, 1, &e)
    if found != REFUSED:
        reply_int(c.reply, get_field(string_view(c.kernel, e), at, 1) if found else 0)


# ---- BITCOUNT, BITPOS ----------------------------------------------------------------------------
cdef int read_unit(Call *c, Span arg, int *by_bit) noexcept nogil:
    if is_word(arg, b"BIT"):
        by_bit[0] = 1
    elif is_word(arg, b"BYTE"):
        by_bit[0] = 0
    else:
        refuse_syntax(c)
        return 0
    return 1


cdef void bitcount(Call *c) noexcept nogil:
    cdef Element *e
    cdef Span v
    cdef int64_t first = 0, last = -1, total
    cdef int by_bit = 0, found
    if c.argc == 3 or c.argc > 5:
        refuse_syntax(c)
        return
    # before the key is looked up, as in Redis 8
    if (c.argc > 3 and not (read_int(c, c.argv[2], &first) and read_int(c, c.argv[3], &last))
            or c.argc == 5 and not read_unit(c, c.argv[4], &by_bit)):
        return
    found = read_string(c, 1, &e)
    if found == REFUSED:
        return
    if found == MISSING or first < 0 and last < 0 and first > last and c.argc > 3:
        reply_int(c.reply, 0)
        return
    v = string_view(c.kernel, e)
    clamp_range(&first, &last, <int64_t>(v.n * 8 if by_bit else v.n))
    if first > last:
        reply_int(c.reply, 0)
        return
    if not by_bit:
        first *= 8
        last = last * 8 + 7
    total = count_bits(v.p + (first >> 3), (last >> 3) - (first >> 3) + 1)
    # before the first bit, in its byte
    total -= bits_in(<uint8_t>v.p[first >> 3] & <uint8_t>~(0xff >> (first & 7)))
    # after the last
    total -= bits_in(<uint8_t>v.p[last >> 3] & <uint8_t>(0x7f >> (last & 7)))
    reply_int(c.reply, total)


cdef void bitpos(Call *c) noexcept nogil:
    cdef Element *e
    cdef Span v
    cdef int64_t bit, first = 0, last = -1, at
    cdef int by_bit = 0, found
    if not read_int(c, c.argv[2], &bit):
        return
    if bit < 0 or bit > 1:
        refuse(c, BITPOS_BIT)
        return
    if c.argc > 6:
        refuse_syntax(c)
        return
    if c.argc > 3 and not read_int(c, c.argv[3], &first):
        return
    if c.argc == 6 and not read_unit(c, c.argv[5], &by_bit):
        return
    if c.argc > 4 and not read_int(c, c.argv[4], &last):
        return
    found = read_string(c, 1, &e)
    if found != FOUND:
        if found == MISSING:
            reply_int(c.reply, -1 if bit else 0)
        return
    v = string_view(c.kernel, e)
    clamp_range(&first, &last, <int64_t>(v.n * 8 if by_bit else v.n))
    if first > last:
        reply_int(c.reply, -1)
        return
    if not by_bit:
        first *= 8
        last = last * 8 + 7
    at = find_bit(<const uint8_t*>v.p, first, last, <int>bit)
    if at < 0 and not bit and c.argc < 5:
        # without a given end, the zeros beyond the string count
        at = v.n * 8
    reply_int(c.reply, at)


# ---- BITOP ---------------------------------------------------------------------------------------
cdef enum Operation:
    OP_AND
    OP_OR
    OP_XOR
    OP_NOT


cdef void combine(Buffer *into, Span v, int op) noexcept nogil:
    """into := into op v, where the shorter of the two goes on with zeros."""
    cdef size_t both = min(into.n, v.n), i = 0
    cdef char *p
    cdef uint64_t w
    buffer_need(into, v.n - both)
    p = into.p
    while i < both:
        if both - i >= 8:
            w = word_at(p + i)
            w = (w & word_at(v.p + i) if op == OP_AND else w | word_at(v.p + i) if op == OP_OR
                 else w ^ word_at(v.p + i))
            memcpy(p + i, &w, 8)
            i += 8
        else:
            p[i] = (p[i] & v.p[i] if op == OP_AND else p[i] | v.p[i] if op == OP_OR
                    else p[i] ^ v.p[i])
            i += 1
    if op == OP_AND:
        into.n = max(into.n, v.n)
        if into.n > both:
            memset(p + both, 0, into.n - both)
    elif v.n > both:
        buffer_add(into, v.p + both, v.n - both)


cdef void bitop(Call *c) noexcept nogil:
    cdef int op, i, found
    cdef Element *e
    cdef Span v
    cdef Buffer b
    cdef size_t n
    if is_word(c.argv[1], b"AND"):
        op = OP_AND
    elif is_word(c.argv[1], b"OR"):
        op = OP_OR
    elif is_word(c.argv[1], b"XOR"):
        op = OP_XOR
    elif is_word(c.argv[1], b"NOT"):
        op = OP_NOT
    else:
        refuse_syntax(c)
        return
    if op == OP_NOT and c.argc != 4:
        refuse(c, BITOP_NOT_ONE_KEY)
        return
    memset(&b, 0, sizeof(b))
    for i in range(3, c.argc):
        found = read_string(c, i, &e)
        if found == REFUSED:
            buffer_free(&b)
            return
        v = string_view(c.kernel, e) if found else span(b"", 0)
        if i == 3:
            buffer_add(&b, v.p, v.n)
        else:
            combine(&b, v, op)
    if op == OP_NOT:
        for n in range(b.n):
            b.p[n] = ~b.p[n]
    e = key_find(c.kernel, c.db, c.argv[2])
    if b.n:
        string_set(c.kernel, c.db, c.argv[2], e, span(b.p, b.n), 0)
    elif key_visible(c.kernel, e):
        key_delete(c.kernel, c.db, e)
    reply_int(c.reply, b.n)
    buffer_free(&b)


# ---- BITFIELD ------------------------------------------------------------------------------------
cdef enum FieldVerb:
    FIELD_GET
    FIELD_SET
    FIELD_INCRBY

cdef enum Overflow:
    WRAP
    SAT
    FAIL

cdef struct FieldCall:
    int verb
    int overflow
    int is_signed
    int bits
    int64_t at
    int64_t operand


cdef int read_field(Call *c, int i, FieldCall *f) noexcept nogil:
    """Type and offset of a field, argv[i] and argv[i + 1], or a refusal."""
    cdef Span type = c.argv[i]
    cdef int64_t bits
    if (type.n < 2 or type.p[0] not in (c'i', c'u')
            or not parse_int64(type.p + 1, type.n - 1, &bits) or bits < 1
            or bits > (64 if type.p[0] == c'i' else 63)):
        refuse(c, BITFIELD_TYPE)
        return 0
    f.is_signed = type.p[0] == c'i'
    f.bits = <int>bits
    return read_offset(c, c.argv[i + 1], f.bits, &f.at)


cdef int read_field_calls(Call *c, Buffer *calls) noexcept nogil:
    """argv[2:] as FieldCalls; 0 after a refusal."""
    cdef FieldCall f
    cdef Span word
    cdef int i = 2, rest
    f.overflow = WRAP
    while i < c.argc:
        word = c.argv[i]
        rest = c.argc - i - 1
        if is_word(word, b"OVERFLOW") and rest >= 1:
            word = c.argv[i + 1]
            if is_word(word, b"WRAP"):
                f.overflow = WRAP
            elif is_word(word, b"SAT"):
                f.overflow = SAT
            elif is_word(word, b"FAIL"):
                f.overflow = FAIL
            else:
                refuse(c, BITFIELD_OVERFLOW)
                return 0
            i += 2
            continue
        if is_word(word, b"GET") and rest >= 2:
            f.verb = FIELD_GET
        elif is_word(word, b"SET") and rest >= 3:
            f.verb = FIELD_SET
        elif is_word(word, b"INCRBY") and rest >= 3:
            f.verb = FIELD_INCRBY
        else:
            refuse_syntax(c)
            return 0
        if not read_field(c, i + 1, &f):
            return 0
        if f.verb == FIELD_GET:
            i += 3
        else:
            if not read_int(c, c.argv[i + 3], &f.operand):
                return 0
            i += 4
        buffer_add(calls, &f, sizeof(f))
    return 1


cdef inline int64_t signed_field(uint64_t raw, int bits) noexcept nogil:
    """A field's low bits as a number in two's complement."""
    return <int64_t>(raw << (64 - bits)) >> (64 - bits)


cdef int field_result(const FieldCall *f, uint64_t old, uint64_t *new) noexcept nogil:
    """What SET or INCRBY writes over a field that holds old; 0: it overflows and is to FAIL."""
    cdef int64_t greatest = <int64_t>((<uint64_t>1 << (f.bits - 1)) -
                                      1) if f.is_signed else <int64_t>((<uint64_t>1 << f.bits) - 1)
    cdef int64_t least = -greatest - 1 if f.is_signed else 0
    cdef int64_t base = 0, sum
    cdef int above, below
    if f.verb == FIELD_INCRBY:
        base = signed_field(old, f.bits) if f.is_signed else <int64_t>old
    # in two's complement, as WRAP wants it
    if __builtin_add_overflow(base, f.operand, &sum):
        above = f.operand > 0
        below = not above
    elif f.verb == FIELD_SET and not f.is_signed and sum < 0:
        # taken as a huge unsigned number, as in Redis
        above = 1
        below = 0
    else:
        above = sum > greatest
        below = sum < least
    if (above or below) and f.overflow != WRAP:
        if f.overflow == FAIL:
            return 0
        sum = greatest if above else least
    new[0] = <uint64_t>sum & (~<uint64_t>0 >> (64 - f.bits))
    return 1


cdef inline void reply_field(Call *c, const FieldCall *f, uint64_t raw) noexcept nogil:
    reply_int(c.reply, signed_field(raw, f.bits) if f.is_signed else <int64_t>raw)


cdef int field_call(Call *c, const FieldCall *f, Span v, uint64_t *new) noexcept nogil:
    """Replies to one part of a BITFIELD, of a string that is v. 1: the field becomes new."""
    cdef uint64_t old = get_field(v, f.at, f.bits)
    if f.verb == FIELD_GET:
        reply_field(c, f, old)
        return 0
    if not field_result(f, old, new):
        reply_null(c.reply)
        return 0
    reply_field(c, f, old if f.verb == FIELD_SET else new[0])
    return new[0] != old


cdef void change_fields(Call *c, FieldCall *f, size_t n, int64_t end) noexcept nogil:
    """In place, one after the other. end: bits that the string has then."""
    cdef Element *e
    cdef Span v
    cdef uint64_t new = 0
    cdef size_t i
    cdef int64_t changes = 0
    if not op_room(c.kernel, c.db, n + 1, c.argv[1].n, (n + 1) * (9 + EFFECT_ROOM)):
        return
    e = key_find(c.kernel, c.db, c.argv[1])
    v = string_view(c.kernel, e) if key_visible(c.kernel, e) else span(b"", 0)
    if <int64_t>v.n < (end + 7) >> 3:          # it grows even if every call fails
        write_field(c, e, v, ((end + 7) >> 3) * 8 - 8, 8, 0)
        c.changes = 1
    reply_array(c.reply, n)
    for i in range(n):
        e = key_find(c.kernel, c.db, c.argv[1])
        v = string_view(c.kernel, e) if key_visible(c.kernel, e) else span(b"", 0)
        if field_call(c, &f[i], v, &new):
            write_field(c, e, v, f[i].at, f[i].bits, new)
            changes += 1
    if changes:
        c.changes = changes            # the growing beside them is none to Redis


cdef void bitfield_calls(Call *c, FieldCall *f, size_t n, int writable) noexcept nogil:
    cdef Element *e
    cdef Span v
    cdef Buffer b
    cdef uint64_t new = 0
    cdef int64_t end = 0
    cdef size_t i
    cdef int found, changed = 0
    for i in range(n):
        if f[i].verb != FIELD_GET:
            end = max(end, f[i].at + f[i].bits)                 # bits the string must have
    if end and not writable:
        refuse(c, BITFIELD_RO_GET)
        return
    found = find_string(c, 1, &e) if end else read_string(c, 1, &e)
    if found == REFUSED:
        return
    v = string_view(c.kernel, e) if found else span(b"", 0)
    memset(&b, 0, sizeof(b))
    if end and may_change(c.kernel, e):
        change_fields(c, f, n, end)
        return
    if end:
        b = copy_grown(v, (end + 7) >> 3)
        # the string grows even if every call fails
        changed = b.n > v.n
        v = span(b.p, b.n)
    reply_array(c.reply, n)
    for i in range(n):
        if field_call(c, &f[i], v, &new):
            put_field(<uint8_t*>b.p, f[i].at, f[i].bits, new)
            changed = 1
    if changed:
        string_set(c.kernel, c.db, c.argv[1], e, v, 1)
    buffer_free(&b)


cdef void bitfield_with(Call *c, int writable) noexcept nogil:
    cdef Buffer calls
    memset(&calls, 0, sizeof(calls))
    if read_field_calls(c, &calls):
        bitfield_calls(c, <FieldCall*>calls.p, calls.n // sizeof(FieldCall), writable)
    buffer_free(&calls)


cdef void bitfield(Call *c) noexcept nogil:
    bitfield_with(c, 1)


cdef void bitfield_ro(Call *c) noexcept nogil:
    bitfield_with(c, 0)


# ---- registration --------------------------------------------------------------------------------
ONE_REGISTER = ("The whole string is one register: of concurrent writes the one with the later "
                "timestamp wins.")
IN_PLACE = ("Concurrent changes of different bits are all kept; of the same bit the one with the "
            "later timestamp wins. A change goes with the value that it was made in.")

command("SETBIT key offset value", arity=4, flags="write denyoom one_change", keys=(1, 1, 1),
        access="RW access update", group="bitmap", since="2.2.0",
        summary="Sets or clears one bit of a string.", replicas=IN_PLACE)(native(setbit))
command("GETBIT key offset", arity=3, flags="readonly fast", keys=(1, 1, 1), group="bitmap",
        since="2.2.0", summary="Answers one bit of a string.")(native(getbit))
command("BITCOUNT key [start end [BYTE | BIT]]", arity=-2, flags="readonly", keys=(1, 1, 1),
        group="bitmap", since="2.6.0", complexity="O(N) with N bytes looked at",
        summary="Counts the set bits of a string or of a part of it.")(native(bitcount))
command("BITPOS key bit [start [end [BYTE | BIT]]]", arity=-3, flags="readonly", keys=(1, 1, 1),
        group="bitmap", since="2.8.7", complexity="O(N) with N bytes looked at",
        summary="Answers the position of the first set or clear bit of a string or of a part of "
                "it.")(native(bitpos))
command("BITOP <AND | OR | XOR | NOT> destkey key...", arity=-4, flags="write denyoom",
        keys=[KeyRange("OW update", 2), KeyRange("RO access", 3, -1)], group="bitmap",
        since="2.6.0", complexity="O(N) with N bytes of all sources",
        summary="Stores the bitwise AND, OR, XOR or NOT of strings.",
        replicas=("The result is computed here, from this replica's sources. "
                  + ONE_REGISTER))(native(bitop))
def _access_of_bitfield(argv: list[bytes]) -> str:
    writes = {a.upper() for a in argv[2:]} & {b"SET", b"INCRBY"}
    return "RW access update" if writes else "RO access"


command("BITFIELD key [GET encoding offset | [OVERFLOW <WRAP | SAT | FAIL>] <SET encoding offset "
        "value | INCRBY encoding offset increment>]...", arity=-2, flags="write denyoom",
        keys=(1, 1, 1), access="RW access update variable_flags", access_of=_access_of_bitfield,
        group="bitmap", since="3.2.0",
        complexity="O(1) for each part of the command",
        summary="Reads and writes integers of any width inside a string.",
        replicas=IN_PLACE + " INCRBY of a field is local, unlike INCRBY of a key.")(
        native(bitfield))
command("BITFIELD_RO key [GET encoding offset]...", arity=-2, flags="readonly fast", keys=(1, 1, 1),
        group="bitmap", since="6.0.0", complexity="O(1) for each part of the command",
        summary="Reads integers of any width inside a string.")(native(bitfield_ro))
