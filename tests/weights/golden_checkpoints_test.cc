// The loader against checkpoints that other code wrote (tests/golden/model, plain python): every element of
// every rank's tensors is compared with the weight formula, which follows from the released name and the
// index.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
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

  // By the names: nothing here asks the code that is tested.
  static bool ShouldBeInt8(const TensorSpec& spec, const Layout& layout) {
    for (const char* end : {"w1.weight", "w2.weight", "w3.weight"}) {
      if (spec.name.ends_with(end)) return layout.experts == WeightFormat::kInt8;
    }
    if (spec.name.find("vision_tower") != std::string::npos) return false;
    for (const char* end : {"qkv_proj.weight", "output_gate.weight", "out_proj.weight", "q_proj.weight",
                            "k_proj.weight", "v_proj.weight", "o_proj.weight", "lm_head.weight"}) {
      if (spec.name.ends_with(end)) return layout.projections == WeightFormat::kInt8;
    }
    return false;
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
TEST_P(GoldenCheckpoint, Int8MatricesCarryTheScalesOfUncutRows) {
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
  constexpr WeightFormat kInt8 = WeightFormat::kInt8;
  for (const Layout& layout :
       {Layout{.experts = kInt8}, Layout{.tp = 2, .experts = kInt8, .projections = kInt8},
        Layout{.tp = 2, .ep = 2, .experts = kInt8}, Layout{.tp = 2, .projections = kInt8}}) {
    SCOPED_TRACE(ToString(layout));
    ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(config, layout));
    for (const RankPlan& rank : plan.ranks) {
      const bool host_accessible = rank.index == 0;
      const std::vector<TensorSlice> slices = RankTensors(checkpoint.table(), rank);
      std::map<std::string, TensorSlice> cut;
      for (const TensorSlice& slice : slices) {
        const TensorSpec& spec = checkpoint.table()[slice.tensor];
        if (ShouldBeInt8(spec, layout) && slice.columns.size() < spec.shape[1]) cut[spec.name] = slice;
      }
      // Stands for the other ranks: checks what this one says, and knows the rest.
      size_t calls = 0;
      LoadOptions options;
      options.piece_bytes = 100;
      options.reduce_row_maxima = [&](const TensorSpec& spec, std::span<float> maxima) {
        ++calls;
        const TensorSlice& slice = cut.at(spec.name);
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
        ASSERT_OK_AND_ASSIGN(const WeightMatrix matrix, store.Matrix(spec.name));
        const TensorView& view = matrix.w;
        if (!ShouldBeInt8(spec, layout)) {
          EXPECT_EQ(view.dtype(), GetParam().dtype) << spec.name;
          EXPECT_TRUE(matrix.scale.empty_view()) << spec.name;
          continue;
        }
        const std::vector<float> values = formula(spec);
        ASSERT_EQ(view.dtype(), DType::kI8) << spec.name;
        TensorView scales = matrix.scale;
        if (spec.expert >= 0) {
          ASSERT_OK_AND_ASSIGN(const ExpertWeights stack, store.Experts(spec.layer));
          const TensorView& all = spec.cut == Cut::kExpertColumns    ? stack.w2_scale
                                  : spec.name.ends_with("w1.weight") ? stack.w1_scale
                                                                     : stack.w3_scale;
          scales = all.Rows(spec.expert - rank.experts.begin, 1).Reshape({all.dim(1)});
        }
        ASSERT_EQ(scales.elements(), slice.rows.size()) << spec.name;
        for (int64_t r = 0; r < slice.rows.size(); ++r) {
          const float scale = scales.data<float>()[r];
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
