# Streams that no command comes to any more: who lets go of what has run out there?
#
# Two things stay until somebody removes them by an op. Idempotent ids (core/produced.pxi) go with a
# later XADD IDMP, if there is one. And of a stream that is gone a word may be left that the
# deletion had not observed, which shows nothing, and to which nobody comes (core/streams.pxi):
#
#     A: XDEL s 5-1   ||   B: DEL s        ->  no stream; max-deleted-entry-id 5-1
#     A: XCFGSET s .. ||   B: DEL s        ->  no stream; what XCFGSET said
#
# So this goes round all keys, a few buckets at a time, and removes both by effects that commands
# make, too: G_FORGET, and DELETE, as DEL does. They remove what this replica has observed, so
# nothing is to be argued anew: an XADD that this replica has not seen keeps all that it wrote, and
# where two replicas remove the same at once the second finds nothing.
#
# For what another replica wrote that one has `deadlines.grace` longer, as for deadlines
# (grace_of); so mostly one op is made, by who wrote, and by another where it is away.
#
# A stream's ids are looked through again when the next of them runs out, but not at each of these
# moments where they are many: at most every second, and at least every minute, since XCFGSET and
# the setting may shorten the time. A round begins a second after the one before, and only in a
# process that has had a stream. The place is kept as numbers; what is passed over as a bucket
# changes, the next round comes to. And as it comes by, entries are sealed (core/entries.pxi).

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from crdtredis.buffer cimport Buffer, buffer_add, buffer_free, span

cdef enum:
    SWEEP_EVERY = 1000          # ms between rounds
    LOOK_SOON = 1000            # ms between two walks over the ids of a stream, at least,
    LOOK_LATE = 60_000          # and at most
    FORGOTTEN_AT_ONCE = 100     # ids that go in one op
    LEFT_MS = 1000              # how long what a deletion left stays, as in key_due


cdef Collection *stream_under(Element *e) noexcept nogil:
    """NULL: there is none."""
    cdef Collection *c = element_held(e) if e.meta & E_ENTRY and not is_packed(e) else NULL
    while c != NULL and c.type != T_STREAM:
        c = c.next
    return c


cdef void gather_stream(void *arg, Element *e) noexcept nogil:
    """A TableVisit."""
    if stream_under(e) != NULL:
        buffer_add(<Buffer*>arg, &e, sizeof(Element*))


cdef int64_t left_until(Kernel *k, Collection *s) noexcept nogil:
    """When what a deletion has left of a stream may go: NEVER where no word is left."""
    cdef Collection *head = head_of(s)
    cdef int64_t at = 0
    cdef size_t pos = 0, i
    cdef Element *m = table_next(&head.table, &pos) if head != NULL else NULL
    cdef Said w
    while m != NULL:
        i = 0
        while nth_write(m, i, &w):
            i += 1
            at = max(at, <int64_t>(w.stamp >> 16) + LEFT_MS + grace_of(k, w.actor))
        m = table_next(&head.table, &pos)
    return at if at else NEVER


cdef int sweep_ids(Kernel *k, uint32_t db, Element *e, Collection *s, int *most) noexcept nogil:
    """Of the idempotent ids of a stream; 1 when it has been through all of them."""
    cdef Idempotence of = idempotence_of(k, s)
    cdef Collection *c = groups_of(s)
    cdef Groups *g = groups_data(c)
    cdef int64_t next
    cdef Buffer names, key
    cdef int n
    memset(&names, 0, sizeof(Buffer))
    memset(&key, 0, sizeof(Buffer))
    buffer_add(&key, element_key(e), element_klen(e))
    while most[0] > 0 and g.swept < g.produced.n:
        names.n = 0
        n = produced_look(k, c, of, &g.swept, FORGOTTEN_AT_ONCE, &names, &g.next_out)
        most[0] -= n
        if names.n:
            op_begin(k)
            e = make_of_group(k, db, span(key.p, key.n), e, ASSIGN, G_FORGET, span(NULL, 0),
                              &names)
            op_end(k)
            c = groups_of(stream_under(e))      # it goes with the last of its members
            if c == NULL:
                break
            g = groups_data(c)
    n = c == NULL or g.swept >= g.produced.n
    if n and c != NULL:
        next = max(g.next_out - k.now, max(<int64_t>LOOK_SOON, of.seconds * 250))
        g.look_at = k.now + min(next, <int64_t>LOOK_LATE)
        g.swept = 0
        g.next_out = 0
    buffer_free(&names)
    buffer_free(&key)
    return n


cdef int sweep_stream(Kernel *k, uint32_t db, Element *e, int *most) noexcept nogil:
    """0: it is to be gone on with."""
    cdef Collection *s = stream_under(e)
    if not element_live(e):
        if left_until(k, s) <= k.now:
            op_begin(k)
            remove_key(k, db, e, 0)
            op_end(k)
        return 1
    seal_quiet(k, s, most)
    if (groups_of(s) == NULL or groups_data(groups_of(s)).produced.n == 0
            or groups_data(groups_of(s)).look_at > k.now):
        return 1
    return sweep_ids(k, db, e, s, most)


cdef void sweep_streams(Kernel *k, int most) noexcept nogil:
    cdef Streams *x = &k.streams
    cdef Buffer found
    cdef uint64_t next
    cdef size_t i
    cdef int over = 1
    if not x.opened or k.now < x.sweep_at or k.joining or stamps_run_ahead(k):
        return
    memset(&found, 0, sizeof(Buffer))
    while most > 0 and over:
        most -= 1
        found.n = 0
        next = table_scan(&k.db[x.sweep_db].table, x.sweep_cursor, gather_stream, &found)
        for i in range(found.n // sizeof(Element*)):
            over &= sweep_stream(k, x.sweep_db, (<Element**>found.p)[i], &most)
        if not over:
            break
        x.sweep_cursor = next
        if next == 0:
            x.sweep_db = (x.sweep_db + 1) % DATABASES
            if x.sweep_db == 0:
                x.sweep_at = k.now + SWEEP_EVERY
                break
    buffer_free(&found)
