# MONITOR: clients that are shown every command.

from crdtredis.buffer cimport Span

cdef void monitor_begin(Dispatch *d, Client *client) noexcept nogil
cdef void monitor_end(Dispatch *d, Client *client) noexcept nogil   # if it has begun
# Shows a command that has run, or, of those that say skip_monitor, will. Does nothing where nobody
# looks.
cdef void monitor_show(Dispatch *d, Client *client, Command *cmd, Span *argv,
                       int argc) noexcept nogil
