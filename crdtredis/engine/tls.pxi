# TLS on a socket.
#
# OpenSSL is the one that Python brings: module _ssl is loaded, and the dynamic linker finds the
# functions of libssl and libcrypto behind it. So no header is needed to build, one version serves
# HTTP and clients alike, and without tls_port the engine loads nothing. Declared below is what is
# the same in 1.1.1 and 3.x.
#
# Reading and writing go through a BIO of our own rather than through SSL_set_fd:
#   a short recv() has emptied the socket. The next one is left out (TLS_DRY) until epoll says that
#   there is more, so that a request costs one recv and one send as it does in the clear;
#   OpenSSL reads as much as its buffer takes and not each record's header by itself (read-ahead),
#   which leaves bytes that epoll knows nothing of: a connection is readable until SSL_read says
#   that it wants more;
#   what a peer sends that is no data (key updates, attempts to renegotiate, empty records), and
#   data in records of one byte, cannot keep OpenSSL reading: `room` ends it, and who sends only the
#   former is closed.
# Buffers of connections that are idle are given back (SSL_MODE_RELEASE_BUFFERS).
#
# Several certificates are several contexts: the first has the others for as long as it is there
# itself (ex data of OpenSSL, since it may outlive its TlsContext while handshakes are under way).
#
# Not here: KTLS, early data (it may be replayed), stapling.

import os

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, strlen
from libc.time cimport time as unix_time

from crdtredis.buffer cimport need_memory

cdef extern from "<dlfcn.h>" nogil:
    void *dlopen(const char *path, int flags)
    void *dlsym(void *library, const char *name)
    enum:
        RTLD_NOW, RTLD_LOCAL

cdef extern from * nogil:
    """
    #include <errno.h>
    static inline ssize_t crdt_fail_with(int e) { errno = e; return -1; }
    """
    ssize_t fail_with "crdt_fail_with"(int e)
    enum:
        EBUSY, EPROTO

ctypedef int (*BioData)(void *bio, char *p, int n) noexcept nogil
ctypedef long (*BioControl)(void *bio, int cmd, long n, void *p) noexcept nogil
ctypedef int (*BioMake)(void *bio) noexcept nogil
ctypedef void (*SslInfo)(const void *ssl, int where, int value) noexcept nogil
ctypedef int (*Named)(void *ssl, int *alert, void *others) noexcept nogil
ctypedef void (*ExFree)(void *parent, void *p, void *data, int i, long n, void *arg) noexcept nogil
ctypedef int (*Password)(char *p, int n, int writing, void *user) noexcept nogil

# What is used of OpenSSL, by its own names without what they begin with.
cdef struct OpenSsl:
    void *library
    # libcrypto
    unsigned long (*version)() noexcept nogil
    void (*clear_errors)() noexcept nogil
    unsigned long (*get_error)() noexcept nogil
    const char *(*reason)(unsigned long code) noexcept nogil
    const char *(*certificate_reason)(long code) noexcept nogil
    void *(*meth_new)(int type, const char *name) noexcept nogil
    int (*meth_set_read)(void *meth, BioData fn) noexcept nogil
    int (*meth_set_write)(void *meth, BioData fn) noexcept nogil
    int (*meth_set_ctrl)(void *meth, BioControl fn) noexcept nogil
    int (*meth_set_create)(void *meth, BioMake fn) noexcept nogil
    void *(*bio_new)(const void *meth) noexcept nogil
    void (*bio_set_data)(void *bio, void *p) noexcept nogil
    void *(*bio_get_data)(void *bio) noexcept nogil
    void (*bio_set_init)(void *bio, int on) noexcept nogil
    void (*bio_set_flags)(void *bio, int flags) noexcept nogil
    void (*bio_clear_flags)(void *bio, int flags) noexcept nogil
    # libssl: the settings of a context
    const void *(*server_method)() noexcept nogil
    void *(*ctx_new)(const void *method) noexcept nogil
    void (*ctx_free)(void *ctx) noexcept nogil
    long (*ctx_ctrl)(void *ctx, int cmd, long n, void *p) noexcept nogil
    uint64_t (*ctx_set_options)(void *ctx, uint64_t options) noexcept nogil
    void (*ctx_set_verify)(void *ctx, int mode, void *fn) noexcept nogil
    int (*ctx_load_verify)(void *ctx, const char *file, const char *folder) noexcept nogil
    int (*ctx_chain)(void *ctx, const char *file) noexcept nogil
    int (*ctx_key)(void *ctx, const char *file, int type) noexcept nogil
    int (*ctx_check_key)(const void *ctx) noexcept nogil
    void (*ctx_set_passwd)(void *ctx, Password fn) noexcept nogil
    void (*ctx_set_passwd_user)(void *ctx, void *user) noexcept nogil
    int (*ctx_set_ciphers)(void *ctx, const char *text) noexcept nogil
    int (*ctx_set_ciphersuites)(void *ctx, const char *text) noexcept nogil
    int (*ctx_set_session_id)(void *ctx, const char *id, unsigned int n) noexcept nogil
    int (*ctx_set_tickets)(void *ctx, size_t n) noexcept nogil
    long (*ctx_set_timeout)(void *ctx, long s) noexcept nogil
    void (*ctx_set_info)(void *ctx, SslInfo fn) noexcept nogil
    # ... its other certificates, and revocation lists
    int (*ex_index)(int kind, long n, void *p, void *make, void *copy, ExFree fn) noexcept nogil
    int (*ctx_set_ex)(void *ctx, int i, void *p) noexcept nogil
    int (*ctx_keep)(void *ctx) noexcept nogil
    long (*ctx_set_callback)(void *ctx, int cmd, Named fn) noexcept nogil
    void *(*ctx_certificate)(const void *ctx) noexcept nogil
    int (*x509_is_for)(void *x509, const char *name, size_t n, unsigned int flags,
                       char **found) noexcept nogil
    const char *(*ssl_name)(const void *ssl, int kind) noexcept nogil
    void *(*ssl_ctx)(const void *ssl) noexcept nogil
    void *(*ssl_set_ctx)(void *ssl, void *ctx) noexcept nogil
    void *(*ctx_store)(const void *ctx) noexcept nogil
    int (*store_flags)(void *store, unsigned long flags) noexcept nogil
    void *(*store_lookup)(void *store, const void *method) noexcept nogil
    const void *(*lookup_file)() noexcept nogil
    int (*load_crl)(void *lookup, const char *path, int kind) noexcept nogil
    # ... and what certificates it accepts
    void *(*x509_read)(void **into, const unsigned char **data, long n) noexcept nogil
    int (*x509_purpose)(void *x509, int purpose, int authority) noexcept nogil
    void *(*stack_new)() noexcept nogil
    int (*stack_push)(void *stack, const void *item) noexcept nogil
    void (*stack_free)(void *stack, void *fn) noexcept nogil
    void *(*verify_new)() noexcept nogil
    int (*verify_begin)(void *verify, void *store, void *x509, void *chain) noexcept nogil
    int (*verify_set)(void *verify, const char *purpose) noexcept nogil
    int (*verify)(void *verify) noexcept nogil
    int (*verify_error)(const void *verify) noexcept nogil
    void (*verify_free)(void *verify) noexcept nogil
    # ... and a connection
    void *(*ssl_new)(void *ctx) noexcept nogil
    void (*ssl_free)(void *ssl) noexcept nogil
    void (*ssl_set_bio)(void *ssl, void *rbio, void *wbio) noexcept nogil
    void (*ssl_set_accept_state)(void *ssl) noexcept nogil
    void *(*ssl_get_rbio)(const void *ssl) noexcept nogil
    int (*ssl_accept)(void *ssl) noexcept nogil
    int (*ssl_read)(void *ssl, void *p, int n) noexcept nogil
    int (*ssl_write)(void *ssl, const void *p, int n) noexcept nogil
    int (*ssl_shutdown)(void *ssl) noexcept nogil
    void (*ssl_set_shutdown)(void *ssl, int mode) noexcept nogil
    int (*ssl_get_error)(const void *ssl, int got) noexcept nogil
    long (*ssl_verify_result)(const void *ssl) noexcept nogil
    # the client's certificate
    void *(*ssl_peer)(const void *ssl) noexcept nogil
    const void *(*x509_subject)(const void *x509) noexcept nogil
    int (*x509_text)(const void *name, int nid, char *p, int n) noexcept nogil
    void (*x509_free)(void *x509) noexcept nogil
    # how long certificates and revocation lists hold
    const void *(*x509_end)(const void *x509) noexcept nogil
    void *(*list_read)(void **into, const unsigned char **data, long n) noexcept nogil
    const void *(*list_end)(const void *crl) noexcept nogil
    void (*list_free)(void *crl) noexcept nogil
    int (*time_left)(int *days, int *seconds, const void *since, const void *until) noexcept nogil
    # who is in the lists
    void *(*store_objects)(const void *store) noexcept nogil
    int (*stack_size)(const void *stack) noexcept nogil
    void *(*stack_at)(const void *stack, int i) noexcept nogil
    void *(*as_list)(const void *object) noexcept nogil
    int (*list_find)(void *crl, void **entry, void *x509) noexcept nogil
    # of our own
    void *method                # BIO_METHOD
    int others                  # index of a context's other contexts

# In the order of OpenSsl. The first of two is the newer name.
OPENSSL_NAMES = (
    "OpenSSL_version_num", "ERR_clear_error", "ERR_get_error", "ERR_reason_error_string",
    "X509_verify_cert_error_string", "BIO_meth_new", "BIO_meth_set_read", "BIO_meth_set_write",
    "BIO_meth_set_ctrl", "BIO_meth_set_create", "BIO_new", "BIO_set_data", "BIO_get_data",
    "BIO_set_init", "BIO_set_flags", "BIO_clear_flags", "TLS_server_method", "SSL_CTX_new",
    "SSL_CTX_free", "SSL_CTX_ctrl", "SSL_CTX_set_options", "SSL_CTX_set_verify",
    "SSL_CTX_load_verify_locations", "SSL_CTX_use_certificate_chain_file",
    "SSL_CTX_use_PrivateKey_file", "SSL_CTX_check_private_key", "SSL_CTX_set_default_passwd_cb",
    "SSL_CTX_set_default_passwd_cb_userdata", "SSL_CTX_set_cipher_list", "SSL_CTX_set_ciphersuites",
    "SSL_CTX_set_session_id_context", "SSL_CTX_set_num_tickets", "SSL_CTX_set_timeout",
    "SSL_CTX_set_info_callback", "CRYPTO_get_ex_new_index", "SSL_CTX_set_ex_data",
    "SSL_CTX_up_ref", "SSL_CTX_callback_ctrl", "SSL_CTX_get0_certificate", "X509_check_host",
    "SSL_get_servername", "SSL_get_SSL_CTX", "SSL_set_SSL_CTX", "SSL_CTX_get_cert_store",
    "X509_STORE_set_flags", "X509_STORE_add_lookup", "X509_LOOKUP_file", "X509_load_crl_file",
    "d2i_X509", "X509_check_purpose", "OPENSSL_sk_new_null", "OPENSSL_sk_push",
    "OPENSSL_sk_pop_free", "X509_STORE_CTX_new", "X509_STORE_CTX_init",
    "X509_STORE_CTX_set_default", "X509_verify_cert", "X509_STORE_CTX_get_error",
    "X509_STORE_CTX_free",
    "SSL_new", "SSL_free", "SSL_set_bio", "SSL_set_accept_state", "SSL_get_rbio", "SSL_accept",
    "SSL_read", "SSL_write", "SSL_shutdown", "SSL_set_shutdown", "SSL_get_error",
    "SSL_get_verify_result", "SSL_get1_peer_certificate SSL_get_peer_certificate",
    "X509_get_subject_name", "X509_NAME_get_text_by_NID", "X509_free", "X509_get0_notAfter",
    "d2i_X509_CRL", "X509_CRL_get0_nextUpdate", "X509_CRL_free", "ASN1_TIME_diff",
    "X509_STORE_get0_objects", "OPENSSL_sk_num", "OPENSSL_sk_value", "X509_OBJECT_get0_X509_CRL",
    "X509_CRL_get0_by_cert")

cdef OpenSsl openssl
cdef uint32_t contexts          # that were made

cdef enum:
    # values of OpenSSL's headers
    COMMON_NAME = 13
    PURPOSE_CLIENT = 1
    BIO_SOURCE_SINK = 0x0400
    BIO_READ = 1
    BIO_WRITE = 2
    BIO_RETRY = 8
    BIO_CTRL_EOF = 2
    BIO_CTRL_FLUSH = 11
    ERROR_SSL = 1
    ERROR_WANT_READ = 2
    ERROR_WANT_WRITE = 3
    ERROR_SYSCALL = 5
    ERROR_ZERO_RETURN = 6
    CTRL_MODE = 33
    CTRL_READ_AHEAD = 41
    CTRL_SESSIONS = 42
    CTRL_SESSION_MODE = 44
    CTRL_NAMED = 53             # a callback, for the name that the client wants,
    CTRL_NAMED_ARG = 54         # and what it is given
    NAMED_OK = 0
    EX_CTX = 1
    CRL_CHECKS = 0x4 | 0x8      # of a certificate, and of all that lead to its authority
    MODES = 0x1 | 0x2 | 0x10    # partial writes, from moving buffers; release buffers
    OP_IGNORE_EOF = 0x80        # 3.0 and later
    OP_NO_COMPRESSION = 0x20000
    OP_SERVER_CIPHERS = 0x400000
    OP_NO_RENEGOTIATION = 0x40000000
    FILE_PEM = 1
    INFO_LOOP = 0x01
    INFO_ALERT = 0x4000
    RECEIVED_SHUTDOWN = 2
    LISTED = 1                  # 2: as one that is accepted again
    # our own
    IDLE_MESSAGES = 32          # see Tls.idle_messages
    MESSAGE_ROOM = 8 << 10      # ... and what a message that is no data takes of it

# Of TLSv1.2, those with forward secrecy that encrypt and authenticate at once; OpenSSL's own choice
# has also CBC, SHA-1 and keys encrypted by RSA.
STRONG = b"ECDHE+AESGCM:ECDHE+CHACHA20"
PROTOCOLS = {"tlsv1": 0x04000000, "tlsv1.1": 0x10000000, "tlsv1.2": 0x08000000,
             "tlsv1.3": 0x20000000}     # SSL_OP_NO_*
# What OpenSSL says of a handshake that fails, and of files, where that is not clear by itself.
CLEAR = {
    "http request": "it speaks HTTP in the clear",
    "https proxy request": "it speaks HTTP in the clear",
    "wrong version number": "it does not speak TLS (does it mean the port without?)",
    "unknown protocol": "it does not speak TLS (does it mean the port without?)",
    "unsupported protocol": "it wants a version of TLS that tls_protocols does not have",
    "no shared cipher": "it has no cipher in common with tls_ciphers and tls_ciphersuites",
    "peer did not return a certificate":
        "it has shown no certificate, and tls_auth_clients wants one",
    "tlsv1 alert unknown ca": "it does not trust the authority that signed tls_cert_file",
    "sslv3 alert bad certificate": "it does not accept tls_cert_file",
    "sslv3 alert certificate expired": "it says that tls_cert_file has expired",
    "unexpected eof while reading": "it closed the connection",
}


cdef void load_openssl() except *:
    """Finds OpenSSL's functions. ValueError where that is impossible."""
    cdef void **at = <void**>&openssl
    cdef void *library
    cdef bytes path
    cdef int i
    if openssl.library != NULL:
        return
    try:
        import _ssl
        path = os.fsencode(getattr(_ssl, "__file__", None) or "")
    except ImportError:
        raise ValueError("this Python has no module ssl, whose OpenSSL TLS needs") from None
    library = dlopen(<const char*>path if path else NULL, RTLD_NOW | RTLD_LOCAL)
    for i, names in enumerate(OPENSSL_NAMES if library != NULL else (), 1):
        at[i] = NULL
        for name in names.split():
            if at[i] == NULL:
                at[i] = dlsym(library, <bytes>name.encode())
        if at[i] == NULL:
            raise ValueError("the OpenSSL of this Python's module ssl cannot be used: it has no "
                             f"{name} to share")
    if library == NULL:
        raise ValueError(f"the OpenSSL of this Python's module ssl cannot be used: {path!r} is not "
                         "to be opened")
    openssl.method = openssl.meth_new(100 | BIO_SOURCE_SINK, "crdtredis")
    openssl.meth_set_read(openssl.method, bio_read)
    openssl.meth_set_write(openssl.method, bio_write)
    openssl.meth_set_ctrl(openssl.method, bio_control)
    openssl.meth_set_create(openssl.method, bio_make)
    openssl.others = openssl.ex_index(EX_CTX, 0, NULL, NULL, NULL, free_others)
    openssl.library = library


cdef str error_text(unsigned long code):
    """In OpenSSL's words."""
    cdef const char *text = openssl.reason(code) if code else NULL
    return text.decode() if text != NULL else "it closed the connection" if not code else hex(code)


cdef str first_error():
    """Of those that the last calls have left behind."""
    cdef unsigned long code = openssl.get_error()
    openssl.clear_errors()
    return error_text(code)


cdef str tls_problem(Tls *t):
    """Why a handshake has failed."""
    if t.problem:
        return f"its certificate is not accepted: {openssl.certificate_reason(t.problem).decode()}"
    text = error_text(t.error)
    return CLEAR.get(text, text)


cdef bytes tls_client_name(Tls *t):
    """The common name in the certificate that the client showed; None: it showed none, or that has
    no such name, or a longer one than users have."""
    cdef char text[260]
    cdef void *certificate = openssl.ssl_peer(t.ssl)
    cdef int n
    if certificate == NULL:
        return None
    n = openssl.x509_text(openssl.x509_subject(certificate), COMMON_NAME, text, sizeof(text))
    openssl.x509_free(certificate)
    return text[:n] if 0 < n < <int>sizeof(text) - 1 else None


# ---- a context -----------------------------------------------------------------------------------

cdef int give_password(char *p, int n, int writing, void *user) noexcept nogil:
    """Without one: none, and no question on the terminal."""
    cdef size_t length = strlen(<const char*>user)
    if length > <size_t>n:
        return -1
    memcpy(p, user, length)
    return <int>length


cdef void tls_note_end(Tls *t) noexcept nogil:
    cdef void *certificate = openssl.ssl_peer(t.ssl)
    cdef int days = 0
    cdef int seconds = 0
    if certificate != NULL:
        t.ends = (unix_time(NULL) + 86400 * <int64_t>days + seconds
                  if openssl.time_left(&days, &seconds, NULL, openssl.x509_end(certificate)) == 1
                  else INT64_MAX)
        openssl.x509_free(certificate)


cdef int tls_is_revoked(Tls *t, void *ctx) noexcept nogil:
    cdef void *all = openssl.store_objects(openssl.ctx_store(ctx))
    cdef void *certificate = openssl.ssl_peer(t.ssl)
    cdef void *crl
    cdef void *entry
    cdef int found = 0
    cdef int i
    if certificate == NULL:
        return 0
    for i in range(openssl.stack_size(all)):
        crl = openssl.as_list(openssl.stack_at(all, i))
        found |= crl != NULL and openssl.list_find(crl, &entry, certificate) == LISTED
    openssl.x509_free(certificate)
    return found


cdef void free_others(void *parent, void *p, void *data, int i, long n, void *arg) noexcept nogil:
    cdef void **other = <void**>p
    while other != NULL and other[0] != NULL:
        openssl.ctx_free(other[0])
        other += 1
    free(p)


cdef int choose_certificate(void *ssl, int *alert, void *p) noexcept nogil:
    """The first one that is for the name that the client asks for; without any, its own."""
    cdef const char *name = openssl.ssl_name(ssl, 0)
    cdef void **other = <void**>p
    cdef void *ctx = openssl.ssl_ctx(ssl)
    if name != NULL:
        while ctx != NULL:
            if openssl.x509_is_for(openssl.ctx_certificate(ctx), name, strlen(name), 0, NULL) == 1:
                openssl.ssl_set_ctx(ssl, ctx)
                break
            ctx = other[0]
            other += 1
    return NAMED_OK


cdef bint is_locked(str path) except -1:
    with open(path, "rb") as f:
        return b"ENCRYPTED" in f.read(1 << 20)


cdef class TlsContext:
    """What a server's side of TLS is made of: certificate, key, who may connect and how. It does
    not change; connections keep the one that they began with.

    Arguments are those settings' values whose names begin with tls_; `named` is what the
    certificate, its key and the passphrase are called where a problem with them is told. ValueError
    says what is wrong with them, and which it is.
    """

    def __cinit__(self, *, str cert_file, str key_file, str key_file_pass="", str ca_file="",
                  str ca_cert_dir="", str auth_clients="yes", str protocols="", str ciphers="",
                  str ciphersuites="", bint prefer_server_ciphers=False,
                  bint session_caching=True, long session_cache_size=20480,
                  long session_cache_timeout=300, str crl_file="",
                  tuple named=("tls_cert_file", "tls_key_file", "tls_key_file_pass")):
        cdef uint64_t options = OP_NO_COMPRESSION | OP_NO_RENEGOTIATION
        cdef bytes cert = os.fsencode(cert_file)
        cdef bytes key = os.fsencode(key_file)
        cdef bytes ca = os.fsencode(ca_file)
        cdef bytes folder = os.fsencode(ca_cert_dir)
        cdef bytes crl = os.fsencode(crl_file)
        cdef void *store
        global contexts
        load_openssl()
        openssl.clear_errors()
        self.ctx = openssl.ctx_new(openssl.server_method())
        if self.ctx == NULL:
            raise ValueError(f"OpenSSL makes no context: {first_error()}")
        contexts += 1
        self.number = contexts
        self.wants = auth_clients != "no"
        openssl.ctx_ctrl(self.ctx, CTRL_MODE, MODES, NULL)
        openssl.ctx_ctrl(self.ctx, CTRL_READ_AHEAD, 1, NULL)
        if openssl.version() >= 0x30000000:
            options |= OP_IGNORE_EOF
        if prefer_server_ciphers:
            options |= OP_SERVER_CIPHERS
        wanted = (protocols or "TLSv1.2 TLSv1.3").lower().split()
        for name, bit in PROTOCOLS.items():
            if name not in wanted:
                options |= <uint64_t>bit
        openssl.ctx_set_options(self.ctx, options)
        openssl.ctx_set_info(self.ctx, note_message)
        # sessions
        openssl.ctx_ctrl(self.ctx, CTRL_SESSION_MODE, 2 if session_caching else 0, NULL)
        openssl.ctx_ctrl(self.ctx, CTRL_SESSIONS, session_cache_size, NULL)
        openssl.ctx_set_timeout(self.ctx, session_cache_timeout)
        if not session_caching:
            openssl.ctx_set_tickets(self.ctx, 0)
        openssl.ctx_set_session_id(self.ctx, "crdtredis", 9)
        # ciphers
        if not openssl.ctx_set_ciphers(self.ctx, ciphers.encode() or STRONG):
            raise ValueError(f"tls_ciphers: {first_error()}")
        if ciphersuites and not openssl.ctx_set_ciphersuites(self.ctx, ciphersuites.encode()):
            raise ValueError(f"tls_ciphersuites: {first_error()}")
        # files
        self.password = key_file_pass.encode()
        openssl.ctx_set_passwd(self.ctx, give_password)
        openssl.ctx_set_passwd_user(self.ctx, <void*><char*>self.password)
        cert_name, key_name, password_name = named
        for name, path in ((cert_name, cert_file), (key_name, key_file), ("tls_ca_file", ca_file),
                           ("tls_ca_cert_dir", ca_cert_dir), ("tls_crl_file", crl_file)):
            try:
                if path:
                    os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            except OSError as e:
                raise ValueError(f"{name} {path} cannot be read: {e.strerror}") from None
        if openssl.ctx_chain(self.ctx, cert) != 1:
            raise ValueError(f"{cert_name} {cert_file}: expected a certificate and those that "
                             f"lead to its authority, in PEM format ({first_error()})")
        if (openssl.ctx_key(self.ctx, key, FILE_PEM) != 1
                or openssl.ctx_check_key(self.ctx) != 1):
            text = first_error()
            if text == "key values mismatch":
                raise ValueError(f"{key_name} {key_file}: the key is not that of the certificate")
            # a wrong passphrase may make something of it that looks deciphered, and is no key
            if is_locked(key_file) or text in ("bad decrypt", "bad password read",
                                               "problems getting password",
                                               "interrupted or cancelled"):
                raise ValueError(f"{key_name} {key_file}: {password_name} does not open it")
            raise ValueError(f"{key_name} {key_file}: expected a private key in PEM format "
                             f"({text})")
        if (ca or folder) and openssl.ctx_load_verify(
                self.ctx, <const char*>ca if ca else NULL,
                <const char*>folder if folder else NULL) != 1:
            raise ValueError(f"tls_ca_file {ca_file}: expected certificates in PEM format "
                             f"({first_error()})")
        if crl:
            store = openssl.ctx_store(self.ctx)
            if openssl.load_crl(openssl.store_lookup(store, openssl.lookup_file()), crl,
                                FILE_PEM) < 1:
                raise ValueError(f"tls_crl_file {crl_file}: expected revocation lists in PEM "
                                 f"format ({first_error()})")
            openssl.store_flags(store, CRL_CHECKS)
        if self.wants:
            openssl.ctx_set_verify(self.ctx, 1 if auth_clients == "optional" else 3, NULL)
        openssl.clear_errors()

    def add(self, list others):
        """Certificates of other TlsContexts, for clients that ask for one of their names. Once,
        and before the first client."""
        cdef void **all = <void**>need_memory(calloc(<size_t>len(others) + 1, sizeof(void*)))
        cdef TlsContext other
        cdef size_t i
        for i, other in enumerate(others):
            openssl.ctx_keep(other.ctx)
            all[i] = other.ctx
        openssl.ctx_set_ex(self.ctx, openssl.others, all)
        openssl.ctx_set_callback(self.ctx, CTRL_NAMED, choose_certificate)
        openssl.ctx_ctrl(self.ctx, CTRL_NAMED_ARG, 0, all)

    def is_for(self, bytes name) -> bool:
        """Whether its certificate is for a server of this name."""
        cdef const char *p = name
        return openssl.x509_is_for(openssl.ctx_certificate(self.ctx), p, len(name), 0, NULL) == 1

    def may_be_client(self) -> bool:
        """Whether its certificate is one that a client may show."""
        return openssl.x509_purpose(openssl.ctx_certificate(self.ctx), PURPOSE_CLIENT, 0) == 1

    def refuses(self, list chain) -> str:
        """Why a client that has shown these certificates (DER, its own first) is not to be let in
        now; "": it is. That it has the key its handshake has proved."""
        cdef void *others = need_memory(openssl.stack_new())
        cdef void *verify = need_memory(openssl.verify_new())
        cdef void *first = NULL
        cdef void *x509
        cdef const unsigned char *p
        cdef bytes der
        cdef int problem = 0
        try:
            for der in chain:
                p = der
                x509 = openssl.x509_read(NULL, &p, len(der))
                if x509 == NULL:
                    return "it is no certificate"
                if first == NULL:
                    first = x509
                else:
                    openssl.stack_push(others, x509)
            if openssl.verify_begin(verify, openssl.ctx_store(self.ctx), first, others) != 1:
                return first_error()
            openssl.verify_set(verify, "ssl_client")
            if openssl.verify(verify) != 1:
                problem = openssl.verify_error(verify)
                return openssl.certificate_reason(problem).decode()
            return ""
        finally:
            openssl.verify_free(verify)
            openssl.stack_free(others, openssl.x509_free)
            if first != NULL:
                openssl.x509_free(first)
            openssl.clear_errors()

    def __dealloc__(self):
        if self.ctx != NULL:
            openssl.ctx_free(self.ctx)


def seconds_left(bytes der, bint is_list=False) -> int | None:
    """For how many seconds a certificate holds from now on, or a revocation list (DER); less than
    none: it holds no more. None: it is no such thing, or holds for ever. ValueError without
    OpenSSL."""
    cdef const unsigned char *p = der
    cdef const void *end = NULL
    cdef void *x
    cdef int days = 0
    cdef int seconds = 0
    load_openssl()
    x = (openssl.list_read if is_list else openssl.x509_read)(NULL, &p, len(der))
    if x != NULL:
        end = openssl.list_end(x) if is_list else openssl.x509_end(x)
    found = (86400 * days + seconds
             if end != NULL and openssl.time_left(&days, &seconds, NULL, end) == 1 else None)
    if x != NULL and is_list:
        openssl.list_free(x)
    elif x != NULL:
        openssl.x509_free(x)
    openssl.clear_errors()
    return found


# ---- the socket ----------------------------------------------------------------------------------

cdef int bio_make(void *bio) noexcept nogil:
    openssl.bio_set_init(bio, 1)
    return 1


cdef long bio_control(void *bio, int cmd, long n, void *p) noexcept nogil:
    if cmd == BIO_CTRL_EOF:
        return ((<Tls*>openssl.bio_get_data(bio)).flags & TLS_EOF) != 0
    return cmd == BIO_CTRL_FLUSH


cdef int bio_read(void *bio, char *p, int n) noexcept nogil:
    cdef Tls *t = <Tls*>openssl.bio_get_data(bio)
    cdef ssize_t got
    openssl.bio_clear_flags(bio, BIO_READ | BIO_WRITE | BIO_RETRY)
    if not t.flags & TLS_DRY and t.room:
        while True:
            got = recv(t.fd, p, <size_t>n, 0)
            if got >= 0:
                t.room -= min(t.room, <size_t>got)
                if got == 0:
                    t.flags |= TLS_EOF
                if got < n and not t.flags & TLS_HUNGUP:
                    t.flags |= TLS_DRY
                return <int>got
            if errno != EINTR:
                break
        if errno != EAGAIN:
            return -1
        t.flags |= TLS_DRY
    openssl.bio_set_flags(bio, BIO_READ | BIO_RETRY)
    return -1


cdef int bio_write(void *bio, char *p, int n) noexcept nogil:
    cdef Tls *t = <Tls*>openssl.bio_get_data(bio)
    cdef ssize_t sent
    openssl.bio_clear_flags(bio, BIO_READ | BIO_WRITE | BIO_RETRY)
    while True:
        sent = send(t.fd, p, <size_t>n, MSG_NOSIGNAL)
        if sent >= 0:
            return <int>sent
        if errno != EINTR:
            break
    if errno == EAGAIN:
        openssl.bio_set_flags(bio, BIO_WRITE | BIO_RETRY)
    return -1


cdef void note_message(const void *ssl, int where, int value) noexcept nogil:
    """OpenSSL has taken a step of a handshake, or had or sent an alert. A key update takes 50 us,
    and its buffer holds 600 of them: that no more are wanted it learns as if the peer had ended."""
    cdef Tls *t
    if where & (INFO_LOOP | INFO_ALERT):
        t = <Tls*>openssl.bio_get_data(openssl.ssl_get_rbio(ssl))
        if not t.flags & TLS_HANDSHAKE:
            t.idle_messages += 1
            t.room -= min(t.room, <size_t>MESSAGE_ROOM)
            if t.idle_messages > IDLE_MESSAGES:
                openssl.ssl_set_shutdown(<void*>ssl, RECEIVED_SHUTDOWN)


# ---- a connection --------------------------------------------------------------------------------

cdef Tls *tls_begin(void *ctx, int fd, void *owner) noexcept nogil:
    cdef void *ssl = openssl.ssl_new(ctx)
    cdef void *bio = openssl.bio_new(openssl.method) if ssl != NULL else NULL
    cdef Tls *t
    if bio == NULL:
        if ssl != NULL:
            openssl.ssl_free(ssl)
        return NULL
    t = <Tls*>need_memory(calloc(1, sizeof(Tls)))
    t.ssl = ssl
    t.fd = fd
    t.owner = owner
    t.flags = TLS_HANDSHAKE
    openssl.bio_set_data(bio, t)
    openssl.ssl_set_bio(ssl, bio, bio)
    openssl.ssl_set_accept_state(ssl)
    return t


cdef void tls_farewell(Tls *t) noexcept nogil:
    """Once, and not inside a record of which a part was sent: then OpenSSL refuses."""
    if not t.flags & (TLS_HANDSHAKE | TLS_BROKEN):
        t.flags |= TLS_BROKEN
        openssl.clear_errors()
        openssl.ssl_shutdown(t.ssl)


cdef void tls_end(Tls *t) noexcept nogil:
    tls_farewell(t)
    openssl.ssl_free(t.ssl)
    free(t)


cdef int tls_failed(Tls *t, int got) noexcept nogil:
    """errno of a call that returned `got`; 0: the peer has ended what it sends."""
    cdef int error = openssl.ssl_get_error(t.ssl, got)
    t.flags &= ~<uint32_t>TLS_WANTS_OUT
    if error == ERROR_WANT_WRITE:
        t.flags |= TLS_WANTS_OUT
    if error == ERROR_WANT_READ or error == ERROR_WANT_WRITE:
        # a socket that was not read to its end was not asked
        return EBUSY if error == ERROR_WANT_READ and not t.flags & TLS_DRY else EAGAIN
    if t.idle_messages <= IDLE_MESSAGES and (
            error == ERROR_ZERO_RETURN
            or (error == ERROR_SYSCALL and t.flags & TLS_EOF and not t.flags & TLS_HANDSHAKE)):
        return 0
    t.flags |= TLS_BROKEN
    t.error = openssl.get_error()
    return EPROTO


cdef ssize_t tls_recv(Tls *t, char *p, size_t n) noexcept nogil:
    cdef int got
    if t.flags & TLS_BROKEN:
        return fail_with(EPROTO)
    openssl.clear_errors()
    got = openssl.ssl_read(t.ssl, p, <int>min(n, <size_t>(1 << 30)))
    if got > 0:
        t.idle_messages = 0
        return got
    got = tls_failed(t, got)
    return fail_with(got) if got else 0


cdef ssize_t tls_send(Tls *t, const char *p, size_t n) noexcept nogil:
    """Record by record."""
    cdef size_t sent = 0
    cdef int got = 1
    if t.flags & TLS_BROKEN:
        return fail_with(EPROTO)
    openssl.clear_errors()
    while sent < n and sent < SEND_TLS:
        # all that is left: a record that was not sent whole is to be offered again, and no less
        got = openssl.ssl_write(t.ssl, p + sent, <int>min(n - sent, <size_t>(1 << 30)))
        if got <= 0:
            break
        sent += <size_t>got
    if sent or got > 0:
        return <ssize_t>sent
    got = tls_failed(t, got)
    return fail_with(EAGAIN if got == EBUSY else got if got else EPROTO)


cdef int tls_handshake(Tls *t) noexcept nogil:
    cdef int got
    openssl.clear_errors()
    got = openssl.ssl_accept(t.ssl)
    if got == 1:
        t.flags &= ~<uint32_t>TLS_HANDSHAKE
        return 1
    got = tls_failed(t, got)
    if got == EAGAIN or got == EBUSY:
        return 0
    t.flags |= TLS_BROKEN
    t.problem = <int>openssl.ssl_verify_result(t.ssl)
    return -1


# ---- handshakes under way ------------------------------------------------------------------------

cdef void tls_queue_add(TlsQueue *q, Tls *t) noexcept nogil:
    t.prev = q.last
    if t.prev != NULL:
        t.prev.next = t
    else:
        q.first = t
    q.last = t
    q.n += 1


cdef void tls_queue_remove(TlsQueue *q, Tls *t) noexcept nogil:
    if q.first != t and t.prev == NULL:
        return
    if t.prev != NULL:
        t.prev.next = t.next
    else:
        q.first = t.next
    if t.next != NULL:
        t.next.prev = t.prev
    else:
        q.last = t.prev
    t.prev = NULL
    t.next = NULL
    q.n -= 1
