# The cell: a register and a counter in one. model: writes nobody has observed away, and one counter
# entry per actor that incremented.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

cdef enum:
    # a SET: cleared the key's deadline at its stamp. In a hash the other way round: the write did
    # not clear the field's
    W_CLEARS = 1
    W_NUMBER = 2            # deadline register: `value` holds an int64 of ms, 0 = "no deadline"
    # a string that no SET made (core/patches.pxi): its newest patch's dot and stamp. Any other wins
    W_LOOSE = 4

cdef struct Write:
    Write *next
    uint64_t dot
    uint64_t stamp
    uint16_t actor          # the stamp's actor: the dot's, but for a deadline asserted again
    uint16_t flags
    uint32_t n              # bytes of value, which follow the struct

cdef struct Count:
    Count *next             # ascending rank of actor
    uint16_t actor
    # the run has left 64 bits as a floating point number, so sums that it is part of do not stop
    # there
    uint16_t wide
    uint32_t run_index
    uint64_t run_seq        # the run is named by (run_seq, run_index): the increment that began it
    uint64_t seq            # last increment observed
    Number total            # the sum of the run's increments as of seq
    Rare *rare              # RARE_NONE, which all share, for nearly every counter

cdef struct Rare:
    uint64_t cancelled_seq  # newest cancellation: `cancelled` was the total as of this seq; 0: none
    uint64_t cancelled_by   # dot of the op that cancelled
    Number cancelled
    # what the newest increment was answered with, where it is not what the sum says; NULL: it is
    Shown *shown

# See core/shown.pxi.
cdef struct Shown:
    uint64_t context
    char number[10]         # 80-bit

cdef struct Cell:
    Write *writes           # newest first is not promised: see cell_winner
    Count *counts

# Nearly every counter: the one Count of a Cell without writes, rare nothing and not wide, its total
# a 64-bit integer. It stands in the element in the Cell's place, as it is (E_WIDE) or in two words:
#     actor slot (16 bits), run_index (8), seq (40) | run_seq (40), total (24)
cdef struct Lone:
    uint64_t dot            # of the last increment observed
    uint64_t run            # run_seq << 16 | run_index
    int64_t total

# Where a lone one's cell is made up for who reads it.
cdef struct LoneRoom:
    Cell cell
    Count count

# What is counted of the counter entries of one database.
cdef struct Counted:
    size_t entries          # tombstones included
    size_t exact            # bytes that their totals take in an op beyond COUNT_ROOM
    int64_t tombstones

# Who is applying what: the op as the rules see it.
cdef struct Applying:
    uint16_t slot           # the op's actor
    uint64_t seq
    uint64_t stamp
    int local               # made here: everything present is observed
    uint32_t index          # of the effect in its op
    Actors *actors          # actors.v[slot].deps are the op's deps while it is applied
    Counted *counted        # of the database that is being changed

cdef inline char *write_value(Write *w) noexcept nogil:
    return <char*>w + sizeof(Write)

cdef inline int is_tombstone(const Count *t) noexcept nogil:
    return t.rare.cancelled_seq >= t.seq

cdef inline int observed(const Applying *op, uint64_t dot) noexcept nogil:
    if op.local:
        return 1
    cdef uint16_t slot = dot_slot(dot)
    if slot == op.slot:
        return dot_seq(dot) <= op.seq
    return vector_get(&op.actors.v[op.slot].deps, slot) >= dot_seq(dot)

# 1 > 2
cdef int later(Actors *a, uint64_t stamp1, uint16_t actor1, uint64_t stamp2,
               uint16_t actor2) noexcept nogil
cdef int cell_live(const Cell *c) noexcept nogil
cdef int cell_empty(const Cell *c) noexcept nogil
cdef Write *cell_winner(Actors *a, const Cell *c) noexcept nogil               # NULL without writes
cdef void cell_free(Cell *c) noexcept nogil
