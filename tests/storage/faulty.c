/* A disk that fails when told to, and that remembers what was synced: a library to be preloaded (faults.py builds and steers it).

   It stands between a process and the C library for files below the directory FAULTS_DIR and nothing else.

   FAULTS_CONTROL  a file of `struct rule`, mapped: whoever writes it changes what happens from the next call on
   FAULTS_TRACE    one line is appended for what a loss of power would look at:
                       sync <inode> <size>         fdatasync or fsync of a file, with its size then
                       name <inode> <name>         a name was given (create, rename); without slashes
                       gone <name>                 a name was taken away
                       names                       fsync of the directory
   FAULTS_SHADOW   a directory where every file gets a second name, its inode, so that its content outlives all others
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum { CREATE = 1, WRITE, SYNC, RENAME, READ, TRUNCATE, SYNC_NAMES, UNLINK };
enum { RULES = 16, KILL = -1 };

struct rule {
    int32_t call;           /* which; 0: no rule */
    int32_t error;          /* errno to fail with; 0: do the call; KILL: the process dies instead */
    int64_t skip;           /* calls that are let through first */
    int64_t times;          /* calls that are hit then; -1: all */
    int64_t delay;          /* microseconds that a hit call takes longer */
    int64_t most;           /* a hit write or read moves no more bytes; 0: no limit */
    int64_t hits;           /* counted here */
    char match[80];         /* part of the path; "": any */
};

static struct rule *rules;
static int trace = -1;
static const char *dir, *shadow;
static size_t dir_n;

#define REAL(ret, name, ...) static ret (*real_##name)(__VA_ARGS__)
REAL(int, open, const char *, int, ...);
REAL(ssize_t, write, int, const void *, size_t);
REAL(ssize_t, pread, int, void *, size_t, off_t);
REAL(int, fdatasync, int);
REAL(int, fsync, int);
REAL(int, rename, const char *, const char *);
REAL(int, unlink, const char *);
REAL(int, ftruncate, int, off_t);

__attribute__((constructor)) static void begin(void)
{
    const char *control = getenv("FAULTS_CONTROL"), *path = getenv("FAULTS_TRACE");
    int fd;
    real_open = dlsym(RTLD_NEXT, "open64");
    real_write = dlsym(RTLD_NEXT, "write");
    real_pread = dlsym(RTLD_NEXT, "pread64");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_rename = dlsym(RTLD_NEXT, "rename");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    dir = getenv("FAULTS_DIR");
    shadow = getenv("FAULTS_SHADOW");
    if (!dir || !control || !path)
        return;
    dir_n = strlen(dir);
    fd = real_open(control, O_RDWR | O_CLOEXEC);
    if (fd >= 0)
        rules = mmap(NULL, sizeof(struct rule) * RULES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || rules == MAP_FAILED)
        abort();
    close(fd);
    trace = real_open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

/* The name below the directory, "" for the directory itself, NULL for what is elsewhere. */
static const char *below(const char *path)
{
    if (!rules || strncmp(path, dir, dir_n) != 0 || (path[dir_n] && path[dir_n] != '/'))
        return NULL;
    return path[dir_n] ? path + dir_n + 1 : "";
}

static const char *of(int fd, char *path, size_t n)
{
    char link[40];
    ssize_t got;
    if (!rules)
        return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    got = readlink(link, path, n - 1);
    if (got < 0)
        return NULL;
    path[got] = 0;
    return below(path);
}

/* Does a rule hit this call? errno and -1 where it fails; otherwise 0, and *n cut down where the rule says so. */
static int hit(int call, const char *name, size_t *n)
{
    int i;
    for (i = 0; i < RULES; i++) {
        struct rule *r = rules + i;
        if (r->call != call || !strstr(name, r->match) || r->times == 0)
            continue;
        if (r->skip > 0) {
            r->skip--;
            continue;
        }
        if (r->times > 0)
            r->times--;
        r->hits++;
        if (r->delay) {
            struct timespec t = {r->delay / 1000000, r->delay % 1000000 * 1000};
            nanosleep(&t, NULL);
        }
        if (r->error == KILL)
            kill(getpid(), SIGKILL);
        if (r->most && n && *n > (size_t)r->most)
            *n = r->most;
        if (r->error) {
            errno = r->error;
            return -1;
        }
    }
    return 0;
}

static void told(const char *format, ...)
{
    char line[400];
    va_list args;
    int n, before = errno;
    va_start(args, format);
    n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (real_write(trace, line, n) != n)
        abort();
    errno = before;
}

static void named(const char *path, const char *name)
{
    char second[500];
    struct stat s;
    int before = errno;
    if (stat(path, &s) == 0) {
        snprintf(second, sizeof second, "%s/%llu", shadow, (unsigned long long)s.st_ino);
        if (link(path, second) != 0 && errno != EEXIST)
            abort();
        told("name %llu %s\n", (unsigned long long)s.st_ino, name);
    }
    errno = before;
}

int open64(const char *path, int flags, ...)
{
    const char *name = below(path);
    mode_t mode = 0;
    int fd, is_new;
    va_list args;
    if (flags & (O_CREAT | O_TMPFILE)) {
        va_start(args, flags);
        mode = va_arg(args, mode_t);
        va_end(args);
    }
    if (!name || !(flags & O_CREAT))
        return real_open(path, flags, mode);
    if (hit(CREATE, name, NULL) != 0)
        return -1;
    is_new = access(path, F_OK) != 0;
    fd = real_open(path, flags, mode);
    if (fd >= 0 && is_new)
        named(path, name);
    return fd;
}

int open(const char *path, int flags, ...)
{
    mode_t mode;
    va_list args;
    va_start(args, flags);
    mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
    va_end(args);
    return open64(path, flags, mode);
}

ssize_t write(int fd, const void *p, size_t n)
{
    char path[500];
    const char *name = of(fd, path, sizeof path);
    if (name && hit(WRITE, name, &n) != 0)
        return -1;
    return real_write(fd, p, n);
}

ssize_t pread64(int fd, void *p, size_t n, off_t at)
{
    char path[500];
    const char *name = of(fd, path, sizeof path);
    if (name && hit(READ, name, &n) != 0)
        return -1;
    return real_pread(fd, p, n, at);
}

ssize_t pread(int fd, void *p, size_t n, off_t at)
{
    return pread64(fd, p, n, at);
}

static int sync_fd(int fd, int (*real)(int))
{
    char path[500];
    const char *name = of(fd, path, sizeof path);
    struct stat s;
    int r;
    if (!name)
        return real(fd);
    if (hit(*name ? SYNC : SYNC_NAMES, name, NULL) != 0)
        return -1;
    fstat(fd, &s);              /* before: what comes while it works may not be on disk */
    r = real(fd);
    if (r == 0 && *name)
        told("sync %llu %lld\n", (unsigned long long)s.st_ino, (long long)s.st_size);
    else if (r == 0)
        told("names\n");
    return r;
}

int fdatasync(int fd)
{
    return sync_fd(fd, real_fdatasync);
}

int fsync(int fd)
{
    return sync_fd(fd, real_fsync);
}

int rename(const char *old, const char *new)
{
    const char *from = below(old), *to = below(new);
    int r;
    if (to && hit(RENAME, to, NULL) != 0)
        return -1;
    r = real_rename(old, new);
    if (r == 0 && from)
        told("gone %s\n", from);
    if (r == 0 && to)
        named(new, to);
    return r;
}

int unlink(const char *path)
{
    const char *name = below(path);
    int r;
    if (name && hit(UNLINK, name, NULL) != 0)
        return -1;
    r = real_unlink(path);
    if (r == 0 && name)
        told("gone %s\n", name);
    return r;
}

int ftruncate64(int fd, off_t n)
{
    char path[500];
    const char *name = of(fd, path, sizeof path);
    if (name && hit(TRUNCATE, name, NULL) != 0)
        return -1;
    return real_ftruncate(fd, n);
}

int ftruncate(int fd, off_t n)
{
    return ftruncate64(fd, n);
}
