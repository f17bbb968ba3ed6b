/* Moves the time of day of the process that is started with this, and makes its disk slower: by as many
 * seconds and microseconds as the file says that ODEUM_LOADTEST_SHIM names, at every call anew. The time
 * that passes, it leaves alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* Seconds that the time of day is ahead, and microseconds that a flush of a file takes longer. */
struct shifts { int64_t seconds, flush_micros; };

static const volatile struct shifts *shift;

__attribute__((constructor)) static void map_shift(void) {
    const char *name = getenv("ODEUM_LOADTEST_SHIM");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED) shift = mapped;
}

static int64_t seconds(void) { return shift ? shift->seconds : 0; }

static void wait_for_disk(void) {
    int64_t micros = shift ? shift->flush_micros : 0;
    if (micros <= 0) return;
    struct timespec wait = {micros / 1000000, micros % 1000000 * 1000};
    nanosleep(&wait, NULL);
}

int fdatasync(int file) {
    wait_for_disk();
    return (int)syscall(SYS_fdatasync, file);
}

int fsync(int file) {
    wait_for_disk();
    return (int)syscall(SYS_fsync, file);
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    static int (*original)(clockid_t, struct timespec *);
    if (!original) original = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = original ? original(clock, at) : (int)syscall(SYS_clock_gettime, clock, at);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) at->tv_sec += seconds();
    return result;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    (void)zone;
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) return -1;
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) return -1;
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
