# Allocation of keyspace memory. Counted, so that max_memory and INFO need no guess; ends the
# process when the system has none left.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t

cdef void *mem_alloc(size_t n) noexcept nogil
# of what stays for long as it is: see core/slab.pxi
cdef void *mem_alloc_kept(size_t n) noexcept nogil
# all bytes zero; large blocks come zeroed from the kernel, page by page as they are touched
cdef void *mem_zalloc(size_t n) noexcept nogil
cdef void *mem_realloc(void *p, size_t n) noexcept nogil
cdef void mem_free(void *p) noexcept nogil
# bytes that an allocation can hold, and that it takes; of NULL none
cdef size_t mem_room(const void *p) noexcept nogil
cdef size_t mem_size(const void *p) noexcept nogil
# bytes that live allocations take
cdef size_t mem_used() noexcept nogil
# number of live allocations; the tests assert that it returns to its baseline
cdef int64_t mem_live() noexcept nogil
