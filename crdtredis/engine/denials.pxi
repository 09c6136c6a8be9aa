# What was refused users and ACL LOG has not been told of yet.
#
# ACL LOG is Python's, and describes the client of each entry, which costs as much as twenty
# commands. A client may be refused as fast as it can ask. So a refusal is noted here, without the
# interpreter's lock, and told to ACL LOG by whoever reads it, before the client goes, and otherwise
# ten times a second. As there, one like any of the last ten counts as a further one of these. Of
# more than DENIALS different ones in between the latest are kept, the others counted.

from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memmove

from crdtredis.buffer cimport span

cdef enum:
    DENIALS_LOOK = 10       # acl.LOG_LOOK


cdef inline Span denial_name(const Denial *one) noexcept nogil:
    return span(<const char*>(one + 1), one.name_n)


cdef inline Span denial_what(const Denial *one) noexcept nogil:
    return span(<const char*>(one + 1) + one.name_n, one.what_n)


cdef inline int same_denial(const Denial *a, const Denial *b, Span name, Span what) noexcept nogil:
    return (a.denied == b.denied and a.context == b.context
            and a.name_n == name.n and a.what_n == what.n
            and memcmp(denial_what(a).p, what.p, what.n) == 0
            and memcmp(denial_name(a).p, name.p, name.n) == 0)


cdef void denial_away(Denials *x, uint32_t i) noexcept nogil:
    x.n -= 1
    memmove(&x.kept[i], &x.kept[i + 1], sizeof(Denial*) * (x.n - i))


cdef void denial_add(Denials *x, const Denial *one, Span name, Span what) noexcept nogil:
    cdef Denial *at
    cdef uint32_t i = x.n
    while i and x.n - i < DENIALS_LOOK:
        i -= 1
        at = x.kept[i]
        if same_denial(at, one, name, what):
            at.count += one.count
            at.client = one.client
            at.command = one.command
            at.last = one.last
            denial_away(x, i)
            x.kept[x.n] = at
            x.n += 1
            return
    at = <Denial*>malloc(sizeof(Denial) + name.n + what.n)
    if at == NULL:
        x.dropped[one.denied] += one.count
        return
    if x.n == DENIALS:
        x.dropped[x.kept[0].denied] += x.kept[0].count
        free(x.kept[0])
        denial_away(x, 0)
    at[0] = one[0]
    at.name_n = name.n
    at.what_n = what.n
    memcpy(<char*>(at + 1), name.p, name.n)
    memcpy(<char*>(at + 1) + name.n, what.p, what.n)
    x.kept[x.n] = at
    x.n += 1


cdef void denials_forget(Denials *x, Client *client) noexcept nogil:
    cdef uint32_t i
    for i in range(x.n):
        if x.kept[i].client == client:
            x.kept[i].client = NULL


cdef void denials_free(Denials *x) noexcept nogil:
    while x.n:
        x.n -= 1
        free(x.kept[x.n])
