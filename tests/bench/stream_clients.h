// Thousands of streaming clients in one thread: a line of bytes to each, and a check of every token that
// comes.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "base/status.h"

namespace fulger {

// Shared by the server's process and the clients'. Nanoseconds of the monotonic clock; [stream * tokens +
// index].
struct TokenTimes {
  int64_t streams = 0, tokens = 0;
  std::atomic<int64_t>* result = nullptr;    // the StepResult reached the engine's edge
  std::atomic<int64_t>* written = nullptr;   // the socket write that held it returned
  std::atomic<int64_t>* received = nullptr;  // the client read it
  std::atomic<int64_t>& At(std::atomic<int64_t>* times, int64_t stream, int64_t index) const {
    return times[stream * tokens + index];
  }
};
int64_t MonotonicNanoseconds();

struct ClientReport {
  int64_t complete = 0;               // streams with all tokens and [DONE]
  int64_t lost = 0;                   // tokens that never came, of all streams
  int64_t out_of_order = 0;           // events with another token than the next
  int64_t refused = 0;                // connections, or answers other than 200
  int64_t first_ns = 0, last_ns = 0;  // of the first and last token of all
  char message[200] = {};             // about the first stream at fault
};

// What marks a token in the bytes of an event: its text follows.
inline constexpr std::string_view kTokenMark = "\"content\":\"";
// The letter that token `index` is: one cycle of the alphabet after the other.
inline char Letter(int64_t index) { return static_cast<char>('a' + index % 26); }
inline std::string StreamName(int64_t stream) { return "stream-" + std::to_string(stream); }
// -1: none of these.
int64_t StreamOf(std::string_view name);

// Opens all, asks all, reads all; ends after `seconds` at the latest.
ClientReport RunClients(uint16_t port, const TokenTimes& times, double seconds);

}  // namespace fulger
