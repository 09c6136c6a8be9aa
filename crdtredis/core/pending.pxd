# The causal buffer: received ops that may not be applied yet. See core/pending.pxi.

cdef enum:
    # bytes of waiting ops that one call of receive applies beside what it is given
    PENDING_SLICE = 256 << 10
    PENDING_SHARE = 2          # one actor's ops may take the room's limit divided by this

cdef enum BacklogState:
    BACKLOG_IDLE = 0        # the next op is not here
    # in the queue of those to be looked at: the next op may be here, and may be applied
    BACKLOG_READY = 1
    # the next op is here and waits for one of another actor: in that actor's heap `blocked`
    BACKLOG_BLOCKED = 2
    # the next op is here and waits for the clock on the wall: in the heap Pending.held
    BACKLOG_HELD = 3

# What waits of one actor's ops. Links are slot + 1, 0: none.
cdef struct Backlog:
    size_t n                # ops
    size_t bytes            # that they take
    uint64_t until          # BLOCKED: the seq that is waited for; HELD: the next op's ms
    uint16_t child          # BLOCKED, HELD: in the heap, the first below this one
    uint16_t next           # ... and the next below the same one; READY: the next in the queue
    uint16_t blocked        # root of the heap of those whose next op waits for an op of this actor
    uint8_t state           # BACKLOG_*

cdef struct Pending:
    Table ops               # by dot
    size_t bytes            # that they take, with what the table needs
    size_t limit
    size_t held_ops         # ops of all that are HELD
    uint16_t held           # root of the heap of those, slot + 1
    uint16_t ready          # the queue: first,
    uint16_t ready_last     # ... and last
