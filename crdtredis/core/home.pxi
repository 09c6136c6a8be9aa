# Keys that stay at home: which keys are never replicated, and where are they?
#
# A client's database n is two: that of the keys which all replicas share, n, and that of keys which
# match `local_keys`, HOME_DB + n, of which every replica has its own. Clients see one. Where a key
# belongs is decided where commands look it up (key_find), and again where they make an effect
# (home_of), and nowhere else:
#
#     a visible key at home          there
#     else a visible shared key      there: it was made before there was the pattern, or by a
#                                    replica that has other patterns
#     else                           at home, if it matches a pattern
#
# so patterns can change at any time: a key that is there stays where it is until it is removed. A
# key at home hides a shared one of the same name, which goes on to follow its peers' effects. What
# a command writes in place of a key that it has removed from home stays at home (Home.left), also
# where that uncovers a shared one: its values were never meant for others.
#
# An op that touches both kinds has two halves (core/op.pxi), and each is an op of its own: of this
# process's actor, and of the actor `home`. That has one sequence for all processes of a replica,
# and no other replica knows of it:
#
#     A: MULTI; RPUSH job:q x; INCR jobs; EXEC  ->  (A, 7): jobs + 1      to the log, and to B
#                                                   (home, 4): job:q x    to the log alone
#
# Why what replicas share stays equal: the shared half is an op like any other, with the effects on
# shared keys, whole, and its number follows on the one before; what peers get is what they would
# get if the other half had not been made, so nothing is to be argued anew about orders, crashes,
# relays and full syncs. B applies (A, 7) after (A, 6), whether (home, 4) was made or not. And no
# shared state depends on what is at home: no dot, counter entry, position, dep or clock that others
# get names the actor `home`, since effects write what is shown with dots of their own half, and the
# actor is not found by its id but while its own ops are read (Actors.hidden). What is at home
# depends on its own ops alone, in the order in which this replica made them: so they have no deps,
# the log is enough, and a number that a crash took back may be given again: nobody has seen it.
#
# Both halves stand in one record of the log (core/outbox.pxi): a crash leaves both or neither.
# Whoever hands on what the log holds leaves the home half out (shared_batch in core/batch.pxi), and
# digests, full syncs and joins go through the databases below SHARED. The other way round, a peer's
# op or piece of state that names a database from HOME_DB on is refused.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from crdtredis.buffer cimport Span, span
from crdtredis.glob cimport GLOB_STEPS, glob_is_all, glob_match


cdef int home_matches(const char *pattern, size_t n, Span key) noexcept nogil:
    cdef size_t i
    # more than it can take: whether a key matches depends on nothing else
    cdef int64_t left = GLOB_STEPS
    if key.n <= HOME_KEY:
        return glob_is_all(pattern, n) or glob_match(pattern, n, key.p, key.n, 0, &left)
    if n == 0 or pattern[n - 1] != c'*':
        return 0
    for i in range(n - 1):
        if pattern[i] in (c'*', c'?', c'[', c'\\'):
            return 0
    return memcmp(pattern, key.p, n - 1) == 0


cdef int belongs_home(Kernel *k, Span key) noexcept nogil:
    """Does a key match a pattern?"""
    cdef const char *p = k.home.patterns.p
    cdef uint32_t n
    cdef int i
    for i in range(k.home.known):
        memcpy(&n, p, sizeof(n))
        if home_matches(p + sizeof(n), n, key):
            return 1
        p += sizeof(n) + n
    return 0


cdef inline uint64_t left_mark(Kernel *k, Span key) noexcept nogil:
    return siphash64(key.p, key.n, k.hash_key) | 1


cdef inline int has_left(Kernel *k, uint32_t db, Span key) noexcept nogil:
    """Has the command under way removed this key from home?"""
    return k.home.left and k.home.left_db == db and k.home.left == left_mark(k, key)


cdef Element *home_find(Kernel *k, uint32_t db, Span key) noexcept nogil:
    return key_in(k, HOME_DB + db, key)


cdef int is_hidden(Kernel *k, uint32_t db, Span key) noexcept nogil:
    return k.home.on and db < SYSTEM_DB and key_visible(k, home_find(k, db, key))


cdef Element *find_either(Kernel *k, uint32_t *db, Span key) noexcept nogil:
    """A key of a client's database; *db becomes that which it is in, or belongs to."""
    cdef Element *home = home_find(k, db[0], key)
    cdef Element *shared
    if not key_visible(k, home) and not has_left(k, db[0], key):
        shared = key_in(k, db[0], key)
        if key_visible(k, shared) or not belongs_home(k, key):
            return shared
    db[0] += HOME_DB
    return home


cdef Element *key_find(Kernel *k, uint32_t db, Span key) noexcept nogil:
    if k.home.on and db < SYSTEM_DB:
        return find_either(k, &db, key)
    return key_in(k, db, key)


cdef int is_home(Kernel *k, uint32_t db, Span key) noexcept nogil:
    if not k.home.on or db >= SYSTEM_DB:
        return 0
    find_either(k, &db, key)
    return db >= HOME_DB


cdef inline uint32_t home_of(Kernel *k, uint32_t db, Span key, Element **e) noexcept nogil:
    """The database of an effect on key: that which e is in, or, where e is NULL, which the key
    belongs to. Then e becomes what stands there."""
    if not k.home.on or db >= SYSTEM_DB:
        return db
    if e[0] == NULL:
        e[0] = find_either(k, &db, key)
        return db
    return HOME_DB + db if home_find(k, db, key) == e[0] else db
