# Users: what each may do, and whether a command may run. Rules are read in crdtredis/acl.py, which
# compiles them to what is here.

from libc.stdint cimport uint32_t, uint64_t

from crdtredis.buffer cimport Span

cdef enum:
    ACL_WORDS = 16          # of Selector.commands

cdef enum AclPermission:
    ACL_READ = 1
    ACL_WRITE = 2

# What a user lacks for a command; of several refusals the last of these is told, as in Redis.
cdef enum Denied:
    DENIED_NOTHING = 0
    DENIED_COMMAND = 1
    DENIED_KEY = 2
    DENIED_CHANNEL = 4

# Where a command was refused, for ACL LOG.
cdef enum AclContext:
    ACL_TOPLEVEL = 0
    ACL_MULTI = 1
    ACL_SCRIPT = 2

cdef struct KeyPattern:
    int permission          # AclPermission
    Span text

# A first argument with which a command may be called that may not be otherwise: +select|0.
cdef struct FirstArg:
    uint32_t command        # Command.index
    Span text               # in lower case

# What a user may do in one way: a command has to fit one selector of the user's as a whole.
cdef struct Selector:
    int all_keys
    int all_channels
    uint64_t commands[16]   # ACL_WORDS: bits by Command.index
    FirstArg *first_args
    KeyPattern *keys
    Span *channels
    uint32_t first_n
    uint32_t key_n
    uint32_t channel_n

cdef struct User:
    Span name
    Client *first           # its clients, the newest first
    Selector *selectors
    uint32_t n
    int limited             # it may not do everything
    void *account           # the Account it is a part of

cdef class Account:
    """A user as the engine knows it: rights, compiled, and the clients that are logged in as it."""
    cdef User u
    cdef Dispatch *d
    cdef readonly bytes name
    cdef list kept          # the bytes that Spans of `u` point into

    cdef void free_rights(self) noexcept
    cdef Span kept_span(self, list kept, bytes text)

# The client is the user's from now on, and nobody else's.
cdef void join_user(User *u, Client *client) noexcept nogil
cdef void leave_user(Client *client) noexcept nogil
# May the client run this? Denied. Where not for a key or channel, *at is the place of that in argv.
# To be asked only where CLIENT_LIMITED is set; of the one whom a script's commands see, its caller
# is asked.
cdef int acl_check(Dispatch *d, Client *client, Command *cmd, Span *argv, int argc,
                   int *at) noexcept nogil
cdef int user_check(const User *u, Command *cmd, Span *argv, int argc, int *at) noexcept nogil
# Where the keys of one specification stand: every step-th from first to last, as far as there are
# arguments; of KEYS_AFTER, where its word may stand, before a key. Asked where names_keys says 1.
cdef void key_places(const KeySpec *k, Span *argv, int argc, int *first, int *last,
                     int *step) noexcept nogil
# Can the numbers of keys be right?
cdef int names_keys(const Command *cmd, Span *argv, int argc) noexcept nogil
# The refusal, "NOPERM ...", into out.
cdef void acl_text(char *out, size_t size, const Client *client, const Command *cmd,
                   int denied) noexcept nogil
# Notes it for ACL LOG (denials.pxi). at: as acl_check said.
cdef void acl_note(Dispatch *d, Client *client, Command *cmd, int denied, int context, Span *argv,
                   int at) noexcept nogil
# May the caller read every key with this command? SORT looks up keys made of patterns.
cdef int acl_reads_all(Call *c) noexcept nogil
