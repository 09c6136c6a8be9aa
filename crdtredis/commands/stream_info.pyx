# cython: language_level=3
"""XINFO: what a stream is, what its groups have given out, and to whom.

`lag` is the number of entries that are new to the group, always; Redis does not know it where
entries were removed.
"""
from libc.stddef cimport size_t
from libc.stdint cimport UINT64_MAX, int64_t, uint64_t
from libc.string cimport strlen

from crdtredis._core cimport (T_STREAM, Collection, ConsumerView, Element, GroupView, Idempotence,
                              Kernel, PendingView, StreamCursor, StreamId, group_count, group_find,
                              group_next, idempotence_of, pending_from, produced_counts,
                              stream_added, stream_len, stream_max_deleted, stream_next,
                              stream_seek, stream_top)
from crdtredis._engine cimport Call, is_word, native, refuse
from crdtredis._resp cimport reply_array, reply_bulk, reply_int, reply_map, reply_null
from crdtredis.buffer cimport Buffer, Span, buffer_free, span
from crdtredis.commands.common cimport FOUND, MISSING, read_int
from crdtredis.commands.groups cimport list_consumers, refuse_group_of
from crdtredis.commands.members cimport find_members, read_members
from crdtredis.commands.stream_ids cimport id_up, stream_id
from crdtredis.commands.streams cimport refuse_subcommand, reply_id, reply_range
from crdtredis.errors cimport NO_SUCH_KEY

from crdtredis.commands.table import command
from crdtredis.commands.usage import container

cdef enum:
    ENTRIES_SHOWN = 10          # by FULL


cdef void reply_word(Call *c, const char *word) noexcept nogil:
    reply_bulk(c.reply, word, strlen(word))


cdef int find_told(Call *c, Collection **s) noexcept nogil:
    """The stream under argv[2]; 0 after a refusal."""
    cdef int found = read_members(c, c.argv[2], T_STREAM, s)
    if found == MISSING:
        refuse(c, NO_SUCH_KEY)
    return found == FOUND


cdef void reply_word_int(Call *c, const char *word, int64_t v) noexcept nogil:
    reply_word(c, word)
    reply_int(c.reply, v)


cdef void reply_known(Call *c, const char *word, int64_t v) noexcept nogil:
    """v: -1: it is not."""
    reply_word(c, word)
    if v < 0:
        reply_null(c.reply)
    else:
        reply_int(c.reply, v)


cdef void reply_pending(Call *c, const GroupView *g, Span owner, size_t n,
                        int64_t count) noexcept nogil:
    """The first of n records, all of one consumer or, where owner.p is NULL, of the group. count:
    0: all."""
    cdef StreamId id = stream_id(0, 0)
    cdef PendingView p
    reply_word_int(c, "pel-count", n)
    if owner.p == NULL and g.unowned:       # as before Redis 8.8 where none is
        reply_word_int(c, "nacked-count", g.unowned)
    if count:
        n = min(n, <size_t>count)
    reply_word(c, "pending")
    reply_array(c.reply, n)
    while n and pending_from(c.kernel, g, id, owner, &p):
        n -= 1
        reply_array(c.reply, 4 if owner.p == NULL else 3)
        reply_id(c, p.id)
        if owner.p == NULL:
            reply_bulk(c.reply, p.owner.p, p.owner.n)
        reply_int(c.reply, p.at)
        reply_int(c.reply, p.deliveries)
        id = p.id
        id_up(&id)


cdef void reply_groups(Call *c, Collection *s, int64_t count) noexcept nogil:
    cdef GroupView g
    cdef ConsumerView *x
    cdef Span nobody = span(NULL, 0)
    cdef Buffer all
    cdef size_t at = 0, i, n
    reply_array(c.reply, group_count(c.kernel, s))
    while group_next(c.kernel, s, &at, &g):
        reply_map(c.reply, 7 + (g.unowned > 0))
        reply_word(c, "name")
        reply_bulk(c.reply, g.name.p, g.name.n)
        reply_word(c, "last-delivered-id")
        reply_id(c, g.last)
        reply_known(c, "entries-read", g.read)
        reply_known(c, "lag", g.lag)
        reply_pending(c, &g, nobody, g.pending, count)
        reply_word(c, "consumers")
        n = list_consumers(c, &g, &all)
        x = <ConsumerView*>all.p
        reply_array(c.reply, n)
        for i in range(n):
            reply_map(c.reply, 5)
            reply_word(c, "name")
            reply_bulk(c.reply, x[i].name.p, x[i].name.n)
            reply_word_int(c, "seen-time", x[i].seen)
            reply_word_int(c, "active-time", x[i].active)
            reply_pending(c, &g, x[i].name, x[i].pending, count)
        buffer_free(&all)


cdef void xinfo_stream(Call *c) noexcept nogil:
    cdef Kernel *k = c.kernel
    cdef StreamId least = stream_id(0, 0), most = stream_id(UINT64_MAX, UINT64_MAX)
    cdef int full = c.argc > 3
    cdef int64_t count = ENTRIES_SHOWN, node = c.dispatch.encoding.stream_node, nodes
    cdef Collection *s
    cdef StreamCursor at
    cdef size_t producers, ids
    cdef uint64_t added, refused
    cdef Idempotence of
    cdef int told
    if not find_told(c, &s):
        return
    if full and ((c.argc != 4 and c.argc != 6) or not is_word(c.argv[3], "FULL")
                 or (c.argc == 6 and not is_word(c.argv[4], "COUNT"))):
        refuse_subcommand(c, "XINFO")
        return
    if c.argc == 6 and not read_int(c, c.argv[5], &count):
        return
    if count < 0:
        count = ENTRIES_SHOWN
    node = node if node > 0 else 100
    nodes = (<int64_t>stream_len(s) + node - 1) // node
    told = produced_counts(k, s, &producers, &ids, &added, &refused)
    reply_map(c.reply, (9 if full else 10) + (6 if told else 0))
    reply_word(c, "length")
    reply_int(c.reply, stream_len(s))
    reply_word(c, "radix-tree-keys")
    reply_int(c.reply, nodes)
    reply_word(c, "radix-tree-nodes")
    reply_int(c.reply, nodes + 1)
    reply_word(c, "last-generated-id")
    reply_id(c, stream_top(s))
    reply_word(c, "max-deleted-entry-id")
    reply_id(c, stream_max_deleted(s))
    reply_word(c, "entries-added")
    reply_int(c.reply, stream_added(k, s))
    reply_word(c, "recorded-first-entry-id")
    stream_seek(k, s, least, 0, &at)
    reply_id(c, at.id if stream_next(&at) else least)
    if told:
        of = idempotence_of(k, s)
        reply_word_int(c, "idmp-duration", of.seconds)
        reply_word_int(c, "idmp-maxsize", of.most)
        reply_word_int(c, "pids-tracked", producers)
        reply_word_int(c, "iids-tracked", ids)
        reply_word_int(c, "iids-added", added)
        reply_word_int(c, "iids-duplicates", refused)
    if full:
        reply_word(c, "entries")
        reply_range(c, s, least, most, count, 0, 0)
        reply_word(c, "groups")
        reply_groups(c, s, count)
        return
    reply_word(c, "groups")
    reply_int(c.reply, group_count(k, s))
    reply_word(c, "first-entry")
    if not reply_range(c, s, least, most, 1, 0, 1):
        reply_null(c.reply)
    reply_word(c, "last-entry")
    if not reply_range(c, s, least, most, 1, 1, 1):
        reply_null(c.reply)


cdef int find_asked(Call *c, Collection **s) noexcept nogil:
    """As find_told, but neither a hit nor a miss."""
    cdef Element *e
    if find_members(c, c.argv[2], T_STREAM, &e, s) == MISSING:
        refuse(c, NO_SUCH_KEY)
    return s[0] != NULL


cdef void xinfo_groups(Call *c) noexcept nogil:
    cdef Collection *s
    cdef GroupView g
    cdef size_t at = 0
    if not find_asked(c, &s):
        return
    reply_array(c.reply, group_count(c.kernel, s))
    while group_next(c.kernel, s, &at, &g):
        reply_map(c.reply, 6)
        reply_word(c, "name")
        reply_bulk(c.reply, g.name.p, g.name.n)
        reply_word_int(c, "consumers", g.consumers)
        reply_word_int(c, "pending", g.pending)
        reply_word(c, "last-delivered-id")
        reply_id(c, g.last)
        reply_known(c, "entries-read", g.read)
        reply_known(c, "lag", g.lag)


cdef void xinfo_consumers(Call *c) noexcept nogil:
    cdef Collection *s
    cdef GroupView g
    cdef Buffer all
    cdef ConsumerView *x
    cdef size_t i, n
    if not find_asked(c, &s):
        return
    if not group_find(c.kernel, s, c.argv[3], &g):
        refuse_group_of(c, c.argv[3], c.argv[2])
        return
    n = list_consumers(c, &g, &all)
    x = <ConsumerView*>all.p
    reply_array(c.reply, n)
    for i in range(n):
        reply_map(c.reply, 4)
        reply_word(c, "name")
        reply_bulk(c.reply, x[i].name.p, x[i].name.n)
        reply_word_int(c, "pending", x[i].pending)
        reply_word_int(c, "idle", max(c.kernel.now - x[i].seen, <int64_t>0))
        reply_word_int(c, "inactive",
                       c.kernel.now - x[i].active if x[i].active >= 0 else -1)
    buffer_free(&all)


# ---- registration --------------------------------------------------------------------------------
container("XINFO", "stream", "5.0.0", "What the server knows about a stream.")
command("XINFO|STREAM key [FULL [COUNT count]]", arity=-3, flags="readonly", keys=(2, 2, 1),
        access="RO access", group="stream", since="5.0.0",
        complexity="O(N) with N entries answered", summary="The state of a stream.")(
        native(xinfo_stream))
command("XINFO|GROUPS key", arity=3, flags="readonly", keys=(2, 2, 1), access="RO access",
        group="stream", since="5.0.0", summary="The groups of a stream.")(native(xinfo_groups))
command("XINFO|CONSUMERS key group", arity=4, flags="readonly", keys=(2, 2, 1),
        access="RO access", group="stream", since="5.0.0", tips="nondeterministic_output",
        summary="The consumers of a group.")(native(xinfo_consumers))
