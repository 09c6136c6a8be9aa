# Strings that are changed in place. See core/patches.pxi.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uint8_t

from crdtredis.buffer cimport Span

cdef enum:
    STRING_MOST = 512 << 20       # bytes of a string; what lies beyond is not kept
    PATCHES_MOST = 1 << 20      # of one key that are remembered, and
    PATCHES_BYTES = 256 << 20   # the bytes that they take: then a change is written as a SET
    QUIET_MS = 10_000           # how long a long string that is no more changed keeps its room
    QUIET_FREELY = 4096         # bytes: of a shorter one it goes at once
    MEND_MS = 1000              # after the last late op, until what it touched is written anew,
    MEND_WAIT_MS = 60_000       # and this much later while ops of others may be on their way

# A change of a string. Its bytes follow the struct, and, of one in place, those that it covered.
cdef struct Patch:
    Patch *next                 # in the order of places: (stamp, actor, index)
    Patch *before
    uint64_t dot
    uint64_t stamp
    uint64_t at                 # the first bit. Of an APPEND the length that its maker saw
    uint32_t index              # of the effect in its op
    uint32_t n                  # bytes
    uint32_t found              # bytes of the string when it acted
    uint16_t appends
    uint16_t unused             # bits behind the last that it sets

# The patches of one write that not all replicas are known to have.
cdef struct Text:
    Text *next                  # of the key
    uint64_t root               # dot of the write; 0: the loose text
    # of the loose text: the last patch that was folded into its base; 0: there is no base
    uint64_t last
    uint64_t upto               # its stamp
    Patch *first
    Patch *end
    Patch *undone               # from here on they do not act yet; NULL: all do
    Patch *hint                 # the one that came last

# What follows the Collection of a key's patches, which is T_PATCHES.
cdef struct Patched:
    Kernel *k
    Collection *before          # of all that there are
    Collection *after
    Text *texts
    size_t n                    # patches,
    size_t bytes                # and what they take
    int dirty                   # some do not act yet
    int64_t changed             # ms: when the last came
    uint32_t db
    uint32_t key_n
    char *key

# Where the bytes of a text stand: in the element, or in a write of its cell.
cdef struct Bytes:
    Kernel *k
    uint32_t db
    Element *e
    Write **at                  # NULL: in the element

cdef inline Patched *patched_of(const Collection *c) noexcept nogil:
    return <Patched*>(<char*>c + sizeof(Collection))

cdef inline uint8_t *patch_bytes(const Patch *p) noexcept nogil:
    return <uint8_t*>p + sizeof(Patch)

cdef inline uint8_t *bytes_at(const Bytes *b) noexcept nogil:
    return <uint8_t*>(write_value(b.at[0]) if b.at != NULL else element_value(b.e))

# PATCH. op: see core/apply.pxi.
cdef void apply_patch(Kernel *k, const Applying *op, const Effect *x, Element *e) noexcept nogil
cdef int patch_is_sound(const Effect *x) noexcept nogil
# Before an effect removes what it observed of key e's writes, but for the one of dot `keep`: takes
# along the patches of those, and what it observed of the loose text.
cdef void patches_cut(Kernel *k, const Applying *op, uint32_t db, Element *e,
                      uint64_t keep) noexcept nogil
# Has everything act that came: at the end of whatever applies ops.
cdef void texts_settle(Kernel *k) noexcept nogil
# Is there nobody but this replica?
cdef int is_alone(Kernel *k) noexcept nogil
# Has the op not observed all that was folded here?
cdef int is_late(Kernel *k, const Applying *op) noexcept nogil
# the key that c belongs to; NULL: c waits to be freed
cdef Element *key_of_patches(const Collection *c) noexcept nogil
# takes out, and frees, a patch, or a text with all of its
cdef void patch_drop(Collection *c, Text *t, Patch *p) noexcept nogil
cdef void text_drop(Collection *c, Text *t) noexcept nogil
cdef Text *text_of(const Collection *c, uint64_t root) noexcept nogil
cdef Text *text_open(Collection *c, uint64_t root, Element *e) noexcept nogil
# is x's place in a text lower?
cdef int place_before(Actors *a, const Patch *x, const Patch *y) noexcept nogil
cdef int text_put(Kernel *k, Bytes *b, Collection *c, Text *t, Patch *p) noexcept nogil
cdef Collection *patches_open(Kernel *k, uint32_t db, Element **e) noexcept nogil
cdef int bytes_of(Kernel *k, uint32_t db, Element *e, uint64_t root, Bytes *b) noexcept nogil
cdef void bytes_resize(Bytes *b, size_t n) noexcept nogil
cdef Patch *patch_new(uint64_t dot, uint64_t stamp, uint32_t index, const Effect *x) noexcept nogil
# The key is to be written anew, and is it?
cdef void mark_text(Kernel *k, uint32_t db, Span key) noexcept nogil
cdef int is_marked(Kernel *k, uint32_t db, Span key) noexcept nogil
# the patches under key e, or NULL
cdef Collection *patches_held(Element *e) noexcept nogil
# of a key whose patches were undone, for its bases to be given or joined
cdef void patches_undo(Kernel *k, uint32_t db, Element *e, Collection *c) noexcept nogil
cdef Element *patches_redo(Kernel *k, uint32_t db, Element *e, Collection *c) noexcept nogil
