// Workers and an engine that only write down what they are told.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "coordinator/cluster/replica.h"
#include "model/layout.h"

namespace fulger {

// Keeps what was sent.
class FakeConnection final : public WorkerConnection {
 public:
  void Send(std::shared_ptr<const v1::CoordinatorMessage> message) override {
    if (!finished) sent.push_back(std::move(message));
  }
  void Finish() override { finished = true; }
  const std::string& peer() const override { return peer_; }

  std::vector<std::shared_ptr<const v1::CoordinatorMessage>> Sent(
      v1::CoordinatorMessage::BodyCase body) const {
    std::vector<std::shared_ptr<const v1::CoordinatorMessage>> found;
    for (const auto& m : sent) {
      if (m->body_case() == body) found.push_back(m);
    }
    return found;
  }
  // Of the Shutdown that was sent; empty: none.
  std::string ShutdownReason() const {
    const auto all = Sent(v1::CoordinatorMessage::kShutdown);
    return all.empty() ? "" : all.back()->shutdown().reason();
  }

  std::vector<std::shared_ptr<const v1::CoordinatorMessage>> sent;
  bool finished = false;

 private:
  std::string peer_ = "test";
};

class FakeEvents final : public BackendEvents {
 public:
  void OnUp(uint64_t epoch, const ReplicaCapacity& capacity) override { ups.emplace_back(epoch, capacity); }
  void OnDown(const absl::Status& why) override { downs.push_back(Message(why)); }
  void OnResult(std::shared_ptr<const v1::StepResult> result) override { results.push_back(result); }
  void OnProbeDue(uint64_t epoch) override { probes.push_back(epoch); }
  void OnStatesSaved(uint64_t, std::vector<v1::StatesSaved> ranks) override {
    saved.push_back(std::move(ranks));
  }
  void OnStateFetched(uint64_t, uint64_t id, const absl::Status& status) override {
    fetched.emplace_back(id, status);
  }
  void OnFeaturesReady(uint64_t, const std::string& key, const absl::Status& status) override {
    features.emplace_back(key, status);
  }

  std::vector<std::pair<uint64_t, ReplicaCapacity>> ups;
  std::vector<std::string> downs;
  std::vector<std::shared_ptr<const v1::StepResult>> results;
  std::vector<std::pair<std::string, absl::Status>> features;
  std::vector<uint64_t> probes;  // epochs
  std::vector<std::vector<v1::StatesSaved>> saved;
  std::vector<std::pair<uint64_t, absl::Status>> fetched;
};

// Two stages of two ranks and one vision rank: ranks 0 and 2 lead their stages, rank 4 has the tower. With
// `vision` 0 stage 0 has it.
inline Plan FiveRanks(int vision = 1) {
  ModelConfig config;
  TextConfig& t = config.text;
  t.vocab = 37;
  t.hidden = 24;
  t.expert_width = 48;
  t.heads = 4;
  t.kv_heads = 2;
  t.head_dim = 8;
  t.experts = 4;
  t.experts_per_token = 2;
  t.rotary_dim = 4;
  t.layer_kinds = {LayerKind::kLightning, LayerKind::kSoftmax, LayerKind::kLightning, LayerKind::kSoftmax};
  config.vision = VisionConfig{
      .hidden = 8, .intermediate = 16, .layers = 2, .heads = 2, .image_size = 8, .patch_size = 4};
  config.image_token_id = 3;
  config.image_grid_pinpoints = {{8, 8}};
  Layout layout;
  layout.pp = 2;
  layout.tp = 2;
  layout.ep = 2;
  layout.vision = vision;
  auto plan = MakePlan(config, layout);
  FULGER_CHECK(plan.ok(), "{}", Message(plan.status()));
  return *plan;
}

// Of FiveRanks.
inline constexpr int kRanks = 5;

// A replica of five ranks, with a clock that the test owns.
class ReplicaTest : public testing::Test {
 protected:
  explicit ReplicaTest(int vision = 1)
      : plan_(FiveRanks(vision)), replica_(plan_, OwnTime(Options()), &clock_) {
    replica_.SetEvents(&events_);
    replica_.SetOnFailure([this](const absl::Status& why) { failures_.push_back(Message(why)); });
  }

  static ReplicaOptions Options() {
    ReplicaOptions options;
    options.version = "1.2.3";
    options.model_dir = "/models/demo";
    options.fingerprint = "abcd";
    options.transport = "mpi";
    options.max_step_tokens = 512;
    options.max_sequences = 8;
    options.cache_tokens = 4096;
    options.max_context = 1000;
    return options;
  }

  // The coordinator's host has a clock that the test owns as well.
  double WallSeconds() const { return 1.7e9 + Seconds(clock_.Now().time_since_epoch()); }
  ReplicaOptions OwnTime(ReplicaOptions options) const {
    options.wall_seconds = [this] { return WallSeconds(); };
    return options;
  }

  void Join(int rank) {
    workers_[rank] = std::make_shared<FakeConnection>();
    v1::WorkerMessage message;
    v1::Hello* hello = message.mutable_hello();
    hello->set_version("1.2.3");
    hello->set_rank_hint(rank);
    hello->set_world_hint(plan_.layout.ranks());
    hello->set_host("h" + std::to_string(rank));
    hello->set_pid(1000 + rank);
    hello->set_device("cpu");
    hello->set_transport("mpi");
    hello->set_peer_address("127.0.0.1:" + std::to_string(5000 + rank));
    replica_.OnMessage(workers_[rank], message);
  }
  void JoinAll() {
    for (int r = 0; r < plan_.layout.ranks(); ++r) Join(r);
  }
  // A message of the present epoch, unless said otherwise.
  v1::WorkerMessage From(int rank, uint64_t epoch = 0) {
    v1::WorkerMessage message;
    message.set_epoch(epoch != 0 ? epoch : replica_.Info().epoch);
    message.set_rank(rank);
    return message;
  }
  void Send(int rank, const v1::WorkerMessage& message) { replica_.OnMessage(workers_[rank], message); }
  void Ready(int rank, int blocks = 100, int slots = 8) {
    v1::WorkerMessage message = From(rank);
    message.mutable_ready()->set_plan_hash(plan_.hash);
    message.mutable_ready()->set_blocks(blocks);
    message.mutable_ready()->set_slots(slots);
    message.mutable_ready()->set_arithmetic("cpu fma");
    (*message.mutable_ready()->mutable_bytes())["kv"] = 10 + rank;
    Send(rank, message);
  }
  void Serve() {
    JoinAll();
    for (int r = 0; r < plan_.layout.ranks(); ++r) Ready(r);
    ASSERT_EQ(replica_.Info().phase, ReplicaPhase::kServing);
  }
  void Pong(int rank, const std::string& activity, uint64_t last_step = 0) {
    v1::WorkerMessage message = From(rank);
    message.mutable_pong()->set_last_step(last_step);
    message.mutable_pong()->set_activity(activity);
    Send(rank, message);
  }
  void Submit(uint64_t step) {
    auto plan = std::make_shared<v1::StepPlan>();
    plan->set_epoch(replica_.Info().epoch);
    plan->set_step(step);
    replica_.Submit(plan);
  }

  Plan plan_;
  ManualClock clock_;
  FakeEvents events_;
  Replica replica_;
  std::vector<std::string> failures_;
  std::map<int, std::shared_ptr<FakeConnection>> workers_;
};

}  // namespace fulger
