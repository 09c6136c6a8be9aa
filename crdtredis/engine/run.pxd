# Running a command's handler, and what is counted of it.

from libc.stdint cimport uint64_t

from crdtredis.buffer cimport Span

# Runs the handler and counts it. EXEC calls it for each queued command. What a command owes a
# client that it blocks is counted when the client is served.
cdef void call_command(Dispatch *d, Client *client, Command *cmd, Span *argv,
                       int argc) noexcept nogil
# The only place that runs a handler. A command that writes is one op, or part of that of EXEC.
cdef void run_handler(Dispatch *d, Client *client, Command *cmd, Span *argv,
                      int argc) noexcept nogil
cdef void mark_wrote(Dispatch *d, Client *client) noexcept nogil                # it has made an op
cdef void note_if_slow(Dispatch *d, Client *client, Command *cmd, Span *argv, int argc,
                       uint64_t ticks) noexcept nogil
cdef size_t size_of(Span *argv, int argc) noexcept nogil                        # bytes
