// A slow disk, as a process sees it that has this in LD_PRELOAD: what it writes below the folder SLOW_DISK takes a hundredth of a second each time,
// a sync twice that. That it was slow is told by a file beside the folder, `SLOW_DISK.slowed`.
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

namespace {

const useconds_t WRITE = 10000;
const useconds_t SYNC = 20000;

void hold_up(int file, useconds_t span) {
    const char *folder = getenv("SLOW_DISK");
    char link[64], path[4096], slowed[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    const ssize_t length = readlink(link, path, sizeof path);
    if (folder == nullptr || length < ssize_t(strlen(folder)) || strncmp(path, folder, strlen(folder)) != 0) return;
    usleep(span);
    snprintf(slowed, sizeof slowed, "%s.slowed", folder);
    if (access(slowed, F_OK) != 0) close(creat(slowed, 0600));
}

template <typename Call> Call *next(const char *name) { return reinterpret_cast<Call *>(dlsym(RTLD_NEXT, name)); }

}  // namespace

extern "C" {

ssize_t write(int file, const void *bytes, size_t count) {
    static const auto call = next<ssize_t(int, const void *, size_t)>("write");
    hold_up(file, WRITE);
    return call(file, bytes, count);
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t at) {
    static const auto call = next<ssize_t(int, const void *, size_t, off_t)>("pwrite");
    hold_up(file, WRITE);
    return call(file, bytes, count, at);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t at) {
    static const auto call = next<ssize_t(int, const void *, size_t, off64_t)>("pwrite64");
    hold_up(file, WRITE);
    return call(file, bytes, count, at);
}

int fsync(int file) {
    static const auto call = next<int(int)>("fsync");
    hold_up(file, SYNC);
    return call(file);
}

int fdatasync(int file) {
    static const auto call = next<int(int)>("fdatasync");
    hold_up(file, SYNC);
    return call(file);
}

int sync_file_range(int file, off64_t from, off64_t count, unsigned int flags) {
    static const auto call = next<int(int, off64_t, off64_t, unsigned int)>("sync_file_range");
    hold_up(file, SYNC);
    return call(file, from, count, flags);
}

}
