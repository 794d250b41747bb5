// What one node is checked for. Thresholds stand beside the reason for them.
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <set>

#include "base/human_bytes.h"
#include "coordinator/doctor/verdict.h"

namespace fulger {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
// Open MPI keeps a segment of 4 MiB and some rings for each rank of a node in shared memory.
constexpr int64_t kSharedPerRank = 8 * kMiB;
constexpr int64_t kSharedComfortable = 32 * kMiB;
// MPI's and the launcher's session files.
constexpr int64_t kTemporaryLeast = 64 * kMiB;
// Sockets to every other rank (MPI over TCP opens several), files of the checkpoint, HTTP connections.
constexpr int64_t kFilesLeast = 1024;
// A node where most memory is taken is somebody else's too.
constexpr double kTakenShare = 0.5;
// Loading longer than this costs more than a walltime of hours likes.
constexpr double kSlowLoad = 900;

struct Patient {
  const ExamRecord& record;
  const Needs& needs;
  const NodeReport& node;
  const v1::NodeFacts* facts = nullptr;  // null: it did not answer
  const v1::RankFacts* first = nullptr;
  const v1::CheckpointFiles* files = nullptr;

  const RankRecord& rank(int r) const { return record.ranks[static_cast<size_t>(r)]; }
  int64_t Sum(const std::map<int, int64_t>& by_rank) const {
    int64_t sum = 0;
    for (const int r : node.ranks) {
      if (const auto found = by_rank.find(r); found != by_rank.end()) sum += found->second;
    }
    return sum;
  }
};

using Findings = std::vector<Finding>;

std::string Plural(size_t n, std::string_view what) {
  return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s");
}

// What others said of a rank has its cause and cure within: "... Likely: cause, cure".
Finding Failed(const std::string& check, const std::string& message) {
  const size_t likely = message.find(". Likely: ");
  return {.level = Level::kFail,
          .check = check,
          .found = message.substr(0, likely),
          .cause = likely == std::string::npos ? "see what was found" : message.substr(likely + 10),
          .cure = "mend that, then run fulger doctor again"};
}

void CheckStart(const Patient& p, Findings* out) {
  bool well = true;
  for (const int r : p.node.ranks) {
    if (p.rank(r).failure.empty()) continue;
    well = false;
    const auto& broken = p.record.broken;
    // Said of the pair already.
    if (std::any_of(broken.begin(), broken.end(),
                    [r](const auto& way) { return way.one == r || way.other == r; }))
      continue;
    const std::string failure = p.rank(r).failure;
    const std::string who = fmt::format("rank {}", r);
    out->push_back(Failed("start", failure.find(who) == std::string::npos ? who + ": " + failure : failure));
  }
  if (well) {
    const std::string launcher = p.first != nullptr ? p.first->launcher() : "none";
    out->push_back({.level = Level::kOk,
                    .check = "start",
                    .found = fmt::format("{} joined{}", Plural(p.node.ranks.size(), "rank"),
                                         launcher == "none" ? "" : ", started by " + launcher)});
  }
}

void CheckClock(const Patient& p, Findings* out) {
  ClockSkew best;
  for (const int r : p.node.ranks) {
    if (p.rank(r).skew.uncertainty < best.uncertainty) best = p.rank(r).skew;
  }
  if (!best.known()) return;
  Finding finding{.level = Level::kOk, .check = "clock", .found = "the clock is " + DescribeSkew(best)};
  if (best.at_least() >= kSkewNamed) {
    finding.level = best.at_least() >= kSkewBreaks ? Level::kFail : Level::kWarn;
    const std::string consequence = SkewConsequence(best);
    const size_t cure = consequence.find(" Cure: ");
    finding.cause = consequence.substr(0, cure);
    finding.cure = consequence.substr(cure + 7);
  }
  out->push_back(std::move(finding));
}

void CheckMpi(const Patient& p, Findings* out) {
  const std::string& version = p.first->mpi_version();
  if (version.empty()) {
    out->push_back({.level = p.record.ranks.size() > 1 ? Level::kFail : Level::kWarn,
                    .check = "mpi",
                    .found = "fulger-worker was built without MPI",
                    .cause = "CPU ranks exchange over MPI: this build serves with one rank only",
                    .cure = "install an MPI library with its headers and build with -DFULGER_MPI=ON"});
    return;
  }
  Finding finding{
      .level = Level::kOk, .check = "mpi", .found = fmt::format("{} ({})", version, p.first->mpi_library())};
  const std::string& launcher = p.facts->mpirun_version();
  if (!launcher.empty()) finding.found += fmt::format("; {} is {}", p.facts->mpirun_path(), launcher);
  // "Open MPI v4.1.4" and "mpirun (Open MPI) 4.1.4": the same numbers must be in both.
  const auto number = [](const std::string& text) {
    const size_t begin = text.find_first_of("0123456789");
    return begin == std::string::npos
               ? std::string()
               : text.substr(begin, text.find_first_not_of("0123456789.", begin) - begin);
  };
  const bool other = version.starts_with("Open MPI") && launcher.find("Open MPI") == std::string::npos;
  if (!launcher.empty() &&
      (other || (version.starts_with("Open MPI") && number(version) != number(launcher)))) {
    finding.level = Level::kWarn;
    finding.cause =
        "two MPI versions: ranks that this mpirun starts each see a world of size 1, or hang in MPI_Init";
    finding.cure = "load one MPI module in the job and on all nodes: the one that Fulger was built with";
  }
  out->push_back(std::move(finding));
}

void CheckCores(const Patient& p, Findings* out) {
  std::set<std::string> masks;
  int fewest = INT32_MAX;
  for (const int r : p.node.ranks) {
    if (!p.rank(r).facts.has_value()) continue;
    masks.insert(p.rank(r).facts->cores());
    fewest = std::min(fewest, p.rank(r).facts->allowed_cores());
  }
  const int cores = p.facts->cores();
  const double quota = p.facts->core_quota();
  const auto ranks = static_cast<int>(p.node.ranks.size());
  Finding finding{.level = Level::kOk,
                  .check = "cores",
                  .found = fmt::format("{} cores, {} for this rank ({})", cores, p.first->allowed_cores(),
                                       p.first->cores())};
  if (quota > 0) finding.found += fmt::format(", a quota of {:.1f}", quota);
  const double usable = quota > 0 ? std::min<double>(quota, cores) : cores;
  if (fewest == 1 && cores > ranks) {
    finding.level = Level::kWarn;
    finding.cause =
        fmt::format("each rank is bound to one core: at most {} of {} cores compute", masks.size(), cores);
    finding.cure = "mpirun --bind-to none (or --map-by socket:PE=N), srun --cpus-per-task=N";
  } else if (usable < ranks) {
    finding.level = Level::kWarn;
    finding.cause =
        fmt::format("{} ranks share {:.0f} cores: each waits for the others to give way", ranks, usable);
    finding.cure = "fewer ranks on a node, or more cores for the job (srun --cpus-per-task, a larger quota)";
  }
  out->push_back(std::move(finding));
}

void CheckProcessor(const Patient& p, Findings* out) {
  if (p.first->device().empty()) return;
  Finding finding{.level = Level::kOk, .check = "processor", .found = p.first->device()};
  if (p.first->arithmetic() == "cpu portable") {
    finding.level = Level::kWarn;
    finding.cause = "no AVX2: the portable kernels are several times slower";
    finding.cure =
        "take nodes with AVX2 or AVX-512; in a virtual machine let the guest see the host's processor";
  }
  out->push_back(std::move(finding));
}

void CheckMemory(const Patient& p, Findings* out) {
  const int64_t limit = p.facts->memory_limit();
  const int64_t available =
      limit > 0 ? std::min(limit, p.facts->memory_available()) : p.facts->memory_available();
  const int64_t needed = p.Sum(p.needs.memory);
  Finding finding{.level = Level::kOk,
                  .check = "memory",
                  .found = fmt::format("{} of {} available", HumanBytes(p.facts->memory_available()),
                                       HumanBytes(p.facts->memory_total()))};
  if (limit > 0) finding.found += fmt::format(", {} left by the control group", HumanBytes(limit));
  if (needed > 0) finding.found += fmt::format("; its ranks need {}", HumanBytes(needed));
  if (needed > available) {
    finding.level = Level::kFail;
    finding.cause = limit > 0 && limit < p.facts->memory_available()
                        ? "the job's memory limit: the kernel kills a rank while it loads"
                        : "the weights and caches do not fit: the kernel kills a rank while it loads";
    finding.cure =
        "more nodes (fulger plan says how many), --experts int8, fewer --max-sequences or --cache-tokens, or "
        "the "
        "whole node's memory for the job (srun --mem=0)";
  } else if (static_cast<double>(needed) > 0.9 * static_cast<double>(available)) {
    finding.level = Level::kWarn;
    finding.cause = "less than a tenth is left for MPI, the page cache and everybody else";
    finding.cure = "fewer --max-sequences or --cache-tokens, or one more node";
  } else if (needed == 0 && static_cast<double>(p.facts->memory_available()) <
                                (1 - kTakenShare) * static_cast<double>(p.facts->memory_total())) {
    finding.level = Level::kWarn;
    finding.cause = "more than half is taken: another job, or processes that an earlier one left behind";
    finding.cure = "look with top on that node; end what was left behind";
  }
  out->push_back(std::move(finding));
}

void CheckNuma(const Patient& p, Findings* out) {
  if (p.facts->numa_size() == 0) return;
  Finding finding{.level = Level::kOk,
                  .check = "numa",
                  .found = Plural(static_cast<size_t>(p.facts->numa_size()), "NUMA node")};
  bool bare = false;
  for (const v1::NumaNode& node : p.facts->numa()) {
    finding.found += fmt::format("{} {} cores with {}", &node == &p.facts->numa(0) ? ":" : ",", node.cores(),
                                 HumanBytes(node.memory_total()));
    bare = bare || (node.cores() > 0 && node.memory_total() == 0);
  }
  if (bare) {
    finding.level = Level::kWarn;
    finding.cause =
        "cores without memory of their own: every read goes over the other socket, at half the rate or less";
    finding.cure = "a memory module is missing or has failed: dmidecode -t memory, and the BIOS's log";
  }
  out->push_back(std::move(finding));
}

void CheckHugePages(const Patient& p, Findings* out) {
  if (p.facts->huge_pages().empty()) return;
  Finding finding{.level = Level::kOk,
                  .check = "huge pages",
                  .found = "transparent huge pages: " + p.facts->huge_pages()};
  const int64_t reserved = p.facts->huge_pages_reserved();
  if (reserved > 0) finding.found += fmt::format("; {} reserved", HumanBytes(reserved));
  if (p.facts->huge_pages() == "never") {
    finding.level = Level::kWarn;
    finding.cause = "weights lie in pages of 4 KiB: reading them costs address translations";
    finding.cure = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled";
  } else if (reserved > p.facts->memory_total() / 10) {
    finding.level = Level::kWarn;
    finding.cause = "reserved huge pages are of no use to Fulger, and the memory is gone for it";
    finding.cure = "sysctl vm.nr_hugepages=0, unless somebody else needs them";
  }
  out->push_back(std::move(finding));
}

void CheckLimits(const Patient& p, Findings* out) {
  const auto text = [](int64_t limit, bool bytes) {
    return limit < 0 ? std::string("unlimited") : bytes ? HumanBytes(limit) : std::to_string(limit);
  };
  const int64_t files = p.facts->files_limit(), locked = p.facts->locked_limit();
  Finding finding{.level = Level::kOk,
                  .check = "limits",
                  .found = fmt::format("open files (ulimit -n) {}, locked memory (ulimit -l) {}",
                                       text(files, false), text(locked, true))};
  const auto enough = std::max(kFilesLeast, 8 * static_cast<int64_t>(p.record.ranks.size()));
  if (files >= 0 && files < enough) {
    finding.level = Level::kWarn;
    finding.cause = fmt::format("{} ranks, the checkpoint's files and clients want about {} open files",
                                p.record.ranks.size(), enough);
    finding.cure = "ulimit -n 65536 in the job, or LimitNOFILE / limits.conf on the nodes";
  }
  if (p.facts->infiniband_size() > 0 && locked >= 0) {
    finding.level = Level::kWarn;
    finding.cause = "InfiniBand needs to lock memory: MPI ends, or falls back to TCP";
    finding.cure =
        "ulimit -l unlimited: PropagateResourceLimitsExcept=MEMLOCK in slurm.conf, LimitMEMLOCK=infinity of "
        "slurmd";
  }
  out->push_back(std::move(finding));
}

void CheckShared(const Patient& p, Findings* out) {
  const auto ranks = static_cast<int64_t>(p.node.ranks.size());
  const int64_t free = p.facts->shared_free();
  Finding finding{.level = Level::kOk,
                  .check = "/dev/shm",
                  .found = p.facts->shared_total() < 0 ? std::string("there is none")
                                                       : fmt::format("{} of {} free", HumanBytes(free),
                                                                     HumanBytes(p.facts->shared_total()))};
  if (ranks > 1 && free < ranks * kSharedPerRank) {
    finding.level = Level::kFail;
    finding.cause = fmt::format(
        "ranks of a node exchange through it: {} need {}; MPI ends with a bus error or falls back to copies",
        ranks, HumanBytes(ranks * kSharedPerRank));
    finding.cure =
        "mount it larger (mount -o remount,size=8G /dev/shm; docker --shm-size=8g), or remove what lies in "
        "it";
  } else if (ranks > 1 && free < ranks * kSharedComfortable) {
    finding.level = Level::kWarn;
    finding.cause = fmt::format("little for {} ranks that exchange through it", ranks);
    finding.cure = "mount -o remount,size=8G /dev/shm; docker --shm-size=8g";
  }
  out->push_back(std::move(finding));
}

void CheckTemporary(const Patient& p, Findings* out) {
  Finding finding{.level = Level::kOk,
                  .check = "temporary",
                  .found = fmt::format("{}: {} free", p.facts->temporary(),
                                       HumanBytes(std::max<int64_t>(0, p.facts->temporary_free())))};
  if (!p.facts->temporary_writable()) {
    finding = {.level = Level::kFail,
               .check = "temporary",
               .found = p.facts->temporary() + " is not there or cannot be written",
               .cause = "mpirun and MPI keep their session files there and end without them",
               .cure = "set TMPDIR to a folder of this node that you may write"};
  } else if (p.facts->temporary_free() < kTemporaryLeast) {
    finding.level = Level::kWarn;
    finding.cause = "nearly full: mpirun and MPI keep their session files there";
    finding.cure = "remove what earlier jobs left, or set TMPDIR to another folder of this node";
  }
  out->push_back(std::move(finding));
}

void CheckGpus(const Patient& p, Findings* out) {
  if (p.facts->gpus_size() == 0) return;
  Finding finding{
      .level = Level::kOk,
      .check = "gpus",
      .found = fmt::format("{}, driver {}: {}", Plural(static_cast<size_t>(p.facts->gpus_size()), "GPU"),
                           p.facts->gpu_driver().empty() ? "not loaded" : p.facts->gpu_driver(),
                           p.facts->gpus(0))};
  if (p.facts->gpu_driver().empty()) {
    finding.level = Level::kWarn;
    finding.cause = "GPUs without a driver";
    finding.cure = "load the nvidia module on that node; dmesg says why it is not";
  }
  out->push_back(std::move(finding));
}

void CheckNetwork(const Patient& p, Findings* out) {
  const v1::NetworkInterface& network = p.facts->network();
  if (p.record.ranks.size() < 2) return;
  bool all = true;
  std::set<std::string> said;
  for (const int r : p.node.ranks) {
    for (const std::string& failure : p.rank(r).unreachable) {
      // Every rank of this node says the same; one is enough.
      const size_t at = failure.find("cannot reach");
      if (!said.insert(failure.substr(at == std::string::npos ? 0 : at)).second) continue;
      all = false;
      out->push_back({.level = Level::kFail,
                      .check = "reach",
                      .found = failure,
                      .cause = "MPI and NCCL would hang where one host's packets do not arrive",
                      .cure = "open all ports between the nodes of the job; ping and nc from the one to the "
                              "other; ip route"});
    }
  }
  if (!all) return;
  Finding finding{.level = Level::kOk, .check = "network", .found = {}};
  finding.found =
      network.name().empty()
          ? std::string("no interface has the address that other ranks dial")
          : fmt::format("{} {}, MTU {}{}", network.name(), network.address(), network.mtu(),
                        network.megabits() > 0 ? fmt::format(", {} Mbit/s", network.megabits()) : "");
  if (p.facts->infiniband_size() > 0) {
    finding.found += fmt::format("; InfiniBand: {}", fmt::join(p.facts->infiniband(), ", "));
  }
  out->push_back(std::move(finding));
}

void CheckCheckpoint(const Patient& p, Findings* out) {
  const v1::CheckpointFiles& files = *p.files;
  const std::string where =
      fmt::format("{} ({} at {})", files.dir(), files.file_system().empty() ? "?" : files.file_system(),
                  files.mount_point().empty() ? "?" : files.mount_point());
  if (!files.hung().empty()) {
    out->push_back(
        {.level = Level::kFail,
         .check = "checkpoint",
         .found = fmt::format("{}: {}", where, files.hung()),
         .cause = "the file system does not answer on this node: a lost server or a stale mount",
         .cure = "ls that folder on that node; mount, dmesg; take the node out of the job until it answers"});
    return;
  }
  for (const std::string& problem : files.problems()) {
    Finding finding{.level = Level::kFail, .check = "checkpoint", .found = problem, .cause = {}, .cure = {}};
    const auto says = [&](std::string_view words) { return problem.find(words) != std::string::npos; };
    if (says("expected a file of at least") || says("of the data, the file has") ||
        says("expected at least 8 bytes") || says("data_offsets")) {
      finding.cause = "a file was cut short: a download or a copy that ended early, or a full disk";
      finding.cure = "fetch or copy that file again; fulger inspect DIR says when all is there";
    } else if (says("missing") || says("No such file") || says("found none")) {
      finding.cause =
          "not there on this node: not downloaded, or the folder is not the one that other nodes see";
      finding.cure = "fetch what is missing; give --model a path that is the same on every node";
    } else if (says("Permission denied")) {
      finding.cause = "the user of the job may not read it";
      finding.cure = "chmod -R a+rX on that folder";
    } else if (says("Input/output error") || says("Stale file handle")) {
      finding.cause = "the disk or the file server fails";
      finding.cure = "dmesg on that node; mount the file system again";
    } else {
      finding.cause = "the checkpoint is damaged, or is not one of this model";
      finding.cure = "fulger inspect DIR lists everything; fetch it again";
    }
    out->push_back(std::move(finding));
  }
  if (files.problems_size() == 0 && !p.needs.fingerprint.empty() &&
      files.fingerprint() != p.needs.fingerprint) {
    out->push_back(
        {.level = Level::kFail,
         .check = "checkpoint",
         .found = fmt::format("{} has fingerprint {}, the coordinator's has {}", where,
                              files.fingerprint().substr(0, 12), p.needs.fingerprint.substr(0, 12)),
         .cause = "this node sees other files under the same path: another copy, or a local disk",
         .cure = "copy the checkpoint again to this node, or use one on a file system that all nodes share"});
  } else if (files.problems_size() == 0) {
    out->push_back({.level = Level::kOk,
                    .check = "checkpoint",
                    .found = fmt::format("{}: {} with {}, all there and of the right size", where,
                                         Plural(static_cast<size_t>(files.files()), "file"),
                                         HumanBytes(files.bytes()))});
  }
}

void CheckReadRate(const Patient& p, Findings* out) {
  const v1::CheckpointFiles& files = *p.files;
  if (files.seconds() <= 0 || files.bytes_read() <= 0) return;
  const double rate = static_cast<double>(files.bytes_read()) / files.seconds();
  int64_t to_read = p.Sum(p.needs.weights);
  if (to_read == 0) to_read = files.bytes();
  const double load = static_cast<double>(to_read) / rate;
  Finding finding{
      .level = Level::kOk,
      .check = "read rate",
      .found = fmt::format(
          "{}/s in large reads{}: {} load in {:.0f} s", HumanBytes(static_cast<int64_t>(rate)),
          files.direct() ? " past the page cache" : ", perhaps out of memory (no direct reads here)",
          HumanBytes(to_read), load)};
  if (load > kSlowLoad) {
    finding.level = Level::kWarn;
    finding.cause = fmt::format("a start takes {:.0f} minutes", load / 60);
    finding.cure =
        "a faster file system, copies on local disks (--model of fulger-worker), or more nodes, each of "
        "which reads less";
  }
  out->push_back(std::move(finding));
}

}  // namespace

std::vector<Finding> CheckNode(const ExamRecord& record, const Needs& needs, const NodeReport& node) {
  Patient p{record, needs, node, nullptr, nullptr, nullptr};
  for (const int r : node.ranks) {
    const RankRecord& rank = p.rank(r);
    if (rank.node.has_value()) p.facts = &*rank.node;
    if (rank.checkpoint.has_value()) p.files = &*rank.checkpoint;
    if (p.first == nullptr && rank.facts.has_value()) p.first = &*rank.facts;
  }
  Findings findings;
  CheckStart(p, &findings);
  CheckClock(p, &findings);
  if (p.facts != nullptr && p.first != nullptr) {
    for (const auto check : {CheckMpi, CheckCores, CheckProcessor, CheckMemory, CheckNuma, CheckHugePages,
                             CheckLimits, CheckShared, CheckTemporary, CheckGpus, CheckNetwork}) {
      check(p, &findings);
    }
  }
  if (p.files != nullptr) {
    CheckCheckpoint(p, &findings);
    CheckReadRate(p, &findings);
  }
  return findings;
}

}  // namespace fulger
