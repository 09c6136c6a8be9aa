# The options that SET, GETEX and their like share: conditions and lifetimes. Header only: all
# functions are inline.

from libc.stdint cimport int64_t, uint32_t

from crdtredis._core cimport Element, key_delete, key_visible
from crdtredis._engine cimport Call, is_word, refuse_syntax
from crdtredis.buffer cimport Span
from crdtredis.commands.common cimport read_deadline

# Options of SET, MSETEX, GETEX and INCREX. Within each of the two groups of rivals, at most one can
# be given (but that one repeatedly, except by INCREX).
cdef enum Option:
    O_NX = 1
    O_XX = 2
    O_GET = 4
    O_KEEPTTL = 8
    O_PERSIST = 16
    O_EX = 32
    O_PX = 64
    O_EXAT = 128
    O_PXAT = 256
    O_IFEQ = 512
    O_IFNE = 1024
    O_IFDEQ = 2048
    O_IFDNE = 4096
    O_EXISTENCE = 3             # NX, XX
    O_COMPARES = 7680           # IFEQ, IFNE, IFDEQ, IFDNE: followed by a value or digest
    O_CONDITIONS = 7683         # all of those
    O_EXPIRES = 480             # EX, PX, EXAT, PXAT: followed by a time
    O_LIFETIME = 504            # KEEPTTL, PERSIST and those
    O_OF_SET = 8175
    O_OF_MSETEX = 491
    O_OF_GETEX = 496
    O_OF_INCREX = 496

# What was given of them.
cdef struct Options:
    uint32_t given
    Span expire                 # behind one of O_EXPIRES
    Span compared               # behind one of O_COMPARES


cdef inline uint32_t option(Span w) noexcept nogil:
    """The option that w names, 0 if none."""
    if w.n == 2:
        return (O_EX if is_word(w, b"EX") else O_PX if is_word(w, b"PX") else O_NX
                if is_word(w, b"NX")
                else O_XX if is_word(w, b"XX") else 0)
    if w.n == 3:
        return O_GET if is_word(w, b"GET") else 0
    if w.n == 4:
        return (O_EXAT if is_word(w, b"EXAT") else O_PXAT if is_word(w, b"PXAT") else O_IFEQ
                if is_word(w, b"IFEQ")
                else O_IFNE if is_word(w, b"IFNE") else 0)
    if w.n == 5:
        return O_IFDEQ if is_word(w, b"IFDEQ") else O_IFDNE if is_word(w, b"IFDNE") else 0
    return O_KEEPTTL if is_word(w, b"KEEPTTL") else O_PERSIST if is_word(w, b"PERSIST") else 0


cdef inline int read_options(Call *c, int i, uint32_t allowed, Options *options) noexcept nogil:
    """Read argv[i:] as options; 0 after a refusal."""
    cdef uint32_t o, rivals
    options.given = 0
    while i < c.argc:
        o = option(c.argv[i]) & allowed
        rivals = O_LIFETIME if o & O_LIFETIME else O_CONDITIONS if o & O_CONDITIONS else 0
        if o == 0 or options.given & rivals & ~o:
            refuse_syntax(c)
            return 0
        if o & (O_EXPIRES | O_COMPARES):
            i += 1
            if i == c.argc:
                refuse_syntax(c)
                return 0
            if o & O_EXPIRES:
                options.expire = c.argv[i]
            else:
                options.compared = c.argv[i]
        options.given |= o
        i += 1
    return 1


cdef inline int option_deadline(Call *c, Options *options, int64_t *deadline) noexcept nogil:
    """The deadline that EX, PX, EXAT or PXAT asks for, in ms since 1970, unchanged without one of
    them; 0 after a refusal."""
    if not options.given & O_EXPIRES:
        return 1
    return read_deadline(c, options.expire, 1000 if options.given & (O_EX | O_EXAT) else 1,
                         options.given & (O_EX | O_PX), deadline)


cdef inline void drop(Call *c, Element *e) noexcept nogil:
    """Remove what is visible under a key, if anything is."""
    if key_visible(c.kernel, e):
        key_delete(c.kernel, c.db, e)
