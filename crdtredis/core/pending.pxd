# The causal buffer: received ops that may not be applied yet. See core/pending.pxi.

cdef enum:
    # bytes of waiting ops that one call of receive applies beside what it is given
    PENDING_SLICE = 256 << 10
    PENDING_SHARE = 2          # one actor's ops may take the room's limit divided by this

# Would others hold back the next op made here, because the stamps here have run away from the
# clock?
cdef int stamps_run_ahead(Kernel *k) noexcept nogil
cdef void pending_settle(Kernel *k) noexcept nogil
