# What the commands of consumer groups share with those of streams.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t

from crdtredis._core cimport Collection, StreamCursor, StreamId
from crdtredis._engine cimport Call
from crdtredis.buffer cimport Span

# What XREAD and XREADGROUP may still give of all streams together: MAXCOUNT and MAXSIZE.
cdef struct ReadCap:
    int64_t entries
    int64_t bytes           # of the reply
    int some                # one has been given: the first may be larger than MAXSIZE

# Each but reply_* and cap_takes answers 0 after a refusal. `whole`: see parse_id.
cdef int read_id(Call *c, Span arg, StreamId *id, uint64_t missing, int *whole) noexcept nogil
cdef int read_bound(Call *c, Span arg, StreamId *id, int is_end) noexcept nogil
cdef int read_count(Call *c, Span arg, int64_t *count) noexcept nogil
cdef int read_block(Call *c, Span arg, int64_t *ms) noexcept nogil
cdef void cap_begin(ReadCap *cap) noexcept nogil
# The option argv[*i] with its number, if it is one of these: *i moves on to that.
cdef int read_cap(Call *c, int *i, ReadCap *cap) noexcept nogil
cdef int check_cap(Call *c, const ReadCap *cap, int64_t count) noexcept nogil
# Is this entry given, too? Behind one that is not, none is. at: stands on it; NULL: it is gone.
cdef int cap_takes(ReadCap *cap, StreamId id, StreamCursor *at) noexcept nogil
# of XGROUP, XINFO: options that do not fit argv[1]
cdef void refuse_subcommand(Call *c, const char *container) noexcept nogil
cdef int by_id(const void *a, const void *b) noexcept nogil             # for qsort
cdef void reply_id(Call *c, StreamId id) noexcept nogil
# more: so many replies follow in its array
cdef void reply_entry(Call *c, StreamId id, Span fields, int more=*) noexcept nogil
cdef size_t reply_range(Call *c, Collection *s, StreamId first, StreamId last, int64_t count,
                        int reverse, int bare) noexcept nogil
cdef Collection *find_stream(Call *c, Span key) noexcept nogil
