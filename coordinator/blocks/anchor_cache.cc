#include "coordinator/blocks/anchor_cache.h"

#include <algorithm>

#include "base/check.h"

namespace fulger {
namespace {

// Symbols hold a part of a picture's key; this compares them whole.
bool SamePictures(const Anchor& anchor, std::span<const ImageRun> images) {
  const auto behind = [&](const ImageRun& image) { return image.position >= anchor.position; };
  const auto end = std::find_if(images.begin(), images.end(), behind);
  return std::equal(images.begin(), end, anchor.images.begin(), anchor.images.end());
}

}  // namespace

AnchorCache::Match AnchorCache::Find(std::span<const Symbol> symbols, std::span<const ImageRun> images,
                                     int64_t limit) const {
  Match match;
  match.matched = tree_.Walk(symbols, [&](const PrefixTree::Node& node) {
    if (node.end > limit) return;
    if (node.anchor != nullptr && SamePictures(*node.anchor, images)) {
      match.anchor = node.anchor;
      match.position = node.end;
    } else if (node.remembered) {
      match.lost = node.end;
    }
    if (node.promises > 0) match.promised = node.end;
  });
  return match;
}

void AnchorCache::Use(const Anchor& anchor, uint64_t step) {
  auto entry = anchors_.extract({anchor.value, anchor.used});
  FULGER_CHECK(!entry.empty(), "anchor at {} is used after it went", anchor.position);
  Anchor& used = *entry.mapped();
  used.value = AnchorValue::kBorder;
  used.used = ++tick_;
  used.last_step = step;
  entry.key() = {used.value, used.used};
  anchors_.insert(std::move(entry));
}

PrefixTree::Node* AnchorCache::Promise(std::span<const Symbol> symbols) {
  PrefixTree::Node* node = tree_.Make(symbols);
  ++node->promises;
  ++version_;
  return node;
}

void AnchorCache::Withdraw(PrefixTree::Node* node) {
  --node->promises;
  tree_.Settle(node);
  ++version_;
}

bool AnchorCache::Has(std::span<const Symbol> symbols) const {
  bool has = false;
  tree_.Walk(symbols, [&](const PrefixTree::Node& node) {
    has = has || (node.anchor != nullptr && node.end == static_cast<int64_t>(symbols.size()));
  });
  return has;
}

bool AnchorCache::MakeRoom(AnchorValue value) {
  if (size() + reserved_ < limits_.anchors) return true;
  if (anchors_.empty() || anchors_.begin()->first.first > value) return false;
  return EvictOne() && size() + reserved_ < limits_.anchors;
}

void AnchorCache::Insert(std::span<const Symbol> symbols, std::span<const ImageRun> images,
                         std::span<const int32_t> blocks, int32_t slot, AnchorValue value, uint64_t step) {
  PrefixTree::Node* node = tree_.Make(symbols);
  FULGER_CHECK(node->anchor == nullptr && size() + reserved_ < limits_.anchors,
               "anchor at {}: there already, or no room", node->end);
  tree_.Recall(node);
  auto anchor = std::make_unique<Anchor>(Anchor{.node = node,
                                                .position = node->end,
                                                .slot = slot,
                                                .blocks = {blocks.begin(), blocks.end()},
                                                .images = {},
                                                .value = value,
                                                .used = ++tick_,
                                                .last_step = step});
  for (const ImageRun& image : images) {
    if (image.position < node->end) anchor->images.push_back(image);
  }
  blocks_->Keep(blocks);
  node->anchor = anchor.get();
  anchors_.emplace(Order{value, anchor->used}, std::move(anchor));
  ++version_;
}

bool AnchorCache::EvictOne() {
  if (anchors_.empty()) return false;
  const std::unique_ptr<Anchor> anchor = std::move(anchors_.begin()->second);
  anchors_.erase(anchors_.begin());
  blocks_->Unkeep(anchor->blocks);
  slots_->Release(std::span(&anchor->slot, 1), anchor->last_step);
  anchor->node->anchor = nullptr;
  tree_.Remember(anchor->node);
  ++evictions_;
  ++version_;
  return true;
}

}  // namespace fulger
