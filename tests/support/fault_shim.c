/* Preloaded into a test's process: the nth call on a file below an armed folder fails, or ends or stops the process.
 *
 * Counted are the calls of the armed kinds whose file (or, for names, path) lies below the folder. `fault_arm` starts
 * the count at 0; `fault_seen` tells it; `fault_hits` how often the fault struck. Linux only (it reads /proc/self/fd).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#undef pwrite
#undef pwrite64
#undef open
#undef open64
#undef openat
#undef openat64
#undef posix_fallocate
#undef posix_fallocate64

enum { PWRITE = 1, WRITE = 2, FSYNC = 4, FDATASYNC = 8, FALLOCATE = 16, OPEN = 32, RENAME = 64, LINK = 128, UNLINK = 256 };
enum { FAIL, KILL_BEFORE, KILL_AFTER, SHORT, STOP, DROP, DROP_AND_KILL };

static char folder[4096];
static int kinds, action, code;
static long nth, times, seen, hits;

/* What was pwritten since its file's last sync, so that a failed one can lose it as a kernel does. */
#define RANGES 256
static struct { ino_t inode; off_t at; size_t size; } unsynced[RANGES];
static int ranges;

void fault_arm(const char *path, int which, long n, long how_often, int error, int what) {
    snprintf(folder, sizeof folder, "%s/", path);
    seen = hits = 0;
    nth = n;
    times = how_often;
    code = error;
    action = what;
    ranges = 0;
    kinds = which;
}

void fault_disarm(void) { kinds = 0; }
long fault_seen(void) { return seen; }
long fault_hits(void) { return hits; }

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static ssize_t real_pwrite(int fd, const void *data, size_t size, off_t at) {
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (!real) real = (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite64");
    return real(fd, data, size, at);
}

static int strikes(int kind, const char *path) {
    if (!(kinds & kind) || strncmp(path, folder, strlen(folder))) return 0;
    long number = __atomic_add_fetch(&seen, 1, __ATOMIC_SEQ_CST);
    if (number < nth || (times >= 0 && number >= nth + times)) return 0;
    __atomic_add_fetch(&hits, 1, __ATOMIC_SEQ_CST);
    if (action == KILL_BEFORE) kill(getpid(), SIGKILL);
    if (action == STOP) kill(getpid(), SIGSTOP);
    return action != STOP;
}

static int strikes_file(int kind, int fd) {
    char name[64], path[4096];
    if (!(kinds & kind)) return 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(name, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return strikes(kind, path);
}

static void remember(int fd, off_t at, size_t size) {
    struct stat found;
    if (!kinds || ranges == RANGES || fstat(fd, &found)) return;
    unsynced[ranges].inode = found.st_ino;
    unsynced[ranges].at = at;
    unsynced[ranges++].size = size;
}

/* After a sync: nothing of the file is unsynced; `lose` zeroes what was. */
static void settle(int fd, int lose) {
    static const char zeros[1 << 16];
    struct stat found;
    int kept = 0;
    if (!kinds || fstat(fd, &found)) return;
    for (int k = 0; k < ranges; k++) {
        if (unsynced[k].inode != found.st_ino) {
            unsynced[kept++] = unsynced[k];
            continue;
        }
        for (size_t done = 0; lose && done < unsynced[k].size;) {
            size_t part = unsynced[k].size - done;
            ssize_t did = real_pwrite(fd, zeros, part < sizeof zeros ? part : sizeof zeros, unsynced[k].at + done);
            if (did <= 0) break;
            done += did;
        }
    }
    ranges = kept;
}

/* The rest of a call that was struck; KILL_AFTER does it first. */
#define STRUCK(call) \
    do { \
        if (action == KILL_AFTER) { \
            (void)(call); \
            kill(getpid(), SIGKILL); \
        } \
        errno = code; \
        return -1; \
    } while (0)

static ssize_t any_pwrite(int fd, const void *data, size_t size, off_t at) {
    if (strikes_file(PWRITE, fd)) {
        if (action == SHORT) return real_pwrite(fd, data, (size + 1) / 2, at);
        STRUCK(real_pwrite(fd, data, size, at));
    }
    ssize_t done = real_pwrite(fd, data, size, at);
    if (done > 0) remember(fd, at, done);
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return any_pwrite(fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return any_pwrite(fd, data, size, at); }

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    if (strikes_file(WRITE, fd)) {
        if (action == SHORT) return real(fd, data, (size + 1) / 2);
        STRUCK(real(fd, data, size));
    }
    return real(fd, data, size);
}

static int any_sync(int kind, int fd, int (*real)(int)) {
    if (strikes_file(kind, fd)) {
        settle(fd, action == DROP || action == DROP_AND_KILL);
        if (action == DROP_AND_KILL) kill(getpid(), SIGKILL);
        STRUCK(real(fd));
    }
    int done = real(fd);
    if (!done) settle(fd, 0);
    return done;
}

int fsync(int fd) {
    REAL(fsync);
    return any_sync(FSYNC, fd, real);
}

int fdatasync(int fd) {
    REAL(fdatasync);
    return any_sync(FDATASYNC, fd, real);
}

static int any_fallocate(int fd, off_t at, off_t size) {
    static int (*real)(int, off_t, off_t);
    if (!real) real = (int (*)(int, off_t, off_t))dlsym(RTLD_NEXT, "posix_fallocate64");
    if (strikes_file(FALLOCATE, fd)) {
        if (action == KILL_AFTER) {
            real(fd, at, size);
            kill(getpid(), SIGKILL);
        }
        return code; /* it does not set errno */
    }
    return real(fd, at, size);
}

int posix_fallocate(int fd, off_t at, off_t size) { return any_fallocate(fd, at, size); }
int posix_fallocate64(int fd, off64_t at, off64_t size) { return any_fallocate(fd, at, size); }

static int any_open(int base, const char *path, int flags, mode_t mode) {
    static int (*real)(int, const char *, int, ...);
    if (!real) real = (int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, "openat64");
    if (strikes(OPEN, path)) STRUCK(real(base, path, flags, mode));
    return real(base, path, flags, mode);
}

#define MODE \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list list; \
        va_start(list, flags); \
        mode = va_arg(list, mode_t); \
        va_end(list); \
    }

int open(const char *path, int flags, ...) {
    MODE;
    return any_open(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE;
    return any_open(AT_FDCWD, path, flags, mode);
}

int openat(int base, const char *path, int flags, ...) {
    MODE;
    return any_open(base, path, flags, mode);
}

int openat64(int base, const char *path, int flags, ...) {
    MODE;
    return any_open(base, path, flags, mode);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    if (strikes(RENAME, to)) STRUCK(real(from, to));
    return real(from, to);
}

int link(const char *from, const char *to) {
    REAL(link);
    if (strikes(LINK, to)) STRUCK(real(from, to));
    return real(from, to);
}

int linkat(int a, const char *from, int b, const char *to, int flags) {
    REAL(linkat);
    if (strikes(LINK, to)) STRUCK(real(a, from, b, to, flags));
    return real(a, from, b, to, flags);
}

int unlink(const char *path) {
    REAL(unlink);
    if (strikes(UNLINK, path)) STRUCK(real(path));
    return real(path);
}
