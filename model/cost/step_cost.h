// How long a step takes: what each rank reads and computes, what ranks exchange, and how stages wait for each
// other. Pure arithmetic; the rates come from whoever knows the machine (coordinator/planner/cluster.h).
//
// A rank, for a step of S sequences with R = S * rows rows (rows: 1 when decoding, a chunk of a prompt else):
//   weights    attention, router and norms of its layers once; of the experts those that a row picks (each
//   row
//              picks k of E, all equally likely; of the ranks of a stage the one that got the most counts);
//              lm_head on the last stage                                                            [bytes]
//   states     each sequence's lightning states, read and written                                   [bytes]
//   KV         `context` cached tokens of each sequence, read, and the new rows, written            [bytes]
//   compute    2 R per parameter used; attention 4 R * context per column; lightning 5 R * head_dim per
//   column
//              when decoding, 4 R * (block + head_dim) in chunks                                    [FLOP]
//   time = max(bytes / read rate, FLOP / FLOP rate) + operations * their fixed time
// (Bytes bound a small batch, FLOP a long prompt: the roofline model, Williams et al. 2009. Lightning's terms
// count the two products of a block form, Qin et al. 2024.)
//
// A stage is its slowest rank, plus two all-reduces of R * hidden float32 values per layer (none with one
// rank), and on the last stage a gather of the logits of S rows. An all-reduce of b bytes over n ranks takes
// latency(n) + 2 (n-1)/n * b / rate. Between stages R * hidden values and the sampled ids travel as messages.
//
// `groups` groups of sequences take turns in the pipeline, so that up to that many stages work at a time. The
// time between two tokens of a sequence is max(sum of all stages, groups * slowest stage); what stages wait
// meanwhile is the bubble.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/config.h"
#include "model/cost/rank_memory.h"
#include "model/layout.h"

namespace fulger {

struct StepShape {
  int64_t sequences = 1;
  int64_t rows = 1;     // of each sequence
  int64_t context = 1;  // cached tokens that a row attends to, on average
};

struct CollectiveRates {
  double latency_seconds = 0;
  double bytes_per_second = 0;  // of the bus: 2 (n-1)/n of the bytes cross it
};

// Of the ranks of one stage while they all work.
struct StageRates {
  double read_bytes_per_second = 0;  // per rank
  double flops_per_second = 0;       // per rank
  double operation_seconds = 0;      // fixed time of one operation: a launch, a wake of threads
  CollectiveRates collective;        // between the ranks of the stage
  CollectiveRates next;              // a message to the next stage (and from the last to the first)
};

// Seconds, summed over the stages that a token passes.
struct StepTime {
  double weights = 0, states = 0, kv = 0;
  double compute = 0;  // beyond the time of the bytes
  double fixed = 0;    // of operations
  double collectives = 0;
  double messages = 0;  // between stages
  double queue = 0;     // behind other groups in the slowest stage
  double slowest_stage = 0;
  double bubble = 0;  // what a stage waits per token, on average

  // Of one pass through all stages.
  double latency() const { return weights + states + kv + compute + fixed + collectives + messages; }
  double between_tokens() const { return latency() + queue; }
};

// `memory[p]`: of index 0 of stage p, which holds the most; `rates[p]` of its ranks.
StepTime PredictStep(const ModelConfig& config, const Plan& plan, const std::vector<RankMemory>& memory,
                     const std::vector<StageRates>& rates, const StepShape& shape, int64_t groups);

// What all ranks of a replica do together in one step, for meters: bytes read and FLOP.
struct StepWork {
  double weights = 0, states = 0, kv = 0;
  double flops = 0;
  double bytes() const { return weights + states + kv; }
};
// Of a step that is made of `parts` (the decoding sequences, and each prompt's chunk). As many experts are
// read as that many rows pick on average, all equally likely.
StepWork WorkOfStep(const ModelConfig& config, const Plan& plan, const std::vector<RankMemory>& memory,
                    std::span<const StepShape> parts);

// How many experts of one group are picked by at least one of `rows` rows, and the share of all picks that
// falls on a group: the mean over groups, and of the group that got the most. Sampled, the same every time.
struct ExpertPicks {
  double mean_experts = 0, most_experts = 0;
  double most_share = 0;
};
ExpertPicks SampleExpertPicks(int64_t experts, int64_t per_row, int64_t groups, int64_t rows);

double AllReduceSeconds(const CollectiveRates& rates, int ranks, double bytes);

}  // namespace fulger
