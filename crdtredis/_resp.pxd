# RESP2 and RESP3: the request parser and the reply writer. Pure bytes: knows no command, no socket, no keyspace.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t

from crdtredis.buffer cimport Buffer, Span

include "resp/numbers.pxd"
include "resp/parser.pxd"
include "resp/writer.pxd"
include "resp/objects.pxd"
