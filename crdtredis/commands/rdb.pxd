# Values in the form in which Redis saves them ("RDB"): what DUMP and RESTORE exchange, and what
# snapshot files hold.
#
# Reading is a cursor over bytes that nobody vouches for and a function that is told what a value
# holds, element by element; it knows no command and no keyspace. What is well formed in itself is
# checked here: every length, that a collection is not empty, that a score is a number, that each
# pending entry is one consumer's. Whether a name comes twice is for the visitor to notice, which
# has the table for it.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t

from crdtredis._core cimport StreamId
from crdtredis.buffer cimport Buffer, Span

cdef enum:
    RDB_NEWEST = 12         # the greatest version of the format that is read: Redis 8's
    RDB_VALKEY = 80         # and Valkey's 9
    RDB_WRITTEN = 8         # the version that is written: Redis 4.0 and all after it read it;
    RDB_WRITTEN_DUE = 12    # of a hash whose fields have deadlines: Redis 7.4
    RDB_WRITTEN_STREAM = 10 # of a stream: Redis 7.0
    RDB_TRAILER = 10        # bytes of version and checksum after a dumped value
    RDB_LONGEST = 512 << 20 # bytes of one text, as Redis's default proto-max-bulk-len

# The byte before a value.
cdef enum RdbType:
    RDB_STRING = 0
    RDB_LIST = 1
    RDB_SET = 2
    RDB_ZSET = 3            # scores as text
    RDB_HASH = 4
    RDB_ZSET_2 = 5          # scores as doubles
    RDB_HASH_ZIPMAP = 9
    RDB_LIST_ZIPLIST = 10
    RDB_SET_INTSET = 11
    RDB_ZSET_ZIPLIST = 12
    RDB_HASH_ZIPLIST = 13
    RDB_LIST_QUICKLIST = 14
    RDB_HASH_LISTPACK = 16
    RDB_ZSET_LISTPACK = 17
    RDB_LIST_QUICKLIST_2 = 18
    RDB_STREAM = 15
    RDB_STREAM_2 = 19       # with max-deleted-id and entries-added
    RDB_SET_LISTPACK = 20
    RDB_STREAM_3 = 21       # and when consumers were active
    RDB_HASH_VALKEY = 22    # fields with deadlines, of RDB_VALKEY
    RDB_HASH_DUE = 24       # fields with deadlines,
    RDB_HASH_LISTPACK_DUE = 25      # and packed

cdef enum RdbStatus:
    RDB_GOOD = 0
    RDB_BAD = -1            # the bytes are not a value of this type

cdef enum RdbPart:
    RDB_ELEMENT = 0
    RDB_GROUP = 1           # of a stream: the value is an RdbGroup;
    RDB_CONSUMER = 2        # of that group: an RdbConsumer, and its RdbPendings

# They lie at any address.
cdef struct RdbGroup:
    StreamId last
    int64_t read            # entries-read; -1: not known

cdef struct RdbConsumer:
    int64_t seen            # ms since 1970
    int64_t active          # -1: never

cdef struct RdbPending:
    StreamId id
    int64_t at              # ms since 1970
    int64_t deliveries

# What is not yet read.
cdef struct RdbCursor:
    const unsigned char *p
    size_t left
    # of the field of a hash that the visitor is told of: its deadline in ms; 0: none
    int64_t due
    int part                # RdbPart: of what the visitor is told
    # of a stream whose entries have all been visited
    StreamId top
    StreamId max_deleted
    uint64_t added

# Told of each element, in the order of the bytes; the spans are dead when it returns. Not RDB_GOOD:
# reading stops with that answer.
#
#     string, list    value           set             name
#     hash            name, value     sorted set      name, value: the score, a double
#     stream          name, value: id and fields, as the kernel has them; then its groups, each
#                     followed by its consumers
ctypedef int (*RdbVisit)(void *arg, Span name, Span value) noexcept nogil

# ---- reading -------------------------------------------------------------------------------------
# T_* of an RdbType; T_NONE for what is not read: modules, unknown ones
cdef int rdb_kind(int type) noexcept nogil
# Reads one value and leaves the cursor behind it. Memory beside the visitor's: three texts of the
# value, decompressed.
cdef int rdb_read(RdbCursor *at, int type, RdbVisit visit, void *arg) noexcept nogil
# 1 when a dumped value ends in a version that is read, which has its type, and the right checksum.
cdef int rdb_sealed(Span payload) noexcept nogil

# ---- writing -------------------------------------------------------------------------------------
cdef void rdb_put_length(Buffer *b, uint64_t n) noexcept nogil
# as a number or compressed where that is shorter
cdef void rdb_put_text(Buffer *b, Span text) noexcept nogil
cdef void rdb_put_double(Buffer *b, double v) noexcept nogil
# the checksum of bytes and these behind them, where the checksum of those is `before` (none: 0)
cdef uint64_t rdb_checksum(uint64_t before, Span s) noexcept nogil
# appends version and checksum of all that b holds
cdef void rdb_seal(Buffer *b, int version) noexcept nogil
