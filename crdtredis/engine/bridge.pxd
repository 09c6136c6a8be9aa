# The only crossing between the engine thread and the sync thread: two bounded queues of byte
# strings under a mutex, two eventfds.

from libc.stdint cimport uint64_t

from crdtredis.buffer cimport Buffer, Span

cdef enum MessageKind:
    MESSAGE_OPS = 1         # engine -> sync: an encoded Batch, logged
    MESSAGE_GAP = 2         # engine -> sync: Batches were dropped here; read them from the segments
    MESSAGE_RESULT = 3      # engine -> sync: to a RECEIVE of the same token: status (int8)
    MESSAGE_RECEIVE = 4     # sync -> engine: an encoded Batch from a peer
    # engine -> sync: [actor, u64][seq, u64][messages that were published behind that op]
    MESSAGE_PUBLISHED = 5
    MESSAGE_LISTENS = 6     # engine -> sync: [1: all, anew][changes of what is listened to here]
    MESSAGE_HEARD = 7       # sync -> engine: a PUBLISHED of a peer; a RESULT follows
    MESSAGE_INTEREST = 8    # sync -> engine: changes of what peers listen to
    # engine -> sync: [1: all, anew][changes of which groups have a consumer here]
    MESSAGE_CONSUMERS = 9

cdef struct Message:
    Message *next
    int kind
    uint64_t token
    char *bytes             # behind the struct, in `owned`, in `lent` or in `same`
    size_t n
    size_t room             # behind the struct, for how many bytes there is room
    void *owned             # malloced, freed with the message; NULL: nothing
    # a Python object, let go by the sync thread: of a RECEIVE, then of its RESULT; NULL: none
    void *lent
    # of OPS: the bytes object of a RECEIVE, if it holds just this; its RESULT comes later; NULL:
    # none
    void *same

cdef struct MessageQueue:
    Message *head
    Message *tail
    size_t messages
    size_t bytes

cdef class Bridge:
    cdef void *lock                     # pthread mutex over all that follows
    cdef MessageQueue out               # to the sync thread
    cdef MessageQueue in_               # to the engine
    cdef size_t out_max                 # bytes of OPS messages
    cdef int wanted                     # somebody wants OPS
    cdef int untaken                    # bits: kinds of LISTENS, CONSUMERS that wait
    cdef int sync_fd
    cdef int engine_fd
    cdef int signalled                  # sync_fd has been written to and not yet drained
    # the sync thread will soon look by itself: only own ops are worth a signal
    cdef int patient
    cdef readonly uint64_t gaps         # how often OPS were dropped

    # engine side
    # own: there are ops of this replica in it
    cdef void put_ops(self, const char *p, size_t n, int own) noexcept nogil
    # takes the buffer, whose bytes from `at` on are the Batch
    cdef void put_large(self, Buffer *b, size_t at, int own) noexcept nogil
    # A Batch in two pieces, the second of which lies in the RECEIVE `from_`, whose result is given
    # later
    cdef void put_received(self, Span head, Span rest, Message *from_) noexcept nogil
    # NULL when empty; goes back with put_result
    cdef Message *take(self) noexcept nogil
    cdef void put_result(self, Message *b, int status) noexcept nogil
    # 0: there are too many bytes for more messages
    cdef int has_room(self, size_t n) noexcept nogil
    cdef void put(self, Message *b, int own) noexcept nogil
    cdef void raise_signal(self, int own) noexcept nogil

# With a copy of the bytes, and room for more; p NULL: for bytes elsewhere, of which there are n.
cdef Message *new_message(int kind, uint64_t token, const char *p, size_t n,
                          size_t room=*) noexcept nogil
cdef give_back(Message *b)          # one that the sync thread, or nobody, will get
