# Actors in memory: each has a 16-bit slot, local to this process. Order among actors is (replica
# id, epoch), never the slot.

from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t, uint64_t, uint8_t

cdef enum:
    MAX_ACTORS = 65535
    RANK_GAP_BITS = 46      # between two ranks when all are given anew: 2^46
    MAX_REPLICA_ID = 255    # bytes
    SEQ_BITS = 48
    # the id of the actor of keys that stay at home: no replica's, for its epoch is no time
    HOME_ACTOR = 0x656d6f68
    NO_SLOT = 65535

cdef enum BacklogState:
    BACKLOG_IDLE = 0        # the next op is not here
    # in the queue of those to be looked at: the next op may be here, and may be applied
    BACKLOG_READY = 1
    # the next op is here and waits for one of another actor: in that actor's heap `blocked`
    BACKLOG_BLOCKED = 2
    # the next op is here and waits for the clock on the wall: in the heap Pending.held
    BACKLOG_HELD = 3

# What waits of one actor's ops. Links are slot + 1, 0: none.
cdef struct Backlog:
    size_t n                # ops
    size_t bytes            # that they take
    uint64_t until          # BLOCKED: the seq that is waited for; HELD: the next op's ms
    uint16_t child          # BLOCKED, HELD: in the heap, the first below this one
    uint16_t next           # ... and the next below the same one; READY: the next in the queue
    uint16_t blocked        # root of the heap of those whose next op waits for an op of this actor
    uint8_t state           # BACKLOG_*

cdef struct Actor:
    uint64_t id             # see proto: hash of epoch and replica
    uint64_t epoch
    char *replica           # NUL-terminated UTF-8 without NUL inside
    # ascends in the order of all known actors: compare these, and only within one moment; below
    # 2^63
    uint64_t rank
    int logged              # its declaration is in the log, or will be with the next op
    # slot of the first known actor of the same replica: equal exactly for actors of one replica
    uint16_t replica_slot
    uint64_t applied        # the clock: highest seq applied, without gaps
    # 1 + the last seq that may be applied, of one that has ended (replication/ended.py); 0: any
    uint64_t frozen
    int closed              # nobody will ever apply more of it than is applied here
    int gone                # of a replica that is no member
    VersionVector deps      # the deps of its newest applied op
    VersionVector told      # its clock as it told it itself (acknowledgements, handshakes), or NULL
    Backlog backlog         # its ops in the causal buffer

cdef struct Actors:
    Actor *v                # by slot
    uint32_t n
    uint32_t cap
    uint16_t *ordered       # slots in the order of ranks
    uint16_t *by_id         # open addressing over id: slot + 1, 0 empty
    uint32_t by_id_mask
    VersionVector common    # what deps and told have alike (core/vector.pxi)
    uint16_t hidden         # slot + 1 of the one that is not found by its id; 0: none is
    uint64_t *to_freeze     # id and `frozen` by turns, of those that are not declared yet
    uint32_t to_freeze_n    # pairs

cdef inline uint64_t make_dot(uint16_t slot, uint64_t seq) noexcept nogil:
    return <uint64_t>slot << 48 | seq

cdef inline uint16_t dot_slot(uint64_t dot) noexcept nogil:
    return <uint16_t>(dot >> 48)

cdef inline uint64_t dot_seq(uint64_t dot) noexcept nogil:
    return dot & <uint64_t>0xffffffffffff

cdef void actors_init(Actors *a) noexcept nogil
cdef void actors_free(Actors *a) noexcept nogil
# NO_SLOT when unknown
cdef uint16_t actors_find(Actors *a, uint64_t id) noexcept nogil
# Actor.frozen, of one that is not declared yet, too
cdef uint64_t actors_frozen(Actors *a, uint64_t id) noexcept nogil
# takes the GIL: hashlib
cdef uint64_t actor_id(const char *replica, size_t n, uint64_t epoch)
# Slot of a declared actor, added when new; NO_SLOT when the id contradicts a known actor or the
# slots are used up.
cdef uint16_t actors_declare(Actors *a, uint64_t id, const char *replica, size_t n,
                             uint64_t epoch) noexcept nogil
