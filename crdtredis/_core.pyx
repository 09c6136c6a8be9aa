# The CRDT kernel, one extension of several parts. Each part is core/<part>.pxi with its contract in
# core/<part>.pxd; read them in this order:
#
#     mem       counted allocation
#     pages     freed memory goes back to the system
#     hash      SipHash-1-3 and CRC-32C
#     table     the element table
#     actors    actors, their order, what each has seen
#     exact     sums without rounding
#     cell      the cell: writes and counter entries
#     shown     what a counter or a score shows
#     codec     ops as bytes
#     position  where a list element stands
#     block     list elements, packed
#     order     ranks of sorted set members and list elements
#     keyspace  encodings of a key, deadlines, visibility, watching
#     list      the elements of a list and what effects do to them
#     apply     what an effect does to the state
#     sizes     how large an op may become
#     effects   making ops (local commands)
#     pending   ops that may not be applied yet
#     receive   taking ops in, giving them out
#     tombstones letting go of tombstones nobody needs
#     replica   the Replica, as Python sees it
#     batch     Batches as bytes: which ops they hold, and cutting them
#     record    records of the log
#     segment_writer  the segment file that is appended to
#     probe     the test door: small Python classes over parts that nothing else shows

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stddef cimport size_t
from libc.limits cimport INT_MAX
from libc.stdint cimport (INT64_MAX, INT64_MIN, int8_t, int32_t, int64_t, uint8_t, uint16_t,
                          uint32_t, uint64_t)

from crdtredis.buffer cimport (Buffer, Span, buffer_add, buffer_free, buffer_need, buffer_resize,
                               huge_pages, span)
from crdtredis.numbers cimport (REAL_TEXT, format_int64, format_long_double, parse_int64,
                                parse_long_double)

include "core/mem.pxi"
include "core/pages.pxi"
include "core/hash.pxi"
include "core/table.pxi"
include "core/actors.pxi"
include "core/exact.pxi"
include "core/cell.pxi"
include "core/shown.pxi"
include "core/codec.pxi"
include "core/position.pxi"
include "core/block.pxi"
include "core/order.pxi"
include "core/keyspace.pxi"
include "core/list.pxi"
include "core/apply.pxi"
include "core/sizes.pxi"
include "core/effects.pxi"
include "core/pending.pxi"
include "core/receive.pxi"
include "core/tombstones.pxi"
include "core/replica.pxi"
include "core/batch.pxi"
include "core/record.pxi"
include "core/segment_writer.pxi"
include "core/probe.pxi"
