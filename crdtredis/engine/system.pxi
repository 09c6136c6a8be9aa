# What the loop asks of Linux: epoll, sockets, clocks; and addresses as text.

from libc.errno cimport EAGAIN, ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, errno
from libc.string cimport strerror

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
        EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL, EPOLL_CLOEXEC

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


cdef inline int64_t clock_ms(int clock) noexcept nogil:
    cdef timespec t
    clock_gettime(clock, &t)
    return <int64_t>t.tv_sec * 1000 + t.tv_nsec // 1000000


cdef void format_address(char *out, size_t room, sockaddr_storage *a,
                         const char *unix_path) noexcept nogil:
    cdef char ip[48]
    if a.ss_family == AF_INET:
        inet_ntop(AF_INET, &(<sockaddr_in*>a).sin_addr, ip, sizeof(ip))
        snprintf(out, room, "%s:%d", ip, <int>ntohs((<sockaddr_in*>a).sin_port))
    elif a.ss_family == AF_INET6:
        inet_ntop(AF_INET6, &(<sockaddr_in6*>a).sin6_addr, ip, sizeof(ip))
        snprintf(out, room, "[%s]:%d", ip, <int>ntohs((<sockaddr_in6*>a).sin6_port))
    else:
        snprintf(out, room, "%s:0", unix_path)


cdef int is_loopback(sockaddr_storage *a) noexcept nogil:
    cdef unsigned char *p
    if a.ss_family == AF_INET:
        return (<unsigned char*>&(<sockaddr_in*>a).sin_addr)[0] == 127
    if a.ss_family == AF_INET6:
        p = (<sockaddr_in6*>a).sin6_addr.s6_addr
        if memcmp(p, <const char*>b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16) == 0:
            return 1
        return memcmp(p, <const char*>b"\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f", 13) == 0
    return 1
