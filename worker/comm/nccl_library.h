// NCCL, loaded at run time: a program of this build starts where it is absent, and another version can be
// named
// (--nccl-library), such as one that allows several ranks on one GPU. Private to the nccl_*.cc files.
#pragma once

#include <nccl.h>

#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"

namespace fulger {

struct NcclLibrary {
  // `path` empty: the machine's libnccl.so.2. FAILED_PRECONDITION with what the loader says. Never unloaded.
  static absl::StatusOr<std::shared_ptr<const NcclLibrary>> Load(const std::string& path);

  std::string path;
  int version = 0;  // 22809: 2.28.9
  decltype(&ncclGetUniqueId) get_unique_id = nullptr;
  decltype(&ncclCommInitRankConfig) init = nullptr;
  decltype(&ncclCommFinalize) finalize = nullptr;
  decltype(&ncclCommDestroy) destroy = nullptr;
  decltype(&ncclCommAbort) abort = nullptr;
  decltype(&ncclCommGetAsyncError) async_error = nullptr;
  decltype(&ncclGetLastError) last_error = nullptr;
  decltype(&ncclGetErrorString) error_string = nullptr;
  decltype(&ncclAllReduce) all_reduce = nullptr;
  decltype(&ncclAllGather) all_gather = nullptr;
  decltype(&ncclBroadcast) broadcast = nullptr;
  decltype(&ncclSend) send = nullptr;
  decltype(&ncclRecv) recv = nullptr;

  // "2.28.9 (/usr/lib/libnccl.so.2)"
  std::string Describe() const;
  // What NCCL says about `result`, and about its last error; never OK.
  std::string Explain(ncclResult_t result, ncclComm_t comm) const;
};

}  // namespace fulger
