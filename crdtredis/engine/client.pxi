# The life of a client.

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from crdtredis.buffer cimport buffer_free, need_memory


cdef void client_init(Dispatch *d, Client *c, int resp) noexcept nogil:
    memset(c, 0, sizeof(Client))
    d.newest_client += 1
    c.id = d.newest_client
    c.fd = -1
    c.reply.resp = resp
    c.created = d.steady
    c.active = d.steady
    join_user(d.default_user, c)
    if not d.need_auth:
        c.flags |= CLIENT_AUTHENTICATED


cdef void client_free(Dispatch *d, Client *c) noexcept nogil:
    drop_transaction(d, c)
    stop_waiting(d, c)
    unsubscribe_all(d, c)
    monitor_end(d, c)
    track_gone(d, c)
    denials_forget(&d.denials, c)
    drop_pushes(c)
    leave_user(c)
    buffer_free(&c.pushes)
    buffer_free(&c.reply.buf)
    free(c.watched)
    free(c.name)
    free(c.lib_name)
    free(c.lib_ver)
    c.watched = NULL
    c.name = NULL
    c.lib_name = NULL
    c.lib_ver = NULL


cdef void reset_client(Dispatch *d, Client *client) noexcept nogil:
    drop_transaction(d, client)
    unsubscribe_all(d, client)
    monitor_end(d, client)
    track_end(d, client)
    client.db = 0
    join_user(d.default_user, client)
    client.reply.resp = 2
    client.flags &= ~<uint32_t>(CLIENT_REPLY_OFF | CLIENT_REPLY_SKIP | CLIENT_SKIP_NEXT
                                | CLIENT_NO_TOUCH | CLIENT_NO_EVICT | CLIENT_AUTHENTICATED
                                | CLIENT_MOVES | CLIENT_MOVES_BACK)
    if not d.need_auth:
        client.flags |= CLIENT_AUTHENTICATED
    free(client.name)
    client.name = NULL


cdef str local_address(Client *c):
    cdef sockaddr_storage a
    cdef socklen_t n = sizeof(a)
    cdef char text[64]
    if c.flags & CLIENT_UNIX:
        return c.addr.decode()
    if getsockname(c.fd, <sockaddr*>&a, &n) != 0:
        return ""
    format_address(text, sizeof(text), &a, b"")
    return text.decode()


cdef str text_of(const char *p):
    return "" if p == NULL else p.decode("utf-8", "surrogateescape")


cdef void set_text(char **where, str value):
    cdef bytes b = value.encode("utf-8", "surrogateescape")
    free(where[0])
    where[0] = NULL
    if b:
        where[0] = <char*>need_memory(malloc(len(b) + 1))
        memcpy(where[0], PyBytes_AS_STRING(b), len(b) + 1)
