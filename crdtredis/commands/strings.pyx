"""String commands: SET and GET and their kin.

A handler looks its key up, decides, makes at most one kernel call per key, and answers. Options,
replies, error texts and the order in which errors are found are those of Redis 7.2, and of 8.4 and
8.8 where a command or option is newer.

What replicates is the outcome, never the command: a value as a whole (SET: one register, so of two
concurrent writes the later timestamp wins), a change of a part of it (APPEND, SETRANGE, which all
merge: core/patches.pxi), an increment (INCR and its kin: concurrent ones add up), a deadline in ms
since 1970, a removal.

A deadline that has already passed (SET EXAT, GETEX PXAT) is a removal, on the spot. A command that
would change nothing (APPEND of nothing to a key that is there, SETRANGE of nothing, PERSIST without
a deadline) makes no effect.

A condition (NX, IFEQ and its like) is about what this replica shows. What it lets through is the
plain write, so two replicas can both succeed.
"""
from libc.stddef cimport size_t
from libc.stdint cimport INT32_MAX, int64_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp, memcpy

from crdtredis._core cimport (EFFECT_ROOM, T_NONE, T_STRING, Element, key_deadline, key_delete,
                              key_expire, key_find, key_modified, key_type, key_visible, op_room,
                              remainder_size, removal_size, string_change, string_set, string_view)
from crdtredis._engine cimport (CLIENT_IN_EXEC, Call, is_word, native, refuse, refuse_arity,
                                refuse_type)
from crdtredis._resp cimport reply_array, reply_bulk, reply_int, reply_null, reply_ok
from crdtredis.buffer cimport Buffer, Span, buffer_free, span
from crdtredis.commands.common cimport (FOUND, MISSING, REFUSED, args_size, clamp_range, copy_grown,
                                        find_string, prefetch_keys, read_deadline, read_int,
                                        read_string, size_allowed, touch)
from crdtredis.commands.options cimport (O_COMPARES, O_CONDITIONS, O_EXISTENCE, O_EXPIRES, O_GET,
                                         O_IFDEQ, O_IFDNE, O_IFEQ, O_IFNE, O_KEEPTTL, O_NX,
                                         O_OF_GETEX, O_OF_MSETEX, O_OF_SET, O_PERSIST, O_XX,
                                         Options, drop, option, option_deadline, read_options)
from crdtredis.errors cimport (DELEX_CONDITION, DELEX_NOT_STRING, DIGEST_LENGTH, MSETEX_NUMKEYS,
                               MSETEX_PAIRS, OFFSET_RANGE)
from crdtredis.numbers cimport parse_int64
from crdtredis.xxh3 cimport xxh3

from crdtredis.commands.table import CountedKeys, command


# ---- values --------------------------------------------------------------------------------------
cdef void store_until(Call *c, Span key, Element *e, Span value, int64_t deadline) noexcept nogil:
    """key := value, until the deadline; e is what key_find gave."""
    if deadline <= c.kernel.now:
        drop(c, e)
        return
    string_set(c.kernel, c.db, key, e, value, 0)
    key_expire(c.kernel, c.db, key_find(c.kernel, c.db, key), deadline)


cdef inline void reply_value(Call *c, Element *e) noexcept nogil:
    cdef Span v = string_view(c.kernel, e)
    reply_bulk(c.reply, v.p, v.n)


cdef int reply_old(Call *c, Element **e) noexcept nogil:
    """Answer the string under argv[1], or null; 0 after a refusal."""
    cdef int found = read_string(c, 1, e)
    if found == FOUND:
        reply_value(c, e[0])
    elif found == MISSING:
        reply_null(c.reply)
    return found != REFUSED


# ---- conditions ----------------------------------------------------------------------------------
cdef void write_digest(Span v, const char *format, char *out) noexcept nogil:
    """Sixteen digits and a NUL."""
    snprintf(out, 17, format, <unsigned long long>xxh3(v.p, v.n))


cdef int compare(Call *c, Element *e, Options *options) noexcept nogil:
    """Is the string under a key what IFEQ or IFDEQ asks for, or not what IFNE or IFDNE does not
    want? REFUSED after a refusal."""
    cdef char digest[17]
    cdef Span v = string_view(c.kernel, e), wanted = options.compared
    cdef int same
    if options.given & (O_IFDEQ | O_IFDNE):
        if wanted.n != 16:
            refuse(c, DIGEST_LENGTH)
            return REFUSED
        write_digest(v, b"%016llX", digest)
        same = is_word(wanted, digest)
    else:
        same = v.n == wanted.n and (v.n == 0 or memcmp(v.p, wanted.p, v.n) == 0)
    return same == (options.given & (O_IFEQ | O_IFDEQ) != 0)


cdef int holds(Call *c, Element *e, Options *options) noexcept nogil:
    """Whether SET's condition holds for what e shows; REFUSED after a refusal."""
    cdef int type
    if options.given & O_EXISTENCE:
        return key_visible(c.kernel, e) == (options.given & O_XX != 0)
    if not options.given & O_COMPARES:
        return 1
    type = key_type(c.kernel, e)
    if type == T_NONE:
        return options.given & (O_IFNE | O_IFDNE) != 0
    if type == T_STRING:
        return compare(c, e, options)
    refuse_type(c)
    return REFUSED


cdef void delete_if(Call *c, Element *e, Options *options) noexcept nogil:
    """Deletes the string under argv[1] where the condition holds; answers 1 or 0."""
    cdef int held = compare(c, e, options)
    if held == REFUSED:
        return
    if held:
        key_delete(c.kernel, c.db, e)
    reply_int(c.reply, held)


cdef void delex(Call *c) noexcept nogil:
    cdef Options options
    cdef Element *e = key_find(c.kernel, c.db, c.argv[1])
    if c.argc != 2 and c.argc != 4:
        refuse_arity(c)
    elif not key_visible(c.kernel, e):
        reply_int(c.reply, 0)
    elif c.argc == 2:
        if (c.client.flags & CLIENT_IN_EXEC             # where it cannot be cut: see DEL
                and not op_room(c.kernel, c.db, 0, 0, removal_size(c.kernel, e))):
            return
        key_delete(c.kernel, c.db, e)
        reply_int(c.reply, 1)
    elif key_type(c.kernel, e) != T_STRING:
        refuse(c, DELEX_NOT_STRING)
    else:
        options.given = option(c.argv[2]) & O_COMPARES
        options.compared = c.argv[3]
        if options.given:
            delete_if(c, e, &options)
        else:
            refuse(c, DELEX_CONDITION)


cdef void delifeq(Call *c) noexcept nogil:
    cdef Options options
    cdef Element *e
    cdef int found = find_string(c, 1, &e)
    options.given = O_IFEQ
    options.compared = c.argv[2]
    if found == FOUND:
        delete_if(c, e, &options)
    elif found == MISSING:
        reply_int(c.reply, 0)


cdef void digest(Call *c) noexcept nogil:
    cdef char text[17]
    cdef Element *e
    cdef int found = read_string(c, 1, &e)
    if found == FOUND:
        write_digest(string_view(c.kernel, e), b"%016llx", text)
        reply_bulk(c.reply, text, 16)
    elif found == MISSING:
        reply_null(c.reply)


# ---- SET and its kin -----------------------------------------------------------------------------
cdef void set_(Call *c) noexcept nogil:
    cdef Options options
    cdef int64_t deadline = 0
    cdef int held = 1
    cdef Element *e
    options.given = 0
    if c.argc > 3 and not (read_options(c, 3, O_OF_SET, &options)
                           and option_deadline(c, &options, &deadline)):
        return
    e = key_find(c.kernel, c.db, c.argv[1])
    if options.given & O_CONDITIONS:
        held = holds(c, e, &options)
    if held == REFUSED or options.given & O_GET and not reply_old(c, &e):
        return
    if held and options.given & O_EXPIRES:
        store_until(c, c.argv[1], e, c.argv[2], deadline)
    elif held:
        string_set(c.kernel, c.db, c.argv[1], e, c.argv[2], options.given & O_KEEPTTL)
    if options.given & O_GET:
        return
    if held:
        reply_ok(c.reply)
    else:
        reply_null(c.reply)


cdef void setnx(Call *c) noexcept nogil:
    cdef Element *e = key_find(c.kernel, c.db, c.argv[1])
    cdef int there = key_visible(c.kernel, e)
    if not there:
        string_set(c.kernel, c.db, c.argv[1], e, c.argv[2], 0)
    reply_int(c.reply, not there)


cdef void set_for(Call *c, int64_t unit) noexcept nogil:
    cdef int64_t deadline
    if not read_deadline(c, c.argv[2], unit, 1, &deadline):
        return
    store_until(c, c.argv[1], key_find(c.kernel, c.db, c.argv[1]), c.argv[3], deadline)
    reply_ok(c.reply)


cdef void setex(Call *c) noexcept nogil:
    set_for(c, 1000)


cdef void psetex(Call *c) noexcept nogil:
    set_for(c, 1)


cdef void getset(Call *c) noexcept nogil:
    cdef Element *e
    if reply_old(c, &e):
        string_set(c.kernel, c.db, c.argv[1], e, c.argv[2], 0)


cdef int pairs_fit(Call *c, int first, int end) noexcept nogil:
    """Is there room in the op for all that is to be set, argv[first:end], with a deadline, and for
    the removal of what has expired there? Where not, the client is told."""
    cdef size_t bytes = args_size(c, first)
    cdef int i
    for i in range(first, end, 2):
        bytes += 2 * (EFFECT_ROOM + c.argv[i].n)
        bytes += remainder_size(c.kernel, c.db, key_find(c.kernel, c.db, c.argv[i]))
    return op_room(c.kernel, c.db, (end - first) // 2, 0, bytes)


cdef int any_there(Call *c, int first, int end, int wanted) noexcept nogil:
    """Is there, of the keys argv[first:end:2], one that is there (wanted), or one that is not?"""
    cdef int i
    for i in range(first, end, 2):
        prefetch_keys(c, i, 2)
        if key_visible(c.kernel, key_find(c.kernel, c.db, c.argv[i])) == wanted:
            return 1
    return 0


cdef void msetex(Call *c) noexcept nogil:
    cdef Options options
    cdef int64_t n, deadline = 0
    cdef int i, end
    cdef Element *e
    if not parse_int64(c.argv[1].p, c.argv[1].n, &n) or n < 1 or n > INT32_MAX:
        refuse(c, MSETEX_NUMKEYS)
        return
    if n > (c.argc - 2) // 2:
        refuse(c, MSETEX_PAIRS)
        return
    end = 2 + 2 * <int>n
    if (not read_options(c, end, O_OF_MSETEX, &options)
            or not option_deadline(c, &options, &deadline)):
        return
    if options.given & O_EXISTENCE and any_there(c, 2, end, options.given & O_NX != 0):
        reply_int(c.reply, 0)
        return
    if not pairs_fit(c, 2, end):
        return
    for i in range(2, end, 2):
        prefetch_keys(c, i, 2)
        e = key_find(c.kernel, c.db, c.argv[i])
        if options.given & O_EXPIRES:
            store_until(c, c.argv[i], e, c.argv[i + 1], deadline)
        else:
            string_set(c.kernel, c.db, c.argv[i], e, c.argv[i + 1], options.given & O_KEEPTTL)
    c.changes = n
    reply_int(c.reply, 1)


cdef void mset(Call *c) noexcept nogil:
    cdef int i
    if c.argc % 2 == 0:
        refuse_arity(c)
        return
    if not pairs_fit(c, 1, c.argc):
        return
    for i in range(1, c.argc, 2):
        prefetch_keys(c, i, 2)
        string_set(c.kernel, c.db, c.argv[i], key_find(c.kernel, c.db, c.argv[i]), c.argv[i + 1], 0)
    reply_ok(c.reply)


cdef void msetnx(Call *c) noexcept nogil:
    cdef int i
    if c.argc % 2 == 0:
        refuse_arity(c)
        return
    if any_there(c, 1, c.argc, 1):
        reply_int(c.reply, 0)
        return
    if not pairs_fit(c, 1, c.argc):
        return
    for i in range(1, c.argc, 2):
        prefetch_keys(c, i, 2)
        string_set(c.kernel, c.db, c.argv[i], key_find(c.kernel, c.db, c.argv[i]), c.argv[i + 1], 0)
    reply_int(c.reply, 1)


# ---- GET and its kin -----------------------------------------------------------------------------
cdef void get(Call *c) noexcept nogil:
    cdef Element *e
    reply_old(c, &e)


cdef void getdel(Call *c) noexcept nogil:
    cdef Element *e
    if reply_old(c, &e):
        drop(c, e)


cdef void getex(Call *c) noexcept nogil:
    cdef Options options
    cdef int64_t deadline = 0
    cdef Element *e
    cdef int found
    if not read_options(c, 2, O_OF_GETEX, &options):
        return
    found = read_string(c, 1, &e)
    if found != FOUND:
        if found == MISSING:
            reply_null(c.reply)
        return
    if not option_deadline(c, &options, &deadline):
        return
    reply_value(c, e)
    if options.given & O_EXPIRES:
        if deadline <= c.kernel.now:
            key_delete(c.kernel, c.db, e)
        else:
            key_expire(c.kernel, c.db, e, deadline)
    elif options.given & O_PERSIST and key_deadline(c.kernel, e) >= 0:
        key_expire(c.kernel, c.db, e, 0)


cdef void mget(Call *c) noexcept nogil:
    cdef int i, type
    cdef Element *e
    reply_array(c.reply, c.argc - 1)
    for i in range(1, c.argc):
        prefetch_keys(c, i, 1)
        e = key_find(c.kernel, c.db, c.argv[i])
        type = key_type(c.kernel, e)
        if type == T_NONE:
            c.stats.misses += 1
        else:
            c.stats.hits += 1
        if type == T_STRING:
            touch(c, e)
            reply_value(c, e)
        else:
            reply_null(c.reply)


cdef void strlen_(Call *c) noexcept nogil:
    cdef Element *e
    cdef int found = read_string(c, 1, &e)
    if found != REFUSED:
        reply_int(c.reply, <int64_t>string_view(c.kernel, e).n if found else 0)


cdef void getrange(Call *c) noexcept nogil:
    cdef int64_t first, last
    cdef Element *e
    cdef Span v
    if not read_int(c, c.argv[2], &first) or not read_int(c, c.argv[3], &last):
        return
    cdef int found = read_string(c, 1, &e)
    if found == REFUSED:
        return
    v = string_view(c.kernel, e) if found else span(b"", 0)
    if first < 0 and last < 0 and first > last:
        v.n = 0
    clamp_range(&first, &last, <int64_t>v.n)
    if v.n == 0 or first > last:
        reply_bulk(c.reply, b"", 0)
    else:
        reply_bulk(c.reply, v.p + first, last - first + 1)


# ---- changing a part -----------------------------------------------------------------------------
cdef void append(Call *c) noexcept nogil:
    cdef Element *e
    cdef Span tail = c.argv[2], v
    cdef Buffer b
    cdef int found = find_string(c, 1, &e)
    if found == REFUSED:
        return
    if found == MISSING:
        if not string_change(c.kernel, c.db, c.argv[1], e, 1, 0, tail, 0):
            string_set(c.kernel, c.db, c.argv[1], e, tail, 1)
        reply_int(c.reply, tail.n)
        return
    v = string_view(c.kernel, e)
    if not size_allowed(c, v.n + tail.n):
        return
    reply_int(c.reply, v.n + tail.n)
    if tail.n and string_change(c.kernel, c.db, c.argv[1], e, 1, v.n, tail, 0):
        pass
    elif tail.n:
        b = copy_grown(v, v.n + tail.n)
        memcpy(b.p + v.n, tail.p, tail.n)
        string_set(c.kernel, c.db, c.argv[1], e, span(b.p, b.n), 1)
        buffer_free(&b)
    else:
        key_modified(c.kernel, c.db, c.argv[1])     # to whoever watches it, as in Redis
        c.changes = 1


cdef void setrange(Call *c) noexcept nogil:
    cdef int64_t offset
    cdef Element *e
    cdef Span part = c.argv[3], v
    cdef Buffer b
    cdef int found
    if not read_int(c, c.argv[2], &offset):
        return
    if offset < 0:
        refuse(c, OFFSET_RANGE)
        return
    found = find_string(c, 1, &e)
    if found == REFUSED:
        return
    v = string_view(c.kernel, e) if found else span(b"", 0)
    if part.n == 0:
        reply_int(c.reply, v.n)
        return
    if not size_allowed(c, <size_t>offset + part.n):
        return
    if string_change(c.kernel, c.db, c.argv[1], e, 0, <uint64_t>offset * 8, part, 0):
        reply_int(c.reply, max(v.n, <size_t>offset + part.n))
        return
    b = copy_grown(v, <size_t>offset + part.n)
    memcpy(b.p + offset, part.p, part.n)
    string_set(c.kernel, c.db, c.argv[1], e, span(b.p, b.n), 1)
    reply_int(c.reply, b.n)
    buffer_free(&b)


# ---- registration --------------------------------------------------------------------------------
ONE_REGISTER = ("The value is one register: of concurrent writes the one with the later timestamp "
                "wins as a whole.")
LOCAL_TEST = ("The test is local: two replicas can both succeed concurrently, and then the later "
              "timestamp wins.")
OBSERVED = ("The condition is about what this replica shows: two replicas can both succeed "
            "concurrently. ")

def _access_of_set(argv: list[bytes]) -> str:
    reading = {b"GET", b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE"}
    return "RW access update" if reading & {a.upper() for a in argv[3:]} else "OW update"


def _access_of_delex(argv: list[bytes]) -> str:
    return "RW access delete" if len(argv) > 2 else "RM delete"


command("SET key value [NX | XX | IFEQ ifeq-value | IFNE ifne-value | IFDEQ ifdeq-digest | IFDNE "
        "ifdne-digest] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds | "
        "PXAT unix-time-milliseconds | KEEPTTL]", arity=-3, flags="write denyoom one_change",
        keys=(1, 1, 1), access="RW access update variable_flags", access_of=_access_of_set,
        group="string", since="1.0.0",
        summary="Sets a key to a string, whatever it held before, and its lifetime if one is "
                "given.",
        replicas=(ONE_REGISTER + " An increment made meanwhile survives on top of a number. NX, "
                  "XX, GET, IFEQ, IFNE, IFDEQ and IFDNE look at this replica only: two "
                  "replicas can both succeed."))(native(set_))
command("SETNX key value", arity=3, flags="write denyoom fast", keys=(1, 1, 1), access="OW insert",
        group="string", since="1.0.0", summary="Sets a key to a string if the key is not there.",
        replicas=LOCAL_TEST)(native(setnx))
command("SETEX key seconds value", arity=4, flags="write denyoom one_change", keys=(1, 1, 1),
        access="OW update", group="string", since="2.0.0",
        summary="Sets a key to a string and its lifetime in seconds.",
        replicas=ONE_REGISTER + " The deadline is a register of its own.")(native(setex))
command("PSETEX key milliseconds value", arity=4, flags="write denyoom one_change", keys=(1, 1, 1),
        access="OW update", group="string", since="2.6.0",
        summary="Sets a key to a string and its lifetime in milliseconds.",
        replicas=ONE_REGISTER + " The deadline is a register of its own.")(native(psetex))
command("GETSET key value", arity=3, flags="write denyoom fast", keys=(1, 1, 1),
        access="RW access update", group="string", since="1.0.0",
        summary="Sets a key to a string and answers the one it held.",
        replicas=(ONE_REGISTER + " The old value is this replica's: two replicas can both be "
                  "given the same one."))(native(getset))
command("MSET <key value>...", arity=-3, flags="write denyoom", keys=(1, -1, 2), access="OW update",
        group="string", since="1.0.1", complexity="O(N) with N keys",
        tips="request_policy:multi_shard response_policy:all_succeeded",
        summary="Sets several keys to strings at once.",
        replicas="Every replica applies all of its writes at once. Each key is a register of its "
                 "own: the later timestamp wins.")(native(mset))
command("MSETNX <key value>...", arity=-3, flags="write denyoom", keys=(1, -1, 2),
        access="OW insert", group="string", since="1.0.1", complexity="O(N) with N keys",
        tips="request_policy:multi_shard response_policy:agg_min",
        summary="Sets several keys to strings at once if none of them is there.",
        replicas=LOCAL_TEST + " Every replica applies all of its writes at once.")(native(msetnx))
command("MSETEX numkeys <key value>... [NX | XX] [EX seconds | PX milliseconds | EXAT "
        "unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]", arity=-4,
        flags="write denyoom", keys=[CountedKeys("OW update", 1, step=2)], group="string",
        since="8.4.0", complexity="O(N) with N keys",
        tips="request_policy:multi_shard response_policy:all_succeeded",
        summary="Sets several keys to strings at once, if none or all of them are there, with one "
                "lifetime for all.",
        replicas="Every replica applies all of its writes at once. Each key is a register of its "
                 "own: the later timestamp wins. NX and XX look at this replica only.")(
        native(msetex))
command("DELEX key [IFEQ ifeq-value | IFNE ifne-value | IFDEQ ifdeq-digest | IFDNE ifdne-digest]",
        arity=-2, flags="write fast one_change", keys=(1, 1, 1),
        access="RW access delete variable_flags", access_of=_access_of_delex, group="string",
        since="8.4.0",
        complexity="O(1) for IFEQ and IFNE, O(N) for IFDEQ and IFDNE with N bytes of the value",
        summary="Deletes a key if its value, or the digest of it, is a given one, or is not.",
        replicas=OBSERVED + "A concurrent write survives the removal.")(native(delex))
command("DELIFEQ key value", arity=3, flags="write fast", keys=(1, 1, 1), access="RM delete",
        group="string", since="9.0.0", summary="Deletes a key if its value is the given one.",
        replicas=OBSERVED + "A concurrent write survives the removal.")(native(delifeq))
command("DIGEST key", arity=2, flags="readonly fast", keys=(1, 1, 1), group="string",
        since="8.4.0", complexity="O(N) with N bytes of the value",
        summary="Answers the XXH3 of the string that a key holds, in 16 hexadecimal digits.")(
        native(digest))
command("GET key", arity=2, flags="readonly fast", keys=(1, 1, 1), group="string", since="1.0.0",
        summary="Answers the string that a key holds.")(native(get))
command("GETDEL key", arity=2, flags="write fast", keys=(1, 1, 1), access="RW access delete",
        group="string", since="6.2.0",
        summary="Answers the string that a key holds, and removes the key.",
        replicas="Two replicas can both be given the value. A concurrent write survives the "
                 "removal.")(native(getdel))
command("GETEX key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT "
        "unix-time-milliseconds | PERSIST]", arity=-2, flags="write fast one_change",
        keys=(1, 1, 1), access="RW access update", group="string", since="6.2.0",
        summary="Answers the string that a key holds, and sets or removes its lifetime.",
        replicas="The deadline is a register: of concurrent changes the one with the later "
                 "timestamp wins.")(native(getex))
command("MGET key...", arity=-2, flags="readonly fast", keys=(1, -1, 1), group="string",
        since="1.0.0", complexity="O(N) with N keys", tips="request_policy:multi_shard",
        summary="Answers the strings that several keys hold.")(native(mget))
command("STRLEN key", arity=2, flags="readonly fast", keys=(1, 1, 1), access="RO", group="string",
        since="2.2.0",
        summary="Answers the length of the string that a key holds, in bytes.")(native(strlen_))
command("GETRANGE key start end", arity=4, flags="readonly", keys=(1, 1, 1), group="string",
        since="2.4.0", complexity="O(N) with N bytes answered",
        summary="Answers a part of the string that a key holds.")(native(getrange))
command("SUBSTR key start end", arity=4, flags="readonly", keys=(1, 1, 1), group="string",
        since="1.0.0", complexity="O(N) with N bytes answered",
        summary="GETRANGE by its old name.")(native(getrange))
command("APPEND key value", arity=3, flags="write denyoom fast one_change", keys=(1, 1, 1),
        access="RW insert", group="string", since="2.0.0",
        summary="Appends to the string that a key holds.",
        replicas=("Of concurrent ones all are kept, the one with the earlier timestamp first. It "
                  "goes with the value that it was made in."))(native(append))
command("SETRANGE key offset value", arity=4, flags="write denyoom one_change", keys=(1, 1, 1),
        access="RW update", group="string", since="2.2.0",
        complexity="O(N) with N bytes of the part",
        summary="Overwrites a part of the string that a key holds.",
        replicas=("Concurrent changes of different bytes are all kept; of the same byte the one "
                  "with the later timestamp wins. It goes with the value that it was made in."))(
        native(setrange))
