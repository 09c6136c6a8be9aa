# The server loop: epoll, connections, dispatch. What a command handler may use stands in
# engine/call.pxd.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from crdtredis.buffer cimport Buffer, Span
from crdtredis._core cimport Kernel, Record, Replica, SegmentWriter, Watch
from crdtredis._resp cimport Parser, Reply

cdef struct Client
cdef struct Command
cdef struct Dispatch
cdef struct Wait
cdef struct Watched
cdef class Session
cdef class Executor
cdef class Loop

include "engine/call.pxd"
include "engine/slowlog.pxd"
include "engine/dispatch.pxd"
include "engine/transaction.pxd"
include "engine/blocking.pxd"
include "engine/session.pxd"
include "engine/executor.pxd"
include "engine/bridge.pxd"
include "engine/connection.pxd"
include "engine/loop.pxd"
