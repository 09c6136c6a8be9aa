# The slow log: the newest commands that took long, as C structs in a ring, so that a threshold of 0
# does not make native commands wait for the GIL. Entry number i stands at i % slow_max.

cdef enum:
    SLOW_ARGS = 32          # arguments that are kept, and bytes of each
    SLOW_BYTES = 128


cdef void note_slow(Dispatch *d, Client *client, Span *argv, int argc,
                    uint64_t ticks) noexcept nogil:
    """Keeps the arguments as Redis does: 32 at most, 128 bytes of each, and says how much is left
    out."""
    cdef SlowEntry *e
    cdef uint32_t n
    cdef int i
    cdef int kept = argc if argc <= SLOW_ARGS else SLOW_ARGS
    cdef char more[64]
    cdef int k
    if d.slow_max == 0:
        return
    e = &d.slow[d.slow_n % d.slow_max]
    e.id = d.slow_n
    d.slow_n += 1
    e.at = d.kernel.now // 1000
    e.usec = <uint64_t>(<double>ticks / d.ticks_per_usec)
    memcpy(e.addr, client.addr, sizeof(e.addr))
    snprintf(e.name, sizeof(e.name), "%s", <const char*>b"" if client.name == NULL else client.name)
    e.args.n = 0
    n = <uint32_t>kept
    buffer_add(&e.args, &n, 4)
    for i in range(kept):
        if i == SLOW_ARGS - 1 and argc > SLOW_ARGS:
            k = snprintf(more, sizeof(more), "... (%d more arguments)", argc - SLOW_ARGS + 1)
            n = <uint32_t>k
            buffer_add(&e.args, &n, 4)
            buffer_add(&e.args, more, n)
        elif argv[i].n > SLOW_BYTES:
            k = snprintf(more, sizeof(more), "... (%zu more bytes)", argv[i].n - SLOW_BYTES)
            n = SLOW_BYTES + <uint32_t>k
            buffer_add(&e.args, &n, 4)
            buffer_add(&e.args, argv[i].p, SLOW_BYTES)
            buffer_add(&e.args, more, <size_t>k)
        else:
            n = <uint32_t>argv[i].n
            buffer_add(&e.args, &n, 4)
            buffer_add(&e.args, argv[i].p, argv[i].n)


cdef void resize_slowlog(Dispatch *d, uint32_t most) noexcept nogil:
    """Keeps the newest entries that fit: entry id i lives at i % slow_max."""
    cdef SlowEntry *slow = <SlowEntry*>need_memory(calloc(most + 1, sizeof(SlowEntry)))
    cdef uint64_t i
    cdef uint64_t first = d.slow_n - d.slow_max if d.slow_n > d.slow_max else 0
    for i in range(first, d.slow_n):
        if i + most >= d.slow_n and most:
            slow[i % most] = d.slow[i % d.slow_max]
        else:
            buffer_free(&d.slow[i % d.slow_max].args)
    free(d.slow)
    d.slow = slow
    d.slow_max = most
