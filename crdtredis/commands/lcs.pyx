"""LCS: the longest common subsequence of two strings.

It takes time and memory of the product of both lengths, as in Redis, and refuses what would need
more than a string may have. A counter and a HyperLogLog are shown by writing them into the kernel's
one place for that, so a view lasts until the next one: the first of two is copied.
"""
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from crdtredis._core cimport T_NONE, T_STRING, Element, Kernel, key_find, key_type, string_view
from crdtredis._engine cimport Call, is_word, native, refuse, refuse_syntax
from crdtredis._resp cimport reply_array, reply_bulk, reply_int, reply_map
from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, buffer_need, span
from crdtredis.commands.common cimport MAX_STRING, read_int, touch
from crdtredis.errors cimport (LCS_LENGTH_AND_INDEXES, LCS_NOT_STRINGS, LCS_NO_MEMORY,
                               LCS_TOO_LARGE)

from crdtredis.commands.table import command


# A stretch that both strings share: from a[a_first] and b[b_first] on, n bytes.
cdef struct Stretch:
    uint32_t a_first
    uint32_t b_first
    uint32_t n


cdef uint32_t *lcs_table(Span a, Span b) noexcept nogil:
    """Lengths of the longest common subsequences of all prefixes: row i, column j stands for a[:i]
    and b[:j]. NULL: no memory."""
    cdef size_t width = b.n + 1, i, j
    cdef uint32_t *table = <uint32_t*>malloc((a.n + 1) * width * sizeof(uint32_t))
    cdef uint32_t *row
    cdef uint32_t *above
    cdef char ch
    if table == NULL:
        return NULL
    memset(table, 0, width * sizeof(uint32_t))
    for i in range(a.n):
        above = table + i * width
        row = above + width
        ch = a.p[i]
        row[0] = 0
        for j in range(b.n):
            row[j + 1] = above[j] + 1 if ch == b.p[j] else max(above[j + 1], row[j])
    return table


cdef void lcs_walk(const uint32_t *table, Span a, Span b, Buffer *stretches) noexcept nogil:
    """The stretches of one longest common subsequence, last one first. Where several are longest,
    the walk back from the ends prefers to shorten b: that choice is visible, and it is Redis's."""
    cdef size_t width = b.n + 1, i = a.n, j = b.n
    cdef Stretch s
    s.n = 0
    while i and j:
        if a.p[i - 1] == b.p[j - 1]:
            i -= 1
            j -= 1
            s.a_first = <uint32_t>i
            s.b_first = <uint32_t>j
            s.n += 1
            continue
        if s.n:
            buffer_add(stretches, &s, sizeof(s))
            s.n = 0
        if table[(i - 1) * width + j] > table[i * width + j - 1]:
            i -= 1
        else:
            j -= 1
    if s.n:
        buffer_add(stretches, &s, sizeof(s))


cdef void lcs_reply_stretches(Call *c, Stretch *s, size_t n, int64_t shortest,
                              int with_length) noexcept nogil:
    cdef size_t i
    cdef int64_t shown = 0
    for i in range(n):
        shown += s[i].n >= shortest
    reply_array(c.reply, shown)
    for i in range(n):
        if s[i].n < shortest:
            continue
        reply_array(c.reply, 3 if with_length else 2)
        reply_array(c.reply, 2)
        reply_int(c.reply, s[i].a_first)
        reply_int(c.reply, <int64_t>s[i].a_first + s[i].n - 1)
        reply_array(c.reply, 2)
        reply_int(c.reply, s[i].b_first)
        reply_int(c.reply, <int64_t>s[i].b_first + s[i].n - 1)
        if with_length:
            reply_int(c.reply, s[i].n)


cdef void lcs_reply(Call *c, Span a, Span b, int want_length, int want_stretches, int64_t shortest,
                    int with_length) noexcept nogil:
    cdef uint32_t *table
    cdef uint32_t length
    cdef Buffer stretches
    cdef Buffer text
    cdef Stretch *s
    cdef size_t n
    if (a.n + 1) * (b.n + 1) * sizeof(uint32_t) > MAX_STRING:
        refuse(c, LCS_TOO_LARGE)
        return
    table = lcs_table(a, b)
    if table == NULL:
        refuse(c, LCS_NO_MEMORY)
        return
    length = table[a.n * (b.n + 1) + b.n]
    if want_length:
        reply_int(c.reply, length)
        free(table)
        return
    memset(&stretches, 0, sizeof(stretches))
    lcs_walk(table, a, b, &stretches)
    free(table)
    s = <Stretch*>stretches.p
    n = stretches.n // sizeof(Stretch)
    if want_stretches:
        reply_map(c.reply, 2)
        reply_bulk(c.reply, b"matches", 7)
        lcs_reply_stretches(c, s, n, shortest, with_length)
        reply_bulk(c.reply, b"len", 3)
        reply_int(c.reply, length)
    else:
        memset(&text, 0, sizeof(text))
        buffer_need(&text, length)
        while n:
            n -= 1
            buffer_add(&text, a.p + s[n].a_first, s[n].n)
        reply_bulk(c.reply, text.p, text.n)
        buffer_free(&text)
    buffer_free(&stretches)


cdef void lcs(Call *c) noexcept nogil:
    cdef Kernel *k = c.kernel
    cdef Element *e
    cdef Span v[2]
    cdef Buffer copy
    cdef int i, type, want_length = 0, want_stretches = 0, with_length = 0
    cdef int64_t shortest = 0
    memset(&copy, 0, sizeof(copy))
    for i in range(2):
        e = key_find(k, c.db, c.argv[1 + i])
        type = key_type(k, e)
        if type == T_NONE:
            c.stats.misses += 1
        else:
            c.stats.hits += 1
        if type != T_NONE and type != T_STRING:
            refuse(c, LCS_NOT_STRINGS)
            buffer_free(&copy)
            return
        v[i] = span(b"", 0)
        if type == T_STRING:
            touch(c, e)
            v[i] = string_view(k, e)
        if i == 0 and (v[0].p == <const char*>k.scratch.number or v[0].p == k.scratch.image.p):
            buffer_add(&copy, v[0].p, v[0].n)
            v[0].p = copy.p
    i = 3
    while i < c.argc:
        if is_word(c.argv[i], b"IDX"):
            want_stretches = 1
        elif is_word(c.argv[i], b"LEN"):
            want_length = 1
        elif is_word(c.argv[i], b"WITHMATCHLEN"):
            with_length = 1
        elif is_word(c.argv[i], b"MINMATCHLEN") and i + 1 < c.argc:
            i += 1
            if not read_int(c, c.argv[i], &shortest):
                break
        else:
            refuse_syntax(c)
            break
        i += 1
    else:
        if want_length and want_stretches:
            refuse(c, LCS_LENGTH_AND_INDEXES)
        else:
            lcs_reply(c, v[0], v[1], want_length, want_stretches, shortest, with_length)
    buffer_free(&copy)


command("LCS key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]", arity=-3,
        flags="readonly", keys=(1, 2, 1), group="string", since="7.0.0",
        complexity="O(N*M) with N and M bytes of the two strings",
        summary="Answers the longest common subsequence of two strings, its length, or where it "
                "lies.")(native(lcs))
