# How large an op may become: see core/sizes.pxi.

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t

cdef enum:
    # bytes of the effects of an op: the greatest value, 512 MiB, fits with what comes with it
    OP_MOST = 640 << 20
    OP_PIECE = 16 << 20     # ... of those that a removal too large for one op is cut into
    # what an encoded effect takes at most beside the bytes of its key, name and value
    EFFECT_ROOM = 32        # without the counter entries it lists
    COUNT_ROOM = 64          # for each of these, beside their names and keys
    STEP_ROOM = 64          # for each step of a list position

# Asked before a command makes its first effect: is there room for n effects on keys of `key` bytes,
# with names and values of `bytes` in all? The counter entries that they list are counted here, and
# a few effects more for what goes with any write.
cdef int op_fits(Kernel *k, uint32_t db, size_t n, size_t key, size_t bytes) noexcept nogil
# The same. Where there is none, the command is refused: it makes no effect, and its client is told
# so (Kernel.open.refused).
cdef int op_room(Kernel *k, uint32_t db, size_t n, size_t key, size_t bytes) noexcept nogil
# Bytes at most of certain effects, for `bytes` above; of counter entries no more is counted than an
# op can hold.
cdef size_t removal_size(Kernel *k, Element *e) noexcept nogil                 # of key_delete
# of what a write removes first; e may be NULL
cdef size_t remainder_size(Kernel *k, uint32_t db, Element *e) noexcept nogil
cdef size_t flush_size(Kernel *k, uint32_t db) noexcept nogil                  # of db_flush
# of writing what e shows under a key of `key` bytes
cdef size_t copy_size(Kernel *k, Element *e, size_t key) noexcept nogil
# of the name of any element of a list
cdef size_t place_size(Collection *c) noexcept nogil
