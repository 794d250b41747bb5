// Collectives of rank threads. Each rank publishes its tensors; when all have arrived, the last one moves the
// data of a small operation alone (one sleep per rank), while a large one is shared out: every rank does its
// part of it, reading and writing the others' tensors directly.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "worker/comm/sum.h"
#include "worker/comm/thread_state.h"

namespace fulger {
namespace {

using SteadyTime = std::chrono::steady_clock::time_point;

// Below this many bytes, summed over the ranks, waking everybody to help costs more than it saves.
constexpr size_t kAloneBytes = size_t{1} << 20;

class ThreadCollective final : public Collective {
 public:
  ThreadCollective(std::shared_ptr<ThreadWorld::State> world, std::shared_ptr<ThreadGroupState> group,
                   int index)
      : world_(std::move(world)), group_(std::move(group)), index_(index) {}

  int rank() const override { return index_; }
  int size() const override { return static_cast<int>(group_->ranks.size()); }
  const std::string& name() const override { return group_->name; }

  absl::Status AllReduceSum(Stream& stream, const MutTensorView& data) override {
    const Where where{"group", name(), "all-reduce"};
    RETURN_IF_ERROR(CheckAllReduce(where, data));
    const ThreadCall call{.operation = where.operation,
                          .bytes = static_cast<size_t>(data.bytes()),
                          .in = data.raw(),
                          .out = data.mut_raw()};
    return Run(stream, where, call, &ThreadCollective::SumSlice);
  }

  absl::Status AllGather(Stream& stream, const TensorView& in, const MutTensorView& out) override {
    const Where where{"group", name(), "all-gather"};
    RETURN_IF_ERROR(CheckAllGather(where, in, out, size()));
    const ThreadCall call{.operation = where.operation,
                          .bytes = static_cast<size_t>(in.bytes()),
                          .in = in.raw(),
                          .out = out.mut_raw()};
    return Run(stream, where, call, &ThreadCollective::GatherTo);
  }

  absl::Status Broadcast(Stream& stream, const MutTensorView& data, int root) override {
    const Where where{"group", name(), "broadcast"};
    RETURN_IF_ERROR(CheckBroadcast(where, data, root, size()));
    const ThreadCall call{.operation = where.operation,
                          .bytes = static_cast<size_t>(data.bytes()),
                          .root = root,
                          .in = data.raw(),
                          .out = data.mut_raw()};
    return Run(stream, where, call, &ThreadCollective::BroadcastTo);
  }

  absl::Status Barrier(Stream& stream) override {
    const Where where{"group", name(), "barrier"};
    return Run(stream, where, ThreadCall{.operation = where.operation}, nullptr);
  }

 private:
  // Does the part of the operation that belongs to `part`, of size() parts.
  using Work = void (ThreadCollective::*)(int part) const;

  void SumSlice(int part) const {
    const auto& calls = group_->calls;
    const size_t count = calls[0].bytes / sizeof(float);
    const size_t n = calls.size();
    const size_t begin = count * static_cast<size_t>(part) / n;
    const size_t end = count * static_cast<size_t>(part + 1) / n;
    std::vector<const float*> inputs(n);
    std::vector<float*> outputs(n);
    for (size_t r = 0; r < n; ++r) {
      inputs[r] = static_cast<const float*>(calls[r].in) + begin;
      outputs[r] = static_cast<float*>(calls[r].out) + begin;
    }
    SumInRankOrder(inputs, outputs, end - begin);
  }

  void GatherTo(int part) const {
    const auto& calls = group_->calls;
    char* out = static_cast<char*>(calls[static_cast<size_t>(part)].out);
    for (const ThreadCall& call : calls) {
      if (call.in != out && call.bytes > 0) std::memcpy(out, call.in, call.bytes);
      out += call.bytes;
    }
  }

  void BroadcastTo(int part) const {
    const ThreadCall& to = group_->calls[static_cast<size_t>(part)];
    if (part == to.root || to.bytes == 0) return;
    std::memcpy(to.out, group_->calls[static_cast<size_t>(to.root)].in, to.bytes);
  }

  absl::Status Run(Stream& stream, const Where& where, const ThreadCall& call, Work work) {
    RETURN_IF_ERROR(world_->failure->Check(where));
    RETURN_IF_ERROR(stream.Synchronize());
    ThreadGroupState& g = *group_;
    std::unique_lock lock(world_->mu);
    RETURN_IF_ERROR(world_->failure->Check(where));
    RETURN_IF_ERROR(Arrive(where, call));
    const uint64_t generation = g.generation;
    const bool alone = work == nullptr || call.bytes * g.calls.size() <= kAloneBytes;
    if (g.arrived < size()) {
      RETURN_IF_ERROR(WaitForAll(lock, where, generation, alone));
      if (alone) return absl::OkStatus();
    } else {
      g.working = true;
      if (!alone) g.cv.notify_all();
    }
    lock.unlock();
    if (alone && work != nullptr) {
      for (int part = 0; part < size(); ++part) (this->*work)(part);
    } else if (work != nullptr) {
      (this->*work)(index_);
    }
    lock.lock();
    Leave(lock, generation, alone);
    return absl::OkStatus();
  }

  // With the mutex held: publishes our tensors, and checks that everybody calls the same.
  absl::Status Arrive(const Where& where, const ThreadCall& call) {
    ThreadGroupState& g = *group_;
    for (size_t r = 0; r < g.calls.size(); ++r) {
      if (!g.present[r]) continue;
      const ThreadCall& other = g.calls[r];
      if (other.operation == call.operation && other.bytes == call.bytes && other.root == call.root) break;
      return world_->FailLocked(
          Internal("{}: rank {} calls {} of {} bytes (root {}) while rank {} calls {} of {} bytes (root {})",
                   where.ToString(), World(index_), call.operation, call.bytes, call.root, g.ranks[r],
                   other.operation, other.bytes, other.root));
    }
    g.calls[static_cast<size_t>(index_)] = call;
    g.present[static_cast<size_t>(index_)] = true;
    ++g.arrived;
    return absl::OkStatus();
  }

  // Until all have arrived; until the data has moved as well if the last one moves it alone. Once all have
  // arrived neither deadline nor abort ends it: our tensors are in use, for as long as the copies take.
  absl::Status WaitForAll(std::unique_lock<std::mutex>& lock, const Where& where, uint64_t generation,
                          bool alone) {
    ThreadGroupState& g = *group_;
    const SteadyTime deadline = std::chrono::steady_clock::now() + world_->options.deadline;
    while (g.generation == generation) {
      if (g.working) {
        if (!alone) return absl::OkStatus();
        g.cv.wait(lock);
        continue;
      }
      RETURN_IF_ERROR(world_->failure->Check(where));
      if (std::chrono::steady_clock::now() >= deadline) return world_->FailLocked(Missing(where));
      g.cv.wait_until(lock, deadline);
    }
    return absl::OkStatus();
  }

  // The last one to leave opens the next generation.
  void Leave(std::unique_lock<std::mutex>& lock, uint64_t generation, bool alone) {
    ThreadGroupState& g = *group_;
    if (alone || ++g.finished == size()) {
      g.working = false;
      g.arrived = 0;
      g.finished = 0;
      std::fill(g.present.begin(), g.present.end(), 0);
      ++g.generation;
      g.cv.notify_all();
      return;
    }
    g.cv.wait(lock, [&] { return g.generation != generation; });
  }

  absl::Status Missing(const Where& where) const {
    std::vector<int> missing;
    for (size_t r = 0; r < group_->present.size(); ++r) {
      if (!group_->present[r]) missing.push_back(group_->ranks[r]);
    }
    return DeadlineExceeded("{}: rank {} did not come within {} ms ({} of {} ranks are here)",
                            where.ToString(), JoinRanks(missing), world_->options.deadline.count(),
                            group_->arrived, size());
  }

  int World(int index) const { return group_->ranks[static_cast<size_t>(index)]; }

  const std::shared_ptr<ThreadWorld::State> world_;  // shared with all ranks
  const std::shared_ptr<ThreadGroupState> group_;    // shared with the members
  const int index_;
};

}  // namespace

std::unique_ptr<Collective> MakeThreadCollective(std::shared_ptr<ThreadWorld::State> world,
                                                 std::shared_ptr<ThreadGroupState> group, int index) {
  return std::make_unique<ThreadCollective>(std::move(world), std::move(group), index);
}

}  // namespace fulger
