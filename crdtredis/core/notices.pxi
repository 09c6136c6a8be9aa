# Keys that effects touched, in order, until the owner turns them into keyspace notifications.
#
# They are kept only while somebody wants them (Kernel.notices.on), and what is kept is bounded:
# beyond NOTICES_MOST bytes they are counted and dropped, as is FLUSH, which does not name its keys.
# Effects of one op on one key that follow each other are one notice.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memset

from crdtredis.buffer cimport Span, buffer_free, buffer_need, copy_span, span

cdef enum:
    NOTICES_MOST = 32 << 20     # bytes


cdef void notices_set(Kernel *k, int on) noexcept nogil:
    k.notices.on = on
    watch_active(k)
    if not on:
        buffer_free(&k.notices.rows)


cdef inline Span notice_key(const Notice *n) noexcept nogil:
    return span(<const char*>n + sizeof(Notice), n.n)


cdef inline size_t notice_size(uint32_t n) noexcept nogil:
    return (sizeof(Notice) + n + 7) & ~<size_t>7


cdef int state_before(Kernel *k, Element *e) noexcept nogil:
    if e == NULL or not element_live(e):
        return 0
    return WAS_LIVE | WAS_VISIBLE if key_visible(k, e) else WAS_LIVE


cdef void merge_state(Notice *n, int later) noexcept nogil:
    n.state = <uint8_t>(n.state & (WAS_LIVE | WAS_VISIBLE | FIELD_LAPSED | FIELD_DUE
                                   | FIELD_PERSISTS) | later & ~(WAS_LIVE | WAS_VISIBLE))


cdef void add_notice(Kernel *k, const Applying *op, const Effect *x, int before) noexcept nogil:
    cdef Element *e
    cdef Notice *last = NULL
    cdef Notice *n
    cdef int state
    if x.db == SYSTEM_DB or is_hidden(k, x.db, x.key):
        return
    e = key_in(k, x.db, x.key)
    state = before | (IS_LOCAL if op.local else 0)
    if key_visible(k, e):
        state |= IS_VISIBLE | (HAS_DEADLINE if key_deadline(k, e) >= 0 else 0)
    if x.kind == DEADLINE and x.type == T_HASH and x.stamp == 0:
        state |= FIELD_DUE if x.deadline else FIELD_PERSISTS
    if k.notices.rows.n:
        last = <Notice*>(k.notices.rows.p + k.notices.last)
    if (last != NULL and last.seq == op.seq and last.slot == op.slot and last.db == shown_db(x.db)
            and last.n == x.key.n and (last.n == 0
                                       or memcmp(notice_key(last).p, x.key.p, last.n) == 0)):
        n = last
        merge_state(n, state)
    elif k.notices.rows.n + notice_size(<uint32_t>x.key.n) > NOTICES_MOST:
        k.notices.dropped += 1
        return
    else:
        k.notices.last = k.notices.rows.n
        n = <Notice*>buffer_need(&k.notices.rows, notice_size(<uint32_t>x.key.n))
        k.notices.rows.n += notice_size(<uint32_t>x.key.n)
        memset(n, 0, sizeof(Notice))
        n.seq = op.seq
        n.slot = op.slot
        n.db = shown_db(x.db)
        n.n = <uint32_t>x.key.n
        n.state = <uint8_t>state
        copy_span(<char*>n + sizeof(Notice), x.key)
    n.kinds |= <uint32_t>1 << x.kind
    if x.kind <= REMOVE or x.kind == CLEAR or x.type == T_HASH:
        n.types |= <uint16_t>(1 << x.type)


cdef Notice *next_notice(Kernel *k, size_t *at) noexcept nogil:
    cdef Notice *n
    if at[0] >= k.notices.rows.n:
        return NULL
    n = <Notice*>(k.notices.rows.p + at[0])
    at[0] += notice_size(n.n)
    return n
