# The server loop: epoll, connections, dispatch.
#
#   call          what handlers use: refusals in Redis's words, commands as flat bytes
#   slowlog       the ring of slow commands
#   dispatch      which command runs, whether it may, what is counted
#   transaction   MULTI, EXEC, WATCH
#   blocking      clients that wait for keys, and when they are served
#   session       clients, and what Python commands see of them
#   executor      the command table and settings of one replica: all of the above, with no socket
#   bridge        the crossing to the sync thread
#   system        what the loop asks of Linux
#   connection    accept, read, run, send, close
#   loop          what one loop iteration does, and in which order
#
# Everything a native command needs runs without the GIL; what takes it says so.

include "engine/call.pxi"
include "engine/slowlog.pxi"
include "engine/dispatch.pxi"
include "engine/transaction.pxi"
include "engine/blocking.pxi"
include "engine/session.pxi"
include "engine/executor.pxi"
include "engine/bridge.pxi"
include "engine/system.pxi"
include "engine/connection.pxi"
include "engine/loop.pxi"
