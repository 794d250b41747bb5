// Who has joined and which rank each worker gets: rules only, no streams. The launcher's rank is a hint;
// under mpi it is binding, because it is the process's rank in the communicator.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "fulger/v1/control.pb.h"

namespace fulger {

class Roster {
 public:
  Roster(int ranks, std::string version, std::string transport, bool gpus = false)
      : ranks_(ranks), version_(std::move(version)), transport_(std::move(transport)), gpus_(gpus) {}

  // Gives the worker a rank, or says why it cannot take part: another version, another kind of device,
  // another transport, a rank that is claimed already, one worker too many, a launcher that started another
  // number of ranks.
  absl::StatusOr<int> Admit(const v1::Hello& hello);
  void Remove(int rank);
  void Clear();

  bool complete() const { return static_cast<int>(members_.size()) == ranks_; }
  // "2 of 5 ranks have joined; missing: 1, 3 (left, was on host h4), 4"
  std::string Describe() const;
  const v1::Hello* Find(int rank) const;

 private:
  std::optional<int> FirstFree() const;

  int ranks_;
  std::string version_;
  std::string transport_;
  bool gpus_;  // ranks compute on GPUs, or none does
  std::map<int, v1::Hello> members_;
  std::map<int, std::string> left_;  // the host that a missing rank was on
};

// "host h2, pid 4711"
std::string Where(const v1::Hello& hello);

}  // namespace fulger
