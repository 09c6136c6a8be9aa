# CLIENT TRACKING, CACHING, GETREDIR, TRACKINGINFO: client-side caching. What is tracked, and who is
# told of what, is in engine/tracking.pxi; here are the rules of what may be asked for.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, strlen

from crdtredis._engine cimport (CLIENT_BCAST, CLIENT_BROKEN, CLIENT_CACHING, CLIENT_NOLOOP,
                                CLIENT_OPTIN, CLIENT_OPTOUT, CLIENT_TRACKING, PREFIX_BYTES,
                                PREFIXES_EACH, Call, Client, Prefix, is_word, native, prefix_name,
                                refuse, refuse_int, refuse_syntax, track_begin, track_end,
                                track_target)
from crdtredis._resp cimport (reply_array, reply_bulk, reply_int, reply_map, reply_ok, reply_set)
from crdtredis.buffer cimport Span, need_memory
from crdtredis.errors cimport (CACHING_NO, CACHING_WITHOUT_TRACKING, CACHING_YES, PREFIX_OVERLAPS,
                               PREFIX_OVERLAPS_ANOTHER, PREFIXES_TOO_MANY, REDIRECT_NOBODY,
                               REDIRECT_TWICE, TRACKING_BCAST_OPT, TRACKING_BOTH_OPTS,
                               TRACKING_PREFIX, TRACKING_SWITCH_BCAST, TRACKING_SWITCH_OPT)
from crdtredis.numbers cimport parse_int64

from crdtredis.commands.table import command

FLAGS = "noscript loading stale"

# What CLIENT TRACKING was asked for.
cdef struct Wish:
    uint32_t modes
    Client *target
    int64_t target_id       # 0: none
    Span *prefixes
    int n


cdef int read_options(Call *c, Wish *w) noexcept nogil:
    """0: refused."""
    cdef int i = 3
    while i < c.argc:
        if is_word(c.argv[i], "REDIRECT") and i + 1 < c.argc:
            i += 1
            if w.target_id:
                refuse(c, REDIRECT_TWICE)
                return 0
            if not parse_int64(c.argv[i].p, c.argv[i].n, &w.target_id):
                refuse_int(c)
                return 0
            if c.dispatch.port.find != NULL and w.target_id > 0:
                w.target = c.dispatch.port.find(c.dispatch.port.owner, <uint64_t>w.target_id)
            if w.target == NULL:
                refuse(c, REDIRECT_NOBODY)
                return 0
        elif is_word(c.argv[i], "BCAST"):
            w.modes |= CLIENT_BCAST
        elif is_word(c.argv[i], "OPTIN"):
            w.modes |= CLIENT_OPTIN
        elif is_word(c.argv[i], "OPTOUT"):
            w.modes |= CLIENT_OPTOUT
        elif is_word(c.argv[i], "NOLOOP"):
            w.modes |= CLIENT_NOLOOP
        elif is_word(c.argv[i], "PREFIX") and i + 1 < c.argc:
            i += 1
            w.prefixes[w.n] = c.argv[i]
            w.n += 1
        else:
            refuse_syntax(c)
            return 0
        i += 1
    return 1


cdef inline int overlap(Span a, Span b) noexcept nogil:
    cdef size_t n = a.n if a.n < b.n else b.n
    return n == 0 or memcmp(a.p, b.p, n) == 0


cdef int refuse_overlap(Call *c, const char *form, Span a, Span b) noexcept nogil:
    cdef char text[512]
    snprintf(text, sizeof(text), form, <int>(a.n if a.n < 128 else 128), a.p,
             <int>(b.n if b.n < 128 else 128), b.p)
    refuse(c, text)
    return 0


cdef int prefixes_fit(Call *c, const Wish *w) noexcept nogil:
    """0: refused."""
    cdef size_t bytes = c.dispatch.tracking.prefix_bytes
    cdef uint32_t had = c.client.tracker.prefix_n if c.client.tracker != NULL else 0
    cdef uint32_t k
    cdef int i, j
    for i in range(w.n):
        bytes += sizeof(Prefix) + 2 * sizeof(void*) + w.prefixes[i].n
    if <size_t>w.n + had > PREFIXES_EACH or bytes > PREFIX_BYTES:
        refuse(c, PREFIXES_TOO_MANY)
        return 0
    for i in range(w.n):
        for k in range(had):
            if overlap(prefix_name(c.client.tracker.prefixes[k]), w.prefixes[i]):
                return refuse_overlap(c, PREFIX_OVERLAPS, w.prefixes[i],
                                      prefix_name(c.client.tracker.prefixes[k]))
        for j in range(i + 1, w.n):
            if overlap(w.prefixes[i], w.prefixes[j]):
                return refuse_overlap(c, PREFIX_OVERLAPS_ANOTHER, w.prefixes[i], w.prefixes[j])
    return 1


cdef int may_begin(Call *c, const Wish *w) noexcept nogil:
    """0: refused."""
    cdef uint32_t had = c.client.flags
    if w.n and not w.modes & CLIENT_BCAST:
        refuse(c, TRACKING_PREFIX)
    elif had & CLIENT_TRACKING and (had ^ w.modes) & CLIENT_BCAST:
        refuse(c, TRACKING_SWITCH_BCAST)
    elif w.modes & CLIENT_BCAST and w.modes & (CLIENT_OPTIN | CLIENT_OPTOUT):
        refuse(c, TRACKING_BCAST_OPT)
    elif w.modes & CLIENT_OPTIN and w.modes & CLIENT_OPTOUT:
        refuse(c, TRACKING_BOTH_OPTS)
    elif (w.modes & CLIENT_OPTIN and had & CLIENT_OPTOUT
          or w.modes & CLIENT_OPTOUT and had & CLIENT_OPTIN):
        refuse(c, TRACKING_SWITCH_OPT)
    else:
        return not w.modes & CLIENT_BCAST or prefixes_fit(c, w)
    return 0


cdef void client_tracking(Call *c) noexcept nogil:
    cdef Wish w
    w.modes = 0
    w.target = NULL
    w.target_id = 0
    w.n = 0
    w.prefixes = <Span*>need_memory(malloc(sizeof(Span) * <size_t>c.argc))
    if not read_options(c, &w):
        pass
    elif is_word(c.argv[2], "ON"):
        if may_begin(c, &w):
            track_begin(c.dispatch, c.client, w.modes, w.target, w.prefixes, w.n)
            reply_ok(c.reply)
    elif is_word(c.argv[2], "OFF"):
        track_end(c.dispatch, c.client)
        reply_ok(c.reply)
    else:
        refuse_syntax(c)
    free(w.prefixes)


cdef void client_caching(Call *c) noexcept nogil:
    cdef int yes = is_word(c.argv[2], "YES")
    if not c.client.flags & CLIENT_TRACKING:
        refuse(c, CACHING_WITHOUT_TRACKING)
    elif not yes and not is_word(c.argv[2], "NO"):
        refuse_syntax(c)
    elif not c.client.flags & (CLIENT_OPTIN if yes else CLIENT_OPTOUT):
        refuse(c, CACHING_YES if yes else CACHING_NO)
    else:
        c.client.flags |= CLIENT_CACHING
        reply_ok(c.reply)


cdef void client_getredir(Call *c) noexcept nogil:
    reply_int(c.reply, track_target(c.client))


cdef inline void add_word(const char **words, int *n, int holds, const char *word) noexcept nogil:
    if holds:
        words[n[0]] = word
        n[0] += 1


cdef void client_trackinginfo(Call *c) noexcept nogil:
    cdef uint32_t f = c.client.flags
    cdef const char *words[8]
    cdef uint32_t prefixes = c.client.tracker.prefix_n if c.client.tracker != NULL else 0
    cdef uint32_t k
    cdef Span name
    cdef int n = 0, i
    add_word(words, &n, 1, "on" if f & CLIENT_TRACKING else "off")
    add_word(words, &n, f & CLIENT_BCAST, "bcast")
    add_word(words, &n, f & CLIENT_OPTIN, "optin")
    add_word(words, &n, f & CLIENT_OPTIN and f & CLIENT_CACHING, "caching-yes")
    add_word(words, &n, f & CLIENT_OPTOUT, "optout")
    add_word(words, &n, f & CLIENT_OPTOUT and f & CLIENT_CACHING, "caching-no")
    add_word(words, &n, f & CLIENT_NOLOOP, "noloop")
    add_word(words, &n, f & CLIENT_BROKEN, "broken_redirect")
    reply_map(c.reply, 3)
    reply_bulk(c.reply, "flags", 5)
    reply_set(c.reply, n)
    for i in range(n):
        reply_bulk(c.reply, words[i], strlen(words[i]))
    reply_bulk(c.reply, "redirect", 8)
    reply_int(c.reply, track_target(c.client))
    reply_bulk(c.reply, "prefixes", 8)
    reply_array(c.reply, prefixes)
    for k in range(prefixes):
        name = prefix_name(c.client.tracker.prefixes[k])
        reply_bulk(c.reply, name.p, name.n)


command("CLIENT|TRACKING <ON | OFF> [REDIRECT client-id] [PREFIX prefix]... [BCAST] [OPTIN] "
        "[OPTOUT] [NOLOOP]", arity=-3, flags=FLAGS, group="connection", since="6.0.0",
        complexity="O(1). Some options may introduce additional complexity.",
        summary="Has this connection told when keys it has read change, at whichever "
                "replica.")(native(client_tracking))
command("CLIENT|CACHING <YES | NO>", arity=3, flags=FLAGS, group="connection", since="6.0.0",
        summary="Whether the keys of the next command are tracked.")(native(client_caching))
command("CLIENT|GETREDIR", arity=2, flags=FLAGS, group="connection", since="6.0.0",
        summary="Answers the id of the connection that tracking messages go "
                "to.")(native(client_getredir))
command("CLIENT|TRACKINGINFO", arity=2, flags=FLAGS, group="connection", since="6.2.0",
        summary="Tells how this connection tracks keys.")(native(client_trackinginfo))
