# The replicated state as bytes (proto/state.proto): fields and items. give.pxi walks through a
# keyspace and makes them, take.pxi puts them into one.

from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t, uint64_t, uint8_t

from crdtredis.buffer cimport Buffer, Span

cdef enum:
    STATE_VERSION = 1
    PIECE = 64 << 10        # bytes of a piece, and one item more
    NO_ACTOR = 0xffffffff   # no index of the table

cdef enum StateSort:        # KeyType + 1
    SORT_SAME = 0
    SORT_KEY = 1
    SORT_HASH = 2
    SORT_SET = 3
    SORT_ZSET = 4
    SORT_LIST = 5
    SORT_DEADLINES = 6
    SORT_STREAM = 7
    SORT_STREAM_HEAD = 8
    SORT_GROUPS = 9
    SORTS = 10

cdef enum ItemFlag:
    ITEM_NO_WRITE = 1
    ITEM_KEEPS = 2
    ITEM_BACKWARDS = 4
    ITEM_LATE = 8
    ITEM_LOOSE = 16
    ITEM_MARKED = 32

# What the next item is told by: both sides count on alike, from nothing in each piece.
cdef struct Told:
    int sort
    uint32_t actor          # index in the table
    uint64_t seq
    uint64_t stamp

# A message Item. The spans of repeated fields hold their tags and lengths.
cdef struct StateItem:
    int sort
    Span name
    Span value
    uint32_t actor
    uint64_t seq            # as it stands there: zigzag
    uint64_t stamp
    int stamped             # it is there
    uint32_t flags
    uint32_t db
    uint32_t stride
    Span gaps
    Span values
    Span writes
    Span deadlines
    Span counters
    Span patches

# A message Write.
cdef struct StateWrite:
    Span value
    uint32_t actor
    uint64_t seq
    uint64_t stamp
    int stamped
    int keeps
    uint32_t by
    uint64_t deadline
    int loose

# A message Counter.
cdef struct StateCounter:
    uint32_t actor
    uint64_t seq
    uint64_t run
    uint32_t run_index
    Total total
    uint64_t cancelled_seq
    Total cancelled
    uint32_t by_actor
    uint64_t by_seq
    Span shown
    uint64_t context
    int wide

# 1, or -1 where the bytes are not what the format says. Whether they mean something is for
# take.pxi to find.
cdef int decode_item(Span body, StateItem *out) noexcept nogil
cdef int decode_write(Span body, StateWrite *out) noexcept nogil
cdef int decode_counter(Span body, StateCounter *out) noexcept nogil
