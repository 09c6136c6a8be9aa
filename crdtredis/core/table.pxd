# The one element table: keyspace, hashes, sets and sorted sets.
#
# Open addressing, Robin Hood order, a slot is one word: pointer (48 bits), distance from home (8),
# bits of the hash (8); so a miss and a removal look at no element. Growth and shrinking move a few
# elements per change, never all at once. A few elements stand in as many slots, in no order.

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

from crdtredis.buffer cimport Span, span

cdef enum:
    E_PLAIN = 1             # one write: dot and stamp in the header, value inline
    # E_PLAIN only: a member of a set, without a stamp; of values that are all empty none needs to
    # win
    E_BARE = 16
    E_CELL = 2              # a Cell: writes and counter entries
    # the same bit without E_PLAIN: a single counter entry of whole numbers, in the Cell's place
    E_LONE = 16
    E_WIDE = 8              # E_LONE only: its numbers take 24 bytes, not 16
    E_VALUE = 19            # of a key: it has something of its own, beside collections
    # keyspace only: before the key stands a word, a pointer to what it holds beside a string, or
    # what is held of a deadline (core/element.pxi)
    E_ENTRY = 4
    # E_PLAIN only: the write was a SET, which cleared the key's deadline at its stamp
    E_CLEARS = 8
    # the same bit of a hash's field: the write left the field's deadline alone (HSETEX KEEPTTL)
    E_KEEPS = 8
    # While a replica joins another's state (core/join.pxi): a piece has named the element itself;
    # of a key, its deadline.
    E_NAMED = 32
    E_DEADLINE_NAMED = 64
    E_MARKS = 96
    # no key, but a member of a collection: it has its hash, and no access
    E_MEMBER = 128
    # E_MEMBER only: its lengths do not stand in its meta
    E_LONG = 256
    SHORT_KLEN = 255        # bytes that they do up to
    SHORT_VLEN = 32767
    # the same of a key, whose lengths stand in the place of a member's hash
    KEY_LONG = 31           # the bit of it that says so
    KEY_SHORT_KLEN = 4095
    KEY_SHORT_VLEN = 524287

# One allocation: lengths to meta; of E_PLAIN dot and stamp, of E_CELL a Cell in their place, of
# E_LONE a Lone; of E_ENTRY the word; key, [value]. That of a short one begins behind the
# lengths, and the pointer to it that many bytes before it.
cdef struct Element:
    uint32_t long_klen      # see element_klen and element_vlen
    uint32_t long_vlen
    # a member's hash; of a key, which is hashed again where a table asks for it, bit KEY_LONG;
    # of a short one, 0-11: bytes of its name, 12-30: of its value
    uint32_t hash
    # bits 0-7: E_*; of a key, bits 8-31: second of the last access (mod 2^24), or, while the policy
    # of eviction is LFU, 16-31: its minute (mod 2^16), 8-15: how often, as a logarithm; of a
    # member, bit 8: E_LONG; of a short one, 9-16: bytes of its key, 17-31: of its value
    uint32_t meta
    uint64_t dot            # E_PLAIN: the write's dot, actor slot << 48 | seq
    uint64_t stamp          # E_PLAIN, not E_BARE: its stamp; its actor is the dot's

cdef struct Array:
    uint64_t *slots         # NULL: none
    uint32_t last           # number of the last slot; 0: there are as many as are used
    uint32_t used

# What a table that grows or shrinks moves to.
cdef struct Successor:
    Array array
    size_t emptied          # slots of the old array below this are empty

cdef struct Table:
    Array array
    Successor *next         # NULL: nothing is moved
    const uint64_t *key     # what its keys are hashed with; NULL: all in it are members

ctypedef void (*TableVisit)(void *arg, Element *e) noexcept nogil

cdef inline size_t element_before_key(uint32_t flags) noexcept nogil:
    return 16 + (16 if flags & (E_PLAIN | E_CELL | E_LONE) else 0) + (
            8 if flags & E_ENTRY else 0) - (
            8 if flags & (E_PLAIN | E_BARE) == E_PLAIN | E_BARE else 0) + (
            8 if flags & (E_PLAIN | E_LONE | E_WIDE) == E_LONE | E_WIDE else 0)

cdef inline int is_lone(const Element *e) noexcept nogil:
    return e.meta & (E_PLAIN | E_LONE) == E_LONE

cdef inline uint64_t element_stamp(const Element *e) noexcept nogil:
    return 0 if e.meta & E_BARE else e.stamp

cdef inline void element_put_stamp(Element *e, uint64_t stamp) noexcept nogil:
    if not e.meta & E_BARE:
        e.stamp = stamp

cdef inline int is_short(const Element *e) noexcept nogil:
    return not (e.meta & E_LONG if e.meta & E_MEMBER else e.hash >> KEY_LONG)

cdef inline size_t element_begin(const Element *e) noexcept nogil:
    """Where the allocation begins."""
    return 8 if is_short(e) else 0

cdef inline uint32_t element_klen(const Element *e) noexcept nogil:
    if not is_short(e):
        return e.long_klen
    return e.meta >> 9 & SHORT_KLEN if e.meta & E_MEMBER else e.hash & KEY_SHORT_KLEN

cdef inline uint32_t element_vlen(const Element *e) noexcept nogil:
    """E_PLAIN: bytes of value."""
    if not is_short(e):
        return e.long_vlen
    return e.meta >> 17 if e.meta & E_MEMBER else e.hash >> 12

cdef inline void element_put_lengths(Element *e, size_t klen, size_t vlen) noexcept nogil:
    """Where the allocation has room for them."""
    if e.meta & E_MEMBER:
        e.meta = (e.meta & 0xff | (E_LONG if klen > SHORT_KLEN or vlen > SHORT_VLEN
                                   else <uint32_t>klen << 9 | <uint32_t>vlen << 17))
    else:
        e.hash = (<uint32_t>1 << KEY_LONG if klen > KEY_SHORT_KLEN or vlen > KEY_SHORT_VLEN
                  else <uint32_t>klen | <uint32_t>vlen << 12)
    if not is_short(e):
        e.long_klen = <uint32_t>klen
        e.long_vlen = <uint32_t>vlen

cdef inline char *element_key(Element *e) noexcept nogil:
    return <char*>e + element_before_key(e.meta)

cdef inline char *element_value(Element *e) noexcept nogil:
    return element_key(e) + element_klen(e)

cdef inline Span element_name(Element *e) noexcept nogil:
    return span(element_key(e), element_klen(e))

cdef inline Span element_content(Element *e) noexcept nogil:
    """E_PLAIN: its value."""
    return span(element_value(e), element_vlen(e))

cdef inline size_t table_count(const Table *t) noexcept nogil:
    return <size_t>t.array.used + (t.next.array.used if t.next != NULL else 0)

cdef void table_init(Table *t) noexcept nogil
# Frees the slots; visit (may be NULL) is called with each element and frees it.
cdef void table_clear(Table *t, TableVisit visit, void *arg) noexcept nogil
cdef Element *table_find(Table *t, const char *key, size_t n, uint32_t hash) noexcept nogil
# Prefetch for a table_find, for whoever has other work to do meanwhile: first the slots, and when
# those have come, the element.
cdef void table_prefetch_slots(Table *t, uint32_t hash) noexcept nogil
cdef void table_prefetch_element(Table *t, uint32_t hash) noexcept nogil
# its key, of this hash, must be absent
cdef void table_add(Table *t, Element *e, uint32_t hash) noexcept nogil
# e must be in t; not freed
cdef void table_remove(Table *t, Element *e) noexcept nogil
# whether e is in t; e is not looked into, and may be nothing any more
cdef int table_holds(Table *t, const Element *e, uint32_t hash) noexcept nogil
# An empty table gets room for n elements.
cdef void table_reserve(Table *t, uint32_t n) noexcept nogil
# Gives room back, where fewer came than that was for. Linear in the room.
cdef void table_fit(Table *t) noexcept nogil
# Into room that was reserved for a small collection (FIRST_CAPACITY and its next doublings).
cdef void table_put(Table *t, Element *e) noexcept nogil
# same key; old is not touched otherwise and may be freed already
cdef void table_swap(Table *t, Element *old, Element *new) noexcept nogil
# uniform, O(1) expected; NULL when empty; seed is a xorshift state, not 0
cdef Element *table_random(Table *t, uint64_t *seed) noexcept nogil
# SCAN: visits at least one home bucket; returns the next cursor, 0 at the end. Redis's guarantee:
# an element that is in the table from the first call to the last is visited at least once, whatever
# is added, removed, grown or shrunk between calls. visit must not change t.
cdef uint64_t table_scan(Table *t, uint64_t cursor, TableVisit visit, void *arg) noexcept nogil
# Plain walk while nothing changes: start with pos = 0; NULL at the end.
cdef Element *table_next(Table *t, size_t *pos) noexcept nogil
# moves up to `elements` of a growth under way; 1 while more is left
cdef int table_work(Table *t, int elements) noexcept nogil
cdef size_t table_memory(Table *t) noexcept nogil                              # bytes of slots
# every invariant, O(n): 0 sound, else the number of the broken one. hash_key: what members' hashes
# are made with; NULL: they are not looked at
cdef int table_check(Table *t, const uint64_t *hash_key) noexcept nogil

# Random numbers; seed is the state, not 0.
cdef inline uint64_t next_random(uint64_t *seed) noexcept nogil:
    """xorshift64*: its upper 32 bits are the good ones."""
    cdef uint64_t x = seed[0]
    x ^= x >> 12
    x ^= x << 25
    x ^= x >> 27
    seed[0] = x
    return x * <uint64_t>0x2545f4914f6cdd1d
