# Databases and keys: reading. What changes them is in core/effects.pxd and core/apply.pxd.

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t

from crdtredis.buffer cimport Span

cdef enum:
    MANY_LIVE = 64
    # how many keys keys_prefetch takes: about as many fetches as a core has under way
    KEYS_PREFETCHED = 16

# The element under key whether visible or not, in this very database: what commands look up is
# found by key_find (core/home.pxd).
cdef Element *key_in(Kernel *k, uint32_t db, Span key) noexcept nogil
# keys[0], keys[step] ... (n of them, at most KEYS_PREFETCHED count) are about to be looked up:
# their memory is fetched side by side.
cdef void keys_prefetch(Kernel *k, uint32_t db, const Span *keys, int n, int step) noexcept nogil
# The same in two steps, for whoever looks further ahead: the first answers the key's hash, for the
# second, to be called a little later.
cdef uint32_t key_prefetch(Kernel *k, uint32_t db, Span key) noexcept nogil
cdef void hash_prefetch(Kernel *k, uint32_t db, uint32_t hash) noexcept nogil
# e may be NULL; alive by value and by deadline
cdef int key_visible(Kernel *k, Element *e) noexcept nogil
# T_*, the visible one; T_NONE for NULL or an invisible key
cdef int key_type(Kernel *k, Element *e) noexcept nogil
# bytes of the key and all it holds; of members a sample is taken
cdef size_t key_memory(Kernel *k, Element *e) noexcept nogil
# a visible key, NULL when there is none
cdef Element *key_random(Kernel *k, uint32_t db) noexcept nogil
# The collection of this type when it is the visible one, else NULL.
cdef Collection *key_collection(Kernel *k, Element *e, int type) noexcept nogil
# The same to read it, and no more: good until the next command, or until the key changes.
cdef Collection *key_view(Kernel *k, Element *e, int type) noexcept nogil
# How many members or elements of this type clients see; 0 where it is not the visible one.
cdef size_t key_size(Kernel *k, Element *e, int type) noexcept nogil
# A member that clients see of a visible key of this type, to read it: good until the next call of
# this or of key_view, or until the key changes. NULL: there is none.
cdef Element *key_member(Kernel *k, Element *e, int type, Span name) noexcept nogil
# one that clients see, of which there is one: O(1), but where fewer than MANY_LIVE are seen among
# far more that are not, O(n)
cdef Element *member_random(Kernel *k, Collection *c) noexcept nogil
# a hash field's value, as field_view
cdef Span member_view(Kernel *k, Element *m) noexcept nogil

# Frees detached collections, about `most` members; 1 while more is left.
cdef int free_garbage(Kernel *k, int most) noexcept nogil
