# Dispatch: which command runs, whether it may, and what is counted.
#
# execute() runs one complete command for one client and appends its reply to client.reply. It knows no socket: the loop calls it
# with what it has parsed, and so do unit tests and the simulation (Executor.execute). In the common case, a known command with
# enough arguments, a client that is authenticated and not in MULTI, nothing wrong with the server, it costs one hash look-up, one
# test of flags and the handler.
#
# The order in which a command is refused is Redis's: unknown, arity, NOAUTH, not in MULTI, OOM, MISCONF, LOADING, then MULTI queues it. A
# refusal while queueing spoils the transaction: EXEC answers EXECABORT.
#
# Time per command is the difference of two readings of the cycle counter (8 ns each; the end of one command is the start of the
# next), which serves statistics and the slow log; it is turned into microseconds only when somebody asks.
#
# Plain commands need the GIL. Within a loop turn it is taken for the first of them and kept until the turn ends: beside a busy
# Python thread, each release can cost a whole switch interval.
import heapq
import logging
import time

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.ref cimport Py_DECREF, Py_INCREF

from crdtredis._core cimport (Element, key_deadline, key_find, key_visible, op_begin, op_end, reap, watch_hold, watch_release)
from crdtredis._resp import Failure
from crdtredis.commands import table
from crdtredis.errors import INTERNAL, CommandError

cdef extern from *:
    """
    #include <time.h>
    static inline uint64_t cycles(void) {
    #if defined(__x86_64__)
        return __builtin_ia32_rdtsc();
    #elif defined(__aarch64__)
        uint64_t t;
        __asm__ volatile("mrs %0, cntvct_el0" : "=r"(t));
        return t;
    #else
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
    #endif
    }
    """
    uint64_t cycles() noexcept nogil

cdef extern from "Python.h":
    int PyGILState_Ensure() noexcept nogil
    void PyGILState_Release(int state) noexcept nogil

cdef object log = logging.getLogger("crdtredis.engine")

FLAG_BITS = {
    "write": C_WRITE, "readonly": C_READONLY, "denyoom": C_DENYOOM, "fast": C_FAST, "loading": C_LOADING, "stale": C_STALE,
    "no_auth": C_NO_AUTH, "no_multi": C_NO_MULTI, "no_queue": C_NO_QUEUE, "noscript": C_NOSCRIPT, "admin": C_ADMIN,
    "blocking": C_BLOCKING, "movablekeys": C_MOVABLEKEYS, "skip_slowlog": C_SKIP_SLOWLOG, "container": C_CONTAINER, "exec": C_EXEC,
}

# Client flags that plain commands set.
client_flags = {"REPLY_OFF": CLIENT_REPLY_OFF, "REPLY_SKIP": CLIENT_REPLY_SKIP, "SKIP_NEXT": CLIENT_SKIP_NEXT, "NO_EVICT": CLIENT_NO_EVICT,
                "NO_TOUCH": CLIENT_NO_TOUCH}

cdef enum:
    SLOW_ARGS = 32          # arguments of a slow command that are kept, and bytes of each
    SLOW_BYTES = 128


cdef class Hot:
    pass


cdef Hot hot(HotHandler f):
    cdef Hot h = Hot.__new__(Hot)
    h.f = f
    return h


# ---- look-up ------------------------------------------------------------------------------------------------------

cdef inline uint32_t name_hash(const char *p, size_t n, uint32_t h) noexcept nogil:
    """FNV-1a over the lower-cased name; continued over "|sub" for a subcommand."""
    cdef size_t i
    for i in range(n):
        h = (h ^ <uint8_t>lower(p[i])) * 16777619
    return h


cdef inline int same_name(const char *name, const char *p, size_t n) noexcept nogil:
    cdef size_t i
    for i in range(n):
        if name[i] != lower(p[i]):
            return 0
    return 1


cdef Command *find_command(Dispatch *d, Span name) noexcept nogil:
    cdef uint32_t h = name_hash(name.p, name.n, 2166136261)
    cdef uint32_t i = h & d.mask
    cdef Command *cmd
    while True:
        cmd = d.table[i]
        if cmd == NULL:
            return NULL
        if cmd.hash == h and cmd.name_n == name.n and same_name(cmd.name, name.p, name.n):
            return cmd
        i = (i + 1) & d.mask


cdef Command *find_subcommand(Dispatch *d, Command *container, Span sub) noexcept nogil:
    cdef uint32_t h = (container.hash ^ c'|') * 16777619
    cdef uint32_t n = container.name_n
    cdef uint32_t i
    cdef Command *cmd
    h = name_hash(sub.p, sub.n, h)
    i = h & d.mask
    while True:
        cmd = d.table[i]
        if cmd == NULL:
            return NULL
        if (cmd.hash == h and cmd.name_n == n + 1 + sub.n and memcmp(cmd.name, container.name, n) == 0 and cmd.name[n] == c'|'
                and same_name(cmd.name + n + 1, sub.p, sub.n)):
            return cmd
        i = (i + 1) & d.mask


# ---- refusals -----------------------------------------------------------------------------------------------------

cdef enum:
    TEXT_MAX = 512


cdef size_t shown(char *out, Span arg, size_t most) noexcept nogil:
    """Copies at most `most` bytes, up to a NUL, as "%.128s" does."""
    cdef size_t n = 0
    while n < arg.n and n < most and arg.p[n] != 0:
        out[n] = arg.p[n]
        n += 1
    out[n] = 0
    return n


cdef void refuse(Dispatch *d, Client *client, Command *cmd, const char *text) noexcept nogil:
    """A command that is not run. In MULTI the transaction is spoiled; EXEC itself is aborted."""
    cdef char abort_text[TEXT_MAX + 64]
    if cmd != NULL:
        cmd.rejected += 1
    if client.flags & CLIENT_MULTI:
        client.flags |= CLIENT_DIRTY
    if cmd != NULL and cmd.flags & C_EXEC:
        snprintf(abort_text, sizeof(abort_text), "EXECABORT Transaction discarded because of: %s",
                 text + 4 if memcmp(text, <const char*>"ERR ", 4) == 0 else text)
        drop_transaction(d, client)
        reply_error(&client.reply, abort_text)
    else:
        reply_error(&client.reply, text)


cdef void refuse_unknown(Dispatch *d, Client *client, Span *argv, int argc) noexcept nogil:
    """Name and arguments are repeated, 128 bytes of each at most."""
    cdef char text[TEXT_MAX]
    cdef char arg[SHOWN_ARG + 1]
    cdef char args[SHOWN_ARG + 8]
    cdef size_t n = 0
    cdef size_t k
    cdef int i
    args[0] = 0
    for i in range(1, argc):
        if n >= SHOWN_ARG:
            break
        k = shown(arg, argv[i], SHOWN_ARG - n)
        args[n] = c"'"
        memcpy(args + n + 1, arg, k)
        n += k + 3
        args[n - 2] = c"'"
        args[n - 1] = c' '
        args[n] = 0
    shown(arg, argv[0], SHOWN_ARG)
    snprintf(text, sizeof(text), "ERR unknown command '%s', with args beginning with: %s", arg, args)
    refuse(d, client, NULL, text)


cdef void refuse_subcommand(Dispatch *d, Client *client, Command *container, Span sub) noexcept nogil:
    cdef char text[TEXT_MAX]
    cdef char arg[SHOWN_ARG + 1]
    cdef char name[NAME_MAX]
    cdef uint32_t i
    shown(arg, sub, SHOWN_ARG)
    for i in range(container.name_n):
        name[i] = container.name[i] - 32 if c'a' <= container.name[i] <= c'z' else container.name[i]
    name[container.name_n] = 0
    snprintf(text, sizeof(text), "ERR unknown subcommand '%s'. Try %s HELP.", arg, name)
    refuse(d, client, NULL, text)


cdef int refused(Dispatch *d, Client *client, Command *cmd) noexcept nogil:
    """Everything but name and arity: 1 when the command has been answered with a refusal."""
    cdef uint32_t effective = cmd.flags
    if cmd.flags & C_EXEC:
        effective |= client.queue_flags & (C_WRITE | C_DENYOOM)
    if not client.flags & CLIENT_AUTHENTICATED and not cmd.flags & C_NO_AUTH:
        refuse(d, client, cmd, "NOAUTH Authentication required.")
        return 1
    if client.flags & CLIENT_MULTI and cmd.flags & C_NO_MULTI:
        refuse(d, client, cmd, "ERR Command not allowed inside a transaction")
        return 1
    if d.guard & GUARD_OOM and effective & C_DENYOOM:
        refuse(d, client, cmd, "OOM command not allowed when used memory > 'maxmemory'.")
        return 1
    if d.guard & GUARD_MISCONF and effective & C_WRITE:
        refuse(d, client, cmd, d.misconf)
        return 1
    if d.guard & GUARD_LOADING and not cmd.flags & C_LOADING:
        refuse(d, client, cmd, "LOADING Redis is loading the dataset in memory")
        return 1
    return 0


cdef void count_error(Dispatch *d, const char *p, size_t n) noexcept nogil:
    """p: an error reply from its '-' on. Counted by its code; "ERR" where it has none."""
    cdef ErrorCount *e
    cdef size_t k = 1
    cdef int i
    d.stats.errors += 1
    while k < n and k < 32 and p[k] != c' ' and p[k] != c'\r':
        k += 1
    if k == 32:
        return
    for i in range(ERROR_CODES):
        e = &d.error_counts[i]
        if e.count == 0:
            memcpy(e.code, p + 1, k - 1)
            e.code[k - 1] = 0
        if memcmp(e.code, p + 1, k - 1) == 0 and e.code[k - 1] == 0:
            e.count += 1
            return


# ---- running ------------------------------------------------------------------------------------------------------

cdef void call_command(Dispatch *d, Client *client, Command *cmd, Span *argv, int argc) noexcept nogil:
    """Runs the handler: the only place that does."""
    cdef Call c
    cdef size_t at = client.reply.buf.n
    cdef uint64_t begun = d.tick
    cdef uint64_t now
    c.kernel = d.kernel
    c.client = client
    c.reply = &client.reply
    c.stats = &d.stats
    c.argv = argv
    c.argc = argc
    c.db = client.db
    c.dispatch = d
    client.command = cmd
    if cmd.flags & C_WRITE:
        op_begin(d.kernel)
    if cmd.hot != NULL:
        cmd.hot(&c)
    else:
        take_gil(d)
        run_plain(d, client, cmd, argv, argc)
    if cmd.flags & C_WRITE and op_end(d.kernel):
        mark_wrote(d, client)
    now = cycles()
    d.tick = now
    now -= begun
    cmd.ticks += now
    cmd.calls += 1
    d.stats.commands += 1
    if client.reply.buf.n > at and client.reply.buf.p[at] == c'-':
        cmd.failed += 1
        count_error(d, client.reply.buf.p + at, client.reply.buf.n - at)
    if now >= d.slow_ticks and not cmd.flags & C_SKIP_SLOWLOG and not client.flags & CLIENT_BLOCKED:
        note_slow(d, client, argv, argc, now)


cdef inline void mark_wrote(Dispatch *d, Client *client) noexcept nogil:
    client.flags |= CLIENT_WROTE
    client.wrote = d.kernel.actors.v[d.kernel.me].applied


cdef void execute(Dispatch *d, Client *client, Span *argv, int argc) noexcept nogil:
    cdef size_t at = client.reply.buf.n
    cdef uint32_t before = client.flags
    cdef Command *cmd = find_command(d, argv[0])
    cdef Command *container
    cdef char text[TEXT_MAX]
    if cmd != NULL and cmd.flags & C_CONTAINER and argc > 1:
        container = cmd
        cmd = find_subcommand(d, container, argv[1])
        if cmd == NULL:
            refuse_subcommand(d, client, container, argv[1])
            count_error(d, client.reply.buf.p + at, client.reply.buf.n - at)
            finish_reply(client, at, before)
            return
    if cmd == NULL:
        refuse_unknown(d, client, argv, argc)
    elif argc != cmd.arity and (cmd.arity > 0 or argc < -cmd.arity):
        snprintf(text, sizeof(text), "ERR wrong number of arguments for '%s' command", cmd.name)
        refuse(d, client, cmd, text)
    elif d.guard == 0 and client.flags & (CLIENT_MULTI | CLIENT_AUTHENTICATED) == CLIENT_AUTHENTICATED:
        call_command(d, client, cmd, argv, argc)
        finish_reply(client, at, before)
        return
    elif not refused(d, client, cmd):
        if client.flags & CLIENT_MULTI and not cmd.flags & C_NO_QUEUE:
            pack_command(&client.queue, argv, argc)
            client.queued += 1
            client.queue_flags |= cmd.flags
            reply_simple(&client.reply, "QUEUED")
        else:
            call_command(d, client, cmd, argv, argc)
        finish_reply(client, at, before)
        return
    count_error(d, client.reply.buf.p + at, client.reply.buf.n - at)
    finish_reply(client, at, before)


cdef inline void finish_reply(Client *client, size_t at, uint32_t before) noexcept nogil:
    """CLIENT REPLY OFF and SKIP drop what a command said, if they hold before it (flags) and after it."""
    if before & client.flags & (CLIENT_REPLY_OFF | CLIENT_REPLY_SKIP):
        client.reply.buf.n = at
    if client.flags & (CLIENT_REPLY_SKIP | CLIENT_SKIP_NEXT):
        client.flags &= ~<uint32_t>CLIENT_REPLY_SKIP
        if client.flags & CLIENT_SKIP_NEXT:
            client.flags = client.flags & ~<uint32_t>CLIENT_SKIP_NEXT | CLIENT_REPLY_SKIP


cdef int must_wait(Dispatch *d, Client *client, Span *argv, int argc) noexcept nogil:
    cdef Command *cmd
    if d.guard & GUARD_PAUSE_ALL:
        return 1
    cmd = find_command(d, argv[0])
    if cmd == NULL:
        return 0
    return (cmd.flags & C_WRITE) != 0 or (cmd.flags & C_EXEC and client.queue_flags & C_WRITE)


# ---- transactions -------------------------------------------------------------------------------------------------

cdef void exec_queued(Call *c) noexcept nogil:
    """EXEC: the queued commands as one op, or a refusal. The effects of all of them are applied, logged and sent together."""
    cdef Client *client = c.client
    cdef Dispatch *d = c.dispatch
    cdef Buffer queue = client.queue
    cdef uint32_t n = client.queued
    cdef uint32_t i, before
    cdef size_t at
    cdef const char *p = queue.p
    cdef Span *argv = NULL
    cdef int cap = 0
    cdef int argc = 0
    cdef Command *me = client.command
    cdef Command *cmd
    if not client.flags & CLIENT_MULTI:
        fail(c, "ERR EXEC without MULTI")
        return
    if client.flags & CLIENT_DIRTY:
        drop_transaction(d, client)
        fail(c, "EXECABORT Transaction discarded because of previous errors.")
        return
    if watched_changed(d, client):
        drop_transaction(d, client)
        reply_null_array(c.reply)
        return
    unwatch_all(d, client)
    memset(&client.queue, 0, sizeof(Buffer))
    client.flags |= CLIENT_IN_EXEC
    client.flags &= ~<uint32_t>CLIENT_MULTI
    d.stats.transactions += 1
    reply_array(c.reply, n)
    op_begin(d.kernel)
    for i in range(n):
        p = unpack_command(p, &argv, &cap, &argc)
        cmd = find_command(d, argv[0])
        if cmd.flags & C_CONTAINER and argc > 1:
            cmd = find_subcommand(d, cmd, argv[1])
        at = c.reply.buf.n
        before = client.flags
        call_command(d, client, cmd, argv, argc)
        if before & client.flags & (CLIENT_REPLY_OFF | CLIENT_REPLY_SKIP):
            c.reply.buf.n = at
    if op_end(d.kernel):
        mark_wrote(d, client)
    client.command = me
    free(argv)
    buffer_free(&queue)
    drop_transaction(d, client)


cdef void drop_transaction(Dispatch *d, Client *client) noexcept nogil:
    buffer_free(&client.queue)
    client.queued = 0
    client.queue_flags = 0
    client.flags &= ~<uint32_t>(CLIENT_MULTI | CLIENT_DIRTY | CLIENT_IN_EXEC)
    unwatch_all(d, client)


cdef void unwatch_all(Dispatch *d, Client *client) noexcept nogil:
    cdef uint32_t i
    for i in range(client.watched_n):
        watch_release(d.kernel, client.watched[i].watch)
    client.watched_n = 0
    if client.watched_cap > 64:
        free(client.watched)
        client.watched = NULL
        client.watched_cap = 0


cdef inline Span watch_key(Watch *w) noexcept nogil:
    return span(<char*>w + sizeof(Watch), w.n)


cdef inline int is_expired(Kernel *k, uint32_t db, Span key) noexcept nogil:
    """There, but past its deadline: not yet removed by an op."""
    cdef Element *e = key_find(k, db, key)
    cdef int64_t at
    if e == NULL:
        return 0
    at = key_deadline(k, e)
    return at >= 0 and at <= k.now


cdef void watch_key_for(Dispatch *d, Client *client, Span key) noexcept nogil:
    """WATCH of one key in the client's database."""
    cdef Watch *w = watch_hold(d.kernel, client.db, key)
    cdef uint32_t i
    for i in range(client.watched_n):
        if client.watched[i].watch == w:
            watch_release(d.kernel, w)
            return
    if client.watched_n == client.watched_cap:
        client.watched_cap = client.watched_cap * 2 if client.watched_cap else 4
        client.watched = <Watched*>need_memory(realloc(client.watched, sizeof(Watched) * client.watched_cap))
    client.watched[client.watched_n].watch = w
    client.watched[client.watched_n].version = w.version
    client.watched[client.watched_n].expired = is_expired(d.kernel, client.db, key)
    client.watched_n += 1


cdef int watched_changed(Dispatch *d, Client *client) noexcept nogil:
    """1 when EXEC must refuse: a watched key was touched by an effect, here or from a peer, or its deadline has passed since WATCH.

    A key that had expired before WATCH was absent to its client already: the one effect that removes it is no change.
    """
    cdef uint32_t i
    cdef Watched *x
    for i in range(client.watched_n):
        x = &client.watched[i]
        if x.expired:
            if x.watch.version - x.version > 1 or key_visible(d.kernel, key_find(d.kernel, x.watch.db, watch_key(x.watch))):
                return 1
        elif x.watch.version != x.version or is_expired(d.kernel, x.watch.db, watch_key(x.watch)):
            return 1
    return 0


# ---- clients ------------------------------------------------------------------------------------------------------

cdef void client_init(Dispatch *d, Client *c, int resp) noexcept nogil:
    memset(c, 0, sizeof(Client))
    d.next_client += 1
    c.id = d.next_client
    c.fd = -1
    c.reply.resp = resp
    c.created = d.kernel.now
    c.active = d.kernel.now
    if not d.need_auth:
        c.flags = CLIENT_AUTHENTICATED


cdef void client_free(Dispatch *d, Client *c) noexcept nogil:
    drop_transaction(d, c)
    buffer_free(&c.reply.buf)
    free(c.watched)
    free(c.name)
    free(c.lib_name)
    free(c.lib_ver)
    c.watched = NULL
    c.name = NULL
    c.lib_name = NULL
    c.lib_ver = NULL
    if c.session != NULL:
        take_gil(d)
        end_session(c)


cdef void end_session(Client *c) noexcept with gil:
    cdef Session s = <Session>c.session
    c.session = NULL
    if s.token is not None:
        s.token.done = True
        s.token = None
    s.c = NULL
    Py_DECREF(s)


cdef void reset_client(Dispatch *d, Client *client) noexcept nogil:
    """RESET: as if newly connected, but for the id and the connection itself."""
    drop_transaction(d, client)
    client.db = 0
    client.reply.resp = 2
    client.flags &= ~<uint32_t>(CLIENT_REPLY_OFF | CLIENT_REPLY_SKIP | CLIENT_SKIP_NEXT | CLIENT_NO_TOUCH | CLIENT_NO_EVICT
                                | CLIENT_AUTHENTICATED)
    if not d.need_auth:
        client.flags |= CLIENT_AUTHENTICATED
    free(client.name)
    client.name = NULL


# ---- slow log -----------------------------------------------------------------------------------------------------

cdef void note_slow(Dispatch *d, Client *client, Span *argv, int argc, uint64_t ticks) noexcept nogil:
    """Keeps the arguments as Redis does: 32 at most, 128 bytes of each, and says how much is left out."""
    cdef SlowEntry *e
    cdef uint32_t n
    cdef int i
    cdef int kept = argc if argc <= SLOW_ARGS else SLOW_ARGS
    cdef char more[64]
    cdef int k
    if d.slow_max == 0:
        return
    e = &d.slow[d.slow_n % d.slow_max]
    e.id = d.slow_n
    d.slow_n += 1
    e.at = d.kernel.now // 1000
    e.usec = <uint64_t>(<double>ticks / d.ticks_per_usec)
    memcpy(e.addr, client.addr, sizeof(e.addr))
    snprintf(e.name, sizeof(e.name), "%s", <const char*>b"" if client.name == NULL else client.name)
    e.args.n = 0
    n = <uint32_t>kept
    buffer_add(&e.args, &n, 4)
    for i in range(kept):
        if i == SLOW_ARGS - 1 and argc > SLOW_ARGS:
            k = snprintf(more, sizeof(more), "... (%d more arguments)", argc - SLOW_ARGS + 1)
            n = <uint32_t>k
            buffer_add(&e.args, &n, 4)
            buffer_add(&e.args, more, n)
        elif argv[i].n > SLOW_BYTES:
            k = snprintf(more, sizeof(more), "... (%zu more bytes)", argv[i].n - SLOW_BYTES)
            n = SLOW_BYTES + <uint32_t>k
            buffer_add(&e.args, &n, 4)
            buffer_add(&e.args, argv[i].p, SLOW_BYTES)
            buffer_add(&e.args, more, <size_t>k)
        else:
            n = <uint32_t>argv[i].n
            buffer_add(&e.args, &n, 4)
            buffer_add(&e.args, argv[i].p, argv[i].n)


# ---- plain commands -----------------------------------------------------------------------------------------------

cdef inline void take_gil(Dispatch *d) noexcept nogil:
    """In a loop turn: the GIL, until the loop lets it go at the turn's end."""
    if d.in_loop and not d.gil_held:
        d.gil_state = PyGILState_Ensure()
        d.gil_held = 1


cdef inline void drop_gil(Dispatch *d) noexcept nogil:
    if d.gil_held:
        d.gil_held = 0
        PyGILState_Release(d.gil_state)


cdef void run_plain(Dispatch *d, Client *client, Command *cmd, Span *argv, int argc) noexcept with gil:
    cdef Executor x = <Executor>d.self
    cdef size_t at = client.reply.buf.n
    cdef int i
    cdef list args = []
    try:
        for i in range(argc):
            args.append(PyBytes_FromStringAndSize(argv[i].p, <Py_ssize_t>argv[i].n))
        result = (<object>cmd.plain)(session_of(x, client), args)
        if not client.flags & CLIENT_BLOCKED and result is not table.NO_REPLY:
            reply_object(&client.reply, result)
    except CommandError as e:
        client.reply.buf.n = at
        reply_text(client, str(e))
    except Exception:
        client.reply.buf.n = at
        log.exception("command %s failed", cmd.name.decode())
        reply_text(client, INTERNAL)
    except BaseException as e:
        # A signal handler raised (KeyboardInterrupt): the loop ends its turn and raises it.
        client.reply.buf.n = at
        reply_text(client, INTERNAL)
        x.pending = e
        d.interrupted = 1


cdef void reply_text(Client *client, str text):
    cdef bytes b = text.encode("utf-8", "surrogateescape")
    reply_error_span(&client.reply, PyBytes_AS_STRING(b), <size_t>PyBytes_GET_SIZE(b))


cdef Session session_of(Executor x, Client *client):
    cdef Session s
    if client.session == NULL:
        s = Session.__new__(Session)
        s.executor = x
        s.c = client
        s.id = client.id
        s.user = "default"
        Py_INCREF(s)
        client.session = <void*>s
    return <Session>client.session


cdef class Token:
    """A reply still owed to a client whose command called session.defer(). Engine thread only."""

    def resolve(self, value) -> bool:
        """Sends the reply and lets the client go on. False when it is gone, or was answered before."""
        cdef Client *c
        cdef size_t at
        if self.done:
            return False
        self.done = True
        c = self.session.c
        self.session.token = None
        c.flags &= ~<uint32_t>CLIENT_BLOCKED
        at = c.reply.buf.n
        if value is not table.NO_REPLY:
            reply_object(&c.reply, value)
        if c.reply.buf.n > at and c.reply.buf.p[at] == c'-':
            count_error(&self.session.executor.d, c.reply.buf.p + at, c.reply.buf.n - at)
        finish_reply(c, at, c.flags)
        if self.session.executor.d.wake != NULL and c.fd >= 0:
            self.session.executor.d.wake(self.session.executor.d.loop, c)
        return True

    def expire(self) -> bool:
        """What its time limit does: the reply is on_timeout(), or on_timeout itself."""
        if self.done:
            return False
        try:
            value = self.on_timeout() if callable(self.on_timeout) else self.on_timeout
        except CommandError as e:
            value = Failure(str(e))
        return self.resolve(value)


@cython.no_gc_clear     # __dealloc__ needs the executor
cdef class Session:
    """One client, as plain commands see it: made at its first plain command, gone with the connection.

    Attributes of a client that has gone answer None.
    """

    def __dealloc__(self):
        if self.c == &self.own:
            self.own.session = NULL
            client_free(&self.executor.d, self.c)

    @property
    def server(self):
        return self.executor.server

    @property
    def replica(self):
        return self.executor.replica

    @property
    def alive(self) -> bool:
        return self.c != NULL

    @property
    def db(self) -> int:
        return self.c.db if self.c != NULL else 0

    @db.setter
    def db(self, uint32_t value):
        self.c.db = value

    @property
    def resp(self) -> int:
        return self.c.reply.resp if self.c != NULL else 2

    @resp.setter
    def resp(self, int value):
        self.c.reply.resp = value

    @property
    def flags(self) -> int:
        return self.c.flags if self.c != NULL else 0

    @flags.setter
    def flags(self, uint32_t value):
        self.c.flags = value

    @property
    def authenticated(self) -> bool:
        return (self.c.flags & CLIENT_AUTHENTICATED) != 0

    @authenticated.setter
    def authenticated(self, bint value):
        self.set_flag(CLIENT_AUTHENTICATED, value)

    @property
    def can_block(self) -> bool:
        """Whether defer() may be called: not inside EXEC, where every command answers at once."""
        return not self.c.flags & CLIENT_IN_EXEC

    @property
    def name(self) -> str:
        return text_of(self.c.name) if self.c != NULL else ""

    @name.setter
    def name(self, str value):
        set_text(&self.c.name, value)

    @property
    def lib_name(self) -> str:
        return text_of(self.c.lib_name) if self.c != NULL else ""

    @lib_name.setter
    def lib_name(self, str value):
        set_text(&self.c.lib_name, value)

    @property
    def lib_ver(self) -> str:
        return text_of(self.c.lib_ver) if self.c != NULL else ""

    @lib_ver.setter
    def lib_ver(self, str value):
        set_text(&self.c.lib_ver, value)

    @property
    def addr(self) -> str:
        return self.c.addr.decode() if self.c != NULL else ""

    @property
    def laddr(self) -> str:
        return local_address(self.c) if self.c != NULL and self.c.fd >= 0 else ""

    @property
    def fd(self) -> int:
        return self.c.fd if self.c != NULL else -1

    @property
    def wrote(self) -> int:
        """Seq of this replica's own op that held the client's last write; 0: it has written nothing."""
        return self.c.wrote if self.c != NULL else 0

    def set_flag(self, uint32_t flag, bint on):
        if on:
            self.c.flags |= flag
        else:
            self.c.flags &= ~flag

    def close(self):
        """Closes the connection once the replies so far, this command's included, are sent."""
        self.c.flags |= CLIENT_CLOSE

    def defer(self, timeout_ms=None, on_timeout=None) -> Token:
        """Leaves the command unanswered until token.resolve(reply), or until timeout_ms have passed (None: no limit), when
        on_timeout, or what it returns, is the reply. Until then nothing more is read from the client. Only where can_block."""
        cdef Token token = Token.__new__(Token)
        cdef Executor x = self.executor
        token.session = self
        token.on_timeout = on_timeout
        self.token = token
        self.c.flags |= CLIENT_BLOCKED
        if timeout_ms is not None:
            token.deadline = x.d.kernel.now + timeout_ms
            x.deferred_n += 1
            heapq.heappush(x.deferred, (token.deadline, x.deferred_n, token))
            x.d.next_deferred = x.deferred[0][0]
        return token

    def take_replies(self) -> bytes:
        """Bytes replied so far to a session without a connection."""
        cdef bytes out = PyBytes_FromStringAndSize(self.c.reply.buf.p, <Py_ssize_t>self.c.reply.buf.n)
        self.c.reply.buf.n = 0
        return out


cdef str text_of(const char *p):
    return "" if p == NULL else p.decode("utf-8", "surrogateescape")


cdef void set_text(char **where, str value):
    cdef bytes b = value.encode("utf-8", "surrogateescape")
    free(where[0])
    where[0] = NULL
    if b:
        where[0] = <char*>need_memory(malloc(len(b) + 1))
        memcpy(where[0], PyBytes_AS_STRING(b), len(b) + 1)


# ---- the executor -------------------------------------------------------------------------------------------------

cdef class Executor:
    """Commands over a replica: what a server is without sockets, files and peers.

    replica     the Replica that commands read and write; its `now` is the only clock.
    server      crdtredis.server.Server, or None in tests and the simulation; plain commands reach the rest of the process by it.
    """

    def __cinit__(self, Replica replica, server=None):
        cdef int i
        self.replica = replica
        self.server = server
        self.deferred = []
        self.d.kernel = &replica.k
        self.d.self = <void*>self
        self.d.next_deferred = -1
        self.d.slow_usec = -1
        self.d.slow_ticks = <uint64_t>-1
        self.d.ticks_per_usec = calibrated()
        self.build_table()
        self.set_slowlog(10000, 128)

    def __dealloc__(self):
        cdef uint32_t i
        if self.d.table != NULL:
            for i in range(self.d.mask + 1):
                free(self.d.table[i])
            free(self.d.table)
        for i in range(self.d.slow_max):
            buffer_free(&self.d.slow[i].args)
        free(self.d.slow)

    cdef build_table(self):
        cdef Command *cmd
        cdef uint32_t size = 64
        cdef uint32_t i
        cdef bytes name
        cdef uint32_t bits
        self.specs = dict(table.load())
        self.handlers = []
        while size < 2 * len(self.specs):
            size *= 2
        self.d.mask = size - 1
        self.d.table = <Command**>need_memory(calloc(size, sizeof(Command*)))
        for spec in self.specs.values():
            name = spec.name.lower().encode()
            cmd = <Command*>need_memory(calloc(1, sizeof(Command)))
            memcpy(cmd.name, PyBytes_AS_STRING(name), len(name))
            cmd.name_n = <uint32_t>len(name)
            cmd.hash = name_hash(cmd.name, cmd.name_n, 2166136261)
            cmd.arity = spec.arity
            bits = 0
            for flag in spec.flags:
                bits |= <uint32_t>FLAG_BITS.get(flag, 0)
            cmd.flags = bits
            handler = spec.handler if spec.handler is not None else self.specs[spec.container].handler
            if isinstance(handler, Hot):
                cmd.hot = (<Hot>handler).f
            else:
                cmd.plain = <void*>handler
                self.handlers.append(handler)
            i = cmd.hash & self.d.mask
            while self.d.table[i] != NULL:
                i = (i + 1) & self.d.mask
            self.d.table[i] = cmd

    @property
    def loop(self):
        """The Loop that serves it, or None."""
        return <object>self.d.loop if self.d.loop != NULL else None

    def session(self, int resp=2) -> Session:
        """A client without a connection."""
        cdef Session s = Session.__new__(Session)
        s.executor = self
        s.user = "default"
        s.c = &s.own
        client_init(&self.d, s.c, resp)
        s.id = s.c.id
        s.own.session = <void*>s      # not counted: __dealloc__ frees the client, and end_session never sees this one
        return s

    def execute(self, Session session, list argv) -> bytes:
        """Runs one command for a session made by session(); answers the RESP bytes, empty while the reply is deferred.

        argv: list of bytes, at least the name. Never raises for what a client may send.
        """
        cdef Span *spans
        cdef bytes arg
        cdef int i
        if not argv:
            raise ValueError("a command has a name")
        spans = <Span*>need_memory(malloc(sizeof(Span) * len(argv)))
        try:
            for i, arg in enumerate(argv):
                spans[i] = span(PyBytes_AS_STRING(arg), <size_t>PyBytes_GET_SIZE(arg))
            self.d.tick = cycles()
            session.c.active = self.d.kernel.now
            execute(&self.d, session.c, spans, <int>len(argv))
        finally:
            free(spans)
        if self.pending is not None:
            pending, self.pending = self.pending, None
            self.d.interrupted = 0
            raise pending
        return session.take_replies()

    def expire_deferred(self):
        """Answers every deferred reply whose time is up. The loop calls it; without one, whoever moves the time does."""
        cdef Token token
        while self.deferred and self.deferred[0][0] <= self.d.kernel.now:
            token = heapq.heappop(self.deferred)[2]
            token.expire()
        while self.deferred and (<Token>self.deferred[0][2]).done:
            heapq.heappop(self.deferred)
        self.d.next_deferred = self.deferred[0][0] if self.deferred else -1

    # -- what refuses commands

    @property
    def requirepass(self) -> bytes | None:
        """The password new clients must give, None: none. Clients that are connected keep what they have."""
        return self.password

    @requirepass.setter
    def requirepass(self, value):
        self.password = value or None
        self.d.need_auth = self.password is not None

    @property
    def loading(self) -> bool:
        return (self.d.guard & GUARD_LOADING) != 0

    @loading.setter
    def loading(self, bint value):
        self.set_guard(GUARD_LOADING, value)

    @property
    def out_of_memory(self) -> bool:
        return (self.d.guard & GUARD_OOM) != 0

    @out_of_memory.setter
    def out_of_memory(self, bint value):
        self.set_guard(GUARD_OOM, value)

    @property
    def misconf(self) -> str | None:
        """Why writes are refused, or None."""
        return self.d.misconf.decode("utf-8", "replace") if self.d.guard & GUARD_MISCONF else None

    @misconf.setter
    def misconf(self, value):
        cdef bytes text
        if value is not None:
            text = f"MISCONF {value}".encode()[:255]
            memcpy(self.d.misconf, PyBytes_AS_STRING(text), len(text) + 1)
        self.set_guard(GUARD_MISCONF, value is not None)

    cdef set_guard(self, uint32_t bit, bint on):
        if on:
            self.d.guard |= bit
        else:
            self.d.guard &= ~bit

    # -- statistics

    def stats(self) -> dict:
        """Counters since the start or reset_stats()."""
        return {"commands": self.d.stats.commands, "hits": self.d.stats.hits, "misses": self.d.stats.misses,
                "errors": self.d.stats.errors, "transactions": self.d.stats.transactions}

    def command_stats(self) -> dict:
        """Name -> (calls, usec, rejected, failed), of commands called or refused at least once."""
        cdef uint32_t i
        cdef Command *cmd
        out = {}
        for i in range(self.d.mask + 1):
            cmd = self.d.table[i]
            if cmd != NULL and (cmd.calls or cmd.rejected):
                out[cmd.name.decode()] = (cmd.calls, int(<double>cmd.ticks / self.d.ticks_per_usec), cmd.rejected, cmd.failed)
        return out

    def error_stats(self) -> dict:
        """Error code -> count."""
        return {self.d.error_counts[i].code.decode("utf-8", "replace"): self.d.error_counts[i].count
                for i in range(ERROR_CODES) if self.d.error_counts[i].count}

    def reset_stats(self):
        cdef uint32_t i
        cdef Command *cmd
        memset(&self.d.stats, 0, sizeof(Stats))
        memset(self.d.error_counts, 0, sizeof(self.d.error_counts))
        for i in range(self.d.mask + 1):
            cmd = self.d.table[i]
            if cmd != NULL:
                cmd.calls = cmd.ticks = cmd.rejected = cmd.failed = 0

    # -- slow log

    def set_slowlog(self, int64_t threshold_usec, uint32_t max_len):
        """Commands of at least threshold_usec are kept, the newest max_len of them; negative: none are."""
        cdef list entries = self.slowlog(max_len)
        cdef uint32_t i
        self.d.slow_usec = threshold_usec
        self.d.slow_ticks = <uint64_t>-1
        if threshold_usec >= 0:
            self.d.slow_ticks = <uint64_t>(<double>threshold_usec * self.d.ticks_per_usec)
        if max_len != self.d.slow_max:
            resize_slowlog(&self.d, max_len)

    @property
    def slowlog_threshold(self) -> int:
        return self.d.slow_usec

    @property
    def slowlog_max_len(self) -> int:
        return self.d.slow_max

    def slowlog(self, most: int = -1) -> list:
        """Newest first: (id, seconds, usec, [args], addr, name)."""
        cdef SlowEntry *e
        cdef Span *argv = NULL
        cdef int cap = 0
        cdef int argc = 0
        cdef int i
        cdef uint64_t at = self.d.slow_n
        out = []
        while at > 0 and at + self.d.slow_max > self.d.slow_n and most != len(out):
            at -= 1
            e = &self.d.slow[at % self.d.slow_max]
            if e.args.n == 0:
                break
            unpack_command(e.args.p, &argv, &cap, &argc)
            out.append((e.id, e.at, e.usec, [argv[i].p[:argv[i].n] for i in range(argc)], e.addr.decode(), text_of(e.name)))
        free(argv)
        return out

    def slowlog_reset(self):
        cdef uint32_t i
        for i in range(self.d.slow_max):
            self.d.slow[i].args.n = 0

    def is_command(self, name: bytes) -> bool:
        return find_command(&self.d, span(PyBytes_AS_STRING(name), len(name))) != NULL


cdef void resize_slowlog(Dispatch *d, uint32_t most) noexcept nogil:
    """Keeps the newest entries that fit: entry id i lives at i % slow_max."""
    cdef SlowEntry *slow = <SlowEntry*>need_memory(calloc(most + 1, sizeof(SlowEntry)))
    cdef uint64_t i
    cdef uint64_t first = d.slow_n - d.slow_max if d.slow_n > d.slow_max else 0
    for i in range(first, d.slow_n):
        if i + most >= d.slow_n and most:
            slow[i % most] = d.slow[i % d.slow_max]
        else:
            buffer_free(&d.slow[i % d.slow_max].args)
    free(d.slow)
    d.slow = slow
    d.slow_max = most


cdef double calibrated():
    """Ticks of the cycle counter per microsecond, measured once over 2 ms: good to a thousandth."""
    global ticks_per_usec
    if ticks_per_usec == 0:
        begun = time.perf_counter_ns()
        first = cycles()
        while time.perf_counter_ns() - begun < 2_000_000:
            pass
        last = cycles()
        ticks_per_usec = (last - first) * 1000.0 / (time.perf_counter_ns() - begun)
    return ticks_per_usec


cdef double ticks_per_usec = 0
