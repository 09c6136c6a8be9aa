# Databases, keys, and the interface of the command handlers: reading, and making effects.
#
# A handler looks a key up, decides, and calls the functions of "local effects" between op_begin and
# op_end. They encode the effect into the open op and apply it by the very function that remote ops
# use. Nothing else may change the keyspace.

cdef enum:
    DATABASES = 16
    # how many keys keys_prefetch takes: about as many fetches as a core has under way
    KEYS_PREFETCHED = 16
    # of one key, name or value in an op; commands keep to proto-max-bulk-len, which is less
    MAX_BYTES = 1 << 30
    MEMORY_SAMPLES = 8
    # effects of a received op that are decoded once; the others again when they are applied
    DECODED_KEPT = 64
    # bytes from which on a finished op keeps its buffer, which goes to the log and to the sync
    # thread uncopied
    LARGE_OP = 1 << 20
    # bytes before an op's effects, where its head and that of its record are written
    HEAD_ROOM = 256
    CONFLICTS = 128         # how many CRDT.CONFLICTS remembers
    CONFLICT_TEXT = 64      # bytes of key and of each value it remembers
    # actors that may be known before newcomers are counted: all that others know must come to a new
    # replica at once
    FREELY = 49152
    # actors beyond these that peers may declare at once; then one every NEWCOMER_MS
    NEWCOMERS = 1024
    NEWCOMER_MS = 10000

# A hash, set, sorted set or list: members are elements like keys, each with a cell. A hash field's
# value is bytes, a set member has none, a sorted set member's is its score (8 bytes, double). Of a
# list, elements stand in blocks (core/block.pxi).
cdef struct Collection:
    Collection *next
    int type                # T_*
    uint32_t tombstones     # members with a tombstone
    # members with a live cell; the table also holds those that have tombstones only
    size_t live
    size_t cells            # members that are not plain: only they can have counter entries
    # by actor: no write here is newer. Of a small collection nothing, which is told by v == NULL
    VersionVector written
    Table table             # empty for lists
    # sorted sets: the live members by (score, name); lists: the blocks by position
    Order order

# Of a list, what follows the struct: the dots of the last two inserts applied, the last first. Not
# state: they only help to guess where the next will be.
cdef inline uint64_t *list_recent(Collection *c) noexcept nogil:
    return <uint64_t*>(<char*>c + sizeof(Collection))

# A place in a list.
cdef struct ListCursor:
    OrderCursor order
    Block *block
    uint32_t at             # index in the block

# What an E_ENTRY element points to: whatever a plain string key does not need.
cdef struct Entry:
    Element *owner
    # what the key holds beside a string; nearly always one, never an empty one
    Collection *collections
    Cell deadline           # register of absolute ms (W_NUMBER writes)
    uint32_t heap           # place in the deadline heap + 1; 0: not in it
    uint16_t db
    uint16_t expiring       # counted in its database's `expiring`

cdef struct Database:
    Table table
    size_t live             # keys with a live value; the table also holds tombstones and leftovers
    size_t expiring         # those of them that have a deadline
    size_t counts           # counter entries in it, tombstones included
    size_t exact            # bytes that their totals take in an op beyond COUNT_ROOM
    uint32_t timed          # keys in the deadline heap
    VersionVector written   # by actor: no write, increment or deadline here is newer

cdef struct HeapItem:
    int64_t at              # ms: when this replica should look at the key
    Entry *entry

# A key somebody WATCHes or waits for; version grows with every effect on it, local or remote.
cdef struct Watch:
    Watch *next
    Watch *next_ready
    uint64_t version
    # of whoever waits for the key (the engine's), NULL: nobody. An effect then puts it on the list
    # Kernel.ready
    void *waiters
    uint32_t hash
    uint32_t db
    uint32_t holders
    int ready               # on that list, which is a holder
    size_t n                # bytes of key, which follow the struct

cdef inline Span watch_key(Watch *w) noexcept nogil:
    return span(<char*>w + sizeof(Watch), w.n)

# Consecutive finished ops of one actor in Kernel.ops, bytes [begin, end); or a single large one, in
# a buffer of its own, from `begin` to its end, with HEAD_ROOM bytes or more before it for what a
# record puts in front, or lent, where it was received.
cdef struct Run:
    uint16_t slot
    uint64_t last           # seq
    size_t begin
    size_t end
    Buffer large
    Span lent               # without tag and length

# A record of the log (core/record.pxi): bytes [at, buf.n) of buf, and then those of `rest`.
cdef struct Record:
    Buffer buf
    size_t at
    int large               # it holds a single large op, and nobody else wants the buffer
    Span rest               # a large op where it was received; else of no bytes

# Concurrent writes that had to be decided.
cdef struct Conflict:
    int64_t at              # ms, by the local clock
    uint32_t db
    int type
    uint32_t key_n
    uint32_t name_n
    uint32_t n[2]           # bytes of winner's and loser's value
    uint16_t actor[2]
    uint64_t stamp[2]
    char key[64]
    char name[64]
    char value[2][64]

cdef struct Kernel:
    Database db[16]
    Actors actors
    uint16_t me             # slot of this process's actor
    uint64_t hash_key[2]
    uint64_t seed           # for random choices (never in applying)
    Buffer few              # the live ones found among many tombstones: see random_among_few
    # time, passed in
    int64_t now             # ms since 1970; set by the owner before each loop iteration or call
    uint32_t in_db          # the database that is being changed
    uint64_t newest_stamp   # the greatest stamp observed or made
    # the op being made: effects are encoded into `effects`, and the finished op into `ops`
    int depth               # op_begin nesting
    int has_op              # the first effect of this op has been made
    uint32_t effect_count
    size_t op_most          # bytes of effects: OP_MOST, less in tests
    uint64_t began          # `changes` when the command under way began
    # a Refused, if it is: what it would make is no good, and it makes none of it
    int refused
    uint64_t torn           # ops that were closed in the middle of a command: none
    Applying op
    Buffer effects
    Buffer listed           # scratch: counter entries that an effect cancels, in wire form
    Buffer position         # scratch
    Buffer made             # scratch: a position in wire form
    Buffer total            # scratch: a total in wire form
    int deps_changed        # a remote op was applied since this actor's last op
    # finished ops, own and received, not yet taken: runs from run_at on say whose ops stand where
    # in `ops`
    Buffer ops
    size_t ops_size         # bytes of all, the large ones included
    Run *runs
    uint32_t run_at
    uint32_t run_n
    uint32_t run_cap
    Buffer declarations     # of the actors whose first ops are among these
    int recovering          # what is received is in the log already
    # the bytes given to `receive` stay there until take_record has given out all that was in them
    int lending
    Pending pending         # ops that may not be applied yet
    int64_t max_skew        # ms: ops stamped further ahead wait
    # actors that peers declared, less one for every NEWCOMER_MS since; at `newcomers_at` (ms)
    int64_t newcomers
    int64_t newcomers_at
    # ms since 1970: up to here stamps are no further ahead than if it were now; 0: none are
    int64_t accepted
    # the op under examination
    Effect *decoded         # its first DECODED_KEPT effects
    const char *decoded_rest    # where the others begin
    # deadlines
    HeapItem *heap
    uint32_t heap_n
    uint32_t heap_cap
    int64_t expiry_grace    # ms that other replicas leave to the one that set the deadline
    # watched keys: chains by hash
    Watch **watches
    uint32_t watch_mask     # chains less one
    uint32_t watch_n
    Watch *ready            # keys that are waited for and were touched, in that order
    Watch *ready_last
    # counters and scratch
    uint64_t changes        # effects applied since the start ("dirty")
    uint64_t expired        # keys removed here at their deadline
    uint64_t conflicts      # concurrent writes that had to be decided
    int64_t tombstones      # live tombstone counter entries
    char number[5200]       # where string_view formats a number
    Collection *garbage     # detached collections, freed a little at a time
    Conflict *conflict      # ring, newest at (conflicts - 1) % CONFLICTS
    # where the search for tombstones goes on
    uint32_t collect_db
    uint64_t collect_cursor # a bucket of the database's table
    uint32_t collect_place  # in it: each key has one for itself and one for each collection
    uint64_t collect_member # a bucket of that collection's table

# ---- reading -------------------------------------------------------------------------------------
cdef uint32_t key_hash(Kernel *k, const char *p, size_t n) noexcept nogil
# The element under key whether visible or not: what the functions that make effects want to be
# given.
cdef Element *key_find(Kernel *k, uint32_t db, Span key) noexcept nogil
# A hint that keys[0], keys[step] ... (n of them, at most KEYS_PREFETCHED count) are about to be
# looked up: their memory is fetched side by side.
cdef void keys_prefetch(Kernel *k, uint32_t db, const Span *keys, int n, int step) noexcept nogil
# The same in two steps, for whoever looks further ahead: the first answers the key's hash, for the
# second, to be called a little later.
cdef uint32_t key_prefetch(Kernel *k, uint32_t db, Span key) noexcept nogil
cdef void hash_prefetch(Kernel *k, uint32_t db, uint32_t hash) noexcept nogil
# e may be NULL; alive by value and by deadline
cdef int key_visible(Kernel *k, Element *e) noexcept nogil
# T_*, the visible one; T_NONE for NULL or an invisible key
cdef int key_type(Kernel *k, Element *e) noexcept nogil
# ms since 1970; -1: none
cdef int64_t key_deadline(Kernel *k, Element *e) noexcept nogil
# sets the access time
cdef void key_touch(Kernel *k, Element *e) noexcept nogil
cdef int64_t key_idle(Kernel *k, Element *e) noexcept nogil                    # seconds
# as if the last access were so long ago; at most 194 days
cdef void key_set_idle(Kernel *k, Element *e, int64_t seconds) noexcept nogil
# bytes of the key and all it holds; of members a sample is taken
cdef size_t key_memory(Kernel *k, Element *e) noexcept nogil
# a visible key, NULL when there is none
cdef Element *key_random(Kernel *k, uint32_t db) noexcept nogil
# A visible string's bytes: valid until the next change of the key or the next string_view (numbers
# are formatted into k.number).
cdef Span string_view(Kernel *k, Element *e) noexcept nogil
# WHOLE, WHOLE_SHOWN, or NO_NUMBER where it is no whole number
cdef int string_int(Kernel *k, Element *e, int64_t *out) noexcept nogil

# The collection of this type when it is the visible one, else NULL.
cdef Collection *key_collection(Kernel *k, Element *e, int type) noexcept nogil
cdef Reading element_reading(Kernel *k, Element *e) noexcept nogil
# does a member's cell (a string's) hold anything but tombstones?
cdef int value_live(Element *e) noexcept nogil
# a live member or NULL
cdef Element *member_find(Kernel *k, Collection *c, Span name) noexcept nogil
# a live member; c.live > 0
cdef Element *member_random(Kernel *k, Collection *c) noexcept nogil
# a hash field's value, as string_view
cdef Span member_view(Kernel *k, Element *m) noexcept nogil
# Walking a list: 1 while the cursor stands on an element, whose value stays where it is until the
# list changes.
cdef int list_seek(Collection *c, size_t index, ListCursor *at) noexcept nogil
cdef int list_next(ListCursor *at) noexcept nogil
cdef int list_prev(ListCursor *at) noexcept nogil
cdef Span list_value(Kernel *k, const ListCursor *at) noexcept nogil
# the value of an element that is there
cdef Span list_view(Kernel *k, Collection *c, size_t index) noexcept nogil
# what the order of a sorted set compares
cdef uint64_t score_sort_key(double score) noexcept nogil
cdef double member_score(Kernel *k, Element *m) noexcept nogil

# ---- local effects -------------------------------------------------------------------------------
# Every command that may change anything runs between these two; they nest (EXEC around commands).
# The op is made at its first effect. A command that makes more than one effect asks before the
# first whether they fit (core/sizes.pxd).
cdef void op_begin(Kernel *k) noexcept nogil
# 1 when an op was finished by this call
cdef int op_end(Kernel *k) noexcept nogil
# `e` is what key_find just returned (NULL: no such key) and is dead afterwards: look the key up
# again.
cdef void string_set(Kernel *k, uint32_t db, Span key, Element *e, Span value,
                     int keep_deadline) noexcept nogil
# Adds to a visible string that is a number, or starts at 0. The caller has checked type and
# overflow. `wanted`: what must be shown then, be it the sum or not; NULL: the sum. Both are finite.
cdef void string_add(Kernel *k, uint32_t db, Span key, Element *e, long double step,
                     const long double *wanted) noexcept nogil
cdef void key_delete(Kernel *k, uint32_t db, Element *e) noexcept nogil        # visible or not
# Begins a write to the members of key, of which `e` is given: an expired or invisible remainder
# goes first, a deadline is asserted again, and values of other types that a clash has hidden go.
# The caller has checked that a visible key has this type.
cdef Element *key_prepare(Kernel *k, uint32_t db, Span key, Element *e, int type) noexcept nogil
# One member's cell. `e` is what key_prepare or the function before returned; returns what stands
# under the key afterwards (NULL: nothing).
cdef Element *member_set(Kernel *k, uint32_t db, Span key, Element *e, int type, Span name,
                         Span value) noexcept nogil
cdef Element *member_add(Kernel *k, uint32_t db, Span key, Element *e, int type, Span name,
                         long double step, const long double *wanted) noexcept nogil
cdef Element *member_remove(Kernel *k, uint32_t db, Span key, Element *e, int type,
                            Span name) noexcept nogil
# One element of a list: inserted before the one at `index` (the length: at the tail), removed,
# given another value. e as above. An insert gives NULL, and has done nothing, where there is no
# room between two neighbours (core/position.pxi); in a fresh list there is.
cdef Element *list_insert(Kernel *k, uint32_t db, Span key, Element *e, size_t index,
                          Span value) noexcept nogil
cdef Element *list_remove(Kernel *k, uint32_t db, Span key, Element *e, size_t index) noexcept nogil
cdef Element *list_set(Kernel *k, uint32_t db, Span key, Element *e, size_t index,
                       Span value) noexcept nogil
# Writes the visible value of e under another key, over whatever is there, with its deadline. Names
# and spans may lie in e. 0: refused, with nothing done, since that and `bytes` of other effects of
# the command would make the op too large.
cdef int key_copy(Kernel *k, Element *e, uint32_t to_db, Span to, size_t bytes) noexcept nogil
# Frees detached collections, about `most` members; 1 while more is left.
cdef int free_garbage(Kernel *k, int most) noexcept nogil
# of a visible key; 0: PERSIST
cdef void key_expire(Kernel *k, uint32_t db, Element *e, int64_t deadline) noexcept nogil
cdef void db_flush(Kernel *k, uint32_t db) noexcept nogil
# Removes keys whose deadline has passed, at most `most`, each as an op of its own; returns ms until
# the next is due, -1 if none is, or if no op may be made because the stamps run ahead of the
# clock.
cdef int64_t active_expiry(Kernel *k, int most) noexcept nogil

# ---- watching ------------------------------------------------------------------------------------
cdef Watch *watch_hold(Kernel *k, uint32_t db, Span key) noexcept nogil
cdef void watch_release(Kernel *k, Watch *w) noexcept nogil
# at the end of Kernel.ready
cdef void watch_put_ready(Kernel *k, Watch *w) noexcept nogil
# the first of Kernel.ready, to be released; NULL: none
cdef Watch *watch_take_ready(Kernel *k) noexcept nogil
# For a command that changed nothing but counts as a change in Redis; every effect does it by
# itself.
cdef void key_modified(Kernel *k, uint32_t db, Span key) noexcept nogil

# ---- remote ops ----------------------------------------------------------------------------------
cdef enum Received:
    RECEIVED_ALL = 0        # every op is applied, known already, or waits for what it depends on
    RECEIVED_BAD = -1       # the bytes are not a Batch; ops before the bad one are applied
    RECEIVED_FULL = -2      # the causal buffer is full; ask again later
    # a run of an actor nobody declared, or a declaration that contradicts a known one
    RECEIVED_UNDECLARED = -3
    RECEIVED_CROWD = -5     # more new actors at once than are taken in (-4: see ANSWER_UNLOGGED)
cdef int receive(Kernel *k, const char *p, size_t n) noexcept nogil
# Applies waiting ops that may be applied by now, as many as take about `most` bytes. 1 while more
# of them are left: then it is to be called again soon. Called now and then in any case, for those
# that wait for the clock on the wall.
cdef int retry_pending(Kernel *k, size_t most) noexcept nogil
# Would others hold back the next op made here, because the stamps here have run away from the
# clock?
cdef int stamps_run_ahead(Kernel *k) noexcept nogil
# Lets go of tombstones that nobody needs; looks at `most` buckets of keys or members and goes on
# there next time. 1 when that ended a round.
cdef int collect(Kernel *k, int most) noexcept nogil

# ---- what is to be logged and sent ---------------------------------------------------------------
cdef int has_ops(Kernel *k) noexcept nogil
# The next finished ops, and the actors declared since the last call, as one record with an encoded
# Batch of about `most` bytes, or one op if it is larger; they are forgotten here. 0: there are
# none. The record begun is whole but for record_end.
cdef int take_record(Kernel *k, Record *r, size_t most) noexcept nogil

cdef class Replica:
    """See core/replica.pxi."""
    cdef Kernel k
    cdef readonly str id    # the replica's
    cdef act_as(self, uint64_t epoch)
    cdef str name(self, uint16_t slot)
    cdef dict write(self, uint64_t dot, uint64_t stamp, uint16_t actor, int clears, value)
    cdef describe_value(self, Element *e, dict out)
    cdef describe(self, Cell *c, list writes, list counts)
