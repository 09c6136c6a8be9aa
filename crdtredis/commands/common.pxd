# What the native command groups share: looking up a string, ranges, deadlines and sizes, each with
# Redis's own rules and refusals. Header only: all functions are inline.
#
# A handler answers either by one of these refusals and returns, or does its work; so helpers that
# can refuse return 0 (or REFUSED) after they have answered. The executor opens and closes the op of
# a writing command, and an op without an effect leaves no trace: a handler that finds nothing to
# change just makes none.
#
# A Span of a key's value (string_view) is dead after the next change of the key, and that of a
# number after the next string_view.

from libc.stdint cimport INT64_MAX, int64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memset

from crdtredis._core cimport (KEYS_PREFETCHED, T_NONE, T_STRING, Element, key_find, key_touch,
                              key_type, key_visible, keys_prefetch, op_room)
from crdtredis._engine cimport CLIENT_NO_TOUCH, Call, refuse, refuse_int, refuse_type
from crdtredis.buffer cimport Buffer, Span, buffer_need
from crdtredis.errors cimport INVALID_EXPIRE, STRING_TOO_LONG
from crdtredis.numbers cimport parse_int64

cdef enum:
    MAX_STRING = 512 << 20      # bytes of a value, as Redis's default proto-max-bulk-len

cdef enum Found:
    REFUSED = -1                # the key holds another type, and the client has been told
    MISSING = 0
    FOUND = 1


cdef inline void touch(Call *c, Element *e) noexcept nogil:
    """Note an access, unless the client asked not to (CLIENT NO-TOUCH)."""
    if not c.client.flags & CLIENT_NO_TOUCH:
        key_touch(c.kernel, e)


cdef inline void prefetch_keys(Call *c, int i, int step) noexcept nogil:
    """In a walk over keys that has come to argv[i] (from 1 or 2 on, every step-th): now and then,
    have the next ones fetched from memory. A look-up that misses the caches waits twice; sixteen of
    them can wait at the same time."""
    if (i - 1) // step % KEYS_PREFETCHED == 0 and i + step < c.argc:
        keys_prefetch(c.kernel, c.db, c.argv + i, (c.argc - i + step - 1) // step, step)


cdef inline Element *find_key(Call *c, Span key) noexcept nogil:
    """The key's element if a client may see it, else NULL."""
    cdef Element *e = key_find(c.kernel, c.db, key)
    return e if key_visible(c.kernel, e) else NULL


cdef inline Element *read_key(Call *c, Span key) noexcept nogil:
    """The same for a command that reads: counted as a hit or a miss."""
    cdef Element *e = find_key(c, key)
    if e != NULL:
        c.stats.hits += 1
    else:
        c.stats.misses += 1
    return e


cdef inline int find_string(Call *c, int i, Element **e) noexcept nogil:
    """Look up argv[i] in order to change it. *e is what key_find gave, also when nothing is visible
    there."""
    e[0] = key_find(c.kernel, c.db, c.argv[i])
    cdef int type = key_type(c.kernel, e[0])
    if type == T_STRING:
        return FOUND
    if type == T_NONE:
        return MISSING
    refuse_type(c)
    return REFUSED


cdef inline int read_string(Call *c, int i, Element **e) noexcept nogil:
    """Look up argv[i] in order to read it: as find_string, and counts the hit or miss."""
    cdef int found = find_string(c, i, e)
    if found == FOUND:
        c.stats.hits += 1
        touch(c, e[0])
    elif found == MISSING:
        c.stats.misses += 1
    else:
        c.stats.hits += 1
    return found


cdef inline int read_int(Call *c, Span arg, int64_t *out) noexcept nogil:
    """An integer argument, or a refusal."""
    if parse_int64(arg.p, arg.n, out):
        return 1
    refuse_int(c)
    return 0


cdef inline void clamp_range(int64_t *first, int64_t *last, int64_t n) noexcept nogil:
    """Inclusive ends, negative ones counting from the end, brought into a string of n elements;
    first > last: nothing is left.

    As in Redis 7, a `last` far below zero becomes 0, not -1: GETRANGE k 0 -100 answers the first
    byte."""
    if first[0] < 0:
        first[0] += n
        if first[0] < 0:
            first[0] = 0
    if last[0] < 0:
        last[0] += n
        if last[0] < 0:
            last[0] = 0
    if last[0] >= n:
        last[0] = n - 1


cdef inline void refuse_named(Call *c, const char *text) noexcept nogil:
    """Refuse with a text that names the command."""
    cdef char named[160]
    snprintf(named, sizeof(named), text, c.client.command.name)
    refuse(c, named)


cdef inline int read_deadline(Call *c, Span arg, int64_t unit, int relative,
                              int64_t *out) noexcept nogil:
    """The expiry argument of SET and its kin: a positive number of `unit` ms, from now on or since
    1970. *out is ms since 1970."""
    cdef int64_t v
    if not read_int(c, arg, &v):
        return 0
    if v <= 0 or v > INT64_MAX // unit or (relative and v * unit > INT64_MAX - c.kernel.now):
        refuse_named(c, INVALID_EXPIRE)
        return 0
    out[0] = v * unit + (c.kernel.now if relative else 0)
    return 1


cdef inline size_t args_size(Call *c, int first) noexcept nogil:
    """Bytes of argv[first] and all that follow."""
    cdef size_t n = 0
    cdef int i
    for i in range(first, c.argc):
        n += c.argv[i].n
    return n


cdef inline int args_fit(Call *c, int first, int step) noexcept nogil:
    """Is there room in the op for effects on argv[1], each with `step` of the arguments from
    argv[first] on? Where not, the client is told."""
    return op_room(c.kernel, c.db, <size_t>((c.argc - first) // step), c.argv[1].n,
                   args_size(c, first))


cdef inline int size_allowed(Call *c, size_t n) noexcept nogil:
    """Whether a value may have n bytes, or a refusal."""
    if n <= MAX_STRING:
        return 1
    refuse(c, STRING_TOO_LONG)
    return 0


cdef inline Buffer copy_grown(Span v, size_t n) noexcept nogil:
    """A copy of v to change, with zero bytes up to a length of n if it is shorter. The caller frees
    it."""
    cdef Buffer b
    cdef size_t size = max(v.n, n)
    memset(&b, 0, sizeof(b))
    buffer_need(&b, size)
    if v.n:
        memcpy(b.p, v.p, v.n)
    if size > v.n:
        memset(b.p + v.n, 0, size - v.n)
    b.n = size
    return b
