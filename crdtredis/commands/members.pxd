# What the commands of hashes, sets, sorted sets and lists share: looking up a collection, removing,
# storing, choosing at random. Header only: all functions are inline.
#
# A collection's table holds tombstones as well as members (see core/keyspace.pxd), so whoever walks
# it asks member_live. c.live is the number of members.
#
# Elements do not move while a command only reads or removes others: a Buffer of Element* holds a
# choice of members without copying a name. And a Table does not own its elements: one made for the
# length of a command may borrow those of other tables, since all of them hash alike, and so tells
# repetitions apart at the cost of 8 bytes an element.
#
# What a command looks up to read (read_members) may be a view of what is packed (core/packed.pxi):
# nothing of it is changed, and it is good until the key changes or the command ends.
#
# A Span of a member's name is dead once that member is written or removed: what does so copies the
# name first.

from libc.stddef cimport size_t
from libc.stdint cimport INT64_MAX, int64_t, uint32_t
from libc.string cimport memcpy, memset

from crdtredis._core cimport (E_PLAIN, MANY_LIVE, T_NONE, Collection, Element, Kernel, Table,
                              element_key, element_klen, element_name, key_collection, key_deadline,
                              key_delete, key_find, key_member, key_prepare, key_size, key_type,
                              key_view, key_visible, member_lapsed, member_random,
                              member_remove, member_set, members_lapsed, next_random, op_room,
                              removal_size, table_add, table_clear, table_count, table_find,
                              table_init, table_next, value_live)
from crdtredis._engine cimport Call, is_word, refuse, refuse_int, refuse_syntax, refuse_type
from crdtredis._resp cimport reply_array, reply_int, reply_null
from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, buffer_need, span
from crdtredis.commands.common cimport FOUND, MISSING, REFUSED, args_fit, touch
from crdtredis.errors cimport (COUNT_NOT_POSITIVE, NOT_NEGATABLE, NOT_POSITIVE,
                               NUMKEYS_NOT_POSITIVE, OUT_OF_RANGE)
from crdtredis.numbers cimport parse_int64

cdef enum:
    # from which on a look at all members costs less than that each draw passes over tombstones
    MANY_DRAWS = 1000
    # members that a random choice with repetition answers: the client names their number, not the
    # data
    MOST_REPEATED = 1 << 24


# ---- looking up ----------------------------------------------------------------------------------
cdef inline int find_typed(Call *c, Span key, int type, Element **e) noexcept nogil:
    """Look up a key in order to change it, and leave it packed if it is. *e is what key_find gave,
    also when nothing is visible there."""
    cdef int there
    e[0] = key_find(c.kernel, c.db, key)
    there = key_type(c.kernel, e[0])
    if there == type:
        return FOUND
    if there == T_NONE:
        return MISSING
    refuse_type(c)
    return REFUSED


cdef inline int find_members(Call *c, Span key, int type, Element **e,
                             Collection **out) noexcept nogil:
    """The same, unpacked: *out is NULL unless FOUND."""
    cdef int found = find_typed(c, key, type, e)
    out[0] = key_collection(c.kernel, e[0], type) if found == FOUND else NULL
    return found


cdef inline int read_key(Call *c, Span key, int types, Element **e, int *type) noexcept nogil:
    """Look up a key of one of several types, a bit 1 << T_* for each, in order to read it: counts
    the hit or miss; *type is its own. MISSING; FOUND; REFUSED: WRONGTYPE is told."""
    e[0] = key_find(c.kernel, c.db, key)
    type[0] = key_type(c.kernel, e[0])
    if type[0] == T_NONE:
        c.stats.misses += 1
        return MISSING
    c.stats.hits += 1
    if not types >> type[0] & 1:
        refuse_type(c)
        return REFUSED
    touch(c, e[0])
    return FOUND


cdef inline int read_member(Call *c, Span key, int type, Span name, Element **m) noexcept nogil:
    """Look up one member in order to read it: as read_key; *m is NULL unless FOUND."""
    cdef Element *e
    cdef int found = read_key(c, key, 1 << type, &e, &type)
    m[0] = key_member(c.kernel, e, type, name) if found == FOUND else NULL
    return MISSING if found == FOUND and m[0] == NULL else found


cdef inline int read_any(Call *c, Span key, int types, Collection **out) noexcept nogil:
    """The same, and *out is as key_view gives it, to read it and no more; NULL unless FOUND."""
    cdef Element *e
    cdef int type, found = read_key(c, key, types, &e, &type)
    out[0] = key_view(c.kernel, e, type) if found == FOUND else NULL
    return found


cdef inline int read_members(Call *c, Span key, int type, Collection **out) noexcept nogil:
    """The same, for a command that takes one."""
    return read_any(c, key, 1 << type, out)


cdef inline void reply_size(Call *c, int type) noexcept nogil:
    """HLEN, SCARD, ZCARD and LLEN."""
    cdef Element *e
    cdef int there
    if read_key(c, c.argv[1], 1 << type, &e, &there) != REFUSED:
        reply_int(c.reply, <int64_t>key_size(c.kernel, e, type))


cdef inline int member_live(Element *m) noexcept nogil:
    """Is what the table holds a member, not a tombstone?"""
    return m.meta & E_PLAIN or value_live(m)


cdef inline Element *next_member(Collection *c, size_t *at) noexcept nogil:
    """A walk over the members while nothing changes: start with at = 0; NULL at the end."""
    cdef Element *m = table_next(&c.table, at)
    while m != NULL and not member_live(m):
        m = table_next(&c.table, at)
    return m


cdef inline size_t members_shown(Kernel *k, const Collection *c) noexcept nogil:
    """How many members clients see; c may be NULL."""
    return c.live - members_lapsed(k, c) if c != NULL else 0


cdef inline Element *next_shown_member(Kernel *k, Collection *c, size_t *at) noexcept nogil:
    """As next_member, over those that clients see."""
    cdef Element *m = next_member(c, at)
    while m != NULL and member_lapsed(k, c, m):
        m = next_member(c, at)
    return m


cdef inline Span member_name(Element *m) noexcept nogil:
    return element_name(m)


cdef inline int has_member(Collection *c, Element *m) noexcept nogil:
    """Has c a member of the same name as m, which is of another collection?"""
    m = table_find(&c.table, element_key(m), element_klen(m), m.hash)
    return m != NULL and member_live(m)


cdef inline int find_first(Call *c, int type, int first, int n, int *at, Element **e,
                           Collection **out) noexcept nogil:
    """The first of n keys from argv[first] on that holds this type: argv[*at]. For a client that
    has waited, keys of another type count as missing."""
    cdef int found, i
    for i in range(first, first + n):
        at[0] = i
        if c.client.wait == NULL:
            found = find_members(c, c.argv[i], type, e, out)
        else:
            e[0] = key_find(c.kernel, c.db, c.argv[i])
            out[0] = key_collection(c.kernel, e[0], type)
            found = FOUND if out[0] != NULL else MISSING
        if found != MISSING:
            return found
    return MISSING


# ---- removing ------------------------------------------------------------------------------------
cdef inline void end_removal(Call *c, Span key, Element *e) noexcept nogil:
    """After the removal of members: a key without any is gone, and so is its deadline. e is what
    stands under the key now."""
    if e != NULL and key_type(c.kernel, e) == T_NONE and key_deadline(c.kernel, e) != -1:
        key_delete(c.kernel, c.db, e)


cdef inline void remove_members(Call *c, int type) noexcept nogil:
    """HDEL, SREM and ZREM: removes argv[2] and all that follow from argv[1], and answers how many
    there were."""
    cdef Kernel *k = c.kernel
    cdef Span key = c.argv[1]
    cdef Element *e
    cdef int64_t n = 0
    cdef int i
    if find_typed(c, key, type, &e) == REFUSED or not args_fit(c, 2, 1):
        return
    for i in range(2, c.argc):
        if key_type(k, e) != type:          # no such key, or its last member has just gone
            break
        if key_member(k, e, type, c.argv[i]) == NULL:
            continue
        if n == 0:
            e = key_prepare(k, c.db, key, e, type)
        e = member_remove(k, c.db, key, e, type, c.argv[i])
        n += 1
    if n:
        end_removal(c, key, e)
    reply_int(c.reply, n)


cdef inline Element *remove_member(Call *c, Span key, Element *e, int type, Element *m,
                                   Buffer *name) noexcept nogil:
    """As member_remove. `name` is scratch: the name is copied first, since it goes with its
    member."""
    name.n = 0
    buffer_need(name, element_klen(m) + 1)
    buffer_add(name, element_key(m), element_klen(m))
    return member_remove(c.kernel, c.db, key, e, type, span(name.p, name.n))


cdef inline int read_count(Call *c, Span arg, int64_t *count) noexcept nogil:
    """How many members or elements to pop; 0 after a refusal."""
    if parse_int64(arg.p, arg.n, count) and count[0] >= 0:
        return 1
    refuse(c, NOT_POSITIVE)
    return 0


cdef inline int read_pops(Call *c, int at, const char *first, const char *last, int *keys,
                          int *from_last, int64_t *count) noexcept nogil:
    """`numkeys key... first|last [COUNT count]` from argv[at] on, the arguments of LMPOP and its
    like; 0 after a refusal."""
    cdef int64_t n
    cdef int i, counted = 0
    if not parse_int64(c.argv[at].p, c.argv[at].n, &n) or n < 1:
        refuse(c, NUMKEYS_NOT_POSITIVE)
        return 0
    if n > c.argc - at - 2:
        refuse_syntax(c)
        return 0
    keys[0] = <int>n
    i = at + 1 + keys[0]
    from_last[0] = is_word(c.argv[i], last)
    if not from_last[0] and not is_word(c.argv[i], first):
        refuse_syntax(c)
        return 0
    count[0] = 1
    for i in range(i + 1, c.argc, 2):
        if counted or i + 1 == c.argc or not is_word(c.argv[i], "COUNT"):
            refuse_syntax(c)
            return 0
        if not parse_int64(c.argv[i + 1].p, c.argv[i + 1].n, count) or count[0] < 1:
            refuse(c, COUNT_NOT_POSITIVE)
            return 0
        counted = 1
    return 1


# ---- storing -------------------------------------------------------------------------------------
cdef inline int replace_key(Call *c, Span key, size_t n, size_t bytes,
                            Element **e) noexcept nogil:
    """Before a key gets n new members, whose names and values have so many bytes, in place of
    whatever it holds: removes that. With n = 0 the key is gone. 0: the op has no room for it all,
    of which the client is told."""
    cdef Kernel *k = c.kernel
    e[0] = key_find(k, c.db, key)
    if not op_room(k, c.db, n, key.n, bytes + (removal_size(k, e[0]) if e[0] != NULL else 0)):
        return 0
    if e[0] != NULL and (n or key_visible(k, e[0])):
        key_delete(k, c.db, e[0])
        e[0] = key_find(k, c.db, key)       # concurrent increments may have left tombstones
    return 1


cdef inline void store_members(Call *c, Span key, int type, const Buffer *members,
                               size_t size) noexcept nogil:
    """key := the members, in one op; answers their number. Each takes `size` bytes of the buffer:
    an Element*, which may be the key's own, since names are copied first; then its value."""
    cdef Kernel *k = c.kernel
    cdef size_t n = members.n // size, value = size - sizeof(Element*), i, at = 0
    cdef Buffer names
    cdef Element *e
    cdef Element *m
    cdef uint32_t klen
    memset(&names, 0, sizeof(Buffer))
    for i in range(n):
        m = (<Element**>(members.p + i * size))[0]
        klen = element_klen(m)
        buffer_add(&names, &klen, sizeof(uint32_t))
        buffer_add(&names, element_key(m), klen)
    if not replace_key(c, key, n, names.n + n * value, &e):
        n = 0
    for i in range(n):
        memcpy(&klen, names.p + at, sizeof(uint32_t))
        at += sizeof(uint32_t)
        e = member_set(k, c.db, key, e, type, span(names.p + at, klen),
                       span(members.p + i * size + sizeof(Element*), value))
        at += klen
    reply_int(c.reply, n)
    buffer_free(&names)


# ---- choosing at random --------------------------------------------------------------------------
cdef inline int read_choice(Call *c, Span text, int64_t *out) noexcept nogil:
    """How many members to choose, negative: with repetition; or a refusal."""
    if not parse_int64(text.p, text.n, out):
        refuse_int(c)
    elif out[0] < -INT64_MAX:
        refuse(c, NOT_NEGATABLE)
    elif out[0] < -MOST_REPEATED:
        refuse(c, OUT_OF_RANGE)
    else:
        return 1
    return 0


cdef inline size_t random_below(Kernel *k, size_t n) noexcept nogil:
    """A random number, its upper bits scaled: the bias is below n / 2^64."""
    return <size_t>(<uint128>next_random(&k.seed) * n >> 64)


cdef extern from *:
    """
    typedef unsigned __int128 crdt_uint128;
    """
    ctypedef unsigned long long uint128 "crdt_uint128"


cdef inline void add_all(Kernel *k, Collection *c, Buffer *out) noexcept nogil:
    """Append an Element* for every member."""
    cdef size_t at = 0
    cdef Element *m = next_shown_member(k, c, &at)
    cdef size_t size = members_shown(k, c) * sizeof(Element*)
    cdef Element **to = <Element**>buffer_need(out, size)
    while m != NULL:
        to[0] = m
        to += 1
        m = next_shown_member(k, c, &at)
    out.n += size


cdef inline int better_all(Kernel *k, Collection *c, size_t n) noexcept nogil:
    """Is a look at all members once better than n draws, of which each passes over the members that
    clients do not see?"""
    cdef size_t shown = members_shown(k, c)
    if table_count(&c.table) <= 16 * shown:
        return n >= max(shown, <size_t>MANY_DRAWS)
    return n > 1 and (n >= shown or shown < MANY_LIVE)


cdef inline void draw_begin(Kernel *k, Collection *c, size_t n, Buffer *all) noexcept nogil:
    """Before n draws with repetition, by draw: all members, where that is better; else nothing."""
    memset(all, 0, sizeof(Buffer))
    if better_all(k, c, n):
        add_all(k, c, all)


cdef inline Element *draw(Kernel *k, Collection *c, const Buffer *all) noexcept nogil:
    return ((<Element**>all.p)[random_below(k, all.n // sizeof(Element*))] if all.n
            else member_random(k, c))


cdef inline void choose(Kernel *k, Collection *c, size_t n, Buffer *out) noexcept nogil:
    """Append n different members, every such choice as likely as any other; n <= what is shown.
    The order is arbitrary."""
    cdef Table chosen
    cdef Element **all
    cdef Element *m
    cdef size_t i, j, first = out.n, live = members_shown(k, c)
    if n * 3 < live and not better_all(k, c, n):    # few of them: draw again what was drawn before
        table_init(&chosen)
        while n:
            m = member_random(k, c)
            if table_find(&chosen, element_key(m), element_klen(m), m.hash) == NULL:
                table_add(&chosen, m, m.hash)
                buffer_add(out, &m, sizeof(m))
                n -= 1
        table_clear(&chosen, NULL, NULL)
        return
    add_all(k, c, out)
    if n < live:                      # the beginning of a shuffle
        all = <Element**>(out.p + first)
        for i in range(n):
            j = i + random_below(k, live - i)
            m = all[j]
            all[j] = all[i]
            all[i] = m
        out.n = first + n * sizeof(Element*)


# ---- answering those chosen ----------------------------------------------------------------------
ctypedef void (*ReplyMember)(Call *c, Element *m, int with_value) noexcept nogil


cdef inline void reply_members_header(Call *c, size_t n, int with_values) noexcept nogil:
    """In RESP3 a member with its value is an array of two, in RESP2 the two follow one another."""
    reply_array(c.reply, n * 2 if with_values and c.reply.resp == 2 else n)


cdef inline int read_random(Call *c, const char *word, int64_t *n, int *with_values) noexcept nogil:
    """`[count [word]]` from argv[2] on, the word asking for values; 0 after a refusal."""
    with_values[0] = c.argc == 4
    if c.argc > 2 and not read_choice(c, c.argv[2], n):
        return 0
    if c.argc > 4 or (with_values[0] and not is_word(c.argv[3], word)):
        refuse_syntax(c)
        return 0
    if with_values[0] and n[0] > INT64_MAX // 2:
        refuse(c, OUT_OF_RANGE)
        return 0
    return 1


cdef inline void reply_random(Call *c, Collection *s, int64_t n, int with_values,
                              ReplyMember reply) noexcept nogil:
    """n different members, or as many as there are; below 0: -n of them, with repetition. Without
    a count in the command, one member or null."""
    cdef Kernel *k = c.kernel
    cdef Buffer chosen
    cdef int64_t i
    if c.argc == 2 and s == NULL:
        reply_null(c.reply)
    elif c.argc == 2:
        reply(c, member_random(k, s), 0)
    elif s == NULL or n == 0:
        reply_array(c.reply, 0)
    elif n < 0:
        reply_members_header(c, -n, with_values)
        draw_begin(k, s, -n, &chosen)
        for i in range(-n):
            reply(c, draw(k, s, &chosen), with_values)
        buffer_free(&chosen)
    else:
        memset(&chosen, 0, sizeof(Buffer))
        choose(k, s, min(<size_t>n, members_shown(k, s)), &chosen)
        n = chosen.n // sizeof(Element*)
        reply_members_header(c, n, with_values)
        for i in range(n):
            reply(c, (<Element**>chosen.p)[i], with_values)
        buffer_free(&chosen)
