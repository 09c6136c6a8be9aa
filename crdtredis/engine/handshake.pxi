# When the handshakes of TLS go on, and which end.
#
# A handshake costs as much as a thousand requests (a signature with an RSA key of 2048 bits: 0.5
# ms), and anybody may ask for one. So an iteration spends HANDSHAKE_NS on them, and the one that
# is begun then: those that are left wait for the next, the earliest first, and clients that are
# connected have their turn in between. One that takes longer than tls_handshake_timeout ends; where
# many are under way, the earliest makes room for a new one, since a client that means it needs one
# or two round trips.
#
# A certificate may expire, or new lists revoke it, while its client is connected, and a session
# that is resumed has the certificate of then. So each client is looked at once a second
# (check_idle): the lists that TlsContext has name it, or its time is over.
#
# Why a handshake failed is logged in words, for so many a minute (FAILURES). Who goes before it has
# sent anything (a check whether the port is open) is counted only.
#
# With threads (threads.pxi) these go on with handshakes, so many in an iteration; while a script
# runs it is the engine.

from libc.stdint cimport int64_t, uint32_t
from libc.time cimport time as unix_time

cdef enum:
    HANDSHAKES = 1000           # under way at a time, and half of max_connections at most
    HANDSHAKE_NS = 1_000_000    # of an iteration
    FAILURES = 20               # that are logged in a minute
    MINUTE = 60_000


cdef int begin_shaking(Connections self, Conn *c, uint32_t most) noexcept nogil:
    """most: of those under way."""
    if self.handshakes.n >= max(min(HANDSHAKES, most), 1):
        fail_handshake(self, <Conn*>self.handshakes.first.owner,
                       "it made room for others, as the earliest of very many under way")
    c.tls = tls_begin(self.tls.ctx, c.client.fd, c)
    if c.tls == NULL:
        return 0
    c.tls.begun = self.d.steady
    tls_queue_add(&self.handshakes, c.tls)
    return 1


cdef int is_shaking(Connections self, Conn *c) noexcept nogil:
    return c.tls != NULL and (c.tls.flags & TLS_HANDSHAKE or
                              (c.job and self.threads.jobs[c.job - 1].kind == JOB_SHAKE))


cdef int go_on_shaking(Connections self, Conn *c) noexcept nogil:
    cdef int64_t begun
    cdef int status
    if c.job:
        status = <int>self.threads.jobs[c.job - 1].got
        c.job = 0
    elif (self.handshake_ns > HANDSHAKE_NS
            or (self.threads != NULL and self.d.scripting.run == NULL)):
        add_passed_over(self, c)
        return 0
    else:
        begun = clock_ns(CLOCK_MONOTONIC)
        status = tls_handshake(c.tls)
        self.handshake_ns += clock_ns(CLOCK_MONOTONIC) - begun
    if status < 0:
        fail_handshake(self, c, NULL)
    elif status:
        tls_queue_remove(&self.handshakes, c.tls)
        self.counts.shaken += 1
        tls_note_end(c.tls)
        if end_invalid(self, c):        # it was resumed
            return 0
        want_out(self, c, 0)
        c.state |= CONN_READABLE        # requests may have come along with its end
        if self.on_certificate is not None:
            take_gil(&self.d.gil)
            tell_name(self, c)
    elif c.tls.flags & TLS_WANTS_OUT:
        want_out(self, c, 1)
    elif not c.tls.flags & TLS_DRY:
        add_ready(self, c)
    return status > 0


cdef void wake_tls(Connections self, Conn *c) noexcept nogil:
    """Either direction may have waited for either event."""
    if c.state & CONN_READABLE:
        c.tls.flags &= ~<uint32_t>TLS_DRY
        if c.state & CONN_HUNGUP:
            c.tls.flags |= TLS_HUNGUP
        if c.out_head != NULL:
            add_send(self, c)
    if c.tls.flags & TLS_WANTS_OUT:
        c.state |= CONN_READABLE
        add_ready(self, c)


cdef void end_late_handshakes(Connections self) noexcept nogil:
    while (self.handshakes.first != NULL
           and self.d.steady - self.handshakes.first.begun >= self.handshake_timeout):
        fail_handshake(self, <Conn*>self.handshakes.first.owner,
                       "it took longer than tls_handshake_timeout")


cdef void fail_handshake(Connections self, Conn *c, const char *why) noexcept nogil:
    """why NULL: OpenSSL says it."""
    tls_queue_remove(&self.handshakes, c.tls)
    self.counts.unshaken += 1
    kill(self, c)
    if why == NULL and c.tls.error == 0 and not c.tls.problem:
        return
    tell_failure(self, c, why)


cdef int end_invalid(Connections self, Conn *c) noexcept nogil:
    cdef const char *why = NULL
    if c.tls == NULL or not c.tls.ends or self.tls is None or not self.tls.wants:
        return 0
    if unix_time(NULL) >= c.tls.ends:
        why = "its certificate has expired"
    elif c.tls.looked_up != self.tls.number:
        c.tls.looked_up = self.tls.number
        if tls_is_revoked(c.tls, self.tls.ctx):
            why = "its certificate was revoked"
    if why == NULL:
        return 0
    self.counts.broken += 1
    kill(self, c)
    tell_failure(self, c, why)
    return 1


cdef void tell_failure(Connections self, Conn *c, const char *why) noexcept nogil:
    if self.d.steady - self.failures_since >= MINUTE:
        self.failures_since = self.d.steady
        self.failures_logged = 0
    if self.failures_logged == FAILURES:
        self.failures_left_out += 1
        return
    self.failures_logged += 1
    take_gil(&self.d.gil)
    log_failure(self, c, why)


cdef void tell_name(Connections self, Conn *c) noexcept with gil:
    name = tls_client_name(c.tls)
    if name is not None:
        self.on_certificate(session_of(self.d, &c.client), name)


cdef void log_failure(Connections self, Conn *c, const char *why) noexcept with gil:
    more = f" ({self.failures_left_out} more of late)" if self.failures_left_out else ""
    self.failures_left_out = 0
    log.warning(
        "TLS with client %s failed: %s%s", c.client.addr.decode("utf-8", "replace"),
        tls_problem(c.tls) if why == NULL else why.decode(), more)
