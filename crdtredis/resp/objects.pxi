# What does Python see of the codec?
#
# Python commands return ordinary objects, and reply_object writes them: the type says which RESP
# type is meant, and the marker classes stand for the ones that Python has no type for. A Python
# command never learns which dialect its client speaks.
#
# RequestParser and encode_reply are the codec for Python: tests and tools use them; the engine uses
# the C functions.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from crdtredis.buffer cimport buffer_free
from crdtredis.numbers cimport REAL_TEXT, format_long_double, parse_int64, parse_long_double


class Simple(str):
    """A simple string, such as "OK"."""

class Refusal(str):
    """An error inside a reply, with its code: "ERR no such key". (A command that fails as a whole
    raises CommandError.)"""

class Verbatim(str):
    """Text for people: INFO, CLIENT LIST."""

class Ordered(tuple):
    """A set whose members come in this order. (Of a set or frozenset they come sorted.)"""

class Push(list):
    """An out-of-band message."""

class NullArray:
    """The absent array, `*-1` in RESP2."""

class Raw(bytes):
    """Bytes that are RESP already."""


cdef int reply_object(Reply *r, object value) except -1:
    cdef size_t before = r.buf.n
    try:
        put_object(r, value)
    except BaseException:
        r.buf.n = before
        raise
    return 0


cdef int put_object(Reply *r, object value) except -1:
    cdef bytes data
    if value is None:
        reply_null(r)
    elif isinstance(value, bytes):
        data = <bytes>value
        if isinstance(value, Raw):
            reply_raw(r, data, len(data))
        else:
            reply_bulk(r, data, len(data))
    elif isinstance(value, str):
        data = value.encode("utf-8", "surrogateescape")
        if isinstance(value, Simple):
            reply_simple(r, data)
        elif isinstance(value, Refusal):
            reply_error_span(r, data, len(data))
        elif isinstance(value, Verbatim):
            reply_verbatim(r, b"txt", data, len(data))
        else:
            reply_bulk(r, data, len(data))
    elif isinstance(value, bool):
        reply_bool(r, value)
    elif isinstance(value, int):
        if -1 << 63 <= value < 1 << 63:
            reply_int(r, value)
        else:
            data = str(value).encode()
            reply_bignum(r, data, len(data))
    elif isinstance(value, float):
        reply_double(r, value)
    elif isinstance(value, (list, tuple)):
        if isinstance(value, Push):
            reply_push(r, len(value))
        elif isinstance(value, Ordered):
            reply_set(r, len(value))
        else:
            reply_array(r, len(value))
        for item in value:
            put_object(r, item)
    elif isinstance(value, dict):
        reply_map(r, len(value))
        for name, item in value.items():
            put_object(r, name)
            put_object(r, item)
    elif isinstance(value, (set, frozenset)):
        reply_set(r, len(value))
        for item in sorted(value, key=str):                 # one order in every process
            put_object(r, item)
    elif value is NullArray or isinstance(value, NullArray):
        reply_null_array(r)
    else:
        raise TypeError(f"no reply is made of a {type(value).__name__}")
    return 0


def encode_reply(value, int resp=2):
    """The reply `value` stands for (see reply_object) as bytes in RESP2 or RESP3."""
    cdef Reply r
    memset(&r, 0, sizeof(r))
    r.resp = resp
    try:
        reply_object(&r, value)
        return r.buf.p[:r.buf.n]
    finally:
        buffer_free(&r.buf)


class ProtocolError(Exception):
    """The client broke the protocol. `commands` are those that were complete before, in the same
    feed."""

    def __init__(self, text, commands):
        super().__init__(text)
        self.commands = commands


cdef class RequestParser:
    """Requests from bytes, however they are cut: feed() returns the commands that became complete.

    max_bulk: the longest argument, in bytes. authenticated: False for the limits of a client that
    has not authenticated yet; it can be set later.
    """
    cdef Parser p

    def __cinit__(self, max_bulk=512 << 20, authenticated=True):
        parser_init(&self.p, max_bulk)
        self.p.authenticated = authenticated

    def __dealloc__(self):
        parser_free(&self.p)

    @property
    def authenticated(self):
        return bool(self.p.authenticated)

    @authenticated.setter
    def authenticated(self, value):
        self.p.authenticated = bool(value)

    @property
    def memory(self):
        """Bytes held by the buffer and the argument array."""
        return parser_memory(&self.p)

    @property
    def room(self):
        """Bytes that parser_room offers now."""
        cdef size_t room
        parser_room(&self.p, &room)
        return room

    def trim(self):
        parser_trim(&self.p)

    def feed(self, bytes data):
        """The commands completed by `data`, each a list of bytes; empty requests are empty lists.
        Raises ProtocolError, then and ever after."""
        cdef const char *at = data
        cdef size_t left = len(data), room
        cdef char *into
        cdef int status = PARSE_READY, i
        commands = []
        while True:
            status = parser_next(&self.p)
            if status == PARSE_READY:
                commands.append([self.p.argv[i].p[:self.p.argv[i].n] for i in range(self.p.argc)])
            elif status == PARSE_ERROR:
                text = self.p.error
                raise ProtocolError(text.decode("utf-8", "surrogateescape"), commands)
            elif left == 0:
                return commands
            else:
                into = parser_room(&self.p, &room)
                if room > left:
                    room = left
                memcpy(into, at, room)
                parser_fed(&self.p, room)
                at += room
                left -= room


# Number texts for the tests: the value, or None where the text is no number.

def read_int(bytes text):
    cdef int64_t v
    return v if parse_int64(text, len(text), &v) else None


def read_double(bytes text):
    cdef double v
    return v if parse_double(text, len(text), &v) else None


def read_long_double(bytes text):
    """As INCRBYFLOAT would store it."""
    cdef long double v
    cdef char out[REAL_TEXT]
    return out[:format_long_double(v, out)] if parse_long_double(text, len(text), &v) else None


def show_double(double v):
    cdef char out[40]
    return out[:format_double(v, out)]
