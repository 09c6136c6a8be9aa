# Finished ops, own and received, until the owner takes them as records for the log and the peers.

from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint64_t
from libc.string cimport memcpy, memset

from crdtredis.buffer cimport (Buffer, Span, buffer_add, buffer_free, buffer_need, buffer_resize,
                               span)


cdef inline void declare(Kernel *k, uint16_t slot) noexcept nogil:
    """Has the log name an actor with the next op, unless it does already."""
    if not k.actors.v[slot].logged:
        k.actors.v[slot].logged = 1
        encode_actor(&k.outbox.declarations, &k.actors.v[slot])


cdef Run *run_extend(Kernel *k, uint16_t slot, uint64_t seq) noexcept nogil:
    """The run of the op (slot, seq), which is about to be appended to k.outbox.ops."""
    cdef Run *r = &k.outbox.runs[k.outbox.n - 1] if k.outbox.n else NULL
    if r == NULL or r.slot != slot or r.last != seq - 1 or r.large.p != NULL or r.lent.p != NULL:
        return run_begin(k, slot, seq)
    r.last = seq
    return r


cdef Run *run_begin(Kernel *k, uint16_t slot, uint64_t seq) noexcept nogil:
    """As run_extend, but a run of its own. Here an actor is declared, with its first op: one that
    makes none leaves no trace."""
    cdef Run *r
    declare(k, slot)
    if k.outbox.n == k.outbox.cap:
        k.outbox.cap = k.outbox.cap * 2 if k.outbox.cap else 16
        k.outbox.runs = <Run*>mem_realloc(k.outbox.runs, k.outbox.cap * sizeof(Run))
    r = &k.outbox.runs[k.outbox.n]
    k.outbox.n += 1
    memset(r, 0, sizeof(Run))
    r.slot = slot
    r.home = slot == k.home.slot
    r.last = seq
    r.begin = k.outbox.ops.n
    return r


cdef void keep_received(Kernel *k, uint16_t slot, uint64_t seq, Span raw, int lent) noexcept nogil:
    """Puts an applied op with those that are to be logged and sent on. lent: its bytes stay until
    then, so a large one is not copied."""
    cdef Run *r = run_extend(k, slot, seq) if raw.n < LARGE_OP else run_begin(k, slot, seq)
    cdef Buffer *b = &k.outbox.ops if raw.n < LARGE_OP else &r.large
    cdef char *p
    k.outbox.size += raw.n
    if raw.n >= LARGE_OP and lent:
        r.lent = raw
        return
    if raw.n >= LARGE_OP:
        buffer_resize(b, HEAD_ROOM + 11 + raw.n)
        r.begin = b.n = HEAD_ROOM
    p = buffer_need(b, raw.n + 11)
    p[0] = 2 << 3 | 2
    p = put_varint(p + 1, raw.n)
    memcpy(p, raw.p, raw.n)
    b.n = p + raw.n - b.p
    r.end = b.n


cdef int has_ops(Kernel *k) noexcept nogil:
    return k.outbox.n > 0


cdef inline int next_op(const char **p, const char *end, Span *op, Span *home) noexcept nogil:
    """As get_message, for an op of a run, and what stays at home of it (NULL: nothing)."""
    cdef int r = get_message(p, end, 2, op)
    home[0] = span(NULL, 0)
    if r == 1 and p[0] < end and p[0][0] == (3 << 3 | 2):
        r = get_message(p, end, 3, home)
    return r


cdef size_t run_part(Kernel *k, const Run *r, size_t room, int one) noexcept nogil:
    """Bytes of the first ops of a run that go into `room` bytes. one: at least of the first,
    however large."""
    cdef const char *begin = k.outbox.ops.p + r.begin
    cdef const char *end = k.outbox.ops.p + r.end
    cdef const char *p = begin
    cdef const char *at = begin
    cdef Span op, home
    if r.end - r.begin <= room:
        return r.end - r.begin
    while (next_op(&p, end, &op, &home) == 1
           and (<size_t>(p - begin) <= room or (one and at == begin))):
        at = p
    return at - begin


cdef int take_record(Kernel *k, Record *r, size_t most) noexcept nogil:
    cdef Buffer *b = &r.buf
    cdef Run *run
    cdef size_t n
    cdef int home
    if not has_ops(k):
        return 0
    r.large = r.home = 0
    r.rest = span(NULL, 0)
    b.n = 0
    r.at = record_begin(b)
    if k.outbox.declarations.n:
        buffer_add(b, k.outbox.declarations.p, k.outbox.declarations.n)
        k.outbox.declarations.n = 0
    while k.outbox.at < k.outbox.n:
        run = &k.outbox.runs[k.outbox.at]
        home = r.home | run.home
        if run.large.p != NULL or run.lent.p != NULL:
            if b.n == RECORD_HEAD:
                take_large(k, run, r)
                r.home = home
                k.outbox.at += 1
            break
        n = b.n - RECORD_HEAD + RUN_HEAD
        n = run_part(k, run, most - n if n < most else 0, b.n == RECORD_HEAD)
        if n == 0:
            break
        r.home = home
        add_run(b, k.actors.v[run.slot].id, span(k.outbox.ops.p + run.begin, n))
        run.begin += n
        if run.begin < run.end:
            break
        k.outbox.at += 1
    if k.outbox.at == k.outbox.n:
        k.outbox.at = k.outbox.n = 0
        k.outbox.size = k.outbox.ops.n = 0
        if k.outbox.ops.cap > 4 << 20:
            buffer_free(&k.outbox.ops)
    return 1


cdef void take_large(Kernel *k, Run *run, Record *r) noexcept nogil:
    """Makes the buffer of a large op the record's, with the heads right before the op. Of a lent
    one only the heads are put into the record."""
    cdef size_t n = run.large.n - run.begin
    cdef char *p
    if run.lent.p != NULL:
        n = 1 + varint_size(run.lent.n) + run.lent.n        # as Batch.Run.ops
        p = put_run_head(buffer_need(&r.buf, RUN_HEAD + 11), k.actors.v[run.slot].id, n)
        p[0] = 2 << 3 | 2
        r.buf.n = put_varint(p + 1, run.lent.n) - r.buf.p
        r.rest = run.lent
        return
    buffer_free(&r.buf)
    r.buf = run.large
    r.large = 1
    r.at = run.begin - 10 - varint_size(n + 9) - RECORD_HEAD
    put_run_head(r.buf.p + r.at + RECORD_HEAD, k.actors.v[run.slot].id, n)
