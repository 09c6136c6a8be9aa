# Entries of a stream side by side in one block. See core/sealed.pxi.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from crdtredis.buffer cimport Span

cdef enum:
    SEALED_ENTRIES = 64     # at most
    SEALED_COLUMNS = 6
    SEALED_FIELDS = 512     # bytes of fields that an entry in a block has at most

# The names of the fields follow, the rows, and the entries' values.
cdef struct Sealed:
    # bits by row:
    uint64_t named          # while a state is joined: the entries that a piece has named
    uint64_t alike          # those whose fields have the names that follow
    uint8_t n               # entries,
    uint8_t skip            # and rows before the first of them, of such that are gone
    uint16_t names          # bytes of them, and of their number in front
    uint16_t each           # bytes of an entry's values, about
    uint8_t row             # bytes of a row
    uint8_t width[6]        # of each column the bytes of a number, and those cut off below, << 4
    uint64_t base[6]        # and what is added to its numbers

cdef struct SealedEntry:
    uint64_t ms             # the id
    uint64_t seq
    uint64_t dot
    uint64_t stamp
    Span fields             # of a block: what it holds of them
    int alike               # of a block: and the names are the block's

# What an order has in place of an element: the block's address, with the entries above it.
cdef inline uint32_t sealed_n(const Element *e) noexcept nogil:
    """0: it is an element."""
    return <uint32_t>(<uint64_t>e >> 48)

cdef inline Sealed *sealed_of(const Element *e) noexcept nogil:
    return <Sealed*>(<uint64_t>e & (<uint64_t>1 << 48) - 1)

cdef inline uint64_t row_bit(const Sealed *b, uint32_t i) noexcept nogil:
    """Of an entry by its place, in `named` and `alike`."""
    return <uint64_t>1 << (i + b.skip)

cdef inline Element *sealed_item(const Sealed *b) noexcept nogil:
    return <Element*>(<uint64_t>b | <uint64_t>b.n << 48)
