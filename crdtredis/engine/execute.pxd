# From argv to reply, with no socket in sight.

from crdtredis.buffer cimport Span

# Runs one complete command: look-up, arity, authentication, MULTI queueing, refusals, the handler,
# statistics, slow log; then serves clients that wait for what it wrote. Appends the reply to
# client.reply. Takes the GIL only for Python commands.
cdef void execute(Dispatch *d, Client *client, Span *argv, int argc) noexcept nogil
# The same for a name that has been looked up: cmd is what find_command returned.
cdef void execute_found(Dispatch *d, Client *client, Command *cmd, Span *argv,
                        int argc) noexcept nogil
# 1 when CLIENT PAUSE holds this command back: the caller keeps it and executes it later.
cdef int must_wait(Dispatch *d, Client *client, Span *argv, int argc) noexcept nogil
