# Concurrent writes that had to be decided, for CRDT.CONFLICTS: the latest, and how many there were
# of a kind.
#
# A kind is a database, a key's beginning (key_beginning), a type, two replicas. There is room for
# MEETINGS of them: a new one takes the place of the rarest and goes on from its count, as far as
# which it may be too high (Metwally et al., Space-Saving, ICDT 2005). So a kind that makes more
# than a MEETINGS-th of all conflicts is never missing.

from libc.stdint cimport int64_t, uint16_t, uint32_t
from libc.string cimport memcmp, memcpy, memset

from crdtredis.buffer cimport copy_span, span
from crdtredis.numbers cimport parse_int64


cdef void count_meeting(Kernel *k, const Conflict *c, uint32_t lost) noexcept nogil:
    """lost: bytes of the value that lost."""
    cdef Conflicts *all = &k.conflicts
    cdef uint16_t a = k.actors.v[c.actor[0]].replica_slot, b = k.actors.v[c.actor[1]].replica_slot
    cdef uint16_t first = min(a, b), second = max(a, b)
    cdef uint32_t n = <uint32_t>key_beginning(span(c.key, c.key_n)).n, i, rarest = 0, of
    cdef Meeting *m
    cdef int64_t number
    of = (key_hash(k, c.key, n) ^ (<uint32_t>first << 16 | second) ^ c.db * <uint32_t>0x9e3779b1
          ^ <uint32_t>c.type)
    for i in range(all.met):
        m = &all.meetings[i]
        if (all.of[i] == of and m.prefix_n == n and m.replica[0] == first
            and m.replica[1] == second and m.last.db == c.db and m.last.type == c.type
            and memcmp(m.last.key, c.key, n) == 0):
            break
        if all.times[i] < all.times[rarest]:
            rarest = i
    else:
        i = rarest
        if all.met < MEETINGS:
            i = all.met
            all.met += 1
            all.times[i] = 0
        m = &all.meetings[i]
        memset(m, 0, sizeof(Meeting))
        m.over = all.times[i]
        m.prefix_n = n
        m.replica[0] = first
        m.replica[1] = second
        all.of[i] = of
    all.times[i] += 1
    m.won += a == first
    m.lost += lost
    m.numbers += (parse_int64(c.value[0], c.n[0], &number) == 1
                  and parse_int64(c.value[1], c.n[1], &number) == 1)
    m.last = c[0]


cdef void note_conflict(Kernel *k, const Effect *at, const Cell *cell) noexcept nogil:
    """A write has come to stand beside others, as the first of its cell's. It lost to the one that
    is shown; or that is it, and it won over the latest of the others. What the log brings back when
    the process starts was noted when it came."""
    cdef Conflict *c
    cdef Write *w[2]
    cdef Write *x = cell.writes
    cdef int i
    if k.inbox.recovering:
        return
    w[0] = cell_winner(&k.actors, cell)
    w[1] = x if x != w[0] else x.next
    x = w[1].next if w[0] == x else NULL
    while x != NULL:
        if later(&k.actors, x.stamp, x.actor, w[1].stamp, w[1].actor):
            w[1] = x
        x = x.next
    c = &k.conflicts.ring[k.conflicts.n % CONFLICTS]
    k.conflicts.n += 1
    c.at = k.now
    c.db = at.db
    c.type = at.type
    c.key_n = <uint32_t>(at.key.n if at.key.n < CONFLICT_TEXT else CONFLICT_TEXT)
    copy_span(c.key, span(at.key.p, c.key_n))
    c.name_n = <uint32_t>(at.name.n if at.name.n < CONFLICT_TEXT else CONFLICT_TEXT)
    copy_span(c.name, span(at.name.p, c.name_n))
    for i in range(2):
        c.actor[i] = w[i].actor
        c.stamp[i] = w[i].stamp
        c.n[i] = w[i].n if w[i].n < CONFLICT_TEXT else CONFLICT_TEXT
        memcpy(c.value[i], write_value(w[i]), c.n[i])
    count_meeting(k, c, w[1].n)
