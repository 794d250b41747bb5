// For tests: a frontend without a model. The test plays the engine: it takes what was submitted and calls the
// handlers itself, or sets a script that answers every request at once.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/frontend/field_error.h"
#include "coordinator/frontend/frontend.h"

namespace fulger {

class FakeFrontend final : public Frontend {
 public:
  struct Submission {
    GenerateInput input;
    TextHandlers handlers;
    // Whether more is wanted.
    bool Token(const std::string& text, int32_t id = 7, bool last = false) {
      TextDelta delta;
      delta.text = text;
      delta.id = id;
      delta.last = last;
      return handlers.on_delta(std::move(delta));
    }
    void Done(const std::string& reason, int64_t tokens, const std::string& stop = "") {
      TextResult result;
      result.finish_reason = reason;
      result.stop_string = stop;
      result.prompt_tokens = 5;
      result.completion_tokens = tokens;
      result.cached_tokens = 2;
      handlers.on_done(result);
    }
  };

  FakeFrontend() {
    card_.id = "tiny";
    card_.model_type = "minimax_vl_01";
    card_.max_context = 8192;
    card_.vocab = 1000;
    stats.ready = true;
    stats.seconds_since_step = 0;
  }

  absl::Status Generate(GenerateInput input, TextHandlers handlers) override {
    std::function<void(Submission&)> run;
    auto submission = std::make_shared<Submission>();
    {
      std::lock_guard lock(mu_);
      if (!refuse.ok()) return refuse;
      if (refuse_after >= 0 && static_cast<int>(submissions_.size()) >= refuse_after) {
        return ResourceExhausted("the queue is full");
      }
      run = script;
      *submission = {std::move(input), std::move(handlers)};
    }
    if (submission->handlers.on_prompt)
      submission->handlers.on_prompt({.prompt_tokens = 5, .image_tokens = 1});
    {
      std::lock_guard lock(mu_);
      submissions_.push_back(submission);
    }
    changed_.notify_all();
    if (run) run(*submission);
    return absl::OkStatus();
  }
  bool Cancel(const std::string& id) override {
    {
      std::lock_guard lock(mu_);
      cancelled_.push_back(id);
    }
    changed_.notify_all();
    return true;
  }
  absl::StatusOr<std::vector<int32_t>> Tokenize(const GenerateInput& input) const override {
    if (!input.messages.empty()) return std::vector<int32_t>{1, 2, 3};
    return std::vector<int32_t>(input.text->begin(), input.text->end());
  }
  absl::StatusOr<std::string> Detokenize(const std::vector<int32_t>& ids) const override {
    std::string text;
    for (const int32_t id : ids) text += TokenText(id);
    return text;
  }
  // Ids below 128 are their ASCII character, 200 is half of one, others spell themselves.
  std::string TokenText(int32_t id) const override {
    if (id == 200) return "\xc3";
    return id < 128 ? std::string(1, static_cast<char>(id)) : "<" + std::to_string(id) + ">";
  }
  const ModelCard& card() const override { return card_; }
  EngineStats Stats() const override {
    std::lock_guard lock(mu_);
    return stats;
  }

  // Waits for the request number `index` of this frontend's life.
  std::shared_ptr<Submission> Wait(size_t index) {
    std::unique_lock lock(mu_);
    const bool came =
        changed_.wait_for(lock, std::chrono::seconds(20), [&] { return submissions_.size() > index; });
    return came ? submissions_[index] : nullptr;
  }
  bool WaitForCancel(const std::string& id) {
    std::unique_lock lock(mu_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [&] {
      return std::find(cancelled_.begin(), cancelled_.end(), id) != cancelled_.end();
    });
  }
  size_t submitted() const {
    std::lock_guard lock(mu_);
    return submissions_.size();
  }
  void SetStats(const EngineStats& value) {
    std::lock_guard lock(mu_);
    stats = value;
  }

  // Set before the first request.
  absl::Status refuse;
  int refuse_after = -1;
  std::function<void(Submission&)> script;
  EngineStats stats;

 private:
  ModelCard card_;
  mutable std::mutex mu_;
  std::condition_variable changed_;
  std::vector<std::shared_ptr<Submission>> submissions_;
  std::vector<std::string> cancelled_;
};

}  // namespace fulger
