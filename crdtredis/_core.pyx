# The CRDT kernel, one extension of several parts. Each part is core/<part>.pxi with its contract in core/<part>.pxd:
#
#     mem       counted allocation
#     hash      SipHash-1-3 and CRC-32C
#     table     the element table
#     segment   records of the log
#     probe     the test door: small Python classes over parts that nothing else shows

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, buffer_need, span

include "core/mem.pxi"
include "core/hash.pxi"
include "core/table.pxi"
include "core/segment.pxi"
include "core/probe.pxi"
