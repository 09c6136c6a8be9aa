# Lua scripts: a sandboxed VM, its libraries, and the conversions between Lua values and RESP. Knows
# no command, no socket and no keyspace: what a script calls is a function of its Host.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from crdtredis.buffer cimport Span
from crdtredis._resp cimport Reply

cdef struct Vm
cdef struct Registration

include "lua/api.pxd"
include "lua/vm.pxd"
include "lua/sandbox.pxd"
include "lua/replies.pxd"
include "lua/patterns.pxd"
include "lua/json.pxd"
include "lua/msgpack.pxd"
include "lua/struct.pxd"
include "lua/redis.pxd"
include "lua/functions.pxd"
