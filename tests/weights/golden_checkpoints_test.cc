// The loader against checkpoints that other code wrote (tests/golden/model, plain python): every element of
// every rank's tensors is compared with the weight formula, which follows from the released name and the
// index.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "base/bfloat16.h"
#include "model/layout.h"
#include "tests/golden/model/golden.h"
#include "tests/support/memory_device.h"
#include "tests/support/status_matchers.h"
#include "worker/weights/loader.h"

namespace fulger {
namespace {

using testing_support::MemoryDevice;

struct Fixture {
  const char* folder;
  const char* model;  // whose goldens say the seed
  Naming naming;
  size_t files;
  DType dtype;
};

class GoldenCheckpoint : public testing::TestWithParam<Fixture> {
 protected:
  // The formula speaks of the name in the model's own release: without the prefix in a text model.
  static std::string FormulaName(const TensorSpec& spec, const ModelConfig& config) {
    return Locate(config, spec, config.vision ? Naming::kReleased : Naming::kReleasedText).name;
  }

  static void ExpectSlice(const TensorView& view, const TensorSpec& spec, const TensorSlice& slice,
                          const std::vector<float>& whole) {
    const int64_t inner = spec.shape.size() > 2 ? spec.elements() / spec.shape[0] / spec.shape[1] : 1;
    const int64_t stride = spec.elements() / spec.shape[0];
    ASSERT_EQ(view.elements(), SliceElements(spec, slice));
    int64_t i = 0;
    for (int64_t r = slice.rows.begin; r < slice.rows.end; ++r) {
      for (int64_t c = slice.columns.begin * inner; c < slice.columns.end * inner; ++c, ++i) {
        const float want = whole[static_cast<size_t>(r * stride + c)];
        if (view.dtype() == DType::kF32) {
          ASSERT_EQ(view.data<float>()[i], want) << spec.name << " " << i;
        } else {
          ASSERT_EQ(view.data<uint16_t>()[i], FloatToBF16(want)) << spec.name << " " << i;
        }
      }
    }
  }
};

TEST_P(GoldenCheckpoint, EveryElementIsTheFormulas) {
  const std::string dir = golden::CheckpointFolder(GetParam().folder);
  ASSERT_OK_AND_ASSIGN(const ModelConfig config, LoadModelConfig(dir));
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Checkpoint::Open(dir, config));
  ASSERT_OK(checkpoint.Complete());
  EXPECT_EQ(checkpoint.audit().naming, GetParam().naming);
  EXPECT_TRUE(checkpoint.audit().extra.empty());
  EXPECT_EQ(checkpoint.files().size(), GetParam().files);
  ASSERT_OK_AND_ASSIGN(const golden::ModelCase golden,
                       golden::ModelCase::Load(golden::CaseNames(GetParam().model).at(0)));

  std::vector<std::vector<float>> whole;
  for (const TensorSpec& spec : checkpoint.table()) {
    whole.push_back(golden::Weight(golden, FormulaName(spec, config), spec.shape));
  }
  Layout layout;
  layout.pp = 2;
  layout.tp = 2;
  layout.ep = 2;
  for (const Layout& l : {Layout{}, layout}) {
    ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(config, l));
    for (const RankPlan& rank : plan.ranks) {
      MemoryDevice device(/*host_accessible=*/true);
      ASSERT_OK_AND_ASSIGN(const WeightStore store, LoadWeights(checkpoint, rank, device, {}));
      EXPECT_EQ(store.bytes(), RankWeightBytes(checkpoint.table(), rank, GetParam().dtype));
      for (const TensorSlice& slice : RankTensors(checkpoint.table(), rank)) {
        const TensorSpec& spec = checkpoint.table()[slice.tensor];
        ASSERT_OK_AND_ASSIGN(const TensorView view, store.Get(spec.name));
        ExpectSlice(view, spec, slice, whole[slice.tensor]);
      }
    }
  }
}

// Row r of the uncut matrix has the scale max |row| / 127, wherever its columns lie, and integer q stands for
// the multiple of it that is nearest.
TEST_P(GoldenCheckpoint, Int8ExpertsCarryTheScalesOfUncutRows) {
  const std::string dir = golden::CheckpointFolder(GetParam().folder);
  ASSERT_OK_AND_ASSIGN(const ModelConfig config, LoadModelConfig(dir));
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Checkpoint::Open(dir, config));
  ASSERT_OK_AND_ASSIGN(const golden::ModelCase golden,
                       golden::ModelCase::Load(golden::CaseNames(GetParam().model).at(0)));
  const auto formula = [&](const TensorSpec& spec) {
    std::vector<float> values = golden::Weight(golden, FormulaName(spec, config), spec.shape);
    if (GetParam().dtype == DType::kBF16) {
      for (float& v : values) v = BF16ToFloat(FloatToBF16(v));
    }
    return values;
  };
  const auto largest = [](const std::vector<float>& values, const TensorSpec& spec, int64_t row,
                          Range columns) {
    float most = 0;
    for (int64_t c = columns.begin; c < columns.end; ++c) {
      most = std::max(most, std::abs(values[static_cast<size_t>(row * spec.shape[1] + c)]));
    }
    return most;
  };
  for (const Layout& layout :
       {Layout{.experts = WeightFormat::kInt8}, Layout{.tp = 2, .experts = WeightFormat::kInt8},
        Layout{.tp = 2, .ep = 2, .experts = WeightFormat::kInt8}}) {
    SCOPED_TRACE(ToString(layout));
    ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(config, layout));
    for (const RankPlan& rank : plan.ranks) {
      const bool host_accessible = rank.index == 0;
      const std::vector<TensorSlice> slices = RankTensors(checkpoint.table(), rank);
      std::vector<TensorSlice> cut;  // in the order of loading
      for (const TensorSlice& slice : slices) {
        const TensorSpec& spec = checkpoint.table()[slice.tensor];
        if (spec.cut == Cut::kExpertColumns && slice.columns.size() < spec.shape[1]) cut.push_back(slice);
      }
      // Stands for the other ranks: checks what this one says, and knows the rest.
      size_t calls = 0;
      LoadOptions options;
      options.piece_bytes = 100;
      options.reduce_row_maxima = [&](std::span<float> maxima) {
        const TensorSlice& slice = cut.at(calls++);
        const TensorSpec& spec = checkpoint.table()[slice.tensor];
        const std::vector<float> values = formula(spec);
        EXPECT_EQ(maxima.size(), static_cast<size_t>(spec.shape[0]));
        for (size_t r = 0; r < maxima.size(); ++r) {
          EXPECT_EQ(maxima[r], largest(values, spec, static_cast<int64_t>(r), slice.columns));
          maxima[r] = largest(values, spec, static_cast<int64_t>(r), {0, spec.shape[1]});
        }
        return absl::OkStatus();
      };
      MemoryDevice device(host_accessible);
      LoadStats stats;
      ASSERT_OK_AND_ASSIGN(const WeightStore store, LoadWeights(checkpoint, rank, device, options, &stats));
      EXPECT_EQ(calls, cut.size());
      EXPECT_EQ(store.bytes(), RankWeightBytes(checkpoint.table(), rank, GetParam().dtype));
      for (const TensorSlice& slice : slices) {
        const TensorSpec& spec = checkpoint.table()[slice.tensor];
        if (spec.expert < 0) continue;
        const std::vector<float> values = formula(spec);
        ASSERT_OK_AND_ASSIGN(const TensorView view, store.Get(spec.name));
        ASSERT_EQ(view.dtype(), DType::kI8);
        ASSERT_OK_AND_ASSIGN(const ExpertWeights stack, store.Experts(spec.layer));
        const TensorView& scales = spec.cut == Cut::kExpertColumns    ? stack.w2_scale
                                   : spec.name.ends_with("w1.weight") ? stack.w1_scale
                                                                      : stack.w3_scale;
        for (int64_t r = 0; r < slice.rows.size(); ++r) {
          const float scale = scales.row<float>(spec.expert - rank.experts.begin)[r];
          ASSERT_EQ(scale, largest(values, spec, slice.rows.begin + r, {0, spec.shape[1]}) / 127.0F)
              << spec.name << " row " << r;
          for (int64_t c = 0; c < slice.columns.size(); ++c) {
            const float want =
                values[static_cast<size_t>((slice.rows.begin + r) * spec.shape[1] + slice.columns.begin + c)];
            const auto q = static_cast<double>(view.row<int8_t>(r)[c]);
            ASSERT_NEAR(q * static_cast<double>(scale), static_cast<double>(want),
                        0.5001 * static_cast<double>(scale))
                << spec.name << " [" << r << ", " << c << "]";
          }
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, GoldenCheckpoint,
                         testing::Values(Fixture{"g0", "g0", Naming::kReleased, 1, DType::kF32},
                                         Fixture{"g0_native", "g0", Naming::kNative, 1, DType::kF32},
                                         Fixture{"g2", "g2", Naming::kReleased, 9, DType::kF32},
                                         Fixture{"g2_bf16", "g2", Naming::kReleased, 9, DType::kBF16},
                                         Fixture{"g2_native", "g2", Naming::kNative, 9, DType::kF32},
                                         Fixture{"g4", "g4", Naming::kReleasedText, 1, DType::kF32}),
                         [](const auto& param) { return std::string(param.param.folder); });

}  // namespace
}  // namespace fulger
