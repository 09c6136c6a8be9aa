# The CRDT kernel: clocks, cells, the keyspace, the op codec. Knows no RESP, no socket and no wall
# clock; of files, only the segment that log appends to.

from libc.stddef cimport size_t
from libc.stdint cimport int8_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from crdtredis.buffer cimport Buffer, Span, span

include "core/mem.pxd"
include "core/pages.pxd"
include "core/hash.pxd"
include "core/table.pxd"
include "core/pending.pxd"
include "core/actors.pxd"
include "core/exact.pxd"
include "core/cell.pxd"
include "core/shown.pxd"
include "core/codec.pxd"
include "core/position.pxd"
include "core/block.pxd"
include "core/order.pxd"
include "core/keyspace.pxd"
include "core/sizes.pxd"
include "core/record.pxd"
include "core/segment_writer.pxd"
