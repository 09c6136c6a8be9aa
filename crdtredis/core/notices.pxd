# Keys that effects touched, for keyspace notifications. See core/notices.pxi.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from crdtredis.buffer cimport Span

cdef enum KeyState:
    WAS_LIVE = 1            # there was a value, be it expired
    WAS_VISIBLE = 2
    IS_VISIBLE = 4
    HAS_DEADLINE = 8
    IS_LOCAL = 16           # the op was made here
    FIELD_LAPSED = 32       # a field was removed whose deadline had passed
    FIELD_DUE = 64          # a field got a deadline,
    FIELD_PERSISTS = 128    # or lost one

# What the effects of one op did to a key. The key follows.
cdef struct Notice:
    uint64_t seq            # of the op
    uint32_t n              # bytes of key
    uint32_t kinds          # 1 << EffectKind of each
    uint16_t slot
    uint16_t types          # 1 << KeyType of each
    uint8_t state           # KeyState
    uint32_t db

cdef void notices_set(Kernel *k, int on) noexcept nogil
cdef int state_before(Kernel *k, Element *e) noexcept nogil         # of KeyState
cdef void add_notice(Kernel *k, const Applying *op, const Effect *x, int before) noexcept nogil
# The same key once more, in the state that a later effect left it.
cdef void merge_state(Notice *n, int later) noexcept nogil
# The next from *at on, where the first is 0; NULL: no more.
cdef Notice *next_notice(Kernel *k, size_t *at) noexcept nogil
cdef Span notice_key(const Notice *n) noexcept nogil
