# Idempotent ids of a stream: XADD IDMP adds no second entry under one that its producer has used.
# See core/produced.pxi.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t

from crdtredis.buffer cimport Buffer, Span

cdef enum:
    PRODUCED_SECONDS = 100      # that an id is known, unless a setting or XCFGSET says another
    PRODUCED_MOST = 100         # number, and so many of each producer
    SECONDS_MOST = 86400
    KNOWN_MOST = 10000
    PRODUCED_EFFECTS = 2        # of one XADD at most,
    PRODUCED_ROOM = 3072        # and bytes that they take

cdef struct Idempotence:
    int64_t seconds
    int64_t most
    int of_stream               # by XCFGSET; else it is the default, which is this replica's

# By what an id is known: of a producer, and an id or the hash of what is added.
cdef void produced_name(Buffer *name, Span producer, Span iid) noexcept nogil
cdef void produced_name_hashed(Buffer *name, Span producer, const Span *pairs,
                               size_t n) noexcept nogil
# 1: it is known, and what was added then has this id. s may be NULL.
cdef int produced_find(Kernel *k, Collection *s, Span name, StreamId *id) noexcept nogil
# Behind key_prepare(.., T_STREAM), and the entry: it is known from now on, and some go for it.
cdef Element *produced_put(Kernel *k, uint32_t db, Span key, Element *e, Span name,
                           StreamId id) noexcept nogil
cdef Idempotence idempotence_of(Kernel *k, Collection *s) noexcept nogil
# Where it is another one than before, what is known goes.
cdef Element *idempotence_set(Kernel *k, uint32_t db, Span key, Element *e,
                              Idempotence said) noexcept nogil
# What is known; 0 where neither an id is nor anything was ever said.
cdef int produced_counts(Kernel *k, Collection *s, size_t *producers, size_t *ids, uint64_t *added,
                         uint64_t *refused) noexcept nogil
# Looks at the next few ids from rank *at on, which it moves; how many. Names of those that have run
# out, each behind its length, go into `names`, of what others wrote a while later, and are to go.
# *next: when the first of the others runs out, where that is before it, or it is 0.
cdef int produced_look(Kernel *k, Collection *c, Idempotence of, size_t *at, size_t most,
                       Buffer *names, int64_t *next) noexcept nogil
# What a copy is to know, also once the stream has gone, as bytes behind what is in b; the effects
# that say so there, and how many bytes those take.
cdef void produced_carry(Kernel *k, Collection *s, Buffer *b) noexcept nogil
cdef Element *produced_load(Kernel *k, uint32_t db, Span key, Element *e,
                            Span carried) noexcept nogil
cdef size_t produced_size(Collection *s, size_t key) noexcept nogil
