# RESP2 and RESP3: the request parser and the reply writer. Pure bytes: knows no command, no socket,
# no keyspace.

from libc.stddef cimport size_t
from libc.stdint cimport INT64_MAX, int64_t, uint64_t

from crdtredis.buffer cimport Buffer, Span
from crdtredis.numbers cimport (REAL_TEXT, format_int64, format_long_double, format_uint64,
                                is_space, parse_int64, parse_long_double)

include "resp/numbers.pxd"
include "resp/parser.pxd"
include "resp/writer.pxd"
include "resp/objects.pxd"
