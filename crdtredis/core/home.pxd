# Keys that stay at home, and the look-up of every key by commands. See core/home.pxi.

from libc.stdint cimport uint32_t

from crdtredis.buffer cimport Span

cdef enum:
    HOME_PATTERNS = 64      # at most,
    HOME_PATTERN = 256      # each of so many bytes
    # bytes of a key: a longer one matches by its beginning only, up to a pattern's last byte, "*"
    HOME_KEY = 4096

# the database that clients know it by
cdef inline uint32_t shown_db(uint32_t db) noexcept nogil:
    return db - HOME_DB if db >= HOME_DB else db

# The element under key whether visible or not: what the functions that make effects want to be
# given. Of a client's database, what stays at home is found first.
cdef Element *key_find(Kernel *k, uint32_t db, Span key) noexcept nogil
# The key's element in a client's database whose key of this name stays at home, whether visible or
# not.
cdef Element *home_find(Kernel *k, uint32_t db, Span key) noexcept nogil
# Does this key of a client's database stay at home, or will it?
cdef int is_home(Kernel *k, uint32_t db, Span key) noexcept nogil
# Is there a visible key of this name that stays at home, and hides the one in `db` that does not?
cdef int is_hidden(Kernel *k, uint32_t db, Span key) noexcept nogil
