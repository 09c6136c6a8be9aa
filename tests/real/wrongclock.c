/* A wall clock that is off: a library to be preloaded. WRONG_CLOCK names a file with an int64, mapped: milliseconds to add, from the next look on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *off;
static int (*real_clock_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("WRONG_CLOCK");
    /* The system call itself: another preloaded library may have an open() that is not ready yet. */
    int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC) : -1;
    real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    if (fd < 0)
        return;
    off = mmap(NULL, sizeof *off, PROT_READ, MAP_SHARED, fd, 0);
    if (off == MAP_FAILED)
        abort();
    close(fd);
}

int clock_gettime(clockid_t id, struct timespec *t)
{
    int r;
    if (!real_clock_gettime)
        real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    r = real_clock_gettime(id, t);
    if (r == 0 && off && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
        int64_t ns = t->tv_sec * 1000000000LL + t->tv_nsec + *off * 1000000LL;
        t->tv_sec = ns / 1000000000LL;
        t->tv_nsec = ns % 1000000000LL;
    }
    return r;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone)
{
    struct timespec s;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &s) != 0)
        return -1;
    t->tv_sec = s.tv_sec;
    t->tv_usec = s.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *t)
{
    struct timespec s;
    clock_gettime(CLOCK_REALTIME, &s);
    if (t)
        *t = s.tv_sec;
    return s.tv_sec;
}
