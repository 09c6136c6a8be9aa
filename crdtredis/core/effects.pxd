# Making effects: what commands call. See core/effects.pxi.
#
# A handler looks a key up, decides, and calls these functions between op_begin and op_end
# (core/op.pxd). Nothing else may change the keyspace.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t

from crdtredis.buffer cimport Span

# `e` is what key_find just returned (NULL: no such key) and is dead afterwards: look the key up
# again.
cdef void string_set(Kernel *k, uint32_t db, Span key, Element *e, Span value,
                     int keep_deadline) noexcept nogil
# Adds to a visible string that is a number, or starts at 0. The caller has checked type and
# overflow. `wanted`: what must be shown then, be it the sum or not; NULL: the sum. Both are finite.
cdef void string_add(Kernel *k, uint32_t db, Span key, Element *e, long double step,
                     const long double *wanted) noexcept nogil
# Changes a visible string in place, or makes one of nothing but changes. appends: `value` goes
# behind the end. Else it is the bytes from bit `first` on, less `unused` bits at the end; bits of
# those bytes that are not named are 0. 0, and nothing is done: the whole value is to be set. may it
# be so, of what stands under a key?
cdef int may_change(Kernel *k, Element *e) noexcept nogil
cdef int string_change(Kernel *k, uint32_t db, Span key, Element *e, int appends, uint64_t first,
                       Span value, uint32_t unused) noexcept nogil
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
# A field of a hash, set and its deadline left alone (HSETEX KEEPTTL); and its deadline, in ms, or 0
# for none (HPERSIST), of a field that is there.
cdef Element *field_keep(Kernel *k, uint32_t db, Span key, Element *e, Span name,
                         Span value) noexcept nogil
cdef Element *field_expire(Kernel *k, uint32_t db, Span key, Element *e, Span name,
                           int64_t deadline) noexcept nogil
# One element of a list: inserted before the one at `index` (the length: at the tail), removed,
# given another value. e as above. An insert gives NULL, and has done nothing, where there is no
# room between two neighbours (core/position.pxi); in a fresh list there is.
cdef Element *list_insert(Kernel *k, uint32_t db, Span key, Element *e, size_t index,
                          Span value) noexcept nogil
cdef Element *list_remove(Kernel *k, uint32_t db, Span key, Element *e, size_t index) noexcept nogil
cdef Element *list_set(Kernel *k, uint32_t db, Span key, Element *e, size_t index,
                       Span value) noexcept nogil
# One member, or the i-th element, of a value that is written anew under a key that holds none, from
# what walk_value gives (core/walk.pxd); of a string, which is one, whatever there is; of a stream
# an entry, which is not counted as added (stream_set_id then says what it knows beside them).
# Returns as above.
cdef Element *put_shown(Kernel *k, uint32_t db, Span key, Element *e, int type, size_t i, Span name,
                        Span value) noexcept nogil
# Writes the visible value of e under another key, over whatever is there, with its deadline. Names
# and spans may lie in e. 0: refused, with nothing done, since that and `bytes` of other effects of
# the command would make the op too large.
cdef int key_copy(Kernel *k, Element *e, uint32_t to_db, Span to, size_t bytes) noexcept nogil
# Entries of a stream (core/streams.pxd), behind key_prepare. XADD: `id` is above the top, becomes
# it, and entries-added grows.
cdef Element *stream_add(Kernel *k, uint32_t db, Span key, Element *e, StreamId id,
                         Span fields) noexcept nogil
# XDEL of entries that are there; the greatest counts for max-deleted-entry-id. n > 0.
cdef Element *stream_remove(Kernel *k, uint32_t db, Span key, Element *e, const StreamId *ids,
                            size_t n) noexcept nogil
# XTRIM: all up to `last`, as far as they are here.
cdef Element *stream_trim(Kernel *k, uint32_t db, Span key, Element *e,
                          StreamId last) noexcept nogil
# XSETID; a stream without entries where there is none. added: -1: left alone; max_deleted: 0-0:
# left alone.
cdef Element *stream_set_id(Kernel *k, uint32_t db, Span key, Element *e, StreamId top,
                            int64_t added, StreamId max_deleted) noexcept nogil
# of a visible key; 0: PERSIST
cdef void key_expire(Kernel *k, uint32_t db, Element *e, int64_t deadline) noexcept nogil
cdef void db_flush(Kernel *k, uint32_t db) noexcept nogil
# Removes keys and fields whose deadline has passed, about `most`, those of a key in an op; returns
# ms until the next is due, -1 if none is, or if no op may be made because the stamps run ahead of
# the clock, or a state is being joined.
cdef int64_t active_expiry(Kernel *k, int most) noexcept nogil
