// fulger-prefix-bench: time to the first token with and without a hit in the prefix cache, in one run: a
// document of 8k tokens that several questions share, and the turns of a conversation. Real layers (a random
// model of 12 million parameters) on one CPU rank; the whole way from the engine to the token.
#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <iostream>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/log.h"
#include "coordinator/engine/engine.h"
#include "tests/bench/quantile.h"
#include "tests/bench/random_checkpoint.h"
#include "tests/support/thread_backend.h"

namespace fulger {
namespace {

constexpr char kConfig[] = R"({"architectures": ["MiniMaxText01ForCausalLM"], "model_type": "minimax_text_01",
 "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 8, "num_attention_heads": 4,
 "num_key_value_heads": 2, "head_dim": 64, "num_local_experts": 4, "num_experts_per_tok": 2, "hidden_act": "silu",
 "vocab_size": 4096, "rms_norm_eps": 1e-05, "max_position_embeddings": 16384, "tie_word_embeddings": false,
 "attn_type_list": [0, 0, 0, 0, 0, 0, 0, 1], "rope_theta": 10000000, "rotary_dim": 32, "postnorm": true,
 "shared_intermediate_size": [0], "shared_moe_mode": "sigmoid",
 "layernorm_full_attention_alpha": 2.0, "layernorm_full_attention_beta": 1.0,
 "layernorm_linear_attention_alpha": 2.0, "layernorm_linear_attention_beta": 1.0,
 "layernorm_mlp_alpha": 2.0, "layernorm_mlp_beta": 1.0})";

class TimingSink final : public ResponseSink {
 public:
  Next OnToken(const Token& token) override {
    std::lock_guard lock(mu_);
    if (tokens_.empty()) first_ = std::chrono::steady_clock::now();
    tokens_.push_back(token.id);
    return Next::kContinue;
  }
  void OnDone(const Completion& completion) override {
    std::lock_guard lock(mu_);
    done_ = completion;
    changed_.notify_all();
  }
  Completion Wait() {
    std::unique_lock lock(mu_);
    changed_.wait(lock, [this] { return done_.has_value(); });
    return *done_;
  }
  std::chrono::steady_clock::time_point first() const { return first_; }
  const std::vector<int32_t>& tokens() const { return tokens_; }

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  std::chrono::steady_clock::time_point first_;
  std::vector<int32_t> tokens_;
  std::optional<Completion> done_;
};

struct Answer {
  double first_token = 0;  // seconds
  int64_t cached = 0;
  std::vector<int32_t> tokens;
};

class Bench {
 public:
  Bench(const std::string& dir, int threads) {
    options_.weights_as_f32 = false;
    options_.runner = {.blocks = 2048, .block_size = 16, .slots = 24, .max_step_tokens = 2048};
    options_.make_device = [threads] { return MakeDevice("cpu", DeviceOptions{.threads = threads}); };
    backend_ = std::make_unique<ThreadBackend>(dir, Layout{}, options_);
    engine_ = Engine::Create({.max_running_requests = 8, .anchors = 16}, {backend_.get()}, &clock_);
  }
  ~Bench() {
    backend_.reset();
    engine_.reset();
  }
  absl::Status Start() { return backend_->Up(engine_->Events(0)); }

  absl::StatusOr<Answer> Ask(const std::vector<int32_t>& prompt, std::vector<int64_t> borders, bool anchors) {
    EngineRequest request{.id = std::to_string(++requests_), .prompt = prompt, .images = {}, .sampling = {}};
    request.sampling.set_max_tokens(24);
    request.sampling.set_logprobs(-1);
    request.borders = std::move(borders);
    request.use_anchors = anchors;
    auto sink = std::make_shared<TimingSink>();
    const auto start = std::chrono::steady_clock::now();
    RETURN_IF_ERROR(engine_->Submit(std::move(request), sink));
    const Completion completion = sink->Wait();
    RETURN_IF_ERROR(completion.error);
    return Answer{.first_token = std::chrono::duration<double>(sink->first() - start).count(),
                  .cached = completion.cached_tokens,
                  .tokens = sink->tokens()};
  }

 private:
  ThreadReplicaOptions options_;
  SteadyClock clock_;
  std::unique_ptr<ThreadBackend> backend_;
  std::unique_ptr<Engine> engine_;
  int requests_ = 0;
};

void Append(std::vector<int32_t>* prompt, int64_t count, int32_t seed) {
  uint32_t state = static_cast<uint32_t>(seed) * 2654435761U + 1;
  for (int64_t i = 0; i < count; ++i) {
    state = state * 1664525 + 1013904223;
    prompt->push_back(static_cast<int32_t>(state >> 8) % 4000 + 3);
  }
}

// Each question to the document once without and once with the cache; answers must agree.
absl::Status Document(Bench& bench, int64_t length, int questions) {
  std::vector<int32_t> document;
  Append(&document, length, 1);
  const auto end = static_cast<int64_t>(document.size());
  std::vector<double> cold, hit;
  for (int q = 0; q <= questions; ++q) {
    std::vector<int32_t> prompt = document;
    Append(&prompt, 32, 100 + q);
    ASSIGN_OR_RETURN(const Answer without, bench.Ask(prompt, {end}, false));
    ASSIGN_OR_RETURN(const Answer with, bench.Ask(prompt, {end}, true));
    if (with.tokens != without.tokens) return Internal("question {}: another answer with the cache", q);
    if (q == 0) continue;  // it leaves the anchor
    if (with.cached != end)
      return Internal("question {}: {} tokens cached, expected {}", q, with.cached, end);
    cold.push_back(without.first_token);
    hit.push_back(with.first_token);
  }
  std::printf(
      "document of %ld tokens, %d questions: first token %.1f ms without, %.1f ms with a hit (median): "
      "%.1f times shorter\n",
      length, questions, 1e3 * Median(cold), 1e3 * Median(hit), Median(cold) / Median(hit));
  return absl::OkStatus();
}

absl::Status Conversation(Bench& bench, int turns, int64_t tokens) {
  std::vector<int32_t> prompt;
  std::vector<int64_t> borders;
  Append(&prompt, 512, 7);  // the system prompt
  borders.push_back(std::ssize(prompt));
  std::vector<double> ratios;
  for (int turn = 1; turn <= turns; ++turn) {
    Append(&prompt, tokens, 1000 + turn);
    borders.push_back(std::ssize(prompt));
    Append(&prompt, 4, 9999);  // the head of an answer
    ASSIGN_OR_RETURN(const Answer without, bench.Ask(prompt, borders, false));
    ASSIGN_OR_RETURN(const Answer with, bench.Ask(prompt, borders, true));
    if (with.tokens != without.tokens) return Internal("turn {}: another answer with the cache", turn);
    std::printf("turn %2d, %5zu tokens, %5ld cached: %7.1f ms without, %6.1f ms with, %.1f times shorter\n",
                turn, prompt.size(), with.cached, 1e3 * without.first_token, 1e3 * with.first_token,
                without.first_token / with.first_token);
    ratios.push_back(without.first_token / with.first_token);
    prompt.insert(prompt.end(), with.tokens.begin(), with.tokens.end());
    borders.push_back(std::ssize(prompt));
  }
  return absl::OkStatus();
}

absl::Status Run(const std::string& dir, int threads) {
  RETURN_IF_ERROR(WriteRandomCheckpoint(dir, kConfig));
  Bench bench(dir, threads);
  RETURN_IF_ERROR(bench.Start());
  RETURN_IF_ERROR(Document(bench, 8192, 5));
  return Conversation(bench, 12, 200);
}

}  // namespace
}  // namespace fulger

int main(int argc, char** argv) {
  CLI::App app("Time to the first token with and without the prefix cache", "fulger-prefix-bench");
  std::string dir = "build/bench-checkpoint-small";
  int threads = static_cast<int>(std::thread::hardware_concurrency());
  app.add_option("--dir", dir, "where the random checkpoint is kept (25 MB)")->capture_default_str();
  app.add_option("--threads", threads, "compute threads")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  fulger::InitLogging("bench");
  const absl::Status status = fulger::Run(dir, threads);
  if (!status.ok()) std::cerr << status << "\n";
  return status.ok() ? 0 : 1;
}
