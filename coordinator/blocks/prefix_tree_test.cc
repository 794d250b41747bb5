#include "coordinator/blocks/prefix_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace fulger {
namespace {

using testing::ElementsAre;
using Symbols = std::vector<Symbol>;

std::vector<int64_t> Ends(const PrefixTree& tree, const Symbols& symbols, int64_t* matched = nullptr) {
  std::vector<int64_t> ends;
  const int64_t n = tree.Walk(symbols, [&](const PrefixTree::Node& node) { ends.push_back(node.end); });
  if (matched != nullptr) *matched = n;
  return ends;
}

TEST(PrefixTreeTest, SplitsWherePrefixesPart) {
  PrefixTree tree(100);
  PrefixTree::Node* long_one = tree.Make(Symbols{1, 2, 3, 4, 5});
  PrefixTree::Node* other = tree.Make(Symbols{1, 2, 9});
  PrefixTree::Node* inner = tree.Make(Symbols{1, 2});
  EXPECT_EQ(long_one->end, 5);  // nodes stay what they were through the splits
  EXPECT_EQ(other->end, 3);
  EXPECT_EQ(inner->end, 2);
  EXPECT_EQ(tree.Make(Symbols{1, 2, 3, 4, 5}), long_one);
  EXPECT_EQ(tree.symbols(), 6);
  int64_t matched = 0;
  EXPECT_THAT(Ends(tree, {1, 2, 3, 4, 5, 6}, &matched), ElementsAre(2, 5));
  EXPECT_EQ(matched, 5);
  EXPECT_THAT(Ends(tree, {1, 2, 3, 7}, &matched), ElementsAre(2));  // parts inside an edge
  EXPECT_EQ(matched, 3);
  EXPECT_THAT(Ends(tree, {8}, &matched), ElementsAre());
  EXPECT_EQ(matched, 0);
}

TEST(PrefixTreeTest, KeepsWhatIsNeededAndNoMore) {
  PrefixTree tree(4);
  PrefixTree::Node* a = tree.Make(Symbols{1, 2, 3});
  ++a->promises;
  PrefixTree::Node* b = tree.Make(Symbols{1, 2, 4, 4});
  tree.Settle(b);
  EXPECT_EQ(tree.symbols(), 3);
  b = tree.Make(Symbols{7, 7});
  tree.Remember(b);  // over the memory of four: forgotten at once
  EXPECT_EQ(tree.symbols(), 3);
  b = tree.Make(Symbols{8});
  tree.Remember(b);
  EXPECT_EQ(tree.symbols(), 4);
  --a->promises;
  tree.Settle(a);
  EXPECT_EQ(tree.symbols(), 1);
  tree.Recall(b);
  tree.Settle(b);
  EXPECT_EQ(tree.symbols(), 0);
}

}  // namespace
}  // namespace fulger
