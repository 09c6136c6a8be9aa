# The server loop: epoll, connections, dispatch.
#
#   call        what handlers use: refusals in Redis's words, words and arguments
#   executor    the command table, dispatch, MULTI and EXEC, sessions: no socket
#   bridge      the crossing to the sync thread
#   loop        sockets: a turn reads, runs, logs, answers
#
# A part uses only those above it. Everything a hot command needs runs without the GIL; what takes it says so.

include "engine/call.pxi"
include "engine/executor.pxi"
include "engine/bridge.pxi"
include "engine/loop.pxi"
