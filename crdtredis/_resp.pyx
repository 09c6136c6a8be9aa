# The RESP codec, one extension of several parts. Each part is resp/<part>.pxi with its contract in
# resp/<part>.pxd:
#
#     numbers   doubles in text, exactly as Redis reads and writes them
#     parser    bytes of a client -> commands
#     writer    replies -> bytes
#     objects   replies that Python commands return, and the codec's face towards Python

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t, uintptr_t
from libc.string cimport memchr, memcpy, memmove, memset, strlen

from crdtredis.buffer cimport (Buffer, Span, buffer_add, buffer_free, buffer_grow, buffer_need,
                               buffer_resize)

include "resp/numbers.pxi"
include "resp/parser.pxi"
include "resp/writer.pxi"
include "resp/objects.pxi"
