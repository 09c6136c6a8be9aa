# Joining: how does a replica take in the state of another, when both hold what the other lacks?
#
# Element by element. Each is a cell (core/cell.pxi), and no effect looks from one cell at another,
# but for those on consumer groups (groups_meet, tidy_groups), so cells are joined one by one, by
# what each side had observed: this replica's clock, and the giver's as the stream began.
#
#     a write on both sides     stays
#     a write here alone        goes where the giver's clock covers its dot: the giver had it, and
#                               an op that it applied removed it. Else it stays
#     a write there alone       comes unless this replica's clock covers its dot, likewise
#     a counter entry on both   that of the newer run; of one run the newer total and the newer
#                               cancellation, each for itself
#     a counter entry on one    as a write, by its newest increment. (A side that has observed it
#                               and lacks it has let go of a tombstone)
#
#     A: SET k 1 (A,1), synced to B.   A: DEL k (A,2)   ||   B: SET j 2 (B,1)
#     A has nothing, and the clock {A: 2}.   B has k of (A,1), j of (B,1), and {A: 1, B: 1}.
#     B joins A's state, which names nothing. (A,1) is covered: k goes. (B,1) is not: j stays.
#     A joins B's state. (A,1) is covered by A's own clock: k stays gone. (B,1) is not: j comes.
#     Both have j of (B,1), and {A: 2, B: 1}, as if they had got each other's ops.
#
# So a cell after a join holds what the ops of both clocks together leave there: which writes those
# are depends on the set of ops only (core/cell.pxi), a write of the union is there unless an op of
# the union observed it, and each side says that of every write that its clock covers. It is the
# state that some causally allowed order of the same ops gives; hence every order does.
#
# The giver works on while it is read. A piece may hold what its ops did since the stream began, and
# the tail, all those ops, is applied after the join: an op over a state that holds it already
# changes nothing in the end (core/give.pxi). What they have removed is removed by them, once more
# or now. The clock becomes that of the stream's beginning joined with this replica's before, and
# moves on with the tail. Pieces carry the giver's clock as they were read; it bounds what may be in
# them, and decides nothing.
#
# Where the giver had observed all that is here (Joining.rules), his state is that of more ops: what
# he shows and this replica lacks can have been removed by no op, and one dot can say one thing
# only. It comes all the same, and what is here under its dots gives way, for then a fault of a
# disk, a memory or a program has falsified what is here, or there: CRDT.REPAIR at the falsified
# one, from the other, makes the two equal. Among sound states nothing comes of it but a tombstone
# that was let go here and not there, until it is let go again.
#
# What no piece named. A walk names every element that is there from its beginning to its end. One
# that is here, that no piece has named and whose dot the giver's clock covered as the stream began,
# was removed at the giver, before or while it walked: it goes. By a later clock it could not be
# told from one that was added behind the walk's back:
#
#     A's walk has passed the bucket of k.   C: SET k 1, which A applies, and so does B.
#     B joins: no piece names k. A's clock at the end covers it, and A has it.
#
# So pieces leave a mark at what they name (E_NAMED), and a last walk removes the rest and the
# marks. A list has no place for a mark by element. Its walk goes from head to tail, in pieces that
# follow each other, so what it has passed and not named is known at once (list_pass).
#
# All of it goes in steps: between two of them every key can be read, and nothing else may change
# the keyspace (Kernel.joining): no op is made or received, nothing expires, no tombstone goes.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memcmp, memcpy, memset

from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, copy_span, span


cdef void joining_begin(Joining *j, Kernel *k) noexcept nogil:
    cdef uint32_t db
    memset(j, 0, sizeof(Joining))
    j.k = k
    j.type = T_HASH
    j.most = INT64_MAX
    j.named = <uint64_t*>mem_zalloc(MAX_ACTORS * sizeof(uint64_t))
    for db in range(SHARED):
        j.removes |= table_count(&k.db[db].table) > 0


cdef void joining_free(Joining *j) noexcept nogil:
    vector_free(&j.begin)
    vector_free(&j.folded)
    mem_free(j.named)
    buffer_free(&j.list)
    buffer_free(&j.after)
    buffer_free(&j.steps)
    buffer_free(&j.keys)
    buffer_free(&j.large)


cdef void joining_start(Joining *j) noexcept nogil:
    cdef uint32_t slot
    j.nobody.deps = j.begin
    j.actors.v = &j.nobody
    j.op.actors = &j.actors
    j.op.seq = vector_get(&j.begin, 0)     # he is in slot 0, whose ops are told by his own seq
    j.rules = 1
    for slot in range(j.k.actors.n):
        if slot != j.k.home.slot and j.k.actors.v[slot].applied > vector_get(&j.begin,
                                                                             <uint16_t>slot):
            j.rules = 0


cdef void joining_folded(Joining *j) noexcept nogil:
    """As `folded` is known."""
    cdef uint32_t slot
    j.late = 0
    for slot in range(j.k.actors.n):
        j.late |= (vector_get(&j.folded, <uint16_t>slot) > j.k.actors.v[slot].applied
                   or vector_get(&j.k.texts.folded, <uint16_t>slot)
                   > vector_get(&j.begin, <uint16_t>slot))


cdef int observed_before(const Joining *j, uint64_t dot) noexcept nogil:
    return not j.rules and j.k.actors.v[dot_slot(dot)].applied >= dot_seq(dot)


cdef void joined(Joining *j, uint32_t db, Span key) noexcept nogil:
    cdef Kernel *k = j.k
    if not j.changed:
        return
    j.changed = 0
    touch_key(k, db, key)
    k.changes += 1
    if k.watched.n:
        note_touched(k, db, key, key_hash(k, key.p, key.n))


# ---- cells ---------------------------------------------------------------------------------------

cdef inline int bytes_same(Span x, Span y) noexcept nogil:
    return x.n == y.n and (x.n == 0 or memcmp(x.p, y.p, x.n) == 0)


cdef int plain_stays(const Joining *j, Element *e, uint32_t flags, uint64_t stamp,
                     Span value) noexcept nogil:
    return not j.rules or (e.meta & E_CLEARS == flags & E_CLEARS and element_stamp(e) == stamp
                           and bytes_same(element_content(e), value))


cdef int write_same(Write *x, Write *y) noexcept nogil:
    return (x.stamp == y.stamp and x.actor == y.actor and x.flags == y.flags
            and bytes_same(span(write_value(x), x.n), span(write_value(y), y.n)))


cdef int number_same(const Number *x, const Number *y) noexcept nogil:
    if x.more == NULL or y.more == NULL:
        return x.more == y.more and x.whole == y.whole
    return (x.more.low == y.more.low and x.more.n == y.more.n and x.more.plus == y.more.plus
            and x.more.minus == y.more.minus
            and memcmp(limbs_of(x.more), limbs_of(y.more), x.more.n * sizeof(uint64_t)) == 0)


cdef int count_same(const Count *x, const Count *y) noexcept nogil:
    """But for which op cancelled: of two that did so at the same seq each replica knows one."""
    cdef const Rare *r = x.rare
    cdef const Rare *o = y.rare
    if (r.shown == NULL) != (o.shown == NULL) or (r.shown != NULL and (
            r.shown.context != o.shown.context
            or memcmp(r.shown.number, o.shown.number, EXTENDED))):
        return 0
    return (x.seq == y.seq and x.wide == y.wide and x.run_seq == y.run_seq
            and x.run_index == y.run_index and r.cancelled_seq == o.cancelled_seq
            and number_same(&x.total, &y.total)
            and number_same(&r.cancelled, &o.cancelled))


cdef int falsified_give_way(Cell *mine, Cell *theirs) noexcept nogil:
    """Writes that say other things than theirs under the same dots."""
    cdef Write **at = &mine.writes
    cdef Write *w
    cdef Write *y
    cdef int changed = 0
    while at[0] != NULL:
        w = at[0]
        y = theirs.writes
        while y != NULL and y.dot != w.dot:
            y = y.next
        if y == NULL or write_same(w, y):
            at = &w.next
            continue
        at[0] = w.next
        mem_free(w)
        changed = 1
    return changed


cdef int writes_join(Joining *j, Cell *mine, Cell *theirs) noexcept nogil:
    cdef Write **at = &mine.writes
    cdef Write *w = theirs.writes
    cdef uint16_t slot
    cdef int changed = falsified_give_way(mine, theirs) if j.rules else 0
    while w != NULL:                       # of one actor there is one at most
        j.named[dot_slot(w.dot)] = dot_seq(w.dot)
        w = w.next
    while at[0] != NULL:
        w = at[0]
        slot = dot_slot(w.dot)
        if j.named[slot] == dot_seq(w.dot):
            j.named[slot] = 0
            at = &w.next
        elif vector_get(&j.begin, slot) >= dot_seq(w.dot):
            at[0] = w.next
            mem_free(w)
            changed = 1
        else:
            at = &w.next
    while theirs.writes != NULL:
        w = theirs.writes
        theirs.writes = w.next
        slot = dot_slot(w.dot)
        if j.named[slot] == 0 or observed_before(j, w.dot):
            mem_free(w)
        else:
            w.next = mine.writes
            mine.writes = w
            changed = 1
        j.named[slot] = 0
    return changed


cdef void count_in(Counted *counted, const Count *t, int by) noexcept nogil:
    """by: 1, or -1 to leave it out."""
    counted.entries += by
    counted.exact += by * <int64_t>number_room(&t.total)
    counted.tombstones += by * is_tombstone(t)


cdef int count_join(Count *mine, Count *theirs) noexcept nogil:
    """Of one run."""
    cdef Rare *r
    cdef int changed = 0
    if theirs.seq > mine.seq:
        mine.seq = theirs.seq
        mine.wide = theirs.wide
        mine.total, theirs.total = theirs.total, mine.total
        if mine.rare.shown != theirs.rare.shown:
            r = count_rare(mine)
            count_rare(theirs)
            r.shown, theirs.rare.shown = theirs.rare.shown, r.shown
        changed = 1
    if theirs.rare.cancelled_seq > mine.rare.cancelled_seq:
        r = count_rare(mine)
        r.cancelled_seq = theirs.rare.cancelled_seq
        r.cancelled_by = theirs.rare.cancelled_by
        r.cancelled, theirs.rare.cancelled = theirs.rare.cancelled, r.cancelled
        changed = 1
    return changed


cdef int counts_join(Joining *j, Counted *counted, Cell *mine, Cell *theirs) noexcept nogil:
    """Both in the order of ranks."""
    cdef Actor *actors = j.k.actors.v
    cdef Count **at = &mine.counts
    cdef Count *s
    cdef Count *o
    cdef int changed = 0
    while at[0] != NULL or theirs.counts != NULL:
        s = at[0]
        o = theirs.counts
        if o == NULL or (s != NULL and actors[s.actor].rank < actors[o.actor].rank):
            if vector_get(&j.begin, s.actor) >= s.seq:
                count_in(counted, s, -1)
                at[0] = s.next
                count_free(s)
                changed = 1
            else:
                at = &s.next
            continue
        theirs.counts = o.next
        if s == NULL or s.actor != o.actor:
            if observed_before(j, make_dot(o.actor, o.seq)):
                count_free(o)
                continue
            o.next = s
        elif (o.run_seq > s.run_seq or (o.run_seq == s.run_seq and o.run_index > s.run_index)
              or (j.rules and not count_same(s, o))):
            o.next = s.next
            count_in(counted, s, -1)
            count_free(s)
        else:
            if o.run_seq == s.run_seq and o.run_index == s.run_index:
                count_in(counted, s, -1)
                changed |= count_join(s, o)
                count_in(counted, s, 1)
            count_free(o)
            at = &s.next
            continue
        count_in(counted, o, 1)
        at[0] = o
        at = &o.next
        changed = 1
    return changed


cdef int cell_join(Joining *j, Counted *counted, Cell *mine, Cell *theirs) noexcept nogil:
    cdef int changed = writes_join(j, mine, theirs)
    changed |= counts_join(j, counted, mine, theirs)
    j.changed |= changed
    return changed


cdef Element *element_join(Joining *j, uint32_t db, Table *t, size_t *live, Element *e,
                           Cell *theirs) noexcept nogil:
    cdef int was_live = element_live(e)
    e = open_cell(j.k, t, e)
    cell_join(j, &j.k.db[db].counted, element_cell(e), theirs)
    return reencode(j.k, t, live, e, was_live)


# ---- strings that are changed in place -----------------------------------------------------------

cdef Write *take_loose(Cell *c) noexcept nogil:
    """The loose text's write, taken out of the cell; NULL: there is none."""
    cdef Write **at = &c.writes
    cdef Write *w
    while at[0] != NULL:
        w = at[0]
        if w.flags & W_LOOSE:
            at[0] = w.next
            return w
        at = &w.next
    return NULL


cdef inline int same_patch(const Patch *p, const Patch *q) noexcept nogil:
    return q != NULL and q.dot == p.dot and q.index == p.index


cdef inline int folded_or_gone(const Joining *j, const Patch *p, int here) noexcept nogil:
    """Has one side, which lacks p, observed it?"""
    if here:
        return j.rules == 0 and j.k.actors.v[dot_slot(p.dot)].applied >= dot_seq(p.dot)
    return vector_get(&j.begin, dot_slot(p.dot)) >= dot_seq(p.dot)


cdef void texts_chain_free(Text *texts) noexcept nogil:
    cdef Text *t
    cdef Patch *p
    while texts != NULL:
        t = texts
        texts = t.next
        while t.first != NULL:
            p = t.first
            t.first = p.next
            mem_free(p)
        mem_free(t)


cdef int patches_meet(Joining *j, Bytes *b, Collection *c, Text *m, Text *t) noexcept nogil:
    """m becomes what both sides' patches come to; t is used up. 1: one was folded, or removed, at
    the giver; 2: here. Both are walked side by side, from the last place on."""
    cdef Actors *a = &j.k.actors
    cdef Patch *p = m.end
    cdef Patch *q = t.first if t != NULL else NULL
    cdef Patch *before
    cdef int what = 0
    while p != NULL:
        before = p.before
        while q != NULL and place_before(a, p, q):
            q = q.next
        if not same_patch(p, q) and folded_or_gone(j, p, 0):
            what |= 1
            patch_drop(c, m, p)
        p = before
    m.undone = m.first
    q = m.end
    while t != NULL and t.first != NULL:
        p = t.first
        t.first = p.next
        while q != NULL and place_before(a, p, q):
            q = q.before
        if not same_patch(p, q) and folded_or_gone(j, p, 1):
            what |= 2
            mem_free(p)
        elif text_put(j.k, b, c, m, p):
            m.undone = m.first
    return what


cdef int base_stands(const Joining *j, const Text *x, const Text *y, int here) noexcept nogil:
    """Is x's base still there, as y knows, which is this side's if `here`? Whoever removes any of
    it removes all."""
    cdef Patch *p = y.first
    if x.last == 0 or j.late or x.last == y.last:
        return x.last != 0
    if here and (j.rules or j.k.actors.v[dot_slot(x.last)].applied < dot_seq(x.last)):
        return 1
    if not here and vector_get(&j.begin, dot_slot(x.last)) < dot_seq(x.last):
        return 1
    while p != NULL and p.dot != x.last:
        p = p.next
    return p != NULL


cdef void put_bytes(Bytes *b, Span v) noexcept nogil:
    bytes_resize(b, v.n)
    copy_span(<char*>bytes_at(b), v)


cdef Element *loose_join(Joining *j, uint32_t db, Element *e, Write *mine, Write *theirs,
                         Text *t) noexcept nogil:
    """mine and theirs are in no cell, and without patches."""
    cdef Kernel *k = j.k
    cdef Collection *c
    cdef Text none
    cdef Text was
    cdef Text *m
    cdef Text *base = NULL
    cdef Bytes b
    cdef Span value = span(NULL, 0)
    cdef Write *w
    memset(&none, 0, sizeof(Text))
    if theirs != NULL and t == NULL:
        none.last = theirs.dot
        none.upto = theirs.stamp
    if t == NULL:
        t = &none
    w = cell_add_write(element_cell(e), 0, 0, 0, W_LOOSE, span(NULL, 0))
    c = patches_open(k, db, &e)
    m = text_of(c, 0)
    if m == NULL:
        m = text_open(c, 0, e)
        m.last = mine.dot if mine != NULL else 0
        m.upto = mine.stamp if mine != NULL else 0
    was = m[0]
    # as they were, before they meet
    if j.rules:
        base = t if t.last else NULL
    elif m.last and (t.last == 0 or m.last == t.last or later(
            &k.actors, m.upto, dot_slot(m.last), t.upto, dot_slot(t.last))):
        base = m if base_stands(j, m, t, 0) else t if base_stands(j, t, m, 1) else NULL
    elif t.last:
        base = t if base_stands(j, t, m, 1) else m if base_stands(j, m, t, 0) else NULL
    if base == m:
        value = span(write_value(mine), mine.n)
    elif base == t:
        value = span(write_value(theirs), theirs.n)
    bytes_of(k, db, e, 0, &b)
    put_bytes(&b, value)
    was.last = base.last if base != NULL else 0
    was.upto = base.upto if base != NULL else 0
    patches_meet(j, &b, c, m, t)
    m.last = was.last
    m.upto = was.upto
    if m.first == NULL and m.last == 0:
        w = take_loose(element_cell(e))
        mem_free(w)
        text_drop(c, m)
    elif m.first == NULL:
        loose_newest(b.at[0], m)
        text_drop(c, m)
    return e


cdef Element *texts_join(Joining *j, uint32_t db, Element *e, Cell *theirs,
                         Text *texts) noexcept nogil:
    cdef Kernel *k = j.k
    cdef Collection *c = patches_held(e)
    cdef Cell *mine = element_cell(e)
    cdef Write *w
    cdef Write *y
    cdef Write *here
    cdef Write *there
    cdef Text *t
    cdef Text *m
    cdef Bytes b
    cdef int what
    if c != NULL:
        patches_undo(k, db, e, c)
    here = take_loose(mine)
    there = take_loose(theirs)
    y = theirs.writes
    while y != NULL:                       # those that both have
        w = mine.writes
        while w != NULL and w.dot != y.dot:
            w = w.next
        t = texts
        while t != NULL and t.root != y.dot:
            t = t.next
        m = text_of(c, y.dot)
        if w != NULL and (t != NULL or m != NULL or not bytes_same(
                span(write_value(w), w.n), span(write_value(y), y.n))):
            if j.late:
                mark_text(k, db, element_name(e))
            c = patches_open(k, db, &e)
            mine = element_cell(e)
            m = text_open(c, y.dot, e)
            bytes_of(k, db, e, y.dot, &b)
            what = patches_meet(j, &b, c, m, t)
            if j.rules or what == 1:
                put_bytes(&b, span(write_value(y), y.n))
            if m.first == NULL:
                text_drop(c, m)
            j.changed = 1
        y = y.next
    cell_join(j, &k.db[db].counted, element_cell(e), theirs)
    t = texts
    while t != NULL:                       # those that only the giver has
        if t.root and t.first != NULL and bytes_of(k, db, e, t.root, &b):
            c = patches_open(k, db, &e)
            bytes_of(k, db, e, t.root, &b)
            m = text_open(c, t.root, e)
            patches_meet(j, &b, c, m, t)
            j.changed = 1
        t = t.next
    if here != NULL or there != NULL:
        if j.late and here != NULL:
            mark_text(k, db, element_name(e))
        t = texts
        while t != NULL and t.root:
            t = t.next
        e = loose_join(j, db, e, here, there, t)
        mem_free(here)
        mem_free(there)
        j.changed = 1
    texts_chain_free(texts)
    c = patches_held(e)
    return patches_redo(k, db, e, c) if c != NULL else e


# ---- lists ---------------------------------------------------------------------------------------

cdef Block *list_find(Joining *j, Collection *c, Span position, size_t *rank, uint32_t *i,
                       int *found) noexcept nogil:
    """The block that a position is in or behind, before which *rank elements stand; *i of its own
    stand before the position. NULL: all are behind."""
    cdef Block *b = order_search(order_of(c), position, rank)
    found[0] = 0
    i[0] = 0
    if b == NULL:
        rank[0] = 0
    else:
        i[0] = block_search(&j.k.actors, b, position, found)
    return b


cdef void packed_join(Joining *j, uint32_t db, Collection *c, Span position,
                      Span value) noexcept nogil:
    """Its write is that of the insert."""
    cdef uint64_t own = position_steps(position)[position_depth(position) - 1].own
    cdef Cell theirs
    cdef size_t rank
    cdef uint32_t i
    cdef int found
    cdef Block *b = list_find(j, c, position, &rank, &i, &found)
    if found and block_packed(b):
        if j.rules and not bytes_same(block_value(&j.k.actors, b, i), value):
            theirs.writes = NULL
            theirs.counts = NULL
            cell_add_write(&theirs, own, 0, dot_slot(own), 0, value)
            single_join(j, db, c, position, &theirs)
        return
    if found:
        theirs.writes = NULL
        theirs.counts = NULL
        cell_add_write(&theirs, own, 0, dot_slot(own), 0, value)
        cell_in_block_join(j, c, b, rank, &theirs)
    elif not observed_before(j, own):
        list_put(c, b, rank, i, position, value)
        j.changed = 1
    c.live = order_of(c).n


cdef void cell_in_block_join(Joining *j, Collection *c, Block *b, size_t rank,
                             Cell *theirs) noexcept nogil:
    """Of a block by itself."""
    cdef Counted none
    memset(&none, 0, sizeof(Counted))      # an element is no counter
    cell_join(j, &none, &b.cell, theirs)
    if b.cell.writes == NULL:
        order_remove_at(order_of(c), rank)
        block_free(b)


cdef void single_join(Joining *j, uint32_t db, Collection *c, Span position,
                      Cell *theirs) noexcept nogil:
    cdef Cell mine
    cdef size_t rank
    cdef uint32_t i
    cdef int found
    cdef Block *b = list_find(j, c, position, &rank, &i, &found)
    if found and not block_packed(b):
        cell_in_block_join(j, c, b, rank, theirs)
        c.live = order_of(c).n
        return
    if not found:
        mine.writes = NULL
        mine.counts = NULL
        if not cell_join(j, &j.k.db[db].counted, &mine, theirs):
            return
    if b != NULL:
        b = list_cut(c, rank, b, i)
        if i:
            rank += b.n
    if found:
        b = list_single(j.k, c, rank, position)
        cell_in_block_join(j, c, b, rank, theirs)
    else:
        b = block_new(position, span(NULL, 0))
        b.cell = mine
        order_insert_at(order_of(c), rank, block_item(b))
    c.live = order_of(c).n


cdef int compare_positions(Actors *a, Span x, Span y) noexcept nogil:
    cdef Step *p = position_steps(x)
    cdef Step *q = position_steps(y)
    cdef uint32_t i
    cdef int r
    for i in range(min(position_depth(x), position_depth(y))):
        r = compare_steps(a, &p[i], &q[i])
        if r:
            return r
    return <int>position_depth(x) - <int>position_depth(y)


cdef size_t list_behind(Joining *j, Collection *c) noexcept nogil:
    cdef size_t rank = 0
    cdef uint32_t i = 0
    cdef int found = 0
    if j.after.n:
        list_find(j, c, span(j.after.p, j.after.n), &rank, &i, &found)
    return rank + i + found


cdef int list_pass(Joining *j, Collection *c, Span position, Span value, size_t *rank,
                   int *there) noexcept nogil:
    cdef Actors *a = &j.k.actors
    cdef ListCursor at
    cdef Place place
    cdef size_t n
    cdef int r
    there[0] = 0
    if j.after.n and position.n and compare_positions(a, position,
                                                      span(j.after.p, j.after.n)) <= 0:
        return 1
    while rank[0] < order_of(c).n:
        list_seek(c, rank[0], &at)
        place = block_place_of(at.block, page_place(at.block, at.at))
        r = compare_to_place(a, at.block, &place, position) if position.n else -1
        if r == 0:
            there[0] = block_packed(at.block) and (
                not j.rules or bytes_same(list_value(j.k, &at), value))
            rank[0] += 1
        if r >= 0:
            break
        if j.most <= 0:
            return 0
        j.most -= 1
        j.after.n = 0
        block_position(at.block, &place, &j.after)
        n = order_of(c).n
        list_take(&j.op, c, at.block, rank[0] - at.at, at.at, span(j.after.p, j.after.n))
        if order_of(c).n == n:
            rank[0] += 1
        else:
            c.live = order_of(c).n
            j.changed = 1
    j.after.n = 0
    buffer_add(&j.after, position.p, position.n)
    return 1


cdef int list_pass_rest(Joining *j, Collection *c) noexcept nogil:
    """As list_pass, to the end."""
    cdef size_t rank = list_behind(j, c)
    cdef int there
    return list_pass(j, c, span(NULL, 0), span(NULL, 0), &rank, &there)


cdef int list_leave(Joining *j, uint32_t db, const Span *key) noexcept nogil:
    cdef Kernel *k = j.k
    cdef Collection *c = NULL
    cdef Element *e
    cdef Span name
    cdef uint32_t of
    cdef int was_live, over = 1
    if j.list.n == 0:
        return 1
    memcpy(&of, j.list.p, sizeof(of))
    name = span(j.list.p + sizeof(of), j.list.n - sizeof(of))
    if key != NULL and db == of and key.n == name.n and memcmp(key.p, name.p, name.n) == 0:
        return 1
    e = key_in(k, of, name)
    if e != NULL:
        c = element_collection(k, e, T_LIST)
    if c != NULL and j.removes:
        was_live = element_live(e)
        over = list_pass_rest(j, c)
        reencode(k, &k.db[of].table, &k.db[of].live, e, was_live)
        joined(j, of, name)
    if over:
        j.list.n = j.after.n = 0
    return over


# ---- what no piece has named ---------------------------------------------------------------------

cdef void tidy_member(Joining *j, Collection *c, Element *m) noexcept nogil:
    cdef Kernel *k = j.k
    cdef Cell theirs
    cdef size_t none = 0
    cdef uint32_t hash
    if m.meta & E_NAMED:
        m.meta &= ~<uint32_t>E_NAMED
        return
    if m.meta & E_PLAIN and not observed(&j.op, m.dot):
        return
    unindex(k, c, m)
    theirs.writes = NULL
    theirs.counts = NULL
    j.steps.n = 0
    buffer_add(&j.steps, element_key(m), element_klen(m))
    hash = m.hash
    element_join(j, j.db, &c.table, live_of(c, &none), m, &theirs)
    reindex(k, c, span(j.steps.p, j.steps.n), hash)


cdef void gather_unscanned(void *arg, Element *m) noexcept nogil:
    """A TableVisit, of a collection under the first of the large keys."""
    cdef Joining *j = <Joining*>arg
    if not was_scanned(j.k, m, j.member):
        buffer_add(&j.keys, &m, sizeof(Element*))


cdef void tidy_members(Joining *j, Collection *c) noexcept nogil:
    """Those that were gathered."""
    cdef size_t i
    for i in range(j.keys.n // sizeof(Element*)):
        tidy_member(j, c, (<Element**>j.keys.p)[i])
        j.most -= 1
    j.keys.n = 0


cdef int tidy_entries(Joining *j, Collection *c) noexcept nogil:
    """Of a stream, behind the one that came last; 1 while more is left."""
    cdef Order *o = order_of(c)
    cdef OrderCursor at
    cdef Item *item
    cdef Sealed *b
    cdef StreamId last
    cdef uint64_t gone
    cdef size_t n, rank = 0
    cdef uint32_t i
    if j.after.n:
        last = id_of(j.after.p)
        rank = entry_seek(c, last, &at, &item)
        if item != NULL and is_at(item, &at, last):
            rank += 1
    while j.most > 0:
        item = order_at(o, rank, &at)
        if item == NULL:
            return 0
        j.most -= 1
        n = o.n
        if not sealed_n(item.e):
            last = entry_id(item, &at)
            tidy_member(j, c, item.e)
            rank += o.n == n
        else:
            b = sealed_of(item.e)
            gone = 0                       # those before it have been looked at
            for i in range(at.within, b.n):
                gone |= <uint64_t>(b.named & row_bit(b, i) == 0
                                   and observed(&j.op, sealed_dot(b, i))) << i
            last = sealed_id(b, b.n - 1)
            b.named = 0
            j.changed |= gone != 0
            n = b.n - at.within - bits_set(gone)
            sealed_cut(j.k, c, rank - at.within, b, gone)
            rank += n
        buffer_need(&j.after, STREAM_ID)
        put_id(j.after.p, last)
        j.after.n = STREAM_ID
    return 1


cdef int tidy_collection(Joining *j, Collection *c) noexcept nogil:
    """Goes on with it; 1 while more is left."""
    if c.type == T_STREAM:
        return tidy_entries(j, c)
    if c.type == T_LIST:
        if not c.named and not list_pass_rest(j, c):
            return 1
        c.named = 0
        return 0
    while j.most > 0:
        j.keys.n = 0
        j.member = table_scan(&c.table, j.member, gather_unscanned, j)
        tidy_members(j, c)
        j.most -= 1
        if j.member == 0:
            return 0
    return 1


cdef void tidy_groups(Joining *j, Collection *c) noexcept nogil:
    """What stands under a CREATE that went, and what is said of entries that went. Of those that
    neither side had observed before, the tail may bring more."""
    cdef Kernel *k = j.k
    cdef char letter = G_GROUP
    cdef Collection *stream
    cdef OrderCursor at
    cdef Element *g
    cdef size_t rank, i
    cdef Buffer value
    cdef Marks m
    cdef Said w
    cdef Span key
    memcpy(&key.n, j.large.p + j.large_at, sizeof(key.n))
    key.p = j.large.p + j.large_at + sizeof(key.n)
    stream = element_collection(k, key_in(k, j.db, key), T_STREAM)
    drop_all_orphans(k, c)
    forget_places(c)
    memset(&value, 0, sizeof(Buffer))
    memset(&m, 0, sizeof(Marks))
    g = first_from(c, span(&letter, 1), &rank, &at)
    while g != NULL and element_key(g)[0] == G_GROUP:
        i = 0
        while nth_write(g, i, &w):
            i += 1
            if marks_decode(w.value, &m) and tidy_marks(j, stream, &m):
                marks_encode(&m, &value)
                g = write_change(k, c, g, w.dot, content(&value))
                j.changed = 1
        rank += 1
        g = order_at(order_of(c), rank, &at).e if rank < order_of(c).n else NULL
    buffer_free(&value)
    marks_free(&m)


cdef int create_went(Joining *j, Collection *c, Span name) noexcept nogil:
    """Is it a consumer or a record of what this replica knows to be gone?"""
    cdef const char *p = name.p + name.n - CREATE_ID
    cdef uint64_t actor, seq, dot
    cdef Element *g
    cdef Said w
    if name.p[0] != G_CONSUMER and name.p[0] != G_RECORD:
        return 0
    memcpy(&actor, p, 8)
    memcpy(&seq, p + 8, 8)
    dot = create_dot(j.k, actor, seq)
    if dot == 0 or not observed_before(j, dot):
        return 0
    g = find_group(j.k, c, name_of_group(name))
    return g == NULL or not write_of(g, dot, &w)


cdef void marks_told(Joining *j, Collection *stream, Span name, Cell *theirs) noexcept nogil:
    """What the giver says of entries of which this replica knows that they are gone. Those that
    are not have come in pieces before."""
    cdef Write **at = &theirs.writes
    cdef Write *x
    cdef Buffer value
    cdef Marks m
    if name.p[0] != G_GROUP or j.k.inbox.recovering:
        return
    memset(&value, 0, sizeof(Buffer))
    memset(&m, 0, sizeof(Marks))
    while at[0] != NULL:
        if marks_decode(span(write_value(at[0]), at[0].n), &m) and tidy_marks(j, stream, &m):
            marks_encode(&m, &value)
            x = <Write*>mem_alloc(sizeof(Write) + value.n)
            memcpy(x, at[0], sizeof(Write))
            x.n = <uint32_t>value.n
            copy_span(write_value(x), content(&value))
            mem_free(at[0])
            at[0] = x
        at = &at[0].next
    buffer_free(&value)
    marks_free(&m)


cdef int tidy_marks(Joining *j, Collection *stream, Marks *m) noexcept nogil:
    """Of entries that are not here and that either side had observed nothing is said. 1 where that
    changed anything."""
    cdef Kernel *k = j.k
    cdef Element *e
    cdef Mark *x
    cdef uint64_t dot
    cdef size_t i, n = mark_count(&m.odd), left = 0
    cdef Said w
    for i in range(n):
        x = mark_at(&m.odd, i)
        dot = create_dot(k, x.actor, x.seq)
        e = entry_of(k, stream, x.id)
        if ((e == NULL or not write_of(e, dot, &w)) and dot
                and (observed(&j.op, dot) or observed_before(j, dot))):
            continue
        mark_at(&m.odd, left)[0] = x[0]
        left += 1
    m.odd.n = left * sizeof(Mark)
    return left != n


cdef void tidy_large(Joining *j) noexcept nogil:
    """Goes on with the first of the large keys."""
    cdef Kernel *k = j.k
    cdef Database *d = &k.db[j.db]
    cdef Collection *c
    cdef Element *e
    cdef Span key
    cdef int was_live
    memcpy(&key.n, j.large.p + j.large_at, sizeof(key.n))
    key.p = j.large.p + j.large_at + sizeof(key.n)
    e = key_in(k, j.db, key)
    while e != NULL and e.meta & E_ENTRY and j.type < T_COUNT and j.most > 0:
        c = element_collection(k, e, j.type)
        was_live = element_live(e)
        # NULL also where it went in the middle of its walk
        if c == NULL or not tidy_collection(j, c):
            if c != NULL and c.type == T_GROUPS:
                tidy_groups(j, c)
            j.type += 1
            j.member = 0
            j.after.n = 0
        e = reencode(k, &d.table, &d.live, e, was_live)
    joined(j, j.db, key)
    if e != NULL and e.meta & E_ENTRY and j.type < T_COUNT:
        return
    if e != NULL:
        e.meta &= ~<uint32_t>E_MARKS
    j.type = T_HASH
    j.member = 0
    j.after.n = 0
    j.large_at += sizeof(key.n) + key.n
    if j.large_at == j.large.n:
        j.large_at = j.large.n = 0


cdef void tidy_key(Joining *j, Element *e) noexcept nogil:
    """Its own cells; what lies under it is put down to be walked."""
    cdef Kernel *k = j.k
    cdef Database *d = &k.db[j.db]
    cdef Cell theirs
    cdef size_t n = element_klen(e)
    cdef int was_live
    if not e.meta & E_ENTRY and (e.meta & E_NAMED or (e.meta & E_PLAIN
                                                      and not observed(&j.op, e.dot))):
        e.meta &= ~<uint32_t>E_MARKS
        return
    j.steps.n = 0
    buffer_add(&j.steps, element_key(e), n)
    theirs.writes = NULL
    theirs.counts = NULL
    was_live = element_live(e)
    if e.meta & E_VALUE and not e.meta & E_NAMED:
        e = texts_join(j, j.db, open_cell(k, &d.table, e), &theirs, NULL)
    if not e.meta & E_DEADLINE_NAMED:
        part_deadline(k, e)
    if element_entry(e) != NULL and not e.meta & E_DEADLINE_NAMED:
        cell_join(j, &d.counted, &element_entry(e).deadline, &theirs)
    if element_held(e) != NULL:
        buffer_add(&j.large, &n, sizeof(n))
        buffer_add(&j.large, j.steps.p, n)
    else:
        e.meta &= ~<uint32_t>E_MARKS
    reencode(k, &d.table, &d.live, e, was_live)
    joined(j, j.db, span(j.steps.p, n))


cdef void gather_unscanned_key(void *arg, Element *e) noexcept nogil:
    """A TableVisit."""
    cdef Joining *j = <Joining*>arg
    if was_scanned(j.k, e, j.cursor):
        return
    if not j.some or bucket_is_in(j.buckets, bucket_of(j.db, element_name(e))):
        buffer_add(&j.keys, &e, sizeof(Element*))


cdef int joining_tidy(Joining *j) noexcept nogil:
    cdef size_t i
    if not list_leave(j, 0, NULL):
        return 1
    if not j.removes:
        return 0
    while j.db < SHARED and j.most > 0:
        if j.large.n:
            tidy_large(j)
            continue
        if j.passed:
            j.passed = 0
            j.db += 1
            j.cursor = 0
            continue
        j.keys.n = 0
        i = table_scan(&j.k.db[j.db].table, j.cursor, gather_unscanned_key, j)
        j.cursor = i
        j.passed = i == 0
        for i in range(j.keys.n // sizeof(Element*)):
            tidy_key(j, (<Element**>j.keys.p)[i])
            j.most -= 1
        j.most -= 1
        j.keys.n = 0
    return j.db < SHARED
