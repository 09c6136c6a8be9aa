# What a counter or a score shows.

from libc.stdint cimport int64_t, uint64_t

from crdtredis.buffer cimport Span

cdef enum NumberKind:
    NO_NUMBER = 0           # the write that counts is not a number
    WHOLE = 1               # the sum itself
    # a whole number of 64 bits that stands for the sum: the limit that it is beyond, or what a
    # client was answered
    WHOLE_SHOWN = 2
    REAL = 3

# What it is read from.
cdef struct Reading:
    uint64_t dot            # of the write that counts; 0: there is none
    Span value              # its value
    const Count *counts
    int is_lone             # there is only `lone`
    Count lone
    const Count *mine       # stands for its actor's counter entry, there or not; NULL: nothing does

# into *whole or *real, by what it answers
cdef int shown_number(Actors *a, const Reading *r, int64_t *whole, long double *real) noexcept nogil
cdef double shown_score(Actors *a, const Reading *r) noexcept nogil
# is wanted what is shown?
cdef int shows(Actors *a, const Reading *r, int is_score, long double wanted) noexcept nogil
cdef uint64_t reading_context(Actors *a, const Reading *r) noexcept nogil
