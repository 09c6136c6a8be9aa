# HyperLogLogs: strings of Redis's form, here called images. See core/hyperloglog.pxi.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcmp

from crdtredis.buffer cimport Buffer, Span

cdef enum:
    HLL_REGISTERS = 16384
    HLL_HEAD = 16           # bytes of the head,
    HLL_DENSE = 12304       # of a dense image, and
    HLL_SPARSE = 16400      # of a sparse one at most
    HLL_SPARSE_VALUE = 32   # a register that is higher needs the dense form

cdef inline int is_image(Span v) noexcept nogil:
    """Has it an image's head, and a dense one's size? More is only known of its registers."""
    return (v.n >= HLL_HEAD and memcmp(v.p, b"HYLL", 4) == 0
            and (v.p[4] == 1 or (v.p[4] == 0 and v.n == HLL_DENSE)))

cdef inline int image_counted(Span v) noexcept nogil:
    """Does the head of an image have its cardinality?"""
    return not v.p[15] & 0x80

# Raises registers[i] to those of an image: 1; 0 where it is damaged, when some may be raised.
cdef int image_registers(Span v, uint8_t *registers) noexcept nogil
# The image of these registers, not counted, as the only content of `out`; sparse, unless `dense` is
# set or a register is too high for that.
cdef void image_write(Buffer *out, const uint8_t *registers, int dense) noexcept nogil
# Of two writes or more, of which one is an image: what is shown of them, which lies in `out` or in
# one of them. 0: there are no such writes.
cdef int images_shown(const Cell *c, Buffer *out, Span *v) noexcept nogil
