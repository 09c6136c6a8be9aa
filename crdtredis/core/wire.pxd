# Protobuf's wire format. Cursors are (*p, end); encoders write where there is room.

from libc.stdint cimport uint32_t, uint64_t

from crdtredis.buffer cimport Span

cdef struct Field:
    uint32_t number
    uint32_t wire
    uint64_t v              # varint or fixed64
    Span s                  # length-delimited
