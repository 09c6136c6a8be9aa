/* The head of dist/crdt-redis: a static program that unpacks what is appended to it and becomes it.
 *
 * How can one file start where there is neither Python nor a C library? The file is this program followed by a compressed copy of
 * PyInstaller's directory, the C library and its dynamic loader included. It unpacks them once into a directory named after the
 * content, under TMPDIR or /tmp, and execs the loader from there. Later starts find the directory and cost a few stat calls. The
 * server runs in this very process, so signals, exit code and kill -9 mean what they say, and nothing is left to clean up after.
 *
 *   file:   this program | zlib stream of all contents | index | footer
 *   index:  per file: path length u32, mode u32, size u64, path       (native byte order: the file is for one machine)
 *   footer: index offset u64, index size u64, stream offset u64, name of the content (16 characters), "CRDTPACK"
 *
 * A package holds it unpacked, and in the executable's place this program with an empty stream (unpack.py): it needs no directory to
 * write to, and users of it none of their own.
 *
 * PyInstaller's own one-file mode was not chosen: it is dynamically linked, unpacks at every start, keeps a second process, and leaves
 * its directory behind after kill -9. /tmp cleaners that honour flock leave the directory alone while it is in use; where one has
 * removed a part of it, the sizes show it and it is unpacked afresh.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define FOOTER 48
#define CHUNK (1 << 16)

static char self[PATH_MAX], dir[PATH_MAX], *index_bytes;
static uint64_t index_at, index_size, stream_at;
static int file;

struct entry { const char *path; uint32_t path_size, mode; uint64_t size; };

static _Noreturn void die(const char *what, const char *where, const char *hint) {
    fprintf(stderr, "crdt-redis: %s %s: %s%s\n", what, where, strerror(errno), hint);
    exit(1);
}

static int next(size_t *at, struct entry *e) {
    if (*at >= index_size) return 0;
    memcpy(&e->path_size, index_bytes + *at, 4);
    memcpy(&e->mode, index_bytes + *at + 4, 4);
    memcpy(&e->size, index_bytes + *at + 8, 8);
    e->path = index_bytes + *at + 16;
    *at += 16 + e->path_size;
    return 1;
}

static int of_user(uid_t other) {
    struct stat s;
    return lstat(dir, &s) == 0 && S_ISDIR(s.st_mode) && (s.st_uid == geteuid() || s.st_uid == other) && !(s.st_mode & 022);
}

static int ours(void) { return of_user(geteuid()); }

static int whole(void) {
    struct entry e;
    struct stat s;
    size_t at = 0;
    char path[PATH_MAX];
    while (next(&at, &e)) {
        snprintf(path, sizeof path, "%s/%.*s", dir, (int)e.path_size, e.path);
        if (stat(path, &s) != 0 || (uint64_t)s.st_size != e.size) return 0;
    }
    return 1;
}

/* Whether a package has unpacked it where packages do: PREFIX/lib/crdt-redis/NAME, for PREFIX/bin/crdt-redis. */
static int installed(const char *name) {
    char prefix[PATH_MAX], *slash;
    strcpy(prefix, self);
    for (int i = 0; i < 2; i++) {
        if (!(slash = strrchr(prefix, '/'))) return 0;
        *slash = 0;
    }
    snprintf(dir, sizeof dir, "%s/lib/crdt-redis/%s", prefix, name);
    return of_user(0) && whole();
}

static void remove_tree(const char *path) {
    DIR *d = opendir(path);
    struct dirent *x;
    char below[PATH_MAX];
    if (d) {
        while ((x = readdir(d)))
            if (strcmp(x->d_name, ".") && strcmp(x->d_name, "..") && snprintf(below, sizeof below, "%s/%s", path, x->d_name) < PATH_MAX) {
                if (x->d_type == DT_DIR) remove_tree(below);
                else unlink(below);
            }
        closedir(d);
    }
    rmdir(path);
}

static char fresh[PATH_MAX];

static _Noreturn void unpack_failed(void) {
    int e = errno;
    char hint[200];
    struct entry x;
    size_t at = 0;
    uint64_t total = 0;
    while (next(&at, &x)) total += x.size;
    remove_tree(fresh);
    snprintf(hint, sizeof hint, " (it takes %u MB; TMPDIR may name another directory)", (unsigned)(total >> 20) + 1);
    errno = e;
    die("cannot unpack into", fresh, hint);
}

static void unpack(const char *parent) {
    static unsigned char in[CHUNK], out[CHUNK];
    struct entry e;
    size_t at = 0;
    char path[PATH_MAX], *slash;
    z_stream z;
    memset(&z, 0, sizeof z);
    snprintf(fresh, sizeof fresh, "%s/crdt-redis-XXXXXX", parent);
    if (!mkdtemp(fresh)) unpack_failed();
    inflateInit(&z);
    lseek(file, stream_at, SEEK_SET);
    while (next(&at, &e)) {
        snprintf(path, sizeof path, "%s/%.*s", fresh, (int)e.path_size, e.path);
        for (slash = path + strlen(fresh) + 1; (slash = strchr(slash, '/')); slash++) {
            *slash = 0;
            if (mkdir(path, 0700) != 0 && errno != EEXIST) unpack_failed();
            *slash = '/';
        }
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, e.mode);
        if (fd < 0) unpack_failed();
        for (uint64_t left = e.size; left;) {
            if (z.avail_in == 0) {
                ssize_t r = read(file, in, CHUNK);
                if (r <= 0) { errno = r ? errno : EIO; unpack_failed(); }
                z.next_in = in;
                z.avail_in = r;
            }
            z.next_out = out;
            z.avail_out = left < CHUNK ? left : CHUNK;
            int want = z.avail_out, status = inflate(&z, Z_NO_FLUSH);
            if (status != Z_OK && status != Z_STREAM_END) { errno = EIO; unpack_failed(); }
            int got = want - z.avail_out;
            for (int done = 0; done < got;) {
                ssize_t r = write(fd, out + done, got - done);
                if (r < 0) unpack_failed();
                done += r;
            }
            left -= got;
        }
        if (close(fd) != 0) unpack_failed();
    }
    inflateEnd(&z);
}

int main(int argc, char **argv) {
    char footer[FOOTER], name[17], loader[PATH_MAX], program[PATH_MAX], libraries[PATH_MAX];
    const char *parent = getenv("TMPDIR");
    for (int fd = 0; fd < 3; fd++)      /* where the caller closed one, no file of ours may take its number */
        if (fcntl(fd, F_GETFD) < 0) open("/dev/null", O_RDWR);
    if (!parent || !*parent) parent = "/tmp";
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0 && !realpath(argv[0], self)) die("cannot find", argv[0], "");
    file = open(self, O_RDONLY | O_CLOEXEC);
    if (file < 0) die("cannot open", self, "");
    off_t end = lseek(file, -FOOTER, SEEK_END);
    if (end < 0 || read(file, footer, FOOTER) != FOOTER || memcmp(footer + 40, "CRDTPACK", 8)) { errno = ENOEXEC; die("cannot read", self, ""); }
    memcpy(&index_at, footer, 8);
    memcpy(&index_size, footer + 8, 8);
    memcpy(&stream_at, footer + 16, 8);
    memcpy(name, footer + 24, 16);
    name[16] = 0;
    index_bytes = malloc(index_size);
    if (!index_bytes || pread(file, index_bytes, index_size, index_at) != (ssize_t)index_size) { errno = ENOEXEC; die("cannot read", self, ""); }

    if (installed(name)) parent = NULL;
    else if (index_at == stream_at) { errno = ENOENT; die("this is a part of a package, whose other part is not whole:", dir, ""); }
    else snprintf(dir, sizeof dir, "%s/crdt-redis-%u-%s", parent, (unsigned)geteuid(), name);
    if (parent && (!ours() || !whole())) {
        unpack(parent);
        /* Somebody else's directory of that name, or one with holes, may stand in the way: the fresh one does as well. Where another
         * start was quicker, its directory is used. */
        if (ours() && !whole()) remove_tree(dir);
        if (rename(fresh, dir) != 0) {
            if (ours() && whole()) remove_tree(fresh);
            else strcpy(dir, fresh);
        }
    }
    int held = open(dir, O_RDONLY | O_DIRECTORY);    /* inherited, so that the lock lives as long as the server */
    if (held >= 0) flock(held, LOCK_SH);

    setenv("_CRDT_REDIS_SELF", self, 1);
    snprintf(loader, sizeof loader, "%s/_internal/ld-linux.so.2", dir);
    snprintf(program, sizeof program, "%s/crdt-redis", dir);
    snprintf(libraries, sizeof libraries, "%s/_internal", dir);
    char **args = calloc(argc + 5, sizeof *args);
    int k = 0;
    args[k++] = loader;
    args[k++] = "--library-path";
    args[k++] = libraries;
    args[k++] = program;
    for (int i = 1; i < argc; i++) args[k++] = argv[i];
    execv(loader, args);
    die("cannot run what was unpacked into", dir, errno == EACCES ? " (if it is mounted noexec: TMPDIR may name another directory)" : "");
}
