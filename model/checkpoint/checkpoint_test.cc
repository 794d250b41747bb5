#include "model/checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <set>

#include "tests/support/small_model.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing_support::Distinct;
using testing_support::FindTensor;
using testing_support::NativeTensors;
using testing_support::ReleasedTensors;
using testing_support::SmallModel;
using testing_support::TempFolder;
using testing_support::TensorToWrite;
using testing_support::WriteBytes;
using testing_support::WriteSafetensors;
using testing_support::WriteSharded;

const char kGate[] = "language_model.model.layers.2.block_sparse_moe.gate.weight";

class CheckpointTest : public testing::Test {
 protected:
  absl::StatusOr<Checkpoint> Open() { return Checkpoint::Open(folder_.path(), config_); }
  // One file, opened.
  absl::StatusOr<Checkpoint> OpenWith(const std::vector<TensorToWrite>& tensors) {
    WriteSafetensors(single_, tensors);
    return Open();
  }
  // The number at element `i` of a table entry.
  float At(const Checkpoint& c, const std::string& name, int64_t i) {
    for (size_t t = 0; t < c.table().size(); ++t) {
      if (c.table()[t].name != name) continue;
      const TensorSource& source = c.source(t);
      EXPECT_EQ(source.dtype, DType::kF32);
      float value = 0;
      EXPECT_OK(c.files()[static_cast<size_t>(source.file)].file().ReadAt(
          source.offset + static_cast<uint64_t>(4 * i), std::as_writable_bytes(std::span(&value, 1))));
      return value;
    }
    ADD_FAILURE() << name;
    return 0;
  }

  TempFolder folder_{"checkpoint_test"};
  const std::string single_ = folder_.File("model.safetensors");
  ModelConfig config_ = SmallModel();
  std::vector<TensorToWrite> tensors_ = ReleasedTensors(config_);
};

TEST_F(CheckpointTest, CompleteSingleFile) {
  ASSERT_OK_AND_ASSIGN(const Checkpoint c, OpenWith(tensors_));
  EXPECT_OK(c.Complete());
  EXPECT_EQ(c.audit().naming, Naming::kReleased);
  EXPECT_EQ(c.audit().expected, static_cast<int64_t>(tensors_.size()));
  EXPECT_EQ(c.audit().resolved, c.audit().expected);
  EXPECT_TRUE(c.audit().ok());
  EXPECT_THAT(c.audit().extra, IsEmpty());
  int64_t elements = 0;
  for (const TensorSpec& spec : c.table()) elements += spec.elements();
  EXPECT_THAT(c.audit().bytes, ElementsAre(std::pair("BF16", 2 * elements)));
}

TEST_F(CheckpointTest, ShardsWithAnIndexAndWithout) {
  WriteSharded(folder_.path(), tensors_, 3);
  ASSERT_OK_AND_ASSIGN(const Checkpoint indexed, Open());
  EXPECT_OK(indexed.Complete());
  EXPECT_EQ(indexed.files().size(), 3);
  std::filesystem::remove(folder_.File("model.safetensors.index.json"));
  ASSERT_OK_AND_ASSIGN(const Checkpoint plain, Open());
  EXPECT_OK(plain.Complete());
  EXPECT_EQ(plain.files().size(), 3);
}

TEST_F(CheckpointTest, NativeNamesAndFusedExperts) {
  std::vector<TensorToWrite> native = NativeTensors(config_, DType::kF32);
  native.push_back(Distinct("model.language_model.layers.0.self_attn.slope_rate", {4, 1, 1}, DType::kF32));
  native.push_back(Distinct("model.vision_tower.post_layernorm.weight", {8}, DType::kF32));
  ASSERT_OK_AND_ASSIGN(const Checkpoint c, OpenWith(native));
  EXPECT_OK(c.Complete());
  EXPECT_EQ(c.audit().naming, Naming::kNative);
  EXPECT_EQ(c.audit().ignored, 2);
  EXPECT_THAT(c.audit().extra, IsEmpty());
  for (const TensorSpec& spec : c.table()) {
    const int64_t last = spec.elements() - 1;
    EXPECT_EQ(At(c, spec.name, 0), testing_support::DistinctValue(spec.name, 0)) << spec.name;
    EXPECT_EQ(At(c, spec.name, last), testing_support::DistinctValue(spec.name, last)) << spec.name;
  }
}

TEST_F(CheckpointTest, TextOnlyNames) {
  config_.vision.reset();
  for (const bool native : {false, true}) {
    std::vector<TensorToWrite> tensors = native ? NativeTensors(config_) : ReleasedTensors(config_);
    for (TensorToWrite& t : tensors) {
      const std::string prefix = "language_model.";
      t.name.erase(t.name.find(prefix) == std::string::npos ? 0 : t.name.find(prefix),
                   t.name.find(prefix) == std::string::npos ? 0 : prefix.size());
    }
    ASSERT_OK_AND_ASSIGN(const Checkpoint c, OpenWith(tensors));
    EXPECT_OK(c.Complete());
    EXPECT_EQ(c.audit().naming, native ? Naming::kNativeText : Naming::kReleasedText);
  }
}

TEST_F(CheckpointTest, AuditListsEverythingThatIsWrong) {
  std::vector<TensorToWrite> bad = tensors_;
  FindTensor(bad, kGate) = Distinct(kGate, {24, 4}, DType::kBF16);  // transposed
  FindTensor(bad, "image_newline") = Distinct("image_newline", {24}, DType::kU8);
  FindTensor(bad, "language_model.lm_head.weight").name = "language_model.lm_hat.weight";
  ASSERT_OK_AND_ASSIGN(const Checkpoint c, OpenWith(bad));
  const Audit& audit = c.audit();
  EXPECT_FALSE(audit.ok());
  EXPECT_EQ(audit.resolved, audit.expected - 3);
  EXPECT_THAT(audit.missing, ElementsAre("language_model.lm_head.weight"));
  ASSERT_EQ(audit.misfits.size(), 2);
  EXPECT_EQ(audit.misfits[0].name, kGate);
  EXPECT_EQ(audit.misfits[0].file, "model.safetensors");
  EXPECT_EQ(audit.misfits[0].expected, "[4, 24]");
  EXPECT_EQ(audit.misfits[0].found, "[24, 4]");
  EXPECT_EQ(audit.misfits[1].expected, "F32, BF16 or F16");
  EXPECT_EQ(audit.misfits[1].found, "U8");
  ASSERT_EQ(audit.extra.size(), 1);
  EXPECT_EQ(audit.extra[0].name, "language_model.lm_hat.weight");
  EXPECT_THAT(c.Complete(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr(folder_.path()), HasSubstr("1 missing:\n  language_model.lm_head"),
                             HasSubstr("expected [4, 24], found [24, 4]"))));
  EXPECT_THAT(ToString(audit),
              HasSubstr("1 not of this model:\n  language_model.lm_hat.weight (model.safetensors)"));
}

TEST_F(CheckpointTest, ExtraTensorsDoNotStopALoad) {
  tensors_.push_back(Distinct("language_model.model.layers.0.mtp.weight", {2}, DType::kF32));
  ASSERT_OK_AND_ASSIGN(const Checkpoint c, OpenWith(tensors_));
  EXPECT_OK(c.Complete());
  EXPECT_EQ(c.audit().extra.size(), 1);
}

TEST_F(CheckpointTest, FusedTensorIsReportedOnce) {
  std::vector<TensorToWrite> native = NativeTensors(config_);
  const std::string name = "model.language_model.layers.1.mlp.experts.gate_up_proj";
  FindTensor(native, name) = Distinct(name, {4, 24, 40}, DType::kBF16);
  ASSERT_OK_AND_ASSIGN(const Checkpoint c, OpenWith(native));
  ASSERT_EQ(c.audit().misfits.size(), 1);
  EXPECT_EQ(c.audit().misfits[0].expected, "[4, 40, 24]");
  EXPECT_EQ(c.audit().resolved, c.audit().expected - 8);  // w1 and w3 of four experts
}

TEST_F(CheckpointTest, MissingShardIsNamed) {
  WriteSharded(folder_.path(), tensors_, 3);
  std::filesystem::remove(folder_.File("model-00002-of-00003.safetensors"));
  EXPECT_THAT(Open().status(), StatusIs(absl::StatusCode::kNotFound,
                                        AllOf(HasSubstr(folder_.path()),
                                              HasSubstr("1 of 3 files that model.safetensors.index.json "
                                                        "names are missing: model-00002-of-00003"))));
}

TEST_F(CheckpointTest, BrokenShardIsNamed) {
  WriteSharded(folder_.path(), tensors_, 2);
  const std::string shard = folder_.File("model-00002-of-00002.safetensors");
  std::filesystem::resize_file(shard, std::filesystem::file_size(shard) - 1);
  EXPECT_THAT(Open().status(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("model-00002-of-00002")));
}

TEST_F(CheckpointTest, IndexThatContradictsTheShards) {
  WriteSharded(folder_.path(), tensors_, 2);
  const std::string index = folder_.File("model.safetensors.index.json");
  ASSERT_OK_AND_ASSIGN(std::string text, ReadFile(index));
  const std::string entry = "\"image_newline\":\"model-0000";
  const size_t digit = text.find(entry) + entry.size();
  text[digit] = text[digit] == '1' ? '2' : '1';
  WriteBytes(index, text);
  ASSERT_OK_AND_ASSIGN(const Checkpoint c, Open());
  ASSERT_EQ(c.audit().misfits.size(), 1);
  EXPECT_EQ(c.audit().misfits[0].name, "image_newline");
  EXPECT_THAT(c.audit().misfits[0].expected, HasSubstr("as the index says"));
}

TEST_F(CheckpointTest, BadIndexes) {
  const std::string index = folder_.File("model.safetensors.index.json");
  const auto open = [&](std::string_view text) {
    WriteBytes(index, text);
    return Open().status();
  };
  const auto code = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(open("{"), StatusIs(code, AllOf(HasSubstr(index), HasSubstr("expected JSON"))));
  EXPECT_THAT(open("{}"), StatusIs(code, HasSubstr("expected an object weight_map")));
  EXPECT_THAT(open(R"({"weight_map":{"a":3}})"), StatusIs(code, HasSubstr("weight_map a")));
  EXPECT_THAT(open(R"({"weight_map":{"a":"../../x.safetensors"}})"),
              StatusIs(code, HasSubstr("../../x.safetensors")));
}

TEST_F(CheckpointTest, TheSameTensorTwice) {
  WriteSafetensors(folder_.File("a.safetensors"), tensors_);
  WriteSafetensors(folder_.File("b.safetensors"), {Distinct(kGate, {4, 24}, DType::kBF16)});
  EXPECT_THAT(
      Open().status(),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("layers.2.block_sparse_moe.gate.weight: in both a.safetensors and b.safetensors")));
}

TEST_F(CheckpointTest, EmptyAndAbsentFolders) {
  EXPECT_THAT(Open().status(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("found none")));
  EXPECT_THAT(Checkpoint::Open(folder_.File("none"), config_).status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none")));
}

TEST_F(CheckpointTest, FingerprintFollowsEveryHeaderAndName) {
  std::set<std::string> seen;
  const auto expect_new = [&] {
    ASSERT_OK_AND_ASSIGN(const Checkpoint c, Open());
    EXPECT_EQ(c.Fingerprint().size(), 64);
    EXPECT_TRUE(seen.insert(c.Fingerprint()).second);
  };
  WriteBytes(folder_.File("config.json"), "{}");
  WriteSafetensors(single_, tensors_);
  expect_new();
  ASSERT_OK_AND_ASSIGN(const Checkpoint again, Open());
  EXPECT_TRUE(seen.contains(again.Fingerprint()));
  WriteBytes(folder_.File("config.json"), "{ }");
  expect_new();
  std::swap(tensors_[0], tensors_[1]);  // other offsets, the same size
  WriteSafetensors(single_, tensors_);
  expect_new();
  std::filesystem::rename(single_, folder_.File("other.safetensors"));
  expect_new();
  std::filesystem::remove(folder_.File("other.safetensors"));
  WriteSharded(folder_.path(), tensors_, 2);
  expect_new();
}

}  // namespace
}  // namespace fulger
