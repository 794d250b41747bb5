// Workers and an engine that only write down what they are told.
#pragma once

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
  void OnFeaturesReady(uint64_t, const std::string& key, const absl::Status& status) override {
    features.emplace_back(key, status);
  }

  std::vector<std::pair<uint64_t, ReplicaCapacity>> ups;
  std::vector<std::string> downs;
  std::vector<std::shared_ptr<const v1::StepResult>> results;
  std::vector<std::pair<std::string, absl::Status>> features;
  std::vector<uint64_t> probes;  // epochs
};

// Two stages of two ranks and one vision rank: ranks 0 and 2 lead their stages, rank 4 has the tower.
inline Plan FiveRanks() {
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
  layout.vision = 1;
  auto plan = MakePlan(config, layout);
  FULGER_CHECK(plan.ok(), "{}", Message(plan.status()));
  return *plan;
}

}  // namespace fulger
