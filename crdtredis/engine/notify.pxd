# What is made of the keys that effects touch: invalidation, and keyspace notifications.

from libc.stdint cimport int64_t

from crdtredis.buffer cimport Span

# What the command that has just run did to keys. client: whose it is. changes: that Redis would
# count; -1: as many as effects.
cdef void notify_command(Dispatch *d, Client *client, Command *cmd, Span *argv, int argc,
                         int64_t changes) noexcept nogil
# What else did: ops of peers, and the removal of expired keys.
cdef void notify_others(Dispatch *d) noexcept nogil
# Keys have just been evicted, and nothing else done.
cdef void notify_evicted(Dispatch *d) noexcept nogil
# A command that reads has run: its keys are tracked, and which of them are not there?
cdef void note_reads(Dispatch *d, Client *client, Command *cmd, Span *argv,
                     int argc) noexcept nogil
cdef Client *caller_of(Dispatch *d, Client *client) noexcept nogil  # of the script that runs, or it
