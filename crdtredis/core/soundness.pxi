# Does an effect mean something?

from libc.stdint cimport uint64_t


cdef int effect_is_sound(const Effect *x, uint64_t seq, uint64_t stamp) noexcept nogil:
    """Does an effect of the op of this seq and stamp mean something? Of those that come, what the
    wire format allows and the meaning does not is refused; of those made here, what is no good to
    be told to others (core/effects.pxi), so what the decoder refuses is looked at, too."""
    cdef const char *p = x.observed.p
    cdef ObservedCount s
    if x.key.n > MAX_BYTES or x.name.n > MAX_BYTES or x.value.n > MAX_BYTES:
        return 0
    if ((x.type != T_STRING and x.kind > REMOVE and x.kind != CLEAR
         and not (x.kind == DEADLINE and x.type == T_HASH))
        or (x.name.n and (x.type == T_STRING or (x.kind > REMOVE and x.kind != DEADLINE)))):
        # a type that this version does not hold, or a name where there are no members
        return 0
    if x.kind <= REMOVE and types[x.type].sound != NULL and not types[x.type].sound(x):
        return 0
    if x.kind == PATCH:
        return patch_is_sound(x)
    if x.kind != INCREMENT and (x.total.exact.n or x.shown.n or x.context or x.wide):
        return 0
    if x.kind == ASSIGN and x.type == T_STREAM and x.run_seq > seq:
        return 0
    if x.kind == INCREMENT:
        return 0 < x.run_seq <= seq and x.observed.n == 0 and (x.shown.n or x.context == 0)
    if x.kind == DEADLINE:
        return (x.stamp == 0) == (x.actor == 0) and x.stamp <= stamp and x.deadline >= 0
    if x.kind == FLUSH:
        return x.key.n == 0
    if x.observed.n == 0:
        return 1
    while decode_observed(&p, x.observed.p + x.observed.n, &s) == 1:
        if (s.key.n or (x.kind <= REMOVE and (s.type != T_STRING or s.name.n))
            or (x.kind == CLEAR and shown_as(s.type) != x.type)):
            return 0
    return 1
