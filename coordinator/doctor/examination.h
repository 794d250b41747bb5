// The coordinator's side of `fulger doctor`: gathers workers as a replica does, then asks them one step after
// the other (look, reach each other, connect, measure the ways round by round), each with a deadline. A rank
// that fails, hangs or goes away is named, and the others go on as far as they can.
//
// Threads: handler calls come from gRPC threads, the others from one thread; a mutex guards the state, and
// nothing blocks while holding it.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/wall_clock.h"
#include "coordinator/cluster/join_server.h"
#include "coordinator/cluster/roster.h"
#include "coordinator/cluster/startup.h"
#include "coordinator/doctor/exam_record.h"
#include "coordinator/doctor/rounds.h"

namespace fulger {

struct ExaminationOptions {
  std::string version;
  int ranks = 0;          // 0: as many as the first worker's launcher started
  std::string transport;  // empty: what the first worker offers
  std::string model_dir;  // empty: no checkpoint
  double read_seconds = 3;
  double measure_seconds = 12;
  Duration launch = std::chrono::seconds(60);  // until the first worker
  Duration join = std::chrono::seconds(20);    // until all of them
  Duration look = std::chrono::seconds(20);    // on top of reading
  Duration connect = std::chrono::seconds(20);
  Duration round = std::chrono::seconds(6);  // one exchange that hangs
  WallSeconds wall_seconds = SystemWallSeconds;
};

class Examination final : public JoinHandler {
 public:
  Examination(ExaminationOptions options, const Clock* clock);

  void OnMessage(const std::shared_ptr<WorkerConnection>& from, const v1::WorkerMessage& message) override;
  void OnClosed(const std::shared_ptr<WorkerConnection>& from) override;

  // Pings, about once a second, and looks at the deadlines; call several times a second.
  void Tick();
  // The launcher of the workers ended ("mpirun exited with code 1").
  void OnLauncherEnded(const std::string& how);
  bool done() const;
  // One line: "4 of 4 ranks look at their nodes".
  std::string Progress() const;
  ExamRecord Record() const;
  // Tells all workers to end. Without a failure they end MPI as it should be.
  void Dismiss();

 private:
  enum class Stage : uint8_t { kGather, kLook, kReach, kConnect, kMeasure, kDone };
  struct Member {
    std::shared_ptr<WorkerConnection> connection;  // null: gone
    SkewMeter skew;
    std::string activity;
    bool answered = false;  // this stage's question
  };

  void HelloLocked(const std::shared_ptr<WorkerConnection>& from, const v1::Hello& hello);
  void AnswerLocked(int rank, const v1::Examined& found);
  void PingLocked(Member* member, uint64_t id) const;
  void AskLocked(int rank, v1::Examine step);
  void BeginLocked(Stage stage);
  void LookLocked();
  void ReachLocked(bool connect);
  void NextRoundLocked();
  void PlanDoubtsLocked();
  void AddWayLocked(const WayRecord& way);
  void AdvanceLocked();
  void LateLocked();
  void EndLocked(const std::string& why);
  void FailLocked(int rank, const std::string& why);
  bool AllHereLocked() const;
  int RankOfLocked(const std::shared_ptr<WorkerConnection>& connection) const;
  std::vector<std::vector<int>> NodesLocked() const;
  std::string WhoLocked(int rank) const;
  static v1::Phase PhaseOf(Stage stage);

  const ExaminationOptions options_;
  const Clock* clock_;
  const TimePoint begin_;
  mutable std::mutex mu_;
  Stage stage_ = Stage::kGather;
  TimePoint stage_since_;
  std::optional<Roster> roster_;
  std::map<int, Member> members_;
  std::set<int> asked_;  // of this stage or round
  uint64_t pings_ = 0;
  TimePoint last_ping_;
  Rounds plan_;
  size_t round_ = 0;      // of plan_, the one that runs
  bool doubted_ = false;  // what was slow has been planned once more
  ExamRecord record_;
};

}  // namespace fulger
