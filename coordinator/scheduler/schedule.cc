#include "coordinator/scheduler/schedule.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace fulger {
namespace {

// One call's working state: what is left of the limits, and what was decided so far.
class Scheduling {
 public:
  Scheduling(std::span<const SequenceView> running, std::span<const SequenceView> waiting,
             const ScheduleLimits& limits)
      : running_(running),
        waiting_(waiting),
        limits_(limits),
        budget_(limits.step_tokens),
        free_(limits.free_blocks),
        releasing_(limits.releasing_blocks),
        state_(running.size(), State::kIdle) {}

  Decision Run() {
    DecodeSome(/*under_way=*/false);
    for (size_t i = 0; i < running_.size() && budget_ > 0; ++i) {
      if (state_[i] == State::kIdle && Prefilling(running_[i])) Prefill(i);
    }
    if (!short_of_blocks_) Admit();
    if (decision_.rows.empty()) DecodeSome(/*under_way=*/true);
    return std::move(decision_);
  }

 private:
  enum class State : uint8_t { kIdle, kPlanned, kPreempted };

  static bool Prefilling(const SequenceView& s) { return s.planned < s.known; }
  static bool Decoding(const SequenceView& s) { return s.planned >= s.known && s.planned < s.limit; }

  // Plans sequences whose token is out, which is when the pipeline has moved the step that samples it through
  // all stages; or else the first group of those whose token is under way (they wait for it on the device).
  void DecodeSome(bool under_way) {
    std::vector<size_t> candidates;
    int64_t decoding = 0;
    for (size_t i = 0; i < running_.size(); ++i) {
      const SequenceView& s = running_[i];
      if (!Decoding(s)) continue;
      ++decoding;
      const bool out = s.last_step + static_cast<uint64_t>(limits_.stages) <= limits_.step;
      if (!s.held && out != under_way && s.in_flight < limits_.rows_in_flight) candidates.push_back(i);
    }
    std::ranges::stable_sort(candidates, {}, [&](size_t i) { return running_[i].last_step; });
    int64_t quota = std::min((decoding + limits_.stages - 1) / limits_.stages, budget_);
    uint64_t group = 0;
    for (const size_t i : candidates) {
      if (quota == 0 || (under_way && group != 0 && running_[i].last_step != group)) break;
      if (!Decode(i)) continue;  // it lacks blocks: another may go
      --quota;
      group = running_[i].last_step;
    }
  }

  bool Decode(size_t i) {
    const SequenceView& s = running_[i];
    if (state_[i] != State::kIdle) return false;  // preempted for an older one
    if (!Reclaim(i, NewBlocks(s, 1))) return false;
    Plan({.index = i, .position = s.planned, .count = 1, .result_of_step = s.sampled_by, .sample = true}, s);
    return true;
  }

  void Prefill(size_t i) {
    const SequenceView& s = running_[i];
    const int64_t wanted = std::min(s.available - s.planned, budget_);
    if (wanted <= 0) return;
    if (!Reclaim(i, NewBlocks(s, 1))) return;
    const int64_t room = (s.blocks + free_) * limits_.block_size - s.planned;
    const int64_t count = std::min(wanted, room);
    Plan({.index = i, .position = s.planned, .count = count, .sample = s.planned + count == s.known}, s);
  }

  void Admit() {
    int64_t slots = limits_.free_slots;
    int64_t places = limits_.max_running - std::ssize(running_);
    int64_t promised = PromisedToPrefills();
    for (size_t i = 0; i < waiting_.size() && budget_ > 0 && slots > 0 && places > 0; ++i) {
      const SequenceView& s = waiting_[i];
      const int64_t blocks = BlocksFor(s.known, limits_.block_size);
      if (s.in_flight > 0 || promised + blocks > free_) break;
      const int64_t count = std::min(s.available, budget_);
      if (count <= 0) continue;
      promised += blocks - NewBlocks(s, count);
      Plan({.admits = true, .index = i, .count = count, .sample = count == s.known}, s);
      --slots;
      --places;
    }
  }

  // Blocks that running prefills will still take after this step.
  int64_t PromisedToPrefills() const {
    int64_t blocks = 0;
    for (const SequenceView& s : running_) {
      if (Prefilling(s)) blocks += BlocksFor(s.known, limits_.block_size) - s.blocks;
    }
    for (const PlannedRow& row : decision_.rows) {
      if (Prefilling(running_[row.index])) blocks -= row.new_blocks;
    }
    return blocks;
  }

  int64_t NewBlocks(const SequenceView& s, int64_t count) const {
    return std::max<int64_t>(0, BlocksFor(s.planned + count, limits_.block_size) - s.blocks);
  }

  // Whether `need` blocks are free now. If they are neither free nor about to be, the youngest running
  // sequences give theirs: at once, or when the steps in flight that name them have answered.
  bool Reclaim(size_t for_index, int64_t need) {
    if (need <= free_) return true;
    short_of_blocks_ = true;
    for (size_t v = running_.size(); v-- > for_index + 1 && free_ + releasing_ < need;) {
      if (state_[v] != State::kIdle || running_[v].blocks == 0) continue;
      state_[v] = State::kPreempted;
      decision_.preempted.push_back(v);
      (running_[v].in_flight == 0 ? free_ : releasing_) += running_[v].blocks;
    }
    if (need <= free_) return true;
    releasing_ = std::max<int64_t>(0, releasing_ - (need - free_));  // spoken for
    return false;
  }

  void Plan(PlannedRow row, const SequenceView& s) {
    row.new_blocks = NewBlocks(s, row.count);
    free_ -= row.new_blocks;
    budget_ -= row.count;
    if (!row.admits) state_[row.index] = State::kPlanned;
    decision_.rows.push_back(row);
  }

  const std::span<const SequenceView> running_;
  const std::span<const SequenceView> waiting_;
  const ScheduleLimits& limits_;
  int64_t budget_;
  int64_t free_;
  int64_t releasing_;
  std::vector<State> state_;
  bool short_of_blocks_ = false;
  Decision decision_;
};

}  // namespace

Decision Schedule(std::span<const SequenceView> running, std::span<const SequenceView> waiting,
                  const ScheduleLimits& limits) {
  return Scheduling(running, waiting, limits).Run();
}

}  // namespace fulger
