// Every loaded element against the formula that the checkpoint was written with, for whole and cut models;
// and loads that fail half-way.
#include "worker/weights/loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include "base/bfloat16.h"
#include "tests/support/memory_device.h"
#include "tests/support/small_model.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing_support::DistinctValue;
using testing_support::FindTensor;
using testing_support::MemoryDevice;
using testing_support::ReleasedTensors;
using testing_support::SmallModel;
using testing_support::TempFolder;
using testing_support::TensorToWrite;
using testing_support::WriteSafetensors;

Layout MakeLayout(int pp, int tp, int ep = 1, int vision = 0) {
  Layout layout;
  layout.pp = pp;
  layout.tp = tp;
  layout.ep = ep;
  layout.vision = vision;
  return layout;
}

float Element(const TensorView& view, int64_t i) {
  return view.dtype() == DType::kF32 ? view.data<float>()[i] : BF16ToFloat(view.data<uint16_t>()[i]);
}

class Loader : public testing::Test {
 protected:
  void Write(DType dtype) {
    tensors_ = ReleasedTensors(config_, dtype);
    WriteSafetensors(folder_.File("model.safetensors"), tensors_);
  }
  absl::StatusOr<Checkpoint> Open() { return Checkpoint::Open(folder_.path(), config_); }

  // Element (r, c) of the slice is element (rows.begin + r, columns.begin + c) of the tensor.
  static void ExpectSlice(const TensorView& view, const TensorSpec& spec, const TensorSlice& slice) {
    const int64_t columns = spec.shape.size() > 1 ? spec.shape[1] : 1;
    int64_t inner = 1;
    for (size_t d = 2; d < spec.shape.size(); ++d) inner *= spec.shape[d];
    ASSERT_TRUE(view.contiguous());
    ASSERT_EQ(view.rank(), static_cast<int>(spec.shape.size()));
    ASSERT_EQ(view.elements(), SliceElements(spec, slice)) << spec.name;
    int64_t i = 0;
    for (int64_t r = slice.rows.begin; r < slice.rows.end; ++r) {
      for (int64_t c = slice.columns.begin * inner; c < slice.columns.end * inner; ++c) {
        const float want = DistinctValue(spec.name, r * columns * inner + c);
        ASSERT_EQ(Element(view, i), want) << spec.name << " element " << i;
        ++i;
      }
    }
  }

  // Loads every rank of the layout and looks at every element.
  void ExpectAllRanks(const Checkpoint& checkpoint, const Layout& layout, const LoadOptions& options,
                      DType held, bool host_accessible) {
    SCOPED_TRACE(ToString(layout));
    ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(config_, layout));
    for (const RankPlan& rank : plan.ranks) {
      MemoryDevice device(host_accessible);
      LoadStats stats;
      ASSERT_OK_AND_ASSIGN(const WeightStore store, LoadWeights(checkpoint, rank, device, options, &stats));
      const std::vector<TensorSlice> slices = RankTensors(checkpoint.table(), rank);
      for (const TensorSlice& slice : slices) {
        const TensorSpec& spec = checkpoint.table()[slice.tensor];
        ASSERT_OK_AND_ASSIGN(const TensorView view, store.Get(spec.name));
        EXPECT_EQ(view.dtype(), held);
        ExpectSlice(view, spec, slice);
      }
      EXPECT_EQ(store.bytes(), RankWeightBytes(checkpoint.table(), rank, held));
      int64_t used = 0;
      for (const TensorSlice& slice : slices) {
        used += SliceElements(checkpoint.table()[slice.tensor], slice) *
                static_cast<int64_t>(ByteSize(checkpoint.source(slice.tensor).dtype));
      }
      EXPECT_EQ(stats.bytes_used, used);
      if (options.gap_bytes == 0 && layout.tp > 2) {
        EXPECT_EQ(stats.bytes_read, used);
      }
      EXPECT_GE(stats.bytes_read, used);
    }
  }

  TempFolder folder_{"loader_test"};
  ModelConfig config_ = SmallModel();
  std::vector<TensorToWrite> tensors_;
};

TEST_F(Loader, EveryElementOfEveryLayout) {
  Write(DType::kBF16);
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Open());
  for (const Layout& layout : {MakeLayout(1, 1), MakeLayout(2, 2), MakeLayout(1, 2, 2), MakeLayout(4, 1),
                               MakeLayout(1, 4), MakeLayout(1, 4, 2, 1), MakeLayout(2, 4, 4, 2)}) {
    ExpectAllRanks(checkpoint, layout, {}, DType::kBF16, true);
  }
}

TEST_F(Loader, RowByRowReadsExactlyThePlansBytes) {
  Write(DType::kBF16);
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Open());
  LoadOptions options;
  options.gap_bytes = 0;
  for (const int64_t piece : {1, 100, 1 << 20}) {
    options.piece_bytes = piece;
    ExpectAllRanks(checkpoint, MakeLayout(1, 4), options, DType::kBF16, true);
    ExpectAllRanks(checkpoint, MakeLayout(1, 4), options, DType::kBF16, false);
  }
}

TEST_F(Loader, OverreadIsCounted) {
  Write(DType::kF32);
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Open());
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(config_, MakeLayout(1, 4)));
  MemoryDevice device(true);
  LoadStats exact, coalesced;
  LoadOptions options;
  options.gap_bytes = 0;
  ASSERT_OK(LoadWeights(checkpoint, plan.ranks[1], device, options, &exact).status());
  options.gap_bytes = 4096;
  ASSERT_OK(LoadWeights(checkpoint, plan.ranks[1], device, options, &coalesced).status());
  EXPECT_EQ(exact.bytes_used, coalesced.bytes_used);
  // Column cuts of 24 rows: 4 attention outputs [24, 24] cut to 6, 16 experts' w2 [24, 20] cut to 5. Between
  // the rows of a cut, 23 gaps of 18 and of 15 floats are read and thrown away.
  EXPECT_EQ(coalesced.bytes_read - exact.bytes_read, 4 * 23 * 4 * 18 + 16 * 23 * 4 * 15);
}

// Gaps are read and thrown away up to gap_bytes, or where a cut is half of each row, and never beyond.
TEST_F(Loader, OverreadIsBounded) {
  Write(DType::kF32);
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Open());
  MemoryDevice device(true);
  const auto overread = [&](int tp, int64_t gap_bytes) -> int64_t {
    const Plan plan = *MakePlan(config_, MakeLayout(1, tp));
    LoadStats stats;
    LoadOptions options;
    options.gap_bytes = gap_bytes;
    EXPECT_OK(LoadWeights(checkpoint, plan.ranks[1], device, options, &stats).status());
    int64_t bound = 0;
    for (const TensorSlice& slice : RankTensors(checkpoint.table(), plan.ranks[1])) {
      const TensorSpec& spec = checkpoint.table()[slice.tensor];
      if (spec.shape.size() < 2 || slice.columns.size() == spec.shape[1]) continue;
      bound += (slice.rows.size() - 1) * std::max<int64_t>(4 * slice.columns.size(), gap_bytes);
    }
    EXPECT_GT(bound, 0);
    EXPECT_LE(stats.bytes_read - stats.bytes_used, bound) << "tp " << tp << ", gaps of " << gap_bytes;
    return stats.bytes_read - stats.bytes_used;
  };
  // Cut in four, as above: gaps of 18 and of 15 floats.
  EXPECT_EQ(overread(4, 59), 0);
  EXPECT_EQ(overread(4, 60), 16 * 23 * 60);
  EXPECT_EQ(overread(4, 71), 16 * 23 * 60);
  EXPECT_EQ(overread(4, 72), 4 * 23 * 72 + 16 * 23 * 60);
  // Cut in two: half of each row, so whole rows whatever gap_bytes says.
  EXPECT_EQ(overread(2, 0), 4 * 23 * 4 * 12 + 16 * 23 * 4 * 10);
}

TEST_F(Loader, DeviceMemoryIsFilledThroughCopiesOfOneThread) {
  Write(DType::kBF16);
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Open());
  LoadOptions options;
  options.piece_bytes = 64;
  ExpectAllRanks(checkpoint, MakeLayout(1, 2), options, DType::kBF16, false);
}

TEST_F(Loader, ElementTypes) {
  LoadOptions to_f32;
  to_f32.dtype = WeightDType::kF32;
  Write(DType::kBF16);
  ASSERT_OK_AND_ASSIGN(const Checkpoint bf16, Open());
  ExpectAllRanks(bf16, MakeLayout(1, 4), to_f32, DType::kF32, true);
  Write(DType::kF16);
  ASSERT_OK_AND_ASSIGN(const Checkpoint f16, Open());
  LoadOptions row_by_row;
  row_by_row.gap_bytes = 0;
  ExpectAllRanks(f16, MakeLayout(1, 4), row_by_row, DType::kF32, true);
  ExpectAllRanks(f16, MakeLayout(1, 4), {}, DType::kF32, false);
  Write(DType::kF32);
  ASSERT_OK_AND_ASSIGN(const Checkpoint f32, Open());
  ExpectAllRanks(f32, MakeLayout(1, 2), {}, DType::kF32, true);
}

TEST_F(Loader, OneExpertStoredWiderMakesItsStackWider) {
  Write(DType::kBF16);
  const std::string name = "language_model.model.layers.0.block_sparse_moe.experts.2.w1.weight";
  FindTensor(tensors_, name).dtype = DType::kF32;
  WriteSafetensors(folder_.File("model.safetensors"), tensors_);
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Open());
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(config_, MakeLayout(1, 1)));
  MemoryDevice device(true);
  ASSERT_OK_AND_ASSIGN(const WeightStore store, LoadWeights(checkpoint, plan.ranks[0], device, {}));
  ASSERT_OK_AND_ASSIGN(const ExpertWeights layer0, store.Experts(0));
  EXPECT_EQ(layer0.w1.dtype(), DType::kF32);
  EXPECT_EQ(layer0.w3.dtype(), DType::kBF16);
  ASSERT_OK_AND_ASSIGN(const ExpertWeights layer1, store.Experts(1));
  EXPECT_EQ(layer1.w1.dtype(), DType::kBF16);
  const std::string other = "language_model.model.layers.0.block_sparse_moe.experts.1.w1.weight";
  ASSERT_OK_AND_ASSIGN(const TensorView view, store.Get(other));
  EXPECT_EQ(Element(view, 5), DistinctValue(other, 5));
}

TEST_F(Loader, Int8RefusesWhatIsNotFiniteAndCutRowsWithoutAnAgreement) {
  Write(DType::kF32);
  MemoryDevice device(true);
  ASSERT_OK_AND_ASSIGN(const Checkpoint whole, Open());
  Layout layout = MakeLayout(1, 2);
  layout.experts = WeightFormat::kInt8;
  ASSERT_OK_AND_ASSIGN(const Plan experts, MakePlan(config_, layout));
  EXPECT_THAT(LoadWeights(whole, experts.ranks[0], device, {}).status(),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("w2.weight: its rows are cut")));
  layout.projections = WeightFormat::kInt8;
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(config_, layout));
  EXPECT_THAT(LoadWeights(whole, plan.ranks[0], device, {}).status(),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("out_proj.weight: its rows are cut")));
  LoadOptions options;
  options.reduce_row_maxima = [](const TensorSpec&, std::span<float>) { return absl::OkStatus(); };
  EXPECT_OK(LoadWeights(whole, plan.ranks[0], device, options).status());
  for (const char* part : {"block_sparse_moe.experts.2.w1", "block_sparse_moe.experts.2.w2",
                           "self_attn.q_proj", "self_attn.o_proj"}) {
    std::vector<TensorToWrite> bad = tensors_;
    const std::string name = fmt::format("language_model.model.layers.1.{}.weight", part);
    FindTensor(bad, name).values[3] = std::numeric_limits<float>::infinity();
    WriteSafetensors(folder_.File("model.safetensors"), bad);
    ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Open());
    EXPECT_THAT(
        LoadWeights(checkpoint, plan.ranks[0], device, options).status(),
        StatusIs(absl::StatusCode::kDataLoss,
                 AllOf(HasSubstr("tensor " + name), HasSubstr("row 0 of this rank's part holds inf"))));
  }
}

TEST_F(Loader, ExpertsAreStacked) {
  Write(DType::kBF16);
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Open());
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(config_, MakeLayout(1, 4, 2)));
  MemoryDevice device(true);
  ASSERT_OK_AND_ASSIGN(const WeightStore store, LoadWeights(checkpoint, plan.ranks[3], device, {}));
  ASSERT_OK_AND_ASSIGN(const ExpertWeights experts, store.Experts(2));  // experts 2, 3; columns 10..19
  EXPECT_EQ(experts.w1.ToString(), "[2, 10, 24] BF16");
  EXPECT_EQ(experts.w3.ToString(), "[2, 10, 24] BF16");
  EXPECT_EQ(experts.w2.ToString(), "[2, 24, 10] BF16");
  const std::string stem = "language_model.model.layers.2.block_sparse_moe.experts.3.";
  EXPECT_EQ(Element(experts.w1, (1 * 10 + 4) * 24 + 7), DistinctValue(stem + "w1.weight", 14 * 24 + 7));
  EXPECT_EQ(Element(experts.w3, (1 * 10 + 4) * 24 + 7), DistinctValue(stem + "w3.weight", 14 * 24 + 7));
  EXPECT_EQ(Element(experts.w2, (1 * 24 + 7) * 10 + 4), DistinctValue(stem + "w2.weight", 7 * 20 + 14));
  EXPECT_THAT(store.Experts(9).status(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("layer 9")));
  EXPECT_THAT(store.Get("language_model.model.layers.2.block_sparse_moe.experts.0.w1.weight").status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("experts.0.w1")));
}

TEST_F(Loader, FusedNativeCheckpointGivesTheSameWeights) {
  WriteSafetensors(folder_.File("model.safetensors"), testing_support::NativeTensors(config_));
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Open());
  ExpectAllRanks(checkpoint, MakeLayout(1, 4, 2), {}, DType::kBF16, true);
}

TEST_F(Loader, EmptyVocabularyRunsAreEmptyViews) {
  config_.text.vocab = 5;  // runs of 2: 2, 2, 1, 0
  Write(DType::kBF16);
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Open());
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(config_, MakeLayout(1, 4)));
  MemoryDevice device(true);
  ASSERT_OK_AND_ASSIGN(const WeightStore store, LoadWeights(checkpoint, plan.ranks[3], device, {}));
  for (const char* name : {"language_model.model.embed_tokens.weight", "language_model.lm_head.weight"}) {
    ASSERT_OK_AND_ASSIGN(const TensorView view, store.Get(name));
    EXPECT_EQ(view.ToString(), "[0, 24] BF16");
  }
  Layout int8 = MakeLayout(1, 4);
  int8.projections = WeightFormat::kInt8;
  ASSERT_OK_AND_ASSIGN(const Plan int8_plan, MakePlan(config_, int8));
  LoadOptions options;
  options.reduce_row_maxima = [](const TensorSpec&, std::span<float>) { return absl::OkStatus(); };
  ASSERT_OK_AND_ASSIGN(const WeightStore int8_store,
                       LoadWeights(checkpoint, int8_plan.ranks[3], device, options));
  ASSERT_OK_AND_ASSIGN(const WeightMatrix head, int8_store.Matrix("language_model.lm_head.weight"));
  EXPECT_EQ(head.w.ToString(), "[0, 24] I8");
  EXPECT_EQ(head.scale.ToString(), "[0] F32");
}

TEST_F(Loader, ProgressRisesToOne) {
  Write(DType::kBF16);
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Open());
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(config_, MakeLayout(1, 1)));
  MemoryDevice device(true);
  std::vector<LoadProgress> reports;
  LoadOptions options;
  options.piece_bytes = 64;
  options.progress = [&](const LoadProgress& p) {
    reports.push_back(p);
    return true;
  };
  ASSERT_OK(LoadWeights(checkpoint, plan.ranks[0], device, options).status());
  ASSERT_GT(reports.size(), 10);
  for (size_t i = 1; i < reports.size(); ++i) EXPECT_GT(reports[i].bytes_done, reports[i - 1].bytes_done);
  EXPECT_EQ(reports.back().fraction(), 1.0);
  EXPECT_LT(reports[reports.size() - 2].fraction(), 1.0);
  EXPECT_GT(reports.back().bytes_per_second, 0);
}

TEST_F(Loader, ProgressMayAbandonTheLoad) {
  Write(DType::kBF16);
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Open());
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(config_, MakeLayout(1, 1)));
  for (const bool host_accessible : {true, false}) {
    MemoryDevice device(host_accessible);
    LoadOptions options;
    options.piece_bytes = 64;
    options.progress = [&](const LoadProgress& p) { return p.fraction() < 0.3; };
    EXPECT_THAT(LoadWeights(checkpoint, plan.ranks[0], device, options).status(),
                StatusIs(absl::StatusCode::kCancelled, HasSubstr("loading abandoned after")));
  }
}

TEST_F(Loader, FileThatShrinksAfterOpen) {
  Write(DType::kBF16);
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Open());
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(config_, MakeLayout(1, 1)));
  const std::string path = folder_.File("model.safetensors");
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 10);  // the newline row is last
  for (const bool host_accessible : {true, false}) {
    MemoryDevice device(host_accessible);
    EXPECT_THAT(LoadWeights(checkpoint, plan.ranks[0], device, {}).status(),
                StatusIs(absl::StatusCode::kDataLoss, AllOf(HasSubstr("tensor image_newline"),
                                                            HasSubstr(path), HasSubstr("the file ends at"))));
  }
}

TEST_F(Loader, IncompleteCheckpointIsRefusedBeforeReading) {
  Write(DType::kBF16);
  tensors_.pop_back();
  WriteSafetensors(folder_.File("model.safetensors"), tensors_);
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Open());
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(config_, MakeLayout(2, 1)));
  MemoryDevice device(true);
  EXPECT_THAT(LoadWeights(checkpoint, plan.ranks[1], device, {}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1 missing:\n  image_newline")));
}

TEST_F(Loader, DeviceErrorsNameTheTensor) {
  Write(DType::kBF16);
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Open());
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(config_, MakeLayout(1, 1)));
  MemoryDevice small(true);
  small.limit = 10'000;
  EXPECT_THAT(LoadWeights(checkpoint, plan.ranks[0], small, {}).status(),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("weights, language_model."), HasSubstr("bytes asked for"))));
  MemoryDevice broken(false);
  broken.copies_before_failure = 5;
  LoadOptions options;
  options.piece_bytes = 64;
  EXPECT_THAT(
      LoadWeights(checkpoint, plan.ranks[0], broken, options).status(),
      StatusIs(absl::StatusCode::kUnavailable, AllOf(HasSubstr("tensor "), HasSubstr("fell off the bus"))));
}

TEST_F(Loader, NonFiniteWeights) {
  const std::string name = "language_model.model.layers.1.self_attn.o_proj.weight";
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    Write(dtype);
    FindTensor(tensors_, name).values[3 * 24 + 14] = std::numeric_limits<float>::quiet_NaN();
    WriteSafetensors(folder_.File("model.safetensors"), tensors_);
    ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Open());
    ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(config_, MakeLayout(1, 2)));
    MemoryDevice device(true);
    LoadOptions options;
    EXPECT_OK(LoadWeights(checkpoint, plan.ranks[1], device, options).status());
    options.reject_non_finite = true;
    EXPECT_OK(LoadWeights(checkpoint, plan.ranks[0], device, options).status());  // not its columns
    EXPECT_THAT(
        LoadWeights(checkpoint, plan.ranks[1], device, options).status(),
        StatusIs(absl::StatusCode::kDataLoss,
                 AllOf(HasSubstr("tensor " + name), HasSubstr("element 38 of this rank's part is nan"))));
  }
}

}  // namespace
}  // namespace fulger
