# Encoded Batches as bytes, for those who hand them on: which ops one holds, and how it is cut
# between ops. Nothing here looks at more of an op than its seq and stamp: what the op holds is
# examined by `receive`, and every op passes here several times.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset

from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, span


cdef inline uint64_t op_seq(Span op) noexcept nogil:
    """The seq, an op's first field; 0 where it is not there."""
    cdef const char *p = op.p + 1
    cdef uint64_t seq
    if op.n < 2 or op.p[0] != 1 << 3 or not get_varint(&p, op.p + op.n, &seq) or seq >> SEQ_BITS:
        return 0
    return seq


cdef inline int op_stamp(Span op, uint64_t *stamp) noexcept nogil:
    """1 and the stamp, an op's second field; 0 where it is not there."""
    cdef const char *p = op.p
    cdef Field f
    if (get_field(&p, op.p + op.n, &f) != 1 or f.number != 1
            or get_field(&p, op.p + op.n, &f) != 1 or f.number != 2 or f.wire != 1):
        return 0
    stamp[0] = f.v
    return 1


cdef object taken(bytes batch, Buffer *b, uint64_t actor, Span ops):
    """bytes: what is in b, which is left empty, and behind it these ops of `batch`. Ops alone,
    maybe many megabytes, are copied once, and not at all where they are the whole of it."""
    cdef char head[RUN_HEAD]
    cdef size_t n
    if b.n == 0:
        n = put_run_head(head, actor, ops.n) - head
        if n + ops.n == <size_t>len(batch):
            return batch
        out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(n + ops.n))
        memcpy(PyBytes_AS_STRING(out), head, n)
        memcpy(PyBytes_AS_STRING(out) + n, ops.p, ops.n)
        return out
    if ops.n:
        add_run(b, actor, ops)
    out = b.p[:b.n]
    b.n = 0
    return out


cdef int leave_home(Span batch, Buffer *out) noexcept nogil:
    """1: `out` is what others may have of a Batch of this replica's log, maybe nothing: it without
    what stays at home (core/home.pxi). 0: that is all of it, and `out` is empty. -1: it is no
    Batch, as far as this looks."""
    cdef const char *p = batch.p
    cdef const char *end = p + batch.n
    cdef const char *at
    cdef const char *q
    cdef const char *op_at
    cdef Field f, g
    cdef Span raw, home
    cdef Buffer ops
    cdef int r, found = 0
    out.n = 0
    memset(&ops, 0, sizeof(Buffer))
    while True:
        at = p
        r = get_field(&p, end, &f)
        if r <= 0:
            break
        if f.wire != 2 or f.number > 2:
            r = -1
            break
        if f.number == 1:
            buffer_add(out, at, p - at)
            continue
        q = f.s.p
        if get_field(&q, f.s.p + f.s.n, &g) != 1 or g.number != 1 or g.wire != 1:
            r = -1
            break
        if g.v == HOME_ACTOR:
            found = 1
            continue
        ops.n = 0
        while True:
            op_at = q
            r = next_op(&q, f.s.p + f.s.n, &raw, &home)
            if r <= 0:
                break
            if home.p == NULL:
                buffer_add(&ops, op_at, q - op_at)
            else:
                found = 1
                buffer_add(&ops, op_at, raw.p + raw.n - op_at)
        if r < 0:
            break
        if ops.n:
            add_run(out, g.v, span(ops.p, ops.n))
    buffer_free(&ops)
    if r < 0 or not found:
        buffer_free(out)
    return -1 if r < 0 else found


cdef int stays_home(Span batch) noexcept nogil:
    """As leave_home, without making anything: is there something to be left out?"""
    cdef const char *p = batch.p
    cdef const char *end = p + batch.n
    cdef const char *q
    cdef Field f, g
    cdef Span raw, home
    while get_field(&p, end, &f) == 1:
        if f.number != 2 or f.wire != 2:
            continue
        q = f.s.p
        if get_field(&q, f.s.p + f.s.n, &g) != 1 or g.v == HOME_ACTOR:
            return 1
        while next_op(&q, f.s.p + f.s.n, &raw, &home) == 1:
            if home.p != NULL:
                return 1
    return 0


def shared_batch(bytes batch not None):
    """The Batch, which this replica's log holds, without what stays at home (core/home.pxi): what
    others may have of it; b"" where that is nothing. DamagedBatch where it is none. Cost: a look at
    every op, and a copy where there is something to be left out."""
    cdef Span s = span(batch, len(batch))
    cdef Buffer out
    cdef int r
    if not stays_home(s):
        return batch
    memset(&out, 0, sizeof(Buffer))
    r = leave_home(s, &out)
    if r < 0:
        raise DamagedBatch("not a batch")
    shared = out.p[:out.n] if r else batch
    buffer_free(&out)
    return shared


def batch_ranges(bytes batch):
    """[(actor id, first seq, last seq)] of the runs of a Batch, in order. DamagedBatch where it is
    none, as far as this looks."""
    cdef const char *p = batch
    cdef const char *end = p + len(batch)
    cdef const char *q
    cdef Field f, g
    cdef Span raw, home
    cdef uint64_t seq
    cdef int r
    out = []
    while True:
        r = get_field(&p, end, &f)
        if r == 0:
            return out
        if r < 0 or f.wire != 2 or f.number > 2:
            raise DamagedBatch("not a batch")
        if f.number == 1:
            continue
        q = f.s.p
        if get_field(&q, f.s.p + f.s.n, &g) != 1 or g.number != 1 or g.wire != 1:
            raise DamagedBatch("a run without its actor")
        first = last = 0
        while True:
            r = next_op(&q, f.s.p + f.s.n, &raw, &home)
            if r == 0:
                break
            seq = op_seq(raw) if r > 0 else 0
            if seq == 0:
                raise DamagedBatch("a damaged op")
            first = first or seq
            last = seq
        if first:
            out.append((g.v, first, last))


def slice_batch(bytes batch, clock):
    """The Batch without the ops that `clock` {actor id: seq} covers; declarations of actors stay.
    b"" when no op is left. DamagedBatch where it is none. Cost: linear in the bytes; nothing is
    decoded but the seqs."""
    cdef const char *p = batch
    cdef const char *end = p + len(batch)
    cdef const char *q
    cdef const char *at
    cdef Field f, g
    cdef Span raw, home
    cdef uint64_t seq
    cdef Buffer b, ops
    cdef uint64_t known
    cdef int r = 1
    cdef int any_op = 0
    memset(&b, 0, sizeof(Buffer))
    memset(&ops, 0, sizeof(Buffer))
    try:
        while True:
            at = p
            r = get_field(&p, end, &f)
            if r == 0:
                break
            if r < 0 or f.wire != 2 or f.number > 2:
                raise DamagedBatch("not a batch")
            if f.number == 1:
                buffer_add(&b, at, p - at)
                continue
            q = f.s.p
            if get_field(&q, f.s.p + f.s.n, &g) != 1 or g.number != 1 or g.wire != 1:
                raise DamagedBatch("a run without its actor")
            known = clock.get(g.v, 0)
            ops.n = 0
            while True:
                at = q
                r = next_op(&q, f.s.p + f.s.n, &raw, &home)
                if r == 0:
                    break
                seq = op_seq(raw) if r > 0 else 0
                if seq == 0:
                    raise DamagedBatch("a damaged op")
                if seq > known:
                    buffer_add(&ops, at, q - at)
            if ops.n:
                any_op = 1
                add_run(&b, g.v, span(ops.p, ops.n))
        return b.p[:b.n] if any_op else b""
    finally:
        buffer_free(&b)
        buffer_free(&ops)


def batch_until(bytes batch not None, uint64_t stamp):
    """The Batch, of this replica's log, without the ops stamped later; declarations of actors stay,
    which may be all that is left. An op goes with what stays at home of it, whose own stamp is a
    little earlier or later. As no op is stamped before what its maker had observed, those that are
    left build on no other. DamagedBatch where it is none. Cost: a look at every op, and a copy."""
    cdef const char *p = batch
    cdef const char *end = p + len(batch)
    cdef const char *q
    cdef const char *at
    cdef Field f, g
    cdef Span raw, home
    cdef Buffer b, ops
    cdef uint64_t made
    cdef int r = 1
    memset(&b, 0, sizeof(Buffer))
    memset(&ops, 0, sizeof(Buffer))
    try:
        while True:
            at = p
            r = get_field(&p, end, &f)
            if r == 0:
                break
            if r < 0 or f.wire != 2 or f.number > 2:
                raise DamagedBatch("not a batch")
            if f.number == 1:
                buffer_add(&b, at, p - at)
                continue
            q = f.s.p
            if get_field(&q, f.s.p + f.s.n, &g) != 1 or g.number != 1 or g.wire != 1:
                raise DamagedBatch("a run without its actor")
            ops.n = 0
            while True:
                at = q
                r = next_op(&q, f.s.p + f.s.n, &raw, &home)
                if r == 0:
                    break
                if r < 0 or not op_stamp(raw, &made):
                    raise DamagedBatch("a damaged op")
                if made <= stamp:
                    buffer_add(&ops, at, q - at)
            if ops.n:
                add_run(&b, g.v, span(ops.p, ops.n))
        return b.p[:b.n]
    finally:
        buffer_free(&b)
        buffer_free(&ops)


def split_batch(bytes batch, size_t most):
    """[Batch]: the same ops, in order, in Batches of at most `most` bytes; an op that alone takes
    more stands in one of its own, whose bytes are the same wherever it was cut out. Declarations
    are left out where anything was cut. DamagedBatch where it is none. Cost: one copy of the
    bytes."""
    cdef const char *p = batch
    cdef const char *end = p + len(batch)
    cdef const char *q
    cdef const char *at
    cdef Field f, g
    cdef Span raw, home, ops
    cdef Buffer b
    cdef int r
    if <size_t>len(batch) <= most:
        return [batch]
    out = []
    memset(&b, 0, sizeof(Buffer))
    try:
        while True:
            r = get_field(&p, end, &f)
            if r == 0:
                break
            if r < 0 or f.wire != 2 or f.number > 2:
                raise DamagedBatch("not a batch")
            if f.number == 1:
                continue
            q = f.s.p
            if get_field(&q, f.s.p + f.s.n, &g) != 1 or g.number != 1 or g.wire != 1:
                raise DamagedBatch("a run without its actor")
            ops = span(q, 0)
            while True:
                at = q
                r = next_op(&q, f.s.p + f.s.n, &raw, &home)
                if r == 0:
                    break
                if r < 0:
                    raise DamagedBatch("a damaged op")
                if b.n + ops.n and b.n + RUN_HEAD + <size_t>(q - ops.p) > most:
                    out.append(taken(batch, &b, g.v, ops))
                    ops = span(at, 0)
                ops.n = q - ops.p
            if ops.n and b.n + ops.n + RUN_HEAD > most:
                out.append(taken(batch, &b, g.v, ops))
            elif ops.n:
                add_run(&b, g.v, ops)
        if b.n:
            out.append(b.p[:b.n])
        return out
    finally:
        buffer_free(&b)
