# The server loop: epoll, connections, dispatch. What a command handler may use stands in
# engine/call.pxd and below it in waiting.pxd, watched.pxd and transaction.pxd.
#
# A part uses those above it. A part may point to the structs that are named here without knowing
# what is in them.

from libc.stddef cimport size_t

cdef struct Call
cdef struct Client
cdef struct Command
cdef struct Consumed
cdef struct Dispatch
cdef struct Heard
cdef struct HotKeys
cdef struct Parked
cdef struct Prefix
cdef struct ScriptRun
cdef struct Subscription
cdef struct Threads
cdef struct Topic
cdef struct Tracked
cdef struct Tracker
cdef struct User
cdef struct Wait
cdef struct Watched

include "engine/command.pxd"
include "engine/call.pxd"
include "engine/stopwatch.pxd"
include "engine/slowlog.pxd"
include "engine/latency.pxd"
include "engine/denials.pxd"
include "engine/system.pxd"
include "engine/ring.pxd"
include "engine/tls.pxd"
include "engine/gil.pxd"
include "engine/dispatch.pxd"
include "engine/abroad.pxd"
include "engine/pubsub.pxd"
include "engine/exchange.pxd"
include "engine/tracking.pxd"
include "engine/notify.pxd"
include "engine/evict.pxd"
include "engine/monitor.pxd"
include "engine/acl.pxd"
include "engine/hotkeys.pxd"
include "engine/watched.pxd"
include "engine/waiting.pxd"
include "engine/consumers.pxd"
include "engine/run.pxd"
include "engine/serving.pxd"
include "engine/client.pxd"
include "engine/session.pxd"
include "engine/execute.pxd"
include "engine/transaction.pxd"
include "engine/scripting.pxd"
include "engine/executor.pxd"
include "engine/connection.pxd"
include "engine/threads.pxd"
include "engine/handshake.pxd"
include "engine/input.pxd"
include "engine/output.pxd"
include "engine/idle.pxd"
include "engine/listener.pxd"
include "engine/bridge.pxd"
include "engine/journal.pxd"
include "engine/loop.pxd"
