# Streams that no command comes to any more. See core/sweep.pxi.

# Lets go of what has run out in streams, and goes on there next time; looks at `most` buckets of
# keys, or idempotent ids. Nothing while stamps run ahead, or a state is joined.
cdef void sweep_streams(Kernel *k, int most) noexcept nogil
