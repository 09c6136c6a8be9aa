# Sessions: clients as Python commands see them, and the replies that such commands defer.
#
# A Client is C. A Python command is given a Session, a Python object made at the client's first
# Python command and kept until the connection ends; afterwards its `c` is NULL and deferred replies
# to it are dropped.
#
# Python commands need the GIL. In a loop iteration it is taken for the first of them and kept until
# the iteration ends: beside a busy Python thread, each release can cost a whole switch interval.

import heapq

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_DECREF, Py_INCREF

from crdtredis._resp import Refusal
from crdtredis._resp cimport reply_error_span, reply_object
from crdtredis.commands import table
from crdtredis.errors cimport UNBLOCKED
from crdtredis.errors import INTERNAL, CommandError

cdef enum:
    # tokens in the heap of deadlines that are done: so many are not worth a sweep
    DONE_KEPT = 64

# Client flags that Python commands set.
client_flags = {"MULTI": CLIENT_MULTI,
                "REPLY_OFF": CLIENT_REPLY_OFF, "REPLY_SKIP": CLIENT_REPLY_SKIP,
                "SKIP_NEXT": CLIENT_SKIP_NEXT, "NO_EVICT": CLIENT_NO_EVICT,
                "NO_TOUCH": CLIENT_NO_TOUCH, "MOVES": CLIENT_MOVES,
                "MOVES_BACK": CLIENT_MOVES_BACK}


# ---- Python commands -----------------------------------------------------------------------------

cdef void run_python(Call *c) noexcept nogil:
    take_gil(&c.dispatch.gil)
    call_python(c)


cdef void call_python(Call *c) noexcept with gil:
    cdef Client *client = c.client
    cdef size_t at = client.reply.buf.n
    cdef int i
    cdef list args = []
    try:
        for i in range(c.argc):
            args.append(PyBytes_FromStringAndSize(c.argv[i].p, <Py_ssize_t>c.argv[i].n))
        result = (<object>client.command.python)(session_of(c.dispatch, client), args)
        if not client.flags & CLIENT_BLOCKED and result is not table.NO_REPLY:
            reply_object(&client.reply, result)
    except CommandError as e:
        take_back_reply(client, at, str(e))
    except Exception:
        log.exception("command %s failed", client.command.name.decode())
        take_back_reply(client, at, INTERNAL)
    except BaseException as e:
        # A signal handler raised (KeyboardInterrupt): the loop ends its iteration and raises it.
        take_back_reply(client, at, INTERNAL)
        (<object>c.dispatch.executor).pending = e
        c.dispatch.interrupted = 1


cdef void take_back_reply(Client *client, size_t at, str error):
    """An error in place of what the command said, and of what it still owed: a client that was
    refused waits for nothing."""
    client.reply.buf.n = at
    if client.session != NULL and (<Session>client.session).token is not None:
        token_done((<Session>client.session).token)
        (<Session>client.session).token = None
        client.flags &= ~<uint32_t>CLIENT_BLOCKED
    reply_text(client, error)


cdef void reply_text(Client *client, str text):
    cdef bytes b = text.encode("utf-8", "surrogateescape")
    reply_error_span(&client.reply, PyBytes_AS_STRING(b), <size_t>PyBytes_GET_SIZE(b))


cdef Session session_of(Dispatch *d, Client *client):
    cdef Session s
    if client.session == NULL:
        s = new_session(d, client)
        Py_INCREF(s)
        client.session = <void*>s
    return <Session>client.session


cdef Session new_session(Dispatch *d, Client *client):
    """client: NULL for one that the Session itself owns."""
    cdef Session s = Session.__new__(Session)
    s.d = d
    s.executor = <object>d.executor
    s.deferred = s.executor.deferred
    if client == NULL:
        s.c = &s.own
        client_init(d, s.c, 2)
        # Not counted: __dealloc__ frees the client, and end_session never gets this one.
        s.own.session = <void*>s
    else:
        s.c = client
    s.id = s.c.id
    return s


cdef void end_session(Dispatch *d, Client *client) noexcept nogil:
    if client.session != NULL:
        take_gil(&d.gil)
        let_session_go(client)


cdef void let_session_go(Client *client) noexcept with gil:
    cdef Session s = <Session>client.session
    client.session = NULL
    if s.token is not None:
        token_done(s.token)
        s.token = None
    s.c = NULL
    Py_DECREF(s)


# ---- replies that are deferred -------------------------------------------------------------------

cdef class Deferred:
    """The replies owed that have a time limit, by deadline.

    One that is not owed any more stays in the heap until half of it is such, or until its time.
    """

    def __cinit__(self):
        self.heap = []

    cdef add(self, Token token):
        self.number += 1
        heapq.heappush(self.heap, (token.deadline, self.number, token))

    cdef void done(self) noexcept:
        """One of them is not owed any more."""
        self.done_n += 1
        if self.done_n > DONE_KEPT and 2 * self.done_n > len(self.heap):
            self.heap[:] = [entry for entry in self.heap if not (<Token>entry[2]).done]
            heapq.heapify(self.heap)
            self.done_n = 0

    cdef int64_t first(self):
        """The earliest deadline, -1: none."""
        return self.heap[0][0] if self.heap else -1

    cdef int64_t expire(self, int64_t now):
        """Gives the replies whose time is up; returns the next deadline, -1: none. Nothing is
        raised, whatever on_timeout does: else the first to raise would be due again for ever."""
        cdef Token token
        while self.heap and self.heap[0][0] <= now:
            token = heapq.heappop(self.heap)[2]
            token.expire()
        while self.heap and (<Token>self.heap[0][2]).done:
            heapq.heappop(self.heap)
        return self.first()


cdef void token_done(Token t) noexcept:
    """Nothing is owed any more. What worked for the reply learns of it, and the heap of deadlines
    does not keep it: else clients that leave would stand there until a time they chose
    themselves."""
    t.done = True
    ended, t.ended = t.ended, None
    if ended is not None:
        try:
            ended()
        except Exception:
            log.exception("what worked for a deferred reply cannot be stopped")
    if t.deadline is not None:
        t.session.deferred.done()


cdef class Token:
    """A reply still owed to a client whose command called session.defer(). Engine thread only."""

    def resolve(self, value) -> bool:
        """Sends the reply and lets the client go on. False when it is gone, or has its reply."""
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
            count_error(self.session.d, c.reply.buf.p + at, c.reply.buf.n - at)
        finish_reply(c, at, c.flags)
        if c.fd >= 0:
            self.session.d.port.wake(self.session.d.port.owner, c, 0)
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

    Attributes of a client that has gone are empty.
    """

    def __dealloc__(self):
        if self.c == &self.own:
            self.own.session = NULL
            client_free(self.d, self.c)

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
    def user(self) -> bytes:
        """The name of its user."""
        return ((<Account>self.c.user.account).name
                if self.c != NULL and self.c.user != NULL else b"")

    def become(self, Account account):
        """Logs it in as this user."""
        join_user(&account.u, self.c)
        self.c.flags |= CLIENT_AUTHENTICATED
        self.c.flags &= ~<uint32_t>CLIENT_SUSPECT

    def suspect(self):
        """It has given a wrong password."""
        self.c.flags |= CLIENT_SUSPECT

    @property
    def blocked(self) -> bool:
        """Whether it is owed the reply to a command that waits."""
        return self.c != NULL and self.c.flags & CLIENT_BLOCKED != 0

    @property
    def can_block(self) -> bool:
        """Whether defer() may be called: not inside EXEC, where every command replies at once."""
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

    def note_write(self):
        """A command that is none that writes has made an op: its reply waits for the log."""
        mark_wrote(self.d, self.c)

    def set_flag(self, uint32_t flag, bint on):
        if on:
            self.c.flags |= flag
        else:
            self.c.flags &= ~flag

    def close(self):
        """Closes the connection once the replies so far, this command's included, are sent."""
        self.c.flags |= CLIENT_CLOSE

    def defer(self, timeout_ms=None, on_timeout=None) -> Token:
        """Leaves the command without a reply until token.resolve(reply), or until timeout_ms have
        passed (None: no limit), when on_timeout, or what it returns, is the reply. Until then
        nothing more is read from the client. Only where can_block. OverflowError, and the client
        waits for nothing, where timeout_ms from now is beyond 63 bits."""
        cdef Token token = Token.__new__(Token)
        cdef int64_t deadline = self.d.steady + timeout_ms if timeout_ms is not None else 0
        token.session = self
        token.on_timeout = on_timeout
        self.token = token
        self.c.flags |= CLIENT_BLOCKED
        if timeout_ms is not None:
            token.deadline = deadline
            self.deferred.add(token)
            self.d.next_deferred = self.deferred.first()
        return token

    def unblock(self, bint error=False) -> bool:
        """Ends what the client waits for, as its time limit would, or with an error. False when it
        waits for nothing, or only for the end of CLIENT PAUSE."""
        if self.c == NULL:
            return False
        if self.c.wait != NULL:
            give_up(self.d, self.c, UNBLOCKED if error else NULL)
            return True
        if self.token is None:
            return False
        return self.token.resolve(Refusal(UNBLOCKED.decode())) if error else self.token.expire()

    def take_replies(self) -> bytes:
        """Bytes replied so far, and messages, to a session without a connection."""
        cdef Push *p = <Push*>self.c.pushes.p
        cdef bytes out = PyBytes_FromStringAndSize(self.c.reply.buf.p,
                                                   <Py_ssize_t>self.c.reply.buf.n)
        cdef size_t i, at = 0
        parts = []
        for i in range(self.c.pushes.n // sizeof(Push)):
            parts += [out[at:p[i].at], (<char*>p[i].message + sizeof(Shared))[:p[i].message.n]]
            at = p[i].at
        if parts:
            out = b"".join([*parts, out[at:]])
            drop_pushes(self.c)
        self.c.reply.buf.n = 0
        return out
