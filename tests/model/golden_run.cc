#include "tests/model/golden_run.h"

#include <algorithm>
#include <cmath>

#include "tests/support/golden_checkpoint.h"

namespace fulger {

absl::StatusOr<std::unique_ptr<GoldenCheckpoint>> GoldenCheckpoint::Make(const std::string& case_name,
                                                                         DType dtype) {
  ASSIGN_OR_RETURN(golden::ModelCase golden, golden::ModelCase::Load(case_name));
  std::unique_ptr<GoldenCheckpoint> checkpoint(
      new GoldenCheckpoint(fmt::format("{}_{}", case_name, Name(dtype)), std::move(golden)));
  RETURN_IF_ERROR(WriteGoldenCheckpoint(checkpoint->golden_, checkpoint->dir(), dtype));
  return checkpoint;
}

absl::StatusOr<std::vector<int32_t>> GoldenCheckpoint::ExpectedTokens() const {
  ASSIGN_OR_RETURN(const std::span<const int32_t> ids, golden_.Ints("greedy_ids"));
  return std::vector<int32_t>(ids.begin(), ids.end());
}

absl::StatusOr<DriverRequest> GoldenCheckpoint::Request(uint64_t id, int64_t chunk) const {
  ASSIGN_OR_RETURN(const std::span<const int32_t> prompt, golden_.Ints("prompt_ids"));
  ASSIGN_OR_RETURN(const std::span<const int32_t> answer, golden_.Ints("greedy_ids"));
  DriverRequest request{.id = id, .prompt = {prompt.begin(), prompt.end()}, .pictures = {}, .sampling = {}};
  request.chunk = chunk;
  request.sampling.set_max_tokens(static_cast<int32_t>(answer.size()));
  request.sampling.set_logprobs(-1);
  // Pictures in order: each starts at the next run of its image token.
  ASSIGN_OR_RETURN(const ModelConfig config, LoadModelConfig(dir()));
  int64_t from = 0;
  for (size_t i = 0; i < golden_.images().size(); ++i) {
    const golden::Image& image = golden_.images()[i];
    while (from < static_cast<int64_t>(prompt.size()) &&
           prompt[static_cast<size_t>(from)] != config.image_token_id)
      ++from;
    request.pictures.push_back({.key = GoldenPicture(image, config.vision->image_size, i).key,
                                .position = from,
                                .rows = image.tokens});
    from += image.tokens;
  }
  return request;
}

absl::Status GoldenCheckpoint::Encode(ThreadReplica& replica) const {
  for (size_t i = 0; i < golden_.images().size(); ++i) {
    const golden::Image& image = golden_.images()[i];
    replica.Encode(
        {std::make_shared<PictureTiles>(GoldenPicture(image, replica.config().vision->image_size, i))});
    ASSIGN_OR_RETURN(const int64_t rows, replica.NextPicture());
    if (rows != image.tokens) {
      return Internal("picture {} of {}: {} rows, the reference has {}", i, golden_.name(), rows,
                      image.tokens);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<LogitsRecorder> PrefillLogits(const GoldenCheckpoint& checkpoint, bool weights_as_f32,
                                             const Layout& layout) {
  LogitsRecorder recorder;
  ThreadReplicaOptions options;
  options.logits = &recorder;
  options.weights_as_f32 = weights_as_f32;
  ASSIGN_OR_RETURN(auto replica, ThreadReplica::Start(checkpoint.dir(), layout, options));
  RETURN_IF_ERROR(checkpoint.Encode(*replica));
  PlanDriver driver(*replica, options.runner.block_size, options.runner.blocks, options.runner.slots);
  ASSIGN_OR_RETURN(DriverRequest request, checkpoint.Request(1));
  request.sampling.set_max_tokens(1);
  RETURN_IF_ERROR(driver.Run({request}).status());
  return recorder;
}

std::vector<double> RelativeErrors(const LogitsRecorder& exact, const LogitsRecorder& other) {
  std::vector<double> errors;
  for (const auto& [position, row] : exact.rows()) {
    const auto& theirs = other.rows().at(position);
    double difference = 0, norm = 0;
    for (size_t v = 0; v < row.size(); ++v) {
      difference += std::pow(static_cast<double>(row[v]) - static_cast<double>(theirs[v]), 2);
      norm += std::pow(static_cast<double>(row[v]), 2);
    }
    errors.push_back(std::sqrt(difference / norm));
  }
  std::sort(errors.begin(), errors.end());
  return errors;
}

}  // namespace fulger
