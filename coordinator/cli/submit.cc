// fulger submit: the best layout for a cluster as a serving job of Slurm or PBS, and its endpoint once that
// is ready.
#include <CLI/CLI.hpp>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "coordinator/cli/commands.h"
#include "coordinator/cli/plan_flags.h"
#include "coordinator/cli/run_program.h"
#include "coordinator/cluster/launcher.h"
#include "coordinator/planner/job_script.h"
#include "coordinator/planner/plan_report.h"

namespace fulger {
namespace {

constexpr auto kLook = std::chrono::seconds(1);
constexpr int kAskEvery = 3;     // looks, for each question to the scheduler
constexpr int kGoneAnswers = 3;  // in a row: a scheduler may be too busy to answer once
constexpr std::string_view kReady = "fulger job: ready at ";

struct Flags {
  PlanFlags plan;
  JobRequest job;
  bool slurm = false, pbs = false, dry_run = false, no_wait = false;
  std::string deploy, script;
  int wait_seconds = 0;
};

absl::StatusOr<std::string> DeployFolder(const std::string& given) {
  const std::filesystem::path folder =
      given.empty() ? std::filesystem::path(BesideThisProgram("../../deploy")) : std::filesystem::path(given);
  std::error_code error;
  const std::filesystem::path found = std::filesystem::canonical(folder, error);
  if (error || !std::filesystem::exists(found / "jobs/replica.sh")) {
    return NotFound("{}: no deploy folder of this tree (jobs/replica.sh is not there); --deploy DIR",
                    folder.string());
  }
  return found.string();
}

// The request and its script, from the best layout.
absl::StatusOr<std::string> WriteJob(const Flags& flags, JobRequest* job) {
  ASSIGN_OR_RETURN(PlanInputs in, LoadPlanInputs(flags.plan));
  if (in.cluster.gpu) {  // a plan looks further than this version goes
    if (flags.plan.experts == "int8" || flags.plan.projections == "int8") {
      return InvalidArgument(
          "--experts int8 and --projections int8 run on CPUs only in this version: a job on GPUs holds "
          "weights as stored");
    }
    in.wishes.experts = in.wishes.projections = {WeightFormat::kStored};
  }
  if (!std::filesystem::is_directory(flags.plan.model)) {
    return InvalidArgument("--model {}: a job needs the checkpoint's folder", flags.plan.model);
  }
  ASSIGN_OR_RETURN(const Candidates found, FindLayouts(in.model, in.cluster, in.wishes));
  const PlanReport report{in.model, in.cluster, in.wishes, found};
  if (found.fitting.empty()) return ResourceExhausted("{}", PlanRefusal(report));
  const Candidate& best = found.fitting[0];
  *job = flags.job;
  job->scheduler = flags.slurm ? Scheduler::kSlurm : Scheduler::kPbs;
  job->ranks = best.layout().ranks();
  job->serve_flags = ServeFlagsOf(report, best);
  if (flags.plan.weight_dtype != "keep") {
    job->serve_flags.insert(job->serve_flags.end(), {"--weight-dtype", flags.plan.weight_dtype});
  }
  job->folder = std::filesystem::current_path().string();
  job->model = std::filesystem::canonical(flags.plan.model).string();
  job->programs = std::filesystem::path(BesideThisProgram("fulger")).parent_path().string();
  ASSIGN_OR_RETURN(job->deploy, DeployFolder(flags.deploy));
  std::fprintf(stderr, "fulger submit: %s, %d ranks\n", ToString(best.layout()).c_str(), job->ranks);
  return JobScript(*job, in.cluster);
}

// The job's number, as the scheduler knows it.
absl::StatusOr<std::string> Submit(const Flags& flags, const std::string& script) {
  const std::vector<std::string> command = flags.slurm
                                               ? std::vector<std::string>{"sbatch", "--parsable", script}
                                               : std::vector<std::string>{"qsub", "-V", script};
  ASSIGN_OR_RETURN(const ProgramOutput answer, RunProgram(command));
  if (answer.exit_code != 0) {
    return Unavailable("{} {} ended with {}; what it said is above", command[0], script, answer.exit_code);
  }
  std::string id = answer.out.substr(0, answer.out.find_first_of(";\r\n"));  // "4711;cluster"
  if (id.empty()) return DataLoss("{} printed no job number", command[0]);
  return id;
}

// "PENDING", "R", ...; empty: the scheduler does not have it (any more), or does not answer.
std::string StateOf(const Flags& flags, const std::string& id) {
  const std::vector<std::string> command =
      flags.slurm ? std::vector<std::string>{"squeue", "--noheader", "--format=%T", "--jobs=" + id}
                  : std::vector<std::string>{"qstat", "-f", id};
  const auto answer = RunProgram(command, /*quiet=*/true);
  if (!answer.ok() || answer->exit_code != 0) return {};
  if (flags.slurm) return answer->out.substr(0, answer->out.find_first_of("\r\n"));
  constexpr std::string_view kState = "job_state = ";
  const size_t at = answer->out.find(kState);
  return at == std::string::npos ? std::string("?") : answer->out.substr(at + kState.size(), 1);
}

// Reads a log that grows.
class Log {
 public:
  explicit Log(std::string path) : path_(std::move(path)) {}
  // The endpoint, once the log has it.
  std::string FindEndpoint() {
    std::ifstream file(path_);
    if (!file.seekg(read_)) return {};
    std::string line;
    while (std::getline(file, line) && !file.eof()) {  // a line without its end comes again
      read_ = file.tellg();
      Keep(line, &last_);
      const bool reason = line.find(" error [") != std::string::npos || line.starts_with("fulger ");
      if (reason) Keep(line, &reasons_);
      if (line.starts_with(kReady)) {
        const std::string rest = line.substr(kReady.size());
        return rest.substr(0, rest.find(' '));
      }
    }
    return {};
  }
  // The last lines that say that something is wrong; the last of all where there are none.
  std::string Reasons() const {
    std::string text;
    for (const std::string& line : reasons_.empty() ? last_ : reasons_) text += "\n  " + line;
    return text;
  }
  const std::string& path() const { return path_; }

 private:
  static void Keep(const std::string& line, std::vector<std::string>* lines) {
    constexpr size_t kMost = 10;
    if (lines->size() == kMost) lines->erase(lines->begin());
    lines->push_back(line);
  }

  const std::string path_;
  std::streamoff read_ = 0;
  std::vector<std::string> last_, reasons_;
};

absl::StatusOr<std::string> WaitReady(const Flags& flags, const std::string& id, Log& log) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(flags.wait_seconds);
  std::string known;
  int gone = 0;
  for (int look = 0;; ++look) {
    if (std::string url = log.FindEndpoint(); !url.empty()) return url;
    if (gone >= kGoneAnswers) {
      return Unavailable("job {} ended before it was ready; {} says:{}", id, log.path(), log.Reasons());
    }
    if (flags.wait_seconds > 0 && std::chrono::steady_clock::now() >= end) {
      return DeadlineExceeded("job {} is not ready after {} s ({}); it stays, and its log is {}", id,
                              flags.wait_seconds, known.empty() ? "state unknown" : known, log.path());
    }
    if (look % kAskEvery == 0) {
      const std::string state = StateOf(flags, id);
      gone = state.empty() ? gone + 1 : 0;
      if (!state.empty() && state != known)
        std::fprintf(stderr, "fulger submit: job %s: %s\n", id.c_str(), state.c_str());
      if (!state.empty()) known = state;
    }
    std::this_thread::sleep_for(kLook);
  }
}

absl::Status RunSubmit(const Flags& flags) {
  JobRequest job;
  ASSIGN_OR_RETURN(const std::string text, WriteJob(flags, &job));
  if (flags.dry_run) {
    std::fputs(text.c_str(), stdout);
    return absl::OkStatus();
  }
  const std::string path =
      flags.script.empty() ? job.folder + "/" + job.name + (flags.slurm ? ".sbatch" : ".pbs") : flags.script;
  {
    std::ofstream file(path, std::ios::trunc);
    file << text;
    if (!file.flush()) return Unavailable("{}: cannot be written", path);
  }
  ASSIGN_OR_RETURN(const std::string id, Submit(flags, path));
  Log log(job.folder + "/fulger-" + id.substr(0, id.find('.')) + ".log");
  std::fprintf(stderr, "fulger submit: job %s, from %s; its log: %s\n", id.c_str(), path.c_str(),
               log.path().c_str());
  if (flags.no_wait) {
    std::printf("%s\n", id.c_str());
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const std::string url, WaitReady(flags, id, log));
  std::printf("%s\n", url.c_str());
  return absl::OkStatus();
}

}  // namespace

void AddSubmit(CLI::App* app, int* exit_code) {
  auto flags = std::make_shared<Flags>();
  flags->plan.experts = "stored";  // nobody's answers change unless he asks for it
  CLI::App* command =
      app->add_subcommand("submit", "the best layout as a serving job; prints the endpoint when it is ready");
  AddPlanFlags(command, &flags->plan);
  CLI::Option_group* scheduler = command->add_option_group("scheduler");
  scheduler->add_flag("--slurm", flags->slurm, "by sbatch");
  scheduler->add_flag("--pbs", flags->pbs, "by qsub (PBS Pro, OpenPBS)");
  scheduler->require_option(1);
  command->add_flag("--dry-run", flags->dry_run, "print the script, submit nothing");
  command->add_option("--script", flags->script,
                      "where the script is written; default: NAME.sbatch or NAME.pbs here");
  command->add_option("--name", flags->job.name, "of the job")->capture_default_str();
  command->add_option("--time", flags->job.walltime, "walltime, as the scheduler writes it")
      ->capture_default_str();
  command->add_option("--port", flags->job.port, "of the API; the next one is for control")
      ->check(CLI::Range(1024, 65534))
      ->capture_default_str();
  command->add_option("--option", flags->job.options,
                      "a line more for the scheduler, as in --option=--partition=large or --option='-q "
                      "large'; may be repeated");
  command->add_option("--deploy", flags->deploy,
                      "this tree's deploy folder; default: ../../deploy of the program");
  command->add_flag("--no-wait", flags->no_wait, "print the job's number instead, at once");
  command
      ->add_option("--wait-timeout", flags->wait_seconds,
                   "seconds until it must be ready; default: as long as it is queued and starts")
      ->check(CLI::PositiveNumber);
  command->footer("Exit code 0: submitted and ready; 1: not. The job stays when this program is ended.");
  command->callback([flags, exit_code] {
    const absl::Status done = RunSubmit(*flags);
    if (!done.ok()) std::fprintf(stderr, "fulger submit: %s\n", Message(done).c_str());
    *exit_code = done.ok() ? 0 : 1;
  });
}

}  // namespace fulger
