# Users: may a command run?
#
# A user has selectors; the first holds the rules given directly, the others those in parentheses. A
# command runs if one selector allows all of it: the command, by a bit; each key it names, by a
# pattern with what the command does to that key; each channel. Selectors do not add up:
#
#     +get ~a  (+set ~b)     GET a, SET b run; SET a and GET b do not
#
# Where the keys stand is what the command table says (Command.keys), so what Redis finds by code of
# its own for each command is data here. Arguments that cannot be right have no keys; the command
# refuses them itself.
#
# A client whose user may do everything has no CLIENT_LIMITED and is never looked at here. The flag
# is kept by join_user and Account.set_rights. A client without a user but with the flag may do
# nothing.

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from crdtredis.buffer cimport need_memory, span
from crdtredis.errors cimport (NO_PERMISSION_CHANNEL, NO_PERMISSION_COMMAND, NO_PERMISSION_KEY)
from crdtredis.glob cimport GLOB_STEPS, glob_is_all, glob_match
from crdtredis.numbers cimport parse_int64

cdef enum:
    ACL_SHOWN = 256         # bytes of a user's name in a refusal
    ACL_OBJECT = 1024       # bytes of a key or channel in ACL LOG


# ---- whose a client is ---------------------------------------------------------------------------

cdef void leave_user(Client *client) noexcept nogil:
    if client.user == NULL:
        return
    if client.prev_of_user != NULL:
        client.prev_of_user.next_of_user = client.next_of_user
    else:
        client.user.first = client.next_of_user
    if client.next_of_user != NULL:
        client.next_of_user.prev_of_user = client.prev_of_user
    client.user = NULL


cdef inline void note_limits(Client *client) noexcept nogil:
    client.flags &= ~<uint32_t>CLIENT_LIMITED
    if client.user.limited:
        client.flags |= CLIENT_LIMITED


cdef void join_user(User *u, Client *client) noexcept nogil:
    leave_user(client)
    client.user = u
    client.prev_of_user = NULL
    client.next_of_user = u.first
    if u.first != NULL:
        u.first.prev_of_user = client
    u.first = client
    note_limits(client)


# ---- keys ----------------------------------------------------------------------------------------

cdef int set_needs(Span *argv, int argc) noexcept nogil:
    """SET reads with GET, and with IFEQ and its like."""
    cdef int i
    for i in range(3, argc):
        if (is_word(argv[i], "GET") or is_word(argv[i], "IFEQ") or is_word(argv[i], "IFNE")
                or is_word(argv[i], "IFDEQ") or is_word(argv[i], "IFDNE")):
            return ACL_READ | ACL_WRITE
    return ACL_WRITE


cdef int bitfield_needs(Span *argv, int argc) noexcept nogil:
    """BITFIELD only reads where it has nothing but GET."""
    cdef int i = 2
    while i < argc:
        if is_word(argv[i], "GET") and argc - i > 2:
            i += 3
        elif is_word(argv[i], "OVERFLOW") and argc - i > 1:
            i += 2
        else:
            return ACL_READ | ACL_WRITE
    return ACL_READ


cdef inline int needs(const KeySpec *k, Span *argv, int argc) noexcept nogil:
    if k.needs == NEEDS_OF_SET:
        return set_needs(argv, argc)
    if k.needs == NEEDS_OF_BITFIELD:
        return bitfield_needs(argv, argc)
    if k.needs == NEEDS_OF_DELEX:               # a condition says what the key holds
        return ACL_READ | ACL_WRITE if argc > 2 else ACL_WRITE
    return k.needs


cdef inline int64_t counted_keys(const KeySpec *k, Span *argv, int argc) noexcept nogil:
    """How many keys follow their number; -1: it cannot be right."""
    cdef int64_t n
    if (k.first >= argc or not parse_int64(argv[k.first].p, argv[k.first].n, &n) or n < 0
            or n >= argc - k.first):
        return -1
    return n


cdef int sort_target(Span *argv, int argc) noexcept nogil:
    """Where SORT's target stands, which the last STORE names; 0: there is none."""
    cdef int i = 2
    cdef int target = 0
    while i < argc:
        if is_word(argv[i], "STORE") and i + 1 < argc:
            target = i + 1
            i += 2
        elif is_word(argv[i], "LIMIT"):
            i += 3
        elif is_word(argv[i], "GET") or is_word(argv[i], "BY"):
            i += 2
        else:
            i += 1
    return target


cdef void key_places(const KeySpec *k, Span *argv, int argc, int *first, int *last,
                     int *step) noexcept nogil:
    first[0] = k.first
    last[0] = k.last if k.last > 0 else k.first
    step[0] = k.step
    if k.kind == KEYS_COUNTED:
        last[0] = k.first + <int>counted_keys(k, argv, argc) * k.step
        first[0] += 1
    elif k.kind == KEYS_SORTED:
        first[0] = last[0] = sort_target(argv, argc)
        last[0] -= first[0] == 0
        step[0] = 1
    elif k.kind == KEYS_AFTER:
        last[0] = argc - 2
        step[0] = 1
    elif k.kind == KEYS_STREAMS:
        first[0] = stream_keys(k.first, argv, argc, last)
    elif k.last < 0:
        last[0] = argc + k.last


cdef int key_allowed(const Selector *s, int need, Span key, int64_t *left) noexcept nogil:
    cdef uint32_t i
    for i in range(s.key_n):
        if (s.keys[i].permission & need == need
                and glob_match(s.keys[i].text.p, s.keys[i].text.n, key.p, key.n, 0, left)):
            return 1
    return 0


cdef int keys_allowed(const Selector *s, const KeySpec *k, Span *argv, int argc, int *at,
                      int64_t *left) noexcept nogil:
    """The keys of one specification; *at: the one that is not allowed."""
    cdef int need = needs(k, argv, argc)
    cdef int i, last, step
    key_places(k, argv, argc, &i, &last, &step)
    while i <= last and i < argc:
        at[0] = i
        if k.kind == KEYS_AFTER:
            at[0] = i + 1
            if is_word(argv[i], k.word) and not key_allowed(s, need, argv[i + 1], left):
                return 0
        elif not key_allowed(s, need, argv[i], left):
            return 0
        i += step
    return 1


cdef int names_keys(const Command *cmd, Span *argv, int argc) noexcept nogil:
    """Can the numbers of keys be right?"""
    cdef int i
    for i in range(cmd.key_n):
        if cmd.keys[i].kind == KEYS_COUNTED and counted_keys(&cmd.keys[i], argv, argc) < 0:
            return 0
    return 1


# ---- channels ------------------------------------------------------------------------------------

cdef int channel_allowed(const Selector *s, Span channel, int is_pattern,
                         int64_t *left) noexcept nogil:
    """A pattern is allowed where the user has the very same one."""
    cdef uint32_t i
    if s.all_channels:
        return 1
    for i in range(s.channel_n):
        if is_pattern:
            if (s.channels[i].n == channel.n
                    and memcmp(s.channels[i].p, channel.p, channel.n) == 0):
                return 1
        elif glob_match(s.channels[i].p, s.channels[i].n, channel.p, channel.n, 0, left):
            return 1
    return 0


cdef int may_listen(const User *u, const Subscription *x) noexcept nogil:
    cdef uint32_t i
    cdef int64_t left = GLOB_STEPS
    for i in range(u.n):
        if channel_allowed(u.selectors + i, topic_name(x.topic), x.topic.kind == TOPIC_PATTERN,
                           &left):
            return 1
    return 0


# ---- commands ------------------------------------------------------------------------------------

cdef int first_arg_allowed(const Selector *s, const Command *cmd, Span *argv,
                           int argc) noexcept nogil:
    cdef int at = 2 if cmd.flags & C_SUBCOMMAND else 1
    cdef uint32_t i
    for i in range(s.first_n if at < argc else 0):
        if (s.first_args[i].command == cmd.index and s.first_args[i].text.n == argv[at].n
                and same_name(s.first_args[i].text.p, argv[at].p, argv[at].n)):
            return 1
    return 0


cdef int selector_check(const Selector *s, Command *cmd, Span *argv, int argc, int *at,
                        int64_t *left) noexcept nogil:
    cdef int i, last
    at[0] = 0
    if not (s.commands[cmd.index >> 6] >> (cmd.index & 63) & 1 or cmd.flags & C_NO_AUTH
            or first_arg_allowed(s, cmd, argv, argc)):
        return DENIED_COMMAND
    if cmd.key_n and not s.all_keys and names_keys(cmd, argv, argc):
        for i in range(cmd.key_n):
            if not keys_allowed(s, &cmd.keys[i], argv, argc, at, left):
                return DENIED_KEY
    if cmd.channels and not s.all_channels:
        last = 1 if cmd.channels == CHANNEL_ONE else argc - 1
        for i in range(1, last + 1):
            if i < argc and not channel_allowed(s, argv[i], cmd.channels == CHANNEL_PATTERNS, left):
                at[0] = i
                return DENIED_CHANNEL
    return DENIED_NOTHING


cdef int user_check(const User *u, Command *cmd, Span *argv, int argc, int *at) noexcept nogil:
    cdef int64_t left = GLOB_STEPS
    cdef int told = DENIED_COMMAND
    cdef int denied, where = 0
    cdef uint32_t i
    at[0] = 0
    if u == NULL:
        return DENIED_COMMAND
    for i in range(u.n):
        denied = selector_check(u.selectors + i, cmd, argv, argc, &where, &left)
        if denied == DENIED_NOTHING:
            return DENIED_NOTHING
        if denied > told or (denied == told and where > at[0]):
            told = denied
            at[0] = where
    return told


cdef int acl_check(Dispatch *d, Client *client, Command *cmd, Span *argv, int argc,
                   int *at) noexcept nogil:
    return user_check(caller_of(d, client).user, cmd, argv, argc, at)


cdef int acl_reads_all(Call *c) noexcept nogil:
    cdef Client *client = caller_of(c.dispatch, c.client)
    cdef const User *u = client.user
    cdef const Selector *s
    cdef int64_t left = GLOB_STEPS
    cdef int at
    cdef uint32_t i, j
    if not client.flags & CLIENT_LIMITED:
        return 1
    for i in range(u.n if u != NULL else 0):
        s = u.selectors + i
        if selector_check(s, c.client.command, c.argv, c.argc, &at, &left) != DENIED_NOTHING:
            continue
        if s.all_keys:
            return 1
        for j in range(s.key_n):
            if s.keys[j].permission & ACL_READ and glob_is_all(s.keys[j].text.p,
                                                               s.keys[j].text.n):
                return 1
    return 0


# ---- what is told of it --------------------------------------------------------------------------

cdef void acl_text(char *out, size_t size, const Client *client, const Command *cmd,
                   int denied) noexcept nogil:
    cdef Span name = client.user.name if client.user != NULL else span("", 0)
    if denied == DENIED_COMMAND:
        snprintf(out, size, NO_PERMISSION_COMMAND, <int>min(name.n, <size_t>ACL_SHOWN), name.p,
                 cmd.name)
    else:
        snprintf(out, size, "%s",
                 NO_PERMISSION_KEY if denied == DENIED_KEY else NO_PERMISSION_CHANNEL)


cdef void acl_note(Dispatch *d, Client *client, Command *cmd, int denied, int context, Span *argv,
                   int at) noexcept nogil:
    cdef Span what = span(cmd.name, cmd.name_n) if denied == DENIED_COMMAND else argv[at]
    cdef Denial one
    what.n = min(what.n, <size_t>ACL_OBJECT)
    one.client = client
    one.command = client.command            # EXEC or EVAL, where that runs it
    one.denied = denied
    one.context = context
    one.count = 1
    one.first = one.last = d.steady
    denial_add(&d.denials, &one, client.user.name if client.user != NULL else span("", 0), what)


# ---- what Python sees of it ----------------------------------------------------------------------

@cython.no_gc
cdef class Account:
    def __cinit__(self, bytes name):
        self.name = name
        self.kept = []
        self.u.name = span(PyBytes_AS_STRING(name), <size_t>PyBytes_GET_SIZE(name))
        self.u.limited = 1
        self.u.account = <void*>self

    def __dealloc__(self):
        while self.u.first != NULL:         # the Executor goes
            self.u.first.flags |= CLIENT_LIMITED
            leave_user(self.u.first)
        self.free_rights()

    cdef void free_rights(self) noexcept:
        cdef uint32_t i
        for i in range(self.u.n):
            free(self.u.selectors[i].first_args)
            free(self.u.selectors[i].keys)
            free(self.u.selectors[i].channels)
        free(self.u.selectors)
        self.u.selectors = NULL
        self.u.n = 0

    def another(self, bytes name) -> Account:
        """A user of the same Executor, who may do nothing yet."""
        cdef Account a = Account(name)
        a.d = self.d
        return a

    def set_rights(self, list selectors):
        """What it may do from now on, and all its clients. Each selector is
        (commands: a bit for each, as 128 bytes; whether these are all; [(command's index, first
        argument in lower case)]; all keys; [(AclPermission, pattern)]; all channels; [pattern])."""
        cdef Selector *s
        cdef Client *client
        cdef bytes text
        cdef list kept = []
        cdef int everything
        self.free_rights()
        self.u.limited = 1
        self.u.selectors = <Selector*>need_memory(calloc(len(selectors) + 1, sizeof(Selector)))
        for commands, every, first_args, all_keys, keys, all_channels, channels in selectors:
            s = self.u.selectors + self.u.n
            s.first_args = <FirstArg*>need_memory(calloc(len(first_args) + 1, sizeof(FirstArg)))
            s.keys = <KeyPattern*>need_memory(calloc(len(keys) + 1, sizeof(KeyPattern)))
            s.channels = <Span*>need_memory(calloc(len(channels) + 1, sizeof(Span)))
            self.u.n += 1
            s.all_keys = all_keys
            s.all_channels = all_channels
            text = commands
            memcpy(s.commands, PyBytes_AS_STRING(text),
                   min(<size_t>PyBytes_GET_SIZE(text), sizeof(s.commands)))
            for index, text in first_args:
                s.first_args[s.first_n].command = index
                s.first_args[s.first_n].text = self.kept_span(kept, text)
                s.first_n += 1
            for permission, text in keys:
                s.keys[s.key_n].permission = permission
                s.keys[s.key_n].text = self.kept_span(kept, text)
                s.key_n += 1
            for text in channels:
                s.channels[s.channel_n] = self.kept_span(kept, text)
                s.channel_n += 1
            if every and all_keys and all_channels:
                self.u.limited = 0
        self.kept = kept
        client = self.u.first
        while client != NULL:
            note_limits(client)
            client = client.next_of_user

    cdef Span kept_span(self, list kept, bytes text):
        kept.append(text)
        return span(PyBytes_AS_STRING(text), <size_t>PyBytes_GET_SIZE(text))

    def set_open(self, bint is_open):
        """Of the default user: whether clients are logged in as it without a password. Those that
        wait to be are, then."""
        cdef Client *client = self.u.first
        self.d.need_auth = not is_open
        while client != NULL and is_open:
            client.flags |= CLIENT_AUTHENTICATED
            client = client.next_of_user

    def drop_clients(self) -> list:
        """Its clients are nobody's, not logged in, and may do nothing, not what is left of an EXEC
        that has removed its own user either. Their ids."""
        cdef Client *client
        ids = []
        while self.u.first != NULL:
            client = self.u.first
            ids.append(client.id)
            leave_user(client)
            client.flags = client.flags & ~<uint32_t>CLIENT_AUTHENTICATED | CLIENT_LIMITED
        return ids

    def forbidden_listeners(self) -> list:
        """Ids of its clients that are subscribed to what it may not listen to."""
        cdef Client *client = self.u.first
        cdef Subscription *x
        ids = []
        while client != NULL:
            x = client.subscriptions
            while x != NULL and may_listen(&self.u, x):
                x = x.after
            if x != NULL:
                ids.append(client.id)
            client = client.next_of_user
        return ids
