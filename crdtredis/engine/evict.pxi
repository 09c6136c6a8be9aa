# Room at max_memory: when is something evicted, and how much?
#
# As in Redis, before a command that may use memory, until there is room for it; but no longer than
# maxmemory_eviction_tenacity says: then the command runs, and the next iterations go on. When
# nothing is left to evict, the command is refused. Scripts and transactions have room made before
# they begin. What peers send is applied at the limit, too. Which key goes: see core/evict.pxi.
#
# Replicas share their keys, so all of them come to the limit at once, and every one could pay for
# the same write. So each pays for its own:
#
#     Two replicas at their limit.    A's memory              B's memory
#     A: SET x of 100 bytes           DEL of 100, then + 100
#     B receives that op by op                                - 100, + 100: nothing to do
#
# What is above the limit is told apart by who made it. What ops of peers have added, and not yet
# taken away, is foreign (Room.foreign): it is theirs to pay, and on its way. A's limit for its own
# writes is therefore the limit and what is foreign. That ends each circle: an eviction lowers
# memory at all replicas, and none of them ever evicts because another has.
#
# What nobody pays: the writer's limit is higher, or it has none; it went away; two have paid with
# the same key; somebody lowered the limit of all replicas at once. Then foreign bytes stay. Once
# they have been there for FOREIGN_MS, and are more than the 32nd part of the limit, by which memory
# may differ between replicas with the same keys, each of n replicas takes an n-th of them on:
#
#     200 bytes too many at A and at B    A: DEL of 100, - 100 of B's    B: DEL of 100, - 100 of A's
#
# and looks again after as long. Whatever is there then was not paid by the others, so its part
# grows: of three, a third, a half, all. A replica with the smallest limit comes to pay for all,
# and the others, which are then below theirs, for nothing. n is this replica and the peers that
# are connected and keep up, counted once a second; a lone replica pays for everything at once.
#
# So memory stays below the limit, its 32nd part, and what the others write in about FOREIGN_MS, or
# n times as long while a part grows. What lies in wait for other ops (pending_limit) is left out,
# as Redis leaves out its replicas' buffers.
#
# Small collections that were opened, be it to read them, take more than packed (core/packed.pxi).
# No key goes for that, and no write is refused: first they are packed, but for the last few.
#
# A counter that is removed leaves a tombstone until all replicas know of that: its bytes are as
# good as free (Room.owed), up to a fourth of the limit; else every counter would be evicted
# before the first byte is free. Above that, keys go that free nothing for now. So tombstones are
# looked for first, and only a few keys go for each command: as many as could free what it takes,
# and far less than there are until the others have had the time to tell what they know.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t

from crdtredis._core cimport (PACK_FEW, Count, Element, collect, evict_key, free_garbage,
                              kernel_tombstones, mem_used, op_begin, op_end, pack_due)

cdef enum:
    FOREIGN_MS = 1000       # in which other replicas pay for what they write
    UNPAID = 32             # one part in so many of the limit may stay foreign
    OWED = 4                # one part in so many of the limit may be owed
    TOMBSTONE_ROOM = 64     # bytes of one, with its key, beside the structs
    BETWEEN_LOOKS = 16      # keys evicted between looks at the time that has passed, as in Redis
    KEYS_OF_AN_OP = 1024
    FREED_AT_ONCE = 1000    # members of collections
    PACKED_AT_ONCE = 64     # small collections
    LOOKED_THROUGH = 32     # buckets for tombstones, and keys evicted, for a command where more is
    EVICTED_AT_MOST = 4     # owed than that
    # what must not be running when an op is made outside of commands
    GUARD_EVICT = GUARD_LOADING | GUARD_MISCONF | GUARD_CLOCK | GUARD_WAIT


cdef size_t counted_memory(Dispatch *d) noexcept nogil:
    """Bytes that are compared with the limit."""
    cdef Room *r = &d.room
    cdef size_t left = d.kernel.pending.bytes
    cdef int64_t tombstones
    if r.owed:
        tombstones = kernel_tombstones(d.kernel)
        if tombstones < r.owed_tombstones:
            r.owed = <size_t>(<double>r.owed * tombstones / r.owed_tombstones)
            r.owed_tombstones = tombstones
        left += min(r.owed, d.max_memory // OWED)
    return mem_used() - min(left, mem_used())


cdef inline size_t excess(Dispatch *d) noexcept nogil:
    cdef size_t used = counted_memory(d)
    return used - d.max_memory if used > d.max_memory else 0


cdef void settle(Dispatch *d) noexcept nogil:
    """No more is foreign than is above the limit, and nothing of a lone replica."""
    d.room.foreign = min(d.room.foreign, excess(d)) if d.kernel.eviction.shares > 1 else 0


cdef int evict_one(Dispatch *d) noexcept nogil:
    cdef size_t before = mem_used()
    cdef int64_t tombstones = kernel_tombstones(d.kernel)
    cdef uint64_t begun = event_begins(&d.latency)
    if not evict_key(d.kernel):
        return 0
    tombstones = kernel_tombstones(d.kernel) - tombstones
    if tombstones > 0:
        d.room.owed += <size_t>tombstones * (sizeof(Count) + sizeof(Element) + TOMBSTONE_ROOM)
        d.room.owed_tombstones += tombstones
    event_ends(d, LATENCY_EVICTION_DEL, begun)
    return 1


cdef inline int owes_much(Dispatch *d) noexcept nogil:
    return d.room.owed > d.max_memory // OWED


cdef void make_room(Dispatch *d) noexcept nogil:
    """Evicts until nothing but what is foreign is above the limit, for as long as it may take."""
    cdef uint64_t begun = cycles()
    cdef uint64_t event = event_begins(&d.latency)
    cdef uint32_t n = 0
    d.room.more = d.room.none = 0
    if owes_much(d):
        collect(d.kernel, LOOKED_THROUGH)
    if d.kernel.notices.rows.n:
        notify_others(d)
    op_begin(d.kernel)
    while excess(d) > d.room.foreign:
        if d.kernel.garbage != NULL:
            free_garbage(d.kernel, FREED_AT_ONCE)
        elif not evict_one(d):
            d.room.none = 1
            break
        n += 1
        if (n % BETWEEN_LOOKS == 0 and cycles() - begun > d.room.ticks
                or n >= EVICTED_AT_MOST and owes_much(d)):
            d.room.more = 1
            break
        if n % KEYS_OF_AN_OP == 0:
            op_end(d.kernel)
            op_begin(d.kernel)
    op_end(d.kernel)
    if d.kernel.notices.rows.n:
        notify_evicted(d)
    event_ends(d, LATENCY_EVICTION, event)


cdef int packs(Dispatch *d) noexcept nogil:
    """Packs what was opened, until memory is below the limit, for as long as an eviction may take;
    1 where more is left to pack."""
    cdef uint64_t begun = cycles()
    while mem_used() > d.max_memory and not d.kernel.joining:
        if not pack_due(d.kernel, PACKED_AT_ONCE, PACK_FEW):
            return 0
        if cycles() - begun > d.room.ticks:
            return 1
    return 0


cdef inline int evicts(Dispatch *d) noexcept nogil:
    return (d.kernel.eviction.policy and d.kernel.open.depth == 0
            and not d.guard & GUARD_EVICT)


cdef int has_room(Dispatch *d) noexcept nogil:
    if mem_used() <= d.max_memory:
        return 1
    if d.kernel.open.depth == 0 and (packs(d) or mem_used() <= d.max_memory):
        return 1
    if d.kernel.eviction.policy == 0:
        return 0
    if not evicts(d):
        return not d.room.none
    settle(d)
    if excess(d) > d.room.foreign:
        make_room(d)
    return not d.room.none


cdef int is_full(Dispatch *d) noexcept nogil:
    return mem_used() > d.max_memory and (d.kernel.eviction.policy == 0 or d.room.none)


cdef void note_foreign(Dispatch *d, size_t before) noexcept nogil:
    cdef size_t used = mem_used()
    if not d.guard & GUARD_OOM:
        return
    if used > before:
        d.room.foreign += used - before
        d.room.none = 0
    else:
        d.room.foreign -= min(d.room.foreign, before - used)
    settle(d)


cdef void take_on(Dispatch *d) noexcept nogil:
    """What others have not paid for in time."""
    cdef Room *r = &d.room
    if r.foreign == 0:
        r.due = 0
        r.part = d.kernel.eviction.shares
        return
    if r.due == 0:
        r.due = d.steady + FOREIGN_MS
        r.least = r.foreign
    r.least = min(r.least, r.foreign)
    if d.steady < r.due:
        return
    if r.least > d.max_memory // UNPAID:
        r.part = max(min(r.part, d.kernel.eviction.shares), <uint32_t>1)
        r.foreign -= r.least // r.part
        r.part = max(r.part - 1, <uint32_t>1)
    else:
        r.part = d.kernel.eviction.shares
    r.due = d.steady + FOREIGN_MS
    r.least = r.foreign


cdef void evict_due(Dispatch *d) noexcept nogil:
    cdef Room *r = &d.room
    r.more = packs(d)
    if r.more:
        return
    settle(d)
    if excess(d) == 0:
        r.none = 0
        if r.over_since:
            r.over_ms += d.steady - r.over_since
            r.over_since = 0
    elif d.kernel.eviction.policy and not r.over_since:
        r.over_since = d.steady
    if d.guard & (GUARD_LOADING | GUARD_JOIN):
        r.foreign = excess(d)                   # what comes of this is everybody's
        settle(d)
    elif evicts(d):
        take_on(d)
        if excess(d) > r.foreign and not r.none:
            make_room(d)


cdef void limit_changed(Dispatch *d, size_t before) noexcept nogil:
    """What is above it now may be so at all replicas."""
    d.room.none = 0
    if d.max_memory == 0 and d.room.over_since:
        d.room.over_ms += d.steady - d.room.over_since
        d.room.over_since = 0
    if d.max_memory < before or before == 0:
        d.room.foreign += excess(d)
    settle(d)
