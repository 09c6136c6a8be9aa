# Sums without rounding: what counters add up, and what is cancelled from them.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t

from crdtredis.buffer cimport Buffer, Span

cdef enum:
    # no limb stands lower: 2^-16445, the least 80-bit number, is in this one
    LIMB_LOW = -257
    # no limb of a total stands here or higher: totals are below 2^16511 in size
    LIMB_HIGH = 258
    # those between, and what the totals of all actors together may need above
    SUM_LIMBS = 520
    COUNT_BITS = 56         # of how many infinities a total counts
    EXACT_ROOM = 4200       # bytes of a message Exact at most, with its tag and length
    # bytes of an 80-bit number: 8 of mantissa with its leading bit, 2 of sign and exponent
    EXTENDED = 10

# A sum under way, on the stack. Two's complement; limb[i] counts 2^(64 * (low + i)). The first limb
# is not 0, the last not superfluous.
cdef struct Sum:
    int low
    int n                   # limbs in use; 0: zero
    uint64_t plus           # infinities that were added, by sign
    uint64_t minus
    uint64_t limb[520]

# A total in memory: a 64-bit integer, or whatever `more` holds.
cdef struct Number:
    int64_t whole           # means nothing beside `more`
    Limbs *more             # NULL for nearly every counter

cdef struct Limbs:
    int low
    int n                   # limbs, which follow the struct
    uint64_t plus
    uint64_t minus

# A total as it stands in an op: a 64-bit integer, or one of two longer forms.
cdef struct Total:
    int64_t whole
    Span fraction           # an 80-bit number; or
    Span exact              # the body of a message Exact

cdef void sum_zero(Sum *s) noexcept nogil
cdef void sum_add_whole(Sum *s, int64_t v) noexcept nogil
# an infinity is counted; not a NaN
cdef void sum_add_real(Sum *s, long double v) noexcept nogil
cdef void sum_add_number(Sum *s, const Number *v) noexcept nogil
# v less `less`. Of the infinities that v has more of, one each: that many are always enough.
cdef void sum_add_difference(Sum *s, const Number *v, const Number *less) noexcept nogil
# 1: it is *out; 2: *out is the 64-bit limit that it is beyond; 0: no whole number
cdef int sum_whole(const Sum *s, int64_t *out) noexcept nogil
# the nearest, of two the even one; infinities of both signs: 0
cdef long double sum_real(const Sum *s) noexcept nogil
cdef double sum_double(const Sum *s) noexcept nogil                             # the same
# *out in its shortest form, of which the bytes lie in b, over what was there
cdef void sum_total(const Sum *s, Buffer *b, Total *out) noexcept nogil
cdef void number_total(const Number *v, Buffer *b, Total *out) noexcept nogil   # the same
# *v := t; what *v held is freed
cdef void number_take(Number *v, const Total *t) noexcept nogil
cdef void number_free(Number *v) noexcept nogil
# bytes of its message Exact at most, with tag and length
cdef size_t number_room(const Number *v) noexcept nogil
# are the bytes a message Exact?
cdef int exact_is_sound(Span body) noexcept nogil
# never a NaN: what is none is 0
cdef long double extended_load(const char *p) noexcept nogil
cdef void extended_store(char *out, long double v) noexcept nogil
