# Letting go of tombstones. See core/tombstones.pxi.

# Lets go of tombstones that nobody needs; looks at `most` buckets of keys or members and goes on
# there next time. 1 when that ended a round, or none is to be begun while a state is joined.
cdef int collect(Kernel *k, int most) noexcept nogil
