# Actors: who made an op. A process start of a replica is a new actor (replica id, epoch), so that a
# crash, a restored backup or a copied disk can never issue the same dot twice; or, where it is
# certain that nothing of it was lost, the actor of the process before (storage/witness.py).
#
# On disk and between peers an actor is named by a 64-bit id, the hash of both; in memory by a
# 16-bit slot, so that a dot fits one word. Slots are given in the order in which this process meets
# actors and mean nothing outside it: nothing that is compared, stored or sent may depend on them.
# Where order matters (equal stamps, summing counter entries) `rank` is compared: the places of
# all known actors by (replica id, epoch). A new one takes a rank between its neighbours'; where
# there is none, all get new ones.
#
# `deps` of an actor is the clock it had when it made its newest op that is applied here. It serves
# twice: ops carry only what changed in it, and it tells what the actor is known to have observed,
# which decides when a tombstone may go.

import hashlib

from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove, memset, strcmp, strlen


cdef void actors_init(Actors *a) noexcept nogil:
    memset(a, 0, sizeof(Actors))


cdef void actors_free(Actors *a) noexcept nogil:
    cdef uint32_t i
    for i in range(a.n):
        mem_free(a.v[i].replica)
        vector_free(&a.v[i].deps)
        vector_free(&a.v[i].told)
    vector_free(&a.common)
    mem_free(a.v)
    mem_free(a.ordered)
    mem_free(a.by_id)
    mem_free(a.to_freeze)
    memset(a, 0, sizeof(Actors))


cdef uint16_t actors_find(Actors *a, uint64_t id) noexcept nogil:
    cdef uint32_t i
    cdef uint16_t s
    if a.by_id == NULL:
        return NO_SLOT
    i = <uint32_t>id & a.by_id_mask
    while a.by_id[i]:
        s = <uint16_t>(a.by_id[i] - 1)
        if a.v[s].id == id:
            return s if s + 1 != a.hidden else <uint16_t>NO_SLOT
        i = (i + 1) & a.by_id_mask
    return NO_SLOT


cdef uint64_t actors_frozen(Actors *a, uint64_t id) noexcept nogil:
    cdef uint16_t slot = actors_find(a, id)
    cdef uint32_t i
    if slot != NO_SLOT:
        return a.v[slot].frozen
    for i in range(a.to_freeze_n):
        if a.to_freeze[2 * i] == id:
            return a.to_freeze[2 * i + 1]
    return 0


cdef void actors_index(Actors *a, uint16_t slot) noexcept nogil:
    cdef uint32_t i = <uint32_t>a.v[slot].id & a.by_id_mask
    while a.by_id[i]:
        i = (i + 1) & a.by_id_mask
    a.by_id[i] = <uint16_t>(slot + 1)


cdef uint64_t actor_id(const char *replica, size_t n, uint64_t epoch):
    digest = hashlib.blake2b((<object>epoch).to_bytes(8, "little") + replica[:n],
                             digest_size=8).digest()
    return <uint64_t>int.from_bytes(digest, "little")


cdef int actor_before(const Actor *x, const Actor *y) noexcept nogil:
    """By (replica, epoch). UTF-8 sorts by bytes as by code points. Two ids of one epoch, which only
    a made-up declaration has, are told apart by the id, so that they stand in one order in every
    replica."""
    cdef int c = strcmp(x.replica, y.replica)
    return c < 0 or (c == 0 and (x.epoch < y.epoch or (x.epoch == y.epoch and x.id < y.id)))


cdef int is_name(const char *p, size_t n) noexcept nogil:
    """Is it UTF-8 without NUL, and not empty? Everybody who shows a replica's name relies on
    that."""
    cdef const unsigned char *c = <const unsigned char*>p
    cdef const unsigned char *end = c + n
    cdef uint32_t code
    cdef int more
    while c < end:
        more = (0 if c[0] < 0x80 else 1 if 0xc2 <= c[0] < 0xe0 else 2 if 0xe0 <= c[0] < 0xf0 else 3
                if 0xf0 <= c[0] < 0xf5 else -1)
        if c[0] == 0 or more < 0 or end - c <= more:
            return 0
        code = c[0] & (0x3f >> more)
        c += 1
        for _ in range(more):
            if c[0] & 0xc0 != 0x80:
                return 0
            code = code << 6 | c[0] & 0x3f
            c += 1
        if (0xd800 <= code < 0xe000 or code > 0x10ffff or (more == 2 and code < 0x800)
            or (more == 3 and code < 0x10000)):
            return 0                        # a surrogate, or not the shortest form
    return n > 0


cdef void actors_rank(Actors *a, uint16_t slot) noexcept nogil:
    """Finds the place in the order of an actor that is not in it, and of what replica it is."""
    cdef Actor *x = &a.v[slot]
    cdef uint32_t low = 0, high = a.n, at
    cdef uint64_t below, above, gap = <uint64_t>1 << RANK_GAP_BITS
    while low < high:
        at = (low + high) // 2
        if actor_before(&a.v[a.ordered[at]], x):
            low = at + 1
        else:
            high = at
    memmove(&a.ordered[low + 1], &a.ordered[low], (a.n - low) * sizeof(uint16_t))
    a.ordered[low] = slot
    x.replica_slot = slot
    # all of one replica stand together
    for at in range(low - 1 if low else 0, min(low + 2, a.n + 1)):
        if strcmp(a.v[a.ordered[at]].replica, x.replica) == 0 and a.ordered[at] != slot:
            x.replica_slot = a.v[a.ordered[at]].replica_slot
    below = a.v[a.ordered[low - 1]].rank if low else 0
    above = a.v[a.ordered[low + 1]].rank if low < a.n else min(below + 2 * gap, <uint64_t>1 << 63)
    x.rank = below + (above - below) // 2
    if x.rank == below:
        for at in range(a.n + 1):
            a.v[a.ordered[at]].rank = (at + 1) * gap


cdef uint16_t actors_declare(Actors *a, uint64_t id, const char *replica, size_t n,
                             uint64_t epoch) noexcept nogil:
    cdef uint16_t slot = actors_find(a, id)
    cdef uint32_t i
    cdef Actor *x
    if slot != NO_SLOT:
        x = &a.v[slot]
        if x.epoch == epoch and strlen(x.replica) == n and memcmp(x.replica, replica, n) == 0:
            return slot
        return NO_SLOT
    if a.n == MAX_ACTORS or not is_name(replica, n):
        return NO_SLOT
    if a.n == a.cap:
        a.cap = a.cap * 2 if a.cap else 8
        a.v = <Actor*>mem_realloc(a.v, a.cap * sizeof(Actor))
        a.ordered = <uint16_t*>mem_realloc(a.ordered, a.cap * sizeof(uint16_t))
    slot = <uint16_t>a.n
    x = &a.v[slot]
    memset(x, 0, sizeof(Actor))
    x.id = id
    x.epoch = epoch
    x.frozen = actors_frozen(a, id)
    x.replica = <char*>mem_alloc(n + 1)
    memcpy(x.replica, replica, n)
    x.replica[n] = 0
    actors_rank(a, slot)
    a.n += 1
    if a.by_id == NULL or a.n * 2 > a.by_id_mask:
        mem_free(a.by_id)
        a.by_id_mask = (a.by_id_mask + 1) * 2 - 1 if a.by_id_mask else 31
        a.by_id = <uint16_t*>mem_alloc((<size_t>a.by_id_mask + 1) * sizeof(uint16_t))
        memset(a.by_id, 0, (<size_t>a.by_id_mask + 1) * sizeof(uint16_t))
        for i in range(a.n):
            actors_index(a, <uint16_t>i)
    else:
        actors_index(a, slot)
    return slot


cdef uint64_t actor_observed(Actors *a, uint16_t who, uint16_t of) noexcept nogil:
    """The highest seq of `of` that `who` is known to have applied."""
    cdef uint64_t x = vector_get(&a.v[who].deps, of), y = vector_get(&a.v[who].told, of)
    return x if x > y else y


cdef inline int actor_is_here(Actors *a, uint16_t who) noexcept nogil:
    """Is all applied here that `who` is known to have made?"""
    return a.v[who].applied >= actor_observed(a, who, who)
