# The state of a replica: the structs that its parts share. What each part keeps of it stands in a
# struct of its own, named by the part.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uint8_t

from crdtredis.buffer cimport Buffer, Span, span

cdef enum:
    CONFLICTS = 128         # how many CRDT.CONFLICTS remembers
    CONFLICT_TEXT = 64      # bytes of key and of each value it remembers
    MEETINGS = 128          # rows of CRDT.CONFLICTS TOP that are counted, and of Origins
    MEETING_PREFIX = 32     # bytes of a key by which they are
    DELAYED_MOST = 256      # replicas whose delays are measured
    DELAYS = 232            # see core/delay.pxi
    CARDINALITIES = 1024    # a power of two

# A hash, set, sorted set or list: members are elements like keys, each with a cell. A hash field's
# value is bytes, a set member has none, a sorted set member's is its score (8 bytes, double). Of a
# list, elements stand in blocks (core/block.pxi).
cdef struct Collection:
    Collection *next
    # members with a live cell; the table also holds those that have tombstones only
    size_t live
    VersionVector *written  # by actor: no write here is newer; NULL: not told of a small collection
    Table table             # empty for lists
    uint32_t type           # T_*
    uint32_t tombstones     # members with a tombstone
    uint32_t cells          # members that are not plain: only they can have counter entries
    uint32_t named          # of a list, while a replica joins another's state: a piece has named it

# What follows the struct of a sorted set, the live members by (score, name), of a list, the blocks
# by position, and of the deadlines of fields, those that count, by time.
cdef inline Order *order_of(Collection *c) noexcept nogil:
    return <Order*>(<char*>c + sizeof(Collection))

# And then of a list: the dots of the last two inserts applied, the last first. Not state: they only
# help to guess where the next will be.
cdef inline uint64_t *list_recent(Collection *c) noexcept nogil:
    return <uint64_t*>(<char*>c + sizeof(Collection) + sizeof(Order))

# What a key has that has a deadline of its own, or whose fields have.
cdef struct Entry:
    Element *owner
    uint32_t heap           # place in the deadline heap + 1; 0: not in it
    uint16_t db
    uint8_t expiring        # counted in its database: 1: in `expiring`, 2: in `subexpiring`
    # What the key holds beside a string, nearly always one collection and never an empty one. It
    # hangs at the element where there is no Entry (core/element.pxi).
    Collection *collections
    Cell deadline           # register of absolute ms (W_NUMBER writes)

# Where the cell of a joint deadline (core/element.pxi) is made up for who reads it.
cdef struct DeadlineRoom:
    Cell cell
    Write write
    int64_t at              # the value of `write`, which it follows

cdef struct Database:
    Table table
    size_t live             # keys with a live value; the table also holds tombstones and leftovers
    size_t expiring         # those of them that have a deadline,
    size_t subexpiring      # and keys with a field that has one
    Counted counted
    uint32_t timed          # keys in the deadline heap
    VersionVector written   # by actor: no write, increment or deadline here is newer

cdef struct HeapItem:
    int64_t at              # ms: when this replica should look at the key
    uint64_t of             # an Entry, or, with its lowest bit set, the element of a joint deadline

# A key somebody WATCHes or waits for; version grows with every effect on it, local or remote.
cdef struct Watch:
    Watch *next
    Watch *next_ready
    uint64_t version
    # of whoever waits for the key (the engine's), NULL: nobody. An effect then puts it on the list
    # Kernel.watched.ready
    void *waiters
    uint32_t hash
    uint32_t db
    uint32_t holders
    int ready               # on that list, which is a holder
    size_t n                # bytes of key, which follow the struct

cdef inline Span watch_key(Watch *w) noexcept nogil:
    return span(<char*>w + sizeof(Watch), w.n)

# Consecutive finished ops of one actor in Kernel.outbox.ops, bytes [begin, end); or a single large
# one, in a buffer of its own, from `begin` to its end, with HEAD_ROOM bytes or more before it for
# what a record puts in front, or lent, where it was received.
cdef struct Run:
    uint16_t slot
    uint16_t home           # it holds what stays at home
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
    int home                # it holds what stays at home
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

cdef struct Pending:
    Table ops               # by dot
    size_t bytes            # that they take, with what the table needs
    size_t limit
    size_t held_ops         # ops of all that are HELD
    uint16_t held           # root of the heap of those, slot + 1
    uint16_t ready          # the queue: first,
    uint16_t ready_last     # ... and last

# Where the search for tombstones goes on.
cdef struct Search:
    uint32_t db
    uint64_t cursor         # a bucket of the database's table
    uint32_t place          # in it: each key has one for itself and one for each collection
    uint64_t member         # a bucket of that collection's table

# The half of what is being made that the next effect goes to, and the other: what all replicas
# share, and what stays at home (core/home.pxi).
cdef struct Half:
    int has_op              # its first effect has been made
    uint32_t effect_count
    Applying op
    Buffer effects

# The op that is being made: effects are encoded into `effects`, the finished op into the outbox.
cdef struct OpenOp:
    int depth               # op_begin nesting
    int deps_changed        # a remote op was applied since this actor's last op
    size_t most             # bytes of effects of both halves: OP_MOST, less in tests
    uint64_t began          # `changes` when the command under way began
    # a Refused, if the command is: what it would make is no good, and it makes none of it
    int refused
    uint64_t torn           # ops that were closed in the middle of a command: none
    int home                # the half under way is that of keys that stay at home
    int has_op
    uint32_t effect_count
    Applying op
    Buffer effects
    Half other              # the other half

# Keys that stay at home (core/home.pxi).
cdef struct Home:
    uint16_t slot           # the actor of their ops, at once for all processes of this replica
    int on                  # there are patterns or such keys: look-ups look here
    int known               # patterns
    Buffer patterns         # one after the other: length (4 bytes), bytes
    # siphash64 of a key that the command under way has removed from here; 0: of none
    uint64_t left
    uint32_t left_db

# Of a HyperLogLog that was counted here: what its head shows then, though its writes do not say it.
cdef struct Cardinality:
    uint64_t of             # a hash of its writes, its key and its registers
    uint64_t n

# Room that is used again and again.
cdef struct Scratch:
    Buffer listed           # counter entries that an effect cancels, in wire form
    Buffer position         # a list position, as steps
    Buffer made             # a position in wire form; the deps of an op
    Buffer total            # a total in wire form
    Buffer few              # the live ones found among many tombstones: see random_among_few
    Buffer entry            # an entry of a block, as an element,
    Buffer gathered         # and the fields of those that go into one
    char number[5200]       # where string_view formats a number,
    Buffer image            # and where it writes a HyperLogLog
    Buffer mark             # a database and a key

# Finished ops, own and received, not yet taken: runs from `at` on say whose ops stand where in
# `ops`.
cdef struct Outbox:
    Buffer ops
    size_t size             # bytes of all, the large ones included
    Run *runs
    uint32_t at
    uint32_t n
    uint32_t cap
    Buffer declarations     # of the actors whose first ops are among these

# Taking ops in.
cdef struct Inbox:
    int recovering          # what is received is in the log already
    # the bytes given to `receive` stay there until take_record has given out all that was in them
    int lending
    int64_t max_skew        # ms: ops stamped further ahead wait
    # ms since 1970: up to here stamps are no further ahead than if it were now; 0: none are
    int64_t accepted
    # actors that peers declared, less one for every NEWCOMER_MS since; at `newcomers_at` (ms)
    int64_t newcomers
    int64_t newcomers_at
    # ops that this covers wait: they come with a state that is to be joined
    VersionVector barred
    # of the op under examination the first DECODED_KEPT effects, and where the others begin
    Effect *decoded
    Forms *forms            # of effects; where the others begin, too

# Keys by when this replica should look at their deadline: a heap.
cdef struct Deadlines:
    HeapItem *heap
    uint32_t n
    uint32_t cap
    int64_t grace           # ms that other replicas leave to the one that set the deadline

# Small collections that are not packed (core/packed.pxi).
cdef struct Packing:
    Buffer opened           # keys whose collections were opened or unpacked, in that order,
    size_t at               # from here on
    Buffer made             # room for a packed one
    Buffer views            # packed ones as the running command reads them
    uint32_t asked          # how often one was read or written

# Watched keys: chains by hash.
cdef struct Watched:
    Watch **chains
    uint32_t mask           # chains less one
    uint32_t n
    # n, and one more while notices are wanted, and for a mirror: effects look here
    uint32_t active
    Watch *ready            # keys that are waited for and were touched, in that order
    Watch *ready_last

# When keys were changed, while somebody wants to know (core/buckets.pxi).
cdef struct Touched:
    uint64_t *at            # by bucket: Kernel.changes then; NULL: nobody wants to know
    uint32_t holders

# Keys that effects touched (core/notices.pxi).
cdef struct Notices:
    int on                  # somebody wants them
    Buffer rows             # of Notice
    size_t last             # where the last one begins
    uint64_t dropped

# Something that the mirror lacks. Key and name follow.
cdef struct Dirty:
    Dirty *next             # in its chain
    Dirty *later            # in the order in which they came
    uint64_t number         # in that order
    int64_t since           # ms
    int64_t until           # ms: the deadline with which a change to what is there was sent; or 0
    uint32_t hash
    uint32_t what           # DirtyWhat
    uint32_t n              # bytes of key
    uint32_t name_n
    uint32_t commands       # that were made of it, in the batch under way

# What a mirror lacks (core/mirror.pxi).
cdef enum:
    MIRROR_OVER = 2         # Mirror.stage of a pass that has looked at every key

cdef struct Mirror:
    int on
    # what is listed: by hash, and in order
    Dirty **chains
    uint32_t chain_n        # a power of two
    uint32_t n
    size_t bytes            # with what is needed to list it
    size_t most
    Dirty *first
    Dirty *last
    Dirty *dropped          # were listed, and are freed a few at a time
    # what is on its way
    Dirty *sent
    Dirty *sent_last
    Dirty *copied           # a large collection that goes part by part; NULL: none
    uint64_t copied_to      # where in its table that has come
    int copied_type
    # ms: since when changes are not listed; 0: they are
    int64_t lost_since
    int64_t again_since     # ms: since when what was listed again is lacking; 0: there is none
    uint64_t again_until    # number of the last of that
    # the pass
    int64_t pass_since      # ms: since when what it brings is lacking; 0: there is none
    int stage               # 0: looks at shared keys; 1: at those at home
    uint64_t cursor         # where it looks
    int swept               # 1: what is at the mirror has been looked at; 2: and `until` is set
    uint64_t until          # number of the last that is of the pass
    # counts
    uint64_t listed
    uint64_t losses
    uint64_t passes
    uint64_t taken          # keys, deadlines and members that were sent
    uint64_t bytes_sent

# How the next key to be evicted is found: bits (core/evict.pxi).
cdef enum EvictionPolicy:
    EVICT_LRU = 1
    EVICT_LFU = 2
    EVICT_TTL = 4
    EVICT_RANDOM = 8
    EVICT_VOLATILE = 16     # only keys with a deadline

# A key that was sampled: who is evicted first has the greatest score.
cdef struct Candidate:
    uint64_t score
    uint32_t db
    Buffer key

cdef struct Eviction:
    uint32_t policy         # EvictionPolicy; 0: nothing is evicted
    uint32_t samples
    uint32_t log_factor     # LFU: how many accesses a count stands for
    uint32_t decay          # LFU: minutes without access that take one off it; 0: none do
    # of this replica: a `shares`-th of the keys, the `share`-th of them from 0 on
    uint32_t shares
    uint32_t share
    int64_t turn            # when shares went round last, in SHARE_MS
    Candidate pool[16]      # EVICTION_POOL, by score
    uint32_t pooled
    uint64_t evicted        # keys, since the start
    # LFU: the last write that was counted, since all effects of an op on a key count as one
    uint64_t counted_seq
    uint32_t counted_hash

# Conflicts in one database, under one prefix, of one type, between two replicas.
cdef struct Meeting:
    uint64_t over           # at most so many of `times` were another row's, in whose place this is
    uint64_t won            # by the first of the replicas: the one whose slot is smaller
    uint64_t lost           # bytes of the values that lost
    uint64_t numbers        # conflicts of which both values were integers
    uint32_t prefix_n       # the key's first bytes
    uint16_t replica[2]     # Actor.replica_slot
    Conflict last           # the latest of them

# A stream that is gone: no remote entry that came behind it is older than what was read there.
cdef struct Floor:
    uint32_t hash           # of its key
    uint64_t newest[2]      # the greatest id that arrived there

# Streams (core/streams.pxi).
cdef struct Streams:
    uint64_t arrivals       # of entries behind greater ones, over all streams
    uint64_t made           # the last tick that an id of `*` was made of, as a stamp
    uint64_t ops            # that were applied since the start, those made here included
    uint16_t low            # what ids of `*` made here end with,
    uint32_t low_of         # when so many actors were known
    # how long (s) idempotent ids are known, and how many of each producer, where XCFGSET has not
    # said so: a setting of this replica, read where XADD is executed
    int64_t known_seconds
    int64_t known_most
    # what has run out is looked for (core/sweep.pxi)
    uint64_t opened         # streams, since this process began
    uint32_t sweep_db       # in this database,
    uint64_t sweep_cursor   # in this bucket of its table,
    int64_t sweep_at        # ms: and not before
    uint32_t floored        # floors that were noted
    Floor floors[1024]      # FLOORS

# Strings that are changed in place (core/patches.pxi).
cdef struct Texts:
    int off                 # 1: somebody may not know patches: SETs are written; -1: there are some
    uint32_t others         # other replicas that there are; 0: none that is known
    uint32_t known          # actors that there were when `alone` was found
    int alone
    VersionVector folded    # all that were folded here: see there
    VersionVector loaded    # while the log is read, those as of the end of the checkpoint's walk
    uint32_t giving         # states that are given: nothing is folded meanwhile
    Collection *first       # keys that have patches, those that came last first
    Collection *next        # where folding goes on; NULL: at the first
    uint32_t unsettled      # of those, with patches that do not act yet
    Table marks             # keys to be written anew, by database (4 bytes) and name
    int64_t mend_at         # ms: not before
    int apart               # is a member away, of which nobody here knows what it makes meanwhile?
    uint64_t late           # ops that were
    uint64_t mended         # keys that were written anew

cdef struct Conflicts:
    uint64_t n              # concurrent writes that had to be decided
    Conflict *ring          # newest at (n - 1) % CONFLICTS
    uint32_t met            # rows
    uint32_t of[128]        # MEETINGS: a hash of what a row is about,
    uint64_t times[128]     # and how many conflicts there were, at most
    Meeting *meetings

# How late the ops of one replica were applied here: counts by delay in ms (core/delay.pxi).
cdef struct Delays:
    uint64_t n              # ops since the start
    uint64_t sum            # of their delays, ms
    int64_t most
    int64_t since           # ms: when the window under way began
    uint32_t predicted      # delay, as an index: the window before gave it; DELAYS: nothing has
    uint64_t foretold       # ops of windows that have ended and for which there was a prediction
    uint64_t within         # those that it held for
    uint64_t all[232]
    uint32_t window[232]    # the window under way,
    uint32_t before[232]    # and the one before it

cdef struct Delayed:
    uint32_t n
    uint16_t *replica       # Actor.replica_slot
    Delays *of

# Writes under one prefix in one database, as far as they are sampled.
cdef struct Origin:
    uint32_t n              # that were sampled since this row is about this prefix
    uint32_t prefix_n
    uint32_t replicas       # that are told apart, and of each Actor.replica_slot and its writes
    uint16_t replica[8]     # ORIGIN_REPLICAS
    uint32_t by[8]
    uint32_t others         # writes of all other replicas
    uint32_t inserts        # of all, elements that came into lists that had some, made here;
    uint32_t inside         # of those the ones between two elements
    uint32_t longest        # elements of the longest such list
    char prefix[32]         # MEETING_PREFIX

# Where writes come from (core/origins.pxi).
cdef struct Origins:
    uint32_t wait           # writes until the next is sampled
    # of the last effect on a list: elements that it found, if it added one here, else 0
    size_t insert
    int inside              # and whether that came between two of them
    uint64_t seed
    uint32_t n              # writes that were sampled, all rows together
    uint32_t met            # rows
    uint32_t of[128]        # MEETINGS: a hash of prefix and database,
    uint32_t db[128]
    uint32_t times[128]     # and how many writes there were, at most
    Origin *rows

cdef struct Kernel:
    Database db[DATABASES]
    Actors actors
    uint16_t me             # slot of this process's actor
    uint64_t hash_key[2]
    # for random choices, on which nothing depends that replicas share
    uint64_t seed
    # time, passed in
    int64_t now             # ms since 1970; set by the owner before each loop iteration or call
    uint64_t newest_stamp   # the greatest stamp observed or made
    OpenOp open
    Outbox outbox
    Inbox inbox
    Pending pending         # ops that may not be applied yet
    Deadlines deadlines
    Packing packing
    Home home
    Watched watched
    Notices notices
    Touched touched
    Eviction eviction
    Mirror mirror
    Streams streams
    Texts texts
    # another replica's state is being joined (core/join.pxi): no op is made, and none applied
    int joining
    Conflicts conflicts
    Delayed delayed
    Origins origins
    Search search
    Scratch scratch
    Cardinality cardinalities[CARDINALITIES]        # by that hash: the last ones
    Collection *garbage     # detached collections, freed a little at a time
    uint64_t changes        # effects applied since the start ("dirty")
    uint64_t system_changes # ... in the system's database, and joins, which may have changed it
    uint64_t expired        # keys removed here at their deadline,
    uint64_t expired_fields # and fields of hashes

cdef inline int64_t kernel_tombstones(const Kernel *k) noexcept nogil:
    cdef int64_t n = 0
    cdef int i
    for i in range(DATABASES):
        n += k.db[i].counted.tombstones
    return n
