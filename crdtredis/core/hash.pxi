# Two sums over bytes, each for one purpose.
#
# siphash: SipHash-1-3 (Aumasson and Bernstein's construction with one round per word and three at
# the end) places keys in tables. Clients choose the keys, so the function must be keyed: with a
# secret drawn at start nobody can prepare keys that collide. 1-3 instead of the original 2-4 is
# what Rust, Ruby and others use for tables; it costs about half. Only the upper 32 bits are kept:
# a member stores them, and a table of 2^32 slots is beyond what one replica holds.
#
# crc32c: the Castagnoli CRC (polynomial 0x1EDC6F41, reflected 0x82F63B78) guards records on disk.
# It finds every burst error up to 32 bits, and the machine computes it: one instruction per 8 bytes
# on x86-64 with SSE4.2, chosen at run time, and on ARMv8 where the compiler was told that the CRC
# extension is there. Elsewhere eight tables take 8 bytes per step. It is no protection against
# intent.

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t, uint8_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #if defined(__x86_64__)
    #define CRC32C_HARDWARE __builtin_cpu_supports("sse4.2")
    __attribute__((target("sse4.2")))
    static uint32_t crc32c_hardware(uint32_t crc, const char *p, size_t n)
    {
        uint64_t sum = crc, word;
        for (; n >= 8; p += 8, n -= 8) {
            memcpy(&word, p, 8);
            sum = __builtin_ia32_crc32di(sum, word);
        }
        for (; n; p++, n--)
            sum = __builtin_ia32_crc32qi((uint32_t)sum, (unsigned char)*p);
        return (uint32_t)sum;
    }
    #elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
    #include <arm_acle.h>
    #define CRC32C_HARDWARE 1
    static uint32_t crc32c_hardware(uint32_t crc, const char *p, size_t n)
    {
        uint64_t word;
        for (; n >= 8; p += 8, n -= 8) {
            memcpy(&word, p, 8);
            crc = __crc32cd(crc, word);
        }
        for (; n; p++, n--)
            crc = __crc32cb(crc, (unsigned char)*p);
        return crc;
    }
    #else
    #define CRC32C_HARDWARE 0
    static uint32_t crc32c_hardware(uint32_t crc, const char *p, size_t n)
    { (void)p; (void)n; return crc; }
    #endif
    """
    int CRC32C_HARDWARE
    uint32_t crc32c_hardware(uint32_t crc, const char *p, size_t n) noexcept nogil


# ---- SipHash-1-3 ---------------------------------------------------------------------------------

cdef inline uint64_t load64(const char *p) noexcept nogil:
    """Little-endian word at any address; the supported machines are all little-endian."""
    cdef uint64_t x
    memcpy(&x, p, 8)
    return x


cdef inline uint64_t rotate(uint64_t x, int bits) noexcept nogil:
    return x << bits | x >> (64 - bits)


cdef inline void sip_round(uint64_t *v) noexcept nogil:
    v[0] += v[1]
    v[1] = rotate(v[1], 13) ^ v[0]
    v[0] = rotate(v[0], 32)
    v[2] += v[3]
    v[3] = rotate(v[3], 16) ^ v[2]
    v[0] += v[3]
    v[3] = rotate(v[3], 21) ^ v[0]
    v[2] += v[1]
    v[1] = rotate(v[1], 17) ^ v[2]
    v[2] = rotate(v[2], 32)


cdef uint64_t siphash64(const char *p, size_t n, const uint64_t *key) noexcept nogil:
    cdef uint64_t v[4]
    cdef uint64_t word
    cdef uint64_t last = <uint64_t>n << 56
    cdef const char *end = p + (n & ~<size_t>7)
    cdef unsigned int i
    v[0] = key[0] ^ <uint64_t>0x736f6d6570736575
    v[1] = key[1] ^ <uint64_t>0x646f72616e646f6d
    v[2] = key[0] ^ <uint64_t>0x6c7967656e657261
    v[3] = key[1] ^ <uint64_t>0x7465646279746573
    while p < end:
        word = load64(p)
        v[3] ^= word
        sip_round(v)
        v[0] ^= word
        p += 8
    for i in range(<unsigned int>(n & 7)):
        last |= <uint64_t><uint8_t>p[i] << (8 * i)
    v[3] ^= last
    sip_round(v)
    v[0] ^= last
    v[2] ^= 0xff
    sip_round(v)
    sip_round(v)
    sip_round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


cdef uint32_t siphash(const char *p, size_t n, const uint64_t *key) noexcept nogil:
    return <uint32_t>(siphash64(p, n, key) >> 32)


# ---- CRC-32C -------------------------------------------------------------------------------------

cdef uint32_t crc_table[8][256]     # [k][b]: the sum of byte b followed by k zero bytes
cdef int crc_by_hardware = CRC32C_HARDWARE


cdef void crc_tables_fill() noexcept nogil:
    cdef uint32_t i, crc
    cdef int k
    for i in range(256):
        crc = i
        for k in range(8):
            crc = crc >> 1 ^ (<uint32_t>0x82f63b78 if crc & 1 else 0)
        crc_table[0][i] = crc
    for k in range(1, 8):
        for i in range(256):
            crc = crc_table[k - 1][i]
            crc_table[k][i] = crc >> 8 ^ crc_table[0][crc & 0xff]

crc_tables_fill()


cdef uint32_t crc32c_tables(uint32_t crc, const char *p, size_t n) noexcept nogil:
    """The sum without the complements at both ends, as crc32c_hardware gives it."""
    cdef uint64_t x
    while n >= 8:
        x = load64(p) ^ crc
        crc = (crc_table[7][x & 0xff] ^ crc_table[6][x >> 8 &
                                                     0xff] ^ crc_table[5][
                                                         x >> 16 &
                                                         0xff] ^ crc_table[4][x >> 24 & 0xff]
               ^ crc_table[3][x >> 32 & 0xff] ^ crc_table[2][x >> 40 &
                                                             0xff] ^ crc_table[1][
                                                                 x >> 48 &
                                                                 0xff] ^ crc_table[0][x >> 56])
        p += 8
        n -= 8
    while n:
        crc = crc >> 8 ^ crc_table[0][(crc ^ <uint8_t>p[0]) & 0xff]
        p += 1
        n -= 1
    return crc


cdef uint32_t crc32c(uint32_t crc, const char *p, size_t n) noexcept nogil:
    if crc_by_hardware:
        return ~crc32c_hardware(~crc, p, n)
    return ~crc32c_tables(~crc, p, n)
