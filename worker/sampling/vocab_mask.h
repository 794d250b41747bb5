// The ids that may be sampled: a checkpoint's embedding has more rows than its tokenizer has tokens, and the
// logits of those rows mean nothing.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace fulger {

class VocabMask {
 public:
  struct Run {
    int64_t begin = 0;
    int64_t end = 0;
  };

  // `vocabulary` rows, of which `unused` (any order, repeats and ids outside are ignored) are never sampled.
  explicit VocabMask(int64_t vocabulary, std::span<const int32_t> unused = {});

  int64_t vocabulary() const { return vocabulary_; }
  // Usable ids as ascending runs.
  std::span<const Run> runs() const { return runs_; }
  // 0 <= id < vocabulary and usable.
  bool usable(int64_t id) const;

 private:
  int64_t vocabulary_;
  std::vector<Run> runs_;
};

}  // namespace fulger
