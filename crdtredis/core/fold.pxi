# When may a patch be forgotten, and what if that was wrong?
#
# A patch is folded, and only the lowest of its text, once every process that is known here has
# observed it, and all that each did before it said so is applied here. Processes that have ended
# count, until nothing of them can come (replication/ended.py). Whatever comes later has then
# observed the patch, so it has a later stamp; and a removal that comes later has observed all of
# the base, so that stands or falls as one.
#
# But a process that is not known yet may know less: one that follows a process which lost the end
# of its log, and so what that had acknowledged; one on a directory that was restored; a new
# replica.
#
#     A: SETBIT b 1 1, which B and C acknowledge, and C folds. B loses it with its power, comes back
#     as B', and before it hears of A again, it does SETBIT b 1 0, by a clock that is behind.
#     C lets that act on what is folded: 0.  A lets its own act behind it: 1, for ever.
#
# So a replica keeps the dots of what it folded, the greatest of each actor (Texts.folded). An op is
# *late* if it has not observed all of them. Where one touches a text, the key is marked, and a
# moment later written anew, as a SET that leaves the deadline alone would: once all is here that
# the others have made meanwhile, as far as that can be known, for such a SET hides what it has not
# observed. So would any replica for which it was late; of those SETs one wins, and what stood there
# differently is gone everywhere. No op is late without such a loss (test_patches.py).
#
# A checkpoint tells `folded` as of the beginning of its walk, and so does a state that is given:
# who joins it has folded that, too, and a join is late where either side lacks what the other
# folded. So neither side folds from there on to the join.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memcpy, memset

from crdtredis.buffer cimport Buffer, buffer_add, buffer_free, span

cdef uint64_t NOT_SOUGHT = <uint64_t>-1


# Up to which seq of each actor everybody has observed everything.
cdef struct Observers:
    Kernel *k
    uint8_t *counts         # by slot: whose word is needed
    uint64_t *seqs          # by slot; NOT_SOUGHT


cdef int observers_begin(Observers *o, Kernel *k) noexcept nogil:
    """0 where nothing is observed by all."""
    cdef Actors *a = &k.actors
    cdef uint32_t i, others = 0
    cdef uint16_t slot, next
    cdef int newest, sound = 1
    o.k = k
    o.counts = <uint8_t*>mem_zalloc(a.n * 9)
    o.seqs = <uint64_t*>mem_alloc(a.n * sizeof(uint64_t))
    memset(o.seqs, 0xff, a.n * sizeof(uint64_t))
    for i in range(a.n):
        slot = a.ordered[i]
        next = a.ordered[i + 1] if i + 1 < a.n else NO_SLOT
        if slot == k.home.slot or a.v[slot].gone:
            continue
        if next == k.home.slot and i + 2 < a.n:
            next = a.ordered[i + 2]
        newest = (a.v[slot].replica_slot != a.v[k.me].replica_slot and (
            next == NO_SLOT or a.v[next].replica_slot != a.v[slot].replica_slot))
        others += newest
        # of this replica itself: as which this process did not go on (Replica.act_as)
        if slot == k.me or a.v[slot].closed or (a.v[slot].applied == 0 and not newest):
            continue
        o.counts[slot] = 1
        sound &= actor_is_here(a, slot)
    return sound and others >= k.texts.others


cdef void observers_end(Observers *o) noexcept nogil:
    mem_free(o.counts)
    mem_free(o.seqs)


cdef int observed_by_all(Observers *o, uint64_t dot) noexcept nogil:
    cdef uint64_t *seq = &o.seqs[dot_slot(dot)]
    cdef uint32_t i
    if seq[0] == NOT_SOUGHT:
        for i in range(o.k.actors.n):
            if o.counts[i]:
                seq[0] = min(seq[0], actor_observed(&o.k.actors, <uint16_t>i, dot_slot(dot)))
    return dot_seq(dot) <= seq[0]


cdef int fold_some(Observers *o, Collection *c, Element *e, int most) noexcept nogil:
    """How many patches of key e were folded."""
    cdef Kernel *k = o.k
    cdef Text *t = patched_of(c).texts
    cdef Text *next
    cdef Patch *p
    cdef int n = 0
    while t != NULL:
        next = t.next
        while t.first != NULL and n < most and observed_by_all(o, t.first.dot):
            p = t.first
            t.last = p.dot
            t.upto = p.stamp
            vector_raise(&k.texts.folded, dot_slot(p.dot), dot_seq(p.dot))
            patch_drop(c, t, p)
            n += 1
        if t.first == NULL:
            text_drop(c, t)
        t = next
    return n


cdef int keeps_room(Kernel *k, Collection *c, Element *e) noexcept nogil:
    """A long string is not moved between any two changes."""
    return (patched_of(c).texts != NULL or (e.meta & E_PLAIN and element_vlen(e) > QUIET_FREELY
                                            and k.now - patched_of(c).changed < QUIET_MS))


cdef int is_complete(Kernel *k) noexcept nogil:
    """Has all come here that the others are known to have made, and is none of them away? What has
    not come would go with a value that is written anew."""
    cdef Actors *a = &k.actors
    cdef uint32_t i
    for i in range(a.n):
        if not (a.v[i].gone or a.v[i].closed or actor_is_here(a, <uint16_t>i)):
            return 0
    return not k.texts.apart


cdef void texts_mend(Kernel *k, int most) noexcept nogil:
    cdef Element *m
    cdef Element *e
    cdef Buffer key, value
    cdef Span v
    cdef size_t pos
    cdef uint32_t db
    memset(&key, 0, sizeof(Buffer))
    memset(&value, 0, sizeof(Buffer))
    while most > 0 and table_count(&k.texts.marks) and not stamps_run_ahead(k) and not k.joining:
        most -= 1
        pos = 0
        m = table_next(&k.texts.marks, &pos)
        memcpy(&db, element_key(m), sizeof(db))
        key.n = 0
        buffer_add(&key, element_key(m) + sizeof(db), element_klen(m) - sizeof(db))
        table_remove(&k.texts.marks, m)
        element_free(m)
        e = key_in(k, db, span(key.p, key.n))
        if e == NULL or not value_live(e):
            continue
        v = string_view(k, e)
        value.n = 0
        buffer_add(&value, v.p, v.n)
        op_begin(k)
        make_string(k, db, span(key.p, key.n), e, span(value.p, value.n), 1)
        op_end(k)
        k.texts.mended += 1
    buffer_free(&key)
    buffer_free(&value)


cdef int texts_work(Kernel *k, int most) noexcept nogil:
    cdef Observers o
    cdef Collection *c
    cdef Collection *next
    cdef Database *d
    cdef Element *e
    cdef int ready
    if k.joining:
        return 0
    if (table_count(&k.texts.marks) and k.now >= k.texts.mend_at
            and (k.now >= k.texts.mend_at + MEND_WAIT_MS or is_complete(k))):
        texts_mend(k, most)
    if k.texts.first == NULL or k.texts.giving or k.inbox.barred.n:
        return 0
    ready = observers_begin(&o, k)
    if is_alone(k):
        memset(o.counts, 0, k.actors.n)            # there is nobody to ask
        ready = 1
    if ready:
        c = k.texts.next if k.texts.next != NULL else k.texts.first
        while c != NULL and most > 0:
            next = patched_of(c).after
            e = key_of_patches(c)
            most -= 1
            if e != NULL:
                most -= fold_some(&o, c, e, most)
                c.named = keeps_room(k, c, e)
                if not c.named:
                    d = &k.db[patched_of(c).db]
                    reencode(k, &d.table, &d.live, e, element_live(e))
            c = next
        k.texts.next = c
    observers_end(&o)
    return k.texts.next != NULL


cdef void texts_loaded(Kernel *k) noexcept nogil:
    """The log has been read."""
    vector_join(&k.texts.folded, &k.texts.loaded)
    vector_free(&k.texts.loaded)
    memset(&k.texts.loaded, 0, sizeof(VersionVector))
