# XXH3, the 64-bit hash that DIGEST answers and IFDEQ compares with: seed 0, the default secret, as
# xxHash's specification has it (doc/xxhash_spec.md of Cyan4973/xxHash, revision 0.2). Header only.
#
#     bytes      how
#     0 to 16    one or two words, mixed once
#     17 to 240  sixteen bytes at a time, each with its part of the secret
#     more       eight accumulators; stripes of 64 bytes, blocks of 16 stripes
#
# It runs without the GIL, which the library for Python needs for every call, and takes 512 MB in
# four tenths of a second. Both machines that the package runs on are little-endian, and it is
# refused at compile time elsewhere.

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    #error "XXH3 is written for little-endian machines"
    #endif
    typedef unsigned __int128 crdt_xxh_wide;
    static const unsigned char crdt_xxh_secret[192] = {
        0xb8,0xfe,0x6c,0x39,0x23,0xa4,0x4b,0xbe,0x7c,0x01,0x81,0x2c,0xf7,0x21,0xad,0x1c,
        0xde,0xd4,0x6d,0xe9,0x83,0x90,0x97,0xdb,0x72,0x40,0xa4,0xa4,0xb7,0xb3,0x67,0x1f,
        0xcb,0x79,0xe6,0x4e,0xcc,0xc0,0xe5,0x78,0x82,0x5a,0xd0,0x7d,0xcc,0xff,0x72,0x21,
        0xb8,0x08,0x46,0x74,0xf7,0x43,0x24,0x8e,0xe0,0x35,0x90,0xe6,0x81,0x3a,0x26,0x4c,
        0x3c,0x28,0x52,0xbb,0x91,0xc3,0x00,0xcb,0x88,0xd0,0x65,0x8b,0x1b,0x53,0x2e,0xa3,
        0x71,0x64,0x48,0x97,0xa2,0x0d,0xf9,0x4e,0x38,0x19,0xef,0x46,0xa9,0xde,0xac,0xd8,
        0xa8,0xfa,0x76,0x3f,0xe3,0x9c,0x34,0x3f,0xf9,0xdc,0xbb,0xc7,0xc7,0x0b,0x4f,0x1d,
        0x8a,0x51,0xe0,0x4b,0xcd,0xb4,0x59,0x31,0xc8,0x9f,0x7e,0xc9,0xd9,0x78,0x73,0x64,
        0xea,0xc5,0xac,0x83,0x34,0xd3,0xeb,0xc3,0xc5,0x81,0xa0,0xff,0xfa,0x13,0x63,0xeb,
        0x17,0x0d,0xdd,0x51,0xb7,0xf0,0xda,0x49,0xd3,0x16,0x55,0x26,0x29,0xd4,0x68,0x9e,
        0x2b,0x16,0xbe,0x58,0x7d,0x47,0xa1,0xfc,0x8f,0xf8,0xb8,0xd1,0x7a,0xd0,0x31,0xce,
        0x45,0xcb,0x3a,0x8f,0x95,0x16,0x04,0x28,0xaf,0xd7,0xfb,0xca,0xbb,0x4b,0x40,0x7e};
    #define CRDT_P32_1 0x9E3779B1ULL
    #define CRDT_P64_1 0x9E3779B185EBCA87ULL
    #define CRDT_P64_2 0xC2B2AE3D27D4EB4FULL
    #define CRDT_P64_3 0x165667B19E3779F9ULL
    static const unsigned long long crdt_xxh_start[8] = {
        0xC2B2AE3DULL, CRDT_P64_1, CRDT_P64_2, CRDT_P64_3, 0x85EBCA77C2B2AE63ULL, 0x85EBCA77ULL,
        0x27D4EB2F165667C5ULL, CRDT_P32_1};
    #define CRDT_MX1 0x165667919E3779F9ULL
    #define CRDT_MX2 0x9FB21C651E98DF25ULL
    """
    ctypedef unsigned long long wide "crdt_xxh_wide"
    const char *SECRET "((const char*)crdt_xxh_secret)"
    const void *START "crdt_xxh_start"          # of the accumulators
    const uint64_t P32_1 "CRDT_P32_1", P64_1 "CRDT_P64_1", P64_2 "CRDT_P64_2"
    const uint64_t P64_3 "CRDT_P64_3", MX1 "CRDT_MX1", MX2 "CRDT_MX2"
    uint64_t bswap64 "__builtin_bswap64"(uint64_t v) nogil

cdef enum:
    STRIPE = 64
    STRIPES = 16                # of a block
    SECRET_SIZE = 192


cdef inline uint64_t word32(const char *p) noexcept nogil:
    cdef uint32_t v
    memcpy(&v, p, 4)
    return v


cdef inline uint64_t word64(const char *p) noexcept nogil:
    cdef uint64_t v
    memcpy(&v, p, 8)
    return v


cdef inline uint64_t rotated(uint64_t v, int bits) noexcept nogil:
    return v << bits | v >> (64 - bits)


cdef inline uint64_t folded(uint64_t a, uint64_t b) noexcept nogil:
    """The product of both, its halves combined."""
    cdef wide product = <wide>a * b
    return <uint64_t>product ^ <uint64_t>(product >> 64)


cdef inline uint64_t avalanche(uint64_t v) noexcept nogil:
    v = (v ^ v >> 37) * MX1
    return v ^ v >> 32


cdef inline uint64_t avalanche_short(uint64_t v) noexcept nogil:
    v = (v ^ v >> 33) * P64_2
    v = (v ^ v >> 29) * P64_3
    return v ^ v >> 32


cdef inline uint64_t mixed(const char *p, size_t at) noexcept nogil:
    """Sixteen bytes with sixteen of the secret."""
    return folded(word64(p) ^ word64(SECRET + at), word64(p + 8) ^ word64(SECRET + at + 8))


cdef inline uint64_t hash_short(const char *p, size_t n) noexcept nogil:
    """0 to 16 bytes."""
    cdef uint64_t a, b, v
    if n > 8:
        a = word64(SECRET + 24) ^ word64(SECRET + 32) ^ word64(p)
        b = word64(SECRET + 40) ^ word64(SECRET + 48) ^ word64(p + n - 8)
        return avalanche(n + bswap64(a) + b + folded(a, b))
    if n > 3:
        v = word64(SECRET + 8) ^ word64(SECRET + 16) ^ (word32(p + n - 4) | word32(p) << 32)
        v = (v ^ rotated(v, 49) ^ rotated(v, 24)) * MX2
        v = (v ^ ((v >> 35) + n)) * MX2
        return v ^ v >> 28
    if n:
        v = (<uint64_t><unsigned char>p[n - 1] | n << 8
             | <uint64_t><unsigned char>p[0] << 16
             | <uint64_t><unsigned char>p[n >> 1] << 24)
        return avalanche_short(word32(SECRET) ^ word32(SECRET + 4) ^ v)
    return avalanche_short(word64(SECRET + 56) ^ word64(SECRET + 64))


cdef inline uint64_t hash_medium(const char *p, size_t n) noexcept nogil:
    """17 to 240 bytes."""
    cdef uint64_t sum = n * P64_1
    cdef size_t i
    if n <= 128:                # from both ends inwards
        for i in range(((n - 1) >> 5) + 1):
            sum += mixed(p + i * 16, i * 32)
            sum += mixed(p + n - i * 16 - 16, i * 32 + 16)
        return avalanche(sum)
    for i in range(8):
        sum += mixed(p + i * 16, i * 16)
    sum = avalanche(sum)
    for i in range(8, n >> 4):
        sum += mixed(p + i * 16, (i - 8) * 16 + 3)
    return avalanche(sum + mixed(p + n - 16, 119))


cdef inline void accumulate(uint64_t *sums, const char *p, const char *secret) noexcept nogil:
    """One stripe."""
    cdef uint64_t word, keyed
    cdef int i
    for i in range(8):
        word = word64(p + i * 8)
        keyed = word ^ word64(secret + i * 8)
        sums[i ^ 1] += word
        sums[i] += <uint64_t><uint32_t>keyed * (keyed >> 32)


cdef inline uint64_t hash_long(const char *p, size_t n) noexcept nogil:
    """More than 240 bytes."""
    cdef uint64_t[8] sums
    cdef uint64_t out = n * P64_1
    cdef const char *last = p + n - STRIPE
    cdef size_t left = n
    cdef int i
    memcpy(sums, START, sizeof(sums))
    while left > STRIPE * STRIPES:                      # the last block is not whole, even if full
        for i in range(STRIPES):
            accumulate(sums, p + i * STRIPE, SECRET + i * 8)
        for i in range(8):
            sums[i] ^= sums[i] >> 47 ^ word64(SECRET + SECRET_SIZE - STRIPE + i * 8)
            sums[i] *= P32_1
        p += STRIPE * STRIPES
        left -= STRIPE * STRIPES
    for i in range(<int>((left - 1) // STRIPE)):
        accumulate(sums, p + i * STRIPE, SECRET + i * 8)
    accumulate(sums, last, SECRET + SECRET_SIZE - STRIPE - 7)
    for i in range(4):
        out += folded(sums[2 * i] ^ word64(SECRET + 11 + 16 * i),
                      sums[2 * i + 1] ^ word64(SECRET + 19 + 16 * i))
    return avalanche(out)


cdef inline uint64_t xxh3(const char *p, size_t n) noexcept nogil:
    """The hash of n bytes, any number."""
    return hash_short(p, n) if n <= 16 else hash_medium(p, n) if n <= 240 else hash_long(p, n)
