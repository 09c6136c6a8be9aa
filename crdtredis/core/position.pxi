# Where a list element stands.
#
# A position is given to an element when it is inserted and never changes, so that "after this one" means the same in every replica.
# It is a step (major, run, offset, own): runs with a lower major stand before those with a higher, runs of one major are ordered by
# the dot that began them, the elements of a run by offset. `own` is the dot of the insert, and makes the position unique for
# all time: a position given out, popped and asked for again differs from the first.
#
# Pushing at the tail goes on with the last element's run, offset + 1, while that run is this actor's own; else it begins a run at
# major + 1. Pushing at the head mirrors this. So the elements of one push, and of one replica's pushes in a row, share a run and
# cannot interleave with another's:
#
#     A: RPUSH l a1 a2 || B: RPUSH l b1 b2, l empty   ->   both at major 0: A's run, then B's (by dot), in both replicas
#
# Between two neighbours there may be no room in their runs: then a run begins at a level where there is a major between theirs, or
# the position has one step more, below its left neighbour (after it and before all that follows):
#
#     x, z in one run; LINSERT l AFTER x y   ->   y = x + (0, new run, 0)   ||   the other replica's y2 = x + (0, its run, 0)
#
# Inserting again and again at one place goes on in the run so begun. Below the top, offsets and majors are far apart, which leaves
# room halfway between two. So depth stays at two for the usual patterns; inserting alternately to the left and to the right of the last
# insert takes a step more every fifty times or so. Where one would be too deep, the elements around it get fresh positions first
# (list_insert).
#
# Source: the idea of immutable, dense positions is that of Logoot and of Fugue; runs are what keeps them short.

cdef inline Step *position_steps(Span s) noexcept nogil:
    return <Step*>s.p


cdef inline uint32_t position_depth(Span s) noexcept nogil:
    return <uint32_t>(s.n // sizeof(Step))


cdef inline int compare_int64(int64_t x, int64_t y) noexcept nogil:
    return (x > y) - (x < y)


cdef int compare_dots(Actors *a, uint64_t x, uint32_t x_index, uint64_t y, uint32_t y_index) noexcept nogil:
    cdef int r
    if x != y:
        r = compare_int64(a.v[dot_slot(x)].rank, a.v[dot_slot(y)].rank)
        return r if r else compare_int64(<int64_t>dot_seq(x), <int64_t>dot_seq(y))
    return compare_int64(x_index, y_index)


cdef int compare_steps(Actors *a, const Step *x, const Step *y) noexcept nogil:
    cdef int r = compare_int64(x.major, y.major)
    if r == 0:
        r = compare_dots(a, x.run, x.run_index, y.run, y.run_index)
    if r == 0:
        r = compare_int64(x.offset, y.offset)
    return r if r else compare_dots(a, x.own, x.own_index, y.own, y.own_index)


cdef int compare_positions(Actors *a, Span x, Span y) noexcept nogil:
    cdef Step *p = position_steps(x)
    cdef Step *q = position_steps(y)
    cdef uint32_t i
    cdef int r
    for i in range(min(position_depth(x), position_depth(y))):
        r = compare_steps(a, &p[i], &q[i])
        if r:
            return r
    return compare_int64(position_depth(x), position_depth(y))


cdef int continues(Actors *a, Span from_, int64_t by, Span left, Span right, uint64_t own, uint32_t index, Buffer *b) noexcept nogil:
    """Goes on with the run of a neighbour, if it is this actor's own and that leads between the two: 1, and the steps are in b."""
    cdef Step *last = position_steps(from_) + position_depth(from_) - 1
    cdef size_t begin = b.n
    cdef Span made
    cdef Step *s
    by *= offset_step(position_depth(from_))
    if dot_slot(last.run) != dot_slot(own) or (last.offset > INT64_MAX - by if by > 0 else last.offset < INT64_MIN - by):
        return 0
    buffer_add(b, from_.p, from_.n)
    made = span(b.p + begin, from_.n)
    s = position_steps(made) + position_depth(made) - 1
    s.offset += by
    s.own = own
    s.own_index = index
    if (left.n and compare_positions(a, left, made) >= 0) or (right.n and compare_positions(a, made, right) >= 0):
        b.n = begin
        return 0
    return 1


cdef int halfway(Span left, Span right, uint64_t own, uint32_t index, Buffer *b) noexcept nogil:
    """The same between two neighbours of one run."""
    cdef Step *p
    cdef Step *q
    cdef Step *s
    cdef uint64_t room
    if left.n == 0 or left.n != right.n or memcmp(left.p, right.p, left.n - sizeof(Step)):
        return 0
    p = position_steps(left) + position_depth(left) - 1
    q = position_steps(right) + position_depth(right) - 1
    if dot_slot(p.run) != dot_slot(own):
        return 0
    room = <uint64_t>q.offset - <uint64_t>p.offset
    if p.major != q.major or p.run != q.run or p.run_index != q.run_index or room < 2:
        return 0
    buffer_add(b, left.p, left.n)
    s = <Step*>(b.p + b.n) - 1
    s.offset += <int64_t>(room // 2)
    s.own = own
    s.own_index = index
    return 1


cdef int beside(Span left, Span right, Step *s, Buffer *b) noexcept nogil:
    """Begins a run at a level that the neighbours have already, the highest at which there is a major between theirs."""
    cdef Step *p = position_steps(left)
    cdef Step *q = position_steps(right)
    cdef uint32_t m = position_depth(left), n = position_depth(right), d
    cdef uint64_t room
    cdef int64_t by = 1
    cdef int alike = 1                     # the steps above this level
    for d in range(max(m, n)):
        if alike and d < m and d < n:
            room = <uint64_t>q[d].major - <uint64_t>p[d].major
            if room >= 2:
                s.major = p[d].major + <int64_t>(room // 2)
                buffer_add(b, left.p, d * sizeof(Step))
                return 1
            alike = memcmp(&p[d], &q[d], sizeof(Step)) == 0
        elif d < m and p[d].major <= INT64_MAX - by:       # all that shares left's steps so far stands before right
            s.major = p[d].major + by
            buffer_add(b, left.p, d * sizeof(Step))
            return 1
        elif d < n and q[d].major >= INT64_MIN + by:       # and all that shares right's, behind left
            s.major = q[d].major - by
            buffer_add(b, right.p, d * sizeof(Step))
            return 1
        by = <int64_t>1 << 32
    return 0


cdef void between(Actors *a, Span left, Span right, uint64_t own, uint32_t index, Buffer *b) noexcept nogil:
    cdef Step s
    if left.n and continues(a, left, 1, left, right, own, index, b):
        return
    if right.n and continues(a, right, -1, left, right, own, index, b):
        return
    if halfway(left, right, own, index, b):
        return
    memset(&s, 0, sizeof(Step))
    s.run = s.own = own
    s.run_index = s.own_index = index
    if right.n == 0 and left.n:
        s.major = position_steps(left)[0].major + 1
    elif left.n == 0 and right.n:
        s.major = position_steps(right)[0].major - 1
    elif left.n and not beside(left, right, &s, b):
        buffer_add(b, left.p, left.n)
    buffer_add(b, &s, sizeof(Step))


# ---- wire form -----------------------------------------------------------------------------------------------------
# Per step: flags, major and offset (zigzag), own dot, run dot. A dot is actor id (fixed64), seq and index (varints).

cdef enum StepFlag:
    STEP_OWN_IS_OP = 1      # own is the op's dot: only its index is given
    STEP_RUN_IS_OWN = 2     # the step begins its run
    STEP_RUN_OF_OWN = 4     # the run is of own's actor: only seq and index are given


cdef char *put_dot(Actors *a, char *p, uint64_t dot, uint32_t index, int with_actor) noexcept nogil:
    if with_actor:
        p = put_fixed64(p, a.v[dot_slot(dot)].id)
    return put_varint(put_varint(p, dot_seq(dot)), index)


cdef void encode_position(Actors *a, Buffer *b, Span steps, uint64_t op_dot) noexcept nogil:
    cdef Step *s = position_steps(steps)
    cdef uint32_t i
    cdef int flags
    cdef char *p
    for i in range(position_depth(steps)):
        flags = 0
        if s[i].own == op_dot:
            flags |= STEP_OWN_IS_OP
        if s[i].run == s[i].own and s[i].run_index == s[i].own_index:
            flags |= STEP_RUN_IS_OWN
        elif dot_slot(s[i].run) == dot_slot(s[i].own):
            flags |= STEP_RUN_OF_OWN
        p = buffer_need(b, 80)
        p[0] = <char>flags
        p = put_varint(put_varint(p + 1, zigzag(s[i].major)), zigzag(s[i].offset))
        if flags & STEP_OWN_IS_OP:
            p = put_varint(p, s[i].own_index)
        else:
            p = put_dot(a, p, s[i].own, s[i].own_index, 1)
        if not flags & STEP_RUN_IS_OWN:
            p = put_dot(a, p, s[i].run, s[i].run_index, not flags & STEP_RUN_OF_OWN)
        b.n = p - b.p


cdef int get_index(const char **p, const char *end, uint32_t *index) noexcept nogil:
    cdef uint64_t v
    if not get_varint(p, end, &v) or v >> 32:
        return 0
    index[0] = <uint32_t>v
    return 1


cdef int get_dot(Actors *a, const char **p, const char *end, uint16_t slot, uint64_t *dot, uint32_t *index) noexcept nogil:
    """As decode_position; slot NO_SLOT: the actor stands here."""
    cdef uint64_t id, seq
    if slot == NO_SLOT:
        if end - p[0] < 8:
            return -1
        memcpy(&id, p[0], 8)
        p[0] += 8
        slot = actors_find(a, id)
    if not get_varint(p, end, &seq) or seq == 0 or seq >> SEQ_BITS or not get_index(p, end, index):
        return -1
    dot[0] = make_dot(slot, seq)
    return 0 if slot == NO_SLOT else 1


cdef int decode_position(Actors *a, Buffer *b, Span wire, uint64_t op_dot) noexcept nogil:
    cdef const char *p = wire.p
    cdef const char *end = wire.p + wire.n
    cdef Step s
    cdef uint64_t v
    cdef uint8_t flags
    cdef int known = 1, r
    cdef uint32_t depth = 0
    while p < end:
        memset(&s, 0, sizeof(Step))
        flags = <uint8_t>p[0]
        p += 1
        depth += 1
        if flags > 7 or flags & 6 == 6 or depth > MAX_STEPS:
            return -1
        if not get_varint(&p, end, &v):
            return -1
        s.major = unzigzag(v)
        if not get_varint(&p, end, &v):
            return -1
        s.offset = unzigzag(v)
        if flags & STEP_OWN_IS_OP:
            s.own = op_dot
            if not get_index(&p, end, &s.own_index):
                return -1
        else:
            r = get_dot(a, &p, end, NO_SLOT, &s.own, &s.own_index)
            if r < 0:
                return -1
            known &= r
        if flags & STEP_RUN_IS_OWN:
            s.run = s.own
            s.run_index = s.own_index
        else:
            r = get_dot(a, &p, end, dot_slot(s.own) if flags & STEP_RUN_OF_OWN else NO_SLOT, &s.run, &s.run_index)
            if r < 0:
                return -1
            known &= r
        buffer_add(b, &s, sizeof(Step))
    return known if depth else -1
