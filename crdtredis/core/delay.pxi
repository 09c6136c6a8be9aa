# How late the writes of other replicas become visible here, for CRDT.LAG.
#
# A delay is the time here, when an op is applied, less the time there, when it was made: its stamp.
# So it holds what the clocks differ by; a stamp that is ahead counts as no delay. An outage counts,
# too: what comes after it has come late. What was taken in by a full sync has no delay of its own.
#
# Delays are counted in steps of an eighth and less, for the start and for windows of DELAY_WINDOW.
# When a window ends, the delay within which 999 of 1,000 of its ops were applied is what is
# predicted of the next one; that one tells how often it was right (after Bailis et al.,
# Probabilistically Bounded Staleness, VLDB 2012, where delays are a model's).
#
#     index    0 .. 15    16 .. 23         24 .. 31         ...
#     ms       0 .. 15    16-17 .. 30-31   32-35 .. 60-63   ...    up to 2^31 - 1

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from crdtredis.buffer cimport need_memory

cdef extern from *:
    """
    #define crdt_highest_bit(x) (63 - __builtin_clzll(x))
    """
    int delay_bit "crdt_highest_bit"(uint64_t x) noexcept nogil

cdef enum:
    DELAY_WINDOW = 60000    # ms


cdef uint32_t delay_index(int64_t ms) noexcept nogil:
    cdef int e
    if ms < 16:
        return <uint32_t>ms if ms > 0 else 0
    if ms >> 31:
        return DELAYS - 1
    e = delay_bit(<uint64_t>ms)
    return 16 + (e - 4) * 8 + ((ms >> (e - 3)) & 7)


cdef uint64_t delay_bound(uint32_t i) noexcept nogil:
    if i < 16:
        return i
    return (<uint64_t>(9 + (i & 7)) << ((i - 16) // 8 + 1)) - 1


cdef void end_window(Delays *d) noexcept nogil:
    """Of the window under way: was the prediction right, and what follows from it?"""
    cdef uint64_t n = 0, count = 0, within = 0
    cdef uint32_t i
    for i in range(DELAYS):
        n += d.window[i]
        if i <= d.predicted:
            within += d.window[i]
    if d.predicted < DELAYS:
        d.foretold += n
        d.within += within
    d.predicted = 0
    while d.predicted < DELAYS - 1:
        count += d.window[d.predicted]
        if count >= n - n // 1000:
            break
        d.predicted += 1
    memcpy(d.before, d.window, sizeof(d.window))
    memset(d.window, 0, sizeof(d.window))


cdef void note_delay(Kernel *k, uint16_t slot, uint64_t stamp) noexcept nogil:
    cdef uint16_t replica = k.actors.v[slot].replica_slot
    cdef int64_t ms = k.now - <int64_t>(stamp >> 16)
    cdef Delays *d = NULL
    cdef uint32_t i, j
    if replica == k.actors.v[k.me].replica_slot:    # it had lost it
        return
    for i in range(k.delayed.n):
        if k.delayed.replica[i] == replica:
            d = &k.delayed.of[i]
            break
    if d == NULL:
        i = k.delayed.n
        if i == DELAYED_MOST:                       # it takes the place of the longest silent
            i = 0
            for j in range(1, DELAYED_MOST):
                if k.delayed.of[j].since < k.delayed.of[i].since:
                    i = j
            k.delayed.n -= 1
        elif i & i - 1 == 0:
            k.delayed.replica = <uint16_t*>need_memory(realloc(k.delayed.replica,
                                                               (2 * i + 1) * sizeof(uint16_t)))
            k.delayed.of = <Delays*>need_memory(realloc(k.delayed.of,
                                                        (2 * i + 1) * sizeof(Delays)))
        d = &k.delayed.of[i]
        memset(d, 0, sizeof(Delays))
        d.since = k.now
        d.predicted = DELAYS
        k.delayed.replica[i] = replica
        k.delayed.n += 1
    elif k.now - d.since >= DELAY_WINDOW or k.now < d.since:
        end_window(d)
        d.since = k.now
    ms = max(ms, 0)
    i = delay_index(ms)
    d.n += 1
    d.sum += min(<uint64_t>ms, delay_bound(i))      # the clock of a peer may be in 1970
    d.most = max(d.most, ms)
    d.all[i] += 1
    d.window[i] += 1


cdef void delays_free(Kernel *k) noexcept nogil:
    free(k.delayed.replica)
    free(k.delayed.of)
