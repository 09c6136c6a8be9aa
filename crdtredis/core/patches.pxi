# Strings that are changed in place: how do replicas that get changes in different orders show the
# same bytes, without a change that costs as much as the string is long?
#
# SETBIT, BITFIELD, SETRANGE and APPEND make a *patch*. It names the write that it changes, its
# root, by the dot; where there is none, the key has a *loose text*, made of nothing but patches.
# Patches of a root act in the order of (stamp, actor, index in the op): each sets some bits, or
# adds bytes behind the end. That order is a function of the set of ops.
#
#     "x" is synced. A: APPEND a at stamp 5   ||   B: APPEND bb at 3, SETRANGE 1 Z at 4
#     A shows xa, and applies B's: a is undone, bb, Z and a act: xZba.
#     B shows xZb, and applies A's behind them: xZba.
#
# A patch lives and dies with its root, whatever its stamp. Patches of the loose text are removed
# one by one by who observed them, as members of a set are. Any SET shows before the loose text.
#
# In memory a string is what it was, its bytes as they are shown: in the element, of a loose text in
# a write with W_LOOSE in a cell, whose dot and stamp are its newest patch's. Patches that somebody
# may not know yet are remembered beside it, in a hidden Collection, each with what it covered; so
# one that comes too early undoes those behind it, and they act again once the batch has been read.
# What need not be remembered any more is folded (core/fold.pxi): the patch is forgotten. Alone,
# with no other replica, nothing is remembered at all.
#
# What an op that knows less than what is folded here may do wrong is written anew: also there.
#
# The log brings ops again that a checkpoint holds (core/give.pxi). While a state is given nothing
# is folded, so a patch that is met again is found by its place. Those that were made alone, in
# place, are met again as often as the walk lasted (Texts.loaded): they act in place again, APPEND
# where it did then, so that all in their order, with what removes them, leave what is there.
#
# tests/core/patches.py is the model of all of it.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memcpy, memset

from crdtredis.buffer cimport (Buffer, Span, buffer_add, buffer_free, buffer_need, copy_span,
                               span)


# ---- bytes of a text -----------------------------------------------------------------------------

cdef inline size_t bytes_n(const Bytes *b) noexcept nogil:
    return b.at[0].n if b.at != NULL else element_vlen(b.e)


cdef inline size_t with_slack(size_t n, size_t had) noexcept nogil:
    """A string that grows has some room for more, since it will."""
    return n + (min(n // 8, <size_t>1 << 20) if had else 0)


cdef void element_resize(Bytes *b, size_t n) noexcept nogil:
    """The value of b.e. Only one that grows may stand elsewhere afterwards, so who undoes and acts
    again need not look it up: what was long is held as what is long."""
    cdef Table *t = &b.k.db[b.db].table
    cdef Element *e = b.e
    cdef size_t klen = element_klen(e), had = element_vlen(e), begin = element_begin(e)
    cdef size_t before = element_before_key(e.meta) - begin + klen
    cdef Buffer value
    cdef char *p
    if begin and not are_short(e.meta, klen, n):
        memset(&value, 0, sizeof(Buffer))
        buffer_need(&value, n + 1)
        memcpy(value.p, element_value(e), had)
        b.e = element_convert(b.k, t, e, e.meta & 0xff, span(value.p, n))
        buffer_free(&value)
        return
    if before + n > mem_room(element_allocation(e)):
        p = <char*>mem_realloc(element_allocation(e), with_slack(before + n, had))
        if p - begin != <char*>e:
            b.e = <Element*>(p - begin)
            table_swap(t, e, b.e)
            e = b.e
            element_moved(b.k, e)
    if begin:
        element_put_lengths(e, klen, n)
    else:
        e.long_vlen = <uint32_t>n


cdef void bytes_resize(Bytes *b, size_t n) noexcept nogil:
    """What comes is zero."""
    cdef size_t had = bytes_n(b)
    if b.at == NULL:
        if n != had:
            element_resize(b, n)
    else:
        if sizeof(Write) + n > mem_room(b.at[0]):
            b.at[0] = <Write*>mem_realloc(b.at[0], with_slack(sizeof(Write) + n, had))
        b.at[0].n = <uint32_t>n
    if n > had:
        memset(bytes_at(b) + had, 0, n - had)


cdef Write **loose_at(Element *e) noexcept nogil:
    """The write that is e's loose text; NULL: there is none."""
    cdef Write **at = &element_cell(e).writes if e.meta & E_CELL else NULL
    while at != NULL and at[0] != NULL:
        if at[0].flags & W_LOOSE:
            return at
        at = &at[0].next
    return NULL


cdef int bytes_of(Kernel *k, uint32_t db, Element *e, uint64_t root, Bytes *b) noexcept nogil:
    """Where the text of this root stands; 0: it is not there."""
    b.k = k
    b.db = db
    b.e = e
    b.at = NULL
    if root and e.meta & E_PLAIN:
        return e.dot == root
    b.at = loose_at(e) if root == 0 else &element_cell(e).writes if e.meta & E_CELL else NULL
    while root and b.at != NULL and b.at[0] != NULL and (b.at[0].dot != root
                                                        or b.at[0].flags & W_LOOSE):
        b.at = &b.at[0].next
    return b.at != NULL and b.at[0] != NULL


# ---- what a patch does ---------------------------------------------------------------------------

cdef inline size_t patch_size(int appends, size_t n) noexcept nogil:
    return sizeof(Patch) + (n if appends else 2 * n)


cdef Patch *patch_new(uint64_t dot, uint64_t stamp, uint32_t index,
                      const Effect *x) noexcept nogil:
    cdef Patch *p = <Patch*>mem_alloc(patch_size(x.keep, x.value.n))
    memset(p, 0, sizeof(Patch))
    p.dot = dot
    p.stamp = stamp
    p.index = index
    p.at = x.run_seq
    p.n = <uint32_t>x.value.n
    p.appends = <uint16_t>x.keep
    p.unused = <uint16_t>x.run_index
    copy_span(<char*>patch_bytes(p), x.value)
    return p


cdef void set_bits(uint8_t *to, const uint8_t *bits, size_t n, uint64_t at,
                   int unused) noexcept nogil:
    """The bits that a change names: those of its bytes from bit `at` on, but the last `unused`."""
    cdef uint8_t first = <uint8_t>(0xff >> (at & 7)), last = <uint8_t>(0xff << unused)
    if n == 1:
        first &= last
        to[0] = <uint8_t>((to[0] & ~first) | bits[0])
        return
    to[0] = <uint8_t>((to[0] & ~first) | bits[0])
    memcpy(to + 1, bits + 1, n - 2)
    to[n - 1] = <uint8_t>((to[n - 1] & ~last) | bits[n - 1])


cdef void patch_act(Bytes *b, Patch *p) noexcept nogil:
    cdef size_t n = bytes_n(b), at = p.at >> 3
    p.found = <uint32_t>n
    if p.appends:
        bytes_resize(b, min(n + p.n, <size_t>STRING_MOST))
        memcpy(bytes_at(b) + n, patch_bytes(p), bytes_n(b) - n)
        return
    if at + p.n > n:
        bytes_resize(b, at + p.n)
    memcpy(patch_bytes(p) + p.n, bytes_at(b) + at, p.n)
    set_bits(bytes_at(b) + at, patch_bytes(p), p.n, p.at, p.unused)


cdef void patch_undo(Bytes *b, Patch *p) noexcept nogil:
    if not p.appends:
        memcpy(bytes_at(b) + (p.at >> 3), patch_bytes(p) + p.n, p.n)
    bytes_resize(b, p.found)


cdef void act_in_place(Bytes *b, const Effect *x) noexcept nogil:
    """Met again, it changes nothing in the end."""
    cdef size_t at = x.run_seq if x.keep else x.run_seq >> 3
    cdef size_t end = min(at + x.value.n, <size_t>STRING_MOST)
    if end > bytes_n(b):
        bytes_resize(b, end)
    if x.keep:
        memcpy(bytes_at(b) + at, x.value.p, end - at if at < end else 0)
    else:
        set_bits(bytes_at(b) + at, <const uint8_t*>x.value.p, x.value.n, x.run_seq,
                 <int>x.run_index)


cdef int patch_is_sound(const Effect *x) noexcept nogil:
    """An APPEND has its maker's length in run_seq; other changes have there the first bit, and in
    run_index how many bits at the end are not theirs. Those are zero."""
    cdef const uint8_t *p = <const uint8_t*>x.value.p
    cdef uint8_t first = <uint8_t>(0xff >> (x.run_seq & 7))
    cdef uint8_t last = <uint8_t>(0xff << (x.run_index & 7))
    if (x.type != T_STRING or x.name.n or x.value.n == 0 or x.observed.n or x.stamp
            or x.total.whole or x.total.fraction.n or x.total.exact.n or x.shown.n or x.context
            or x.wide or (x.actor == 0) != (x.deadline == 0) or x.deadline >> SEQ_BITS):
        return 0
    if x.keep:
        return x.run_index == 0 and x.run_seq <= STRING_MOST and x.value.n <= STRING_MOST
    if (x.run_index > 7 or x.run_seq >> 3 >= STRING_MOST
            or (x.run_seq >> 3) + x.value.n > STRING_MOST):
        return 0
    if x.value.n == 1:
        return first & last and p[0] & ~(first & last) == 0
    return p[0] & ~first == 0 and p[x.value.n - 1] & ~last == 0


# ---- texts ---------------------------------------------------------------------------------------

cdef Collection *patches_held(Element *e) noexcept nogil:
    cdef Collection *c = element_unpacked(e)
    while c != NULL and c.type != T_PATCHES:
        c = c.next
    return c


cdef Text *text_of(const Collection *c, uint64_t root) noexcept nogil:
    cdef Text *t = patched_of(c).texts if c != NULL else NULL
    while t != NULL and t.root != root:
        t = t.next
    return t


cdef void patches_in(Kernel *k, Collection *c) noexcept nogil:
    """As the first of all."""
    cdef Patched *x = patched_of(c)
    x.before = NULL
    x.after = k.texts.first
    if x.after != NULL:
        patched_of(x.after).before = c
    k.texts.first = c


cdef void patches_out(Kernel *k, Collection *c) noexcept nogil:
    cdef Patched *x = patched_of(c)
    if k.texts.next == c:
        k.texts.next = x.after
    if x.before != NULL:
        patched_of(x.before).after = x.after
    else:
        k.texts.first = x.after
    if x.after != NULL:
        patched_of(x.after).before = x.before


cdef Collection *patches_open(Kernel *k, uint32_t db, Element **e) noexcept nogil:
    cdef Collection *c
    cdef Patched *x
    e[0] = open_collections(k, db, e[0])
    c = collection_open(k, e[0], T_PATCHES)
    x = patched_of(c)
    if x.k == NULL:
        x.k = k
        x.db = db
        x.key_n = element_klen(e[0])
        x.key = <char*>mem_alloc(x.key_n + 1)
        copy_span(x.key, element_name(e[0]))
        patches_in(k, c)
    c.named = 1                            # it stays: see may_drop
    x.changed = k.now
    return c


cdef void patch_drop(Collection *c, Text *t, Patch *p) noexcept nogil:
    """Takes it out, and frees it."""
    cdef Patched *x = patched_of(c)
    if p.before != NULL:
        p.before.next = p.next
    else:
        t.first = p.next
    if p.next != NULL:
        p.next.before = p.before
    else:
        t.end = p.before
    if t.undone == p:
        t.undone = p.next
    if t.hint == p:
        t.hint = p.before
    x.n -= 1
    x.bytes -= mem_size(p)
    mem_free(p)


cdef void text_drop(Collection *c, Text *t) noexcept nogil:
    cdef Text **at = &patched_of(c).texts
    while t.first != NULL:
        patch_drop(c, t, t.first)
    while at[0] != t:
        at = &at[0].next
    at[0] = t.next
    mem_free(t)


cdef Text *text_open(Collection *c, uint64_t root, Element *e) noexcept nogil:
    cdef Text *t = text_of(c, root)
    cdef Write **w
    if t == NULL:
        t = <Text*>mem_zalloc(sizeof(Text))
        t.root = root
        t.next = patched_of(c).texts
        patched_of(c).texts = t
        w = loose_at(e) if root == 0 else NULL
        if w != NULL:                      # all of it is its base
            t.last = w[0].dot
            t.upto = w[0].stamp
    return t


cdef int place_before(Actors *a, const Patch *x, const Patch *y) noexcept nogil:
    if x.dot == y.dot:
        return x.index < y.index
    return later(a, y.stamp, dot_slot(y.dot), x.stamp, dot_slot(x.dot))


cdef void text_undo(Bytes *b, Text *t, Patch *until) noexcept nogil:
    """Those behind `until` (NULL: all)."""
    cdef Patch *p = t.undone.before if t.undone != NULL else t.end
    while p != until:
        patch_undo(b, p)
        t.undone = p
        p = p.before


cdef void text_redo(Bytes *b, Text *t) noexcept nogil:
    while t.undone != NULL:
        patch_act(b, t.undone)
        t.undone = t.undone.next


cdef void loose_newest(Write *w, const Text *t) noexcept nogil:
    """w is told by the patch that acts last."""
    w.dot = t.end.dot if t.end != NULL else t.last
    w.stamp = t.end.stamp if t.end != NULL else t.upto
    w.actor = dot_slot(w.dot)


cdef int text_put(Kernel *k, Bytes *b, Collection *c, Text *t, Patch *p) noexcept nogil:
    """In its place, which is mostly the end, or behind the one that came last; 0, and it is freed,
    where it is there already. Those behind it are undone."""
    cdef Patch *at = t.hint if t.hint != NULL else t.end
    cdef Patched *x = patched_of(c)
    if t.end != NULL and place_before(&k.actors, t.end, p):
        at = t.end
    while at != NULL and place_before(&k.actors, p, at):
        at = at.before
    while (at.next if at != NULL else t.first) != NULL and not place_before(
            &k.actors, p, at.next if at != NULL else t.first):
        at = at.next if at != NULL else t.first
    if at != NULL and at.dot == p.dot and at.index == p.index:
        mem_free(p)
        return 0
    if t.undone == NULL or at == NULL or place_before(&k.actors, at, t.undone):
        text_undo(b, t, at)                # p comes behind one that acts
        t.undone = p
    p.before = at
    p.next = at.next if at != NULL else t.first
    if p.before != NULL:
        p.before.next = p
    else:
        t.first = p
    if p.next != NULL:
        p.next.before = p
    else:
        t.end = p
    t.hint = p
    x.n += 1
    x.bytes += mem_size(p)
    if not x.dirty:
        x.dirty = 1
        k.texts.unsettled += 1
        patches_out(k, c)
        patches_in(k, c)
    return 1


cdef void patches_undo(Kernel *k, uint32_t db, Element *e, Collection *c) noexcept nogil:
    cdef Text *t = patched_of(c).texts
    cdef Bytes b
    while t != NULL:
        if bytes_of(k, db, e, t.root, &b):
            text_undo(&b, t, NULL)
        t = t.next


cdef Element *patches_redo(Kernel *k, uint32_t db, Element *e, Collection *c) noexcept nogil:
    """All act. Texts without patches go."""
    cdef Patched *x = patched_of(c)
    cdef Text *t = x.texts
    cdef Text *next
    cdef Bytes b
    if x.dirty:
        x.dirty = 0
        k.texts.unsettled -= 1
    while t != NULL:
        next = t.next
        if not bytes_of(k, db, e, t.root, &b):
            text_drop(c, t)
        else:
            text_redo(&b, t)
            e = b.e
            if t.root == 0:
                loose_newest(b.at[0], t)
            if t.first == NULL:
                text_drop(c, t)
        t = next
    c.named = x.texts != NULL
    return e


cdef void texts_settle(Kernel *k) noexcept nogil:
    cdef Collection *c = k.texts.first
    cdef Collection *next
    cdef Element *e
    while k.texts.unsettled:               # they stand first
        next = patched_of(c).after
        e = key_of_patches(c) if patched_of(c).dirty else NULL
        if e != NULL:
            patches_redo(k, patched_of(c).db, e, c)
        elif patched_of(c).dirty:
            patched_of(c).dirty = 0
            k.texts.unsettled -= 1
        c = next


cdef Element *key_of_patches(const Collection *c) noexcept nogil:
    """NULL: it waits to be freed."""
    cdef const Patched *x = patched_of(c)
    cdef Element *e = key_in(x.k, x.db, span(x.key, x.key_n))
    return e if e != NULL and patches_held(e) == c else NULL


# ---- effects -------------------------------------------------------------------------------------

cdef int is_alone(Kernel *k) noexcept nogil:
    cdef uint32_t i
    cdef Actor *me = &k.actors.v[k.me]
    if k.texts.known != k.actors.n:
        k.texts.known = k.actors.n
        k.texts.alone = k.texts.others == 0
        for i in range(k.actors.n):
            if (i != k.home.slot and k.actors.v[i].replica_slot != me.replica_slot
                    and not k.actors.v[i].gone):
                k.texts.alone = 0
    return k.texts.alone


cdef int is_late(Kernel *k, const Applying *op) noexcept nogil:
    return (not op.local and op.slot != k.home.slot
            and not vector_observed(op, &k.texts.folded))


cdef uint32_t mark_name(Kernel *k, uint32_t db, Span key) noexcept nogil:
    """A hash, of what is in k.scratch.mark then."""
    k.scratch.mark.n = 0
    buffer_add(&k.scratch.mark, &db, sizeof(db))
    buffer_add(&k.scratch.mark, key.p, key.n)
    return key_hash(k, k.scratch.mark.p, k.scratch.mark.n)


cdef int is_marked(Kernel *k, uint32_t db, Span key) noexcept nogil:
    cdef uint32_t hash
    if table_count(&k.texts.marks) == 0:
        return 0
    hash = mark_name(k, db, key)
    return table_find(&k.texts.marks, k.scratch.mark.p, k.scratch.mark.n, hash) != NULL


cdef void mark_text(Kernel *k, uint32_t db, Span key) noexcept nogil:
    cdef uint32_t hash = mark_name(k, db, key)
    k.texts.mend_at = k.now + MEND_MS
    if table_find(&k.texts.marks, k.scratch.mark.p, k.scratch.mark.n, hash) == NULL:
        table_add(&k.texts.marks, element_new(k, span(k.scratch.mark.p, k.scratch.mark.n), hash,
                                              E_MEMBER | E_PLAIN, 0), hash)


cdef int acts_at_once(Kernel *k, const Applying *op) noexcept nogil:
    """Is it not to be remembered, since it can meet nothing?"""
    if op.slot == k.home.slot:
        return 1
    if k.inbox.recovering and op.seq <= vector_get(&k.texts.loaded, op.slot):
        return 1
    return (op.local or k.inbox.recovering) and is_alone(k)


cdef void patches_cut(Kernel *k, const Applying *op, uint32_t db, Element *e,
                      uint64_t keep) noexcept nogil:
    cdef Collection *c = patches_held(e)
    cdef Write **at = loose_at(e)
    cdef Text *t = NULL
    cdef Text *next
    cdef Patch *p
    cdef Patch *after
    cdef Bytes b
    cdef Write *w
    cdef int late = at != NULL and is_late(k, op)
    cdef int was_live = element_live(e)
    if late:
        mark_text(k, db, element_name(e))
    if at != NULL:
        t = text_of(c, 0)
        if t != NULL:
            bytes_of(k, db, e, 0, &b)
            text_undo(&b, t, NULL)
            p = t.first
            while p != NULL:
                after = p.next
                if observed(op, p.dot):
                    patch_drop(c, t, p)
                p = after
            if t.last and not late and observed(op, t.last):
                t.last = t.upto = 0
                bytes_resize(&b, 0)
            text_redo(&b, t)
        w = at[0]
        if t == NULL and not late and observed(op, w.dot) or (
                t != NULL and t.last == 0 and t.first == NULL):
            at[0] = w.next
            mem_free(w)
        elif t != NULL:
            loose_newest(w, t)
        if t != NULL and t.first == NULL:
            text_drop(c, t)
    t = patched_of(c).texts if c != NULL else NULL
    while t != NULL:
        next = t.next
        if t.root and t.root != keep and observed(op, t.root):
            text_drop(c, t)
        t = next
    if c != NULL and patched_of(c).texts == NULL:
        c.named = 0
    k.db[db].live += element_live(e) - was_live


cdef void apply_patch(Kernel *k, const Applying *op, const Effect *x, Element *e) noexcept nogil:
    """Of a root that is not there it changes nothing: whoever removed that removed it. A patch of a
    root removes the other writes that it observed, as an ASSIGN would."""
    cdef Database *d = &k.db[x.db]
    cdef uint64_t dot = make_dot(op.slot, op.seq)
    cdef uint64_t root = make_dot(actors_find(&k.actors, x.actor), x.deadline) if x.actor else 0
    cdef int at_once = acts_at_once(k, op)
    cdef Collection *c
    cdef Write *w
    cdef Text *t
    cdef Patch *p
    cdef Bytes b
    cdef int was_live
    k.texts.off = -1
    if at_once and op.slot != k.home.slot:
        vector_raise(&k.texts.folded, op.slot, op.seq)
    if (at_once and root and e != NULL and e.meta & E_PLAIN and e.dot == root
            and patches_held(e) == NULL):
        bytes_of(k, x.db, e, root, &b)
        act_in_place(&b, x)
        return
    if e == NULL:
        if root:
            return
        e = key_new(k, &d.table, x.key)
    if element_live(e) and is_late(k, op):
        mark_text(k, x.db, x.key)
    if root and e.meta & (E_CELL | E_ENTRY):
        patches_cut(k, op, x.db, e, root)
    was_live = element_live(e)
    if root and (e.meta & E_CELL or (e.meta & E_PLAIN and e.dot != root and observed(op, e.dot))):
        e = open_cell(k, &d.table, e)
        cell_remove_others(element_cell(e), op, root)
    if not bytes_of(k, x.db, e, root, &b):
        if root:
            reencode(k, &d.table, &d.live, e, was_live)
            return
        e = open_cell(k, &d.table, e)
        cell_add_write(element_cell(e), 0, 0, op.slot, W_LOOSE, span(NULL, 0))
        bytes_of(k, x.db, e, 0, &b)
    c = patches_held(e)
    t = text_of(c, root)
    if at_once:
        if t != NULL:
            text_undo(&b, t, NULL)
        act_in_place(&b, x)
        e = b.e
        if t != NULL:
            t.last = dot
            t.upto = op.stamp
            text_redo(&b, t)
            e = b.e
        if root == 0:
            w = b.at[0]
            if t != NULL:
                loose_newest(w, t)
            else:
                w.dot = dot
                w.stamp = op.stamp
                w.actor = op.slot
    else:
        c = patches_open(k, x.db, &e)
        t = text_open(c, root, e)
        bytes_of(k, x.db, e, root, &b)
        p = patch_new(dot, op.stamp, op.index, x)
        text_put(k, &b, c, t, p)
        if op.local:
            e = patches_redo(k, x.db, e, c)
        elif root == 0:
            loose_newest(b.at[0], t)
    reencode(k, &d.table, &d.live, e, was_live)


# ---- the row of the type -------------------------------------------------------------------------

cdef int patches_free_some(Collection *c, int *most) noexcept nogil:
    cdef Patched *x = patched_of(c)
    while x.texts != NULL:
        text_drop(c, x.texts)
    if x.k != NULL:
        patches_out(x.k, c)
        x.k.texts.unsettled -= x.dirty
        x.dirty = 0
        mem_free(x.key)
        x.k = NULL
    return 0


cdef size_t patches_memory(Collection *c) noexcept nogil:
    cdef Patched *x = patched_of(c)
    cdef Text *t = x.texts
    cdef size_t n = x.bytes + mem_size(x.key)
    while t != NULL:
        n += mem_size(t)
        t = t.next
    return n


cdef int patches_check(Kernel *k, Collection *c) noexcept nogil:
    """0 sound, else the number of the broken invariant."""
    cdef Patched *x = patched_of(c)
    cdef Text *t = x.texts
    cdef Patch *p
    cdef size_t n = 0, bytes = 0
    cdef Bytes b
    cdef Element *e = key_of_patches(c)
    if e == NULL or x.dirty:
        return 1
    if t == NULL and not e.meta & E_PLAIN:
        return 8
    while t != NULL:
        if t.first == NULL or t.undone != NULL:
            return 2
        if not bytes_of(k, x.db, e, t.root, &b):
            return 3
        if t.root == 0 and b.at[0].dot != t.end.dot:
            return 4
        p = t.first
        while p != NULL:
            n += 1
            bytes += mem_size(p)
            if p.next != NULL and (p.next.before != p or not place_before(&k.actors, p, p.next)):
                return 5
            if p.next == NULL and t.end != p:
                return 6
            p = p.next
        t = t.next
    return 7 if n != x.n or bytes != x.bytes else 0


types[<int>T_PATCHES].extra = sizeof(Patched)
types[<int>T_PATCHES].free_some = patches_free_some
types[<int>T_PATCHES].memory = patches_memory
types[<int>T_PATCHES].check = patches_check
