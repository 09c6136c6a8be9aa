# Every invariant of the kernel, for tests: Replica.check.

from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset, strcmp

from crdtredis.buffer cimport span


cdef int count_pages(const VersionVector *r, dict found) except -1:
    cdef uint32_t i
    for i in range(r.n):
        if r.pages[i] != NULL:
            assert r.pages[i].n <= PAGE_SLOTS, "actors: too long a page"
            found[<size_t>r.pages[i]] = found.get(<size_t>r.pages[i], 0) + 1
    return 0


cdef int check_actors(Actors *a) except -1:
    cdef Actor *x
    cdef Actor *y
    cdef uint32_t i
    found = {}
    for i in range(a.n):
        x = &a.v[a.ordered[i]]
        assert a.ordered[i] == a.hidden - 1 or actors_find(a, x.id) == a.ordered[i], \
            "actors: one that is not found by its id"
        assert strcmp(x.replica, a.v[x.replica_slot].replica) == 0, "actors: of another replica"
        if i:
            y = &a.v[a.ordered[i - 1]]
            assert actor_before(y,
                                x) and y.rank < x.rank < <uint64_t>1 << 63, "actors: out of order"
            assert (y.replica_slot == x.replica_slot) == (strcmp(y.replica, x.replica)
                                                          == 0), "actors: replicas not told apart"
        count_pages(&x.deps, found)
        count_pages(&x.told, found)
    count_pages(&a.common, found)
    for page, held in found.items():
        assert (<Page*><size_t>page).holders == held, "actors: a page of more or fewer vectors"
    return 0


cdef int check_pending(Kernel *k) except -1:
    """Asserts that what waits is counted, and that each actor is where it belongs by what its next
    op waits for."""
    cdef Actors *a = &k.actors
    cdef Backlog *b
    cdef Element *m
    cdef OpHead h
    cdef uint16_t of = 0
    cdef uint64_t until = 0
    cdef size_t pos = 0, bytes = 0, held = 0, n
    cdef uint32_t slot
    cdef int why
    ops = [[0, 0] for _ in range(a.n)]
    why = table_check(&k.pending.ops, k.hash_key)
    assert why == 0, f"causal buffer: table: {why}"
    while True:
        m = table_next(&k.pending.ops, &pos)
        if m == NULL:
            break
        memcpy(&until, element_key(m), sizeof(until))
        assert dot_seq(until) > a.v[dot_slot(until)].applied, "causal buffer: an op that is applied"
        ops[dot_slot(until)][0] += 1
        ops[dot_slot(until)][1] += pending_size(element_vlen(m))
    waiting = heap_slots(a, k.pending.held)
    held_slots = [slot for slot in range(a.n) if a.v[slot].backlog.state == BACKLOG_HELD]
    assert sorted(waiting) == held_slots, "causal buffer: the heap of those held"
    for slot in range(a.n):
        b = &a.v[slot].backlog
        assert ops[slot] == [b.n, b.bytes], \
            f"causal buffer: {ops[slot]} there, {b.n} and {b.bytes} counted"
        bytes += b.bytes
        held += b.n if b.state == BACKLOG_HELD else 0
        below = heap_slots(a, b.blocked)
        for x in below:
            assert a.v[x].backlog.state == BACKLOG_BLOCKED, \
                "causal buffer: in a heap, but not blocked"
            assert a.v[x].backlog.until > a.v[slot].applied, \
                "causal buffer: what it waits for is here"
        waiting += below
        m = pending_find(k, slot, a.v[slot].applied + 1)
        if b.state == BACKLOG_READY:
            continue
        why = BLOCKED_BY_OWN
        if m != NULL:
            assert decode_op(element_content(m), &h) == 1, \
                "causal buffer: bytes that are no op"
            why = blocked(k, slot, &h, &of, &until)
        if b.state == BACKLOG_IDLE:
            assert why == BLOCKED_BY_OWN, f"causal buffer: idle, but {why}"
        elif b.state == BACKLOG_BLOCKED:
            assert why == BLOCKED_BY_OTHER, f"causal buffer: blocked, but {why}"
    assert len(waiting) == len(set(waiting)), "causal buffer: in two heaps"
    n = sum(1 for slot in range(a.n) if a.v[slot].backlog.state in (BACKLOG_BLOCKED, BACKLOG_HELD))
    assert len(waiting) == n, f"causal buffer: {n} wait, {len(waiting)} in heaps"
    assert bytes == k.pending.bytes and held == k.pending.held_ops, "causal buffer: counts"
    return 0


cdef list heap_slots(Actors *a, uint16_t root):
    """The slots in a heap; asserts its order."""
    out, left = [], [(root, 0)] if root else []
    while left:
        x, least = left.pop()
        assert a.v[x - 1].backlog.until >= least, "causal buffer: heap order"
        out.append(x - 1)
        child = a.v[x - 1].backlog.child
        while child:
            left.append((child, a.v[x - 1].backlog.until))
            child = a.v[child - 1].backlog.next
    return out


cdef int check_table(Kernel *k, uint32_t db, Table *t, size_t *live, Counted *found) except -1:
    """Asserts what holds for keys and members alike; counts t's
    live elements, counter entries and bytes of exact totals."""
    cdef Element *e
    cdef LoneRoom room
    cdef Cell *c
    cdef Count *y
    cdef size_t pos = 0
    assert table_check(t, k.hash_key) == 0, f"table: {table_check(t, k.hash_key)}"
    while True:
        e = table_next(t, &pos)
        if e == NULL:
            return 0
        live[0] += element_live(e)
        assert k.joining or not e.meta & E_MARKS, "a mark that no join took away"
        assert e.meta & (E_VALUE | E_ENTRY), "an element without content"
        assert (e.meta & E_MEMBER != 0) == (t != &k.db[db].table), "a member or a key?"
        assert (e.meta & (E_PLAIN | E_CELL)) != E_PLAIN | E_CELL, "two values"
        assert (not e.meta & E_PLAIN
                or dot_seq(e.dot) <= vector_get(&k.db[db].written, dot_slot(e.dot))), \
            "a write newer than the newest"
        assert (not e.meta & E_PLAIN
                or (dot_slot(e.dot) == k.home.slot) == (db >= HOME_DB)), "a write of the wrong half"
        assert e.meta & (E_CELL | E_LONE) != E_CELL | E_LONE, "two cells"
        c = cell_of(e, &room)
        y = c.counts if c != NULL else NULL
        while y != NULL:
            found.entries += 1
            assert (y.actor == k.home.slot) == (db >= HOME_DB), "a counter entry of the wrong half"
            found.exact += number_room(&y.total)
            check_number(&y.total)
            check_number(&y.rare.cancelled)
            found.tombstones += is_tombstone(y)
            assert y.next == NULL or k.actors.v[y.actor].rank < k.actors.v[
                    y.next.actor].rank, "counter entries out of order"
            y = y.next


cdef int check_number(const Number *v) except -1:
    cdef const uint64_t *limb = limbs_of(v.more)
    cdef int n = v.more.n if v.more != NULL else 0
    if v.more == NULL:
        return 0
    assert n == 0 or LIMB_LOW <= v.more.low and v.more.low + n <= LIMB_HIGH, "a total out of bounds"
    assert n == 0 or limb[0] and (n == 1 or limb[n - 1]
                                  != sign_of(limb, n - 1)), "a total with limbs that say nothing"
    assert v.more.plus or v.more.minus or n > 1 or n and v.more.low, (
        "a total that is a 64-bit number")
    return 0


cdef int check_collection(Kernel *k, uint32_t db, Collection *c, Counted *found) except -1:
    cdef Element *m
    cdef size_t live = 0, cells = 0, pos = 0, with_tombstones = 0
    cdef int broken = order_check(order_of(c)) if has_order(c) else 0
    assert broken == 0, f"order: {broken}"
    if types[c.type].check != NULL:
        broken = types[c.type].check(k, c)
        assert broken == 0, f"collection of type {c.type}: {broken}"
    if c.type == T_PATCHES:
        return 0
    if c.type == T_LIST:
        assert k.joining or not c.named, "a mark that no join took away"
        return 0
    check_table(k, db, &c.table, &live, found)
    assert collection_size(c) or c.type == T_STREAM and c.next != NULL and (
        shown_as(c.next.type) == T_STREAM), \
        "an empty collection"
    if c.type != T_DEADLINES:
        if c.type == T_STREAM:
            live += sealing_of(c).n
        assert live == c.live, f"{c.live} members counted, {live} there"
    while True:
        m = table_next(&c.table, &pos)
        if m == NULL:
            break
        cells += not m.meta & E_PLAIN
        with_tombstones += m.meta & E_CELL and has_tombstone(element_cell(m))
    assert with_tombstones == c.tombstones, \
        f"{c.tombstones} members with tombstones counted, {with_tombstones} there"
    assert cells == c.cells, f"{c.cells} cells counted, {cells} there"
    return 0


cdef int check_kernel(Kernel *k) except -1:
    cdef Database *d
    cdef Element *e
    cdef Entry *x
    cdef HeapItem *item
    cdef Collection *c
    cdef Collection *fields
    cdef Collection *hash
    cdef size_t pos, live, expiring, subexpiring
    cdef Counted found
    cdef uint32_t i, timed
    cdef char *packed
    for db in range(DATABASES):
        d = &k.db[db]
        pos = live = timed = expiring = subexpiring = 0
        memset(&found, 0, sizeof(Counted))
        check_table(k, db, &d.table, &live, &found)
        while True:
            e = table_next(&d.table, &pos)
            if e == NULL:
                break
            if not e.meta & E_ENTRY:
                continue
            x = element_entry(e)
            packed = key_open(k, e)
            c = element_held(e)
            assert x != NULL or c != NULL or is_joint(e), "a pointer to nothing"
            if is_joint(e):
                assert e.meta & E_PLAIN, "a joint deadline of no plain value"
                assert joint_db(e) == db and joint_item(k, e).of == <uint64_t>e | 1, \
                    "a joint deadline that the heap does not know"
                expiring += 1
                timed += 1
            fields = element_collection(k, e, T_DEADLINES)
            if x != NULL:
                assert x.owner == e and x.db == db, "an entry that is not its element's"
                assert not cell_empty(&x.deadline) or fields != NULL, "an entry without a deadline"
                assert x.expiring & 1 == (element_live(e) and key_deadline(k, e) != -1), \
                    "a deadline counted that is none, or not counted"
                assert x.expiring >> 1 == (fields != NULL and order_of(fields).n > 0), \
                    "deadlines of fields counted where there are none, or not counted"
                expiring += x.expiring & 1
                subexpiring += x.expiring >> 1
                timed += x.heap != 0
            if fields != NULL:
                assert x != NULL, "deadlines of fields without an entry"
                hash = fields_of(fields).hash
                assert hash == element_collection(k, e, T_HASH), "deadlines of another hash"
                assert hash == NULL or hash.next == fields, "deadlines not behind their hash"
                assert fields_due(k, fields) == NEVER or x.heap, "fields that nobody looks at"
            assert (element_collection(k, e, T_STREAM_HEAD) == NULL
                    or head_of(element_collection(k, e, T_STREAM)) != NULL), \
                "a head without a stream"
            assert (element_collection(k, e, T_GROUPS) == NULL
                    or groups_of(element_collection(k, e, T_STREAM)) != NULL), \
                "groups without a stream"
            while c != NULL:
                check_collection(k, db, c, &found)
                c = c.next
            assert packed == NULL or may_pack(element_held(e)), "packed what cannot be"
            key_close(e, packed)
        assert live == d.live, f"db {db}: {d.live} keys counted, {live} there"
        assert expiring == d.expiring, \
            f"db {db}: {d.expiring} deadlines counted, {expiring} there"
        assert subexpiring == d.subexpiring, \
            f"db {db}: {d.subexpiring} keys with deadlines of fields counted, {subexpiring} there"
        assert found.entries == d.counted.entries, \
            f"db {db}: {d.counted.entries} counter entries counted, {found.entries} there"
        assert found.exact == d.counted.exact, \
            f"db {db}: {d.counted.exact} bytes of exact totals counted, {found.exact} there"
        assert found.tombstones == d.counted.tombstones, \
            f"db {db}: {d.counted.tombstones} tombstones counted, {found.tombstones} there"
        assert timed == d.timed, f"db {db}: {d.timed} keys in the heap counted, {timed} there"
    for i in range(k.deadlines.n):
        item = &k.deadlines.heap[i]
        e = item_owner(item)
        if item.of & 1:
            assert is_joint(e) and joint_item(k, e) == item, "heap: a key that is not there"
        else:
            x = element_entry(e)
            fields = element_collection(k, e, T_DEADLINES)
            assert x.heap == i + 1, "heap: an entry that does not know its place"
            assert item.at == min(
                key_due(k, x), fields_due(k, fields) if fields != NULL else <int64_t>NEVER), \
                "heap: time"
        assert i == 0 or k.deadlines.heap[(i - 1) // 2].at <= k.deadlines.heap[i].at, "heap: order"
    assert k.open.depth == 0 and not k.open.has_op, "an op was left open"
    assert not k.open.home and not k.open.other.has_op, "half an op was left open"
    check_pending(k)
    check_actors(&k.actors)
    return 0
