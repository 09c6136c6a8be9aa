# cython: language_level=3
"""SYNC: all that clients are shown, once, as a snapshot file ("RDB") that Redis 4.0 and later load.

`redis-cli --rdb` asks for one, `crdt-redis export`, and whoever takes the server for a Redis that a
copy is to be had of. It is the state of one moment: a child process, which fork() gives the memory
as it stands, encodes it and sends it over the client's socket, which the server lets go. So the
loop stops for the fork alone (25 ms for each GB, as measured), a reader that is slow keeps nobody
waiting but the child, and the server's own buffers do not grow. What the server changes meanwhile
is kept twice, as in Redis while it saves; so one is sent at a time, to a reader that takes
something every PATIENCE_MS.

The child calls nothing that may wait for a thread that it has not: no Python, no log. It ends with
the server.

A client that says `capa eof` is sent the snapshot as it is made, between two marks. The others want
to know its length first: it is encoded twice then, the first time for the length alone.

Servers of Redis that want to follow are refused (NO_REPLICAS): of what they would be sent next they
could make nothing, and one that takes a copy again and again for a link that breaks must not keep
this server at it.
"""
import logging
import os
import secrets
import threading
import time

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memset, strlen

from crdtredis._core cimport (HOME_DB, SYSTEM_DB, T_HASH, WALK_FORWARDS, Element, Kernel, Replica,
                              Walk, element_name, is_hidden, key_collection, key_deadline, key_find,
                              key_close, key_open, key_visible, table_next, walk_next, walk_shown,
                              walk_value)
from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, buffer_need, span
from crdtredis.commands.dump cimport DRAINED, put_value
from crdtredis.commands.rdb cimport rdb_checksum, rdb_put_length, rdb_put_text

from crdtredis import REDIS_VERSION, info
from crdtredis._resp import Refusal, Simple
from crdtredis.commands.table import NO_REPLY, command
from crdtredis.errors import (NO_REPLICAS, REPLCONF_OPTION, SNAPSHOT_FORK, SNAPSHOT_JOINING,
                              SNAPSHOT_SENT, SNAPSHOT_UNREAD, SYNTAX, CommandError)

cdef extern from *:
    """
    #include <fcntl.h>
    #include <poll.h>
    #include <signal.h>
    #include <string.h>
    #include <sys/prctl.h>
    #include <sys/resource.h>
    #include <sys/syscall.h>
    #include <unistd.h>

    /* Of a process that has just been made: one descriptor and the first three are kept, the
       server's death is its own, and of the two it goes first where memory runs out. What it is
       told to do by signals the server's handlers would do for the server. */
    static int child_begins(int fd, int parent) {
        struct rlimit most;
        int i, score;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(1);
        for (i = 1; i < NSIG; i++) if (i != SIGPIPE && i != SIGKILL && i != SIGSTOP)
            signal(i, SIG_DFL);
        signal(SIGPIPE, SIG_IGN);
        if (fd != 3 && dup2(fd, 3) < 0) _exit(1);
    #ifdef SYS_close_range
        if (syscall(SYS_close_range, 4u, ~0u, 0u) == 0) i = -1;
    #endif
        if (i >= 0) {
            getrlimit(RLIMIT_NOFILE, &most);
            for (i = 4; i < (int)most.rlim_cur; i++) close(i);
        }
        prctl(PR_SET_NAME, "snapshot");
        if ((score = open("/proc/self/oom_score_adj", O_WRONLY)) >= 0) {
            if (write(score, "1000", 4) < 0) i = 0;
            close(score);
        }
        return 3;
    }
    """
    int child_begins(int fd, int parent) noexcept nogil
    struct pollfd:
        int fd
        short events
    int POLLOUT
    int poll(pollfd *fds, unsigned long n, int timeout) noexcept nogil
    int fork() noexcept nogil
    int getpid() noexcept nogil
    ssize_t write(int fd, const void *p, size_t n) noexcept nogil
    void _exit(int code) noexcept nogil

log = logging.getLogger("crdtredis.snapshots")
OK = Simple("OK")

cdef enum:
    PATIENCE_MS = 60000         # in which a reader takes something
    SIGN_EVERY = 64 << 20       # bytes whose length is found
    MARK = 40                   # bytes before and behind a snapshot whose length is not told
    # what stands in place of a type byte
    LIBRARY = 245
    AUX = 250
    SIZES = 251
    DEADLINE = 252
    SELECT = 254
    END = 255

cdef struct Writer:
    Buffer b
    int fd                      # -1: only its length is wanted, and meanwhile
    int waiting                 # somebody waits there, who is told that we are at work; -1: nobody
    uint64_t sum                # checksum of what has left b
    uint64_t n                  # bytes that have
    int failed                  # errno; nothing is written any more


# ---- the file ------------------------------------------------------------------------------------

cdef void write_all(Writer *w, const char *p, size_t n) noexcept nogil:
    cdef pollfd waited
    cdef ssize_t written
    while n and not w.failed:
        written = write(w.fd, p, n)
        if written > 0:
            p += written
            n -= <size_t>written
        elif written < 0 and errno == EAGAIN:
            waited.fd = w.fd
            waited.events = <short>POLLOUT
            if poll(&waited, 1, PATIENCE_MS) == 0:
                w.failed = EAGAIN
        elif written == 0 or errno != EINTR:
            w.failed = errno


cdef void drain(void *writer) noexcept nogil:
    cdef Writer *w = <Writer*>writer
    if w.fd < 0 and w.waiting >= 0 and w.n // SIGN_EVERY < (w.n + w.b.n) // SIGN_EVERY:
        write(w.waiting, "\n", 1)
    w.n += w.b.n
    if w.fd >= 0 and not w.failed:
        w.sum = rdb_checksum(w.sum, span(w.b.p, w.b.n))
        write_all(w, w.b.p, w.b.n)
    w.b.n = 0


cdef inline void put_byte(Buffer *b, int byte) noexcept nogil:
    buffer_need(b, 1)[0] = <char>byte
    b.n += 1


cdef void put_aux(Buffer *b, const char *name, const char *value) noexcept nogil:
    put_byte(b, AUX)
    rdb_put_text(b, span(name, strlen(name)))
    rdb_put_text(b, span(value, strlen(value)))


cdef void put_database(Writer *w, Kernel *k, uint32_t db) noexcept nogil:
    cdef Buffer *b = &w.b
    cdef size_t n = k.db[db].live + k.db[HOME_DB + db].live, at
    cdef uint32_t[2] places = [db, HOME_DB + db]
    cdef Element *e
    cdef Span key
    cdef int64_t deadline
    cdef char *packed
    cdef int i
    if n == 0:
        return
    put_byte(b, SELECT)
    rdb_put_length(b, db)
    put_byte(b, SIZES)
    rdb_put_length(b, n)
    rdb_put_length(b, k.db[db].expiring + k.db[HOME_DB + db].expiring)
    for i in range(2):
        at = 0
        e = table_next(&k.db[places[i]].table, &at)
        while e != NULL and not w.failed:
            key = element_name(e)
            if key_visible(k, e) and (i or not is_hidden(k, db, key)):
                deadline = key_deadline(k, e)
                if deadline != -1:
                    put_byte(b, DEADLINE)
                    buffer_add(b, &deadline, sizeof(int64_t))
                packed = key_open(k, e)
                put_value(b, k, e, &key, drain, w)
                key_close(e, packed)
                if b.n >= DRAINED:
                    drain(w)
            e = table_next(&k.db[places[i]].table, &at)


cdef void put_snapshot(Writer *w, Kernel *k, int functions_only) noexcept nogil:
    """All of it, to its end."""
    cdef Element *libraries = key_find(k, SYSTEM_DB, span("functions", 9))
    cdef char created[24]
    cdef uint32_t db
    cdef Walk walk
    if key_collection(k, libraries, T_HASH) == NULL:
        libraries = NULL
    # the version that knows libraries, else one that older servers read, too
    buffer_add(&w.b, "REDIS0008" if libraries == NULL else "REDIS0010", 9)
    put_aux(&w.b, "redis-ver", VERSION)
    put_aux(&w.b, "redis-bits", "64")
    snprintf(created, sizeof(created), "%lld", <long long>(k.now // 1000))
    put_aux(&w.b, "ctime", created)
    if libraries != NULL:
        walk_shown(&walk, k, libraries, WALK_FORWARDS)
        while walk_next(&walk):
            put_byte(&w.b, LIBRARY)
            rdb_put_text(&w.b, walk_value(k, &walk))
            if w.b.n >= DRAINED:
                drain(w)
    for db in range(<uint32_t>SYSTEM_DB):
        if not functions_only:
            put_database(w, k, db)
    put_byte(&w.b, END)
    drain(w)
    buffer_add(&w.b, &w.sum, sizeof(uint64_t))
    drain(w)
    buffer_free(&w.b)


def write_snapshot(Replica replica not None, int fd):
    """Writes one of a replica's state to a file; how many bytes. OSError."""
    cdef Writer w
    memset(&w, 0, sizeof(Writer))
    w.fd = fd
    with nogil:
        put_snapshot(&w, &replica.k, 0)
    if w.failed:
        raise OSError(w.failed, os.strerror(w.failed))
    return w.n


# ---- the child -----------------------------------------------------------------------------------

cdef int send_snapshot(Kernel *k, int fd, const char *mark, int functions_only) noexcept nogil:
    """What the child does: 0, or why it failed. mark: NULL where the length is to be told."""
    cdef Writer w
    cdef char head[64]
    memset(&w, 0, sizeof(Writer))
    if mark == NULL:
        w.fd = -1
        w.waiting = fd
        put_snapshot(&w, k, functions_only)
        snprintf(head, sizeof(head), "$%llu\r\n", <unsigned long long>w.n)
        memset(&w, 0, sizeof(Writer))
    else:
        snprintf(head, sizeof(head), "$EOF:%s\r\n", mark)
    w.fd = fd
    write_all(&w, head, strlen(head))
    put_snapshot(&w, k, functions_only)
    if mark != NULL:
        write_all(&w, mark, MARK)
    return w.failed


cdef int begin_child(Kernel *k, int fd, const char *mark, int functions_only) noexcept nogil:
    """Its id; -1: there can be none."""
    cdef int parent = getpid()
    cdef int child = fork()
    if child == 0:
        _exit(1 if send_snapshot(k, child_begins(fd, parent), mark, functions_only) else 0)
    return child


def start_child(Replica replica not None, int fd, bytes mark, bint functions_only):
    """Has a process send a snapshot to a socket: its id. mark: None, or MARK bytes. OSError."""
    cdef const char *p = NULL
    cdef int child
    if mark is not None:
        p = mark
    with nogil:
        child = begin_child(&replica.k, fd, p, functions_only)
    if child < 0:
        raise OSError(errno, os.strerror(errno))
    return child


# ---- the commands --------------------------------------------------------------------------------

cdef bytes VERSION_BYTES = REDIS_VERSION.encode()
cdef const char *VERSION = VERSION_BYTES


class Snapshots:
    """Those that a server sends. Engine thread only."""

    def __init__(self, engine) -> None:
        self.engine = engine
        self.sending = False
        self.sent = 0                   # since the start
        self.microseconds = 0           # that the last fork took

    def begin(self, session) -> None:
        if self.sending:
            raise CommandError(SNAPSHOT_SENT)
        token = session.defer()
        # In the next iteration what this one has made is logged, and the replies before are sent.
        self.engine.call_soon(lambda: self.send(session, token))

    def send(self, session, token) -> None:
        if token.done:
            return
        refused = (SNAPSHOT_SENT if self.sending else
                   SNAPSHOT_JOINING if session.replica.joining else
                   SNAPSHOT_UNREAD if self.engine.unsent(session.id) else "")
        said = session.replconf or {}
        mark = secrets.token_hex(MARK // 2).encode() if b"eof" in said.get(b"capa", ()) else None
        begun = time.perf_counter()
        try:
            if not refused:
                child = start_child(session.replica, session.fd, mark,
                                    b"rdb-filter-only" in said)
        except OSError as e:
            refused = SNAPSHOT_FORK % e.strerror
        if refused:
            token.resolve(Refusal(refused))
            return
        self.microseconds = int((time.perf_counter() - begun) * 1_000_000)
        self.sending = True
        self.sent += 1
        log.info("A snapshot is sent to %s by process %d", session.addr, child)
        self.engine.kill_client(session.id)             # the socket is the child's
        threading.Thread(target=self.wait, args=(child, session.addr), name="snapshot",
                         daemon=True).start()

    def wait(self, child: int, addr: str) -> None:
        _, status = os.waitpid(child, 0)
        if status:
            log.warning("%s has not got all of its snapshot", addr)
        else:
            log.info("%s has got its snapshot", addr)
        self.engine.call_soon(self.ended)

    def ended(self) -> None:
        self.sending = False


@command("SYNC", arity=1, flags="no_async_loading admin no_multi noscript", group="server",
         since="1.0.0", categories="admin dangerous slow",
         summary="A snapshot of all databases, once, behind its length or between marks; then the "
                 "connection is closed.")
def sync(session, argv):
    server = info.parts(session.executor)
    if session.replconf and b"listening-port" in session.replconf or server.engine is None:
        raise CommandError(NO_REPLICAS)
    if session.replica.joining:
        raise CommandError(SNAPSHOT_JOINING)
    if server.snapshots is None:
        server.snapshots = Snapshots(server.engine)
    server.snapshots.begin(session)
    return NO_REPLY


@command("PSYNC replicationid offset", arity=-3, flags="no_async_loading admin no_multi noscript",
         group="server", since="2.8.0",
         summary="What replicas of Redis begin with; an error here.")
def psync(session, argv):
    raise CommandError(NO_REPLICAS)


@command("REPLCONF [name value]...", arity=-1, flags="admin noscript loading stale allow_busy",
         group="server", since="3.0.0",
         summary="What whoever asks for a snapshot says of itself before.")
def replconf(session, argv):
    if len(argv) % 2 == 0:
        raise CommandError(SYNTAX)
    said = dict(session.replconf or {})
    for name, value in zip(argv[1::2], argv[2::2]):
        name = name.lower()
        if name not in (b"capa", b"listening-port", b"ip-address", b"rdb-only", b"rdb-filter-only"):
            raise CommandError(REPLCONF_OPTION % name[:128].decode("utf-8", "backslashreplace"))
        if name == b"capa":
            said[name] = {*said.get(name, ()), value.lower()} & {b"eof"}
        elif name == b"rdb-filter-only" and value != b"functions":
            raise CommandError(SYNTAX)
        elif name != b"rdb-only" or value != b"0":
            said[name] = True
    session.replconf = said
    return OK
