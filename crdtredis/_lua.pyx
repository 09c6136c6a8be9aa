# The scripting VM.
#
#   api         Lua's C API, opened from the package lupa at the first script
#   vm          one VM: memory, time, running a script
#   sandbox     what a script can reach
#   replies     RESP to Lua and back; errors
#   patterns    string.find and its like, in a matcher that can be stopped
#   json        cjson
#   msgpack     cmsgpack
#   struct      struct
#   redis       the table redis, SHA-1
#   functions   libraries of functions
#   objects     what Python sees of it
#
# A function that calls Lua may be left by a jump (see api), so it owns nothing.

from libc.stdio cimport fputs, stderr
from libc.stdlib cimport abort

from crdtredis.buffer cimport buffer_free, span
from crdtredis.numbers cimport parse_int64
from crdtredis._resp cimport (format_double, reply_array, reply_bignum, reply_bool, reply_bulk,
                              reply_double, reply_error, reply_error_span, reply_int, reply_map,
                              reply_null, reply_raw, reply_set, reply_verbatim)

from crdtredis import REDIS_VERSION

include "lua/api.pxi"
include "lua/vm.pxi"
include "lua/sandbox.pxi"
include "lua/replies.pxi"
include "lua/patterns.pxi"
include "lua/json.pxi"
include "lua/msgpack.pxi"
include "lua/struct.pxi"
include "lua/redis.pxi"
include "lua/functions.pxi"
include "lua/objects.pxi"
