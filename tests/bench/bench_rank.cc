#include "tests/bench/bench_rank.h"

#include <chrono>

#include "worker/comm/fabric_factory.h"
#include "worker/exec/row_maximum.h"

namespace fulger {
namespace {

constexpr int64_t kBlockSize = 16;

}  // namespace

absl::StatusOr<std::unique_ptr<BenchRank>> BenchRank::Start(const BenchRankOptions& options) {
  std::unique_ptr<BenchRank> rank(new BenchRank(options));
  RETURN_IF_ERROR(rank->Initialise());
  return rank;
}

absl::Status BenchRank::Initialise() {
  ASSIGN_OR_RETURN(config_, LoadModelConfig(options_.dir));
  if (config_.vision.has_value()) {
    ASSIGN_OR_RETURN(processor_, LoadImageProcessorConfig(options_.dir));
  }
  ASSIGN_OR_RETURN(fabric_, MakeFabric(options_.transport, {}));
  Layout layout;
  layout.pp = options_.pp;
  layout.tp = fabric_->size() / options_.pp;
  layout.ep = options_.ep;
  layout.experts = options_.experts;
  layout.projections = options_.projections;
  ASSIGN_OR_RETURN(plan_, MakePlan(config_, layout));
  table_ = TensorTable(config_);
  ASSIGN_OR_RETURN(device_, MakeTimedCpuDevice(options_.device, &ops_));
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(options_.dir, config_));
  LoadOptions load{.threads = 2};
  ASSIGN_OR_RETURN(load.reduce_row_maxima, MakeRowMaximum(plan_, rank(), *fabric_, *device_));
  ASSIGN_OR_RETURN(weights_,
                   LoadWeights(checkpoint, plan_.ranks[static_cast<size_t>(rank())], *device_, load));
  RunnerOptions runner{.blocks = options_.max_batch * ((options_.max_context + kBlockSize - 1) / kBlockSize),
                       .block_size = kBlockSize,
                       .slots = options_.max_batch,
                       .max_step_tokens = options_.max_tokens};
  ASSIGN_OR_RETURN(runner_, RankRunner::Create({.config = config_,
                                                .processor = processor_.has_value() ? &*processor_ : nullptr,
                                                .plan = plan_,
                                                .rank = rank(),
                                                .table = table_,
                                                .weights = *weights_,
                                                .device = *device_,
                                                .fabric = *fabric_,
                                                .activity = activity_,
                                                .options = runner}));
  return absl::OkStatus();
}

absl::StatusOr<double> BenchRank::Run(const v1::StepPlan& plan) {
  const auto start = std::chrono::steady_clock::now();
  ASSIGN_OR_RETURN(const v1::StepResult result, runner_->Run(plan));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (result.errors_size() > 0) return DataLoss("{}", result.errors(0).message());
  return seconds;
}

int32_t BenchRank::RandomId() {
  while (true) {
    random_ = random_ * 6364136223846793005U + 1442695040888963407U;
    const auto id = static_cast<int32_t>((random_ >> 33) % static_cast<uint64_t>(config_.text.vocab));
    if (id != config_.image_token_id) return id;  // that one would want a picture
  }
}

absl::StatusOr<double> BenchRank::Prefill(int64_t batch, int64_t tokens) {
  v1::StepPlan plan;
  plan.set_step(++step_);
  for (const uint64_t id : batch_) plan.add_retired(id);
  batch_.clear();
  const int64_t blocks_each = (options_.max_context + kBlockSize - 1) / kBlockSize;
  for (int64_t i = 0; i < batch; ++i) {
    const uint64_t id = next_sequence_++;
    batch_.push_back(id);
    v1::Operation* zero = plan.add_operations();
    zero->set_kind(v1::Operation::ZERO_SLOT);
    zero->set_to(static_cast<int32_t>(i));
    v1::NewSequence* sequence = plan.add_new_sequences();
    sequence->set_sequence(id);
    sequence->set_slot(static_cast<int32_t>(i));
    sequence->set_prompt_count(static_cast<int32_t>(tokens));
    for (int64_t t = 0; t < tokens; ++t) {
      sequence->add_ids(RandomId());
    }
    sequence->mutable_sampling()->set_max_tokens(static_cast<int32_t>(options_.max_context));
    sequence->mutable_sampling()->set_logprobs(-1);
    v1::BlockAddition* blocks = plan.add_blocks();
    blocks->set_sequence(id);
    for (int64_t b = 0; b < blocks_each; ++b) blocks->add_blocks(static_cast<int32_t>(i * blocks_each + b));
    v1::Row* row = plan.add_rows();
    row->set_sequence(id);
    row->set_count(static_cast<int32_t>(tokens));
    row->set_sample(true);
  }
  position_ = tokens;
  return Run(plan);
}

absl::StatusOr<double> BenchRank::Decode() {
  v1::StepPlan plan;
  plan.set_step(++step_);
  for (const uint64_t id : batch_) {
    v1::Row* row = plan.add_rows();
    row->set_sequence(id);
    row->set_position(position_);
    row->set_count(1);
    row->set_result_of_step(step_ - 1);
    row->set_sample(true);
  }
  ++position_;
  return Run(plan);
}

}  // namespace fulger
