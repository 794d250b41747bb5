/* Preloaded into a worker: reads of *.safetensors beyond FULGER_TEST_FAIL_AFTER bytes fail with EIO, as a bad disk's, and each takes
   FULGER_TEST_READ_MS milliseconds longer, as a slow one's. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static atomic_long bytes_read;

ssize_t pread(int fd, void* out, size_t count, off_t offset) {
  static ssize_t (*real)(int, void*, size_t, off_t);
  if (real == NULL) *(void**)&real = dlsym(RTLD_NEXT, "pread");
  char link[64], path[4096];
  snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
  const ssize_t length = readlink(link, path, sizeof(path) - 1);
  path[length > 0 ? length : 0] = '\0';
  if (strstr(path, ".safetensors") != NULL) {
    const char* delay = getenv("FULGER_TEST_READ_MS");
    if (delay != NULL) nanosleep(&(struct timespec){atol(delay) / 1000, atol(delay) % 1000 * 1000000}, NULL);
    const char* limit = getenv("FULGER_TEST_FAIL_AFTER");
    if (limit != NULL && atomic_fetch_add(&bytes_read, (long)count) + (long)count > atol(limit)) {
      errno = EIO;
      return -1;
    }
  }
  return real(fd, out, count, offset);
}

ssize_t pread64(int fd, void* out, size_t count, off_t offset) { return pread(fd, out, count, offset); }
