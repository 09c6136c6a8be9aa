# The crossing between the engine thread and the sync thread: what each may ask of the other, and
# nothing else.
#
#   engine -> sync   OPS      the Batch an iteration has logged, if the sync side wants ops
#                             (set_wanted)
#                    GAP      the queue was full and its oldest OPS were dropped: read them from the
#                             segments
#                    RESULT   what became of a RECEIVE
#                    PUBLISHED, LISTENS: see abroad.pxi; CONSUMERS: see consumers.pxi
#   sync -> engine   RECEIVE  a Batch from a peer; applied within an iteration and logged with it;
#                             then its RESULT follows
#
# Messages are immutable bytes with one owner at a time, moved from hand to hand under a mutex that
# is held for a few pointer assignments. Neither side ever waits for the other: the engine drops OPS
# rather than let a slow sync thread hold its memory (they are in the segments, and sequence numbers
# show what is missing), and the sync side looks at `incoming` before it reads more from a peer.
# Nobody copies what is large: the engine hands over the buffer of a large op that it has logged,
# and reads a RECEIVE in the bytes object that the sync side lends, which goes back with the result,
# since only there can it be let go. A large op in it is logged from there too, and handed back as
# that object where it is the whole of it: the result comes behind it, so the object is still there.
#
# An eventfd is written only when the other side has seen its last signal, so a busy engine pays for
# one write per drain, not per iteration. What a peer sent concerns nobody but that peer, whose
# results are gathered for a few ms anyway: while the sync thread has said that it will look by
# itself (`wait_for_more`), only own ops wake it.

import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

from crdtredis.buffer cimport need_memory

cdef enum:
    DRAIN_JOIN = 262144     # bytes
    # the first byte of a Batch that declares actors: field 1, length-delimited
    DECLARATION = 10

OPS = MESSAGE_OPS
GAP = MESSAGE_GAP
RESULT = MESSAGE_RESULT
PUBLISHED = MESSAGE_PUBLISHED
LISTENS = MESSAGE_LISTENS
HEARD = MESSAGE_HEARD
INTEREST = MESSAGE_INTEREST
CONSUMERS = MESSAGE_CONSUMERS

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *m, void *attr)
    int pthread_mutex_lock(pthread_mutex_t *m)
    int pthread_mutex_unlock(pthread_mutex_t *m)
    int pthread_mutex_destroy(pthread_mutex_t *m)


cdef Message *new_message(int kind, uint64_t token, const char *p, size_t n,
                      size_t room=0) noexcept nogil:
    """With a copy of the bytes; p NULL: for bytes elsewhere, of which there are n."""
    room = 0 if p == NULL else n if room < n else room
    cdef Message *b = <Message*>need_memory(malloc(sizeof(Message) + room))
    memset(b, 0, sizeof(Message))
    b.kind = kind
    b.token = token
    b.bytes = <char*>b + sizeof(Message)
    b.n = n
    b.room = room
    if p != NULL and n:
        memcpy(b.bytes, p, n)
    return b


cdef void free_message(Message *b) noexcept nogil:
    """Of the sync thread's, `lent` goes first."""
    free(b.owned)
    free(b)


cdef give_back(Message *b):
    """A message that the sync thread is done with."""
    if b.lent != NULL:
        Py_DECREF(<object>b.lent)
    free_message(b)


cdef void queue_put(MessageQueue *q, Message *b) noexcept nogil:
    if q.tail != NULL:
        q.tail.next = b
    else:
        q.head = b
    q.tail = b
    q.messages += 1
    q.bytes += b.n


cdef Message *queue_take(MessageQueue *q) noexcept nogil:
    cdef Message *b = q.head
    if b != NULL:
        q.head = b.next
        if q.head == NULL:
            q.tail = NULL
        q.messages -= 1
        q.bytes -= b.n
    return b


cdef void queue_drop_ops(MessageQueue *q) noexcept nogil:
    """Drops every OPS message and leaves one GAP in the place of the first; results stay, in
    order."""
    cdef MessageQueue kept
    cdef Message *b
    cdef int marked = 0
    memset(&kept, 0, sizeof(MessageQueue))
    while True:
        b = queue_take(q)
        if b == NULL:
            break
        b.next = NULL
        if b.kind == MESSAGE_OPS or b.kind == MESSAGE_GAP:
            free_message(b)
            if marked:
                continue
            marked = 1
            b = new_message(MESSAGE_GAP, 0, NULL, 0)
        queue_put(&kept, b)
    q[0] = kept


cdef bytes join_ops(MessageQueue *q):
    """The OPS message at the head and those that may follow it in one Batch: no message that begins
    with a declaration, for those stand at the front of a Batch. One allocation and one copy for
    all, since at full load there are thousands of messages a second."""
    cdef size_t n = q.head.n
    cdef Message *b = q.head.next
    cdef char *p
    if q.head.same != NULL:
        out = <bytes>q.head.same
        free_message(queue_take(q))
        return out
    while (b != NULL and b.kind == MESSAGE_OPS and b.n and b.bytes[0] != DECLARATION
           and n + b.n <= DRAIN_JOIN):
        n += b.n
        b = b.next
    out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>n)
    p = PyBytes_AS_STRING(out)
    while q.head != b:
        memcpy(p, q.head.bytes, q.head.n)
        p += q.head.n
        free_message(queue_take(q))
    return out


cdef class Bridge:
    """The two queues. The methods are the sync thread's side; the engine uses the C methods.

    max_out     bytes of OPS that may wait for the sync thread before they are dropped (see GAP).
    """

    def __cinit__(self, size_t max_out=64 << 20):
        self.lock = need_memory(malloc(sizeof(pthread_mutex_t)))
        pthread_mutex_init(<pthread_mutex_t*>self.lock, NULL)
        self.out_max = max_out
        self.sync_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.engine_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def __dealloc__(self):
        cdef Message *b
        for q in range(2):
            while True:
                b = queue_take(&self.out if q else &self.in_)
                if b == NULL:
                    break
                give_back(b)
        pthread_mutex_destroy(<pthread_mutex_t*>self.lock)
        free(self.lock)
        close(self.sync_fd)
        close(self.engine_fd)

    @property
    def fd(self) -> int:
        """Readable when drain() has something: for the sync thread's event loop."""
        return self.sync_fd

    @property
    def incoming(self) -> tuple[int, int]:
        """Messages and bytes of RECEIVE that the engine has not yet taken: stop reading from peers
        while this is large."""
        pthread_mutex_lock(<pthread_mutex_t*>self.lock)
        messages, size = self.in_.messages, self.in_.bytes
        pthread_mutex_unlock(<pthread_mutex_t*>self.lock)
        return messages, size

    @property
    def outgoing(self) -> tuple[int, int]:
        """Messages and bytes that drain() would return."""
        pthread_mutex_lock(<pthread_mutex_t*>self.lock)
        messages, size = self.out.messages, self.out.bytes
        pthread_mutex_unlock(<pthread_mutex_t*>self.lock)
        return messages, size

    def set_wanted(self, bint wanted):
        """Whether anybody is to be sent ops. While False the engine copies none; turning it on says
        GAP first."""
        pthread_mutex_lock(<pthread_mutex_t*>self.lock)
        if wanted and not self.wanted:
            queue_put(&self.out, new_message(MESSAGE_GAP, 0, NULL, 0))
            self.raise_signal(1)
        self.wanted = wanted
        pthread_mutex_unlock(<pthread_mutex_t*>self.lock)

    def drain(self) -> list[tuple[int, int, bytes]]:
        """Everything queued for the sync thread, in order: (kind, token, bytes), kind one of OPS,
        GAP, RESULT.

        OPS: an encoded Batch, of one iteration or of several put together to about DRAIN_JOIN
        bytes; declarations of actors stand at its front. RESULT: one signed byte of status (0:
        applied, known already or waiting for what it depends on; negative: another
        _core.ReceiveStatus)."""
        cdef uint64_t count
        cdef MessageQueue taken
        cdef Message *b
        out = []
        read(self.sync_fd, &count, 8)
        pthread_mutex_lock(<pthread_mutex_t*>self.lock)
        taken = self.out
        memset(&self.out, 0, sizeof(MessageQueue))
        self.signalled = 0
        self.untaken = 0
        pthread_mutex_unlock(<pthread_mutex_t*>self.lock)
        while taken.head != NULL:
            if taken.head.kind == MESSAGE_OPS:
                out.append((OPS, 0, join_ops(&taken)))
            else:
                b = queue_take(&taken)
                out.append((b.kind, b.token, PyBytes_FromStringAndSize(b.bytes, <Py_ssize_t>b.n)))
                give_back(b)
        return out

    def wait_for_more(self, bint patient):
        """Whether drain() will be called in a moment, so that what peers sent, and the results of
        it, need no signal."""
        pthread_mutex_lock(<pthread_mutex_t*>self.lock)
        self.patient = patient
        if self.out.head != NULL:
            self.raise_signal(0)
        pthread_mutex_unlock(<pthread_mutex_t*>self.lock)

    def send_receive(self, uint64_t token, bytes batch not None, int kind=MESSAGE_RECEIVE):
        """Hands the engine a Batch from a peer; an RESULT with this token follows once it is
        applied and logged. kind: HEARD and INTEREST go the same way.

        At most 512 KiB at a time keeps clients' waits short: a Batch is applied in one go.
        """
        cdef Message *b = new_message(kind, token, NULL, <size_t>PyBytes_GET_SIZE(batch))
        cdef int first
        b.bytes = PyBytes_AS_STRING(batch)
        b.lent = <void*>batch
        Py_INCREF(batch)
        pthread_mutex_lock(<pthread_mutex_t*>self.lock)
        first = self.in_.head == NULL
        queue_put(&self.in_, b)
        pthread_mutex_unlock(<pthread_mutex_t*>self.lock)
        if first:
            signal_fd(self.engine_fd)

    # -- engine side

    cdef void raise_signal(self, int own) noexcept nogil:
        """With the lock held."""
        if not self.signalled and (own or not self.patient):
            self.signalled = 1
            signal_fd(self.sync_fd)

    cdef int has_room(self, size_t n) noexcept nogil:
        cdef int fits
        pthread_mutex_lock(<pthread_mutex_t*>self.lock)
        fits = self.out.bytes + n <= self.out_max
        pthread_mutex_unlock(<pthread_mutex_t*>self.lock)
        return fits

    cdef void put(self, Message *b, int own) noexcept nogil:
        pthread_mutex_lock(<pthread_mutex_t*>self.lock)
        if b.kind == MESSAGE_OPS and self.out.bytes + b.n > self.out_max:
            queue_drop_ops(&self.out)
            self.gaps += 1
        if b.kind == MESSAGE_LISTENS or b.kind == MESSAGE_CONSUMERS:
            self.untaken |= 1 << b.kind
        queue_put(&self.out, b)
        self.raise_signal(own)
        pthread_mutex_unlock(<pthread_mutex_t*>self.lock)

    cdef void put_ops(self, const char *p, size_t n, int own) noexcept nogil:
        """An iteration's Batch joins the newest message where it may and fits. Messages grow while
        nobody drains them, so that a busy engine allocates few, and one that hands over a few ops
        between results no more than it needs."""
        cdef Message *tail
        cdef size_t room = 0
        pthread_mutex_lock(<pthread_mutex_t*>self.lock)
        tail = self.out.tail
        if tail != NULL and tail.kind == MESSAGE_OPS:
            if (tail.n + n <= tail.room and p[0] != DECLARATION
                and self.out.bytes + n <= self.out_max):
                memcpy(tail.bytes + tail.n, p, n)
                tail.n += n
                self.out.bytes += n
                self.raise_signal(own)
                pthread_mutex_unlock(<pthread_mutex_t*>self.lock)
                return
            room = min(2 * tail.room, DRAIN_JOIN)
        pthread_mutex_unlock(<pthread_mutex_t*>self.lock)
        self.put(new_message(MESSAGE_OPS, 0, p, n, room), own)

    cdef void put_large(self, Buffer *buf, size_t at, int own) noexcept nogil:
        cdef Message *b = new_message(MESSAGE_OPS, 0, NULL, buf.n - at)
        b.owned = buf.p
        b.bytes = buf.p + at
        memset(buf, 0, sizeof(Buffer))
        self.put(b, own)

    cdef void put_received(self, Span head, Span rest, Message *from_) noexcept nogil:
        """What a peer sends is nearly always this Batch alone: then the object that the sync thread
        lent is handed back."""
        cdef Message *b = new_message(MESSAGE_OPS, 0, NULL, head.n + rest.n)
        if from_.n == b.n and memcmp(from_.bytes, head.p, head.n) == 0:
            b.same = from_.lent
            b.bytes = from_.bytes
        else:
            b.owned = need_memory(malloc(b.n))
            b.bytes = <char*>b.owned
            memcpy(b.bytes, head.p, head.n)
            memcpy(b.bytes + head.n, rest.p, rest.n)
        self.put(b, 0)

    cdef void put_result(self, Message *b, int status) noexcept nogil:
        """b: the RECEIVE."""
        cdef char code = <char>status
        cdef Message *result = new_message(MESSAGE_RESULT, b.token, &code, 1)
        result.lent = b.lent
        free_message(b)
        self.put(result, 0)

    cdef Message *take(self) noexcept nogil:
        cdef Message *b
        pthread_mutex_lock(<pthread_mutex_t*>self.lock)
        b = queue_take(&self.in_)
        pthread_mutex_unlock(<pthread_mutex_t*>self.lock)
        return b
