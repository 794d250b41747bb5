// Messages that wait for their receiver, in order. Buffers are used again, so a steady stream of equal
// messages allocates nothing after the first few. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstring>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

namespace fulger {

struct MessageBuffer {
  std::unique_ptr<std::byte[]> data;
  size_t capacity = 0;
  size_t bytes = 0;
};

// Keeps a few buffers for the next Take.
class BufferPool {
 public:
  MessageBuffer Take(size_t bytes) {
    for (auto it = spare_.rbegin(); it != spare_.rend(); ++it) {
      if (it->capacity < bytes) continue;
      MessageBuffer buffer = std::move(*it);
      spare_.erase(std::next(it).base());
      buffer.bytes = bytes;
      return buffer;
    }
    return {std::make_unique_for_overwrite<std::byte[]>(bytes), bytes, bytes};
  }
  void Give(MessageBuffer buffer) {
    if (spare_.size() == kMost) spare_.erase(spare_.begin());
    spare_.push_back(std::move(buffer));
  }

 private:
  static constexpr size_t kMost = 4;
  std::vector<MessageBuffer> spare_;
};

inline MessageBuffer CopyIn(BufferPool& pool, const void* data, size_t bytes) {
  MessageBuffer buffer = pool.Take(bytes);
  if (bytes > 0) std::memcpy(buffer.data.get(), data, bytes);
  return buffer;
}

class MessageQueue {
 public:
  bool empty() const { return messages_.empty(); }
  size_t front_bytes() const { return messages_.front().bytes; }
  void Push(MessageBuffer message) { messages_.push_back(std::move(message)); }
  MessageBuffer Pop() {
    MessageBuffer message = std::move(messages_.front());
    messages_.pop_front();
    return message;
  }

 private:
  std::deque<MessageBuffer> messages_;
};

}  // namespace fulger
