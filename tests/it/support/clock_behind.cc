// A wall clock that is so many seconds behind, CLOCK_BEHIND_SECONDS, for a process that has this in LD_PRELOAD.
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

extern "C" int clock_gettime(clockid_t clock, struct timespec *time) {
    static const auto call = reinterpret_cast<int (*)(clockid_t, struct timespec *)>(dlsym(RTLD_NEXT, "clock_gettime"));
    const int outcome = call(clock, time);
    const char *behind = getenv("CLOCK_BEHIND_SECONDS");
    if (outcome == 0 && clock == CLOCK_REALTIME && behind != nullptr) time->tv_sec -= atoll(behind);
    return outcome;
}
