# HyperLogLogs: 16384 registers of 6 bits that only rise, in a string.
#
# To the replicas such a string is a value like others: a command that raises a register writes the
# whole image and removes the writes it observed. What is of its own is how writes that nobody had
# observed are shown: not the latest, but all images together, by the maximum of each register, and
# no other text beside them. So no PFADD that made an op is lost to a concurrent one, nor to a SET:
#
#     A: PFADD h a  writes {a}   ||   B: PFADD h b  writes {b}
#     both have the two writes, and show {a, b}.  A: PFADD h c  observes both, and writes {a, b, c}
#
#     A: DEL h  (observed {a})   ||   B: PFADD h b  writes {a, b}
#     both show {a, b}, as APPEND would leave it
#
# What is shown depends on the writes alone, and they on the set of ops (core/cell.pxi).
#
# Not chosen: a type of its own whose registers have dots, so that a DEL takes away from a
# concurrent PFADD all that it had seen. It takes ten bytes a register where this takes three
# quarters of one, or a base that is folded once all have observed it. The price here is the size of
# an op: up to 12 KiB for a PFADD that raises a register, as SETBIT pays.
#
# The form is Redis's, so that clients may move images by GET and SET:
#
#     "HYLL"  form (1 byte: 0 dense, 1 sparse)  3 bytes of 0  cardinality (8 bytes, little endian;
#     the highest bit: it is not known)
#     dense:   6 bits for each register, the lowest bits of a byte first
#     sparse:  00nnnnnn            n + 1 registers of 0
#              01nnnnnn nnnnnnnn   the same
#              1vvvvvnn            n + 1 registers of v + 1

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t
from libc.string cimport memcpy, memset

from crdtredis.buffer cimport Buffer, Span, buffer_need, span


cdef int dense_registers(const uint8_t *p, uint8_t *registers) noexcept nogil:
    cdef uint8_t four[4]
    cdef int i, j
    for i in range(0, HLL_REGISTERS, 4):
        four[0] = p[0] & 63
        four[1] = (p[0] >> 6 | p[1] << 2) & 63
        four[2] = (p[1] >> 4 | p[2] << 4) & 63
        four[3] = p[2] >> 2
        for j in range(4):
            registers[i + j] = max(registers[i + j], four[j])
        p += 3
    return 1


cdef int image_registers(Span v, uint8_t *registers) noexcept nogil:
    cdef const uint8_t *p = <const uint8_t*>v.p + HLL_HEAD
    cdef const uint8_t *end = <const uint8_t*>v.p + v.n
    cdef int i = 0, j, n, value
    if not is_image(v):
        return 0
    if v.p[4] == 0:
        return dense_registers(p, registers)
    while p < end:
        value = 0
        if p[0] & 0x80:
            n = (p[0] & 3) + 1
            value = (p[0] >> 2 & 31) + 1
        elif p[0] & 0x40:
            if p + 1 == end:
                return 0
            n = ((p[0] & 63) << 8 | p[1]) + 1
            p += 1
        else:
            n = p[0] + 1
        p += 1
        if i + n > HLL_REGISTERS:
            return 0
        if value:
            for j in range(i, i + n):
                registers[j] = max(registers[j], <uint8_t>value)
        i += n
    return i == HLL_REGISTERS


cdef void dense_write(uint8_t *p, const uint8_t *r) noexcept nogil:
    cdef int i
    for i in range(0, HLL_REGISTERS, 4):
        p[0] = <uint8_t>(r[i] | r[i + 1] << 6)
        p[1] = <uint8_t>(r[i + 1] >> 2 | r[i + 2] << 4)
        p[2] = <uint8_t>(r[i + 2] >> 4 | r[i + 3] << 2)
        p += 3


cdef size_t sparse_write(uint8_t *p, const uint8_t *r) noexcept nogil:
    """How many bytes it takes; 0 where a register is too high."""
    cdef uint8_t *begin = p
    cdef int i = 0, n
    while i < HLL_REGISTERS:
        n = 1
        while i + n < HLL_REGISTERS and r[i + n] == r[i] and (n < 4 or r[i] == 0):
            n += 1
        if r[i] > HLL_SPARSE_VALUE:
            return 0
        if r[i]:
            p[0] = <uint8_t>(0x80 | (r[i] - 1) << 2 | (n - 1))
        elif n <= 64:
            p[0] = <uint8_t>(n - 1)
        else:
            p[0] = <uint8_t>(0x40 | (n - 1) >> 8)
            p += 1
            p[0] = <uint8_t>(n - 1)
        p += 1
        i += n
    return p - begin


cdef void image_write(Buffer *out, const uint8_t *registers, int dense) noexcept nogil:
    cdef uint8_t *p
    cdef size_t n = 0
    out.n = 0
    buffer_need(out, HLL_SPARSE)
    memset(out.p, 0, HLL_HEAD)
    memcpy(out.p, b"HYLL", 4)
    out.p[15] = <char>0x80
    p = <uint8_t*>out.p + HLL_HEAD
    if not dense:
        n = sparse_write(p, registers)
    if n:
        out.p[4] = 1
        out.n = HLL_HEAD + n
    else:
        dense_write(p, registers)
        out.n = HLL_DENSE


cdef int images_shown(const Cell *c, Buffer *out, Span *v) noexcept nogil:
    cdef uint8_t registers[HLL_REGISTERS]
    cdef const Write *w = c.writes
    cdef Span x
    cdef int n = 0, dense = 0, begun = 0
    if w == NULL or w.next == NULL:
        return 0
    while w != NULL:
        x = span(<const char*>w + sizeof(Write), w.n)
        if is_image(x) and not w.flags & W_LOOSE:
            if not begun:
                memset(registers, 0, HLL_REGISTERS)
                begun = 1
            if whole_image(x, registers):
                v[0] = x
                n += 1
                dense |= x.p[4] == 0
        w = w.next
    if n > 1:
        image_write(out, registers, dense)
        v[0] = span(out.p, out.n)
    return n > 0


cdef int whole_image(Span v, uint8_t *registers) noexcept nogil:
    """Raises registers to those of an image; 0, and no register raised, where it is damaged."""
    cdef uint8_t own[HLL_REGISTERS]
    cdef int i
    memset(own, 0, HLL_REGISTERS)
    if not image_registers(v, own):
        return 0
    for i in range(HLL_REGISTERS):
        registers[i] = max(registers[i], own[i])
    return 1
