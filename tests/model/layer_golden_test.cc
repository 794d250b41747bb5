// Inside the model, one rank in float32, against the reference: the packed feature rows of a case's pictures,
// and the state of every lightning head after its prompt.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <string>

#include "model/cost/rank_memory.h"
#include "model/picture/processor_config.h"
#include "tests/model/golden_run.h"
#include "tests/support/golden_checkpoint.h"
#include "tests/support/status_matchers.h"
#include "worker/comm/single_fabric.h"
#include "worker/layers/decoder_stack.h"
#include "worker/vision/packing.h"
#include "worker/vision/vision_tower.h"
#include "worker/weights/loader.h"

namespace fulger {
namespace {

constexpr double kBound = 1e-4;  // of the row's L2 norm; of a head's state, of its Frobenius norm
constexpr int64_t kBlockSize = 16;

double Norm(std::span<const float> values) {
  double sum = 0;
  for (const float v : values) sum += static_cast<double>(v) * static_cast<double>(v);
  return std::sqrt(sum);
}

class LayerGolden : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(checkpoint_, GoldenCheckpoint::Make(GetParam()));
    ASSERT_OK_AND_ASSIGN(config_, LoadModelConfig(checkpoint_->dir()));
    ASSERT_OK_AND_ASSIGN(device_, MakeDevice("cpu", DeviceOptions{.threads = 1}));
    ASSERT_OK_AND_ASSIGN(plan_, MakePlan(config_, checkpoint_->formats()));
    table_ = TensorTable(config_);
    ASSERT_OK_AND_ASSIGN(const Checkpoint files, Checkpoint::Open(checkpoint_->dir(), config_));
    ASSERT_OK_AND_ASSIGN(weights_, LoadWeights(files, plan_.ranks[0], *device_, LoadOptions{.threads = 1}));
    const CacheSizes sizes{.blocks = 0, .slots = 1, .max_step_tokens = 4096};
    ASSERT_OK_AND_ASSIGN(
        arena_,
        Arena::Make(*device_, static_cast<size_t>(ArenaBytes(config_, plan_.layout, plan_.ranks[0], sizes))));
  }

  WeightLookup Weights() const { return WeightLookup(table_, *weights_); }
  ExecContext Context() {
    return {.device = *device_,
            .stream = device_->stream(),
            .ops = device_->ops(),
            .arena = *arena_,
            .stage = *alone_,
            .activity = activity_};
  }
  // f32 [tokens, hidden] of all pictures in order.
  absl::StatusOr<std::vector<float>> PackedRows();

  std::unique_ptr<GoldenCheckpoint> checkpoint_;
  ModelConfig config_;
  std::unique_ptr<Device> device_;
  Plan plan_;
  std::vector<TensorSpec> table_;
  std::optional<WeightStore> weights_;
  std::optional<Arena> arena_;
  std::unique_ptr<Collective> alone_ = MakeSingleCollective("alone", std::make_shared<Failure>());
  Activity activity_;
};

absl::StatusOr<std::vector<float>> LayerGolden::PackedRows() {
  std::vector<float> packed;
  if (checkpoint_->golden().images().empty()) return packed;
  ASSIGN_OR_RETURN(const ImageProcessorConfig processor, LoadImageProcessorConfig(checkpoint_->dir()));
  ASSIGN_OR_RETURN(const VisionTower tower, VisionTower::Make(config_, Weights(), processor));
  const int64_t side = config_.vision->image_size;
  const int64_t patches = config_.vision->patches();
  const auto hidden = static_cast<size_t>(config_.text.hidden);
  for (const golden::Image& image : checkpoint_->golden().images()) {
    const std::vector<uint8_t> tiles = golden::Tiles(image, side);
    std::vector<float> features(static_cast<size_t>(image.tiles * patches) * hidden);
    ExecContext ctx = Context();
    RETURN_IF_ERROR(tower.Encode(
        ctx, TensorView(tiles.data(), DType::kU8, {image.tiles, side, side, 3}),
        MutTensorView(features.data(), DType::kF32, {image.tiles * patches, config_.text.hidden})));
    ASSIGN_OR_RETURN(const ImageGrid grid, SelectGrid({.height = static_cast<int>(image.height),
                                                       .width = static_cast<int>(image.width)},
                                                      processor));
    for (const int32_t row : PackingIndex(grid, [&](int64_t t) { return t * patches; })) {
      const float* from = row == kNewlineRow ? tower.newline().data<float>()
                                             : features.data() + static_cast<size_t>(row) * hidden;
      packed.insert(packed.end(), from, from + hidden);
    }
  }
  return packed;
}

TEST_P(LayerGolden, PackedFeaturesAndLightningStates) {
  const golden::ModelCase& golden = checkpoint_->golden();
  const auto hidden = static_cast<size_t>(config_.text.hidden);
  ASSERT_OK_AND_ASSIGN(const std::vector<float> packed, PackedRows());
  if (!packed.empty()) {
    ASSERT_OK_AND_ASSIGN(const auto index, golden.Ints("packed_index"));
    ASSERT_OK_AND_ASSIGN(const auto first, golden.Floats("packed_first"));
    ASSERT_OK_AND_ASSIGN(const auto norm, golden.Floats("packed_norm"));
    ASSERT_GE(index.size(), 4U);
    const size_t width = first.size() / index.size();
    EXPECT_EQ(packed.size() / hidden, static_cast<size_t>(index.back()) + 1) << "rows in all";
    for (size_t i = 0; i < index.size(); ++i) {
      const std::span<const float> row(packed.data() + static_cast<size_t>(index[i]) * hidden, hidden);
      EXPECT_NEAR(Norm(row), norm[i], kBound * static_cast<double>(norm[i])) << "packed row " << index[i];
      for (size_t c = 0; c < width; ++c) {
        EXPECT_NEAR(row[c], first[i * width + c], kBound * static_cast<double>(norm[i]))
            << "packed row " << index[i] << ", column " << c;
      }
    }
  }

  // The prompt in one step, its features in place.
  ASSERT_OK_AND_ASSIGN(const auto prompt, golden.Ints("prompt_ids"));
  const auto t = static_cast<int64_t>(prompt.size());
  const int64_t blocks = (t + kBlockSize - 1) / kBlockSize;
  const RankPlan& rank = plan_.ranks[0];
  ASSERT_OK_AND_ASSIGN(const KvCache kv,
                       KvCache::Make(config_, rank, *device_, blocks, kBlockSize, kCacheDType));
  ASSERT_OK_AND_ASSIGN(const LightningStates states, LightningStates::Make(config_, rank, *device_, 1));
  ASSERT_OK_AND_ASSIGN(const DecoderStack stack,
                       DecoderStack::Make(config_, rank, Weights(), kv, states, *device_));
  ASSERT_OK_AND_ASSIGN(const TensorView embedding, Weights().Text(-1, "embed_tokens.weight"));
  std::vector<float> h;
  size_t feature = 0;
  for (const int32_t id : prompt) {
    const bool picture = !packed.empty() && id == config_.image_token_id;
    const float* from = picture ? packed.data() + hidden * feature++ : embedding.row<float>(id);
    h.insert(h.end(), from, from + hidden);
  }
  ASSERT_EQ(feature * hidden, packed.size());
  std::vector<int32_t> health(prompt.size(), kHealthy), table(static_cast<size_t>(blocks));
  std::iota(table.begin(), table.end(), 0);
  const LightningSegment lightning{.row = 0, .count = t, .slot = 0};
  const AttentionSegment attention{.row = 0, .count = t, .position = 0, .blocks = table};
  ExecContext ctx = Context();
  ASSERT_OK(stack.Forward(ctx,
                          {.count = t,
                           .lightning = {&lightning, 1},
                           .attention = {&attention, 1},
                           .health = MutTensorView(health.data(), DType::kI32, {t})},
                          MutTensorView(h.data(), DType::kF32, {t, config_.text.hidden})));

  ASSERT_OK_AND_ASSIGN(const auto layers, golden.Ints("state_layers"));
  ASSERT_OK_AND_ASSIGN(const auto norms, golden.Floats("state_norm"));
  ASSERT_FALSE(layers.empty());
  const size_t heads = norms.size() / layers.size();
  ASSERT_EQ(heads, static_cast<size_t>(config_.text.heads));
  for (size_t l = 0; l < layers.size(); ++l) {
    const MutTensorView& state = states.states(layers[l]);
    const auto size = static_cast<size_t>(state.elements()) / heads;
    for (size_t i = 0; i < heads; ++i) {
      const double want = norms[l * heads + i];
      EXPECT_NEAR(Norm({state.data<float>() + i * size, size}), want, kBound * want)
          << "layer " << layers[l] << ", head " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, LayerGolden, testing::ValuesIn(golden::CaseNames()),
                         [](const auto& c) { return c.param; });

}  // namespace
}  // namespace fulger
