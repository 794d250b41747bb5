// A directed pair of threads: a queue of copies.
#include <chrono>
#include <cstring>
#include <utility>

#include "worker/comm/thread_state.h"

namespace fulger {
namespace {

class ThreadLink final : public Link {
 public:
  ThreadLink(std::shared_ptr<ThreadWorld::State> world, std::shared_ptr<ThreadLinkState> link,
             std::string name, int rank)
      : world_(std::move(world)), link_(std::move(link)), name_(std::move(name)), rank_(rank) {}

  absl::Status Send(Stream& stream, const TensorView& data) override {
    const Where where{"link", name_, "send"};
    RETURN_IF_ERROR(world_->failure->Check(where));
    if (rank_ != link_->from) return WrongEnd(where);
    RETURN_IF_ERROR(CheckMessage(where, data));
    RETURN_IF_ERROR(stream.Synchronize());
    const size_t bytes = static_cast<size_t>(data.bytes());
    std::unique_lock lock(world_->mu);
    MessageBuffer message = link_->pool.Take(bytes);
    lock.unlock();
    if (bytes > 0) std::memcpy(message.data.get(), data.raw(), bytes);
    lock.lock();
    link_->queue.Push(std::move(message));
    link_->cv.notify_one();
    return absl::OkStatus();
  }

  absl::Status Recv(Stream& stream, const MutTensorView& data) override {
    const Where where{"link", name_, "receive"};
    RETURN_IF_ERROR(world_->failure->Check(where));
    if (rank_ != link_->to) return WrongEnd(where);
    RETURN_IF_ERROR(CheckMessage(where, data));
    RETURN_IF_ERROR(stream.Synchronize());
    const size_t bytes = static_cast<size_t>(data.bytes());
    std::unique_lock lock(world_->mu);
    const auto deadline = std::chrono::steady_clock::now() + world_->options.deadline;
    const bool woken = link_->cv.wait_until(
        lock, deadline, [&] { return !link_->queue.empty() || world_->failure->failed(); });
    RETURN_IF_ERROR(world_->failure->Check(where));
    if (!woken) {
      return world_->FailLocked(DeadlineExceeded("{}: nothing from rank {} within {} ms", where.ToString(),
                                                 link_->from, world_->options.deadline.count()));
    }
    RETURN_IF_ERROR(CheckMessageSize(where, bytes, link_->queue.front_bytes()));
    MessageBuffer message = link_->queue.Pop();
    lock.unlock();
    if (bytes > 0) std::memcpy(data.mut_raw(), message.data.get(), bytes);
    lock.lock();
    link_->pool.Give(std::move(message));
    return absl::OkStatus();
  }

  absl::StatusOr<bool> Ready() override {
    const Where where{"link", name_, "ready"};
    RETURN_IF_ERROR(world_->failure->Check(where));
    if (rank_ != link_->to) return WrongEnd(where);
    std::lock_guard lock(world_->mu);
    return !link_->queue.empty();
  }

 private:
  absl::Status WrongEnd(const Where& where) const {
    return Internal("{}: rank {} is the wrong end of {} -> {}", where.ToString(), rank_, link_->from,
                    link_->to);
  }

  const std::shared_ptr<ThreadWorld::State> world_;  // shared with all ranks
  const std::shared_ptr<ThreadLinkState> link_;      // shared with the other end
  const std::string name_;
  const int rank_;
};

}  // namespace

std::unique_ptr<Link> MakeThreadLink(std::shared_ptr<ThreadWorld::State> world,
                                     std::shared_ptr<ThreadLinkState> link, std::string name, int rank) {
  return std::make_unique<ThreadLink>(std::move(world), std::move(link), std::move(name), rank);
}

}  // namespace fulger
