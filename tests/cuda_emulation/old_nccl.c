/* A libnccl.so.2 of any version (OLD_NCCL_VERSION, as NCCL writes it: 21205 is 2.12.5) that can do nothing else. */
#include <stdlib.h>

int ncclGetVersion(int* version) {
  const char* const text = getenv("OLD_NCCL_VERSION");
  *version = text == NULL ? 21205 : atoi(text);
  return 0;
}

#define NOTHING(name) \
  int name(void);     \
  int name(void) { return 3; /* ncclInternalError */ }
NOTHING(ncclGetUniqueId)
NOTHING(ncclCommInitRankConfig)
NOTHING(ncclCommFinalize)
NOTHING(ncclCommDestroy)
NOTHING(ncclCommAbort)
NOTHING(ncclCommGetAsyncError)
NOTHING(ncclAllReduce)
NOTHING(ncclAllGather)
NOTHING(ncclBroadcast)
NOTHING(ncclSend)
NOTHING(ncclRecv)

const char* ncclGetLastError(void* communicator);
const char* ncclGetLastError(void* communicator) {
  (void)communicator;
  return "";
}
const char* ncclGetErrorString(int result);
const char* ncclGetErrorString(int result) {
  (void)result;
  return "a library that can do nothing";
}
