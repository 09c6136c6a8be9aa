# What handlers use: the standard refusals and the reading of arguments.
#
# The texts of all refusals stand in crdtredis/errors.py.

from libc.stdio cimport snprintf
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from crdtredis._resp cimport reply_error
from crdtredis.buffer cimport buffer_add, need_memory, span
from crdtredis.errors cimport (NOT_FLOAT, NOT_INTEGER, SYNTAX, TOO_LARGE, WRONG_ARITY,
                               WRONG_TYPE)


cdef void refuse(Call *c, const char *text) noexcept nogil:
    reply_error(c.reply, text)


cdef void refuse_arity(Call *c) noexcept nogil:
    cdef char text[128]
    snprintf(text, sizeof(text), WRONG_ARITY, c.client.command.name)
    reply_error(c.reply, text)


cdef void refuse_syntax(Call *c) noexcept nogil:
    reply_error(c.reply, SYNTAX)


cdef void refuse_type(Call *c) noexcept nogil:
    reply_error(c.reply, WRONG_TYPE)


cdef void refuse_int(Call *c) noexcept nogil:
    reply_error(c.reply, NOT_INTEGER)


cdef void refuse_float(Call *c) noexcept nogil:
    reply_error(c.reply, NOT_FLOAT)


cdef void refuse_too_large(Call *c) noexcept nogil:
    reply_error(c.reply, TOO_LARGE)


cdef int is_word(Span arg, const char *word) noexcept nogil:
    cdef size_t i
    for i in range(arg.n):
        # the word is upper case; its NUL equals no byte that has bit 0x20 cleared but NUL itself,
        # which is ruled out first
        if (word[i] == 0 or (arg.p[i] & <char>0xdf if c'a' <= arg.p[i] <= c'z' else arg.p[i])
            != word[i]):
            return 0
    return word[arg.n] == 0


# ---- commands as flat bytes ----------------------------------------------------------------------

cdef void pack_command(Buffer *b, Span *argv, int argc) noexcept nogil:
    cdef uint32_t n = <uint32_t>argc
    cdef int i
    buffer_add(b, &n, 4)
    for i in range(argc):
        n = <uint32_t>argv[i].n
        buffer_add(b, &n, 4)
        buffer_add(b, argv[i].p, argv[i].n)


cdef const char *unpack_command(const char *p, Span **argv, int *cap, int *argc) noexcept nogil:
    cdef uint32_t n
    cdef int i
    memcpy(&n, p, 4)
    p += 4
    argc[0] = <int>n
    if cap[0] < argc[0]:
        cap[0] = argc[0]
        free(argv[0])
        argv[0] = <Span*>need_memory(malloc(sizeof(Span) * <size_t>cap[0]))
    for i in range(argc[0]):
        memcpy(&n, p, 4)
        argv[0][i] = span(p + 4, n)
        p += 4 + n
    return p


cdef inline int option_words(Span option) noexcept nogil:
    """Of XREAD and XREADGROUP. What stands behind one is no STREAMS, whatever it is called."""
    if is_word(option, "GROUP"):
        return 3
    return 2 if (is_word(option, "COUNT") or is_word(option, "BLOCK")
                 or is_word(option, "CLAIM")) else 1


cdef int stream_keys(int first, Span *argv, int argc, int *last) noexcept nogil:
    while first < argc and not is_word(argv[first], "STREAMS"):
        first += option_words(argv[first])
    last[0] = first + (argc - first - 1) // 2
    return first + 1
