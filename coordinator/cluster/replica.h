// One copy of the model: all ranks of one layout. It gathers workers, assigns ranks, waits for loading,
// relays plans and results, watches health, and when a rank dies or hangs it ends the whole replica, names
// the rank and waits for the next set of workers under a larger epoch.
//
//   gathering -> loading -> serving -> (failed) -> gathering ...
//
// Threads: Backend calls come from the engine thread, handler calls from gRPC threads, Tick from the watchdog
// thread; one mutex guards the state, and nothing blocks while holding it.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/wall_clock.h"
#include "coordinator/cluster/clock_skew.h"
#include "coordinator/cluster/join_server.h"
#include "coordinator/cluster/roster.h"
#include "coordinator/cluster/startup.h"
#include "coordinator/engine/backend.h"
#include "model/layout.h"

namespace fulger {

struct ReplicaOptions {
  std::string name = "0";
  std::string version;
  std::string model_dir;
  std::string fingerprint;
  std::string transport = "single";
  bool gpus = false;  // ranks compute on GPUs
  std::string weight_dtype = "keep";
  int64_t block_size = 16;
  int64_t max_step_tokens = 2048;
  int64_t max_sequences = 64;
  int64_t cache_tokens = 0;  // 0: what the memory of the ranks' GPUs holds, and at least ...
  int64_t min_cache_tokens = 0;
  int64_t min_sequences = 0;
  int64_t reserve_bytes = 0;  // of a GPU's memory
  int64_t max_context = 131072;
  StartupDeadlines startup;
  Duration step_deadline = std::chrono::seconds(60);   // age of the oldest step in flight
  Duration probe_interval = std::chrono::seconds(20);  // idle for so long: a probe step
  WallSeconds wall_seconds = SystemWallSeconds;        // to compare with the hosts' clocks
};

enum class ReplicaPhase : uint8_t { kGathering, kLoading, kServing, kStopped };
std::string_view Name(ReplicaPhase phase);

// Sums over the steps of a rank, in seconds and bytes.
struct RankTimes {
  uint64_t steps = 0;
  double total = 0;
  double wait = 0;        // of those: for the stage before, the feedback or features
  double collective = 0;  // and in collectives of the stage
  double idle = 0;        // between steps, while sequences were decoding: the coordinator was late
  uint64_t collective_bytes = 0, link_bytes = 0;
  uint64_t pictures = 0;  // encoded there
  uint64_t tiles = 0;     // of them, run on this rank
  uint64_t passes = 0;    // of the vision tower; one takes several pictures
  double encode = 0;
  std::vector<uint64_t> expert_rows{};  // by expert; of one rank of each stage, empty on the others
};

// What /v1/server_info and the command line show of a rank.
struct RankInfo {
  int rank = 0;
  bool joined = false;
  std::string host;
  int64_t pid = 0;
  std::string device, description;
  std::string device_model;       // of a GPU
  int64_t device_bytes = 0;       // its memory
  int64_t device_free_bytes = 0;  // when the rank was ready
  std::string phase;
  double fraction = 0;  // of the phase
  std::string activity;
  std::map<std::string, int64_t> bytes;
  int64_t bytes_read = 0;
  double load_seconds = 0;       // of the weights
  double load_ratio = 0;         // of the weights that are there
  double load_rate = 0;          // bytes per second since the load began, while it loads; 0 at other times
  double load_seconds_left = 0;  // at that rate
  ClockSkew skew;                // of its host
  double stalled_seconds = 0;    // in the same place while others wait; otherwise about 0: the age of a ping
  RankTimes times;
};

// Hears where every rank's time goes, for a timeline. Called from gRPC threads; must not block.
class TimingListener {
 public:
  virtual ~TimingListener() = default;
  // `clock_offset`: what to add to the rank's clock to get this process's, in seconds.
  virtual void OnTiming(const std::string& replica, uint64_t epoch, const v1::RankTiming& timing,
                        double clock_offset) = 0;
};

struct ReplicaInfo {
  ReplicaPhase phase = ReplicaPhase::kGathering;
  uint64_t epoch = 0;
  uint64_t restarts = 0;
  uint64_t start_failures = 0;  // of those: before it served
  bool ever_served = false;
  std::string last_failure;
  ReplicaCapacity capacity;
  std::vector<RankInfo> ranks;
};

class Replica final : public Backend, public JoinHandler {
 public:
  // `events` may be set later, but before workers join. `on_failure` (may be null) is told after a replica
  // ended, so that a launcher can start the next set of workers; it is called without the mutex, from any
  // thread.
  Replica(Plan plan, ReplicaOptions options, const Clock* clock);
  void SetEvents(BackendEvents* events) { events_ = events; }
  void SetOnFailure(std::function<void(const absl::Status&)> on_failure) {
    on_failure_ = std::move(on_failure);
  }

  // From now on (null: no more) ranks say what they do within each step as well. Outlives the replica, or is
  // taken back.
  void SetTimingListener(TimingListener* listener);

  void Submit(std::shared_ptr<const v1::StepPlan> plan) override;
  void Encode(uint64_t epoch, const Pictures& pictures) override;
  void Withdraw(uint64_t epoch, const std::vector<std::string>& keys) override;
  void Evict(uint64_t epoch, const std::vector<std::string>& keys) override;
  void Save(uint64_t epoch, const v1::SaveStates& wanted) override;
  void Fetch(uint64_t epoch, const v1::SavedState& state) override;

  void OnMessage(const std::shared_ptr<WorkerConnection>& from, const v1::WorkerMessage& message) override;
  void OnClosed(const std::shared_ptr<WorkerConnection>& from) override;

  // Pings, and checks the deadlines; call about once a second.
  void Tick();
  // Ends the replica with its present workers, as after a failure.
  void Fail(const absl::Status& why);
  // Tells the workers to end and accepts no more.
  void Stop(const std::string& reason);
  ReplicaInfo Info() const;

 private:
  struct Member {
    std::shared_ptr<WorkerConnection> connection;
    bool ready = false;
    v1::Ready details;
    v1::Progress progress;
    TimePoint load_since{};  // once it loads
    std::string activity;
    uint64_t last_step = 0;
    TimePoint last_progress{};  // while serving: activity or last_step changed, or nothing is left to run
    double clock_offset = 0;    // of the answer to a ping that took the shortest
    double shortest_ping = std::numeric_limits<double>::infinity();
    SkewMeter skew;
  };

  void OnHello(const std::shared_ptr<WorkerConnection>& from, const v1::Hello& hello);
  void OnReady(int rank, const v1::Ready& ready);
  // Each returns true when the last rank has answered, with all that they said.
  bool OnStatesSavedLocked(int rank, const v1::StatesSaved& saved, std::vector<v1::StatesSaved>* all);
  bool OnStateFetchedLocked(int rank, const v1::StateFetched& fetched, absl::Status* all);
  int LayerRanks() const { return plan_.layout.pp * plan_.layout.tp; }
  void SendToLayersLocked(const std::shared_ptr<const v1::CoordinatorMessage>& message);
  void OnTimingLocked(int rank, const v1::RankTiming& timing);
  void OnPongLocked(int rank, const v1::Pong& pong);
  void PingLocked(Member* member, uint64_t id) const;
  void AssignAllLocked();
  absl::Status CheckArithmeticLocked(int rank, const v1::Ready& ready) const;
  void StartServingLocked();
  std::shared_ptr<v1::CoordinatorMessage> NewMessageLocked() const;
  void SendToStagesLocked(const std::shared_ptr<const v1::CoordinatorMessage>& message);
  int EncoderRankLocked(const std::string& key) const;
  void SendTilesLocked(const PreparedImage& image, bool more);
  absl::Status CheckDeadlinesLocked() const;
  absl::Status CheckRanksLocked() const;
  static v1::Phase PhaseOf(const Member& member);
  std::string OthersLocked(int rank) const;
  std::string DescribeRank(int rank) const;
  int RankOfLocked(const std::shared_ptr<WorkerConnection>& connection) const;

  const Plan plan_;
  const ReplicaOptions options_;
  const Clock* clock_;
  BackendEvents* events_ = nullptr;
  std::function<void(const absl::Status&)> on_failure_;

  mutable std::mutex mu_;
  ReplicaPhase phase_ = ReplicaPhase::kGathering;
  uint64_t epoch_ = 1;
  uint64_t restarts_ = 0;
  uint64_t start_failures_ = 0;
  bool ever_served_ = false;
  uint64_t pings_ = 0;
  std::set<std::string> skewed_hosts_;  // whose clocks were named
  TimePoint last_ping_;
  TimingListener* listener_ = nullptr;
  std::string last_failure_;
  ReplicaCapacity capacity_;
  Roster roster_;
  std::map<int, Member> members_;
  TimePoint phase_since_;
  std::map<uint64_t, TimePoint> steps_in_flight_;
  std::map<int, v1::StatesSaved> saved_;  // by rank: what has come of the answer to Save
  struct Fetching {
    int answers = 0;
    absl::Status first_error{};
  };
  std::map<uint64_t, Fetching> fetching_;  // by state
  uint64_t last_submitted_ = 0;            // step
  uint64_t last_answered_ = 0;             // step
  TimePoint last_activity_;                // the last answer, or the last time a probe was asked for
  std::map<int, RankTimes> times_;         // by rank, of all epochs
};

}  // namespace fulger
