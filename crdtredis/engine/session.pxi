# Clients, and what Python commands see of them.
#
# A Client is C. A Python command is given a Session, a Python object made at the client's first
# Python command and kept until the connection ends; afterwards its `c` is NULL and deferred replies
# to it are dropped.
#
# Python commands need the GIL. Within a loop iteration it is taken for the first of them and kept
# until the iteration ends: beside a busy Python thread, each release can cost a whole switch
# interval.

import heapq
import logging

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_DECREF, Py_INCREF

from crdtredis._resp import Refusal
from crdtredis.commands import table
from crdtredis.errors import INTERNAL, CommandError

cdef extern from "Python.h":
    int PyGILState_Ensure() noexcept nogil
    void PyGILState_Release(int state) noexcept nogil

cdef object log = logging.getLogger("crdtredis.engine")

cdef enum:
    # tokens in the heap of deadlines that are done: so many are not worth a sweep
    DONE_KEPT = 64

# Client flags that Python commands set.
client_flags = {"REPLY_OFF": CLIENT_REPLY_OFF, "REPLY_SKIP": CLIENT_REPLY_SKIP,
                "SKIP_NEXT": CLIENT_SKIP_NEXT, "NO_EVICT": CLIENT_NO_EVICT,
                "NO_TOUCH": CLIENT_NO_TOUCH}


# ---- clients -------------------------------------------------------------------------------------

cdef void client_init(Dispatch *d, Client *c, int resp) noexcept nogil:
    memset(c, 0, sizeof(Client))
    d.next_client += 1
    c.id = d.next_client
    c.fd = -1
    c.reply.resp = resp
    c.created = d.steady
    c.active = d.steady
    if not d.need_auth:
        c.flags = CLIENT_AUTHENTICATED


cdef void client_free(Dispatch *d, Client *c) noexcept nogil:
    drop_transaction(d, c)
    stop_waiting(d, c)
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
        token_done(s.token)
        s.token = None
    s.c = NULL
    Py_DECREF(s)


cdef void reset_client(Dispatch *d, Client *client) noexcept nogil:
    """RESET: as if newly connected, but for the id and the connection itself."""
    drop_transaction(d, client)
    client.db = 0
    client.reply.resp = 2
    client.flags &= ~<uint32_t>(CLIENT_REPLY_OFF | CLIENT_REPLY_SKIP | CLIENT_SKIP_NEXT |
                                CLIENT_NO_TOUCH | CLIENT_NO_EVICT
                                | CLIENT_AUTHENTICATED)
    if not d.need_auth:
        client.flags |= CLIENT_AUTHENTICATED
    free(client.name)
    client.name = NULL


# ---- Python commands -----------------------------------------------------------------------------

cdef inline void take_gil(Dispatch *d) noexcept nogil:
    """In a loop iteration: the GIL, until the loop lets it go at the iteration's end."""
    if d.in_loop and not d.gil_held:
        d.gil_state = PyGILState_Ensure()
        d.gil_held = 1


cdef inline void drop_gil(Dispatch *d) noexcept nogil:
    if d.gil_held:
        d.gil_held = 0
        PyGILState_Release(d.gil_state)


cdef void run_python(Dispatch *d, Client *client, Command *cmd, Span *argv,
                    int argc) noexcept with gil:
    cdef Executor x = <Executor>d.self
    cdef size_t at = client.reply.buf.n
    cdef int i
    cdef list args = []
    try:
        for i in range(argc):
            args.append(PyBytes_FromStringAndSize(argv[i].p, <Py_ssize_t>argv[i].n))
        result = (<object>cmd.python)(session_of(x, client), args)
        if not client.flags & CLIENT_BLOCKED and result is not table.NO_REPLY:
            reply_object(&client.reply, result)
    except CommandError as e:
        take_back_reply(client, at, str(e))
    except Exception:
        log.exception("command %s failed", cmd.name.decode())
        take_back_reply(client, at, INTERNAL)
    except BaseException as e:
        # A signal handler raised (KeyboardInterrupt): the loop ends its iteration and raises it.
        take_back_reply(client, at, INTERNAL)
        x.pending = e
        d.interrupted = 1


cdef void take_back_reply(Client *client, size_t at, str error):
    """An error in place of what the command said, and of what it still owed: who was refused waits
    for nothing."""
    client.reply.buf.n = at
    if client.session != NULL and (<Session>client.session).token is not None:
        token_done((<Session>client.session).token)
        (<Session>client.session).token = None
        client.flags &= ~<uint32_t>CLIENT_BLOCKED
    reply_text(client, error)


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


cdef void token_done(Token t) noexcept:
    """Nothing is owed any more. What worked for the reply hears of it, and the heap of deadlines
    does not keep it: without this, clients that leave would stand there until a time they chose
    themselves."""
    cdef Executor x = t.session.executor
    t.done = True
    ended, t.ended = t.ended, None
    if ended is not None:
        try:
            ended()
        except Exception:
            log.exception("what worked for a deferred reply cannot be stopped")
    if t.deadline is not None:
        x.deferred_done += 1
        if x.deferred_done > DONE_KEPT and 2 * x.deferred_done > len(x.deferred):
            x.deferred[:] = [entry for entry in x.deferred if not (<Token>entry[2]).done]
            heapq.heapify(x.deferred)
            x.deferred_done = 0


cdef class Token:
    """A reply still owed to a client whose command called session.defer(). Engine thread only."""

    def resolve(self, value) -> bool:
        """Sends the reply and lets the client go on. False when it is gone, or was answered
        before."""
        cdef Client *c
        cdef size_t at
        if self.done:
            return False
        token_done(self)
        c = self.session.c
        self.session.token = None
        c.flags &= ~<uint32_t>CLIENT_BLOCKED
        at = c.reply.keep = c.reply.buf.n
        try:
            if value is not table.NO_REPLY:
                reply_object(&c.reply, value)
        except Exception:
            log.exception("the reply to %s cannot be sent", c.command.name.decode())
            take_back_reply(c, at, INTERNAL)
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
            value = Refusal(str(e))
        except Exception:
            log.exception("the time limit of %s failed", self.session.c.command.name.decode())
            value = Refusal(INTERNAL)
        return self.resolve(value)


@cython.no_gc_clear     # __dealloc__ needs the executor
cdef class Session:
    """One client, as Python commands see it: made at its first Python command, gone with the
    connection.

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
    def blocked(self) -> bool:
        """Whether it is owed the reply to a command that waits."""
        return self.c != NULL and self.c.flags & CLIENT_BLOCKED != 0

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
        """Seq of this replica's own op that held the client's last write; 0: it has written
        nothing."""
        return self.c.wrote if self.c != NULL else 0

    @property
    def wrote_as(self) -> int:
        """The actor of that op: not the replica's of now, if it has taken a new epoch since."""
        return self.c.wrote_as if self.c != NULL else 0

    def set_flag(self, uint32_t flag, bint on):
        if on:
            self.c.flags |= flag
        else:
            self.c.flags &= ~flag

    def close(self):
        """Closes the connection once the replies so far, this command's included, are sent."""
        self.c.flags |= CLIENT_CLOSE

    def defer(self, timeout_ms=None, on_timeout=None) -> Token:
        """Leaves the command unanswered until token.resolve(reply), or until timeout_ms have passed
        (None: no limit), when on_timeout, or what it returns, is the reply. Until then nothing more
        is read from the client. Only where can_block. OverflowError, and the client waits for
        nothing, where timeout_ms from now is beyond 63 bits."""
        cdef Token token = Token.__new__(Token)
        cdef Executor x = self.executor
        cdef int64_t deadline = x.d.steady + timeout_ms if timeout_ms is not None else 0
        token.session = self
        token.on_timeout = on_timeout
        self.token = token
        self.c.flags |= CLIENT_BLOCKED
        if timeout_ms is not None:
            token.deadline = deadline
            x.deferred_n += 1
            heapq.heappush(x.deferred, (token.deadline, x.deferred_n, token))
            x.d.next_deferred = x.deferred[0][0]
        return token

    def unblock(self, bint error=False) -> bool:
        """Ends what the client waits for, as its time limit would, or with an error. False when it
        waits for nothing, or only for the end of CLIENT PAUSE."""
        if self.c == NULL:
            return False
        if self.c.wait != NULL:
            give_up(&self.executor.d, self.c, UNBLOCKED if error else NULL)
            return True
        if self.token is None:
            return False
        return self.token.resolve(Refusal(UNBLOCKED.decode())) if error else self.token.expire()

    def take_replies(self) -> bytes:
        """Bytes replied so far to a session without a connection."""
        cdef bytes out = PyBytes_FromStringAndSize(self.c.reply.buf.p,
                                                   <Py_ssize_t>self.c.reply.buf.n)
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
