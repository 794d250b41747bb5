// fulger shard: a copy of a checkpoint that is cut for a layout, or a look at every byte of one.
#include <CLI/CLI.hpp>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "coordinator/cli/bench_output.h"
#include "coordinator/cli/commands.h"
#include "coordinator/cli/layout_flags.h"
#include "coordinator/cli/memory_budget.h"
#include "model/checkpoint/checkpoint.h"
#include "model/shards/shard_writer.h"
#include "model/shards/verify.h"

namespace fulger {
namespace {

struct Flags {
  std::string dir, out;
  LayoutFlags layout;
  int threads = 4;
  bool verify = false;
};

std::string Line(const char* what, const ShardProgress& p) {
  return fmt::format("{}: {:.1f} of {:.1f} GB ({:.0f} %), {:.2f} GB/s, {:.0f} s left", what,
                     1e-9 * static_cast<double>(p.bytes_done), 1e-9 * static_cast<double>(p.bytes_total),
                     p.bytes_total > 0
                         ? 100.0 * static_cast<double>(p.bytes_done) / static_cast<double>(p.bytes_total)
                         : 100,
                     1e-9 * p.bytes_per_second, p.seconds_left);
}

ShardOptions OptionsOf(const Flags& flags, const char* what) {
  ShardOptions options;
  options.threads = flags.threads;
  options.progress = [what](const ShardProgress& p) {
    ShowProgressLine(Line(what, p));
    return true;
  };
  return options;
}

absl::Status Write(const Flags& flags) {
  ASSIGN_OR_RETURN(const ModelConfig config, LoadModelConfig(flags.dir));
  ASSIGN_OR_RETURN(const Layout layout, LayoutOf(flags.layout));
  ASSIGN_OR_RETURN(const Plan plan, MakePlan(config, layout));
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(flags.dir, config));
  std::fprintf(stderr, "fulger shard: %s for %s, %d ranks\n", flags.dir.c_str(), ToString(layout).c_str(),
               layout.ranks());
  ASSIGN_OR_RETURN(const ShardReport report,
                   WriteShards(checkpoint, plan, flags.out, OptionsOf(flags, "shard")));
  if (report.ranks_written == 0) {
    std::printf("%s: there already, %d rank files of together %s\n", flags.out.c_str(), report.ranks_kept,
                HumanBytes(static_cast<int64_t>(report.bytes)).c_str());
    return absl::OkStatus();
  }
  std::fputs("\n", stderr);
  std::printf("%s: %d rank files written%s, together %s; read %s in %.1f s%s\n", flags.out.c_str(),
              report.ranks_written,
              report.ranks_kept > 0 ? fmt::format(", {} were there", report.ranks_kept).c_str() : "",
              HumanBytes(static_cast<int64_t>(report.bytes)).c_str(), HumanBytes(report.bytes_read).c_str(),
              report.seconds,
              report.bytes_resumed > 0
                  ? fmt::format(", after {} of an earlier call", HumanBytes(report.bytes_resumed)).c_str()
                  : "");
  std::printf("fulger serve --model %s serves it\n", flags.out.c_str());
  return absl::OkStatus();
}

// OK: nothing is damaged.
absl::StatusOr<bool> Verify(const Flags& flags) {
  ASSIGN_OR_RETURN(const ShardedCopy copy, OpenSharded(flags.dir));
  std::string note;
  const absl::Status source = CheckSourceUnchanged(copy.manifest.source, &note);
  if (!note.empty()) std::fprintf(stderr, "fulger shard: %s\n", note.c_str());
  ASSIGN_OR_RETURN(const VerifyReport report, VerifyShards(copy, OptionsOf(flags, "verify")));
  std::fputs("\n", stderr);
  for (const std::string& line : report.damage) std::printf("%s\n", line.c_str());
  if (!source.ok()) std::printf("%s: %s\n", flags.dir.c_str(), Message(source).c_str());
  if (!report.damage.empty() || !source.ok()) return false;
  std::printf("%s: %s, all %zu rank files as they were written: %s in %.1f s\n", flags.dir.c_str(),
              ToString(copy.manifest.layout).c_str(), copy.plan.ranks.size(),
              HumanBytes(static_cast<int64_t>(report.bytes)).c_str(), report.seconds);
  return true;
}

}  // namespace

void AddShard(CLI::App* app, int* exit_code) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app->add_subcommand(
      "shard",
      "a copy of a checkpoint with a file for each rank of a layout; the same command goes on "
      "after a crash");
  command->add_option("DIR", flags->dir, "checkpoint folder; with --verify, that of a copy")->required();
  CLI::Option* out = command->add_option("--out", flags->out, "folder of the copy, made where there is none");
  AddLayoutFlags(command, &flags->layout);
  command->add_option("--threads", flags->threads, "tensors that are read and written at a time")
      ->capture_default_str()
      ->check(CLI::Range(1, 256));
  CLI::Option* verify = command->add_flag("--verify", flags->verify,
                                          "read every byte of the copy DIR and check it; write nothing");
  verify->excludes(out);
  command->footer(
      "Exit code 0: written, or whole; 3: --verify found damage, or a checkpoint that has changed since; 1: "
      "not readable or not writable.");
  command->callback([flags, exit_code] {
    absl::StatusOr<bool> good = true;
    if (flags->verify) {
      good = Verify(*flags);
    } else if (flags->out.empty()) {
      good = InvalidArgument("--out DIR, or --verify");
    } else if (const absl::Status written = Write(*flags); !written.ok()) {
      good = written;
    }
    if (!good.ok()) std::fprintf(stderr, "fulger shard: %s\n", Message(good.status()).c_str());
    *exit_code = !good.ok() ? 1 : *good ? 0 : 3;
  });
}

}  // namespace fulger
