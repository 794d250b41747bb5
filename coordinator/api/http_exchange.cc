#include "coordinator/api/http_exchange.h"

#include <fmt/format.h>

#include <ctime>
#include <iterator>

#include "base/log.h"

namespace fulger {
namespace {

std::string HttpDate() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[40];
  const size_t n = std::strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &utc);
  return std::string(text, n);
}

// Answers that end with their head, whatever was asked.
bool HasBody(int status) { return status != 204 && status != 304; }

}  // namespace

void Exchange::AppendHead(int status, std::string_view content_type, const HttpHeaders& headers,
                          std::optional<size_t> length) {
  status_ = status;
  if (!length && !manner_.http11) manner_.keep_alive = false;  // the end of the body is the end of it all
  auto out = std::back_inserter(pending_);
  fmt::format_to(out, "HTTP/1.1 {} {}\r\nServer: fulger\r\nDate: {}\r\n", status, ReasonPhrase(status),
                 HttpDate());
  if (!content_type.empty()) fmt::format_to(out, "Content-Type: {}\r\n", content_type);
  if (length && HasBody(status)) fmt::format_to(out, "Content-Length: {}\r\n", *length);
  if (!length && manner_.http11) fmt::format_to(out, "Transfer-Encoding: chunked\r\n");
  fmt::format_to(out, "Connection: {}\r\n", manner_.keep_alive ? "keep-alive" : "close");
  if (!manner_.request_id.empty()) fmt::format_to(out, "x-request-id: {}\r\n", manner_.request_id);
  for (const auto& [name, value] : headers) {
    if (!manner_.request_id.empty() && name == "x-request-id") continue;
    if (value.find_first_of("\r\n") != std::string::npos) continue;  // never a second header
    fmt::format_to(out, "{}: {}\r\n", name, value);
  }
  pending_ += "\r\n";
}

void Exchange::PostFlush() {
  if (flushing_ || owner_ == nullptr) return;
  flushing_ = true;
  owner_->PostFlush();
}

void Exchange::Send(HttpResponse response) {
  std::function<void()> done;  // destroyed without the lock
  std::lock_guard lock(mu_);
  if (status_ != 0 || owner_ == nullptr) return;
  AppendHead(response.status, response.content_type, response.headers, response.body.size());
  if (!manner_.head && HasBody(response.status)) pending_ += response.body;
  ended_ = true;
  done.swap(on_gone_);
  PostFlush();
}

void Exchange::Begin(int status, std::string_view content_type, const HttpHeaders& headers) {
  std::lock_guard lock(mu_);
  if (status_ != 0 || owner_ == nullptr) return;
  AppendHead(status, content_type, headers, std::nullopt);
  PostFlush();
}

bool Exchange::Write(std::string_view data) {
  std::lock_guard lock(mu_);
  if (owner_ == nullptr || gone_) return false;
  if (manner_.head || data.empty()) return true;
  if (pending_.size() + in_flight_ + data.size() > max_unsent_) {
    LogInfo("{}: client is more than {} bytes behind: cut off", manner_.route, max_unsent_);
    gone_ = true;
    owner_->PostClose();
    return false;
  }
  if (manner_.http11) fmt::format_to(std::back_inserter(pending_), "{:x}\r\n", data.size());
  pending_ += data;
  if (manner_.http11) pending_ += "\r\n";
  PostFlush();
  return true;
}

void Exchange::AllowBehind(size_t bytes) {
  std::lock_guard lock(mu_);
  max_unsent_ += bytes;
}

void Exchange::End() {
  std::function<void()> done;
  std::lock_guard lock(mu_);
  if (owner_ == nullptr || ended_ || status_ == 0) return;
  if (manner_.http11 && !manner_.head) pending_ += "0\r\n\r\n";
  ended_ = true;
  done.swap(on_gone_);
  PostFlush();
}

void Exchange::OnGone(std::function<void()> gone) {
  {
    std::lock_guard lock(mu_);
    if (ended_) return;
    if (owner_ != nullptr) {
      on_gone_.swap(gone);
      return;
    }
  }
  gone();
}

void Exchange::Dropped() {
  bool begun = false;
  {
    std::lock_guard lock(mu_);
    if (ended_ || owner_ == nullptr) return;
    begun = status_ != 0;
    if (begun) owner_->PostClose();
  }
  LogError("{}: a handler gave no complete answer", manner_.route);
  if (!begun) Send(ErrorResponse(500, "the server did not answer this request"));
}

std::string Exchange::TakePending() {
  std::lock_guard lock(mu_);
  std::string taken;
  taken.swap(pending_);
  in_flight_ = taken.size();
  if (taken.empty()) flushing_ = false;
  return taken;
}

void Exchange::Detach(bool client_gone) {
  std::function<void()> gone;
  std::shared_ptr<ExchangeOwner> owner;  // released without the lock
  {
    std::lock_guard lock(mu_);
    owner.swap(owner_);
    gone.swap(on_gone_);
  }
  if (client_gone && gone) gone();
}

}  // namespace fulger
