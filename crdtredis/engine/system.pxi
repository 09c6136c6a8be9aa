# Clocks, and addresses as text.

from libc.stdio cimport snprintf
from libc.string cimport memcmp


cdef inline int64_t clock_ms(int clock) noexcept nogil:
    cdef timespec t
    clock_gettime(clock, &t)
    return <int64_t>t.tv_sec * 1000 + t.tv_nsec // 1000000


cdef inline int64_t clock_ns(int clock) noexcept nogil:
    cdef timespec t
    clock_gettime(clock, &t)
    return <int64_t>t.tv_sec * 1_000_000_000 + t.tv_nsec


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


cdef void signal_fd(int eventfd) noexcept nogil:
    cdef uint64_t one = 1
    write(eventfd, &one, 8)
