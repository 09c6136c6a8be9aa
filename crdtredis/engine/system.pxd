# What the loop asks of Linux: epoll, sockets, clocks; and addresses as text.

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "<unistd.h>" nogil:
    ssize_t write(int fd, const void *p, size_t n)
    ssize_t read(int fd, void *p, size_t n)
    int close(int fd)

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        void *ptr
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int ep, int op, int fd, epoll_event *e)
    int epoll_wait(int ep, epoll_event *events, int n, int timeout)
    enum:
        EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP, EPOLLRDHUP, EPOLLET
        EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLL_CLOEXEC

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "<sys/socket.h>" nogil:
    struct sockaddr:
        unsigned short sa_family
    struct sockaddr_storage:
        unsigned short ss_family
    ctypedef unsigned int socklen_t
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    int accept4(int fd, sockaddr *addr, socklen_t *n, int flags)
    int getsockname(int fd, sockaddr *addr, socklen_t *n)
    ssize_t recv(int fd, void *p, size_t n, int flags)
    ssize_t send(int fd, const void *p, size_t n, int flags)
    ssize_t sendmsg(int fd, const msghdr *m, int flags)
    int shutdown(int fd, int how)
    enum:
        AF_INET, AF_INET6, AF_UNIX, SOCK_NONBLOCK, SOCK_CLOEXEC, MSG_NOSIGNAL, SHUT_WR

cdef extern from "<arpa/inet.h>" nogil:
    struct in_addr:
        uint32_t s_addr
    struct in6_addr:
        unsigned char s6_addr[16]
    struct sockaddr_in:
        in_addr sin_addr
        unsigned short sin_port
    struct sockaddr_in6:
        in6_addr sin6_addr
        unsigned short sin6_port
    const char *inet_ntop(int family, const void *addr, char *out, socklen_t n)
    unsigned short ntohs(unsigned short x)

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *out)
    enum:
        CLOCK_REALTIME, CLOCK_MONOTONIC

cdef int64_t clock_ms(int clock) noexcept nogil
cdef int64_t clock_ns(int clock) noexcept nogil
# "ip:port", "[ip]:port", or the path of a Unix socket and ":0".
cdef void format_address(char *out, size_t room, sockaddr_storage *a,
                         const char *unix_path) noexcept nogil
cdef int is_loopback(sockaddr_storage *a) noexcept nogil    # 1 for Unix sockets too
cdef void signal_fd(int eventfd) noexcept nogil             # its other end becomes readable
