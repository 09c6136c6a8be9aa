# The server loop: epoll, connections, dispatch. Each part uses those above it, and none below.
#
#   command       what is known of each command, and how a name finds it
#   call          what handlers use: refusals in Redis's words, arguments; what a client is
#   stopwatch     how long commands take
#   slowlog       the ring of slow commands
#   latency       what has taken long, event by event
#   dispatch      what all that follows shares: guards, time, the GIL, the client port
#   abroad        what other replicas listen to
#   pubsub        who listens to which channel here
#   exchange      messages of other replicas
#   tracking      client-side caching: who is to be told that a key has changed
#   notify        keyspace notifications
#   evict         room at max_memory
#   system        what the loop asks of Linux
#   ring          how one thread hands work to another
#   tls           TLS on a socket, by the OpenSSL that Python brings
#   monitor       MONITOR
#   acl           users: may a command run?
#   hotkeys       which keys cost the most, while somebody wants to know
#   watched       MULTI and WATCH: what a client holds until EXEC
#   waiting       the wait queues of keys
#   consumers     who reads groups of streams here, and what is given out to them
#   run           runs a handler and counts it
#   serving       when clients that wait for keys are served
#   client        the life of a client
#   session       what Python commands see of a client; replies they defer
#   execute       from argv to reply: which command it is, and whether it may run
#   transaction   EXEC
#   scripting     what a script may call, and what others see while one runs
#   executor      the command table and settings of one replica: all of the above, with no socket
#   connection    the connections: lists, their part in an iteration, their end
#   threads       the socket work of connections, on other cores
#   handshake     when the handshakes of TLS go on, and which end
#   input         read, parse, run
#   output        send
#   idle          what is due for clients that do nothing
#   listener      listen, accept
#   bridge        the crossing to the sync thread
#   journal       what an iteration made: to the log and over the bridge
#   loop          what one iteration does, and in which order
#
# Everything a native command needs runs without the GIL; what takes it says so.

include "engine/command.pxi"
include "engine/call.pxi"
include "engine/stopwatch.pxi"
include "engine/slowlog.pxi"
include "engine/latency.pxi"
include "engine/denials.pxi"
include "engine/system.pxi"
include "engine/ring.pxi"
include "engine/tls.pxi"
include "engine/gil.pxi"
include "engine/dispatch.pxi"
include "engine/abroad.pxi"
include "engine/pubsub.pxi"
include "engine/exchange.pxi"
include "engine/tracking.pxi"
include "engine/notify.pxi"
include "engine/evict.pxi"
include "engine/monitor.pxi"
include "engine/acl.pxi"
include "engine/hotkeys.pxi"
include "engine/watched.pxi"
include "engine/waiting.pxi"
include "engine/consumers.pxi"
include "engine/run.pxi"
include "engine/serving.pxi"
include "engine/client.pxi"
include "engine/session.pxi"
include "engine/execute.pxi"
include "engine/transaction.pxi"
include "engine/scripting.pxi"
include "engine/executor.pxi"
include "engine/connection.pxi"
include "engine/threads.pxi"
include "engine/handshake.pxi"
include "engine/input.pxi"
include "engine/output.pxi"
include "engine/idle.pxi"
include "engine/listener.pxi"
include "engine/bridge.pxi"
include "engine/journal.pxi"
include "engine/loop.pxi"
