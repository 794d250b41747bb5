/* Preloaded into a worker: its host's clock is FULGER_TEST_CLOCK_SHIFT seconds ahead (behind, where negative). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec* out) {
  static int (*real)(clockid_t, struct timespec*);
  if (real == NULL) *(void**)&real = dlsym(RTLD_NEXT, "clock_gettime");
  const int result = real(clock, out);
  const char* shift = getenv("FULGER_TEST_CLOCK_SHIFT");
  if (result == 0 && clock == CLOCK_REALTIME && shift != NULL) out->tv_sec += atol(shift);
  return result;
}
