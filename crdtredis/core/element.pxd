# Elements: what a key or a member is in memory, and the encodings that its cell has in it.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t

from crdtredis.buffer cimport Span

cdef uint32_t key_hash(Kernel *k, const char *p, size_t n) noexcept nogil
# does a member's cell (a string's) hold anything but tombstones?
cdef int value_live(Element *e) noexcept nogil
cdef Reading element_reading(Kernel *k, Element *e) noexcept nogil
# A visible string's bytes: valid until the next change of the key or the next string_view (numbers
# are formatted into k.scratch.number, HyperLogLogs into k.scratch.image).
cdef Span string_view(Kernel *k, Element *e) noexcept nogil
# the same of a hash's field, whose writes that stand side by side are never merged
cdef Span field_view(Kernel *k, Element *m) noexcept nogil
# WHOLE, WHOLE_SHOWN, or NO_NUMBER where it is no whole number
cdef int string_int(Kernel *k, Element *e, int64_t *out) noexcept nogil
cdef int field_int(Kernel *k, Element *m, int64_t *out) noexcept nogil
# The HyperLogLog that string_view gave of e has been counted: its head shows it, until something is
# written. This is of this replica alone.
cdef void cardinality_put(Kernel *k, Element *e, Span image, uint64_t n) noexcept nogil
# an access: its time, and under an LFU policy a count, are noted
cdef void key_touch(Kernel *k, Element *e) noexcept nogil
# an access by an effect of op number `seq`
cdef void key_written(Kernel *k, Element *e, uint64_t seq) noexcept nogil
cdef uint32_t key_frequency(Kernel *k, Element *e) noexcept nogil       # 0 to 255
cdef void key_set_frequency(Kernel *k, Element *e, uint32_t frequency) noexcept nogil
cdef int64_t key_idle(Kernel *k, Element *e) noexcept nogil                    # seconds
# as if the last access were so long ago; at most 194 days
cdef void key_set_idle(Kernel *k, Element *e, int64_t seconds) noexcept nogil
