"""OBJECT and MEMORY USAGE: what the server tells of a key beside its value.

Nothing here is held as Redis holds it: OBJECT ENCODING answers what Redis 7.2 would use by the
limits that are set (hash-max-listpack-entries and its like), had the value never been larger.
"""
from libc.stdint cimport int64_t
from libc.string cimport strlen

from crdtredis._core cimport (EVICT_LFU, T_HASH, T_LIST, T_SET, T_STREAM, T_STRING, Collection,
                              Element, Kernel, ListCursor, deadlines_of, element_key, element_klen,
                              is_hidden, key_collection, key_frequency, key_idle, key_memory,
                              key_type, list_next, list_seek, list_value, member_view, order_of,
                              string_view)
from crdtredis._engine cimport (Call, EncodingLimits, is_word, native, refuse, refuse_int,
                                refuse_syntax)
from crdtredis._resp cimport reply_bulk, reply_int, reply_null
from crdtredis.buffer cimport Span
from crdtredis.commands.common cimport find_key, read_key
from crdtredis.commands.members cimport next_member
from crdtredis.errors cimport NO_LFU, NO_LRU
from crdtredis.numbers cimport parse_int64

from crdtredis.commands.table import command
from crdtredis.commands.usage import container


cdef enum:
    # bytes that Redis keeps in one allocation with the object's header
    LONGEST_EMBSTR = 44
    SHARED_INTEGERS = 10000         # Redis shares the objects of 0..9999 ...
    SHARED_COUNT = 2147483647       # ... and answers this as their count of references


cdef Element *object_key(Call *c) noexcept nogil:
    """The visible element under argv[2]; NULL after the reply."""
    cdef Element *e = read_key(c, c.argv[2])
    if e == NULL:
        reply_null(c.reply)
    return e


# By KeyType: what Redis calls its own encodings of large values.
cdef const char *ENCODINGS[5]              # those that clients see
ENCODINGS[:] = [b"", b"hashtable", b"hashtable", b"skiplist", b"quicklist"]
cdef enum:
    PACKED_OVERHEAD = 2                 # bytes that Redis adds to each element of a small list
    # members at most that OBJECT ENCODING looks at, however high the limits are set
    LOOKED_AT = 100000


cdef const char *list_encoding(Kernel *k, Collection *c, int64_t limit) noexcept nogil:
    """By list-max-listpack-size: a count of elements (0 is 1), in 8 KiB, or a choice of bytes
    (below -5 is -5)."""
    cdef int64_t left = 8192 if limit >= 0 else <int64_t>4096 << min(-limit - 1, 4)
    cdef ListCursor place
    cdef int more = list_seek(c, 0, &place)
    if limit >= 0 and <int64_t>c.live > max(limit, <int64_t>1):
        return "quicklist"
    while more:
        left -= list_value(k, &place).n + PACKED_OVERHEAD
        if left < 0:
            return "quicklist"
        more = list_next(&place)
    return "listpack"


cdef inline int has_deadlines(Collection *hash) noexcept nogil:
    cdef Collection *c = deadlines_of(hash)
    return c != NULL and order_of(c).n > 0


cdef const char *collection_encoding(Kernel *k, Collection *c,
                                     EncodingLimits *limits) noexcept nogil:
    """How Redis 7.2 would hold it, had it never been larger."""
    cdef size_t at = 0
    cdef int looked = 0
    cdef int whole = c.type == T_SET and <int64_t>c.live <= limits.whole
    cdef int small = <int64_t>c.live <= limits.entries[c.type]
    cdef int64_t number, longest = limits.value[c.type]
    cdef Element *m = next_member(c, &at)
    while m != NULL and (whole or small) and looked < LOOKED_AT:
        whole = whole and parse_int64(element_key(m), element_klen(m), &number)
        small = (small and element_klen(m) <= longest
                 and (c.type != T_HASH or <int64_t>member_view(k, m).n <= longest))
        m = next_member(c, &at)
        looked += 1
    if whole:
        return "intset"
    if small:
        return "listpackex" if c.type == T_HASH and has_deadlines(c) else "listpack"
    return ENCODINGS[c.type]


cdef void object_encoding(Call *c) noexcept nogil:
    cdef Element *e = object_key(c)
    cdef Span value
    cdef Collection *collection
    cdef const char *name
    cdef int64_t whole
    cdef int kind
    if e == NULL:
        return
    kind = key_type(c.kernel, e)
    if kind == T_STREAM:
        reply_bulk(c.reply, "stream", 6)
        return
    if kind != T_STRING:
        collection = key_collection(c.kernel, e, kind)
        if kind == T_LIST:
            name = list_encoding(c.kernel, collection, c.dispatch.encoding.list_size)
        else:
            name = collection_encoding(c.kernel, collection, &c.dispatch.encoding)
        reply_bulk(c.reply, name, strlen(name))
        return
    value = string_view(c.kernel, e)
    if parse_int64(value.p, value.n, &whole):
        reply_bulk(c.reply, "int", 3)
    elif value.n <= LONGEST_EMBSTR:
        reply_bulk(c.reply, "embstr", 6)
    else:
        reply_bulk(c.reply, "raw", 3)


cdef void object_refcount(Call *c) noexcept nogil:
    cdef Element *e = object_key(c)
    cdef Span value
    cdef int64_t whole
    if e == NULL:
        return
    if key_type(c.kernel, e) == T_STRING:
        value = string_view(c.kernel, e)
        if parse_int64(value.p, value.n, &whole) and 0 <= whole < SHARED_INTEGERS:
            reply_int(c.reply, SHARED_COUNT)
            return
    reply_int(c.reply, 1)


cdef void object_idletime(Call *c) noexcept nogil:
    cdef Element *e = object_key(c)
    if e == NULL:
        return
    if c.kernel.eviction.policy & EVICT_LFU:
        refuse(c, NO_LRU)
    else:
        reply_int(c.reply, key_idle(c.kernel, e))


cdef void object_freq(Call *c) noexcept nogil:
    cdef Element *e = object_key(c)
    if e == NULL:
        return
    if c.kernel.eviction.policy & EVICT_LFU:
        reply_int(c.reply, key_frequency(c.kernel, e))
    else:
        refuse(c, NO_LFU)


cdef void object_local(Call *c) noexcept nogil:
    if object_key(c) != NULL:
        reply_int(c.reply, is_hidden(c.kernel, c.db, c.argv[2]))


cdef void memory_usage(Call *c) noexcept nogil:
    """MEMORY USAGE key [SAMPLES n]: the samples are checked and passed over, since the table knows
    the exact sum."""
    cdef Element *e
    cdef int64_t samples
    cdef int i = 3
    while i < c.argc:
        if not is_word(c.argv[i], "SAMPLES") or i + 1 == c.argc:
            refuse_syntax(c)
            return
        if not parse_int64(c.argv[i + 1].p, c.argv[i + 1].n, &samples):
            refuse_int(c)
            return
        if samples < 0:
            refuse_syntax(c)
            return
        i += 2
    e = find_key(c, c.argv[2])
    if e == NULL:
        reply_null(c.reply)
    else:
        reply_int(c.reply, key_memory(c.kernel, e))


# ---- registration --------------------------------------------------------------------------------
for _name, _handler, _since, _summary in (
        ("ENCODING", native(object_encoding), "2.2.3", "How Redis would hold the value."),
        ("FREQ", native(object_freq), "4.0.0",
         "How often the key is used, as a logarithm; under an LFU policy."),
        ("IDLETIME", native(object_idletime), "2.2.3",
         "Seconds since the key was last read or written."),
        ("LOCAL", native(object_local), "0.1.0",        # of this server, as of CRDT.*
         "1: the key stays at this replica (`local_keys`); 0: not."),
        ("REFCOUNT", native(object_refcount), "2.2.3", "The number of references to the value.")):
    command(f"OBJECT|{_name} key", arity=3, flags="readonly", keys=(2, 2, 1), access="RO",
            group="generic", since=_since, tips="nondeterministic_output",
            summary=_summary)(_handler)
container("OBJECT", "generic", "2.2.3", "What the server knows about a key's value.",
          help_since="6.2.0")
command("MEMORY|USAGE key [SAMPLES count]", arity=-3, flags="readonly", keys=(2, 2, 1), access="RO",
        group="server", since="4.0.0", complexity="O(size of the value)", categories="read",
        summary="Bytes that a key takes, all of its state included.")(native(memory_usage))
