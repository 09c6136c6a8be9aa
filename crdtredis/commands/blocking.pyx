"""Commands that wait until there is something to take: BLPOP and its like for lists and sorted
sets.

Each takes what its first key that is there holds, like the command that does not block, by the same
function. Where nothing is there the client waits, and the handler is called again when one of the
keys may hold something (engine/serving.pxi says when, and for whom first). Then keys of another
type count as missing: only the call itself is refused for them. Inside EXEC nobody waits: nothing
is answered at once.

    A: BLPOP q 0, waiting   ||   B: BLPOP q 0, waiting;   C: RPUSH q job     -> once the push has
                            reached both, both have the job

An element is taken at the replica that serves the client, by an op that the others learn of like
any other. So a queue whose every job must be done once has its workers at one replica; a job pushed
there is, as a rule, taken before another replica hears of it.
"""
from libc.math cimport ceill
from libc.stdint cimport INT64_MAX, int64_t, uint64_t

from crdtredis._core cimport T_LIST, T_ZSET, Collection, Element
from crdtredis._engine cimport CLIENT_IN_EXEC, Call, native, refuse, wait_for_keys
from crdtredis._resp cimport reply_array, reply_bulk, reply_null, reply_null_array
from crdtredis.buffer cimport Span
from crdtredis.commands cimport lists, zsets
from crdtredis.commands.common cimport FOUND, MISSING, REFUSED
from crdtredis.commands.lists cimport Moves
from crdtredis.commands.members cimport find_first, read_pops
from crdtredis.errors cimport TIMEOUT_NEGATIVE, TIMEOUT_NOT_FLOAT, TIMEOUT_OUT_OF_RANGE
from crdtredis.numbers cimport parse_long_double

from crdtredis.commands.table import CountedKeys, KeyRange, command


cdef int read_timeout(Call *c, Span arg, int64_t *ms) noexcept nogil:
    """Seconds, perhaps with a fraction, as milliseconds, rounded up; 0: no limit. 0 after a
    refusal."""
    cdef long double seconds
    if c.client.wait != NULL:                   # it has been read
        ms[0] = 0
        return 1
    if not parse_long_double(arg.p, arg.n, &seconds):
        refuse(c, TIMEOUT_NOT_FLOAT)
        return 0
    seconds = ceill(seconds * 1000)
    if seconds < 0:
        refuse(c, TIMEOUT_NEGATIVE)
        return 0
    if seconds > <long double>(INT64_MAX - c.kernel.now):
        refuse(c, TIMEOUT_OUT_OF_RANGE)
        return 0
    ms[0] = <int64_t>seconds
    return 1


cdef void wait(Call *c, int type, int first, int n, int64_t timeout_ms) noexcept nogil:
    if c.client.flags & CLIENT_IN_EXEC:
        reply_null_array(c.reply)
    else:
        wait_for_keys(c, type, first, n, timeout_ms)


# ---- popping -------------------------------------------------------------------------------------
cdef void pop_one(Call *c, int type, int last) noexcept nogil:
    """BLPOP and its like. last: from the tail, or the greatest score."""
    cdef Element *e
    cdef Collection *s
    cdef int64_t timeout
    cdef int i, found
    if not read_timeout(c, c.argv[c.argc - 1], &timeout):
        return
    found = find_first(c, type, 1, c.argc - 2, &i, &e, &s)
    if found == FOUND:
        reply_array(c.reply, 2 if type == T_LIST else 3)
        reply_bulk(c.reply, c.argv[i].p, c.argv[i].n)
        if type == T_LIST:
            lists.pop(c, c.argv[i], e, 1, last)
        else:
            zsets.pop_one(c, c.argv[i], e, s, last)
    elif found == MISSING:
        wait(c, type, 1, c.argc - 2, timeout)


cdef void pop_several(Call *c, int type, const char *first_word,
                      const char *last_word) noexcept nogil:
    """BLMPOP and BZMPOP."""
    cdef Element *e
    cdef Collection *s
    cdef int64_t timeout, count
    cdef int keys, last, i, found
    if (not read_pops(c, 2, first_word, last_word, &keys, &last, &count)
            or not read_timeout(c, c.argv[1], &timeout)):
        return
    found = find_first(c, type, 3, keys, &i, &e, &s)
    if found == FOUND and type == T_LIST:
        lists.pop_several(c, c.argv[i], e, s, count, last)
    elif found == FOUND:
        zsets.pop_several(c, c.argv[i], e, s, count, last)
    elif found == MISSING:
        wait(c, type, 3, keys, timeout)


cdef void blpop(Call *c) noexcept nogil:
    pop_one(c, T_LIST, 0)


cdef void brpop(Call *c) noexcept nogil:
    pop_one(c, T_LIST, 1)


cdef void bzpopmin(Call *c) noexcept nogil:
    pop_one(c, T_ZSET, 0)


cdef void bzpopmax(Call *c) noexcept nogil:
    pop_one(c, T_ZSET, 1)


cdef void blmpop(Call *c) noexcept nogil:
    pop_several(c, T_LIST, b"LEFT", b"RIGHT")


cdef void bzmpop(Call *c) noexcept nogil:
    pop_several(c, T_ZSET, b"MIN", b"MAX")


# ---- moving --------------------------------------------------------------------------------------
cdef void move(Call *c, int from_tail, int to_tail) noexcept nogil:
    """The last argument is the time limit."""
    cdef Element *e
    cdef Collection *l
    cdef int64_t timeout
    cdef int i, found
    if not read_timeout(c, c.argv[c.argc - 1], &timeout):
        return
    found = find_first(c, T_LIST, 1, 1, &i, &e, &l)
    if found == FOUND:
        lists.move(c, from_tail, to_tail)
    elif found == MISSING and c.client.flags & CLIENT_IN_EXEC:
        reply_null(c.reply)
    elif found == MISSING:
        wait_for_keys(c, T_LIST, 1, 1, timeout)


cdef void blmove(Call *c) noexcept nogil:
    cdef int from_tail, to_tail
    if lists.read_side(c, c.argv[3], &from_tail) and lists.read_side(c, c.argv[4], &to_tail):
        move(c, from_tail, to_tail)


cdef void brpoplpush(Call *c) noexcept nogil:
    move(c, 1, 0)


cdef void blmovem(Call *c) noexcept nogil:
    """With EXACTLY it waits for as many elements, and those who wait behind it may take what is too
    little for it."""
    cdef Element *e
    cdef Collection *l
    cdef Moves m
    cdef int64_t timeout
    cdef int i, found
    if not (lists.read_side(c, c.argv[3], &m.from_tail)
            and lists.read_side(c, c.argv[4], &m.to_tail)
            and read_timeout(c, c.argv[5], &timeout) and lists.read_moves(c, 6, &m)):
        return
    found = find_first(c, T_LIST, 1, 1, &i, &e, &l)
    if found == REFUSED or (found == FOUND and lists.move_several(c, &m)):
        return
    wait(c, T_LIST, 1, 1, timeout)
    if c.client.wait != NULL and m.exactly:
        c.client.wait.alike = <uint64_t>m.most


# ---- registration --------------------------------------------------------------------------------
LOCAL = ("Waiting is local to a replica. Two replicas that see the same element, each with a "
         "client that waits, both give it out; it is removed once.")
MOVED = f"Pop and push are one operation. {LOCAL} It is then pushed twice."

for name, handler, end in (("BLPOP", native(blpop), "head"), ("BRPOP", native(brpop), "tail")):
    command(f"{name} key... timeout", arity=-3, flags="write blocking", keys=(1, -2, 1),
            access="RW access delete", group="list", since="2.0.0", complexity="O(N) for N keys",
            summary=f"Pops an element from the {end} of the first list that is there, or waits for "
                    "one.",
            replicas=LOCAL)(handler)
command("BLMPOP timeout numkeys key... <LEFT | RIGHT> [COUNT count]", arity=-5,
        flags="write blocking", keys=[CountedKeys("RW access delete", 2)], group="list",
        since="7.0.0", complexity="O(K+M log N) for K keys and M elements",
        summary="Pops elements from the first list that is there, or waits for one.",
        replicas=LOCAL)(native(blmpop))
command("BLMOVE source destination <LEFT | RIGHT> <LEFT | RIGHT> timeout", arity=6,
        flags="write denyoom blocking one_change",
        keys=[KeyRange("RW access delete", 1), KeyRange("RW insert", 2)], group="list",
        since="6.2.0", complexity="O(log N)",
        summary="Moves an element from an end of a list to an end of a list, or waits for one.",
        replicas=MOVED)(native(blmove))
command("BLMOVEM source destination <LEFT | RIGHT> <LEFT | RIGHT> timeout "
        "[<COUNT count | EXACTLY count> <OBO | BULK>]", arity=-6,
        flags="write denyoom blocking one_change",
        keys=[KeyRange("RW access delete", 1), KeyRange("RW insert", 2)], group="list",
        since="8.10.0", complexity="O(M log N) for M elements moved",
        summary="Moves several elements from an end of a list to an end of a list, or waits for "
                "one, or for all of them.",
        replicas=MOVED)(native(blmovem))
command("BRPOPLPUSH source destination timeout", arity=4, flags="write denyoom blocking one_change",
        keys=[KeyRange("RW access delete", 1), KeyRange("RW insert", 2)], group="list",
        since="2.2.0", complexity="O(log N)",
        summary="Moves the last element of a list to the head of a list, or waits for one.",
        replicas=MOVED)(native(brpoplpush))
for name, handler, which in (("BZPOPMIN", native(bzpopmin), "least"),
                             ("BZPOPMAX", native(bzpopmax), "greatest")):
    command(f"{name} key... timeout", arity=-3, flags="write fast blocking", keys=(1, -2, 1),
            access="RW access delete", group="sorted-set", since="5.0.0",
            complexity="O(log(N)) with N members",
            summary=f"Removes and answers the member with the {which} score of the first sorted "
                    "set that is there, or waits for one.",
            replicas=LOCAL)(handler)
command("BZMPOP timeout numkeys key... <MIN | MAX> [COUNT count]", arity=-5, flags="write blocking",
        keys=[CountedKeys("RW access delete", 2)], group="sorted-set", since="7.0.0",
        complexity="O(K+M*log(N)) with K keys, N members and M of them removed",
        summary="Removes and answers members of the first sorted set that is there, or waits for "
                "one.", replicas=LOCAL)(native(bzmpop))
