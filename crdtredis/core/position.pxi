# Where a list element stands.
#
# A position is given to an element when it is inserted and never changes, so that "after this one"
# means the same in every replica. It is steps (major, run, offset, own), compared one after the
# other; a position stands before all that begin with it. At a level, runs with a lower major stand
# before those with a higher, runs of one major are ordered by the dot that began them, the elements
# of a run by offset. `own` is the dot of the insert, and makes the position unique for all time: a
# position given out, popped and asked for again differs from the first.
#
# Pushing at the tail goes on with the last element's run, offset + 1, while that run is this
# actor's own; else it begins a run at major + 1. Pushing at the head mirrors this. So the elements
# of one push, and of one replica's pushes in a row, share a run and cannot interleave with
# another's:
#
#     A: RPUSH l a1 a2 || B: RPUSH l b1 b2, l empty   ->   both at major 0: A's run, then B's (by
#                                                          dot), in both replicas
#
# Between two neighbours that leave no room at the top, the position has one step more, below one of
# them:
#
#     x, z in one run; LINSERT l AFTER x y   ->   y = x + (0, new run, 0)
#                       || the other replica's    y2 = x + (0, its run, 0)
#
# An insert takes the highest level at which there is room (`find`): inside a run of this actor's
# own, at the end of one, or for a new run. Below the top, offsets and majors are far apart, so that
# there is room. No live element ever moves.
#
# How long may positions get? Whoever chooses each place by the positions that are there can cost
# them a bit an insert; no scheme that moves nothing escapes that. Use has patterns, and those cost
# next to nothing:
#
# - Always before, or always after the same element: offsets count on, 8 million in each direction,
#   then majors.
# - To the left and right of the newest in turn (an index in the middle): `share` sees which pattern
#   its neighbours are of, and takes a third of the room, a fourth of what is left, a fifth ... So n
#   inserts take 2 log n bits, and a million fit in one level.
# - At random: halves of halves, some log n bits.
# - By several replicas, between each other's inserts: a run inside another's run is a level more.
#   From OWN_LEVELS on, every actor goes on in others' runs too, so that levels are used up only as
#   by one. What two insert there at one place at once may interleave; a little chance in the offset
#   keeps their elements apart, and so leaves room between them.
#
# Majors and offsets at the ends of all numbers, which only a peer's mistake can bring, take nothing
# of that away: a last step is never at the least major, so there is always something before it.
#
# A position has at most MAX_STEPS steps. An insert that would need more is refused (`between`
# answers 0), and nothing has changed. The same limit holds for what is received, so whatever is
# made is taken. tests/core/test_positions.py measures patterns and limit.
#
# Sources: immutable, dense positions are the idea of Logoot and of Fugue; runs keep them short.
# That it is a bit an insert in the worst case: E. Cohen, H. Kaplan, T. Milo, "Labeling dynamic XML
# trees", 2002.

from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint16_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memcmp, memcpy, memset

from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_need

cdef enum:
    OWN_LEVELS = 8          # levels at which an actor goes on in its own runs only

# Where there is room for a new element: behind the first `levels` steps of a neighbour.
cdef struct Spot:
    Span above              # the neighbour
    uint32_t levels
    Step step               # to be made, but for own; its run is 0 where a run is to be begun
    int below               # 1: a run is begun below that step, which is at the least major


cdef inline Step *position_steps(Span s) noexcept nogil:
    return <Step*>s.p


cdef inline uint32_t position_depth(Span s) noexcept nogil:
    return <uint32_t>(s.n // sizeof(Step))


cdef inline int compare_int64(int64_t x, int64_t y) noexcept nogil:
    return (x > y) - (x < y)


cdef int compare_dots(Actors *a, uint64_t x, uint32_t x_index, uint64_t y,
                      uint32_t y_index) noexcept nogil:
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


# ---- making one ----------------------------------------------------------------------------------

cdef inline int of_same_run(const Step *x, const Step *y) noexcept nogil:
    return x.run == y.run and x.run_index == y.run_index and x.major == y.major


cdef int later_of(const Step *x, const Step *y, const uint64_t *recent) noexcept nogil:
    """1 where x is known to have been inserted after y, -1 where before, else 0."""
    cdef int i
    if dot_slot(x.own) == dot_slot(y.own):
        return 1 if x.own > y.own or (x.own == y.own and x.own_index > y.own_index) else -1
    for i in range(2):
        if x.own == recent[i] or y.own == recent[i]:
            return 1 if x.own == recent[i] else -1
    return 0


cdef int later_in_run(Span left, Span right, const uint64_t *recent) noexcept nogil:
    cdef Step *p
    cdef Step *q
    if (left.n != right.n or left.n <= sizeof(Step)
        or memcmp(left.p, right.p, left.n - sizeof(Step))):
        return 0
    p = position_steps(left) + position_depth(left) - 1
    q = position_steps(right) + position_depth(right) - 1
    return later_of(q, p, recent) if of_same_run(p, q) else 0


cdef uint64_t share(Span left, Span right, Span beyond, const uint64_t *recent, uint32_t d,
                    int *from_left) noexcept nogil:
    """How far from its left, else its right neighbour an element goes into the room between two of
    a run, whose offsets are at least 2 apart. `beyond` stands at the other side of the later one of
    them, or is empty.

    When the other neighbour is later than the one beyond, the last inserts came in turn from both
    sides: so the next will be between this one and the later neighbour, and the place is beside the
    other. Else all came from one side, and it is beside the later one. The way to it follows from
    the way before: when that was 1/n of the room, this is 1/(n + 1) of what is left."""
    cdef Step *p = position_steps(left) + d
    cdef Step *q = position_steps(right) + d
    cdef Step *f
    cdef Step *later
    cdef Step *other
    cdef uint64_t room = <uint64_t>q.offset - <uint64_t>p.offset
    cdef uint64_t way
    cdef int turns
    from_left[0] = 1
    if position_depth(beyond) <= d or memcmp(beyond.p, left.p, d * sizeof(Step)):
        return room // 2
    f = position_steps(beyond) + d
    later = p if later_of(p, q, recent) > 0 else q
    other = q if later == p else p
    turns = later_of(other, f, recent)
    if not of_same_run(f, p) or f.offset == later.offset or turns == 0:
        return room // 2
    way = <uint64_t>later.offset - <uint64_t>f.offset
    if later == q:
        way = 0 - way
    from_left[0] = (later == p) != (turns > 0)
    way = <uint64_t>(<double>room / (<double>room / <double>way + 2))
    return way if way else 1


cdef inline uint64_t by_chance(Actors *a, uint64_t own, uint64_t way) noexcept nogil:
    """Between a half and all of a way in another's run: not the same for any two inserts."""
    cdef uint64_t x = (a.v[dot_slot(own)].id ^ dot_seq(own)) * <uint64_t>0x9e3779b97f4a7c15
    return way - (x ^ x >> 32) % (way // 2 + 1)


cdef inline int may_join(const Step *of, uint32_t d, uint64_t own) noexcept nogil:
    """May this actor's elements go into that run?"""
    return (dot_slot(of.run) == dot_slot(own) or d >= OWN_LEVELS) and of.major > INT64_MIN


cdef inline int run_on(Actors *a, const Step *from_, int direction, uint32_t d, uint64_t own,
                       Step *s) noexcept nogil:
    """Goes on at the end of a run, if this actor may."""
    cdef int64_t way = offset_step(d + 1)
    if not may_join(from_, d, own):
        return 0
    if dot_slot(from_.run) != dot_slot(own):
        way = <int64_t>by_chance(a, own, way)
    if from_.offset > INT64_MAX - way if direction > 0 else from_.offset < INT64_MIN + way:
        return 0
    s[0] = from_[0]
    s.offset += way if direction > 0 else -way
    return 1


cdef inline int run_beside(const Step *from_, int direction, uint32_t d, Step *s) noexcept nogil:
    """Begins a run behind or before all that a level holds."""
    cdef uint64_t room = <uint64_t>INT64_MAX - <uint64_t>from_.major if direction > 0 \
        else <uint64_t>from_.major - <uint64_t>INT64_MIN - 1
    cdef int64_t by = <int64_t>1 << 32 if d and room >> 32 else 1
    if room == 0 or from_.major == INT64_MIN:
        return 0
    s.major = from_.major + (by if direction > 0 else -by)
    return 1


cdef int find(Actors *a, Span left, Span right, Span beyond, const uint64_t *recent, uint64_t own,
              Spot *at) noexcept nogil:
    """Finds the highest level with room between two neighbours, not both of them empty: 1 and *at,
    else 0.

    While the steps above a level are alike, a new step must stand between both neighbours'. Below
    where they part, whatever shares left's steps and stands behind left is before right, and the
    reverse. Where left ends and right goes on with the same steps, there is only right's side."""
    cdef uint32_t m = position_depth(left), n = position_depth(right), d
    cdef Step *p
    cdef Step *q
    cdef Step *s = &at.step
    cdef uint64_t room
    cdef int alike = right.n > 0           # so far; without right, all behind left will do
    cdef int from_left
    for d in range(MAX_STEPS):
        at.levels = d
        p = position_steps(left) + d if d < m else NULL
        q = position_steps(right) + d if d < n else NULL
        if alike and p != NULL and q != NULL:
            if memcmp(p, q, sizeof(Step)) == 0:
                continue
            alike = 0
            at.above = left
            if of_same_run(p, q):
                room = <uint64_t>q.offset - <uint64_t>p.offset
                if room >= 2 and may_join(p, d, own):
                    s[0] = p[0]
                    room = share(left, right, beyond, recent, d, &from_left)
                    if dot_slot(p.run) != dot_slot(own):
                        room = by_chance(a, own, room)
                    s.offset = <int64_t>(<uint64_t>p.offset + room if from_left
                                         else <uint64_t>q.offset - room)
                    return 1
                continue
            if run_on(a, p, 1, d, own, s) or run_on(a, q, -1, d, own, s):
                return 1
            room = <uint64_t>q.major - <uint64_t>p.major
            if room >= 2:
                s.major = p.major + <int64_t>(room // 2)
                return 1
            continue
        if p != NULL:
            at.above = left
            if run_on(a, p, 1, d, own, s):
                return 1
        if q != NULL:
            at.above = right
            if run_on(a, q, -1, d, own, s):
                return 1
        if p != NULL:
            at.above = left
            if run_beside(p, 1, d, s):
                return 1
        if q != NULL:
            at.above = right
            if run_beside(q, -1, d, s):
                return 1
        if p == NULL and not alike:
            at.above = left
            return 1
        if p == NULL and q == NULL:        # of right, below left, only the lowest steps there are
            at.above = right
            at.levels = d - 1
            at.below = 1
            s.major = INT64_MIN
            return position_steps(right)[d - 1].major == INT64_MIN + 1
    return 0


cdef int between(Actors *a, Span left, Span right, Span beyond, const uint64_t *recent,
                 uint64_t own, uint32_t index, Buffer *b) noexcept nogil:
    cdef Spot at
    memset(&at, 0, sizeof(Spot))
    if left.n or right.n:
        if not find(a, left, right, beyond, recent, own, &at):
            return 0
        buffer_add(b, at.above.p, at.levels * sizeof(Step))
    at.step.own = own
    at.step.own_index = index
    if at.step.run == 0:
        at.step.run = own
        at.step.run_index = index
    buffer_add(b, &at.step, sizeof(Step))
    if at.below:
        at.step.major = 0
        buffer_add(b, &at.step, sizeof(Step))
    return 1


# ---- wire form -----------------------------------------------------------------------------------
# Per step: flags, major and offset (zigzag), own dot, run dot. A dot is actor id (fixed64), seq and
# index (varints). One to MAX_STEPS steps (versions that moved elements took 64); the last one's
# major is above the least. Flags from 8 on stand in ops that have the shorter form
# (core/compact.pxi) alone: what nearly all elements have in common is left out.

cdef enum StepFlag:
    STEP_OWN_IS_OP = 1      # own is the op's dot: only its index is given
    STEP_RUN_IS_OWN = 2     # the step begins its run
    STEP_RUN_OF_OWN = 4     # the run is of own's actor: only seq and index are given
    STEP_OF_OP = 8          # own is of the op's actor, but not its dot: only seq and index
    STEP_MAJOR_0 = 16       # the major is 0
    STEP_RUN_0 = 32         # the run's index is 0
    STEP_INDEX = 64         # own's index is that of the effect, of another op's dot 0
    STEP_FLAGS = 128        # no more than these


cdef char *put_dot(Actors *a, char *p, uint64_t dot, uint32_t index, int with_actor,
                   int with_index) noexcept nogil:
    if with_actor:
        p = put_fixed64(p, a.v[dot_slot(dot)].id)
    p = put_varint(p, dot_seq(dot))
    return put_varint(p, index) if with_index else p


cdef inline int shorter_step(const Step *s, uint64_t op_dot, int64_t index,
                             int flags) noexcept nogil:
    return ((STEP_OF_OP if not flags & STEP_OWN_IS_OP
             and dot_slot(s.own) == dot_slot(op_dot) else 0)
            | (STEP_MAJOR_0 if s.major == 0 else 0)
            | (STEP_RUN_0 if s.run_index == 0 and not flags & STEP_RUN_IS_OWN else 0)
            | (STEP_INDEX if s.own_index == (index if flags & STEP_OWN_IS_OP else 0) else 0))


cdef void encode_position(Actors *a, Buffer *b, Span steps, uint64_t op_dot,
                          int64_t index) noexcept nogil:
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
        if index >= 0:
            flags |= shorter_step(&s[i], op_dot, index, flags)
        p = buffer_need(b, 80)
        p[0] = <char>flags
        p += 1
        if not flags & STEP_MAJOR_0:
            p = put_varint(p, zigzag(s[i].major))
        p = put_varint(p, zigzag(s[i].offset))
        if not flags & STEP_OWN_IS_OP:
            p = put_dot(a, p, s[i].own, s[i].own_index, not flags & STEP_OF_OP,
                        not flags & STEP_INDEX)
        elif not flags & STEP_INDEX:
            p = put_varint(p, s[i].own_index)
        if not flags & STEP_RUN_IS_OWN:
            p = put_dot(a, p, s[i].run, s[i].run_index, not flags & STEP_RUN_OF_OWN,
                        not flags & STEP_RUN_0)
        b.n = p - b.p


cdef int get_index(const char **p, const char *end, uint32_t *index) noexcept nogil:
    cdef uint64_t v
    if not get_varint(p, end, &v) or v >> 32:
        return 0
    index[0] = <uint32_t>v
    return 1


cdef int get_dot(Actors *a, const char **p, const char *end, uint16_t slot, uint64_t *dot,
                 uint32_t *index, int with_index) noexcept nogil:
    """As decode_position; slot NO_SLOT: the actor stands here."""
    cdef uint64_t id, seq
    if slot == NO_SLOT:
        if end - p[0] < 8:
            return -1
        memcpy(&id, p[0], 8)
        p[0] += 8
        slot = actors_find(a, id)
    if (not get_varint(p, end, &seq) or seq == 0 or seq >> SEQ_BITS
            or (with_index and not get_index(p, end, index))):
        return -1
    dot[0] = make_dot(slot, seq)
    return 0 if slot == NO_SLOT else 1


cdef int decode_position(Actors *a, Buffer *b, Span wire, uint64_t op_dot,
                         uint32_t index) noexcept nogil:
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
        if (flags >= STEP_FLAGS or flags & 6 == 6 or flags & 9 == 9 or flags & 34 == 34
                or depth > MAX_STEPS):
            return -1
        if not flags & STEP_MAJOR_0:
            if not get_varint(&p, end, &v):
                return -1
            s.major = unzigzag(v)
        if not get_varint(&p, end, &v):
            return -1
        s.offset = unzigzag(v)
        if flags & STEP_OWN_IS_OP:
            s.own = op_dot
            s.own_index = index
            if not flags & STEP_INDEX and not get_index(&p, end, &s.own_index):
                return -1
        else:
            r = get_dot(a, &p, end, dot_slot(op_dot) if flags & STEP_OF_OP else NO_SLOT, &s.own,
                        &s.own_index, not flags & STEP_INDEX)
            if r < 0:
                return -1
            known &= r
        if flags & STEP_RUN_IS_OWN:
            s.run = s.own
            s.run_index = s.own_index
        else:
            r = get_dot(a, &p, end, dot_slot(s.own) if flags & STEP_RUN_OF_OWN else NO_SLOT, &s.run,
                        &s.run_index, not flags & STEP_RUN_0)
            if r < 0:
                return -1
            known &= r
        buffer_add(b, &s, sizeof(Step))
    return known if depth and s.major > INT64_MIN else -1
