# The effects of an op in a shorter form. See core/compact.pxi.

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

from crdtredis.buffer cimport Buffer, Span

# What an effect may leave out: it is as in the effect before.
cdef struct Before:
    uint64_t actor          # id of the op's
    int any                 # there is one before
    int kind
    int type
    uint32_t db
    size_t key_at           # where its key lies in the effects
    size_t key_n

# The effects of an op, in whatever form, one after the other: [p, end) of those from `begin` on.
cdef struct Effects:
    const char *begin
    const char *p
    const char *end
    int compact
    Before before

# What a replica knows of forms. Of the op under way (core/op.pxi) by its half: 1 is what stays at
# home.
cdef struct Forms:
    int compacts            # ops that are begun from now on have the shorter form
    int compact[2]          # so has the one under way,
    Before before[2]        # and this is the last of its effects
    Effects rest            # of the op under examination those that are not kept (core/receive.pxi)

# Appends an effect of the op under way, all of whose effects are in b.
cdef void encode_compact(Buffer *b, const Effect *x, Before *before) noexcept nogil
cdef void begin_effects(Effects *at, const OpHead *h, uint64_t actor) noexcept nogil
# The next one: 1; 0 at the end; -1 where the bytes are not what the format says.
cdef int take_effect(Effects *at, Effect *out) noexcept nogil
