# TLS on a socket: what is used of OpenSSL, and one connection's state.

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef enum TlsFlag:
    TLS_HANDSHAKE = 1       # it is not over: nothing of the client is read yet
    TLS_DRY = 2             # the socket has no more bytes: nothing reads it before an event says so
    TLS_HUNGUP = 4          # the peer shut down its side: read to the end
    TLS_BROKEN = 8          # a fatal error: it is said no farewell
    TLS_EOF = 16            # the socket has ended
    TLS_WANTS_OUT = 32      # the last call waits for room in the socket, whatever it was for

cdef enum:
    TLS_MEMORY = 16 << 10   # bytes that OpenSSL takes for an idle connection, about
    TLS_ROOM = 64 << 10     # see Tls.room
    SEND_TLS = 1 << 20      # bytes that tls_send takes at a time

cdef struct Tls:
    void *ssl               # SSL
    int fd
    uint32_t flags          # TlsFlag
    size_t room             # bytes that may be read from the socket before others have their turn
    uint32_t idle_messages  # of the handshake's kind since the last bytes of the client's
    int problem             # X509_V_ERR_*, when the handshake has failed; 0: not the certificate
    uint64_t error          # OpenSSL's code for it; 0: none
    # handshakes under way, the earliest first; what each is a part of
    Tls *prev
    Tls *next
    void *owner
    int64_t begun           # ms, Dispatch.steady
    # when the client's certificate expires, s since 1970 (0: it has shown none, or shakes hands);
    # TlsContext.number of the revocation lists that it was looked up in
    int64_t ends
    uint32_t looked_up

cdef struct TlsQueue:
    Tls *first
    Tls *last
    uint32_t n

cdef class TlsContext:
    cdef void *ctx          # SSL_CTX
    cdef bytes password
    cdef uint32_t number    # in the order in which they were made, from 1 on
    cdef bint wants         # certificates of clients

cdef str tls_problem(Tls *t)            # why its handshake has failed
cdef bytes tls_client_name(Tls *t)      # after it
cdef void tls_note_end(Tls *t) noexcept nogil           # after it: sets ends
# Whether a list of this context names the client's certificate. No thread shakes hands meanwhile.
cdef int tls_is_revoked(Tls *t, void *ctx) noexcept nogil
# A server's side of a connection that has just been accepted; NULL without memory.
cdef Tls *tls_begin(void *ctx, int fd, void *owner) noexcept nogil
# Says farewell, where that is possible at once, and frees it. The socket stays open.
cdef void tls_end(Tls *t) noexcept nogil
cdef void tls_farewell(Tls *t) noexcept nogil
# As recv and send without flags and their errno; also EBUSY: room was used up. A fatal error is
# EPROTO, and EAGAIN may mean that the other direction is waited for. What tls_send has not taken is
# offered again, from where it left off, in one piece with what follows.
cdef ssize_t tls_recv(Tls *t, char *p, size_t n) noexcept nogil
cdef ssize_t tls_send(Tls *t, const char *p, size_t n) noexcept nogil
# 1: the handshake is over; 0: it waits for the peer; -1: it has failed.
cdef int tls_handshake(Tls *t) noexcept nogil
cdef void tls_queue_add(TlsQueue *q, Tls *t) noexcept nogil
cdef void tls_queue_remove(TlsQueue *q, Tls *t) noexcept nogil      # if it is there
