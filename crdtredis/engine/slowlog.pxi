# What COMMANDLOG and SLOWLOG answer: the newest commands that cost much, as C structs in a ring, so
# that a threshold of 0 does not make native commands wait for the GIL.

from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free
from libc.string cimport memchr, memcpy

from crdtredis.buffer cimport buffer_add, buffer_free, need_memory, span

cdef enum:
    SLOW_ARGS = 32          # arguments that are kept, and bytes of each
    SLOW_BYTES = 128


cdef inline int ends_with(Span name, const char *word, size_t n) noexcept nogil:
    return name.n >= n and is_word(span(name.p + name.n - n, n), word)


cdef int hides(Span *argv, int argc, int i) noexcept nogil:
    """Is this argument a name or a password?"""
    cdef int at = 2
    if is_word(argv[0], "AUTH"):
        return 0 < i and argc <= 3
    if is_word(argv[0], "HELLO"):
        while at < i:
            if is_word(argv[at], "AUTH"):
                if i <= at + 2:
                    return 1
                at += 3
            else:
                at += 2
    if is_word(argv[0], "ACL"):
        return i > 1 and is_word(argv[1], "SETUSER")
    if is_word(argv[0], "CRDT.PEER"):
        return i == 2 and memchr(argv[i].p, c"@", argv[i].n) != NULL       # http://user:password@
    if is_word(argv[0], "CONFIG"):
        return (i > 2 and is_word(argv[1], "SET")
                and (ends_with(argv[i - 1], "PASS", 4) or ends_with(argv[i - 1], "PASSWORD", 8)
                     or ends_with(argv[i - 1], "TOKEN", 5) or ends_with(argv[i - 1], "AUTH", 4)
                     or is_word(argv[i - 1], "USERS") or is_word(argv[i - 1], "PEERS")))
    return 0


cdef void note_slow(SlowLog *slow, Client *client, Span *argv, int argc, uint64_t cost,
                    int64_t at) noexcept nogil:
    cdef SlowEntry *e
    cdef uint32_t n
    cdef int i
    cdef int kept = argc if argc <= SLOW_ARGS else SLOW_ARGS
    cdef char more[64]
    cdef int k
    if slow.size == 0:
        return
    e = &slow.entries[slow.made % slow.size]
    e.id = slow.made
    slow.made += 1
    e.at = at
    e.cost = cost
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
        elif hides(argv, argc, i):
            n = 10
            buffer_add(&e.args, &n, 4)
            buffer_add(&e.args, "(redacted)", n)
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


cdef void slowlog_resize(SlowLog *slow, uint32_t size) noexcept nogil:
    cdef SlowEntry *kept = <SlowEntry*>need_memory(calloc(size + 1, sizeof(SlowEntry)))
    cdef uint64_t i
    cdef uint64_t first = slow.made - slow.size if slow.made > slow.size else 0
    for i in range(first, slow.made):
        if i + size >= slow.made and size:
            kept[i % size] = slow.entries[i % slow.size]
        else:
            buffer_free(&slow.entries[i % slow.size].args)
    free(slow.entries)
    slow.entries = kept
    slow.size = size


cdef void slowlog_free(SlowLog *slow) noexcept nogil:
    cdef uint32_t i
    for i in range(slow.size):
        buffer_free(&slow.entries[i].args)
    free(slow.entries)
