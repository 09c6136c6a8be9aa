# What happens to a loop iteration's records between memory and disk, and what when the disk says
# no?
#
# The engine hands over the records of a whole iteration at once: one write, and with the policy
# `always` one fdatasync, before any reply of the iteration leaves. Both happen here without the
# GIL. Everything rarer (new files, the everysec thread, trying again) is Python in
# storage/segments.py, which owns the writer and exchanges the file under it.
#
# A failed write or fdatasync is final for the file. After a failed fdatasync the kernel may have
# dropped the dirty pages and marked them clean, so that a second call succeeds without anything
# having reached the disk; asking again would be a lie to the clients. Therefore:
#
#   - failed write: what the file took of the record is cut off again, if it can be; the records
#     wait in `pending`.
#   - failed fdatasync: everything after `durable` is in doubt; storage/segments.py writes it again
#     into another file.
#   - in both cases the state is LOG_FAILED until a new file has taken it all and is on disk. The
#     clients of the iteration get errors: their writes are in memory and will be in the log if
#     the process lives to see the disk recover, but nobody was promised so.
#
# `pending` is bounded because the engine accepts no writes, no ops from peers and reaps nothing
# while the log has failed: it holds what one iteration had left.
#
# Threads: the engine thread appends; the everysec thread publishes `durable` and may set the
# failure; the sync thread reads `end`. All are single words, stored with release and loaded with
# acquire order, so a reader that sees an end also sees the file reach it.

from posix.types cimport off_t
from posix.unistd cimport fdatasync, ftruncate, write

from libc.errno cimport EINTR, EIO, errno
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memcpy, memset, strerror

from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, span

cdef extern from *:
    """
    static inline void publish(int64_t *p, int64_t x) { __atomic_store_n(p, x, __ATOMIC_RELEASE); }
    static inline int64_t published(int64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    static inline void publish_state(int *p, int x) { __atomic_store_n(p, x, __ATOMIC_RELEASE); }
    static inline int published_state(int *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    """
    void publish(int64_t *p, int64_t x) noexcept nogil
    int64_t published(int64_t *p) noexcept nogil
    void publish_state(int *p, int x) noexcept nogil
    int published_state(int *p) noexcept nogil

cdef extern from "<fcntl.h>" nogil:
    int FALLOC_FL_KEEP_SIZE
    unsigned int SYNC_FILE_RANGE_WRITE
    int fallocate(int fd, int mode, off_t at, off_t n)
    int sync_file_range(int fd, off_t at, off_t n, unsigned int flags)


cdef class SegmentWriter:
    def __cinit__(self):
        self.fd = -1

    def __dealloc__(self):
        buffer_free(&self.pending)

    cdef int append(self, Span record, Span rest, int more) noexcept nogil:
        cdef char[RECORD_HEAD + SHORT_MOST] room
        cdef size_t n
        if self.short and rest.n == 0 and record.n <= SHORT_MOST:
            n = record_shorten(record, room)
            if n:
                record = span(room, n)
        if self.state != LOG_OPEN or not self.put(record) or not self.put(rest):
            buffer_add(&self.pending, record.p, record.n)
            buffer_add(&self.pending, rest.p, rest.n)
            return -1
        self.reach(self.end + <int64_t>(record.n + rest.n))
        if self.policy == LOG_ALWAYS and not more:
            return self.sync_now()
        return 0

    cdef void reach(self, int64_t end) noexcept nogil:
        """The file holds so much. The witness hears of it before anybody who could pass it on."""
        if self.witness != NULL:
            self.witness[WITNESS_NUMBER] = self.number
            self.witness[WITNESS_END] = <uint64_t>end
        publish(&self.end, end)

    cdef int put(self, Span bytes) noexcept nogil:
        cdef ssize_t r
        while bytes.n:
            r = write(self.fd, bytes.p, bytes.n)
            if r > 0:
                bytes = span(bytes.p + r, bytes.n - <size_t>r)
            elif r == 0 or errno != EINTR:
                self.failed(errno if r else EIO, 0)
                ftruncate(self.fd, self.end)
                return 0
        return 1

    cdef int sync_now(self) noexcept nogil:
        while fdatasync(self.fd) != 0:
            if errno != EINTR:
                self.failed(errno, 1)
                return -1
        publish(&self.durable, self.end)
        return 0

    cdef void failed(self, int error, int syncing) noexcept nogil:
        self.error = error
        self.syncing |= syncing
        publish_state(&self.state, LOG_FAILED)

    cdef int wants_tick(self) noexcept nogil:
        if self.state == LOG_OPEN:
            return self.end >= self.limit
        if self.state == LOG_FAILED:
            return not self.noted
        return 0

    # ---- for storage ---------------------------------------------------------------------------

    def testify(self, words):
        """From now on `words`, a writable buffer of three unsigned 64-bit numbers, say of the log
        what WITNESS_* says. None: nobody is told any more."""
        cdef uint64_t[::1] found
        self.witness, self.lent = NULL, words
        if words is not None:
            found = words
            if found.shape[0] != WITNESS_WORDS:
                raise ValueError("a witness has three words")
            self.witness = &found[0]

    def attach(self, int fd, uint64_t number, int64_t size, int64_t durable, int64_t limit,
               int policy, bint healed=True):
        """Go on in this file, which holds `size` bytes. Returns the former descriptor, or -1.

        healed: it also holds whatever was pending and in doubt, so that a failure is over.
        Otherwise one that has come meanwhile, from the thread that syncs, stands: what it put in
        doubt is still in doubt."""
        cdef int former = self.fd
        self.fd = fd
        self.number = number
        publish(&self.durable, durable)
        if fd >= 0:
            self.reach(size)
        else:
            publish(&self.end, size)
        self.limit = limit
        self.policy = policy
        if self.state == LOG_FAILED and not healed:
            return former
        self.pending.n = 0
        self.error = 0
        self.syncing = 0
        self.noted = 0
        publish_state(&self.state, LOG_OPEN if fd >= 0 else LOG_CLOSED)
        return former

    def add(self, bytes records):
        """append for Python callers: True when written."""
        cdef const char *p = records
        cdef size_t n = len(records)
        cdef int r
        with nogil:
            r = self.append(span(p, n), span(NULL, 0), 0)
        return r == 0

    def fail(self, int error, bint syncing):
        """Called by the thread whose fdatasync failed."""
        self.failed(error, syncing)

    def note_failure(self):
        """(errno, whether it was fdatasync); wants_tick does not ask for this failure again."""
        self.noted = 1
        return self.error, bool(self.syncing)

    def mark_durable(self, int fd, int64_t size):
        """The first `size` bytes of this file are on disk. Ignored when another file has taken its
        place."""
        if fd == self.fd and size > self.durable:
            publish(&self.durable, size)

    def position(self):
        """(number, end): all whole records are before it. One consistent pair, whatever the engine
        does meanwhile."""
        return self.number, published(&self.end)

    def snapshot(self):
        """(descriptor, number, end, durable end), consistent."""
        return self.fd, self.number, published(&self.end), published(&self.durable)

    def waiting(self):
        """Records that could not be written."""
        return self.pending.p[:self.pending.n] if self.pending.n else b""

    def configure(self, int64_t limit, int policy):
        self.limit = limit
        self.policy = policy

    @property
    def is_open(self):
        return published_state(&self.state) == LOG_OPEN

    @property
    def is_failed(self):
        return published_state(&self.state) == LOG_FAILED

    @property
    def due(self):
        return bool(self.wants_tick())


def write_back(int fd, int64_t end):
    """Has the kernel begin to write what of the first `end` bytes is not on its way to the disk.
    Says nothing of their being there, and takes nothing of what a later fdatasync has to tell. The
    last page is left: it will be written to again. OSError where even the beginning failed."""
    cdef int r
    end &= ~<int64_t>4095
    if end:
        with nogil:
            r = sync_file_range(fd, 0, end, SYNC_FILE_RANGE_WRITE)
        if r != 0:
            raise OSError(errno, strerror(errno).decode())


def reserve(int fd, int64_t begin, int64_t n):
    """Has the file system set aside room for n bytes from `begin` on; the file's size stays.
    OSError."""
    cdef int r
    with nogil:
        r = fallocate(fd, FALLOC_FL_KEEP_SIZE, begin, n)
    if r != 0:
        raise OSError(errno, strerror(errno).decode())


# ---- records for Python: whole stretches at a time, never one by one -----------------------------

def record(bytes payload not None, bint short=False):
    """One record with this payload; short: in the shorter form, if it has one."""
    cdef char[RECORD_HEAD + SHORT_MOST] room
    cdef Buffer b
    cdef size_t at
    cdef size_t n = 0
    b.p = NULL
    b.n = b.cap = 0
    at = record_begin(&b)
    buffer_add(&b, <const char*>payload, len(payload))
    record_end(&b, at, span(NULL, 0))
    if short and b.n <= sizeof(room):
        n = record_shorten(span(b.p, b.n), room)
    out = room[:n] if n else b.p[:b.n]
    buffer_free(&b)
    return out


def record_sound(bytes head not None, bytes payload not None):
    """Whether these 8 bytes are the head of a record with this payload."""
    cdef uint32_t n, crc
    memcpy(&n, <const char*>head, 4)
    memcpy(&crc, <const char*>head + 4, 4)
    return n == len(payload) and crc == crc32c(crc32c(0, head, 4), payload, n)


def records_join(const unsigned char[::1] data not None, size_t begin, size_t most):
    """The payloads of whole records from `begin` on, joined (so they are one Batch), until they
    reach `most` bytes.

    Returns (payloads, offset behind the last record taken, number of records that have a payload,
    of those that have none, status of what comes next: 1 nothing wrong, 0 the end of data, -1 a
    record cut short, -2 a damaged one).
    """
    cdef Buffer b
    cdef const char *base = <const char*>&data[0] if data.shape[0] else NULL
    cdef const char *p = base + begin
    cdef const char *end = base + data.shape[0]
    cdef size_t count = 0, marks = 0, before
    cdef int status = 1
    b.p = NULL
    b.n = b.cap = 0
    if begin > <size_t>data.shape[0]:
        raise ValueError("begin lies behind the end")
    with nogil:
        while b.n < most:
            before = b.n
            status = record_take(&p, end, &b)
            if status != 1:
                break
            if b.n > before:
                count += 1
            else:
                marks += 1
    out = b.p[:b.n] if b.n else b""
    buffer_free(&b)
    return out, p - base, count, marks, status


cdef int looks_like_batch(const char *p, const char *end) noexcept nogil:
    """Whether these bytes are one or more fields of a Batch, none of which reaches beyond the end.
    Looks at nothing inside them."""
    cdef uint64_t n
    cdef int shift
    if p == end:
        return 0
    while p < end:
        if p[0] != 0x0a and p[0] != 0x12:
            return 0
        p += 1
        n = 0
        shift = 0
        while True:
            if p == end or shift > 28:
                return 0
            n |= <uint64_t>(<uint8_t>p[0] & 127) << shift
            shift += 7
            p += 1
            if not <uint8_t>(p - 1)[0] & 128:
                break
        if n > <uint64_t>(end - p):
            return 0
        p += n
    return 1


cdef int looks_short(const char *p, size_t n) noexcept nogil:
    """Whether these n bytes may stand behind the checksum of a record of the shorter form: looks at
    the seq and the first effect."""
    cdef const char *end = p + n
    cdef OpHead h
    cdef Effects at
    cdef Effect x
    if n < 13:
        return 0
    p += 12
    if not get_varint(&p, end, &h.seq) or h.seq == 0 or h.seq >> SEQ_BITS:
        return 0
    h.effects = span(p, end - p)
    h.compact = 1
    begin_effects(&at, &h, 0)
    return take_effect(&at, &x) == 1


def record_find(const unsigned char[::1] data not None, size_t begin):
    """Offset of the first sound record that holds a Batch at or behind `begin`, wherever it starts;
    -1 when there is none.

    Tells damage (sound records follow) from a torn tail (none do). The cheap look at the payload's
    fields comes before the checksum, so garbage whose first bytes happen to be a long length does
    not make this quadratic, and nor do bytes that are all ones have it sum 2 KB at each of them.
    """
    cdef const char *base = <const char*>&data[0] if data.shape[0] else NULL
    cdef const char *end = base + data.shape[0]
    cdef const char *p
    cdef const char *q
    cdef uint32_t n
    cdef size_t left
    cdef int is_short
    cdef int64_t found = -1
    cdef Buffer b
    memset(&b, 0, sizeof(Buffer))
    with nogil:
        p = base + begin
        while end - p > RECORD_HEAD:
            memcpy(&n, p, 4)
            left = end - p - RECORD_HEAD
            is_short = n >> 28 == SHORT
            if is_short:
                n &= SHORT_MOST
            if n <= left and (looks_short(p + RECORD_HEAD, n) if is_short
                              else looks_like_batch(p + RECORD_HEAD, p + RECORD_HEAD + n)):
                q = p
                b.n = 0
                if record_take(&q, end, &b) == 1:
                    found = p - base
                    break
            p += 1
    buffer_free(&b)
    return found
