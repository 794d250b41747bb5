// What the next step runs: a pure function from a view of the sequences and the limits to decisions. No ids
// are given out here, no clock is read, nothing is kept between calls.
//
// A sequence runs positions 0, 1, 2, ... in order. Those below `known` have ids that the workers were told
// when it was admitted: they run in chunks (prefill). From `known` on, each position holds the token that an
// earlier step sampled: one row of one token (decode), which may be planned before that token is known here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace fulger {

struct SequenceView {
  int64_t known = 0;        // ids told at admission; the row that runs the last of them samples
  int64_t limit = 0;        // positions that it may ever run: the token sampled by the last one is its last
  int64_t available = 0;    // positions of the known ids that one row may reach now: up to the first picture
                            // that is not ready, or where an anchor is to be saved
  int64_t planned = 0;      // positions in plans so far, those in flight included; waiting: in an anchor
  int64_t blocks = 0;       // held; waiting: whole blocks of the anchor, which it will share
  int64_t sole = 0;         // running: those of them that nobody else can hold
  int64_t pins = 0;         // waiting: available blocks that sharing the anchor's takes
  int64_t in_flight = 0;    // its rows in steps that have not answered
  uint64_t last_step = 0;   // of its last row; 0: none
  bool awaits = false;      // a picture that it has still to run is not ready
  bool held = false;        // decode: the mask of its next token is not there yet
  uint64_t sampled_by = 0;  // the step that samples the token at `planned`, once planned >= known
  int32_t priority = 0;     // smaller is sooner
  int64_t rank = 0;         // place in the one order of all sequences; smaller is first
};

struct ScheduleLimits {
  uint64_t step = 1;  // the number of the step being made
  int64_t step_tokens = 0;
  int64_t block_size = 1;
  int64_t free_blocks = 0;       // or kept by anchors only, which yield
  int64_t releasing_blocks = 0;  // free once the steps in flight have answered
  int64_t free_slots = 0;
  int64_t max_running = 0;
  int64_t stages = 1;
  int64_t rows_in_flight = 2;  // decode rows of one sequence in flight
};

struct PlannedRow {
  bool admits = false;  // `index` is into waiting (else into running)
  size_t index = 0;
  int64_t position = 0;
  int64_t count = 0;
  int64_t new_blocks = 0;
  uint64_t result_of_step = 0;  // decode: whose token it runs; 0: ids known
  bool sample = false;

  bool operator==(const PlannedRow&) const = default;
};

struct Decision {
  std::vector<size_t> preempted;  // indices into running: give everything back and wait again
  std::vector<size_t> displaced;  // the same, but only their place is needed: their state is worth saving
  std::vector<PlannedRow> rows;   // decode (longest wait first), prefill (first in rank first), admissions
};

// Both lists in order of rank. Rules, in this order:
//  1. A waiting sequence that lacks a place or blocks takes them of running ones that rank after it and have
//     a worse priority, the last first.
//  2. Decode rows first: with n stages at most ceil(decoding / n) in a step, those that have waited longest,
//     so that sequences spread over the stages. One whose token is still under way in the pipeline would make
//     the first stage wait: it is taken only when there is nothing else to run.
//  3. Then prefill chunks of running sequences, then of waiting ones (admission), while the budget lasts. A
//     prompt that needs more than is left takes half of it, then what the others leave: short prompts do not
//     wait until a long one is through.
//  4. Admission is in order of rank: it needs a slot and blocks for all known ids, besides those that
//     running prefills will still take; the first that does not fit stops it. A sequence that waits for a
//     picture, or for an anchor that is being made, before its first token is passed over; and so is one that
//     awaits a picture further on, while one that awaits pictures runs: a burst of pictures holds one place.
//  5. A running sequence that lacks blocks takes those of the last ones in rank (recompute later), never of
//     earlier ones: the first always moves on.
Decision Schedule(std::span<const SequenceView> running, std::span<const SequenceView> waiting,
                  const ScheduleLimits& limits);

// Blocks that `positions` positions take.
constexpr int64_t BlocksFor(int64_t positions, int64_t block_size) {
  return (positions + block_size - 1) / block_size;
}

}  // namespace fulger
