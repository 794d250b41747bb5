// Runs golden cases on thread replicas: writes the case's checkpoint, encodes its pictures, generates its 64
// tokens.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "tests/golden/model/golden.h"
#include "tests/support/plan_builder.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/thread_replica.h"

namespace fulger {

// A case with its checkpoint on disk, shared by the replicas that load it.
class GoldenCheckpoint {
 public:
  static absl::StatusOr<std::unique_ptr<GoldenCheckpoint>> Make(const std::string& case_name,
                                                                DType dtype = DType::kF32);
  const golden::ModelCase& golden() const { return golden_; }
  const std::string& dir() const { return folder_.path(); }
  // How the case's answers want the weights held.
  Layout formats() const {
    const WeightFormat format = golden_.int8() ? WeightFormat::kInt8 : WeightFormat::kStored;
    return {.experts = format, .projections = format};
  }
  // The case's request: greedy, as many tokens as the reference made.
  absl::StatusOr<DriverRequest> Request(uint64_t id, int64_t chunk = 1 << 20) const;
  absl::StatusOr<std::vector<int32_t>> ExpectedTokens() const;
  // Encodes all pictures of the case on the replica and waits for them.
  absl::Status Encode(ThreadReplica& replica) const;

 private:
  GoldenCheckpoint(const std::string& name, golden::ModelCase golden)
      : golden_(std::move(golden)), folder_(name) {}
  golden::ModelCase golden_;
  testing_support::TempFolder folder_;
};

// Keeps every row's logits of one sequence.
class LogitsRecorder final : public LogitsObserver {
 public:
  void OnLogits(uint64_t, int64_t position, std::span<const float> logits) override {
    rows_[position].assign(logits.begin(), logits.end());
  }
  const std::map<int64_t, std::vector<float>>& rows() const { return rows_; }

 private:
  std::map<int64_t, std::vector<float>> rows_;
};

// The logits of every row of the case's prompt on one rank.
absl::StatusOr<LogitsRecorder> PrefillLogits(const GoldenCheckpoint& checkpoint, bool weights_as_f32,
                                             const Layout& layout = {});
// |other - exact| / |exact| of every row (L2), ascending.
std::vector<double> RelativeErrors(const LogitsRecorder& exact, const LogitsRecorder& other);

}  // namespace fulger
