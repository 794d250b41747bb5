#include "coordinator/cli/plan_flags.h"

#include <fmt/ranges.h>
#include <CLI/CLI.hpp>

#include <thread>

#include "base/file.h"
#include "coordinator/cli/memory_budget.h"

namespace fulger {
namespace {

constexpr uint64_t kMostClusterFile = 1 << 20;
constexpr double kGiB = 1 << 30;

absl::StatusOr<Cluster> LoadCluster(const PlanFlags& flags) {
  const int ways =
      (flags.cluster_file.empty() ? 0 : 1) + (flags.gpu.empty() ? 0 : 1) + (flags.cpu_ranks > 0 ? 1 : 0);
  if (ways > 1) return InvalidArgument("--cluster, --gpu and --cpu-ranks: one of them");
  Cluster cluster;
  if (!flags.cluster_file.empty()) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(flags.cluster_file, kMostClusterFile));
    absl::StatusOr<Cluster> parsed = ParseCluster(text);
    if (!parsed.ok()) return Annotate(parsed.status(), flags.cluster_file);
    cluster = *std::move(parsed);
  } else if (!flags.gpu.empty()) {
    ASSIGN_OR_RETURN(cluster, GpuCluster(flags.gpu));
    cluster.ranks_per_node = flags.gpus_per_node;
  } else if (flags.cpu_ranks > 0) {
    cluster =
        CpuCluster(flags.cpu_ranks, AvailableMemory(), static_cast<int>(std::thread::hardware_concurrency()));
  } else {
    return InvalidArgument("which cluster? --gpu NAME ({}), --cpu-ranks N, or --cluster FILE",
                           fmt::join(GpuNames(), ", "));
  }
  if (flags.nodes > 0) cluster.nodes = flags.nodes;
  if (flags.reserve_gib >= 0) cluster.reserve_bytes = static_cast<int64_t>(flags.reserve_gib * kGiB);
  if (flags.storage_gb > 0) cluster.storage_bytes_per_second = 1e9 * flags.storage_gb;
  if (cluster.reserve_bytes >= cluster.memory_bytes) {
    return InvalidArgument("--reserve-gib: {} bytes of {} would leave nothing", cluster.reserve_bytes,
                           cluster.memory_bytes);
  }
  return cluster;
}

absl::StatusOr<std::vector<WeightFormat>> FormatsToTry(std::string_view kind, const std::string& flag) {
  if (flag == "any") return std::vector<WeightFormat>{WeightFormat::kStored, WeightFormat::kInt8};
  ASSIGN_OR_RETURN(const WeightFormat format, WeightFormatFromName(kind, flag));
  return std::vector<WeightFormat>{format};
}

// A copy serves the layout that it is cut for.
absl::Status OnlyThisLayout(const Layout& layout, const ModelConfig& config, PlanWishes* wishes) {
  const auto differs = [](int wish, int has) { return wish > 0 && wish != has; };
  if (differs(wishes->tp, layout.tp) || differs(wishes->pp, layout.pp) || differs(wishes->ep, layout.ep) ||
      (wishes->vision >= 0 && wishes->vision != layout.vision)) {
    return FailedPrecondition(
        "the copy is cut for {}: leave the flags of the layout out, or plan for its checkpoint",
        ToString(layout));
  }
  wishes->tp = layout.tp;
  wishes->pp = layout.pp;
  wishes->ep = layout.ep;
  wishes->vision = layout.vision;
  wishes->experts = {layout.experts};
  wishes->projections = {layout.projections};
  wishes->stage_layers = layout.stage_layers;
  if (layout.pp > 1 && layout.stage_layers.empty()) {  // else the planner would look for better cuts
    const int64_t layers = config.text.layers();
    for (int64_t p = 0; p < layout.pp; ++p) {
      wishes->stage_layers.push_back(static_cast<int>((p + 1) * layers / layout.pp - p * layers / layout.pp));
    }
  }
  return absl::OkStatus();
}

}  // namespace

void AddPlanFlags(CLI::App* app, PlanFlags* flags) {
  const auto add = [app](const std::string& name, auto& value, const std::string& help) {
    return app->add_option(name, value, help)->capture_default_str();
  };
  PlanWishes& w = flags->wishes;
  add("--model", flags->model, "minimax-vl-01 or minimax-text-01 (no files needed), or a checkpoint folder");
  app->add_option("--cluster", flags->cluster_file, "TOML: devices, memory, rates and links");
  app->add_option("--gpu", flags->gpu, "a100-80, h100, h200 or b200");
  app->add_option("--nodes", flags->nodes, "how many nodes; default: the cluster file's, or 1")
      ->check(CLI::Range(1, 1024));
  add("--gpus-per-node", flags->gpus_per_node, "GPUs of a node")->check(CLI::Range(1, 64));
  app->add_option("--cpu-ranks", flags->cpu_ranks, "CPU ranks of a node, on machines like this one")
      ->check(CLI::Range(1, 256));
  app->add_option(
         "--reserve-gib", flags->reserve_gib,
         "memory of a rank that a plan cannot know: CUDA context, NCCL, the program; not measured. Default: "
         "3 on a GPU, 0.06 on a CPU")
      ->check(CLI::NonNegativeNumber);
  app->add_option("--storage-gb-per-second", flags->storage_gb,
                  "what the file system gives to all ranks together; default: 10, for CPU ranks 1")
      ->check(CLI::PositiveNumber);
  add("--goal", flags->goal, "latency, throughput or context")
      ->check(CLI::IsMember({"latency", "throughput", "context"}));
  add("--experts", flags->experts, "stored, int8, or any: both are tried")
      ->check(CLI::IsMember({"any", "stored", "int8"}));
  add("--projections", flags->projections, "attention's matrices and lm_head: stored, int8, or any")
      ->check(CLI::IsMember({"any", "stored", "int8"}));
  add("--weight-dtype", flags->weight_dtype, "keep (as stored) or f32")
      ->check(CLI::IsMember({"keep", "f32"}));
  add("--context", w.context, "tokens of a sequence, prompt and answer")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24));
  add("--prompt", w.prompt, "tokens of the prompt whose first token is timed")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24));
  add("--max-sequences", w.max_sequences, "sequences that run at the same time")
      ->check(CLI::Range(int64_t{1}, int64_t{65536}));
  add("--anchors", w.anchors, "saved prefixes, each with a lightning state")
      ->check(CLI::Range(int64_t{0}, int64_t{65536}));
  app->add_option("--cache-tokens", w.cache_tokens,
                  "tokens of KV cache; default: --max-sequences times --context")
      ->check(CLI::PositiveNumber);
  add("--max-step-tokens", w.max_step_tokens, "tokens of one forward pass")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  add("--block-size", w.block_size, "tokens of one KV cache block")
      ->check(CLI::Range(int64_t{1}, int64_t{4096}));
  app->add_option("--tp", w.tp, "only layouts with this many tensor parallel ranks")
      ->check(CLI::PositiveNumber);
  app->add_option("--pp", w.pp, "only layouts with this many stages")->check(CLI::PositiveNumber);
  app->add_option("--ep", w.ep, "only layouts with this many expert groups")->check(CLI::PositiveNumber);
  app->add_option("--vision-ranks", w.vision,
                  "ranks that hold only the vision tower; default: 0 and 1 are tried")
      ->check(CLI::NonNegativeNumber);
  app->add_option("--stage-layers", w.stage_layers, "layers of each stage: a,b,...; default: balanced")
      ->delimiter(',');
  app->add_flag("--one-group{false}", w.micro_batches,
                "all sequences in one batch, instead of a group for each stage");
}

absl::StatusOr<PlanInputs> LoadPlanInputs(const PlanFlags& flags) {
  PlanInputs in;
  ASSIGN_OR_RETURN(in.cluster, LoadCluster(flags));
  ASSIGN_OR_RETURN(in.model, LoadPlannedModel(flags.model, flags.weight_dtype == "f32"));
  in.wishes = flags.wishes;
  ASSIGN_OR_RETURN(in.wishes.goal, PlanGoalFromName(flags.goal));
  ASSIGN_OR_RETURN(in.wishes.experts, FormatsToTry("experts", flags.experts));
  ASSIGN_OR_RETURN(in.wishes.projections, FormatsToTry("projections", flags.projections));
  if (in.model.cut_for.has_value())
    RETURN_IF_ERROR(OnlyThisLayout(*in.model.cut_for, in.model.config, &in.wishes));
  return in;
}

}  // namespace fulger
