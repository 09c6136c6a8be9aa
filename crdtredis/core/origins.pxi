# Where do the writes under a prefix come from? For CRDT.ADVICE.
#
# One effect of ORIGIN_GAP on average is looked at, by chance, so that no rhythm of the clients
# hides any; all others cost a countdown. Counted are those that write what is under a key or set a
# deadline, made here or received: fields, members and elements one by one. Removals of whole keys
# are not: who removes what has expired says nothing. Nor is what stays at home, or what the log
# brings back at the start.
#
# Rows are as in conflict.pxi: MEETINGS prefixes, of which a new one takes the place of the rarest
# and goes on from its count. What a row says of its prefix is counted from then on. Of more than
# ORIGIN_REPLICAS replicas under a prefix the last to come are not told apart. All counts are halved
# whenever ORIGINS_HALVED writes were sampled, so what is said is of the latest 50 to 100 million.
#
# Of elements that come into lists here, and only here, it is counted whether they come between two
# others: a peer's push may do so, too, where one of ours went ahead of it.

from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from crdtredis.buffer cimport Span, need_memory

cdef enum:
    ORIGINS_HALVED = 1 << 20


cdef void origins_init(Origins *all, uint64_t seed):
    all.seed = seed | 1
    all.wait = 1
    all.rows = <Origin*>need_memory(calloc(MEETINGS, sizeof(Origin)))


cdef void origins_free(Origins *all) noexcept nogil:
    free(all.rows)


cdef void origins_halve(Origins *all) noexcept nogil:
    cdef Origin *row
    cdef uint32_t i, j
    all.n >>= 1
    for i in range(all.met):
        row = &all.rows[i]
        all.times[i] >>= 1
        row.n = 0
        for j in range(row.replicas):
            row.by[j] >>= 1
            row.n += row.by[j]
        row.others >>= 1
        row.n += row.others
        row.inserts >>= 1
        row.inside >>= 1


cdef Origin *origin_row(Kernel *k, uint32_t db, Span prefix) noexcept nogil:
    """The row about this prefix, one write more of which there is."""
    cdef Origins *all = &k.origins
    cdef Origin *row
    cdef uint32_t of = key_hash(k, prefix.p, prefix.n), i, rarest = 0
    for i in range(all.met):
        row = &all.rows[i]
        if (all.of[i] == of and all.db[i] == db and row.prefix_n == prefix.n
                and memcmp(row.prefix, prefix.p, prefix.n) == 0):
            all.times[i] += 1
            return row
        if all.times[i] < all.times[rarest]:
            rarest = i
    if all.met < MEETINGS:
        rarest = all.met
        all.met += 1
        all.times[rarest] = 0
    all.of[rarest] = of
    all.db[rarest] = db
    all.times[rarest] += 1
    row = &all.rows[rarest]
    memset(row, 0, sizeof(Origin))
    row.prefix_n = <uint32_t>prefix.n
    memcpy(row.prefix, prefix.p, prefix.n)
    return row


cdef void sample_origin(Kernel *k, const Applying *op, const Effect *x) noexcept nogil:
    cdef Origins *all = &k.origins
    cdef uint16_t replica = k.actors.v[op.slot].replica_slot
    cdef Origin *row
    cdef uint32_t i
    all.wait = 1 + <uint32_t>((next_random(&all.seed) >> 32) * (2 * ORIGIN_GAP - 1) >> 32)
    if (k.inbox.recovering or x.db >= SYSTEM_DB
            or not (x.kind <= REMOVE or x.kind == DEADLINE or x.kind == PATCH)):
        return
    row = origin_row(k, x.db, key_beginning(x.key))
    row.n += 1
    for i in range(row.replicas):
        if row.replica[i] == replica:
            row.by[i] += 1
            break
    else:
        if row.replicas < ORIGIN_REPLICAS:
            row.replica[row.replicas] = replica
            row.by[row.replicas] = 1
            row.replicas += 1
        else:
            row.others += 1
    if x.type == T_LIST and x.kind == ASSIGN and all.insert:
        row.inserts += 1
        row.inside += all.inside
        row.longest = max(row.longest, <uint32_t>min(all.insert, <size_t>0xffffffff))
    all.n += 1
    if all.n == ORIGINS_HALVED:
        origins_halve(all)
