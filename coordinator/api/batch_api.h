// /v1/files and /v1/batches in OpenAI's shapes, over a JobStore.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/thread_pool.h"
#include "coordinator/api/api_keys.h"
#include "coordinator/api/batch_runner.h"
#include "coordinator/api/http.h"
#include "coordinator/jobs/job_store.h"

namespace fulger {

// Requests are answered on a small pool of its own: the disk is slow, and nobody else waits for it. Keys and
// store must outlive this, and this the HTTP server.
class BatchApi {
 public:
  // `keys` null: open to all. Each client sees its own files and batches.
  BatchApi(const ApiKeyRing* keys, JobStore* store, BatchRunner::RunLine run, BatchRunner::Options options);

  void Register(Router* router);
  // Before the engine goes: lines under way are left open for the next start.
  void Pause() { runner_.Pause(); }
  void Stop() { runner_.Stop(); }

 private:
  struct Call {
    std::shared_ptr<const HttpRequest> request;
    std::string owner;
    std::string rest;  // of the path, behind the route
  };
  using Method = absl::StatusOr<HttpResponse> (BatchApi::*)(const Call&);

  void Route(Router* router, const std::string& method, const std::string& path, Method handler);

  absl::StatusOr<HttpResponse> Upload(const Call& call);
  absl::StatusOr<HttpResponse> ListFiles(const Call& call);
  absl::StatusOr<HttpResponse> GetFile(const Call& call);  // and its content
  absl::StatusOr<HttpResponse> DeleteFile(const Call& call);
  absl::StatusOr<HttpResponse> CreateBatch(const Call& call);
  absl::StatusOr<HttpResponse> ListBatches(const Call& call);
  absl::StatusOr<HttpResponse> GetBatch(const Call& call);
  absl::StatusOr<HttpResponse> CancelBatch(const Call& call);

  const ApiKeyRing* const keys_;
  JobStore* const store_;
  BatchRunner runner_;
  ThreadPool pool_{2, 256};  // last: its threads use the rest
};

}  // namespace fulger
