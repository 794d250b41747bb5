#include "coordinator/api/batch_api.h"

#include <ctime>
#include <string_view>
#include <utility>

#include "coordinator/api/batch_file.h"
#include "coordinator/api/ids.h"
#include "coordinator/api/json_fields.h"
#include "coordinator/api/multipart.h"
#include "coordinator/api/openai_answer.h"
#include "coordinator/frontend/field_error.h"

namespace fulger {
namespace {

using nlohmann::ordered_json;

constexpr int64_t kWindowSeconds = 24 * 3600;

HttpResponse Json(const ordered_json& json) {
  HttpResponse response;
  response.body = json.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
  return response;
}

ordered_json FileJson(const StoredFile& f) {
  return {{"id", f.id},         {"object", "file"},     {"bytes", f.bytes},     {"created_at", f.created},
          {"filename", f.name}, {"purpose", f.purpose}, {"status", "processed"}};
}

ordered_json OrNull(const std::string& text) {
  return text.empty() ? ordered_json(nullptr) : ordered_json(text);
}
ordered_json TimeOrNull(int64_t time) { return time == 0 ? ordered_json(nullptr) : ordered_json(time); }

ordered_json BatchJson(const Batch& b) {
  const auto ended_as = [&](std::string_view status) { return TimeOrNull(b.status == status ? b.ended : 0); };
  ordered_json errors = nullptr;
  if (!b.errors.empty()) errors = {{"object", "list"}, {"data", ordered_json::parse(b.errors)}};
  const bool failed = b.status == "failed";
  return {{"id", b.id},
          {"object", "batch"},
          {"endpoint", b.endpoint},
          {"errors", errors},
          {"input_file_id", b.input_file},
          {"completion_window", b.window},
          {"status", b.status},
          {"output_file_id", OrNull(b.output_file)},
          {"error_file_id", OrNull(b.error_file)},
          {"created_at", b.created},
          {"in_progress_at", TimeOrNull(failed ? 0 : b.created)},
          {"expires_at", b.expires},
          {"finalizing_at", ended_as("completed")},
          {"completed_at", ended_as("completed")},
          {"failed_at", ended_as("failed")},
          {"expired_at", ended_as("expired")},
          {"cancelling_at", TimeOrNull(b.cancelling)},
          {"cancelled_at", ended_as("cancelled")},
          {"request_counts", {{"total", b.total}, {"completed", b.completed}, {"failed", b.failed}}},
          {"metadata", b.metadata.empty() ? ordered_json(nullptr) : ordered_json::parse(b.metadata)}};
}

// `name=value` of a query.
std::string QueryValue(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const std::string_view pair = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), pair.size() + 1));
    if (pair.starts_with(name) && pair.size() > name.size() && pair[name.size()] == '=') {
      return std::string(pair.substr(name.size() + 1));
    }
  }
  return {};
}

absl::StatusOr<int64_t> Limit(std::string_view query, int64_t fallback, int64_t most) {
  const std::string text = QueryValue(query, "limit");
  if (text.empty()) return fallback;
  const bool digits = text.size() < 7 && text.find_first_not_of("0123456789") == std::string::npos;
  const int64_t limit = digits ? std::stoll(text) : 0;
  if (limit < 1 || limit > most)
    return FieldError("limit", "expected a whole number from 1 to {}, found {}", most, text);
  return limit;
}

// One more than `limit` was asked for, to know whether there are more.
template <typename T, typename F>
HttpResponse ListOf(std::vector<T> items, int64_t limit, F json_of) {
  const bool more = std::ssize(items) > limit;
  if (more) items.resize(static_cast<size_t>(limit));
  ordered_json data = ordered_json::array();
  for (const T& item : items) data.push_back(json_of(item));
  const ordered_json first = items.empty() ? ordered_json(nullptr) : ordered_json(items.front().id);
  const ordered_json last = items.empty() ? ordered_json(nullptr) : ordered_json(items.back().id);
  return Json(
      {{"object", "list"}, {"data", data}, {"first_id", first}, {"last_id", last}, {"has_more", more}});
}

}  // namespace

BatchApi::BatchApi(const ApiKeyRing* keys, JobStore* store, BatchRunner::RunLine run,
                   BatchRunner::Options options)
    : keys_(keys), store_(store), runner_(store, std::move(run), std::move(options)) {}

void BatchApi::Register(Router* router) {
  Route(router, "POST", "/v1/files", &BatchApi::Upload);
  Route(router, "GET", "/v1/files", &BatchApi::ListFiles);
  Route(router, "GET", "/v1/files/*", &BatchApi::GetFile);
  Route(router, "DELETE", "/v1/files/*", &BatchApi::DeleteFile);
  Route(router, "POST", "/v1/batches", &BatchApi::CreateBatch);
  Route(router, "GET", "/v1/batches", &BatchApi::ListBatches);
  Route(router, "GET", "/v1/batches/*", &BatchApi::GetBatch);
  Route(router, "POST", "/v1/batches/*", &BatchApi::CancelBatch);
}

void BatchApi::Route(Router* router, const std::string& method, const std::string& path, Method handler) {
  const size_t prefix = path.ends_with('*') ? path.size() - 1 : path.size();
  router->Add(method, path,
              [this, handler, prefix](std::shared_ptr<const HttpRequest> request,
                                      std::shared_ptr<HttpResponder> responder) {
                Call call{.request = std::move(request), .owner = {}, .rest = {}};
                call.rest = call.request->path.substr(prefix);
                if (keys_ != nullptr) {
                  const auto client = keys_->Check(call.request->Header("Authorization"));
                  if (!client.ok()) return responder->Send(ErrorOf(client.status()));
                  call.owner = client->name;
                }
                const bool queued = pool_.TryRun([this, handler, call = std::move(call), responder] {
                  absl::StatusOr<HttpResponse> response = (this->*handler)(call);
                  responder->Send(response.ok() ? *std::move(response) : ErrorOf(response.status()));
                });
                if (!queued)
                  responder->Send(ErrorOf(ResourceExhausted("too many requests at once: try again later")));
              });
}

absl::StatusOr<HttpResponse> BatchApi::Upload(const Call& call) {
  ASSIGN_OR_RETURN(const std::vector<FormPart> parts,
                   ParseMultipart(call.request->Header("Content-Type"), call.request->body));
  StoredFile file{.id = NewId("file-"), .owner = call.owner, .created = std::time(nullptr)};
  const FormPart* content = nullptr;
  for (const FormPart& part : parts) {
    if (part.name == "purpose") file.purpose = std::string(part.content);
    if (part.name == "file") content = &part;
  }
  if (content == nullptr) return FieldError("file", "missing");
  if (file.purpose != "batch") return FieldError("purpose", "expected batch, found \"{}\"", file.purpose);
  file.name = content->filename;
  file.bytes = std::ssize(content->content);
  RETURN_IF_ERROR(store_->AddFile(file, content->content));
  return Json(FileJson(file));
}

absl::StatusOr<HttpResponse> BatchApi::ListFiles(const Call& call) {
  ASSIGN_OR_RETURN(const int64_t limit, Limit(call.request->query, 10'000, 10'000));
  ASSIGN_OR_RETURN(auto files,
                   store_->Files(call.owner, limit + 1, QueryValue(call.request->query, "after")));
  return ListOf(std::move(files), limit, FileJson);
}

absl::StatusOr<HttpResponse> BatchApi::GetFile(const Call& call) {
  constexpr std::string_view kContent = "/content";
  if (!call.rest.ends_with(kContent)) {
    ASSIGN_OR_RETURN(const StoredFile file, store_->File(call.rest, call.owner));
    return Json(FileJson(file));
  }
  HttpResponse response;
  response.content_type = "application/octet-stream";
  ASSIGN_OR_RETURN(response.body,
                   store_->FileContent(call.rest.substr(0, call.rest.size() - kContent.size()), call.owner));
  return response;
}

absl::StatusOr<HttpResponse> BatchApi::DeleteFile(const Call& call) {
  RETURN_IF_ERROR(store_->RemoveFile(call.rest, call.owner));
  return Json({{"id", call.rest}, {"object", "file"}, {"deleted", true}});
}

absl::StatusOr<HttpResponse> BatchApi::CreateBatch(const Call& call) {
  ASSIGN_OR_RETURN(const nlohmann::json object, ParseJsonObject(call.request->body));
  const JsonFields f(object);
  Batch batch{.id = NewId("batch_"), .owner = call.owner, .created = std::time(nullptr)};
  RETURN_IF_ERROR(f.String("input_file_id", &batch.input_file));
  RETURN_IF_ERROR(f.String("endpoint", &batch.endpoint));
  RETURN_IF_ERROR(f.String("completion_window", &batch.window));
  if (batch.input_file.empty()) return FieldError("input_file_id", "missing");
  if (batch.endpoint != "/v1/chat/completions" && batch.endpoint != "/v1/completions") {
    return FieldError("endpoint", "expected /v1/chat/completions or /v1/completions, found \"{}\"",
                      batch.endpoint);
  }
  if (batch.window != "24h")
    return FieldError("completion_window", "expected 24h, found \"{}\"", batch.window);
  batch.expires = batch.created + kWindowSeconds;
  if (const auto* metadata = f.Find("metadata"); metadata != nullptr) {
    if (!metadata->is_object())
      return FieldError("metadata", "expected an object, found {}", JsonKind(*metadata));
    batch.metadata = metadata->dump();
  }
  const auto content = store_->FileContent(batch.input_file, call.owner);
  if (!content.ok()) return WithField(content.status(), "input_file_id");
  BatchInput input = ParseBatchFile(*content, batch.endpoint);
  batch.errors = std::move(input.errors);
  if (!batch.errors.empty()) {
    batch.status = "failed";
    batch.ended = batch.created;
  }
  RETURN_IF_ERROR(store_->AddBatch(batch, input.lines));
  batch.total = std::ssize(input.lines);
  runner_.Wake();
  return Json(BatchJson(batch));
}

absl::StatusOr<HttpResponse> BatchApi::ListBatches(const Call& call) {
  ASSIGN_OR_RETURN(const int64_t limit, Limit(call.request->query, 20, 100));
  ASSIGN_OR_RETURN(auto batches,
                   store_->Batches(call.owner, limit + 1, QueryValue(call.request->query, "after")));
  return ListOf(std::move(batches), limit, BatchJson);
}

absl::StatusOr<HttpResponse> BatchApi::GetBatch(const Call& call) {
  ASSIGN_OR_RETURN(const Batch batch, store_->FindBatch(call.rest, call.owner));
  return Json(BatchJson(batch));
}

absl::StatusOr<HttpResponse> BatchApi::CancelBatch(const Call& call) {
  constexpr std::string_view kCancel = "/cancel";
  if (!call.rest.ends_with(kCancel))
    return NotFound("POST {}: expected /v1/batches/ID/cancel", call.request->path);
  const std::string id = call.rest.substr(0, call.rest.size() - kCancel.size());
  RETURN_IF_ERROR(store_->CancelBatch(id, call.owner, std::time(nullptr)));
  runner_.Wake();
  ASSIGN_OR_RETURN(const Batch batch, store_->FindBatch(id, call.owner));
  return Json(BatchJson(batch));
}

}  // namespace fulger
