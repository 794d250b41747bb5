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
        state_(running.size(), State::kIdle),
        awaiting_(std::ranges::any_of(running, &SequenceView::awaits)) {}

  Decision Run() {
    DisplaceForBetter();
    DecodeSome(/*under_way=*/false);
    for (size_t i = 0; i < running_.size() && budget_ > 0; ++i) {
      if (state_[i] == State::kIdle && Prefilling(running_[i])) Prefill(i);
    }
    if (!short_of_blocks_) Admit();
    UseUpBudget();
    if (decision_.rows.empty()) DecodeSome(/*under_way=*/true);
    return std::move(decision_);
  }

 private:
  enum class State : uint8_t { kIdle, kPlanned, kPreempted };

  static bool Prefilling(const SequenceView& s) { return s.planned < s.known; }
  static bool Decoding(const SequenceView& s) { return s.planned >= s.known && s.planned < s.limit; }

  // Waiting: it could run nothing, or would hold a place until a picture is ready, as another does already.
  bool PassedOver(const SequenceView& s) const { return s.available <= s.planned || (s.awaits && awaiting_); }

  int64_t PlacesLeft() const {
    return limits_.max_running - std::ssize(running_) + std::ssize(decision_.preempted) +
           std::ssize(decision_.displaced);
  }
  // What admitting `s` takes of the available blocks.
  int64_t AdmissionBlocks(const SequenceView& s) const {
    return BlocksFor(s.known, limits_.block_size) - s.blocks + s.pins;
  }

  void DisplaceForBetter() {
    if (running_.empty() || waiting_.empty()) return;
    const auto priority = [](const SequenceView& s) { return s.priority; };
    const int32_t worst = std::ranges::max(running_, {}, priority).priority;
    int64_t claimed_places = 0;
    int64_t claimed_blocks = PromisedToPrefills();
    for (const SequenceView& s : waiting_) {
      if (s.in_flight > 0 || s.priority >= worst) break;
      if (PassedOver(s)) continue;
      const int64_t short_of = claimed_blocks + AdmissionBlocks(s) - free_ - releasing_;
      if (!Displace(s, short_of, claimed_places + 1 - PlacesLeft())) break;
      ++claimed_places;
      claimed_blocks += AdmissionBlocks(s);
    }
  }

  // Frees `blocks` and `places` (nothing where they are not positive), or does nothing and says false.
  bool Displace(const SequenceView& better, int64_t blocks, int64_t places) {
    std::vector<size_t> victims;
    int64_t yield = 0;
    for (size_t v = running_.size(); v-- > 0;) {
      if (yield >= blocks && std::ssize(victims) >= places) break;
      const SequenceView& r = running_[v];
      if (state_[v] != State::kIdle || r.priority <= better.priority || r.rank <= better.rank) continue;
      victims.push_back(v);
      yield += r.sole;
    }
    if (yield < blocks || std::ssize(victims) < places) return false;
    for (const size_t v : victims) {
      state_[v] = State::kPreempted;
      if (blocks > 0) {
        decision_.preempted.push_back(v);
        (running_[v].in_flight == 0 ? free_ : releasing_) += running_[v].sole;
        blocks -= running_[v].sole;
      } else {
        decision_.displaced.push_back(v);
      }
    }
    return true;
  }

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
    const auto last_step = [&](size_t i) { return running_[i].last_step; };
    if (!std::ranges::is_sorted(candidates, {}, last_step))
      std::ranges::stable_sort(candidates, {}, last_step);
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
    const int64_t wanted = std::min(s.available - s.planned, Share(s, i + 1, 0));
    if (wanted <= 0) return;
    if (!Reclaim(i, NewBlocks(s, 1))) return;
    const int64_t room = (s.blocks + free_) * limits_.block_size - s.planned;
    const int64_t count = std::min(wanted, room);
    Plan({.index = i, .position = s.planned, .count = count, .sample = s.planned + count == s.known}, s);
  }

  void Admit() {
    int64_t slots = limits_.free_slots;
    int64_t places = PlacesLeft();
    int64_t promised = PromisedToPrefills();
    for (size_t i = 0; i < waiting_.size() && budget_ > 0 && slots > 0 && places > 0; ++i) {
      const SequenceView& s = waiting_[i];
      const int64_t blocks = AdmissionBlocks(s);
      if (s.in_flight > 0) break;
      if (PassedOver(s)) continue;
      if (promised + blocks > free_) break;
      const int64_t share = slots > 1 && places > 1 ? Share(s, running_.size(), i + 1) : budget_;
      const int64_t count = std::min(s.available - s.planned, share);
      awaiting_ = awaiting_ || s.awaits;
      promised += blocks - NewBlocks(s, count) - s.pins;
      free_ -= s.pins;
      Plan({.admits = true,
            .index = i,
            .position = s.planned,
            .count = count,
            .sample = s.planned + count == s.known},
           s);
      --slots;
      --places;
    }
  }

  // What `s` may take of the budget: half, if that does not do for it and a later prompt can run as well.
  int64_t Share(const SequenceView& s, size_t running, size_t waiting) const {
    if (s.available - s.planned <= budget_) return budget_;
    for (size_t i = running; i < running_.size(); ++i) {
      const SequenceView& other = running_[i];
      if (state_[i] == State::kIdle && Prefilling(other) && other.available > other.planned) {
        return (budget_ + 1) / 2;
      }
    }
    const bool admitting = limits_.free_slots > 0 && PlacesLeft() > 0 && !short_of_blocks_;
    for (size_t i = waiting; admitting && i < waiting_.size(); ++i) {
      if (!PassedOver(waiting_[i])) return (budget_ + 1) / 2;
    }
    return budget_;
  }

  // What the others left goes to the prompts that took half.
  void UseUpBudget() {
    for (PlannedRow& row : decision_.rows) {
      if (budget_ == 0) return;
      const SequenceView& s = row.admits ? waiting_[row.index] : running_[row.index];
      if (!Prefilling(s)) continue;
      const int64_t room = (s.blocks + row.new_blocks + free_) * limits_.block_size - s.planned - row.count;
      const int64_t more = std::min({s.available - s.planned - row.count, budget_, room});
      if (more <= 0) continue;
      free_ += row.new_blocks;
      row.count += more;
      row.new_blocks = NewBlocks(s, row.count);
      free_ -= row.new_blocks;
      budget_ -= more;
      row.sample = s.planned + row.count == s.known;
    }
  }

  // Blocks that running prefills will still take after this step.
  int64_t PromisedToPrefills() const {
    int64_t blocks = 0;
    for (size_t i = 0; i < running_.size(); ++i) {
      const SequenceView& s = running_[i];
      if (state_[i] != State::kPreempted && Prefilling(s)) {
        blocks += BlocksFor(s.known, limits_.block_size) - s.blocks;
      }
    }
    for (const PlannedRow& row : decision_.rows) {
      if (!row.admits && Prefilling(running_[row.index])) blocks -= row.new_blocks;
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
      (running_[v].in_flight == 0 ? free_ : releasing_) += running_[v].sole;
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
  bool awaiting_;  // one that awaits pictures runs
  bool short_of_blocks_ = false;
  Decision decision_;
};

}  // namespace

Decision Schedule(std::span<const SequenceView> running, std::span<const SequenceView> waiting,
                  const ScheduleLimits& limits) {
  return Scheduling(running, waiting, limits).Run();
}

}  // namespace fulger
