# What a mirror lacks. See core/mirror.pxi.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t

from crdtredis.buffer cimport Span, span

cdef enum DirtyWhat:
    DIRTY_KEY = 0           # all of it, or that it has gone
    DIRTY_DEADLINE = 1
    DIRTY_MEMBER = 2        # one member, of which the name follows the key

cdef inline Span dirty_key(const Dirty *x) noexcept nogil:
    return span(<const char*>x + sizeof(Dirty), x.n)

cdef inline Span dirty_name(const Dirty *x) noexcept nogil:
    return span(<const char*>x + sizeof(Dirty) + x.n, x.name_n)

# Begins anew, with a pass due, or ends. most: bytes that may wait.
cdef void mirror_set(Kernel *k, int on, size_t most) noexcept nogil
# More has changed than is listed: a pass is due.
cdef void mirror_lose(Kernel *k) noexcept nogil
# The mirror lacks this key of database 0, or its deadline, or a member.
cdef void mirror_lacks(Kernel *k, Span key, uint32_t hash, int what, Span name) noexcept nogil
# What was sent of this key is not there: all of it is listed, behind the others.
cdef void mirror_again(Kernel *k, const Dirty *x) noexcept nogil
# An effect has been applied. before: KeyState. e: of an effect on a member, what stands under the
# key; else NULL.
cdef void mirror_note(Kernel *k, const Effect *x, uint32_t hash, int before,
                      Element *e) noexcept nogil
cdef void mirror_begin_pass(Kernel *k) noexcept nogil
# The pass goes on, if there is one: some more keys are listed.
cdef void mirror_walk(Kernel *k) noexcept nogil
# The first of what the mirror lacks, which is listed no longer; NULL: none.
cdef Dirty *mirror_take(Kernel *k) noexcept nogil
# That is on its way now ...
cdef void mirror_sent(Kernel *k, Dirty *x) noexcept nogil
# ... is there, or is lacking as before, in its old place
cdef void mirror_arrived(Kernel *k) noexcept nogil
cdef void mirror_put_back(Kernel *k) noexcept nogil
# Since when (ms) the mirror has lacked something; 0: it lacks nothing.
cdef int64_t mirror_since(const Kernel *k) noexcept nogil
cdef Dirty *mirror_find(Kernel *k, Span key, uint32_t hash, int what, Span name) noexcept nogil
