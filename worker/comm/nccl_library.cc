#include "worker/comm/nccl_library.h"

#include <dlfcn.h>

#include <type_traits>

namespace fulger {

namespace {

constexpr int kOldestVersion = 21800;  // non-blocking communicators as they are used here

}  // namespace

absl::StatusOr<std::shared_ptr<const NcclLibrary>> NcclLibrary::Load(const std::string& path) {
  auto library = std::make_shared<NcclLibrary>();
  library->path = path.empty() ? "libnccl.so.2" : path;
  void* handle = dlopen(library->path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    return FailedPrecondition(
        "transport nccl: {}; install NCCL, put its folder into LD_LIBRARY_PATH, or name it with "
        "--nccl-library",
        dlerror());
  }
  absl::Status status;
  const auto find = [&](auto& function, const char* symbol) {
    function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(handle, symbol));
    if (function == nullptr && status.ok()) {
      status = FailedPrecondition("transport nccl: {} has no {}: NCCL 2.18 or newer is needed", library->path,
                                  symbol);
    }
  };
  decltype(&ncclGetVersion) get_version = nullptr;
  find(get_version, "ncclGetVersion");
  find(library->get_unique_id, "ncclGetUniqueId");
  find(library->init, "ncclCommInitRankConfig");
  find(library->finalize, "ncclCommFinalize");
  find(library->destroy, "ncclCommDestroy");
  find(library->abort, "ncclCommAbort");
  find(library->async_error, "ncclCommGetAsyncError");
  find(library->last_error, "ncclGetLastError");
  find(library->error_string, "ncclGetErrorString");
  find(library->all_reduce, "ncclAllReduce");
  find(library->all_gather, "ncclAllGather");
  find(library->broadcast, "ncclBroadcast");
  find(library->send, "ncclSend");
  find(library->recv, "ncclRecv");
  RETURN_IF_ERROR(status);
  if (get_version(&library->version) != ncclSuccess) {
    return FailedPrecondition("transport nccl: {} does not say its version", library->path);
  }
  if (library->version < kOldestVersion) {
    return FailedPrecondition(
        "transport nccl: NCCL {} is too old, 2.18 or newer is needed: install one, or name it with "
        "--nccl-library",
        library->Describe());
  }
  return std::shared_ptr<const NcclLibrary>(std::move(library));
}

std::string NcclLibrary::Describe() const {
  return fmt::format("{}.{}.{} ({})", version / 10000, version % 10000 / 100, version % 100, path);
}

std::string NcclLibrary::Explain(ncclResult_t result, ncclComm_t comm) const {
  const char* detail = last_error(comm);
  const bool more = detail != nullptr && *detail != '\0';
  return fmt::format("{}{}{}", error_string(result), more ? ": " : "", more ? detail : "");
}

}  // namespace fulger
