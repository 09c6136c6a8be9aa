# Clients that wait for keys: what BLPOP and its like call when nothing is there.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from crdtredis.buffer cimport Buffer
from crdtredis._core cimport Watch

# One client at one key, in the queue of those that wait for a type there.
cdef struct Waiter:
    Waiter *prev
    Waiter *next
    Wait *wait
    Watch *watch

# Those who wait for a type at a key, the earliest first. Watch.waiters is an array of these, one
# for each type.
cdef struct WaitQueue:
    Waiter *first
    Waiter *last
    uint32_t readers        # those of them of XREADGROUP

# What a client waits for. Its Waiters follow, one for each key.
cdef struct Wait:
    Client *client
    int type                # T_*, of what the command takes
    int reads               # XREADGROUP: it does not wait where the key holds another type or none
    Buffer args             # the command, packed as in Client.queue
    uint64_t ticks          # that it took when it was called
    int64_t end             # ms, Dispatch.steady: when it ends; 0: never
    int64_t deadline        # ... or the handler is to be called again, if that is earlier
    uint32_t timeout        # place in Waiting.timeouts + 1; 0: none
    uint32_t n              # Waiters
    int answers             # 1: as the time is up the handler is called again; 2: it is
    # Of two with the same number neither is given anything at a key where the other is not; 0: it
    # is like nobody else's.
    uint64_t alike

# Blocks the client until one of the n keys from argv[first] on holds this type; then the handler is
# called again. It keeps waiting when it calls this again, else what it replies ends the wait.
# timeout_ms 0: no limit. Not for CLIENT_IN_EXEC, where commands reply at once.
cdef void wait_for_keys(Call *c, int type, int first, int n, int64_t timeout_ms) noexcept nogil
# The same where the handler has something to reply and waits for more: as the time is up it is
# called again, and must reply (wait_is_over).
cdef void wait_to_answer(Call *c, int type, int first, int n, int64_t timeout_ms) noexcept nogil
cdef int wait_is_over(const Client *client) noexcept nogil
# Of a client that waits: the handler is called again after so many ms, too, unless it is before.
cdef void wait_to_look(Call *c, int64_t after_ms) noexcept nogil
# When a wait is looked at next for the time; 0: not at all.
cdef void wait_deadline(Dispatch *d, Wait *w, int64_t at) noexcept nogil
# Ends the wait without a word, if there is one.
cdef void stop_waiting(Dispatch *d, Client *client) noexcept nogil
# Bytes that it takes.
cdef size_t wait_memory(const Wait *w) noexcept nogil
