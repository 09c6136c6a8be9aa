# What a counter or a score shows.
#
# The number of the write that counts, and what the live counter entries add to it, summed up
# exactly and rounded once. Of strings and fields a sum of whole numbers stops at the limits of 64
# bits. A winner that is text hides the counter entries. Infinity less infinity is the score 0.
#
# But one Redis rounds at every increment, and lets INCRBYFLOAT leave 64 bits; and a client of one
# replica must see what it would see there. So an increment of which that is not the sum carries
# what its client was answered, and the context of the answer: a hash of all that the number is read
# from, the dot of the write and the state of each live counter entry. As long as a replica has just
# that, it shows the answer; with anything more or less, the sum:
#
#     k is 123456789.1, synced.   A: INCRBYFLOAT k 0.1. Redis makes it 123456789.19999999999709, and
#                                 so shows every replica that gets it.
#     B: INCRBYFLOAT k 1  ||  that:  both show the sum, 123456790.2 as 64 bits of mantissa hold it.
#                         B: DEL k  ||  that:  both show 0.1.
#
# Which it is depends on the cell alone, and the cell on the set of ops; so replicas that have the
# same ops show the same.

from libc.float cimport LDBL_MAX
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint16_t, uint64_t
from libc.string cimport memcmp, memcpy

from crdtredis.numbers cimport parse_int64, parse_long_double

cdef extern from *:
    """
    typedef __int128 crdt_int128;
    typedef unsigned __int128 crdt_uint128;
    """
    ctypedef long long int128 "crdt_int128"
    ctypedef unsigned long long uint128 "crdt_uint128"


cdef inline int is_beyond(long double v) noexcept nogil:
    """Beyond 64 bits?"""
    return not -9223372036854775808.0 <= v < 9223372036854775808.0


cdef inline int is_whole(long double v) noexcept nogil:
    """Is v a whole number of 64 bits?"""
    return not is_beyond(v) and v == <long double><int64_t>v


cdef inline const Count *next_count(const Reading *r, const Count *t) noexcept nogil:
    """A walk over the live counter entries, r.mine first, that begins with t = NULL."""
    if t == NULL and r.mine != NULL:
        return r.mine
    if t == r.mine:                        # which may be NULL
        t = &r.lone if r.is_lone else r.counts
    else:
        t = t.next
    while t != NULL and (is_tombstone(t) or (r.mine != NULL and t.actor == r.mine.actor)):
        t = t.next
    return t


# ---- answers -------------------------------------------------------------------------------------

cdef uint64_t reading_context(Actors *a, const Reading *r) noexcept nogil:
    """A sum of hashes, so counter entries are in no order."""
    cdef uint64_t key[2]
    cdef uint64_t facts[5]
    cdef uint64_t sum
    cdef const Count *t = next_count(r, NULL)
    key[0] = <uint64_t>0x6372647473686f77
    key[1] = <uint64_t>0x6e636f6e74657874
    facts[0] = a.v[dot_slot(r.dot)].id if r.dot else 0
    facts[1] = dot_seq(r.dot)
    sum = siphash64(<const char*>facts, 2 * sizeof(uint64_t), key)
    while t != NULL:
        facts[0] = a.v[t.actor].id
        facts[1] = t.run_seq
        facts[2] = t.run_index
        facts[3] = t.seq
        facts[4] = t.rare.cancelled_seq
        sum += siphash64(<const char*>facts, sizeof(facts), key)
        t = next_count(r, t)
    return sum


cdef int answered(Actors *a, const Reading *r, long double *out) noexcept nogil:
    """1 where an answer holds. Two in one context can only be made up: then the one of greater
    bytes."""
    cdef const Count *t = next_count(r, NULL)
    cdef const Shown *best = NULL
    cdef uint64_t context = 0
    cdef int known = 0
    while t != NULL:
        if t.rare.shown != NULL:
            if not known:
                context = reading_context(a, r)
                known = 1
            if (t.rare.shown.context == context
                and (best == NULL or memcmp(t.rare.shown.number, best.number, EXTENDED) > 0)):
                best = t.rare.shown
        t = next_count(r, t)
    if best != NULL:
        out[0] = extended_load(best.number)
    return best != NULL


# ---- strings and fields --------------------------------------------------------------------------

cdef int shown_number(Actors *a, const Reading *r, int64_t *whole,
                      long double *real) noexcept nogil:
    cdef const Count *t
    cdef long double base = 0
    cdef int128 sum
    cdef int64_t v = 0
    if r.dot and not parse_int64(r.value.p, r.value.n, &v):
        if not parse_long_double(r.value.p, r.value.n, &base):
            return NO_NUMBER
        return shown_sum(a, r, 0, base, 1, whole, real)
    sum = <int128>v
    t = next_count(r, NULL)
    while t != NULL:
        if t.total.more != NULL or t.rare.cancelled.more != NULL or t.rare.shown != NULL or t.wide:
            return shown_sum(a, r, v, 0, 0, whole, real)
        sum += <int128>t.total.whole - t.rare.cancelled.whole
        t = next_count(r, t)
    whole[0] = <int64_t>sum
    if sum == <int128>whole[0]:
        return WHOLE
    whole[0] = INT64_MAX if sum > 0 else INT64_MIN
    return WHOLE_SHOWN


cdef int shown_sum(Actors *a, const Reading *r, int64_t base, long double real_base, int is_real,
                   int64_t *whole, long double *real) noexcept nogil:
    """The rest of shown_number, where an answer may hold or more than 64-bit numbers are added up.
    is_real: the sum may leave 64 bits, as it may where INCRBYFLOAT had a part in it that left
    them."""
    cdef const Count *t = next_count(r, NULL)
    cdef Sum sum
    cdef int kind
    if answered(a, r, real):
        whole[0] = <int64_t>real[0] if is_whole(real[0]) else 0
        return WHOLE_SHOWN if is_whole(real[0]) else REAL
    sum_zero(&sum)
    sum_add_whole(&sum, base)
    sum_add_real(&sum, real_base)
    while t != NULL:
        sum_add_difference(&sum, &t.total, &t.rare.cancelled)
        is_real |= t.wide
        t = next_count(r, t)
    kind = sum_whole(&sum, whole)
    if kind == 1 or (kind == 2 and not is_real):
        return WHOLE if kind == 1 else WHOLE_SHOWN
    real[0] = sum_real(&sum)
    # more than the type holds stays a number that can be taken from
    if not (sum.plus or sum.minus):
        real[0] = max(min(real[0], LDBL_MAX), -LDBL_MAX)
    return REAL


# ---- scores --------------------------------------------------------------------------------------

cdef double shown_score(Actors *a, const Reading *r) noexcept nogil:
    cdef const Count *t = next_count(r, NULL)
    cdef long double answer
    cdef double score = 0
    cdef int128 whole
    cdef Sum sum
    if r.dot:
        memcpy(&score, r.value.p, sizeof(score))
    if t == NULL:
        return score
    # nearly always no more is to be added up than 64-bit numbers
    if is_whole(score):
        whole = <int64_t>score
        while (t != NULL and t.total.more == NULL and t.rare.cancelled.more == NULL
               and t.rare.shown == NULL):
            whole += <int128>t.total.whole - t.rare.cancelled.whole
            t = next_count(r, t)
        if t == NULL:
            return <double>whole
        t = next_count(r, NULL)
    if answered(a, r, &answer):
        return <double>answer
    sum_zero(&sum)
    sum_add_real(&sum, score)
    while t != NULL:
        sum_add_difference(&sum, &t.total, &t.rare.cancelled)
        t = next_count(r, t)
    return sum_double(&sum)


cdef uint64_t in_places(long double v) noexcept nogil:
    """v, from 0 to 128, in units of 10^-17, of which two are as near the even number: as
    format_long_double rounds it."""
    cdef char bytes[EXTENDED]
    cdef uint64_t m
    cdef uint16_t exponent
    cdef uint128 scaled, rest, half = 1
    cdef int shift
    extended_store(bytes, v)
    memcpy(&m, bytes, 8)
    memcpy(&exponent, bytes + 8, 2)
    # from 57 on; of -0, which has a sign, more than 127
    shift = 16383 + 63 - (exponent & 0x7fff)
    scaled = <uint128>m * <uint64_t>100000000000000000
    if shift > 127:
        return 0
    half <<= shift - 1
    rest = scaled & (half - 1 | half)
    scaled >>= shift
    if rest > half or (rest == half and scaled & 1):
        scaled += 1
    return <uint64_t>scaled


cdef int same_text(long double v, long double w) noexcept nogil:
    """Would format_long_double write both in the same way? From 128 on different numbers are more
    than 10^-17 apart."""
    cdef uint64_t places
    if v == w or not (-128 < v < 128 and -128 < w < 128):
        return v == w
    places = in_places(v if v > 0 else -v)
    return places == in_places(w if w > 0 else -w) and (places == 0 or (v > 0) == (w > 0))


cdef int shows(Actors *a, const Reading *r, int is_score, long double wanted) noexcept nogil:
    cdef long double real
    cdef int64_t whole
    cdef int kind
    if is_score:
        return shown_score(a, r) == wanted
    kind = shown_number(a, r, &whole, &real)
    return same_text(real, wanted) if kind == REAL else kind == NO_NUMBER or whole == wanted
