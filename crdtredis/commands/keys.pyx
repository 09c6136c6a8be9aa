# cython: language_level=3
"""Generic key commands: DEL, EXPIRE and TTL with their relatives, SCAN, RENAME, COPY, SWAPDB ...

All of them are native: no Python object, no GIL. They read through key_find and key_visible, and
change the keyspace only by the local effects of core/keyspace.pxd. The executor opens the op around
every command that writes, so RENAME is one op. What travels to other replicas is deletes,
assignments and deadlines, never a command.

- An expired key is invisible from the moment its deadline passes. No command here removes it for
  that: the reaper does, with an op of its own, at the end of the loop iteration where this replica
  set the deadline, and after a grace where another did. Were it removed by who reads it, as in
  Redis, each replica would make that op, and one whose clock is ahead would take the key from all
  others too early. Only what writes under such a key first removes the remainder (the kernel sees
  to it).
- RENAME, COPY, MOVE and SWAPDB carry over what is shown: the winning value as an assignment, and
  the deadline. A concurrent write to the source survives under the source, since nobody had
  observed it. A counter arrives as its sum.
- SWAPDB rewrites both databases: O(keys in both) in time, memory and op size, where Redis swaps two
  pointers. A database number is part of every key's name for the peers, so there are no two
  pointers to swap.
- SCAN's promise is the table's: whatever is present from the first call to the last is returned at
  least once.
"""
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memset, strlen

from crdtredis._core cimport (HOME_DB, SYSTEM_DB, T_HASH, T_LIST, T_NONE, T_SET, T_STREAM, T_STRING,
                              T_ZSET, WALK_FORWARDS, Collection, Element, Kernel, StreamId, Walk,
                              copy_size, db_flush, element_key, element_klen, element_name,
                              field_expire, flush_size, groups_carry, groups_put, home_find,
                              is_hidden, key_collection, key_copy, key_deadline, key_delete,
                              key_expire, key_find, key_random, key_touch, key_type, key_visible,
                              next_random, op_room, produced_carry, produced_load, put_shown,
                              removal_size, stream_added, stream_max_deleted, stream_set_id,
                              stream_top, table_count, table_next, walk_deadline, walk_next,
                              walk_shown, walk_value)
from crdtredis._engine cimport (CLIENT_IN_EXEC, CLIENT_NO_TOUCH, Call, caller_of, is_word, native,
                                refuse, refuse_int, refuse_syntax, track_flush)
from crdtredis._resp cimport (reply_bulk, reply_error_span, reply_int, reply_null, reply_ok,
                              reply_simple)
from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, span
from crdtredis.commands.common cimport find_key, prefetch_keys, read_key, refuse_named
from crdtredis.glob cimport GLOB_STEPS, glob_is_all, glob_match
from crdtredis.commands.scanning cimport (Scan, read_cursor, read_scan_options, scan_add,
                                          scan_answer, scan_answer_found, scan_init, scan_matches,
                                          scan_pattern, scan_walk)
from crdtredis.errors cimport (DB_INDEX, FIRST_DB, GT_AND_LT, INVALID_EXPIRE, NOT_INT32,
                               NO_SUCH_KEY, NX_AND_OTHERS, SAME_OBJECT, SECOND_DB,
                               UNSUPPORTED_OPTION)
from crdtredis.numbers cimport parse_int64

from functools import partial

from crdtredis.commands.table import KeyRange, command
from crdtredis.commands.usage import container


cdef void refuse_option(Call *c, Span option) noexcept nogil:
    """An error text that ends in the option, up to its first NUL."""
    cdef Buffer text
    cdef const void *nul = memchr(option.p, 0, option.n) if option.n else NULL
    memset(&text, 0, sizeof(Buffer))
    buffer_add(&text, UNSUPPORTED_OPTION, strlen(UNSUPPORTED_OPTION))
    buffer_add(&text, option.p, option.n if nul == NULL else <size_t>(<const char*>nul - option.p))
    reply_error_span(c.reply, text.p, text.n)
    buffer_free(&text)


# ---- what several commands share -----------------------------------------------------------------
cdef inline const char *type_name(int kind) noexcept nogil:
    if kind == T_STRING:
        return "string"
    if kind == T_HASH:
        return "hash"
    if kind == T_SET:
        return "set"
    if kind == T_ZSET:
        return "zset"
    if kind == T_LIST:
        return "list"
    if kind == T_STREAM:
        return "stream"
    return "none"


cdef int read_db(Call *c, Span text, uint32_t *out) noexcept nogil:
    """A database number; 0 after the error reply."""
    cdef int64_t n
    if not parse_int64(text.p, text.n, &n):
        refuse_int(c)
    elif n < -2147483648 or n > 2147483647:
        refuse(c, NOT_INT32)
    elif n < 0 or n >= SYSTEM_DB:
        refuse(c, DB_INDEX)
    else:
        out[0] = n
        return 1
    return 0


# ---- existence -----------------------------------------------------------------------------------
cdef void del_(Call *c) noexcept nogil:
    cdef int64_t n = 0
    cdef size_t bytes = 0
    cdef Element *e
    cdef int i
    if c.client.flags & CLIENT_IN_EXEC:                 # where it cannot be cut: see core/sizes.pxi
        for i in range(1, c.argc):
            e = find_key(c, c.argv[i])
            bytes += removal_size(c.kernel, e) if e != NULL else 0
        if not op_room(c.kernel, c.db, 0, 0, bytes):
            return
    for i in range(1, c.argc):
        prefetch_keys(c, i, 1)
        e = find_key(c, c.argv[i])
        if e != NULL:
            key_delete(c.kernel, c.db, e)
            n += 1
    reply_int(c.reply, n)


cdef void exists(Call *c) noexcept nogil:
    cdef int64_t n = 0
    cdef int i
    for i in range(1, c.argc):
        prefetch_keys(c, i, 1)
        n += read_key(c, c.argv[i]) != NULL
    reply_int(c.reply, n)


cdef void touch(Call *c) noexcept nogil:
    cdef int64_t n = 0
    cdef Element *e
    cdef int i
    for i in range(1, c.argc):
        prefetch_keys(c, i, 1)
        e = read_key(c, c.argv[i])
        if e != NULL:
            key_touch(c.kernel, e)
            n += 1
    reply_int(c.reply, n)


cdef void type_(Call *c) noexcept nogil:
    reply_simple(c.reply, type_name(key_type(c.kernel, read_key(c, c.argv[1]))))


# ---- deadlines -----------------------------------------------------------------------------------
cdef void expire_generic(Call *c, int64_t base, int seconds) noexcept nogil:
    """EXPIRE and its relatives: argv[2] counts from `base`, in seconds or milliseconds."""
    cdef Kernel *k = c.kernel
    cdef int nx = 0, xx = 0, gt = 0, lt = 0, i
    cdef int64_t when, current
    for i in range(3, c.argc):
        if is_word(c.argv[i], "NX"):
            nx = 1
        elif is_word(c.argv[i], "XX"):
            xx = 1
        elif is_word(c.argv[i], "GT"):
            gt = 1
        elif is_word(c.argv[i], "LT"):
            lt = 1
        else:
            refuse_option(c, c.argv[i])
            return
    if nx and (xx or gt or lt):
        refuse(c, NX_AND_OTHERS)
        return
    if gt and lt:
        refuse(c, GT_AND_LT)
        return
    if not parse_int64(c.argv[2].p, c.argv[2].n, &when):
        refuse_int(c)
        return
    if seconds:
        if when > INT64_MAX // 1000 or when < INT64_MIN // 1000:
            refuse_named(c, INVALID_EXPIRE)
            return
        when *= 1000
    if when > INT64_MAX - base:
        refuse_named(c, INVALID_EXPIRE)
        return
    when += base
    cdef Element *e = find_key(c, c.argv[1])
    if e == NULL:
        reply_int(c.reply, 0)
        return
    current = key_deadline(k, e)
    # Without a deadline a key lives for ever: no time is greater, every time is less.
    if ((nx and current != -1) or (xx and current == -1)
            or (gt and (current == -1 or when <= current))
            or (lt and current != -1 and when >= current)):
        reply_int(c.reply, 0)
        return
    if when <= k.now:
        key_delete(k, c.db, e)
    else:
        if not c.client.flags & CLIENT_NO_TOUCH:
            key_touch(k, e)
        key_expire(k, c.db, e, when)
    reply_int(c.reply, 1)


cdef void expire(Call *c) noexcept nogil:
    expire_generic(c, c.kernel.now, 1)


cdef void pexpire(Call *c) noexcept nogil:
    expire_generic(c, c.kernel.now, 0)


cdef void expireat(Call *c) noexcept nogil:
    expire_generic(c, 0, 1)


cdef void pexpireat(Call *c) noexcept nogil:
    expire_generic(c, 0, 0)


cdef void ttl_generic(Call *c, int64_t base, int seconds) noexcept nogil:
    cdef Element *e = read_key(c, c.argv[1])
    cdef int64_t at
    if e == NULL:
        reply_int(c.reply, -2)
        return
    at = key_deadline(c.kernel, e)
    if at == -1:
        reply_int(c.reply, -1)
        return
    at = at - base if at > base else 0
    reply_int(c.reply, at // 1000 + (at % 1000 >= 500) if seconds else at)


cdef void ttl(Call *c) noexcept nogil:
    ttl_generic(c, c.kernel.now, 1)


cdef void pttl(Call *c) noexcept nogil:
    ttl_generic(c, c.kernel.now, 0)


cdef void expiretime(Call *c) noexcept nogil:
    ttl_generic(c, 0, 1)


cdef void pexpiretime(Call *c) noexcept nogil:
    ttl_generic(c, 0, 0)


cdef void persist(Call *c) noexcept nogil:
    cdef Element *e = find_key(c, c.argv[1])
    if e == NULL or key_deadline(c.kernel, e) == -1:
        reply_int(c.reply, 0)
        return
    key_expire(c.kernel, c.db, e, 0)
    reply_int(c.reply, 1)


# ---- walking the keyspace ------------------------------------------------------------------------
# By KeyType.
cdef const char *TYPE_WORDS[7]
TYPE_WORDS[:] = [b"STRING", b"HASH", b"SET", b"ZSET", b"LIST", b"", b"STREAM"]


# A cursor of SCAN that has come to keys which stay at home (core/home.pxi): beyond all cursors of
# tables.
cdef uint64_t SCAN_HOME = <uint64_t>1 << 40


cdef Element *next_shown(Kernel *k, uint32_t db, size_t *at, uint32_t *of) noexcept nogil:
    """A walk over the visible keys of a client's database while nothing changes: start with at = 0
    and of = HOME_DB + db; NULL at the end."""
    cdef Element *e
    while True:
        e = table_next(&k.db[of[0]].table, at)
        if e == NULL and of[0] == db:
            return NULL
        if e == NULL:
            of[0] = db
            at[0] = 0
        elif key_visible(k, e) and (of[0] != db
                                    or not is_hidden(k, db, element_name(e))):
            return e


cdef void visit_key(void *arg, Element *e) noexcept nogil:
    cdef Scan *s = <Scan*>arg
    if is_hidden(s.kernel, s.db, element_name(e)):
        e = home_find(s.kernel, s.db, element_name(e))
    if (scan_matches(s, e) and key_visible(s.kernel, e)
        and (s.type == -1 or key_type(s.kernel, e) == s.type)):
        scan_add(s, element_name(e))


cdef void keys(Call *c) noexcept nogil:
    cdef Scan s
    cdef size_t at = 0
    cdef uint32_t of = HOME_DB + c.db
    cdef Element *e
    scan_init(&s, c)
    scan_pattern(&s, c.argv[1])
    e = next_shown(c.kernel, c.db, &at, &of)
    while e != NULL:
        visit_key(&s, e)
        e = next_shown(c.kernel, c.db, &at, &of)
    scan_answer_found(&s, c.reply)


cdef void scan(Call *c) noexcept nogil:
    cdef Scan s
    cdef Span type = span(NULL, 0)
    cdef uint64_t cursor
    cdef int kind
    scan_init(&s, c)
    if not read_cursor(c, c.argv[1], &cursor) or not read_scan_options(c, 2, &s, &type):
        return
    if type.p != NULL:
        s.type = T_NONE                                 # an unknown type has no keys
        for kind in range(T_STREAM + 1):
            if is_word(type, TYPE_WORDS[kind]):
                s.type = kind
    if cursor < SCAN_HOME:
        cursor = scan_walk(&s, &c.kernel.db[c.db].table, cursor, visit_key)
        if cursor == 0 and table_count(&c.kernel.db[HOME_DB + c.db].table):
            cursor = SCAN_HOME
    else:
        cursor = scan_walk(&s, &c.kernel.db[HOME_DB + c.db].table, cursor - SCAN_HOME, visit_key)
        if cursor:
            cursor += SCAN_HOME
    scan_answer(&s, c.reply, cursor)


cdef void randomkey(Call *c) noexcept nogil:
    cdef Kernel *k = c.kernel
    cdef size_t home = k.db[HOME_DB + c.db].live, n = k.db[c.db].live + home
    cdef uint32_t first = HOME_DB + c.db if home and next_random(&k.seed) % n < home else c.db
    cdef Element *e = key_random(k, first)
    if e == NULL and home:
        e = key_random(k, c.db if first != c.db else HOME_DB + c.db)
    if e == NULL:
        reply_null(c.reply)
    else:
        reply_bulk(c.reply, element_key(e), element_klen(e))


cdef void dbsize(Call *c) noexcept nogil:
    reply_int(c.reply, c.kernel.db[c.db].live + c.kernel.db[HOME_DB + c.db].live)


# ---- moving and copying --------------------------------------------------------------------------
cdef void rename_generic(Call *c, int nx) noexcept nogil:
    cdef Kernel *k = c.kernel
    cdef Span source = c.argv[1], target = c.argv[2]
    cdef Element *e = find_key(c, source)
    if e == NULL:
        refuse(c, NO_SUCH_KEY)
        return
    if source.n == target.n and memcmp(source.p, target.p, source.n) == 0:
        if nx:
            reply_int(c.reply, 0)
        else:
            reply_ok(c.reply)
        return
    if nx and find_key(c, target) != NULL:
        reply_int(c.reply, 0)
        return
    if not key_copy(k, e, c.db, target, removal_size(k, e)):
        return
    key_delete(k, c.db, key_find(k, c.db, source))
    if nx:
        reply_int(c.reply, 1)
    else:
        reply_ok(c.reply)


cdef void rename(Call *c) noexcept nogil:
    rename_generic(c, 0)


cdef void renamenx(Call *c) noexcept nogil:
    rename_generic(c, 1)


cdef void copy(Call *c) noexcept nogil:
    cdef Kernel *k = c.kernel
    cdef Span source = c.argv[1], target = c.argv[2]
    cdef uint32_t db = c.db
    cdef int replace = 0, i = 3
    cdef Element *e
    while i < c.argc:
        if is_word(c.argv[i], "REPLACE"):
            replace = 1
        elif is_word(c.argv[i], "DB") and i + 1 < c.argc:
            i += 1
            if not read_db(c, c.argv[i], &db):
                return
        else:
            refuse_syntax(c)
            return
        i += 1
    if db == c.db and source.n == target.n and memcmp(source.p, target.p, source.n) == 0:
        refuse(c, SAME_OBJECT)
        return
    e = read_key(c, source)
    if e == NULL or (not replace and key_visible(k, key_find(k, db, target))):
        reply_int(c.reply, 0)
        return
    reply_int(c.reply, key_copy(k, e, db, target, 0))


cdef void move(Call *c) noexcept nogil:
    cdef Kernel *k = c.kernel
    cdef Span key = c.argv[1]
    cdef uint32_t db
    cdef Element *e
    if not read_db(c, c.argv[2], &db):
        return
    if db == c.db:
        refuse(c, SAME_OBJECT)
        return
    e = find_key(c, key)
    if e == NULL or key_visible(k, key_find(k, db, key)):
        reply_int(c.reply, 0)
        return
    if not key_copy(k, e, db, key, removal_size(k, e)):
        return
    key_delete(k, c.db, key_find(k, c.db, key))
    reply_int(c.reply, 1)


# One key of a database that SWAPDB carries over. Then come the key, and for each of its members (a
# string has one, without a name) the lengths of name and value, its deadline, -1: none, and both.
cdef struct Carried:
    int type
    size_t klen
    size_t members
    int64_t deadline
    # of a stream, whose groups and idempotent ids come last
    StreamId top
    StreamId max_deleted
    int64_t added
    size_t groups           # bytes
    size_t produced


cdef void carry(Buffer *b, Span name, Span value, int64_t deadline) noexcept nogil:
    buffer_add(b, &name.n, sizeof(size_t))
    buffer_add(b, &value.n, sizeof(size_t))
    buffer_add(b, &deadline, sizeof(int64_t))
    buffer_add(b, name.p, name.n)
    buffer_add(b, value.p, value.n)


cdef const char *carried(const char *p, Span *name, Span *value,
                         int64_t *deadline) noexcept nogil:
    memcpy(&name.n, p, sizeof(size_t))
    memcpy(&value.n, p + sizeof(size_t), sizeof(size_t))
    memcpy(deadline, p + 2 * sizeof(size_t), sizeof(int64_t))
    name.p = p + 2 * sizeof(size_t) + sizeof(int64_t)
    value.p = name.p + name.n
    return value.p + value.n


cdef size_t swap_size(Kernel *k, uint32_t db) noexcept nogil:
    """Bytes of the effects that carry over all of a database."""
    cdef size_t at = 0, bytes = flush_size(k, db)
    cdef uint32_t of = HOME_DB + db
    cdef Element *e = next_shown(k, db, &at, &of)
    while e != NULL:
        bytes += copy_size(k, e, element_klen(e))
        e = next_shown(k, db, &at, &of)
    return bytes


cdef void db_unload(Kernel *k, uint32_t db, Buffer *b) noexcept nogil:
    """Append every visible key to b, then flush the database, in the open op."""
    cdef size_t at = 0, begin, at_groups, at_produced
    cdef uint32_t of = HOME_DB + db
    cdef Carried head
    cdef Collection *stream
    cdef Walk w
    cdef Element *e = next_shown(k, db, &at, &of)
    memset(&head, 0, sizeof(Carried))
    while e != NULL:
        begin = b.n
        head.type = key_type(k, e)
        head.klen = element_klen(e)
        head.members = 0
        head.deadline = key_deadline(k, e)
        if head.type == T_STREAM:
            stream = key_collection(k, e, T_STREAM)
            head.top = stream_top(stream)
            head.max_deleted = stream_max_deleted(stream)
            head.added = <int64_t>stream_added(k, stream)
        buffer_add(b, &head, sizeof(head))
        buffer_add(b, element_key(e), head.klen)
        walk_shown(&w, k, e, WALK_FORWARDS)
        while walk_next(&w):
            carry(b, w.name if head.type != T_STRING else span(NULL, 0), walk_value(k, &w),
                  walk_deadline(k, &w))
            head.members += 1
        at_groups = b.n
        if head.type == T_STREAM:
            groups_carry(k, stream, b)
        at_produced = b.n
        if head.type == T_STREAM:
            produced_carry(k, stream, b)
        head.groups = at_produced - at_groups
        head.produced = b.n - at_produced
        memcpy(b.p + begin, &head, sizeof(head))
        e = next_shown(k, db, &at, &of)
    db_flush(k, db)


cdef void db_load(Kernel *k, uint32_t db, Buffer *b) noexcept nogil:
    cdef const char *p = b.p
    cdef const char *end = p + b.n
    cdef Carried head
    cdef Span key, name, value
    cdef Element *e
    cdef int64_t deadline
    cdef size_t i
    while p < end:
        memcpy(&head, p, sizeof(head))
        key = span(p + sizeof(head), head.klen)
        p = key.p + key.n
        e = key_find(k, db, key)
        for i in range(head.members):
            p = carried(p, &name, &value, &deadline)
            e = put_shown(k, db, key, e, head.type, i, name, value)
            if deadline >= 0:
                e = field_expire(k, db, key, e, name, deadline)
        if head.type == T_STREAM:
            e = stream_set_id(k, db, key, e, head.top, head.added, head.max_deleted)
            e = groups_put(k, db, key, e, span(p, head.groups))
            produced_load(k, db, key, e, span(p + head.groups, head.produced))
        p += head.groups + head.produced
        if head.deadline != -1:
            key_expire(k, db, key_find(k, db, key), head.deadline)


cdef void swapdb(Call *c) noexcept nogil:
    cdef Kernel *k = c.kernel
    cdef int64_t one, two
    cdef Buffer from_one, from_two
    if not parse_int64(c.argv[1].p, c.argv[1].n, &one) or one < -2147483648 or one > 2147483647:
        refuse(c, FIRST_DB)
        return
    if not parse_int64(c.argv[2].p, c.argv[2].n, &two) or two < -2147483648 or two > 2147483647:
        refuse(c, SECOND_DB)
        return
    if one < 0 or one >= SYSTEM_DB or two < 0 or two >= SYSTEM_DB:
        refuse(c, DB_INDEX)
        return
    if one != two:
        if not op_room(k, one, 0, 0, swap_size(k, one) + swap_size(k, two)):
            return
        memset(&from_one, 0, sizeof(Buffer))
        memset(&from_two, 0, sizeof(Buffer))
        db_unload(k, one, &from_one)
        db_unload(k, two, &from_two)
        db_load(k, two, &from_one)
        db_load(k, one, &from_two)
        buffer_free(&from_one)
        buffer_free(&from_two)
    reply_ok(c.reply)


# ---- flushing ------------------------------------------------------------------------------------
cdef void flush_generic(Call *c, uint32_t first, uint32_t last) noexcept nogil:
    cdef uint32_t db
    cdef size_t bytes = 0
    # ASYNC asks Redis to free memory in another thread. Here removal is an op like any other and
    # done when the reply leaves.
    if (c.argc > 2 or (c.argc == 2 and not is_word(c.argv[1], "ASYNC")
                       and not is_word(c.argv[1], "SYNC"))):
        refuse_syntax(c)
        return
    if c.client.flags & CLIENT_IN_EXEC:                 # where it cannot be cut: see core/sizes.pxi
        for db in range(first, last + 1):
            bytes += flush_size(c.kernel, db)
        if not op_room(c.kernel, first, 0, 0, bytes):
            return
    c.changes = 0
    for db in range(first, last + 1):
        c.changes += <int64_t>(c.kernel.db[db].live + c.kernel.db[HOME_DB + db].live)
        db_flush(c.kernel, db)
    track_flush(c.dispatch, caller_of(c.dispatch, c.client))
    reply_ok(c.reply)


cdef void flushdb(Call *c) noexcept nogil:
    flush_generic(c, c.db, c.db)


cdef void flushall(Call *c) noexcept nogil:
    flush_generic(c, 0, SYSTEM_DB - 1)


# ---- for Python commands ------------------------------------------------------------------------
def matches(bytes pattern not None, bytes text not None, bint nocase=False):
    """Whether the whole text matches the glob pattern; nocase folds ASCII letters. At most
    len(pattern) * len(text) steps, and GLOB_STEPS about."""
    cdef int64_t left = GLOB_STEPS
    return (glob_is_all(pattern, len(pattern))
            or bool(glob_match(pattern, len(pattern), text, len(text), nocase, &left)))


# ---- registration --------------------------------------------------------------------------------
_of_one_key = partial(command, keys=(1, 1, 1), group="generic")
_of_keys = partial(command, keys=(1, -1, 1), group="generic")
DELETES = ("Removes what this replica had seen. A concurrent write survives; a counter keeps "
           "concurrent increments.")
DEADLINES = ("The deadline is a register: of concurrent EXPIRE, PERSIST and SET the later "
             "timestamp decides it. The value is not touched. "
             "A time in the past deletes what this replica had seen.")
RENAMES = ("The target gets what this replica had seen, in one op with the removal. A concurrent "
           "write to the source survives under the source.")
FLUSHES = "Removes what this replica had seen. A concurrent write survives."

_of_keys("DEL key...", arity=-2, flags="write", access="RM delete", since="1.0.0",
        complexity="O(N) with the number of keys",
        tips="request_policy:multi_shard response_policy:agg_sum",
        summary="Deletes keys; answers how many there were.", replicas=DELETES)(native(del_))
_of_keys("UNLINK key...", arity=-2, flags="write fast", access="RM delete", since="4.0.0",
        complexity="O(1) per key", tips="request_policy:multi_shard response_policy:agg_sum",
        summary="Deletes keys; the same as DEL.", replicas=DELETES)(native(del_))
_of_keys("EXISTS key...", arity=-2, flags="readonly fast", access="RO", since="1.0.0",
        complexity="O(N) with the number of keys",
        tips="request_policy:multi_shard response_policy:agg_sum",
        summary="Counts how many of the named keys exist; one named twice counts twice.")(
        native(exists))
_of_keys("TOUCH key...", arity=-2, flags="readonly fast", access="RO", since="3.2.1",
        complexity="O(N) with the number of keys",
        tips="request_policy:multi_shard response_policy:agg_sum",
        summary="Sets the access time of keys; answers how many exist.")(native(touch))
_of_one_key("TYPE key", arity=2, flags="readonly fast", access="RO", since="1.0.0",
        summary="The type of the value under a key.")(native(type_))

_of_one_key("EXPIRE key seconds [NX | XX | GT | LT]", arity=-3, flags="write fast",
        access="RW update", since="1.0.0", summary="Sets a key's time to live in seconds.",
        replicas=DEADLINES)(native(expire))
_of_one_key("PEXPIRE key milliseconds [NX | XX | GT | LT]", arity=-3, flags="write fast",
        access="RW update", since="2.6.0", summary="Sets a key's time to live in milliseconds.",
        replicas=DEADLINES)(native(pexpire))
_of_one_key("EXPIREAT key unix-time-seconds [NX | XX | GT | LT]", arity=-3, flags="write fast",
        access="RW update", since="1.2.0",
        summary="Sets a key's deadline as a Unix time in seconds.",
        replicas=DEADLINES)(native(expireat))
_of_one_key("PEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT]", arity=-3,
        flags="write fast", access="RW update", since="2.6.0",
        summary="Sets a key's deadline as a Unix time in milliseconds.",
        replicas=DEADLINES)(native(pexpireat))
_of_one_key("PERSIST key", arity=2, flags="write fast", access="RW update", since="2.2.0",
        summary="Removes a key's deadline.", replicas=DEADLINES)(native(persist))
_of_one_key("TTL key", arity=2, flags="readonly fast", since="1.0.0",
        tips="nondeterministic_output",
        summary="Seconds until a key expires; -1 without a deadline, -2 without the key.")(
        native(ttl))
_of_one_key("PTTL key", arity=2, flags="readonly fast", since="2.6.0",
        tips="nondeterministic_output",
        summary="Milliseconds until a key expires; -1 without a deadline, -2 without the key.")(
        native(pttl))
_of_one_key("EXPIRETIME key", arity=2, flags="readonly fast", since="7.0.0",
        summary="A key's deadline as a Unix time in seconds.")(native(expiretime))
_of_one_key("PEXPIRETIME key", arity=2, flags="readonly fast", since="7.0.0",
        summary="A key's deadline as a Unix time in milliseconds.")(native(pexpiretime))

command("KEYS pattern", arity=2, flags="readonly", group="generic", since="1.0.0",
        complexity="O(N) with the keys in the database",
        tips="request_policy:all_shards nondeterministic_output_order", categories="dangerous",
        summary="Every key whose name matches a pattern.")(native(keys))
command("SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]", arity=-2, flags="readonly",
        group="generic", since="2.8.0", complexity="O(1) per call, O(N) for a whole iteration",
        tips="nondeterministic_output request_policy:special",
        summary="Iterates over the keys of the database.")(native(scan))
command("RANDOMKEY", arity=1, flags="readonly", group="generic", since="1.0.0",
        tips="request_policy:all_shards nondeterministic_output",
        summary="A key chosen at random.")(native(randomkey))
command("DBSIZE", arity=1, flags="readonly fast", group="server", since="1.0.0",
        tips="request_policy:all_shards response_policy:agg_sum", categories="keyspace read",
        summary="The number of keys in the database.")(native(dbsize))

command("RENAME key newkey", arity=3, flags="write one_change",
        keys=[KeyRange("RW access delete", 1), KeyRange("OW update", 2)], group="generic",
        since="1.0.0", complexity="O(size of the value)",
        summary="Renames a key over whatever has the new name.", replicas=RENAMES)(native(rename))
command("RENAMENX key newkey", arity=3, flags="write fast one_change",
        keys=[KeyRange("RW access delete", 1), KeyRange("OW insert", 2)], group="generic",
        since="1.0.0", complexity="O(size of the value)",
        summary="Renames a key if nothing has the new name.",
        replicas=(RENAMES + " Whether the new name is free is decided here alone: two replicas "
                  "can both succeed."))(native(renamenx))
command("COPY source destination [DB destination-db] [REPLACE]", arity=-3,
        flags="write denyoom one_change", keys=[KeyRange("RO access", 1), KeyRange("OW update", 2)],
        group="generic", since="6.2.0", complexity="O(size of the value)",
        summary="Copies the value and deadline of a key to another key.",
        replicas="The target is assigned the value that this replica had seen: a register write, "
                 "the later timestamp wins.")(native(copy))
command("MOVE key db", arity=3, flags="write fast one_change", keys=(1, 1, 1),
        access="RW access update", group="generic", since="1.0.0",
        complexity="O(size of the value)", summary="Moves a key to another database.",
        replicas=RENAMES)(native(move))
command("SWAPDB index1 index2", arity=3, flags="write fast one_change", group="server",
        since="4.0.0", complexity="O(N) with the keys in both databases",
        categories="keyspace dangerous", summary="Exchanges two databases.",
        replicas="One op that exchanges what this replica had seen. A concurrent write stays in "
                 "the database it was made in.")(native(swapdb))
command("FLUSHDB [ASYNC | SYNC]", arity=-1, flags="write", group="server", since="1.0.0",
        complexity="O(N) with the keys in the database",
        tips="request_policy:all_shards response_policy:all_succeeded",
        categories="keyspace dangerous", summary="Removes every key of the database.",
        replicas=FLUSHES)(native(flushdb))
command("FLUSHALL [ASYNC | SYNC]", arity=-1, flags="write", group="server", since="1.0.0",
        complexity="O(N) with the keys in all databases",
        tips="request_policy:all_shards response_policy:all_succeeded",
        categories="keyspace dangerous", summary="Removes every key of every database.",
        replicas=FLUSHES)(native(flushall))
