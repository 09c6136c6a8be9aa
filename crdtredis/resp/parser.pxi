# How do a client's bytes become commands?
#
# One buffer per client, and an offset up to which it is understood. Most commands lie whole in the
# buffer: parser_next then is one pass over their headers, with the digits read inline, and argv are
# spans into the buffer. Whatever is cut off by the end of the bytes stays where it is; the next
# call goes on from `pos`, with the arguments already found in argv. Nothing is looked at twice but
# a header of a few digits that is cut in the middle; longer lines remember in `scanned` how far
# they were searched.
#
# The buffer. A command's bytes stay together because argv points to them, so the buffer grows with
# the largest command. It moves (and argv with it) only in parser_room: to the front at most once
# per command, and when it grows, which is by doubling. A large argument tells how much is coming:
# the last step is then to exactly that size, so a 512 MB value costs linear time and one buffer of
# its size. What was merely announced is reserved up to 1 MiB; beyond that only as much again as has
# arrived. After a large command the memory goes back at once, and what is worth keeping for the
# next read (256 KiB) stays.
#
# Where Redis's reply depends on how the bytes were cut into packets (a line slightly longer than
# 64 KiB, a NUL byte in an inline command, which makes it wait for ever), ours is the one that does
# not: the line is too long, and NUL is a byte like any other. What Redis does not check is not
# checked here: the byte after a CR, and the two bytes after a bulk string.

from libc.stdint cimport INT32_MAX, INT64_MAX, uint64_t, uintptr_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memmove, memset

from crdtredis.buffer cimport buffer_free, buffer_resize, need_memory
from crdtredis.errors cimport (BULK_HEADER_TOO_BIG, DOLLAR_EXPECTED, INLINE_TOO_BIG,
                               INVALID_BULK_LENGTH, INVALID_MULTIBULK_LENGTH,
                               MULTIBULK_HEADER_TOO_BIG, UNAUTHENTICATED_BULK_LENGTH,
                               UNAUTHENTICATED_MULTIBULK_LENGTH, UNBALANCED_QUOTES)
from crdtredis.numbers cimport is_space, parse_int64

cdef enum:
    FIRST = 16 << 10        # bytes of a new buffer
    ROOM = 8 << 10          # bytes to read into, at least
    LARGE = 32 << 10        # a bulk string from this size on has its room reserved
    RESERVE = 1 << 20       # ... up to this size, before it arrives
    KEEP = 256 << 10        # a larger buffer is given back when it is no longer needed
    ARGS = 8                # arguments of a new client
    KEEP_ARGS = 1024
    LINE = 64 << 10         # longest inline command or header
    UNKNOWN_ARGS = 10
    UNKNOWN_BULK = 16 << 10


cdef void parser_init(Parser *p, int64_t max_bulk) noexcept nogil:
    memset(p, 0, sizeof(Parser))
    p.bulk = -1
    p.max_bulk = max_bulk if max_bulk < INT64_MAX else INT64_MAX - 1
    p.authenticated = 1


cdef void parser_free(Parser *p) noexcept nogil:
    buffer_free(&p.buf)
    free(p.argv)
    p.argv = NULL
    p.argc = p.argv_cap = 0


cdef size_t parser_memory(Parser *p) noexcept nogil:
    return p.buf.cap + p.argv_cap * sizeof(Span)


# ---- the buffer ----------------------------------------------------------------------------------

cdef char *parser_room(Parser *p, size_t *room) noexcept nogil:
    cdef size_t live = p.buf.n - p.start, want = ROOM, missing = 0, cap
    if p.bulk >= LARGE:
        missing = <size_t>p.bulk + 2 - (p.buf.n - p.pos)
        want = missing if missing < RESERVE else RESERVE
    if p.buf.cap > KEEP and live + want <= KEEP // 2:
        parser_trim(p)
    elif p.start and p.buf.cap - p.buf.n < want:
        slide(p)
    if p.buf.cap - p.buf.n < want:
        cap = p.buf.cap * 2 if p.buf.cap * 2 > FIRST else FIRST
        if cap < live + want:
            cap = live + want
        if missing and cap > live + missing:
            # Exactly what is missing, but never a small step: a command of many large arguments
            # takes one for each.
            cap = (live + missing if live + missing > p.buf.cap + p.buf.cap // 4
                   else p.buf.cap + p.buf.cap // 4)
        resize(p, cap)
    room[0] = p.buf.cap - p.buf.n
    return p.buf.p + p.buf.n


cdef void parser_fed(Parser *p, size_t n) noexcept nogil:
    p.buf.n += n


cdef inline void rebase(Parser *p, uintptr_t by) noexcept nogil:
    cdef int i
    if p.multibulk:
        for i in range(p.argc):
            p.argv[i].p = <const char*>(<uintptr_t>p.argv[i].p + by)


cdef void slide(Parser *p) noexcept nogil:
    """Bring the command under construction to the front."""
    rebase(p, 0 - <uintptr_t>p.start)
    p.buf.n -= p.start
    p.pos -= p.start
    memmove(p.buf.p, p.buf.p + p.start, p.buf.n)
    p.start = 0


cdef void resize(Parser *p, size_t cap) noexcept nogil:
    """For a moment argv holds offsets, since the buffer may move."""
    rebase(p, 0 - <uintptr_t>p.buf.p)
    buffer_resize(&p.buf, cap)
    rebase(p, <uintptr_t>p.buf.p)


cdef void parser_trim(Parser *p) noexcept nogil:
    if p.start == p.buf.n:
        buffer_free(&p.buf)
        p.start = p.pos = 0
    else:
        if p.start:
            slide(p)
        resize(p, p.buf.n)
    if p.multibulk == 0 and p.argv_cap > ARGS:
        free(p.argv)
        p.argv = NULL
        p.argv_cap = 0
        p.argc = 0


cdef void more_args(Parser *p) noexcept nogil:
    cdef int cap = p.argv_cap * 2 if p.argv_cap else ARGS
    cdef Span *argv = <Span*>need_memory(realloc(p.argv, cap * sizeof(Span)))
    p.argv = argv
    p.argv_cap = cap


# ---- commands ------------------------------------------------------------------------------------

cdef int parser_next(Parser *p) noexcept nogil:
    cdef const char *at = p.buf.p + p.pos
    cdef const char *end = p.buf.p + p.buf.n
    cdef const char *line
    cdef int64_t left = p.multibulk, bulk = p.bulk
    cdef int64_t limit = p.max_bulk if p.authenticated else UNKNOWN_BULK
    cdef int status = PARSE_READY, argc
    if p.error != NULL:
        return PARSE_ERROR
    if left == 0:
        p.argc = 0
        p.start = p.pos
        if at == end:
            return drained(p)
        if at[0] != 42:
            return inline_command(p)
        if not short_header(p, &at, end, &left):
            status = header(p, &at, end, &left, MULTIBULK_HEADER_TOO_BIG)
            if status != PARSE_READY:
                return status
        if left > INT32_MAX:
            return fail(p, INVALID_MULTIBULK_LENGTH)
        if left > UNKNOWN_ARGS and not p.authenticated:
            return fail(p, UNAUTHENTICATED_MULTIBULK_LENGTH)
        if left < 0:
            left = 0
    argc = p.argc
    while left:
        if bulk < 0:
            if not (at < end and at[0] == 36 and short_header(p, &at, end, &bulk)):
                line = at
                status = header(p, &at, end, &bulk, BULK_HEADER_TOO_BIG)
                if status != PARSE_READY:
                    break
                if line[0] != 36:
                    status = not_a_bulk(p, line[0])
                    break
            if <uint64_t>bulk > <uint64_t>limit:
                status = fail(p, INVALID_BULK_LENGTH
                              if <uint64_t>bulk > <uint64_t>p.max_bulk
                              else UNAUTHENTICATED_BULK_LENGTH)
                break
        if end - at - 2 < bulk:
            status = PARSE_MORE
            break
        if argc == p.argv_cap:
            more_args(p)
        p.argv[argc].p = at
        p.argv[argc].n = <size_t>bulk
        argc += 1
        left -= 1
        at += bulk + 2
        bulk = -1
    p.argc = argc
    p.multibulk = left
    p.bulk = bulk
    p.pos = at - p.buf.p
    return status


cdef int parser_follows(Parser *p) noexcept nogil:
    return p.multibulk == 0 and p.pos < p.buf.n and p.buf.p[p.pos] == 42


cdef void parser_back(Parser *p, size_t at) noexcept nogil:
    p.start = p.pos = at
    p.argc = 0
    p.multibulk = 0
    p.bulk = -1
    p.scanned = 0
    p.error = NULL


cdef inline int short_header(Parser *p, const char **at, const char *end,
                             int64_t *out) noexcept nogil:
    """The length after the sign at *at, if it is whole and of the form nearly all have: a few
    digits, no leading zero, CR."""
    cdef const char *digits = at[0] + 1
    cdef const char *c = digits
    cdef const char *stop = c + 10 if end - c > 11 else end - 1
    cdef uint64_t v = 0
    cdef unsigned int digit
    if c < stop and c[0] == 48:
        c += 1
    else:
        while c < stop:
            digit = <unsigned char>c[0] - 48
            if digit > 9:
                break
            v = v * 10 + digit
            c += 1
    if c >= stop or c[0] != 13 or c == digits:
        return 0
    at[0] = c + 2
    p.scanned = 0
    out[0] = <int64_t>v
    return 1


cdef int header(Parser *p, const char **at, const char *end, int64_t *out,
                const char *too_big) noexcept nogil:
    """Any header at *at. A length that is no number reads as INT64_MAX, which is beyond every
    limit."""
    cdef const char *line = at[0]
    cdef const char *cr = <const char*>memchr(line + p.scanned, 13, end - line - p.scanned)
    cdef size_t n = (cr if cr != NULL else end) - line
    if n > LINE:
        return fail(p, too_big)
    if cr == NULL or cr + 1 == end:
        p.scanned = n
        return PARSE_MORE
    p.scanned = 0
    if n == 0 or not parse_int64(line + 1, n - 1, out):
        out[0] = INT64_MAX
    at[0] = cr + 2
    return PARSE_READY


cdef int drained(Parser *p) noexcept nogil:
    """All that came is consumed: begin again at the front."""
    p.start = p.pos = p.buf.n = 0
    if p.buf.cap > KEEP or p.argv_cap > KEEP_ARGS:
        parser_trim(p)
    return PARSE_MORE


cdef int fail(Parser *p, const char *text) noexcept nogil:
    p.error = text
    return PARSE_ERROR


cdef int not_a_bulk(Parser *p, char c) noexcept nogil:
    snprintf(p.error_text, sizeof(p.error_text), DOLLAR_EXPECTED, <int>c)
    return fail(p, p.error_text)


# ---- inline commands -----------------------------------------------------------------------------

cdef int inline_command(Parser *p) noexcept nogil:
    cdef char *line = p.buf.p + p.pos
    cdef char *end = p.buf.p + p.buf.n
    cdef char *lf = <char*>memchr(line + p.scanned, 10, end - line - p.scanned)
    cdef size_t n = (lf if lf != NULL else end) - line
    if n > LINE:
        return fail(p, INLINE_TOO_BIG)
    if lf == NULL:
        p.scanned = n
        return PARSE_MORE
    p.scanned = 0
    p.pos += n + 1
    return split(p, line, lf - 1 if n and (lf - 1)[0] == 13 else lf)


cdef int split(Parser *p, char *at, char *end) noexcept nogil:
    """Cut a line into arguments, quoted as for redis-cli. Unquoting only ever shortens, so it is
    done in place."""
    cdef char *to
    cdef char quote, c
    while True:
        while at < end and is_space(at[0]):
            at += 1
        if at == end:
            return PARSE_READY
        if p.argc == p.argv_cap:
            more_args(p)
        p.argv[p.argc].p = to = at
        quote = 0
        while at < end:
            c = at[0]
            if quote == 0:
                if c == 32 or c == 9 or c == 13:
                    break
                if c == 34 or c == 39:
                    quote = c
                    at += 1
                    continue
            elif c == quote:
                at += 1
                quote = 0
                if at < end and not is_space(at[0]):
                    return fail(p, UNBALANCED_QUOTES)
                break
            elif c == 92 and end - at > 1:
                if quote == 34:
                    if (end - at > 3 and at[1] == 120 and hex_digit(at[2]) >= 0
                        and hex_digit(at[3]) >= 0):
                        c = <char>(hex_digit(at[2]) * 16 + hex_digit(at[3]))
                        at += 3
                    else:
                        c = escaped(at[1])
                        at += 1
                elif at[1] == 39:
                    c = 39
                    at += 1
            to[0] = c
            to += 1
            at += 1
        if quote:
            return fail(p, UNBALANCED_QUOTES)
        p.argv[p.argc].n = to - p.argv[p.argc].p
        p.argc += 1


cdef int hex_digit(char c) noexcept nogil:
    if 48 <= c <= 57:
        return c - 48
    c |= 32
    return c - 87 if 97 <= c <= 102 else -1


cdef char escaped(char c) noexcept nogil:
    if c == 110:
        return 10           # \n
    if c == 114:
        return 13           # \r
    if c == 116:
        return 9            # \t
    if c == 98:
        return 8            # \b
    return 7 if c == 97 else c   # \a
