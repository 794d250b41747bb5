// The order of sampling: (logit descending, id ascending), and what is done with it over a whole vocabulary
// without sorting it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace fulger {

struct Ranked {
  float logit = 0;
  int32_t id = 0;
};
inline bool Before(const Ranked& a, const Ranked& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

// Index = id; -infinity marks a token that is out. -1 when all are.
int32_t FirstOfOrder(std::span<const float> logits);

// The first `count` of the order, sorted; fewer if fewer are in. One pass over the logits with a rising
// threshold, so the cost for a small count is that of reading them.
std::vector<Ranked> HeadOfOrder(std::span<const float> logits, int64_t count);

// weights[i] = exp((logits[i] - largest) / temperature), 0 where that is below min_weight or about
// 1e-38. Returns their sum, in id order. The arithmetic is plain float operations in a fixed order, so all
// machines of a stage get the same bits.
double Weights(std::span<const float> logits, float largest, float temperature, float min_weight,
               std::span<float> weights);

// The cumulative mass along the order, for a whole vocabulary. Tokens are dealt into narrow ranges of logits,
// of which the masses are known; only the range that a question falls into is sorted. Every question costs
// about a reading of the vocabulary, whether the distribution is peaked or flat.
class MassAlongOrder {
 public:
  struct Place {
    Ranked token;
    double mass = 0;  // of the order up to and including this token
  };

  // Weights as above; at least one must not be 0. `logits` must stay as they are while questions are asked.
  void Assign(std::span<const float> logits, float largest, float temperature, float min_weight);
  double total() const { return total_; }
  // The first token at which the mass is more than `mass` (with `reach`: at least). Where there is none, the
  // last.
  Place Find(double mass, bool reach) const;

 private:
  static constexpr size_t kRanges = 4096;

  std::span<const float> logits_;
  std::vector<float> weights_;
  std::vector<uint16_t> range_of_;  // token -> range
  std::vector<double> range_mass_;  // range 0 holds the largest logits
  double total_ = 0;
};

}  // namespace fulger
