# Ops in protobuf wire format (proto/crdtredis.proto). One strict decoder, one encoder; both are
# tested against the generated classes.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from crdtredis.buffer cimport Buffer, Span

cdef enum:
    SYSTEM_DB = 16              # what the cluster knows of itself: no command reaches it
    SHARED = 17                 # those of clients and that one: what replicas share
    # from here on: those of clients once more, for keys that stay at home (core/home.pxi)
    HOME_DB = 17
    DATABASES = 33
    # of one key, name or value in an op; commands keep to proto-max-bulk-len, which is less
    MAX_BYTES = 1 << 30

cdef enum EffectKind:
    ASSIGN = 0
    INCREMENT = 1
    REMOVE = 2
    DELETE = 3
    DEADLINE = 4
    FLUSH = 5
    CLEAR = 6
    PATCH = 7

cdef enum KeyType:
    T_STRING = 0
    T_HASH = 1
    T_SET = 2
    T_ZSET = 3
    T_LIST = 4
    # the deadlines of a hash's fields (core/fields.pxi): of collections in memory, not of effects
    T_DEADLINES = 5
    T_STREAM = 6            # entries by id (core/streams.pxi),
    T_STREAM_HEAD = 7       # and what a stream knows beside them: of clients' types the same
    T_GROUPS = 8            # its consumer groups (core/groups.pxi): likewise
    T_PATCHES = 9           # changes of a string (core/patches.pxi): of collections in memory
    T_COUNT = 10
    T_NONE = 255

cdef struct Effect:
    int kind
    uint32_t db
    Span key
    int type
    Span name
    Span value
    int keep
    uint64_t run_seq
    uint32_t run_index
    Total total
    Span observed           # the encoded `observed` fields, tags included, one after the other
    int64_t deadline
    uint64_t stamp
    uint64_t actor          # an actor id, not a slot
    Span shown              # an 80-bit number, with
    uint64_t context        # see core/shown.pxi
    int wide                # see core/cell.pxd

cdef struct ObservedCount:
    uint64_t actor          # an actor id
    uint64_t run_seq
    uint32_t run_index
    uint64_t seq
    Total total
    int type
    Span name
    Span key

cdef inline int is_sent(uint64_t type) noexcept nogil:
    """May an effect name this KeyType?"""
    return type < T_PATCHES and type != T_DEADLINES

# What stands before an op's effects.
cdef struct OpHead:
    uint64_t seq
    uint64_t stamp
    Span deps               # encoded `deps` fields
    Span effects            # encoded `effects` fields, or, where
    int compact             # this is set, what the field `compact` holds: see core/compact.pxi

# with the tag and length of Op.effects
cdef void encode_effect(Buffer *b, const Effect *x) noexcept nogil
# with the tag and length of Effect.observed
cdef void encode_observed(Buffer *b, const ObservedCount *s) noexcept nogil
# with the tag and length of Op.deps
cdef void encode_dep(Buffer *b, uint64_t actor, uint64_t seq) noexcept nogil
# body: without tag and length; 1, or -1 when damaged
cdef int decode_op(Span body, OpHead *out) noexcept nogil
# These take a cursor (*p, end), advance it past one element and return 1, 0 at the end, -1 where
# the bytes are not what the format says.
cdef int decode_effect(const char **p, const char *end, Effect *out) noexcept nogil
cdef int decode_observed(const char **p, const char *end, ObservedCount *out) noexcept nogil
cdef int decode_dep(const char **p, const char *end, uint64_t *actor, uint64_t *seq) noexcept nogil

cdef enum:
    RUN_HEAD = 20           # bytes before the ops of a run, at most: two keys, a length, the actor
