# The element table: which element has this key, which elements are there, and which shall it be?
#
# Keyspace, hashes, sets and sorted sets all ask these, with from one to hundreds of millions of
# elements, so one structure has to be small when it is small and never stop the loop when it is
# large.
#
# Slots. Open addressing: an array of words, each 0 or
#
#     bits 0-47 address of the element | bits 48-55 distance | bits 56-63 top byte of the element's
#     hash
#
# Members hold their hash; keys, which are far more, are hashed again when their slot is looked for
# or moved: 10 ns in place of 8 bytes a key.
#
# `distance` is 1 in the element's home slot (see Sizes), 2 in the next and so on, 255 at most.
# Chains of nodes, as Redis has them, cost 8 bytes and a cache miss per element more. A word holds
# enough to compare without going to the element: a look-up meets a foreign element with the same
# distance and top byte about once in 256 probes.
#
# Robin Hood order. An insertion that meets an element nearer to its home than itself takes that
# slot and carries the other on. So along a cluster the homes ascend, distances stay short and
# nearly equal even at load 0.8, and a look-up can stop at the first slot whose distance is below
# its own: a miss ends as soon as a hit would. A removal pulls the rest of the cluster back by one
# slot, until an empty slot or an element at home. No tombstones, so a table that changes for years
# is as good as a fresh one.
#
# Sizes. An array has 2**n slots or 3 * 2**n: steps of a half and of a third keep the load above
# 0.54 while a table grows, where doubling lets it fall to 0.41. It has 2**n buckets, of one slot or
# of three: the lower n bits of a hash choose the bucket, all of them the slot in it, its home.
#
# Growing and shrinking. A full array gets a successor of the next size, one that is 7/8 empty a
# successor of half. Each later change moves eight elements (or passes 128 slots), from the array's
# beginning on; look-ups ask both, adds go to the successor. All slots below `emptied` are empty,
# yet an element may sit behind `emptied` although its home lies before: probing therefore starts at
# `emptied` with the distance an element would have there. Elements that wrapped around the end are
# moved first, at the start, for they would be cut off from their homes (at most 254, usually a
# handful). Growing begins at 13/16 load and ends when 1/8 as many again were added; shrinking
# begins at 1/8 and is over long before the successor could fill. Only a distance beyond 255, which
# takes a hash no secret key would give, finishes everything at once and doubles. An empty table
# owns no memory.
#
# Few. Most collections are small, so up to FEW elements stand in an array of just as many words,
# in no order and all with distance 1, which a look-up reads from the beginning. The next one opens
# an array of FIRST_CAPACITY slots; a removal that leaves half of FEW in it goes back. A SCAN visits
# all of them in one call, the last.
#
# SCAN. The cursor is a bucket with its bits in reverse: it counts 0, 100, 010, 110 ... (for 8
# buckets), the highest bit first. Where an element sits changes with every insertion nearby, but
# its bucket does not, so a call visits everything whose home is in the cursor's bucket. Why
# reversed: growing from 4 to 8 splits bucket b into b and b + 4, shrinking joins them, and in this
# order the two halves are neighbours. Say a table of 4 was scanned at 00 and 10, so the cursor says
# "next is 01". Growing to 8, 00 becomes {000, 100} and 10 becomes {010, 110}; in reversed order
# these four are exactly what stands before 001, where the cursor now points. Nothing scanned comes
# again, nothing is left out. Shrinking at a cursor in the middle of a pair (say 101 of 8, so 001 is
# done) returns to 01 of 4 and sees 001's elements again: twice is allowed, never is not. While two
# arrays exist, a call visits the bucket of the smaller one and all buckets of the larger one into
# which it splits; an element is in exactly one of them. The smaller one is that of fewer buckets:
# 3 * 2**n slots have fewer than the 2**(n + 1) that they grow from.
#
# Random choice draws slots of both arrays until one is occupied: uniform, and since load stays
# above about 1/16, quick.

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp

cdef extern from *:
    """
    /* The empty statement keeps GCC from taking functions that only prefetch for functions without
    effect, whose calls it drops. */ static inline void prefetch(const void *p) {
    __builtin_prefetch(p); __asm__ volatile(""); }
    """
    void prefetch(const void *p) noexcept nogil
    int bits_below "__builtin_ctzll" (unsigned long long x) noexcept nogil
    uint64_t bytes_reversed "__builtin_bswap64" (uint64_t x) noexcept nogil


cdef enum:
    FEW = 8
    FIRST_CAPACITY = 16
    DISTANCE_MAX = 255
    WALK_PREFETCHED = 12         # slots by which a walk fetches elements before it comes to them
    STEP_ELEMENTS = 8       # moved per change while two arrays exist
    # passed per change at most: old arrays of a shrinking table are mostly empty
    STEP_SLOTS = 128
    FIT_ELEMENTS = 1024     # moved in a turn of table_fit


cdef inline Element *slot_element(uint64_t word) noexcept nogil:
    return <Element*>(word & <uint64_t>0xffffffffffff)


cdef inline size_t slot_distance(uint64_t word) noexcept nogil:
    return word >> 48 & 0xff                    # 0: empty


cdef inline uint32_t hash_in(const Table *t, Element *e) noexcept nogil:
    """The hash of an element of t."""
    return e.hash if e.meta & E_MEMBER else siphash(element_key(e), element_klen(e), t.key)


cdef inline uint64_t slot_word(Element *e, uint32_t hash) noexcept nogil:
    """The word of e at home; the distance is counted up in it."""
    return <uint64_t>e | <uint64_t>1 << 48 | <uint64_t>(hash >> 24) << 56


cdef inline Array *table_array(Table *t, int i) noexcept nogil:
    """0: the table, or what is being emptied; 1: what is being filled, which is there then."""
    return &t.next.array if i else &t.array


cdef inline int array_few(const Array *a) noexcept nogil:
    return a.last == 0


cdef inline size_t array_capacity(const Array *a) noexcept nogil:
    return <size_t>a.last + 1 if a.last else a.used


cdef inline size_t table_capacity(const Table *t, int i) noexcept nogil:
    return array_capacity(&t.array) if i == 0 else (
        array_capacity(&t.next.array) if t.next != NULL else 0)


cdef inline size_t table_emptied(const Table *t) noexcept nogil:
    return t.next.emptied if t.next != NULL else 0


cdef inline size_t table_limit(size_t capacity) noexcept nogil:
    """Elements a table of this capacity holds before it grows: 13 of 16, 19 of 24, 26 of 32."""
    return capacity * 13 >> 4


cdef inline size_t array_buckets(const Array *a) noexcept nogil:
    """The power of two of which the capacity is the first or the third multiple."""
    cdef size_t capacity = <size_t>a.last + 1
    return capacity & (~capacity + 1)


cdef inline size_t larger(size_t capacity) noexcept nogil:
    """The next size."""
    return capacity // 3 * 4 if capacity & (capacity - 1) else capacity // 2 * 3


cdef inline size_t slot_after(const Array *a, size_t at) noexcept nogil:
    return at + 1 if at < a.last else 0


cdef inline size_t slot_before(const Array *a, size_t at) noexcept nogil:
    return at - 1 if at else a.last


# ---- one array -----------------------------------------------------------------------------------

cdef inline size_t home_slot(const Array *a, uint32_t hash) noexcept nogil:
    """The slot where an element of this hash is at home."""
    cdef size_t buckets = array_buckets(a)
    cdef size_t bucket = hash & (buckets - 1)
    if a.last < buckets:
        return bucket
    # Within it by what is left of the hash: a product, whose upper bits hang on all of it.
    return bucket * 3 + (<size_t><uint32_t>(hash * <uint32_t>0x9e3779b1) * 3 >> 32)


cdef inline size_t probe_from(const Table *t, int i, size_t home, size_t *distance) noexcept nogil:
    """Where the search for elements of this home begins in array i, and the distance that they
    would have there."""
    distance[0] = 1
    if i == 0 and t.next != NULL and home < t.next.emptied:
        distance[0] += t.next.emptied - home
        return t.next.emptied
    return home


cdef inline size_t probe_start(Table *t, int i, uint32_t hash, size_t *distance) noexcept nogil:
    return probe_from(t, i, home_slot(table_array(t, i), hash), distance)


cdef size_t slot_of(Table *t, int i, const Element *e, uint32_t hash) noexcept nogil:
    """The slot of array i that points to e, which is not looked into; capacity where there is
    none."""
    cdef size_t capacity = table_capacity(t, i)
    cdef size_t at = 0, distance
    cdef Array *a
    if capacity == 0:
        return 0
    a = table_array(t, i)
    if array_few(a):
        while at < capacity and slot_element(a.slots[at]) != e:
            at += 1
        return at
    at = probe_start(t, i, hash, &distance)
    if at < capacity:
        while slot_distance(a.slots[at]) >= distance:
            if slot_element(a.slots[at]) == e:
                return at
            at = slot_after(a, at)
            distance += 1
    return capacity


cdef int array_insert(Array *a, Element *e, uint32_t hash) noexcept nogil:
    """1 when e has its place. 0, and nothing changed, where some element would end up too far from
    home."""
    cdef uint64_t *slots = a.slots
    cdef uint64_t word = slot_word(e, hash)
    cdef uint64_t other
    cdef size_t at = home_slot(a, hash)
    cdef size_t hole, back
    while slot_distance(slots[at]) >= slot_distance(word):
        if slot_distance(word) == DISTANCE_MAX:
            return 0
        word += <uint64_t>1 << 48
        at = slot_after(a, at)
    # Along the cluster the homes ascend, so carrying each poorer element on comes to pushing the
    # rest of the cluster by one slot.
    hole = at
    while slots[hole]:
        if slot_distance(slots[hole]) == DISTANCE_MAX:
            return 0
        hole = slot_after(a, hole)
    while hole != at:
        back = slot_before(a, hole)
        other = slots[back]
        slots[hole] = other + (<uint64_t>1 << 48)
        hole = back
    slots[at] = word
    a.used += 1
    return 1


cdef void array_remove(Array *a, size_t at) noexcept nogil:
    cdef uint64_t *slots = a.slots
    cdef size_t next = slot_after(a, at)
    while slot_distance(slots[next]) > 1:
        slots[at] = slots[next] - (<uint64_t>1 << 48)
        at = next
        next = slot_after(a, next)
    slots[at] = 0
    a.used -= 1


# ---- a few elements ------------------------------------------------------------------------------

cdef void few_add(Array *a, Element *e, uint32_t hash) noexcept nogil:
    a.slots = <uint64_t*>mem_realloc(a.slots, (a.used + 1) * sizeof(uint64_t))
    a.slots[a.used] = slot_word(e, hash)
    a.used += 1


cdef void few_remove(Array *a, size_t at) noexcept nogil:
    """One of several."""
    a.used -= 1
    a.slots[at] = a.slots[a.used]
    a.slots = <uint64_t*>mem_realloc(a.slots, a.used * sizeof(uint64_t))


cdef void few_to_slots(Table *t) noexcept nogil:
    """They become an array of FIRST_CAPACITY, in which no distance can be too great."""
    cdef Array few = t.array
    cdef Element *e
    cdef uint32_t i
    array_open(&t.array, FIRST_CAPACITY)
    for i in range(few.used):
        e = slot_element(few.slots[i])
        array_insert(&t.array, e, hash_in(t, e))
    mem_free(few.slots)


cdef void slots_to_few(Table *t) noexcept nogil:
    """And back."""
    cdef Array old = t.array
    cdef Element *e
    cdef size_t at
    t.array.slots = NULL
    t.array.last = t.array.used = 0
    for at in range(array_capacity(&old)):
        if old.slots[at]:
            e = slot_element(old.slots[at])
            few_add(&t.array, e, hash_in(t, e))
    mem_free(old.slots)


# ---- growing and shrinking -----------------------------------------------------------------------

cdef void array_open(Array *a, size_t capacity) noexcept nogil:
    if capacity > <size_t>1 << 32:         # a hash has no more bits, and `last` neither
        mem_exhausted(capacity * sizeof(uint64_t))
    a.slots = <uint64_t*>mem_zalloc(capacity * sizeof(uint64_t))
    a.last = <uint32_t>(capacity - 1)
    a.used = 0


cdef void table_join(Table *t) noexcept nogil:
    """The old array is empty: its successor is the table."""
    cdef Successor *next = t.next
    mem_free(t.array.slots)
    t.array = next.array
    t.next = NULL
    mem_free(next)


cdef void table_rebuild(Table *t) noexcept nogil:
    """All at once into one larger array: the way out when a distance would not fit into its
    byte."""
    cdef Table all
    cdef size_t capacity = max(table_capacity(t, 0), table_capacity(t, 1))
    cdef size_t pos
    cdef Element *e
    while True:
        capacity *= 2
        table_init(&all)
        all.key = t.key
        array_open(&all.array, capacity)
        pos = 0
        e = table_next(t, &pos)
        while e != NULL and array_insert(&all.array, e, hash_in(t, e)):
            e = table_next(t, &pos)
        if e == NULL:
            break
        mem_free(all.array.slots)
    table_clear(t, NULL, NULL)
    t[0] = all


cdef int table_take(Table *t, size_t at) noexcept nogil:
    """Move the element of the old array's slot to the successor. 0: the table was rebuilt instead
    and is one array."""
    cdef Element *e = slot_element(t.array.slots[at])
    if not array_insert(&t.next.array, e, hash_in(t, e)):
        table_rebuild(t)
        return 0
    t.array.slots[at] = 0
    t.array.used -= 1
    return 1


cdef int table_work(Table *t, int elements) noexcept nogil:
    cdef size_t capacity, ahead
    cdef int slots = elements * (STEP_SLOTS // STEP_ELEMENTS)
    if t.next == NULL:
        return 0
    capacity = array_capacity(&t.array)
    while t.array.used and elements and slots:
        if t.array.slots[t.next.emptied]:
            if not table_take(t, t.next.emptied):
                return 0
            elements -= 1
        t.next.emptied += 1
        slots -= 1
    if t.array.used == 0:
        table_join(t)
        return 0
    # The next call reads the hashes of the next elements: have them in the cache by then.
    for ahead in range(t.next.emptied, min(t.next.emptied + STEP_ELEMENTS + 1, capacity)):
        prefetch(slot_element(t.array.slots[ahead]))
    return 1


cdef void table_resize(Table *t, size_t capacity) noexcept nogil:
    """Begin to move from the array to a successor of this capacity."""
    cdef size_t at = 0
    t.next = <Successor*>mem_alloc(sizeof(Successor))
    array_open(&t.next.array, capacity)
    t.next.emptied = 0
    while at <= t.array.last and slot_distance(t.array.slots[at]) > at + 1: # wrapped around the end
        if not table_take(t, at):
            return
        at += 1
    t.next.emptied = at
    table_work(t, STEP_ELEMENTS)


# ---- the interface -------------------------------------------------------------------------------

cdef void table_init(Table *t) noexcept nogil:
    t.array.slots = NULL
    t.array.last = 0
    t.array.used = 0
    t.next = NULL
    t.key = NULL


cdef void table_clear(Table *t, TableVisit visit, void *arg) noexcept nogil:
    cdef const uint64_t *key = t.key
    cdef size_t pos = 0
    cdef Element *e
    if visit != NULL:
        e = table_next(t, &pos)
        while e != NULL:
            visit(arg, e)
            e = table_next(t, &pos)
    mem_free(t.array.slots)
    if t.next != NULL:
        mem_free(t.next.array.slots)
        mem_free(t.next)
    table_init(t)
    t.key = key


cdef Element *table_find(Table *t, const char *key, size_t n, uint32_t hash) noexcept nogil:
    cdef uint64_t *slots
    cdef uint64_t word
    cdef uint64_t wanted
    cdef size_t at, distance
    cdef const Array *a
    cdef Element *e
    cdef int i
    if array_few(&t.array):
        for at in range(t.array.used):
            word = t.array.slots[at]
            if word >> 56 == hash >> 24:
                e = slot_element(word)
                if element_klen(e) == n and memcmp(element_key(e), key, n) == 0:
                    return e
        return NULL
    # The successor first: while a table grows or shrinks it is where the newer elements are.
    for i in range(t.next != NULL, -1, -1):
        a = table_array(t, i)
        slots = a.slots
        at = probe_start(t, i, hash, &distance)
        while distance <= DISTANCE_MAX:
            word = slots[at]
            if slot_distance(word) < distance:
                break
            wanted = <uint64_t>(hash >> 24) << 8 | distance
            if word >> 48 == wanted:
                e = slot_element(word)
                if element_klen(e) == n and memcmp(element_key(e), key, n) == 0:
                    return e
            at = slot_after(a, at)
            distance += 1
    return NULL


cdef void table_prefetch_slots(Table *t, uint32_t hash) noexcept nogil:
    cdef size_t distance
    if t.array.slots != NULL:
        prefetch(&t.array.slots[probe_start(t, 0, hash, &distance)])
    if t.next != NULL:
        prefetch(&t.next.array.slots[probe_start(t, 1, hash, &distance)])


cdef void table_prefetch_element(Table *t, uint32_t hash) noexcept nogil:
    cdef uint64_t *slots
    cdef size_t at, distance
    cdef int i
    if array_few(&t.array):
        return
    for i in range(1 + (t.next != NULL)):
        slots = table_array(t, i).slots
        at = probe_start(t, i, hash, &distance)
        while distance <= DISTANCE_MAX and slot_distance(slots[at]) >= distance:
            if slots[at] >> 48 == (<uint64_t>(hash >> 24) << 8 | distance):
                prefetch(slot_element(slots[at]))
                return
            at = slot_after(table_array(t, i), at)
            distance += 1


cdef void table_add(Table *t, Element *e, uint32_t hash) noexcept nogil:
    cdef Array *a
    if array_few(&t.array):
        if t.array.used < FEW:
            few_add(&t.array, e, hash)
            return
        few_to_slots(t)
    elif t.next != NULL:
        table_work(t, STEP_ELEMENTS)
    if t.next == NULL and t.array.used >= table_limit(array_capacity(&t.array)):
        table_resize(t, larger(array_capacity(&t.array)))
    while True:
        a = table_array(t, t.next != NULL)
        if a.used < a.last and array_insert(a, e, hash):
            return
        table_rebuild(t)


cdef void table_remove(Table *t, Element *e) noexcept nogil:
    cdef uint32_t hash = hash_in(t, e)
    cdef int i = 1
    cdef size_t at = slot_of(t, 1, e, hash)
    if at == table_capacity(t, 1):
        i = 0
        at = slot_of(t, 0, e, hash)
    if table_count(t) == 1:
        table_clear(t, NULL, NULL)
        return
    if array_few(&t.array):
        few_remove(&t.array, at)
        return
    array_remove(table_array(t, i), at)
    if t.next != NULL:
        table_work(t, STEP_ELEMENTS)
    elif t.array.last < FIRST_CAPACITY:
        if t.array.used <= FEW // 2:
            slots_to_few(t)
    elif <size_t>t.array.used * 8 <= array_capacity(&t.array):
        table_resize(t, max(array_capacity(&t.array) // 2, FIRST_CAPACITY))


cdef void table_swap(Table *t, Element *old, Element *new) noexcept nogil:
    cdef uint32_t hash = hash_in(t, new)
    cdef int i = 1
    cdef size_t at = slot_of(t, 1, old, hash)
    if at == table_capacity(t, 1):
        i = 0
        at = slot_of(t, 0, old, hash)
    table_array(t, i).slots[at] = (table_array(t, i).slots[at] & ~<uint64_t>0xffffffffffff
                                   | <uint64_t>new)


cdef size_t slots_for(uint32_t n) noexcept nogil:
    """How many table_reserve opens."""
    cdef size_t capacity = FIRST_CAPACITY
    if n <= FEW:
        return n
    while table_limit(capacity) < n:
        capacity = larger(capacity)
    return capacity


cdef void table_reserve(Table *t, uint32_t n) noexcept nogil:
    if n <= FEW:
        t.array.slots = <uint64_t*>mem_alloc(n * sizeof(uint64_t))
    else:
        array_open(&t.array, slots_for(n))


cdef void table_fit(Table *t) noexcept nogil:
    """Gives back what table_reserve opened for more than came, at once: of ever so many empty slots
    the next changes would not pass all before the successor is full."""
    if array_few(&t.array) or t.next != NULL:
        return
    if t.array.used == 0:
        table_clear(t, NULL, NULL)
    elif t.array.used <= FEW:
        slots_to_few(t)
    elif <size_t>t.array.used * 8 <= array_capacity(&t.array):
        table_resize(t, larger(slots_for(t.array.used)))
        while table_work(t, FIT_ELEMENTS):
            pass


cdef void table_put(Table *t, Element *e) noexcept nogil:
    if array_few(&t.array):
        t.array.slots[t.array.used] = slot_word(e, hash_in(t, e))
        t.array.used += 1
    else:
        array_insert(&t.array, e, hash_in(t, e))    # among so few no distance is too great


cdef int table_holds(Table *t, const Element *e, uint32_t hash) noexcept nogil:
    return (slot_of(t, 1, e, hash) < table_capacity(t, 1)
            or slot_of(t, 0, e, hash) < table_capacity(t, 0))


cdef Element *table_random(Table *t, uint64_t *seed) noexcept nogil:
    # slots of the old array that can hold something
    cdef size_t first = table_capacity(t, 0) - table_emptied(t)
    cdef size_t slots = first + table_capacity(t, 1)
    cdef size_t at
    cdef uint64_t word
    if table_count(t) == 0:
        return NULL
    while True:
        # scaled instead of a remainder: the bias is below slots / 2^32
        at = (next_random(seed) >> 32) * slots >> 32
        word = (t.array.slots[table_emptied(t) + at] if at < first
                else t.next.array.slots[at - first])
        if word:
            return slot_element(word)


cdef uint64_t bits_reversed(uint64_t x) noexcept nogil:
    x = x >> 1 & <uint64_t>0x5555555555555555 | (x & <uint64_t>0x5555555555555555) << 1
    x = x >> 2 & <uint64_t>0x3333333333333333 | (x & <uint64_t>0x3333333333333333) << 2
    x = x >> 4 & <uint64_t>0x0f0f0f0f0f0f0f0f | (x & <uint64_t>0x0f0f0f0f0f0f0f0f) << 4
    return bytes_reversed(x)


cdef uint64_t cursor_next(uint64_t cursor, size_t mask) noexcept nogil:
    """The bucket after `cursor` in reversed order: set the bits above the mask, so that the carry
    runs through them from the other end."""
    return bits_reversed(bits_reversed(cursor | ~<uint64_t>mask) + 1)


cdef void bucket_visit(Table *t, int i, size_t bucket, TableVisit visit, void *arg) noexcept nogil:
    """Visit the elements of array i that are at home in this bucket, of its last bits: they stand
    together, behind those of earlier homes."""
    cdef Array *a = table_array(t, i)
    cdef size_t slots = (<size_t>a.last + 1) // array_buckets(a)
    cdef size_t distance, at, home
    bucket = (bucket & (array_buckets(a) - 1)) * slots
    for home in range(bucket, bucket + slots):
        at = probe_from(t, i, home, &distance)
        while at <= a.last and slot_distance(a.slots[at]) >= distance:
            if slot_distance(a.slots[at]) == distance:
                visit(arg, slot_element(a.slots[at]))
            at = slot_after(a, at)
            distance += 1


cdef uint64_t table_scan(Table *t, uint64_t cursor, TableVisit visit, void *arg) noexcept nogil:
    cdef int small = 0
    cdef size_t mask = array_buckets(&t.array) - 1, large
    if array_few(&t.array):
        table_walk(t, visit, arg)
        return 0
    if t.next == NULL:
        bucket_visit(t, 0, cursor, visit, arg)
        return cursor_next(cursor, mask)
    if array_buckets(&t.next.array) - 1 < mask:
        small = 1
    mask = array_buckets(table_array(t, small)) - 1
    large = array_buckets(table_array(t, 1 - small)) - 1
    bucket_visit(t, small, cursor, visit, arg)
    while True:
        bucket_visit(t, 1 - small, cursor, visit, arg)
        cursor = cursor_next(cursor, large)
        # all buckets that the small one splits into are done
        if not cursor & (mask ^ large):
            return cursor


cdef Element *table_next(Table *t, size_t *pos) noexcept nogil:
    cdef size_t first = table_capacity(t, 0)
    cdef size_t slots = first + table_capacity(t, 1)
    cdef size_t ahead
    cdef uint64_t word
    while pos[0] < slots:
        word = t.array.slots[pos[0]] if pos[0] < first else t.next.array.slots[pos[0] - first]
        ahead = pos[0] + WALK_PREFETCHED
        if ahead < slots:
            prefetch(slot_element(t.array.slots[ahead] if ahead < first
                                  else t.next.array.slots[ahead - first]))
        pos[0] += 1
        if word:
            return slot_element(word)
    return NULL


cdef size_t table_memory(Table *t) noexcept nogil:
    return (table_capacity(t, 0) + table_capacity(t, 1)) * sizeof(uint64_t) + mem_size(t.next)


cdef inline int is_hashed(Element *e, const uint64_t *hash_key) noexcept nogil:
    """Is the hash that e holds, if any, its key's?"""
    return (hash_key == NULL or not e.meta & E_MEMBER
            or e.hash == siphash(element_key(e), element_klen(e), hash_key))


cdef int few_check(Table *t, const uint64_t *hash_key) noexcept nogil:
    """As table_check."""
    cdef Array *a = &t.array
    cdef Element *e
    cdef uint32_t i
    if a.used > FEW:
        return 14
    for i in range(a.used):
        e = slot_element(a.slots[i])
        if e == NULL or a.slots[i] != slot_word(e, hash_in(t, e)):
            return 15
        if not is_hashed(e, hash_key):
            return 11
    return 0


cdef int table_check(Table *t, const uint64_t *hash_key) noexcept nogil:
    cdef size_t at, used, before, buckets
    cdef uint64_t word
    cdef uint32_t hash
    cdef Element *e
    cdef Array *a
    cdef int i
    if table_count(t) == 0 and (t.array.slots != NULL or t.next != NULL):
        return 1                                # an empty table owns no memory
    if t.next != NULL and t.array.used == 0:
        return 2                                # a successor without anything to take over
    if array_few(&t.array):
        return 3 if t.next != NULL else few_check(t, hash_key)
    for i in range(1 + (t.next != NULL)):
        a = table_array(t, i)
        buckets = array_buckets(a)
        if a.last + <size_t>1 < FIRST_CAPACITY or a.last + <size_t>1 not in (buckets, 3 * buckets):
            return 5                            # capacity is a power of two, or three times one
        used = 0
        for at in range(<size_t>a.last + 1):
            word = a.slots[at]
            if word == 0:
                continue
            used += 1
            e = slot_element(word)
            if e == NULL or slot_distance(word) == 0:
                return 6
            hash = hash_in(t, e)
            if word >> 56 != hash >> 24:
                return 7                        # the word's part of the hash is the element's
            if (home_slot(a, hash) + slot_distance(word) - 1) % (<size_t>a.last + 1) != at:
                return 8                        # the distance is the distance
            if i == 0 and at < table_emptied(t):
                return 9
            before = slot_distance(a.slots[slot_before(a, at)])
            if (slot_distance(word) > before + 1
                and not (i == 0 and t.next != NULL and at == t.next.emptied)):
                # homes ascend along a cluster, and no cluster begins away from home
                return 10
            if not is_hashed(e, hash_key):
                return 11
        if used != a.used:
            return 12
        if used > a.last:
            return 13                           # an empty slot ends every search
    return 0


cdef void table_walk(Table *t, TableVisit visit, void *arg) noexcept nogil:
    cdef size_t pos = 0
    cdef Element *e = table_next(t, &pos)
    while e != NULL:
        visit(arg, e)
        e = table_next(t, &pos)
