#include "coordinator/blocks/anchor_cache.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace fulger {
namespace {

using Symbols = std::vector<Symbol>;

class AnchorCacheTest : public testing::Test {
 protected:
  // Blocks of two positions; the sequence that made the anchor has gone.
  void Save(AnchorCache* cache, const Symbols& symbols, AnchorValue value = AnchorValue::kBorder,
            const std::vector<ImageRun>& images = {}) {
    std::vector<int32_t> taken;
    for (size_t i = 0; i < symbols.size(); i += 2) taken.push_back(blocks_.Take());
    ASSERT_TRUE(cache->MakeRoom(value));
    cache->Insert(symbols, images, taken, slots_.Take(), value, /*step=*/1);
    blocks_.Release(taken, /*last_step=*/0);
  }

  IdPool blocks_{"block", 100};
  IdPool slots_{"slot", 10};
};

TEST_F(AnchorCacheTest, FindsTheDeepestAndSaysWhatItKnows) {
  AnchorCache cache({.anchors = 4}, &blocks_, &slots_);
  Save(&cache, {1, 2, 3});
  Save(&cache, {1, 2, 3, 4, 5, 6});
  AnchorCache::Match match = cache.Find(Symbols{1, 2, 3, 4, 5, 6, 7}, {}, 6);
  EXPECT_EQ(match.position, 6);
  EXPECT_EQ(match.matched, 6);
  match = cache.Find(Symbols{1, 2, 3, 4, 5, 6}, {}, 5);  // one token is left to run
  EXPECT_EQ(match.position, 3);
  match = cache.Find(Symbols{1, 2, 3, 4, 9}, {}, 4);
  EXPECT_EQ(match.position, 3);
  EXPECT_EQ(match.matched, 4);
  match = cache.Find(Symbols{2, 2}, {}, 1);
  EXPECT_EQ(match.anchor, nullptr);
  EXPECT_EQ(match.position, 0);
}

TEST_F(AnchorCacheTest, SymbolsThatMatchAreNotEnoughForPictures) {
  AnchorCache cache({.anchors = 4}, &blocks_, &slots_);
  const std::string key(32, 'a');
  std::string collides = key;  // in the part that a symbol holds
  collides[31] = 'b';
  const std::vector<ImageRun> images = {{.key = key, .position = 1, .rows = 2}};
  std::vector<ImageRun> others = images;
  others[0].key = collides;
  const std::vector<int32_t> ids = {5, 0, 0, 6};
  Symbols symbols, other_symbols;
  AppendSymbols(ids, images, 4, &symbols);
  AppendSymbols(ids, others, 4, &other_symbols);
  ASSERT_EQ(symbols, other_symbols);
  Save(&cache, symbols, AnchorValue::kBorder, images);
  symbols.push_back(7);
  EXPECT_EQ(cache.Find(symbols, images, 4).position, 4);
  EXPECT_EQ(cache.Find(symbols, others, 4).position, 0);
  // Placeholder ids alone are another content.
  Symbols text;
  AppendSymbols(ids, {}, 4, &text);
  EXPECT_EQ(cache.Find(text, {}, 4).matched, 1);
}

TEST_F(AnchorCacheTest, EvictsIntervalsFirstThenTheLeastRecentlyUsed) {
  AnchorCache cache({.anchors = 3}, &blocks_, &slots_);
  Save(&cache, {1, 1});
  Save(&cache, {2, 2});
  Save(&cache, {3, 3}, AnchorValue::kInterval);
  cache.Use(*cache.Find(Symbols{1, 1, 0}, {}, 2).anchor, /*step=*/4);
  Save(&cache, {4, 4});  // the interval's goes
  EXPECT_EQ(cache.Find(Symbols{3, 3, 0}, {}, 2).lost, 2);
  EXPECT_FALSE(cache.MakeRoom(AnchorValue::kInterval));  // never in the place of a better one
  Save(&cache, {5, 5});
  EXPECT_EQ(cache.Find(Symbols{2, 2, 0}, {}, 2).position, 0);
  EXPECT_EQ(cache.Find(Symbols{1, 1, 0}, {}, 2).position, 2);
  EXPECT_EQ(cache.evictions(), 2u);
  EXPECT_EQ(cache.size(), 3);
}

TEST_F(AnchorCacheTest, EvictionGivesBlocksAndSlotBack) {
  AnchorCache cache({.anchors = 3}, &blocks_, &slots_);
  Save(&cache, {1, 1, 1});
  EXPECT_EQ(blocks_.kept(), 2);
  EXPECT_EQ(slots_.owned(), 1);
  cache.Use(*cache.Find(Symbols{1, 1, 1, 0}, {}, 3).anchor, /*step=*/4);
  EXPECT_TRUE(cache.EvictOne());
  EXPECT_FALSE(cache.EvictOne());
  EXPECT_EQ(blocks_.kept(), 0);
  EXPECT_EQ(blocks_.free(), 100);
  EXPECT_EQ(slots_.releasing(), 1);  // step 4 copies from it
  slots_.StepsDone(4);
  EXPECT_EQ(slots_.free(), 10);
}

TEST_F(AnchorCacheTest, APromiseIsSeenUntilItIsWithdrawn) {
  AnchorCache cache({.anchors = 3}, &blocks_, &slots_);
  const Symbols symbols = {1, 2, 3, 4};
  PrefixTree::Node* promise = cache.Promise(std::span(symbols).first(2));
  EXPECT_EQ(cache.Find(symbols, {}, 3).promised, 2);
  const uint64_t version = cache.version();
  cache.Withdraw(promise);
  EXPECT_NE(cache.version(), version);
  EXPECT_EQ(cache.Find(symbols, {}, 3).promised, 0);
  EXPECT_EQ(cache.Find(symbols, {}, 3).matched, 0);
}

}  // namespace
}  // namespace fulger
