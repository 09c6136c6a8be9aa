# Listening, and accepting who connects.

import os
import resource
import socket

from cpython.bytes cimport PyBytes_AS_STRING
from libc.errno cimport ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, errno
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, strlen

from crdtredis._resp cimport parser_free, parser_init
from crdtredis.buffer cimport need_memory

cdef enum:
    ACCEPT_SLICE = 1000     # connections accepted from one socket in an iteration


cdef class Listeners(Connections):
    """Connections, and the sockets they come in by."""

    def __cinit__(self, *_, **__):
        self.keepalive = 300
        self.protected_mode = True
        self.reserve = 32
        self.limit = 10000          # whoever has settings asks for as many files

    def __dealloc__(self):
        self.close_listeners()

    cdef void close_listener(self, int i) noexcept nogil:
        if self.listeners[i].fd >= 0:
            close(self.listeners[i].fd)
            self.listeners[i].fd = -1
            self.listeners[i].backlog = BACKLOG_NONE

    cdef void close_listeners(self) noexcept nogil:
        cdef int i
        for i in range(self.listener_n):
            self.close_listener(i)

    def tls_listeners(self) -> list[int]:
        """Numbers of the sockets that clients come in by who speak TLS: see leave."""
        return [i for i in range(self.listener_n)
                if self.listeners[i].fd >= 0 and self.listeners[i].is_tls]

    def leave(self, listeners):
        """Listens there no more. Who came in by one of them stays."""
        for i in listeners:
            self.close_listener(i)

    @property
    def max_clients(self) -> int:
        return self.limit

    @max_clients.setter
    def max_clients(self, uint32_t value):
        """As many as the limit of open files allows, with `reserve` descriptors left for everything
        else."""
        need = value + self.reserve
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < need:
            allowed = need if hard == resource.RLIM_INFINITY else min(need, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
            if allowed < need:
                log.warning("max_connections %d needs %d open files, and %d are allowed: "
                            "%d connections", value, need, allowed,
                            max(allowed - self.reserve, 1))
                value = max(allowed - self.reserve, 1)
        self.limit = value

    @property
    def tcp_keepalive(self) -> int:
        return self.keepalive

    @tcp_keepalive.setter
    def tcp_keepalive(self, int seconds):
        """For connections accepted from now on; 0: off."""
        cdef int i
        self.keepalive = seconds
        for i in range(self.listener_n):
            if not self.listeners[i].is_unix and self.listeners[i].fd >= 0:
                with socket.socket(fileno=os.dup(self.listeners[i].fd)) as s:
                    self.set_keepalive(s)

    def set_keepalive(self, s):
        s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1 if self.keepalive else 0)
        if self.keepalive:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, self.keepalive)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(self.keepalive // 3, 1))
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)

    def listen_tcp(self, str host, int port, int backlog=511, bint tls=False) -> int:
        """Listens on one address (IPv4 or IPv6); port 0 picks one. tls: clients speak TLS, by the
        context self.tls, which may be replaced. Returns the port. OSError where that is
        impossible."""
        assert not tls or self.tls is not None
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        s = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.set_keepalive(s)
            s.bind((host, port))
            s.listen(backlog)
            port = s.getsockname()[1]
            self.add_listener(s, "", tls)
        except BaseException:
            s.close()
            raise
        return port

    def listen_unix(self, str path, int perm=0, int backlog=511):
        """Listens on a Unix socket; a socket file left over from an earlier process is replaced.
        perm 0: as the umask has it."""
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
            s.bind(path)
            if perm:
                os.chmod(path, perm)
            s.listen(backlog)
            self.add_listener(s, path, False)
        except BaseException:
            s.close()
            raise

    cdef add_listener(self, s, str path, bint tls):
        cdef Listener *l
        # What is shown of it: whole characters of UTF-8, whatever bytes the path has.
        cdef bytes name = path.encode("utf-8", "replace")[:60].decode("utf-8", "ignore").encode()
        cdef int i = 0
        while i < self.listener_n and self.listeners[i].fd >= 0:
            i += 1
        if i == LISTENERS:
            raise OSError("too many addresses to listen on")
        l = &self.listeners[i]
        self.add_fd(s.fileno(), TAG_LISTENER + i)
        l.fd = s.detach()
        l.is_unix = bool(path)
        l.is_tls = tls
        l.backlog = BACKLOG_NOW
        memcpy(l.path, PyBytes_AS_STRING(name), len(name) + 1)
        self.listener_n = max(self.listener_n, i + 1)

    def addresses(self) -> list[str]:
        """Where it listens: "ip:port", "[ip]:port", perhaps with " (TLS)" behind, or the path of a
        Unix socket."""
        cdef sockaddr_storage a
        cdef socklen_t n
        cdef char text[64]
        cdef int i
        out = []
        for i in range(self.listener_n):
            if self.listeners[i].is_unix:
                out.append(self.listeners[i].path.decode())
            elif self.listeners[i].fd >= 0:
                n = sizeof(a)
                getsockname(self.listeners[i].fd, <sockaddr*>&a, &n)
                format_address(text, sizeof(text), &a, b"")
                out.append(text.decode() + (" (TLS)" if self.listeners[i].is_tls else ""))
        return out


# ---- accepting -----------------------------------------------------------------------------------

cdef void accept_all(Listeners self) noexcept nogil:
    cdef int i
    for i in range(self.listener_n):
        if self.listeners[i].backlog == BACKLOG_NOW:
            accept_from(self, &self.listeners[i])


cdef int accepting(Listeners self) noexcept nogil:
    cdef int i
    for i in range(self.listener_n):
        if self.listeners[i].backlog == BACKLOG_NOW:
            return 1
    return 0


cdef void accept_from(Listeners self, Listener *l) noexcept nogil:
    cdef sockaddr_storage a
    cdef socklen_t n
    cdef epoll_event e
    cdef Conn *c
    cdef int fd, i
    for i in range(ACCEPT_SLICE):
        n = sizeof(a)
        fd = accept4(l.fd, <sockaddr*>&a, &n, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if fd < 0:
            if errno == EINTR or errno == ECONNABORTED:
                continue
            # Out of descriptors or memory: the connections stay in the backlog, and the next cron
            # run tries again.
            l.backlog = (BACKLOG_LATER if errno == EMFILE or errno == ENFILE
                         or errno == ENOBUFS or errno == ENOMEM else BACKLOG_NONE)
            return
        self.counts.accepted += 1
        if self.connected >= self.limit:
            reject_socket(self, fd, "" if l.is_tls else "-ERR max number of clients reached\r\n")
            continue
        if self.protected_mode and not self.d.need_auth and not is_loopback(&a):
            reject_socket(self, fd, "" if l.is_tls else
                          "-DENIED crdt-redis runs in protected mode: without a password "
                          "it serves this host only. Set requirepass, or turn "
                          "protected_mode off.\r\n")
            continue
        c = <Conn*>need_memory(calloc(1, sizeof(Conn)))
        client_init(self.d, &c.client, 2)
        c.client.fd = fd
        if l.is_unix:
            c.client.flags |= CLIENT_UNIX
        format_address(c.client.addr, sizeof(c.client.addr), &a, l.path)
        parser_init(&c.parser, self.max_bulk)
        e.events = EPOLLIN | EPOLLRDHUP | <uint32_t>EPOLLET
        e.data.ptr = c
        if epoll_ctl(self.ep, EPOLL_CTL_ADD, fd, &e) != 0:
            close(fd)
            parser_free(&c.parser)
            client_free(self.d, &c.client)
            free(c)
            continue
        add_conn(self, c)
        if l.is_tls and not begin_shaking(self, c, self.limit // 2):
            kill(self, c)


cdef void reject_socket(Listeners self, int fd, const char *text) noexcept nogil:
    self.counts.rejected += 1
    send(fd, text, strlen(text), MSG_NOSIGNAL)
    close(fd)
