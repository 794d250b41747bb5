// Pictures that share passes of the vision tower: the same features, bit for bit, as those encoded alone,
// whatever their sizes, their order and the number of ranks; and a picture that fails leaves the others
// alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "model/cost/rank_memory.h"
#include "tests/model/golden_run.h"
#include "tests/support/forwarding_device.h"
#include "tests/support/status_matchers.h"
#include "worker/comm/thread_fabric.h"
#include "worker/layers/weight_lookup.h"
#include "worker/vision/feature_store.h"

namespace fulger {
namespace {

constexpr unsigned char kPoison = 255;  // as a picture's first byte

// Counts the products, and gives a tile that begins with kPoison a NaN.
class WatchedOps final : public ForwardingOps {
 public:
  using ForwardingOps::ForwardingOps;
  int64_t products() const { return products_; }

  absl::Status Linear(Stream& s, const LinearArgs& a) override {
    ++products_;
    return ForwardingOps::Linear(s, a);
  }
  absl::Status Patchify(Stream& s, const PatchifyArgs& a) override {
    RETURN_IF_ERROR(ForwardingOps::Patchify(s, a));
    const int64_t patches = a.out.dim(0) / a.tiles.dim(0);
    for (int64_t t = 0; t < a.tiles.dim(0); ++t) {
      if (*static_cast<const unsigned char*>(a.tiles.Rows(t, 1).raw()) != kPoison) continue;
      *static_cast<float*>(a.out.Rows(t * patches, 1).mut_raw()) = std::numeric_limits<float>::quiet_NaN();
    }
    return absl::OkStatus();
  }

 private:
  int64_t products_ = 0;
};

class WatchedDevice final : public ForwardingDevice {
 public:
  explicit WatchedDevice(std::unique_ptr<Device> device)
      : ForwardingDevice(std::move(device)), ops_(ForwardingDevice::ops()) {}
  Ops& ops() override { return ops_; }
  int64_t products() const { return ops_.products(); }

 private:
  WatchedOps ops_;
};

// What a rank with the tower holds.
struct Rank {
  std::unique_ptr<WatchedDevice> device;
  std::unique_ptr<Fabric> fabric;
  std::unique_ptr<Collective> stage;
  std::optional<WeightStore> weights;
  std::optional<Arena> arena;
  std::optional<VisionTower> tower;
  std::optional<FeatureStore> store;
  Activity activity;

  ExecContext Context() {
    arena->Reset();
    return {.device = *device,
            .stream = device->stream(),
            .ops = device->ops(),
            .arena = *arena,
            .stage = *stage,
            .activity = activity};
  }
};

class VisionPassTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { golden_ = *GoldenCheckpoint::Make("g5_image_middle"); }
  static void TearDownTestSuite() { golden_.reset(); }

  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(config_, LoadModelConfig(golden_->dir()));
    ASSERT_OK_AND_ASSIGN(processor_, LoadImageProcessorConfig(golden_->dir()));
    table_ = TensorTable(config_);
  }

  absl::Status SetUpRank(Rank& rank, ThreadWorld& world, int index, int ranks) {
    ASSIGN_OR_RETURN(auto cpu, MakeDevice("cpu", DeviceOptions{.threads = 1}));
    rank.device = std::make_unique<WatchedDevice>(std::move(cpu));
    rank.fabric = world.MakeFabric(index);
    std::vector<int> members(static_cast<size_t>(ranks));
    std::iota(members.begin(), members.end(), 0);
    ASSIGN_OR_RETURN(rank.stage, rank.fabric->Group(members, "stage"));
    const Layout layout{.vision = 1};
    ASSIGN_OR_RETURN(const Plan plan, MakePlan(config_, layout));
    ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(golden_->dir(), config_));
    ASSIGN_OR_RETURN(rank.weights, LoadWeights(checkpoint, plan.ranks[1], *rank.device,
                                               {.threads = 1, .dtype = WeightDType::kF32}));
    ASSIGN_OR_RETURN(
        rank.arena,
        Arena::Make(*rank.device, static_cast<size_t>(ArenaBytes(config_, layout, plan.ranks[1], {}))));
    ASSIGN_OR_RETURN(rank.tower, VisionTower::Make(config_, WeightLookup(table_, *rank.weights), processor_));
    rank.store.emplace(config_, processor_, &*rank.tower);
    return absl::OkStatus();
  }

  // Runs `body(rank)` on `ranks` ranks, each on a thread of its own.
  template <typename Body>
  void OnRanks(int ranks, const Body& body) {
    ThreadWorld world(ranks);
    std::vector<std::thread> threads;
    for (int r = 0; r < ranks; ++r) {
      threads.emplace_back([&, r] {
        Rank rank;
        const absl::Status status = SetUpRank(rank, world, r, ranks);
        EXPECT_OK(status);
        if (status.ok()) body(rank);
        if (!status.ok()) world.Abort(status);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }

  Picture MakePicture(std::string key, ImageSize size, uint32_t seed) {
    auto picture = std::make_shared<PictureTiles>();
    picture->key = std::move(key);
    picture->height = size.height;
    picture->width = size.width;
    const auto grid = SelectGrid(size, processor_);
    EXPECT_OK(grid.status());
    picture->tiles = grid->tile_count();
    std::mt19937 random(seed);
    const int64_t side = config_.vision->image_size;
    for (int64_t i = picture->tiles * side * side * 3; i > 0; --i)
      picture->pixels += static_cast<char>(random() % kPoison);
    return picture;
  }

  std::vector<Picture> RandomPictures(uint32_t seed, size_t count) {
    std::mt19937 random(seed);
    std::vector<Picture> pictures;
    for (size_t i = 0; i < count; ++i) {
      const ImageSize size{.height = 8 + static_cast<int>(random() % 80),
                           .width = 8 + static_cast<int>(random() % 80)};
      pictures.push_back(MakePicture(std::to_string(i), size, static_cast<uint32_t>(random())));
    }
    return pictures;
  }

  static std::vector<float> Rows(const FeatureStore& store, const std::string& key, int64_t count) {
    const auto rows = store.Rows(key, 0, count);
    EXPECT_OK(rows.status());
    if (!rows.ok()) return {};
    const auto* first = static_cast<const float*>(rows->raw());
    return {first, first + rows->elements()};
  }

  // Each alone, on one rank.
  std::vector<std::vector<float>> Alone(const std::vector<Picture>& pictures) {
    std::vector<std::vector<float>> features;
    OnRanks(1, [&](Rank& rank) {
      for (const Picture& picture : pictures) {
        ExecContext ctx = rank.Context();
        const auto encoded = rank.store->Encode(ctx, std::span(&picture, 1));
        ASSERT_OK(encoded.status());
        ASSERT_OK(encoded->rows[0].status());
        features.push_back(Rows(*rank.store, picture->key, *encoded->rows[0]));
      }
    });
    return features;
  }

  static bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
  }

  static std::unique_ptr<GoldenCheckpoint> golden_;
  ModelConfig config_;
  ImageProcessorConfig processor_;
  std::vector<TensorSpec> table_;
};

std::unique_ptr<GoldenCheckpoint> VisionPassTest::golden_;

TEST_F(VisionPassTest, TogetherAsAloneWhateverTheMix) {
  for (uint32_t seed = 0; seed < 8; ++seed) {
    const std::vector<Picture> pictures = RandomPictures(seed, 1 + seed);
    const auto alone = Alone(pictures);
    ASSERT_EQ(alone.size(), pictures.size());
    for (const int ranks : {1, 2, 3, 8}) {
      OnRanks(ranks, [&](Rank& rank) {
        ExecContext ctx = rank.Context();
        const auto encoded = rank.store->Encode(ctx, pictures);
        ASSERT_OK(encoded.status());
        for (size_t i = 0; i < pictures.size(); ++i) {
          ASSERT_OK(encoded->rows[i].status());
          EXPECT_TRUE(SameBits(Rows(*rank.store, pictures[i]->key, *encoded->rows[i]), alone[i]))
              << "seed " << seed << ", picture " << i << " of " << pictures[i]->tiles << " tiles on rank "
              << rank.stage->rank() << " of " << ranks;
        }
      });
    }
  }
}

// Weights are read once for a batch of tiles, whosever they are.
TEST_F(VisionPassTest, TilesOfSeveralPicturesShareABatch) {
  std::vector<Picture> pictures;  // of two tiles
  for (uint32_t i = 0; i < 4; ++i) pictures.push_back(MakePicture(std::to_string(i), {24, 24}, i));
  const int64_t batch = 1 + 6 * config_.vision->layers + 2;  // products: embedding, layers, projector
  OnRanks(1, [&](Rank& rank) {
    ExecContext ctx = rank.Context();
    const auto encoded = rank.store->Encode(ctx, pictures);
    ASSERT_OK(encoded.status());
    EXPECT_EQ(encoded->tiles, 8);
    EXPECT_EQ(rank.device->products(), batch);
    const Picture late = MakePicture("late", {24, 24}, 9);
    ASSERT_OK(rank.store->Encode(ctx, std::span(&late, 1)).status());
    EXPECT_EQ(rank.device->products(), 2 * batch);
  });
  // Tiles are dealt out over the ranks of a stage, not picture by picture.
  OnRanks(4, [&](Rank& rank) {
    ExecContext ctx = rank.Context();
    const auto encoded = rank.store->Encode(ctx, pictures);
    ASSERT_OK(encoded.status());
    EXPECT_EQ(encoded->tiles, 2);
    EXPECT_EQ(rank.device->products(), batch);
  });
}

TEST_F(VisionPassTest, APictureThatFailsFailsAlone) {
  std::vector<Picture> pictures = RandomPictures(3, 5);
  const auto alone = Alone(pictures);
  auto poisoned = std::make_shared<PictureTiles>(*pictures[1]);
  poisoned->pixels[0] = static_cast<char>(kPoison);
  auto short_one = std::make_shared<PictureTiles>(*pictures[3]);
  short_one->pixels.pop_back();
  pictures[1] = poisoned;
  pictures[3] = short_one;
  for (const int ranks : {1, 3}) {
    OnRanks(ranks, [&](Rank& rank) {
      ExecContext ctx = rank.Context();
      const auto encoded = rank.store->Encode(ctx, pictures);
      ASSERT_OK(encoded.status());
      EXPECT_EQ(encoded->rows[1].status().code(), absl::StatusCode::kDataLoss);
      EXPECT_EQ(encoded->rows[3].status().code(), absl::StatusCode::kInvalidArgument);
      EXPECT_FALSE(rank.store->Rows("1", 0, 1).ok());
      EXPECT_FALSE(rank.store->Rows("3", 0, 1).ok());
      for (const size_t i : {0, 2, 4}) {
        ASSERT_OK(encoded->rows[i].status());
        EXPECT_TRUE(SameBits(Rows(*rank.store, pictures[i]->key, *encoded->rows[i]), alone[i])) << i;
      }
    });
  }
}

TEST_F(VisionPassTest, WhatIsHeldIsNotRunAgain) {
  const std::vector<Picture> pictures = RandomPictures(5, 3);
  OnRanks(1, [&](Rank& rank) {
    ExecContext ctx = rank.Context();
    const auto first = rank.store->Encode(ctx, std::span(&pictures[1], 1));
    ASSERT_OK(first.status());
    const auto encoded = rank.store->Encode(ctx, pictures);
    ASSERT_OK(encoded.status());
    EXPECT_EQ(encoded->tiles, pictures[0]->tiles + pictures[2]->tiles);
    EXPECT_EQ(*encoded->rows[1], *first->rows[0]);
  });
}

}  // namespace
}  // namespace fulger
