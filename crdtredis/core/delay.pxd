# See core/delay.pxi.

from libc.stdint cimport uint16_t, uint32_t, uint64_t

# An op of this actor is applied now.
cdef void note_delay(Kernel *k, uint16_t slot, uint64_t stamp) noexcept nogil
# The longest delay that is counted at this index, ms.
cdef uint64_t delay_bound(uint32_t i) noexcept nogil
cdef void delays_free(Kernel *k) noexcept nogil
