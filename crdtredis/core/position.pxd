# Positions of list elements: immutable, unique, totally ordered, and the same order in every
# replica.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from crdtredis.buffer cimport Buffer, Span

# A position is an array of steps, compared one after the other; nearly always it is one.
cdef struct Step:
    int64_t major
    uint64_t run            # dot that began the run of pushes
    int64_t offset          # in the run
    uint64_t own            # dot of the op that made the position ...
    uint32_t own_index      # ... and the effect's place in the op
    uint32_t run_index      # the same for `run`

cdef enum:
    MAX_STEPS = 256         # deepest position made, or taken from a peer

cdef inline int64_t offset_step(uint32_t depth) noexcept nogil:
    """How far apart the offsets of neighbours in a run are made."""
    return 1 if depth == 1 else <int64_t>1 << 40

# A fresh position between two neighbours (empty spans: the ends of the list), appended to b as
# steps: 1; 0 where it would have more than MAX_STEPS. `own`, `index`: who asks. `recent`: the dots
# of the last two inserts into the list, the last first. `beyond`: the element at the other side of
# the later neighbour, where later_in_run tells which that is; else empty.
cdef int between(Actors *a, Span left, Span right, Span beyond, const uint64_t *recent,
                 uint64_t own, uint32_t index, Buffer *b) noexcept nogil
# Of two neighbours in one run, which is the later? 1: the right one, -1: the left one, 0: unknown.
cdef int later_in_run(Span left, Span right, const uint64_t *recent) noexcept nogil
# Wire form (Effect.name of LIST): actors by id. Where the last step was made by the op that carries
# it, its dot is left out.
# index: of the effect in that op, where the position may have the shorter form; else -1.
cdef void encode_position(Actors *a, Buffer *b, Span steps, uint64_t op_dot,
                          int64_t index) noexcept nogil
# Appends the steps to b: 1; 0 where an actor is unknown; -1 where the bytes are no position. op_dot
# and index as above, the index in any case.
cdef int decode_position(Actors *a, Buffer *b, Span wire, uint64_t op_dot,
                         uint32_t index) noexcept nogil
