// Collectives over MPI, made of nonblocking messages and not of MPI's own collectives, for three reasons: the
// sum is then taken in rank order whatever the size (MPI may choose another order, and another on each rank),
// a wait can be ended by an abort or a deadline, and the deadline can name the rank that did not come.
//
// Small: everybody sends everything to everybody, one step. Large: slices, so that each rank moves about
// twice the bytes however many ranks there are.
#include <mpi.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "worker/comm/mpi_state.h"
#include "worker/comm/sum.h"

namespace fulger {
namespace {

// Small: what one rank would receive from all others together is at most this.
constexpr size_t kSmallBytes = size_t{128} << 10;
// A larger all-reduce goes in rounds of this many floats: bounds the memory for what is received.
constexpr size_t kRoundFloats = size_t{8} << 20;

class MpiCollective final : public Collective {
 public:
  MpiCollective(std::shared_ptr<MpiState> state, MPI_Comm comm, std::vector<int> ranks, int index,
                std::string name)
      : state_(std::move(state)),
        ranks_(std::move(ranks)),
        index_(index),
        name_(std::move(name)),
        exchange_(*state_, comm, ranks_) {}
  ~MpiCollective() override {
    // MPI may still write here: the memory must outlive us.
    if (state_->failure().failed()) static_cast<void>(scratch_.release());
  }

  int rank() const override { return index_; }
  int size() const override { return static_cast<int>(ranks_.size()); }
  const std::string& name() const override { return name_; }

  absl::Status AllReduceSum(Stream& stream, const MutTensorView& data) override {
    const Where where{"group", name_, "all-reduce"};
    RETURN_IF_ERROR(CheckAllReduce(where, data));
    RETURN_IF_ERROR(Begin(where, stream));
    float* values = data.mut_data<float>();
    const size_t count = static_cast<size_t>(data.elements());
    if (Small(count * sizeof(float))) return ReduceSmall(where, values, count);
    for (size_t begin = 0; begin < count; begin += kRoundFloats) {
      RETURN_IF_ERROR(ReduceSlices(where, values + begin, std::min(kRoundFloats, count - begin)));
    }
    return absl::OkStatus();
  }

  absl::Status AllGather(Stream& stream, const TensorView& in, const MutTensorView& out) override {
    const Where where{"group", name_, "all-gather"};
    RETURN_IF_ERROR(CheckAllGather(where, in, out, size()));
    RETURN_IF_ERROR(Begin(where, stream));
    const size_t bytes = static_cast<size_t>(in.bytes());
    char* all = static_cast<char*>(out.mut_raw());
    const int tag = NextTag(kGather);
    for (const int peer : Peers()) {
      RETURN_IF_ERROR(exchange_.Recv(where, peer, tag, all + static_cast<size_t>(peer) * bytes, bytes));
    }
    for (const int peer : Peers()) RETURN_IF_ERROR(exchange_.Send(where, peer, tag, in.raw(), bytes));
    char* own = all + static_cast<size_t>(index_) * bytes;
    if (bytes > 0 && in.raw() != own) std::memcpy(own, in.raw(), bytes);
    return Finish(where);
  }

  absl::Status Broadcast(Stream& stream, const MutTensorView& data, int root) override {
    const Where where{"group", name_, "broadcast"};
    RETURN_IF_ERROR(CheckBroadcast(where, data, root, size()));
    RETURN_IF_ERROR(Begin(where, stream));
    char* bytes = static_cast<char*>(data.mut_raw());
    const size_t count = static_cast<size_t>(data.bytes());
    if (Small(count) || size() == 2) return BroadcastSmall(where, bytes, count, root);
    return BroadcastSlices(where, bytes, count, root);
  }

  absl::Status Barrier(Stream& stream) override {
    const Where where{"group", name_, "barrier"};
    RETURN_IF_ERROR(Begin(where, stream));
    const int tag = NextTag(kBarrier);
    for (const int peer : Peers()) RETURN_IF_ERROR(exchange_.Recv(where, peer, tag, nullptr, 0));
    for (const int peer : Peers()) RETURN_IF_ERROR(exchange_.Send(where, peer, tag, nullptr, 0));
    return Finish(where);
  }

 private:
  enum Kind : uint64_t { kReduce, kGather, kBroadcast, kBarrier, kKinds };

  absl::Status Begin(const Where& where, Stream& stream) {
    RETURN_IF_ERROR(state_->Check(where));
    return stream.Synchronize();
  }
  absl::Status Finish(const Where& where) { return exchange_.Finish(where, state_->options().deadline); }

  bool Small(size_t bytes) const { return bytes * (ranks_.size() - 1) <= kSmallBytes; }

  // Kind and sequence number: ranks that call different operations never match, and the deadline says so.
  int NextTag(Kind kind) { return state_->TagOf(++sequence_ * kKinds + kind); }

  // Everybody else, beginning after us, so that not all send to rank 0 first.
  std::vector<int> Peers() const {
    std::vector<int> peers;
    for (int k = 1; k < size(); ++k) peers.push_back((index_ + k) % size());
    return peers;
  }

  // Received values, one run of `count` per rank; our own run is unused. Grows to the largest size used.
  float* Scratch(size_t count, int peer) { return scratch_.get() + count * static_cast<size_t>(peer); }
  void Reserve(size_t count) {
    if (count <= scratch_count_) return;
    scratch_ = std::make_unique_for_overwrite<float[]>(count);
    scratch_count_ = count;
  }

  void Sum(float* own, size_t count, size_t stride) {
    std::vector<const float*> inputs;
    for (int peer = 0; peer < size(); ++peer) inputs.push_back(peer == index_ ? own : Scratch(stride, peer));
    float* const outputs[] = {own};
    SumInRankOrder(inputs, outputs, count);
  }

  absl::Status ReduceSmall(const Where& where, float* values, size_t count) {
    Reserve(count * ranks_.size());
    const int tag = NextTag(kReduce);
    const size_t bytes = count * sizeof(float);
    for (const int peer : Peers()) {
      RETURN_IF_ERROR(exchange_.Recv(where, peer, tag, Scratch(count, peer), bytes));
    }
    for (const int peer : Peers()) RETURN_IF_ERROR(exchange_.Send(where, peer, tag, values, bytes));
    RETURN_IF_ERROR(Finish(where));
    Sum(values, count, count);
    return absl::OkStatus();
  }

  // Rank r sums slice r of everybody's values, then all gather the slices.
  absl::Status ReduceSlices(const Where& where, float* values, size_t count) {
    const Slices slices(count, ranks_.size());
    const size_t most = slices.most();
    Reserve(most * ranks_.size());
    int tag = NextTag(kReduce);
    const size_t own_bytes = slices.count(index_) * sizeof(float);
    for (const int peer : Peers()) {
      RETURN_IF_ERROR(exchange_.Recv(where, peer, tag, Scratch(most, peer), own_bytes));
    }
    for (const int peer : Peers()) {
      RETURN_IF_ERROR(
          exchange_.Send(where, peer, tag, values + slices.begin(peer), slices.count(peer) * sizeof(float)));
    }
    RETURN_IF_ERROR(Finish(where));
    float* own = values + slices.begin(index_);
    Sum(own, slices.count(index_), most);

    tag = NextTag(kReduce);
    for (const int peer : Peers()) {
      RETURN_IF_ERROR(
          exchange_.Recv(where, peer, tag, values + slices.begin(peer), slices.count(peer) * sizeof(float)));
    }
    for (const int peer : Peers()) RETURN_IF_ERROR(exchange_.Send(where, peer, tag, own, own_bytes));
    return Finish(where);
  }

  absl::Status BroadcastSmall(const Where& where, char* data, size_t bytes, int root) {
    const int tag = NextTag(kBroadcast);
    if (index_ != root) {
      RETURN_IF_ERROR(exchange_.Recv(where, root, tag, data, bytes));
    } else {
      for (const int peer : Peers()) RETURN_IF_ERROR(exchange_.Send(where, peer, tag, data, bytes));
    }
    return Finish(where);
  }

  // The root deals out slices, everybody passes its slice on (the root its own as well).
  absl::Status BroadcastSlices(const Where& where, char* data, size_t bytes, int root) {
    const Slices slices(bytes, ranks_.size());
    const int deal = NextTag(kBroadcast);
    const int pass = NextTag(kBroadcast);
    for (const int peer : Peers()) {
      if (index_ == root) {
        RETURN_IF_ERROR(exchange_.Send(where, peer, deal, data + slices.begin(peer), slices.count(peer)));
      } else {
        RETURN_IF_ERROR(exchange_.Recv(where, peer, pass, data + slices.begin(peer), slices.count(peer)));
      }
    }
    if (index_ != root) {
      MpiExchange own(*state_, exchange_.comm(), ranks_);
      RETURN_IF_ERROR(own.Recv(where, root, deal, data + slices.begin(index_), slices.count(index_)));
      RETURN_IF_ERROR(own.Finish(where, state_->options().deadline));
    }
    for (const int peer : Peers()) {
      if (peer == root) continue;
      RETURN_IF_ERROR(exchange_.Send(where, peer, pass, data + slices.begin(index_), slices.count(index_)));
    }
    return Finish(where);
  }

  // [0, total) cut into `parts` runs whose lengths differ by at most one.
  class Slices {
   public:
    Slices(size_t total, size_t parts) : total_(total), parts_(parts) {}
    size_t begin(int part) const { return total_ * static_cast<size_t>(part) / parts_; }
    size_t count(int part) const { return begin(part + 1) - begin(part); }
    size_t most() const { return total_ / parts_ + 1; }

   private:
    const size_t total_, parts_;
  };

  const std::shared_ptr<MpiState> state_;  // shared with the fabric and what else it made
  const std::vector<int> ranks_;           // world ranks
  const int index_;
  const std::string name_;
  MpiExchange exchange_;
  uint64_t sequence_ = 0;
  std::unique_ptr<float[]> scratch_;
  size_t scratch_count_ = 0;
};

}  // namespace

std::unique_ptr<Collective> MakeMpiCollective(std::shared_ptr<MpiState> state, MPI_Comm comm,
                                              std::vector<int> ranks, int index, std::string name) {
  return std::make_unique<MpiCollective>(std::move(state), comm, std::move(ranks), index, std::move(name));
}

}  // namespace fulger
