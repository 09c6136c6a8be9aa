# HOTKEYS: which keys cost the most, by time and by bytes.
#
# While a session is on, each command with keys is counted: its time, and the bytes of its request
# and its reply, in equal parts to its keys. Off, it costs nothing: commands come here where those
# come that took long (Stopwatch.long_from), which is 0 then.
#
# To count every key would take as much memory as the keyspace. So ten times as many are counted as
# are shown, 640 at most, and a new one takes the place of that which has cost the least, whose cost
# it goes on from (Space-Saving: Metwally, Agrawal and El Abbadi, 2005). A key that makes up more
# than one part in `most` of all cost is among them for certain. What is told of a key is what it
# has cost at least: without what it took over.
#
#     2 places: a 5, b 3   <- c 1    ->   a 5, c 4 (3 of others): c is told to have cost 1
#
# A heap by cost gives the least one, chains by hash the key: O(log most) for each key of a command.
# A session takes 2 * 640 * (HOT_NAME + 64) bytes at most, 5.3 MB, until HOTKEYS RESET.
#
# Chosen against a sketch of counters that decay by chance (Redis's): it needs no chance, and its
# error has a bound.

from libc.stdlib cimport calloc, free, qsort, realloc
from libc.string cimport memcmp, memcpy

from crdtredis._core cimport siphash64
from crdtredis.buffer cimport need_memory
from crdtredis.numbers cimport format_uint64


cdef size_t request_size(Span *argv, int argc) noexcept nogil:
    cdef char digits[20]
    cdef size_t size = 3 + format_uint64(argc, digits)
    cdef int i
    for i in range(argc):
        size += argv[i].n + 5 + format_uint64(argv[i].n, digits)
    return size


# ---- the keys of one metric ----------------------------------------------------------------------

cdef inline void hot_put(HotTable *t, uint32_t at, HotKey *e) noexcept nogil:
    t.heap[at] = e
    e.at = at


cdef void hot_down(HotTable *t, HotKey *e) noexcept nogil:
    """Its cost has grown."""
    cdef uint32_t at = e.at
    cdef uint32_t child = 2 * at + 1
    while child < t.n:
        child += child + 1 < t.n and t.heap[child + 1].cost < t.heap[child].cost
        if t.heap[child].cost >= e.cost:
            break
        hot_put(t, at, t.heap[child])
        at = child
        child = 2 * at + 1
    hot_put(t, at, e)


cdef void hot_up(HotTable *t, HotKey *e) noexcept nogil:
    """It is the last."""
    cdef uint32_t at = e.at
    while at and t.heap[(at - 1) // 2].cost > e.cost:
        hot_put(t, at, t.heap[(at - 1) // 2])
        at = (at - 1) // 2
    hot_put(t, at, e)


cdef void hot_unchain(HotTable *t, HotKey *e) noexcept nogil:
    cdef HotKey **at = &t.chains[e.hash & t.mask]
    while at[0] != e:
        at = &at[0].next
    at[0] = e.next


cdef void hot_count(HotTable *t, Span key, uint64_t hash, uint64_t cost) noexcept nogil:
    cdef size_t kept = min(key.n, <size_t>HOT_NAME)
    cdef HotKey *e = t.chains[hash & t.mask]
    while e != NULL and not (e.hash == hash and e.n == key.n
                             and memcmp(e.name, key.p, kept) == 0):
        e = e.next
    if e != NULL:
        e.cost += cost
        hot_down(t, e)
        return
    if t.n < t.most:
        e = <HotKey*>need_memory(calloc(1, sizeof(HotKey)))
        e.at = t.n
        t.n += 1
        e.cost = cost
        hot_up(t, e)
    else:
        e = t.heap[0]
        hot_unchain(t, e)
        e.others = e.cost
        e.cost += cost
        hot_down(t, e)
    e.hash = hash
    e.n = key.n
    e.name = <char*>need_memory(realloc(e.name, kept + 1))
    if kept:
        memcpy(e.name, key.p, kept)
    e.next = t.chains[hash & t.mask]
    t.chains[hash & t.mask] = e


cdef inline uint64_t hot_cost(const HotKey *e) noexcept nogil:
    return e.cost - e.others


cdef int compare_hot(const void *a, const void *b) noexcept nogil:
    cdef uint64_t x = hot_cost((<HotKey**>a)[0])
    cdef uint64_t y = hot_cost((<HotKey**>b)[0])
    return (x < y) - (x > y)


cdef uint32_t hot_found(const HotTable *t, uint32_t most, HotKey **found) noexcept nogil:
    """found has room for t.most."""
    cdef uint32_t n = 0
    memcpy(found, t.heap, t.n * sizeof(HotKey*))
    qsort(found, t.n, sizeof(HotKey*), compare_hot)
    while n < min(most, t.n) and hot_cost(found[n]):
        n += 1
    return n


# ---- a session -----------------------------------------------------------------------------------

cdef void look_from(Dispatch *d) noexcept nogil:
    d.stopwatch.long_from = min(d.logs[<int>COST_TIME].least, d.latency.ticks)
    if d.hot != NULL and d.hot.active:
        d.stopwatch.long_from = 0


cdef void hot_stop(Dispatch *d) noexcept nogil:
    d.hot.active = 0
    d.hot.lasted = d.steady - d.hot.since
    look_from(d)


cdef int hot_active(Dispatch *d) noexcept nogil:
    if d.hot == NULL or not d.hot.active:
        return 0
    if d.hot.limit == 0 or d.steady - d.hot.since < d.hot.limit:
        return 1
    hot_stop(d)
    d.hot.lasted = d.hot.limit
    return 0


cdef void hot_free(Dispatch *d) noexcept nogil:
    cdef HotTable *t
    cdef uint32_t i
    cdef int metric
    for metric in range(<int>HOT_METRICS if d.hot != NULL else 0):
        t = &d.hot.tables[metric]
        for i in range(t.n):
            free(t.heap[i].name)
            free(t.heap[i])
        free(t.heap)
        free(t.chains)
    free(d.hot)
    d.hot = NULL


cdef void hot_start(Dispatch *d, int cpu, int net, uint32_t top) noexcept nogil:
    cdef HotTable *t
    cdef int metric
    hot_free(d)
    d.hot = <HotKeys*>need_memory(calloc(1, sizeof(HotKeys)))
    d.hot.shown = top
    for metric in range(<int>HOT_METRICS):
        t = &d.hot.tables[metric]
        if not (cpu if metric == HOT_CPU else net):
            continue
        t.most = top * HOT_SPARE
        t.mask = 1
        while t.mask < 2 * t.most:
            t.mask *= 2
        t.heap = <HotKey**>need_memory(calloc(t.most, sizeof(HotKey*)))
        t.chains = <HotKey**>need_memory(calloc(t.mask, sizeof(HotKey*)))
        t.mask -= 1
    d.hot.active = 1
    d.hot.begun = d.kernel.now
    d.hot.since = d.steady
    d.hot.sample = 1
    d.hot.seed = <uint64_t>d.kernel.now | 1
    look_from(d)


# ---- a command -----------------------------------------------------------------------------------

cdef int hot_keys(HotKeys *h, Dispatch *d, Command *cmd, Span *argv, int argc, uint64_t ticks,
                  uint64_t bytes) noexcept nogil:
    """Counts both for each key; without either it says how many there are."""
    cdef uint64_t hash
    cdef int i, at, first, last, step
    cdef int n = 0
    for i in range(cmd.key_n):
        key_places(&cmd.keys[i], argv, argc, &first, &last, &step)
        while first <= last and first < argc:
            at = first
            first += step
            if cmd.keys[i].kind == KEYS_AFTER:
                if not is_word(argv[at], cmd.keys[i].word):
                    continue
                at += 1
            n += 1
            if ticks == 0 and bytes == 0:
                continue
            hash = siphash64(argv[at].p, argv[at].n, d.kernel.hash_key)
            if h.tables[<int>HOT_CPU].most:
                hot_count(&h.tables[<int>HOT_CPU], argv[at], hash, ticks)
            if h.tables[<int>HOT_NET].most:
                hot_count(&h.tables[<int>HOT_NET], argv[at], hash, bytes)
    return n


cdef void note_hot(Dispatch *d, Command *cmd, Span *argv, int argc, uint64_t ticks,
                   size_t replied) noexcept nogil:
    cdef HotKeys *h = d.hot
    cdef uint64_t bytes
    cdef int n
    if not hot_active(d) or cmd.key_n == 0 or not names_keys(cmd, argv, argc):
        return
    n = hot_keys(h, d, cmd, argv, argc, 0, 0)
    if n == 0:
        return
    bytes = request_size(argv, argc) + replied
    h.ticks += ticks
    h.bytes += bytes
    h.seed ^= h.seed << 13
    h.seed ^= h.seed >> 7
    h.seed ^= h.seed << 17
    if (h.seed >> 11) % h.sample == 0:
        h.sampled += bytes // n * n
        hot_keys(h, d, cmd, argv, argc, ticks // n, bytes // n)
