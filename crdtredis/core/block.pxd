# Blocks: consecutive list elements of one run, packed. See core/block.pxi.

from libc.stdint cimport int64_t, int8_t, uint16_t, uint32_t, uint64_t, uint8_t

# Where an element stands in its run.
cdef struct Place:
    int64_t offset
    uint64_t own            # dot of its insert ...
    uint32_t index          # ... and the effect's place in the op

# One allocation: Block, the steps above the last, the page. The page holds the values from its
# begin on, each behind what tells it from the element before (where there is no stride), and where
# each ends, as uint16, from its end on downwards.
cdef struct Block:
    Cell cell               # of a single element that is not packed: what was assigned to it
    uint32_t n              # elements
    uint32_t begin          # places at the beginning of the page that were popped
    uint32_t used           # bytes of the page, the popped included
    uint32_t cap            # bytes of the page, even
    int64_t major
    uint64_t run
    uint32_t run_index
    uint16_t depth          # steps of a position
    int8_t direction        # of offsets along the page: 1, -1, 0 while there is one element
    uint8_t stride          # STRIDE_*, or else 1 + how far the own seqs of all neighbours are apart
    Place first             # along the page, so the last in the list where direction is -1
    Place last

cdef enum:
    STRIDE_NONE = 0         # each element says how it differs from the one before
    STRIDE_NEW = 255        # one element, which says nothing

cdef inline int block_packed(const Block *b) noexcept nogil:
    return b.cell.writes == NULL

# The head's and the tail's place.
cdef inline Place *block_head(Block *b) noexcept nogil:
    return &b.last if b.direction < 0 else &b.first

cdef inline Place *block_tail(Block *b) noexcept nogil:
    return &b.first if b.direction < 0 else &b.last
