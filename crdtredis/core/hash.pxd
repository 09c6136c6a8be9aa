# Hashes: SipHash-1-3 keys tables (attackers choose keys), CRC-32C guards records.

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

# key: two words; the upper 32 bits of the sum
cdef uint32_t siphash(const char *p, size_t n, const uint64_t *key) noexcept nogil
# all 64 bits of it
cdef uint64_t siphash64(const char *p, size_t n, const uint64_t *key) noexcept nogil
# chainable: start with 0; SSE4.2 / ARMv8 where there, else tables
cdef uint32_t crc32c(uint32_t crc, const char *p, size_t n) noexcept nogil
