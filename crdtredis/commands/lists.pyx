"""List commands. Those that block are in blocking.pyx.

A list is its elements in the order of their positions (core/position.pxi). A handler finds indexes,
and asks the kernel to insert, remove or change the element at an index; what replicates names
positions, so concurrent commands never mean the wrong element.

Ends cost O(log n) with a small constant (no search: the rank is known), an index O(log n), where
Redis walks; scans (LREM, LPOS, LINSERT) are linear as in Redis. A command that pops several
elements, or moves them, is one op.
"""
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MIN, int64_t, uint64_t
from libc.string cimport memcmp, memset

from crdtredis._core cimport (MAX_STEPS, STEP_ROOM, T_LIST, Collection, Element, Kernel,
                              ListCursor, key_collection, key_delete, key_find, key_modified,
                              key_prepare, key_size, key_view, list_insert, list_next, list_prev,
                              list_remove, list_seek, list_set, list_value, list_view, op_fits,
                              op_room, place_size)
from crdtredis._engine cimport Call, is_word, native, refuse, refuse_arity, refuse_syntax
from crdtredis._resp cimport (reply_array, reply_bulk, reply_int, reply_null, reply_null_array,
                              reply_ok)
from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, buffer_need, span
from crdtredis.commands.common cimport FOUND, MISSING, REFUSED, args_size, read_int
from crdtredis.commands.members cimport (end_removal, find_first, find_members, find_typed,
                                         read_count, read_members, read_pops, reply_size)
from crdtredis.errors cimport (COUNT_NOT_POSITIVE, INDEX_RANGE, LPOS_COUNT_NEGATIVE,
                               LPOS_MAXLEN_NEGATIVE, LPOS_RANK_ZERO, NOT_NEGATABLE,
                               NO_ROOM_IN_LIST, NO_SUCH_KEY)
from crdtredis.numbers cimport parse_int64

from crdtredis.commands.table import CountedKeys, KeyRange, command


# ---- finding -------------------------------------------------------------------------------------
cdef inline int same(Span a, Span b) noexcept nogil:
    return a.n == b.n and (a.n == 0 or memcmp(a.p, b.p, a.n) == 0)


cdef inline void reply_element(Call *c, Span v) noexcept nogil:
    reply_bulk(c.reply, v.p, v.n)


cdef int element_index(Call *c, Span arg, Collection *l, size_t *index) noexcept nogil:
    """The index that an argument names, from the end when negative; 0 when there is no such
    element, -1 after a refusal."""
    cdef int64_t i
    if not read_int(c, arg, &i):
        return -1
    if i < 0:
        i += <int64_t>l.live
    if i < 0 or i >= <int64_t>l.live:
        return 0
    index[0] = <size_t>i
    return 1


cdef int read_ends(Call *c, int64_t *first, int64_t *last) noexcept nogil:
    """argv[2] and argv[3] as the inclusive ends of a range; 0 after a refusal."""
    return read_int(c, c.argv[2], first) and read_int(c, c.argv[3], last)


cdef size_t slice_of(Collection *l, int64_t a, int64_t b, size_t *first) noexcept nogil:
    """How many elements the range a to b has, and where it begins; negative ends count from the
    tail."""
    cdef int64_t size = <int64_t>l.live
    if a < 0:
        a = a + size if a + size > 0 else 0
    if b < 0:
        b += size
    if b >= size:
        b = size - 1
    first[0] = <size_t>a if a <= b else 0
    return <size_t>(b - a + 1) if a <= b else 0


cdef int read_side(Call *c, Span arg, int *tail) noexcept nogil:
    """LEFT or RIGHT; 0 after a refusal."""
    tail[0] = is_word(arg, b"RIGHT")
    if tail[0] or is_word(arg, b"LEFT"):
        return 1
    refuse_syntax(c)
    return 0


# ---- pushing -------------------------------------------------------------------------------------
cdef void refuse_room(Call *c) noexcept nogil:
    """Where the kernel has no position left for an insert (core/position.pxi)."""
    refuse(c, NO_ROOM_IN_LIST)


cdef size_t push(Call *c, Span key, Element *e, Span *values, int n, int tail) noexcept nogil:
    """Pushes values one after the other; e is what key_find gave. Returns the length, or 0 after a
    refusal."""
    cdef int i
    e = key_prepare(c.kernel, c.db, key, e, T_LIST)
    for i in range(n):
        e = list_insert(c.kernel, c.db, key, e, key_size(c.kernel, e, T_LIST) if tail else 0,
                        values[i])
        if e == NULL:                      # only ever the first: the others stand in its run
            refuse_room(c)
            return 0
    return key_size(c.kernel, e, T_LIST)


cdef void push_command(Call *c, int tail, int only_existing) noexcept nogil:
    cdef Element *e
    cdef size_t length
    cdef int found = find_typed(c, c.argv[1], T_LIST, &e)
    if found == FOUND or (found == MISSING and not only_existing):
        if not op_room(c.kernel, c.db, c.argc - 2, c.argv[1].n,
                       args_size(c, 2) + 2 * STEP_ROOM * (c.argc - 2)):
            return
        length = push(c, c.argv[1], e, c.argv + 2, c.argc - 2, tail)
        if length:
            reply_int(c.reply, <int64_t>length)
    elif found == MISSING:
        reply_int(c.reply, 0)


cdef void lpush(Call *c) noexcept nogil:
    push_command(c, 0, 0)


cdef void rpush(Call *c) noexcept nogil:
    push_command(c, 1, 0)


cdef void lpushx(Call *c) noexcept nogil:
    push_command(c, 0, 1)


cdef void rpushx(Call *c) noexcept nogil:
    push_command(c, 1, 1)


cdef void linsert(Call *c) noexcept nogil:
    cdef Element *e
    cdef Collection *l
    cdef ListCursor at
    cdef size_t index = 0
    cdef int after = is_word(c.argv[2], b"AFTER")
    cdef int found, more
    if not after and not is_word(c.argv[2], b"BEFORE"):
        refuse_syntax(c)
        return
    found = find_members(c, c.argv[1], T_LIST, &e, &l)
    if found == MISSING:
        reply_int(c.reply, 0)
    if found != FOUND:
        return
    more = list_seek(l, 0, &at)
    while more and not same(list_value(c.kernel, &at), c.argv[3]):
        more = list_next(&at)
        index += 1
    if not more:
        reply_int(c.reply, -1)
        return
    if not value_fits(c, l, c.argv[4]):
        return
    e = key_prepare(c.kernel, c.db, c.argv[1], e, T_LIST)
    e = list_insert(c.kernel, c.db, c.argv[1], e, index + after, c.argv[4])
    if e == NULL:
        refuse_room(c)
    else:
        reply_int(c.reply, <int64_t>key_collection(c.kernel, e, T_LIST).live)


# ---- room in the op ------------------------------------------------------------------------------
cdef int removals_fit(Call *c, Span key, Collection *l, size_t n) noexcept nogil:
    """Is there room in the op for the removal of n elements? Where not, the client is told."""
    return (op_fits(c.kernel, c.db, n, key.n, n * STEP_ROOM * MAX_STEPS)
            or op_room(c.kernel, c.db, n, key.n, n * place_size(l)))


cdef int value_fits(Call *c, Collection *l, Span value) noexcept nogil:
    """The same for one value at a place of the list, or beside it."""
    return (op_fits(c.kernel, c.db, 1, c.argv[1].n, value.n + MAX_STEPS * STEP_ROOM)
            or op_room(c.kernel, c.db, 1, c.argv[1].n, value.n + place_size(l) + 2 * STEP_ROOM))


# ---- popping -------------------------------------------------------------------------------------
cdef void pop(Call *c, Span key, Element *e, size_t n, int tail) noexcept nogil:
    """Pops n elements, which are there, each answered as a bulk string."""
    cdef Kernel *k = c.kernel
    cdef Collection *l = key_view(k, e, T_LIST) if n == 1 else key_collection(k, e, T_LIST)
    cdef size_t i, index
    if not removals_fit(c, key, l, n):
        return
    e = key_prepare(k, c.db, key, e, T_LIST)
    for i in range(n):
        index = l.live - 1 if tail else 0
        reply_element(c, list_view(k, l, index))
        e = list_remove(k, c.db, key, e, index)
    end_removal(c, key, e)


cdef void pop_command(Call *c, int tail) noexcept nogil:
    cdef Element *e
    cdef int64_t count = 1
    cdef int found
    if c.argc > 3:
        refuse_arity(c)
        return
    if c.argc == 3 and not read_count(c, c.argv[2], &count):
        return
    found = find_typed(c, c.argv[1], T_LIST, &e)
    if found == MISSING:
        if c.argc == 3:
            reply_null_array(c.reply)
        else:
            reply_null(c.reply)
    if found != FOUND:
        return
    count = min(count, <int64_t>key_size(c.kernel, e, T_LIST))
    if c.argc == 3:
        reply_array(c.reply, count)
    if count:
        pop(c, c.argv[1], e, <size_t>count, tail)


cdef void lpop(Call *c) noexcept nogil:
    pop_command(c, 0)


cdef void rpop(Call *c) noexcept nogil:
    pop_command(c, 1)


cdef void pop_several(Call *c, Span key, Element *e, Collection *l, int64_t count,
                      int tail) noexcept nogil:
    """LMPOP's answer: the key, and at most count elements."""
    count = min(count, <int64_t>l.live)
    reply_array(c.reply, 2)
    reply_bulk(c.reply, key.p, key.n)
    reply_array(c.reply, count)
    pop(c, key, e, <size_t>count, tail)


cdef void lmpop(Call *c) noexcept nogil:
    cdef Element *e
    cdef Collection *l
    cdef int64_t count
    cdef int keys, tail, i, found
    if not read_pops(c, 1, b"LEFT", b"RIGHT", &keys, &tail, &count):
        return
    found = find_first(c, T_LIST, 2, keys, &i, &e, &l)
    if found == FOUND:
        pop_several(c, c.argv[i], e, l, count, tail)
    elif found == MISSING:
        reply_null_array(c.reply)


cdef void move(Call *c, int from_tail, int to_tail) noexcept nogil:
    """LMOVE and RPOPLPUSH: argv[1] to argv[2], in one op."""
    cdef Element *e
    cdef Element *to
    cdef Collection *l
    cdef Collection *there
    cdef Span value
    cdef Buffer copy
    cdef size_t index, size
    cdef int found = find_members(c, c.argv[1], T_LIST, &e, &l)
    if found == MISSING:
        reply_null(c.reply)
    if found != FOUND or find_members(c, c.argv[2], T_LIST, &to, &there) == REFUSED:
        return
    index = l.live - 1 if from_tail else 0
    value = list_view(c.kernel, l, index)
    size = max(c.argv[1].n, c.argv[2].n)
    if (not op_fits(c.kernel, c.db, 2, size, value.n + (MAX_STEPS + 2) * STEP_ROOM)
            and not op_room(c.kernel, c.db, 2, size, value.n + 2 * STEP_ROOM + place_size(l))):
        return
    memset(&copy, 0, sizeof(Buffer))
    buffer_add(&copy, value.p, value.n)
    value = span(copy.p, copy.n)
    # Pushed first: it may be refused; and a list of one element that moves to itself is never empty
    # and keeps its deadline, as in Redis.
    if push(c, c.argv[2], to, &value, 1, to_tail):
        reply_bulk(c.reply, value.p, value.n)
        e = key_find(c.kernel, c.db, c.argv[1])
        if l == there:
            list_remove(c.kernel, c.db, c.argv[1], e, index + (not to_tail))
        else:
            e = key_prepare(c.kernel, c.db, c.argv[1], e, T_LIST)
            end_removal(c, c.argv[1], list_remove(c.kernel, c.db, c.argv[1], e, index))
    buffer_free(&copy)


cdef void lmove(Call *c) noexcept nogil:
    cdef int from_tail, to_tail
    if read_side(c, c.argv[3], &from_tail) and read_side(c, c.argv[4], &to_tail):
        move(c, from_tail, to_tail)


cdef void rpoplpush(Call *c) noexcept nogil:
    move(c, 1, 0)


# ---- moving several ------------------------------------------------------------------------------
cdef int read_moves(Call *c, int at, Moves *m) noexcept nogil:
    """The sides at argv[3] and argv[4] have been read; `COUNT|EXACTLY n OBO|BULK`, or nothing, from
    argv[at] on. 0 after a refusal."""
    m.most = 1
    m.exactly = 0
    m.one_by_one = 1
    if c.argc == at:
        return 1
    if c.argc == at + 3:
        m.exactly = is_word(c.argv[at], b"EXACTLY")
    if c.argc != at + 3 or not (m.exactly or is_word(c.argv[at], b"COUNT")):
        refuse_syntax(c)
        return 0
    if not parse_int64(c.argv[at + 1].p, c.argv[at + 1].n, &m.most) or m.most < 1:
        refuse(c, COUNT_NOT_POSITIVE)
        return 0
    m.one_by_one = is_word(c.argv[at + 2], b"OBO")
    if not m.one_by_one and not is_word(c.argv[at + 2], b"BULK"):
        refuse_syntax(c)
        return 0
    return 1


cdef size_t slice_size(Call *c, Collection *l, size_t first, size_t n) noexcept nogil:
    """Bytes of the n elements from `first` on."""
    cdef ListCursor at
    cdef size_t i, size = 0
    list_seek(l, first, &at)
    for i in range(n):
        size += list_value(c.kernel, &at).n
        list_next(&at)
    return size


cdef Span *copy_slice(Call *c, Collection *l, size_t first, size_t n, size_t size, int reversed,
                      Buffer *copy) noexcept nogil:
    """These elements, which have `size` bytes, or the last of them first. All is in `copy`, which
    the caller frees: the values, and behind them the Spans of them."""
    cdef ListCursor at
    cdef Span v
    cdef Span *spans
    cdef size_t i
    size = (size + sizeof(Span) - 1) // sizeof(Span) * sizeof(Span)
    buffer_need(copy, size + n * sizeof(Span))
    spans = <Span*>(copy.p + size)
    list_seek(l, first, &at)
    for i in range(n):
        v = list_value(c.kernel, &at)
        spans[n - 1 - i if reversed else i] = span(copy.p + copy.n, v.n)
        buffer_add(copy, v.p, v.n)
        list_next(&at)
    return spans


cdef int move_several(Call *c, const Moves *m) noexcept nogil:
    """LMOVEM: takes elements from an end of argv[1], all of them before the first is given to
    argv[2]. One by one each is pushed as it would be popped; else they keep their order. In one op.
    0: there are too few, and nothing is replied."""
    cdef Element *e
    cdef Element *to
    cdef Collection *l
    cdef Collection *there
    cdef Buffer copy
    cdef Span *values
    cdef size_t first, i, n, size, content, bytes
    cdef int found = find_members(c, c.argv[1], T_LIST, &e, &l)
    if found == MISSING or (found == FOUND and m.exactly and m.most > <int64_t>l.live):
        return 0
    if found != FOUND or find_members(c, c.argv[2], T_LIST, &to, &there) == REFUSED:
        return 1
    n = <size_t>min(m.most, <int64_t>l.live)
    first = l.live - n if m.from_tail else 0
    content = slice_size(c, l, first, n)
    bytes = content + 2 * n * STEP_ROOM
    size = max(c.argv[1].n, c.argv[2].n)
    if (not op_fits(c.kernel, c.db, 2 * n, size, bytes + n * STEP_ROOM * MAX_STEPS)
            and not op_room(c.kernel, c.db, 2 * n, size, bytes + n * place_size(l))):
        return 1
    memset(&copy, 0, sizeof(Buffer))
    values = copy_slice(c, l, first, n, content, m.from_tail if m.one_by_one else not m.to_tail,
                        &copy)
    # First, as in `move`.
    if push(c, c.argv[2], to, values, <int>n, m.to_tail):
        e = key_find(c.kernel, c.db, c.argv[1])
        if l != there:
            e = key_prepare(c.kernel, c.db, c.argv[1], e, T_LIST)
        elif not m.to_tail:
            first += n
        for i in range(n):
            e = list_remove(c.kernel, c.db, c.argv[1], e,
                            first + n - 1 - i if m.from_tail else first)
        if l != there:
            end_removal(c, c.argv[1], e)
        reply_array(c.reply, <int64_t>n)
        for i in range(n):
            reply_element(c, values[i if m.to_tail else n - 1 - i])
    buffer_free(&copy)
    return 1


cdef void lmovem(Call *c) noexcept nogil:
    cdef Moves m
    if (read_side(c, c.argv[3], &m.from_tail) and read_side(c, c.argv[4], &m.to_tail)
            and read_moves(c, 5, &m) and not move_several(c, &m)):
        reply_null_array(c.reply)


# ---- reading -------------------------------------------------------------------------------------
cdef void llen(Call *c) noexcept nogil:
    reply_size(c, T_LIST)


cdef void lrange(Call *c) noexcept nogil:
    cdef Collection *l
    cdef ListCursor at
    cdef int64_t a, b
    cdef size_t first = 0, n, i
    if not read_ends(c, &a, &b) or read_members(c, c.argv[1], T_LIST, &l) == REFUSED:
        return
    n = slice_of(l, a, b, &first) if l != NULL else 0
    reply_array(c.reply, <int64_t>n)
    if n == 0:
        return
    list_seek(l, first, &at)
    for i in range(n):
        reply_element(c, list_value(c.kernel, &at))
        list_next(&at)


cdef void lindex(Call *c) noexcept nogil:
    cdef Collection *l
    cdef size_t index
    cdef int found = read_members(c, c.argv[1], T_LIST, &l)
    if found == REFUSED:
        return
    found = element_index(c, c.argv[2], l, &index) if l != NULL else 0
    if found == 1:
        reply_element(c, list_view(c.kernel, l, index))
    elif found == 0:
        reply_null(c.reply)


cdef void lpos(Call *c) noexcept nogil:
    cdef Collection *l
    cdef ListCursor at
    cdef Buffer matches
    cdef int64_t rank = 1, count = -1, most = 0, v
    cdef size_t index, looked = 0
    cdef int i, backwards, more
    cdef size_t *hits
    for i in range(3, c.argc, 2):
        if (i + 1 == c.argc or not (is_word(c.argv[i], b"RANK") or is_word(c.argv[i], b"COUNT")
                                    or is_word(c.argv[i], b"MAXLEN"))):
            refuse_syntax(c)
            return
        if is_word(c.argv[i], b"RANK"):
            if not read_int(c, c.argv[i + 1], &rank):
                return
            if rank == INT64_MIN:
                refuse(c, NOT_NEGATABLE)
                return
            if rank == 0:
                refuse(c, LPOS_RANK_ZERO)
                return
            continue
        if not parse_int64(c.argv[i + 1].p, c.argv[i + 1].n, &v) or v < 0:
            refuse(c, LPOS_COUNT_NEGATIVE if is_word(c.argv[i], b"COUNT")
                 else LPOS_MAXLEN_NEGATIVE)
            return
        if is_word(c.argv[i], b"COUNT"):
            count = v
        else:
            most = v
    if read_members(c, c.argv[1], T_LIST, &l) == REFUSED:
        return
    memset(&matches, 0, sizeof(Buffer))
    backwards = rank < 0
    rank = -rank if backwards else rank
    more = list_seek(l, l.live - 1 if backwards else 0, &at) if l != NULL else 0
    while more and (most == 0 or <int64_t>looked < most):
        if same(list_value(c.kernel, &at), c.argv[2]):
            rank -= 1
            if rank <= 0:
                index = l.live - 1 - looked if backwards else looked
                buffer_add(&matches, &index, sizeof(size_t))
                if count < 0 or (count and <int64_t>(matches.n // sizeof(size_t)) == count):
                    break
        more = list_prev(&at) if backwards else list_next(&at)
        looked += 1
    hits = <size_t*>matches.p
    if count < 0:
        if matches.n:
            reply_int(c.reply, <int64_t>hits[0])
        else:
            reply_null(c.reply)
    else:
        reply_array(c.reply, <int64_t>(matches.n // sizeof(size_t)))
        for index in range(matches.n // sizeof(size_t)):
            reply_int(c.reply, <int64_t>hits[index])
    buffer_free(&matches)


# ---- changing ------------------------------------------------------------------------------------
cdef void lset(Call *c) noexcept nogil:
    cdef Element *e
    cdef Collection *l
    cdef size_t index
    cdef int found = find_members(c, c.argv[1], T_LIST, &e, &l)
    if found == MISSING:
        refuse(c, NO_SUCH_KEY)
    if found != FOUND:
        return
    found = element_index(c, c.argv[2], l, &index)
    if found == 0:
        refuse(c, INDEX_RANGE)
    if found == 1 and value_fits(c, l, c.argv[3]):
        e = key_prepare(c.kernel, c.db, c.argv[1], e, T_LIST)
        list_set(c.kernel, c.db, c.argv[1], e, index, c.argv[3])
        reply_ok(c.reply)


cdef void lrem(Call *c) noexcept nogil:
    cdef Element *e
    cdef Collection *l
    cdef ListCursor at
    cdef Buffer matches
    cdef int64_t count
    cdef size_t index, n, i
    cdef int found, backwards, more
    if not read_int(c, c.argv[2], &count):
        return
    found = find_members(c, c.argv[1], T_LIST, &e, &l)
    if found == MISSING:
        reply_int(c.reply, 0)
    if found != FOUND:
        return
    backwards = count < 0
    n = <size_t>(count if count > 0 else 0 - <uint64_t>count)
    memset(&matches, 0, sizeof(Buffer))
    index = l.live - 1 if backwards else 0
    more = list_seek(l, index, &at)
    while more and (n == 0 or matches.n // sizeof(size_t) < n):
        if same(list_value(c.kernel, &at), c.argv[3]):
            buffer_add(&matches, &index, sizeof(size_t))
        more = list_prev(&at) if backwards else list_next(&at)
        index += -1 if backwards else 1
    n = matches.n // sizeof(size_t)
    if not removals_fit(c, c.argv[1], l, n):
        buffer_free(&matches)
        return
    if n:
        e = key_prepare(c.kernel, c.db, c.argv[1], e, T_LIST)
    for i in range(n):                     # from the tail on, so that the indexes before stay right
        e = list_remove(c.kernel, c.db, c.argv[1], e,
                        (<size_t*>matches.p)[i if backwards else n - 1 - i])
    if n:
        end_removal(c, c.argv[1], e)
    buffer_free(&matches)
    reply_int(c.reply, <int64_t>n)


cdef void trim(Call *c, Span key, Element *e, size_t first, size_t n) noexcept nogil:
    """Leaves n elements from `first` on."""
    cdef size_t length = key_collection(c.kernel, e, T_LIST).live
    cdef size_t i
    if n == 0:
        c.changes = length
        # all that was observed: the same, in one effect
        key_delete(c.kernel, c.db, e)
        return
    if n == length or not removals_fit(c, key, key_collection(c.kernel, e, T_LIST), length - n):
        return
    e = key_prepare(c.kernel, c.db, key, e, T_LIST)
    for i in range(length - n):
        e = list_remove(c.kernel, c.db, key, e, length - 1 - i if length - i > first + n else 0)
    end_removal(c, key, e)


cdef void ltrim(Call *c) noexcept nogil:
    cdef Element *e
    cdef Collection *l
    cdef int64_t a, b
    cdef size_t first = 0, n
    cdef int found
    if not read_ends(c, &a, &b):
        return
    found = find_members(c, c.argv[1], T_LIST, &e, &l)
    if found == REFUSED:
        return
    if found == FOUND:
        key_modified(c.kernel, c.db, c.argv[1])
        n = slice_of(l, a, b, &first)
        trim(c, c.argv[1], e, first, n)
    reply_ok(c.reply)


# ---- registration --------------------------------------------------------------------------------
PUSHED = ("Elements pushed concurrently all stay, once each, in one order that all replicas share; "
          "one replica's pushes stay together.")
POPPED = "Two replicas that pop the same element concurrently both get it; it is removed once."
MOVED = f"Pop and push are one operation. {POPPED} It is then pushed twice."

for name, handler, end in (("LPUSH", native(lpush), "head"), ("RPUSH", native(rpush), "tail")):
    command(f"{name} key element...", arity=-3, flags="write denyoom fast", keys=(1, 1, 1),
            access="RW insert", group="list", since="1.0.0", complexity="O(log N) per element",
            summary=f"Pushes elements at the {end} of a list, which is made when missing.",
            replicas=PUSHED)(handler)
for name, handler, end in (("LPUSHX", native(lpushx), "head"), ("RPUSHX", native(rpushx), "tail")):
    command(f"{name} key element...", arity=-3, flags="write denyoom fast", keys=(1, 1, 1),
            access="RW insert", group="list", since="2.2.0", complexity="O(log N) per element",
            summary=f"Pushes elements at the {end} of a list that exists.",
            replicas=PUSHED + " Whether the list exists is decided locally.")(handler)
for name, handler, end in (("LPOP", native(lpop), "head"), ("RPOP", native(rpop), "tail")):
    command(f"{name} key [count]", arity=-2, flags="write fast", keys=(1, 1, 1),
            access="RW access delete", group="list", since="1.0.0",
            complexity="O(log N) per element",
            summary=f"Removes elements from the {end} of a list and returns them.",
            replicas=POPPED)(handler)
command("LMPOP numkeys key... <LEFT | RIGHT> [COUNT count]", arity=-4, flags="write",
        keys=[CountedKeys("RW access delete", 1)], group="list", since="7.0.0",
        complexity="O(K+M log N) for K keys and M elements",
        summary="Pops elements from the first of several lists that is not empty.",
        replicas=POPPED)(native(lmpop))
command("LMOVE source destination <LEFT | RIGHT> <LEFT | RIGHT>", arity=5,
        flags="write denyoom one_change",
        keys=[KeyRange("RW access delete", 1), KeyRange("RW insert", 2)], group="list",
        since="6.2.0", complexity="O(log N)",
        summary="Moves an element from an end of a list to an end of a list.",
        replicas=MOVED)(native(lmove))
command("LMOVEM source destination <LEFT | RIGHT> <LEFT | RIGHT> "
        "[<COUNT count | EXACTLY count> <OBO | BULK>]", arity=-5,
        flags="write denyoom one_change",
        keys=[KeyRange("RW access delete", 1), KeyRange("RW insert", 2)], group="list",
        since="8.10.0", complexity="O(M log N) for M elements moved",
        summary="Moves several elements, or none where that many are not there, from an end of a "
                "list to an end of a list.",
        replicas=f"One operation, whose elements stay together. {POPPED} It is then pushed "
                 "twice.")(native(lmovem))
command("RPOPLPUSH source destination", arity=3, flags="write denyoom one_change",
        keys=[KeyRange("RW access delete", 1), KeyRange("RW insert", 2)], group="list",
        since="1.2.0", complexity="O(log N)",
        summary="Moves the last element of a list to the head of a list.",
        replicas=MOVED)(native(rpoplpush))
command("LINSERT key <BEFORE | AFTER> pivot element", arity=5, flags="write denyoom",
        keys=(1, 1, 1), access="RW insert", group="list", since="2.2.0",
        complexity="O(N) up to the pivot", summary="Inserts an element before or after another.",
        replicas="Concurrent inserts beside one element both stay next to it, in the same order "
                 "everywhere.")(native(linsert))
command("LSET key index element", arity=4, flags="write denyoom", keys=(1, 1, 1),
        access="RW update", group="list", since="1.0.0", complexity="O(log N)",
        summary="Gives the element at an index another value.",
        replicas="Of concurrent values for one element the later stays; one that is removed "
                 "concurrently stays, with the new value.")(native(lset))
command("LREM key count element", arity=4, flags="write", keys=(1, 1, 1), access="RW delete",
        group="list", since="1.0.0", complexity="O(N+M log N) for M matches",
        summary="Removes elements that equal a value.",
        replicas="Elements pushed concurrently stay.")(native(lrem))
command("LTRIM key start stop", arity=4, flags="write", keys=(1, 1, 1), access="RW delete",
        group="list", since="1.0.0", complexity="O(M log N) for M removed elements",
        summary="Removes all elements outside a range of indexes.",
        replicas="Elements pushed concurrently stay.")(native(ltrim))
command("LLEN key", arity=2, flags="readonly fast", keys=(1, 1, 1), access="RO", group="list",
        since="1.0.0", summary="Returns the length of a list.")(native(llen))
command("LRANGE key start stop", arity=4, flags="readonly", keys=(1, 1, 1), group="list",
        since="1.0.0", complexity="O(log N+M) for M elements returned",
        summary="Returns the elements of a range of indexes.")(native(lrange))
command("LINDEX key index", arity=3, flags="readonly", keys=(1, 1, 1), group="list", since="1.0.0",
        complexity="O(log N)", summary="Returns the element at an index.")(native(lindex))
command("LPOS key element [RANK rank] [COUNT num-matches] [MAXLEN len]", arity=-3, flags="readonly",
        keys=(1, 1, 1), group="list", since="6.0.6", complexity="O(N) up to the last match wanted",
        summary="Returns the indexes of elements that equal a value.")(native(lpos))
