# Actors in memory: each has a 16-bit slot, local to this process. Order among actors is (replica id, epoch), never the slot.

cdef enum:
    MAX_ACTORS = 65535
    SEQ_BITS = 48
    NO_SLOT = 65535

cdef struct Actor:
    uint64_t id             # see proto: hash of epoch and replica
    uint64_t epoch
    char *replica           # NUL-terminated UTF-8 without NUL inside
    uint32_t rank           # place in the order of all known actors: compare these, and only within one moment
    uint16_t replica_slot   # slot of the first known actor of the same replica: equal exactly for actors of one replica
    uint64_t applied        # the clock: highest seq applied, without gaps
    uint64_t *deps          # by slot: the deps of its newest applied op, which is what it is known to have seen
    uint32_t deps_cap

cdef struct Actors:
    Actor *v                # by slot
    uint32_t n
    uint32_t cap
    uint16_t *by_id         # open addressing over id: slot + 1, 0 empty
    uint32_t by_id_mask

cdef inline uint64_t make_dot(uint16_t slot, uint64_t seq) noexcept nogil:
    return <uint64_t>slot << 48 | seq

cdef inline uint16_t dot_slot(uint64_t dot) noexcept nogil:
    return <uint16_t>(dot >> 48)

cdef inline uint64_t dot_seq(uint64_t dot) noexcept nogil:
    return dot & <uint64_t>0xffffffffffff

cdef void actors_init(Actors *a) noexcept nogil
cdef void actors_free(Actors *a) noexcept nogil
cdef uint16_t actors_find(Actors *a, uint64_t id) noexcept nogil               # NO_SLOT when unknown
cdef uint64_t actor_id(const char *replica, size_t n, uint64_t epoch)          # takes the GIL: hashlib
# Slot of a declared actor, added when new; NO_SLOT when the id contradicts a known actor or the slots are used up.
cdef uint16_t actors_declare(Actors *a, uint64_t id, const char *replica, size_t n, uint64_t epoch) noexcept nogil
cdef uint64_t actor_knows(Actors *a, uint16_t who, uint16_t of) noexcept nogil # deps row, 0 where nothing is known
cdef void actor_learn(Actors *a, uint16_t who, uint16_t of, uint64_t seq) noexcept nogil
