# How a name finds its command: one hash over the lower-cased name, in most cases one comparison.

from libc.stdint cimport uint8_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp

from crdtredis.buffer cimport need_memory

cdef enum:
    FNV_BASIS = 2166136261
    FNV_PRIME = 16777619


cdef inline char lower(char ch) noexcept nogil:
    return ch | 0x20 if c'A' <= ch <= c'Z' else ch


cdef inline uint32_t name_hash(const char *p, size_t n, uint32_t h) noexcept nogil:
    """FNV-1a over the lower-cased name; continued over "|sub" for a subcommand."""
    cdef size_t i
    for i in range(n):
        h = (h ^ <uint8_t>lower(p[i])) * <uint32_t>FNV_PRIME
    return h


cdef inline int same_name(const char *name, const char *p, size_t n) noexcept nogil:
    cdef size_t i
    for i in range(n):
        if name[i] != lower(p[i]):
            return 0
    return 1


cdef Command *find_command(CommandTable *t, Span name) noexcept nogil:
    cdef uint32_t h = name_hash(name.p, name.n, <uint32_t>FNV_BASIS)
    cdef uint32_t i = h & t.mask
    cdef Command *cmd
    while True:
        cmd = t.slots[i]
        if cmd == NULL:
            return NULL
        if (cmd.hash == h and cmd.name_n == name.n and not cmd.flags & C_SUBCOMMAND
                and same_name(cmd.name, name.p, name.n)):
            return cmd
        i = (i + 1) & t.mask


cdef Command *find_subcommand(CommandTable *t, Command *container, Span sub) noexcept nogil:
    cdef uint32_t h = (container.hash ^ c'|') * <uint32_t>FNV_PRIME
    cdef uint32_t n = container.name_n
    cdef uint32_t i
    cdef Command *cmd
    h = name_hash(sub.p, sub.n, h)
    i = h & t.mask
    while True:
        cmd = t.slots[i]
        if cmd == NULL:
            return NULL
        if (cmd.hash == h and cmd.name_n == n + 1 + sub.n
                and memcmp(cmd.name, container.name, n) == 0 and cmd.name[n] == c'|'
                and same_name(cmd.name + n + 1, sub.p, sub.n)):
            return cmd
        i = (i + 1) & t.mask


cdef Command *find_whole_command(CommandTable *t, Span *argv, int argc) noexcept nogil:
    cdef Command *cmd = find_command(t, argv[0])
    if cmd != NULL and cmd.flags & C_CONTAINER and argc > 1:
        return find_subcommand(t, cmd, argv[1])
    return cmd


cdef inline int arity_fits(Command *cmd, int argc) noexcept nogil:
    return argc == cmd.arity or (cmd.arity <= 0 and argc >= -cmd.arity)


# ---- the table -----------------------------------------------------------------------------------

cdef void command_table_init(CommandTable *t, uint32_t commands) noexcept nogil:
    cdef uint32_t size = 64
    while size < 2 * commands:
        size *= 2
    t.mask = size - 1
    t.slots = <Command**>need_memory(calloc(size, sizeof(Command*)))


cdef void command_table_free(CommandTable *t) noexcept nogil:
    cdef uint32_t i
    if t.slots == NULL:
        return
    for i in range(t.mask + 1):
        free(t.slots[i])
    free(t.slots)


cdef void command_table_add(CommandTable *t, Command *cmd) noexcept nogil:
    cdef uint32_t i
    cmd.hash = name_hash(cmd.name, cmd.name_n, <uint32_t>FNV_BASIS)
    i = cmd.hash & t.mask
    while t.slots[i] != NULL:
        i = (i + 1) & t.mask
    t.slots[i] = cmd
