#include "worker/doctor/pair.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

namespace fulger {
namespace {

using Time = std::chrono::steady_clock;

constexpr int64_t kLargest = int64_t{4} << 20;  // bytes of one message: about what a stage's rows take
constexpr int64_t kFirstBurst = int64_t{128} << 10;
constexpr int64_t kMostBytes = int64_t{1} << 30;  // of a burst
constexpr int64_t kWindow = 4;                    // messages that may wait to be acknowledged
constexpr int kWarmUps = 3;                       // the first message opens the connection
constexpr size_t kMostPings = 200, kFewestPings = 5;
constexpr double kPingShare = 0.2;  // of the time; each direction of the large ones gets half the rest

double SecondsSince(Time::time_point begin) {
  return std::chrono::duration<double>(Time::now() - begin).count();
}

class Pair {
 public:
  static absl::StatusOr<std::unique_ptr<Pair>> Make(Fabric& fabric, Device& device,
                                                    const v1::Measure& measure) {
    std::unique_ptr<Pair> pair(new Pair(device));
    const int own = fabric.rank(), partner = measure.partner();
    const auto name = [&](int from, int to) {
      return fmt::format("doctor.{}.{}.{}", measure.round(), from, to);
    };
    // In one order on both sides.
    const int low = std::min(own, partner), high = std::max(own, partner);
    ASSIGN_OR_RETURN(auto up, fabric.Connect(low, high, name(low, high)));
    ASSIGN_OR_RETURN(auto down, fabric.Connect(high, low, name(high, low)));
    pair->out_ = own == low ? std::move(up) : std::move(down);
    pair->in_ = own == low ? std::move(down) : std::move(up);
    ASSIGN_OR_RETURN(pair->data_, device.Allocate(kLargest));
    ASSIGN_OR_RETURN(pair->word_, device.Allocate(sizeof(Word)));
    return pair;
  }

  // Half of the median round trip. The other side answers by Echo.
  absl::StatusOr<double> Ping(double seconds) {
    for (int i = 0; i < kWarmUps; ++i) RETURN_IF_ERROR(RoundTrip().status());
    std::vector<double> times;
    const auto begin = Time::now();
    while (times.size() < kFewestPings || (times.size() < kMostPings && SecondsSince(begin) < seconds)) {
      ASSIGN_OR_RETURN(const double time, RoundTrip());
      times.push_back(time);
    }
    RETURN_IF_ERROR(SendWord({kStop, 0}));
    const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
    std::nth_element(times.begin(), middle, times.end());
    return *middle / 2;
  }
  absl::Status Echo() {
    while (true) {
      ASSIGN_OR_RETURN(const Word word, RecvWord());
      if (word[0] == kStop) return absl::OkStatus();
      RETURN_IF_ERROR(SendWord(word));
    }
  }

  // Bursts, each as large as the rate of the one before lets it be, until one has taken most of the time. The
  // other side takes them by Drain.
  absl::StatusOr<double> Flood(double seconds) {
    double rate = 0;
    const auto begin = Time::now();
    for (int64_t bytes = kFirstBurst; true;) {
      const int64_t message = std::clamp(bytes / kWindow, int64_t{1} << 10, kLargest);
      const int64_t count = std::max(kWindow, bytes / message);
      const auto start = Time::now();
      RETURN_IF_ERROR(Burst(message, count));
      const double took = std::max(SecondsSince(start), 1e-9);
      rate = static_cast<double>(message * count) / took;
      if (took >= 0.4 * seconds || SecondsSince(begin) >= 0.6 * seconds || bytes >= kMostBytes) break;
      const auto wanted = static_cast<int64_t>(rate * 0.6 * seconds);
      bytes = std::clamp(wanted, bytes, std::min(16 * bytes, kMostBytes));
    }
    RETURN_IF_ERROR(SendWord({0, 0}));
    return rate;
  }
  absl::Status Drain() {
    while (true) {
      ASSIGN_OR_RETURN(const Word head, RecvWord());
      const auto [message, count] = head;
      if (count == 0) return absl::OkStatus();
      if (message <= 0 || message > kLargest) return Internal("a burst of messages of {} bytes", message);
      for (int64_t i = 0; i < count; ++i) {
        RETURN_IF_ERROR(in_->Recv(stream(), MutTensorView(data_.data(), DType::kU8, {message})));
        RETURN_IF_ERROR(stream().Synchronize());
        RETURN_IF_ERROR(SendWord({i, 0}));
      }
    }
  }

 private:
  using Word = std::array<int64_t, 2>;
  static constexpr int64_t kGo = 1, kStop = 0;

  explicit Pair(Device& device) : device_(&device) {}
  Stream& stream() { return device_->stream(); }

  absl::Status SendWord(const Word& word) {
    RETURN_IF_ERROR(device_->CopyToDevice(stream(), word.data(), word_.data(), sizeof(word)));
    RETURN_IF_ERROR(out_->Send(stream(), TensorView(word_.data(), DType::kI64, {2})));
    return stream().Synchronize();
  }
  absl::StatusOr<Word> RecvWord() {
    Word word{};
    RETURN_IF_ERROR(in_->Recv(stream(), MutTensorView(word_.data(), DType::kI64, {2})));
    RETURN_IF_ERROR(device_->CopyToHost(stream(), word_.data(), word.data(), sizeof(word)));
    RETURN_IF_ERROR(stream().Synchronize());
    return word;
  }
  absl::StatusOr<double> RoundTrip() {
    const auto start = Time::now();
    RETURN_IF_ERROR(SendWord({kGo, 0}));
    RETURN_IF_ERROR(RecvWord().status());
    return SecondsSince(start);
  }
  absl::Status Burst(int64_t message, int64_t count) {
    RETURN_IF_ERROR(SendWord({message, count}));
    int64_t taken = 0;
    for (int64_t i = 0; i < count; ++i) {
      if (i - taken >= kWindow) {
        RETURN_IF_ERROR(RecvWord().status());
        ++taken;
      }
      RETURN_IF_ERROR(out_->Send(stream(), TensorView(data_.data(), DType::kU8, {message})));
    }
    for (; taken < count; ++taken) RETURN_IF_ERROR(RecvWord().status());
    return absl::OkStatus();
  }

  Device* device_;
  std::unique_ptr<Link> out_, in_;
  Buffer data_, word_;
};

absl::StatusOr<v1::PairFacts> Run(Pair& pair, const v1::Measure& measure, bool begins) {
  const double ping = kPingShare * measure.seconds(), flood = (measure.seconds() - ping) / 2;
  v1::PairFacts facts;
  facts.set_partner(measure.partner());
  if (begins) {
    ASSIGN_OR_RETURN(const double latency, pair.Ping(ping));
    facts.set_latency_seconds(latency);
    ASSIGN_OR_RETURN(const double rate, pair.Flood(flood));
    facts.set_bytes_per_second(rate);
    RETURN_IF_ERROR(pair.Drain());
  } else {
    RETURN_IF_ERROR(pair.Echo());
    RETURN_IF_ERROR(pair.Drain());
    ASSIGN_OR_RETURN(const double rate, pair.Flood(flood));
    facts.set_bytes_per_second(rate);
  }
  return facts;
}

}  // namespace

absl::StatusOr<v1::PairFacts> MeasurePair(Fabric& fabric, Device& device, const v1::Measure& measure) {
  if (measure.partner() < 0 || measure.partner() >= fabric.size() || measure.partner() == fabric.rank()) {
    return Internal("rank {} of {} cannot measure the way to rank {}", fabric.rank(), fabric.size(),
                    measure.partner());
  }
  ASSIGN_OR_RETURN(std::unique_ptr<Pair> pair, Pair::Make(fabric, device, measure));
  absl::StatusOr<v1::PairFacts> facts = Run(*pair, measure, fabric.rank() < measure.partner());
  // A transport may still write into the buffers of an operation that failed: they stay until the process
  // ends.
  if (!facts.ok()) static_cast<void>(pair.release());
  return facts;
}

}  // namespace fulger
