// Copies for a layout: what is refused, what a crash leaves, what damage is called. That every rank gets the
// right bytes is tests/weights/sharded_copy_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/file.h"
#include "model/shards/manifest.h"
#include "model/shards/shard_writer.h"
#include "model/shards/verify.h"
#include "tests/golden/model/golden.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using testing_support::TempFolder;

std::span<const std::byte> Bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

// Expected values: xxhsum -H2 (Debian's xxhash 0.8.1) over the same bytes.
TEST(BlockSums, AreThoseOfXxhsum) {
  EXPECT_EQ(ToHex(SumOf({})), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(ToHex(SumOf(Bytes("fulger"))), "7748ba22116edb325e8780f8ba43bf50");
  std::string bytes;
  for (int i = 0; i < 1000; ++i) bytes += static_cast<char>(i * 7 % 256);
  EXPECT_EQ(ToHex(SumOf(Bytes(bytes))), "abee229cdadad76d10ad30264426c830");
  for (const size_t part : {1, 100, 512, 600, 1000}) {
    BlockSummer summer(512);
    for (size_t at = 0; at < bytes.size(); at += part)
      summer.Update(Bytes(bytes).subspan(at, std::min(part, bytes.size() - at)));
    const std::vector<BlockSum> sums = summer.Finish();
    ASSERT_EQ(sums.size(), 2U);
    EXPECT_EQ(ToHex(sums[0]), "ac341ccc7b5aa93ff6fe51471f2fa1ec");
    EXPECT_EQ(ToHex(sums[1]), "bdce0c80543790f1bfdbb823d1ab3900");
  }
}

class Shards : public testing::Test {
 protected:
  void SetUp() override {
    fs::copy(golden::CheckpointFolder("g0"), source_, fs::copy_options::recursive);
    ASSERT_OK_AND_ASSIGN(config_, LoadModelConfig(source_));
  }

  absl::StatusOr<ShardReport> Shard(const Layout& layout, const ShardOptions& options,
                                    const std::string& out) {
    ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(source_, config_));
    ASSIGN_OR_RETURN(const Plan plan, MakePlan(config_, layout));
    return WriteShards(checkpoint, plan, out, options);
  }
  absl::StatusOr<ShardReport> Shard() { return Shard(layout_, options_, out_); }

  std::string Source(const std::string& name = "model.safetensors") const { return source_ + "/" + name; }
  std::string Out(const std::string& name) const { return out_ + "/" + name; }
  static std::string Read(const std::string& path) { return ReadFile(path).value(); }
  // The byte at `offset` becomes another; negative: from the end.
  static void Damage(const std::string& path, int64_t offset) {
    std::string bytes = Read(path);
    if (offset < 0) offset += static_cast<int64_t>(bytes.size());
    bytes[static_cast<size_t>(offset)] ^= 1;
    testing_support::WriteBytes(path, bytes);
  }
  absl::Status SourceUnchanged(std::string* note) const {
    ASSIGN_OR_RETURN(const ShardedCopy copy, OpenSharded(out_));
    return CheckSourceUnchanged(copy.manifest.source, note);
  }

  // As after a power failure: of what the note does not count as done, nothing has reached the disk.
  void ForgetWhatIsNotNoted() {
    const std::string note = Read(Out(kUnfinishedName));
    const size_t done = std::stoul(note.substr(note.find("\"tensors\": ") + 11));
    ASSERT_GT(done, 0U);
    ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Checkpoint::Open(source_, config_));
    ASSERT_LT(done, checkpoint.table().size());
    ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(config_, layout_));
    for (const RankPlan& rank : plan.ranks) {
      const RankFileForm form = MakeRankFileForm(
          checkpoint.table(), rank, std::vector<DType>(checkpoint.table().size(), DType::kF32), kBlock);
      std::string bytes = Read(Out(form.name + ".partial"));
      ASSERT_EQ(bytes.size(), form.bytes);
      for (const RankTensor& tensor : form.tensors) {
        if (tensor.slice.tensor < done) continue;
        std::fill_n(bytes.begin() + static_cast<int64_t>(tensor.offset), tensor.bytes, '\0');
        std::fill_n(bytes.begin() + static_cast<int64_t>(form.sum_offset(tensor.first_block)),
                    BlocksOf(tensor.bytes, kBlock) * static_cast<int64_t>(sizeof(BlockSum)), '\0');
      }
      testing_support::WriteBytes(Out(form.name + ".partial"), bytes);
    }
  }

  TempFolder folder_{"shards_test"};
  static constexpr int64_t kBlock = 256;
  const std::string source_ = folder_.File("source");
  const std::string out_ = folder_.File("out");
  const Layout layout_{.pp = 2, .tp = 2};
  ShardOptions options_{
      .threads = 2, .block_bytes = kBlock, .chunk_bytes = 1000, .commit_bytes = 10'000, .progress = {}};
  ModelConfig config_;
};

TEST_F(Shards, ACopyServesAlone) {
  ASSERT_OK_AND_ASSIGN(const ShardReport report, Shard());
  EXPECT_EQ(report.ranks_written, 4);
  for (const auto& entry : fs::directory_iterator(source_)) {
    if (entry.path().extension() != ".safetensors") {
      EXPECT_EQ(Read(entry.path()), Read(Out(entry.path().filename()))) << entry.path();
    }
  }
  fs::rename(source_, folder_.File("elsewhere"));
  ASSERT_OK_AND_ASSIGN(const ShardedCopy copy, OpenSharded(out_));
  EXPECT_EQ(copy.manifest.layout, layout_);
  EXPECT_EQ(copy.config, config_);
  EXPECT_EQ(copy.fingerprint.size(), 64U);
  ASSERT_OK(CheckRankFilesThere(copy));
  uint64_t bytes = 0;
  for (int r = 0; r < 4; ++r) {
    ASSERT_OK_AND_ASSIGN(const RankFile file, OpenRankFile(copy, r));
    // As strict readers of the format take it.
    ASSERT_OK_AND_ASSIGN(const SafetensorsFile strict, SafetensorsFile::Open(file.file().path()));
    ASSERT_EQ(strict.tensors().size(), file.form().tensors.size() + 1);
    EXPECT_EQ(strict.tensors().front().begin % 4096, 0U);
    bytes += file.file().size();
  }
  EXPECT_EQ(report.bytes, bytes);
  ASSERT_OK_AND_ASSIGN(const VerifyReport verified, VerifyShards(copy, options_));
  EXPECT_THAT(verified.damage, IsEmpty());
  EXPECT_EQ(verified.bytes, bytes);
  std::string note;
  EXPECT_OK(CheckSourceUnchanged(copy.manifest.source, &note));
  EXPECT_THAT(note, HasSubstr("cannot be looked at"));
  // A checkpoint it is not.
  EXPECT_THAT(Checkpoint::Open(out_, config_).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("cut for one layout")));
}

TEST_F(Shards, AnotherCallGoesOnWhereOneStopped) {
  ASSERT_OK_AND_ASSIGN(const ShardReport whole, Shard(layout_, options_, folder_.File("whole")));
  int calls = 0;
  ShardOptions stopping = options_;
  stopping.progress = [&](const ShardProgress& p) {
    EXPECT_LE(p.bytes_done, p.bytes_total);
    return ++calls < 4;
  };
  EXPECT_THAT(Shard(layout_, stopping, out_).status(),
              StatusIs(absl::StatusCode::kCancelled, HasSubstr("the same command goes on")));
  EXPECT_FALSE(IsSharded(out_));
  EXPECT_THAT(OpenSharded(out_).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("an unfinished copy")));
  EXPECT_THAT(Shard({.tp = 2}, options_, out_).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("cut for pp 2 x tp 2"), HasSubstr("asked for is pp 1 x tp 2"))));
  ForgetWhatIsNotNoted();
  double last = 0;
  ShardOptions watching = options_;
  watching.progress = [&](const ShardProgress& p) {
    last = static_cast<double>(p.bytes_done) / static_cast<double>(p.bytes_total);
    return true;
  };
  ASSERT_OK_AND_ASSIGN(const ShardReport rest, Shard(layout_, watching, out_));
  EXPECT_EQ(last, 1.0);
  EXPECT_GT(rest.bytes_resumed, 0);
  EXPECT_EQ(rest.bytes_resumed + rest.bytes_read, whole.bytes_read);
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(out_)) names.push_back(entry.path().filename());
  EXPECT_EQ(names.size(),
            static_cast<size_t>(std::distance(fs::directory_iterator(folder_.File("whole")), {})));
  for (const std::string& name : names)
    EXPECT_EQ(Read(Out(name)), Read(folder_.File("whole/" + name))) << name;
}

TEST_F(Shards, RanksThatAreThereStay) {
  ASSERT_OK(Shard().status());
  ASSERT_OK_AND_ASSIGN(const ShardReport again, Shard());
  EXPECT_EQ(again.ranks_kept, 4);
  EXPECT_EQ(again.bytes_read, 0);
  const std::string path = Out("rank-00002.safetensors"), manifest = Read(Out(kManifestName));
  const std::string bytes = Read(path);
  const auto kept = fs::last_write_time(Out("rank-00001.safetensors"));
  fs::remove(path);
  ASSERT_OK_AND_ASSIGN(const ShardedCopy copy, OpenSharded(out_));
  EXPECT_THAT(CheckRankFilesThere(copy),
              StatusIs(absl::StatusCode::kNotFound,
                       AllOf(HasSubstr("rank-00002"), HasSubstr("fulger shard " + source_))));
  ASSERT_OK_AND_ASSIGN(const ShardReport repaired, Shard());
  EXPECT_EQ(repaired.ranks_kept, 3);
  EXPECT_LT(repaired.bytes_read, static_cast<int64_t>(fs::file_size(Source())));
  EXPECT_EQ(Read(path), bytes);
  EXPECT_EQ(Read(Out(kManifestName)), manifest);
  EXPECT_EQ(fs::last_write_time(Out("rank-00001.safetensors")), kept);
}

TEST_F(Shards, OtherFoldersAreLeftAlone) {
  EXPECT_THAT(Shard(layout_, options_, source_).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("a folder of its own")));
  fs::create_directory(out_);
  testing_support::WriteBytes(Out("other.safetensors"), "x");
  EXPECT_THAT(Shard().status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("holds other.safetensors")));
  fs::remove_all(out_);
  ASSERT_OK(Shard().status());
  const Layout int8{.pp = 2, .tp = 2, .experts = WeightFormat::kInt8};
  EXPECT_THAT(
      Shard(int8, options_, out_).status(),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("experts int8: choose another folder")));
  ASSERT_OK_AND_ASSIGN(const ShardedCopy copy, OpenSharded(out_));
  EXPECT_THAT(CheckLayout(copy, int8),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("cut for pp 2 x tp 2, asked for is pp 2 x tp 2, experts int8"),
                             HasSubstr("--out DIR --tp 2 --pp 2 --ep 1 --experts int8"))));
}

TEST_F(Shards, TooLittleRoomIsSaidBeforeAnythingIsWritten) {
  EXPECT_OK(CheckRoom("/out", {.files = 4, .bytes = 1000, .small = 50, .there = 200, .free = 850}));
  EXPECT_THAT(CheckRoom("/out", {.files = 4, .bytes = 1000, .small = 50, .there = 200, .free = 849}),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("/out: too little room: 4 rank files of together 1000 bytes"),
                             HasSubstr("850 bytes needed, 849 free, 1 short"))));
}

TEST_F(Shards, ASourceThatHasChangedMakesTheCopyStale) {
  ASSERT_OK(Shard().status());
  std::string note = "?";
  EXPECT_OK(SourceUnchanged(&note));
  EXPECT_EQ(note, "");
  // Touched, and copied from elsewhere with a time of its own.
  fs::last_write_time(Source(), fs::last_write_time(Source()) + std::chrono::hours(1));
  EXPECT_OK(SourceUnchanged(&note));
  EXPECT_THAT(note, HasSubstr("1 of 1 files of its source"));
  // Other weights of the same shapes.
  std::string bytes = Read(Source());
  for (size_t i = bytes.size() / 2; i < bytes.size(); ++i) bytes[i] ^= 0x10;
  testing_support::WriteBytes(Source(), bytes);
  fs::last_write_time(Source(), fs::last_write_time(Source()) + std::chrono::hours(2));
  EXPECT_THAT(SourceUnchanged(&note),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("stale: its source " + source_ + " has changed since"),
                             HasSubstr("model.safetensors: its weights are others"))));
  EXPECT_THAT(Shard().status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("stale: holds a copy of")));
  testing_support::WriteBytes(Source("config.json"), Read(Source("config.json")) + "\n");
  EXPECT_THAT(SourceUnchanged(&note),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("config.json: another text")));
}

TEST_F(Shards, DamageIsNamed) {
  ASSERT_OK(Shard().status());
  ASSERT_OK_AND_ASSIGN(const ShardedCopy copy, OpenSharded(out_));
  const std::string path = Out("rank-00003.safetensors"), good = Read(path);
  ASSERT_OK_AND_ASSIGN(const RankFile file, OpenRankFile(copy, 3));
  const auto damage = [&] { return VerifyShards(copy, options_).value().damage; };
  const RankTensor& tensor = file.form().tensors.at(5);
  for (const auto& [offset, text] : std::vector<std::pair<uint64_t, std::string>>{
           {9, "the header differs"},
           {file.form().sum_offset(2), "tensor fulger.block_sums: bytes"},
           {tensor.offset + 1,
            fmt::format("tensor {}: bytes {} to {} of the file", tensor.name, tensor.offset,
                        tensor.offset + static_cast<uint64_t>(std::min<int64_t>(256, tensor.bytes)))},
           {good.size() - 1, "tensor " + file.form().tensors.back().name}}) {
    testing_support::WriteBytes(path, good);
    Damage(path, static_cast<int64_t>(offset));
    EXPECT_THAT(damage(), ElementsAre(AllOf(HasSubstr(path), HasSubstr(text))));
  }
  testing_support::WriteBytes(path, good.substr(0, good.size() - 1));
  EXPECT_THAT(
      damage(),
      ElementsAre(HasSubstr(fmt::format("expected {} bytes, found {}", good.size(), good.size() - 1))));
  EXPECT_THAT(CheckRankFilesThere(copy),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("remove it, then fulger shard")));
  fs::remove(path);
  EXPECT_THAT(damage(), ElementsAre(HasSubstr("rank-00003")));
}

TEST_F(Shards, ManifestsOfAnotherKindAreRefused) {
  ASSERT_OK(Shard().status());
  const std::string path = Out(kManifestName), good = Read(path);
  ASSERT_OK_AND_ASSIGN(const ShardManifest manifest, ParseManifest(good));
  EXPECT_EQ(ToJson(manifest), good);
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    testing_support::WriteBytes(path, text.replace(at, from.size(), to));
    return OpenSharded(out_).status();
  };
  EXPECT_THAT(with("\"format\": 1", "\"format\": 2"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expected 1, found 2")));
  EXPECT_THAT(with("xxh3-128", "md5"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found md5")));
  EXPECT_THAT(with("\"tp\": 2", "\"tp\": 4"),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("config.json gives plan")));
  EXPECT_THAT(with("\"tp\": 2", "\"tp\": 0").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(with("\"ranks\"", "\"rank\""), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("ranks")));
  EXPECT_THAT(with("\"block_bytes\": 256", "\"block_bytes\": 3").code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace fulger
