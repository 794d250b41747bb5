// What facts mean. Every expected sentence is what somebody reads at night.
#include "coordinator/doctor/verdict.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "coordinator/doctor/report.h"

namespace fulger {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr int64_t kGiB = int64_t{1} << 30;

// Sound nodes h1, h2, ... with `each` ranks; tests break one thing.
ExamRecord Sound(int nodes, int each = 1) {
  ExamRecord record;
  record.transport = nodes * each > 1 ? "mpi" : "single";
  for (int rank = 0; rank < nodes * each; ++rank) {
    RankRecord one;
    one.joined = true;
    one.hello.set_host("h" + std::to_string(rank / each + 1));
    one.hello.set_pid(100 + rank);
    one.hello.set_transport(record.transport);
    one.skew = {.seconds = 0.0001, .uncertainty = 0.0005};
    one.facts.emplace();
    one.facts->set_allowed_cores(32);
    one.facts->set_cores("0-31");
    one.facts->set_device("cpu: a processor");
    one.facts->set_arithmetic("cpu fma");
    one.facts->set_mpi_version("Open MPI v4.1.4");
    one.facts->set_mpi_library("/usr/lib/libmpi.so.40");
    one.facts->set_launcher("mpirun");
    if (rank % each == 0) {
      v1::NodeFacts& node = one.node.emplace();
      node.set_cores(32);
      node.set_memory_total(64 * kGiB);
      node.set_memory_available(60 * kGiB);
      node.set_locked_limit(-1);
      node.set_files_limit(65536);
      node.set_shared_total(32 * kGiB);
      node.set_shared_free(32 * kGiB);
      node.set_temporary("/tmp");
      node.set_temporary_free(kGiB);
      node.set_temporary_writable(true);
      node.set_huge_pages("madvise");
      node.add_numa()->set_memory_total(64 * kGiB);
      node.mutable_network()->set_name("eth0");
      node.mutable_network()->set_mtu(1500);
      node.set_mpirun_path("/usr/bin/mpirun");
      node.set_mpirun_version("mpirun (Open MPI) 4.1.4");
    }
    record.ranks.push_back(std::move(one));
  }
  return record;
}

v1::CheckpointFiles* WithCheckpoint(ExamRecord* record, size_t rank) {
  v1::CheckpointFiles& files = record->ranks[rank].checkpoint.emplace();
  files.set_dir("/models/m");
  files.set_mount_point("/models");
  files.set_file_system("nfs4");
  files.set_files(4);
  files.set_bytes(8 * kGiB);
  files.set_fingerprint("abcdefabcdefabcdef");
  files.set_bytes_read(3 * kGiB);
  files.set_seconds(3);
  files.set_direct(true);
  return &files;
}

void AddWay(ExamRecord* record, int one, int other, double there, double back, double latency = 20e-6) {
  record->ways.push_back({.from = one, .to = other, .latency = latency, .bytes_per_second = there});
  record->ways.push_back({.from = other, .to = one, .latency = 0, .bytes_per_second = back});
}

std::vector<Finding> Bad(const std::vector<Finding>& findings) {
  std::vector<Finding> bad;
  for (const Finding& finding : findings) {
    if (finding.level != Level::kOk) bad.push_back(finding);
  }
  return bad;
}

// The only finding that is not OK in the whole report, which is about `node`.
Finding OnlyFinding(const ExamReport& report, const std::string& node) {
  EXPECT_THAT(Bad(report.general), IsEmpty()) << ReportText(report, true, false);
  Finding only;
  int count = 0;
  for (const NodeReport& one : report.nodes) {
    for (const Finding& finding : Bad(one.findings)) {
      EXPECT_EQ(one.name, node) << finding.found;
      EXPECT_NE(finding.cause, "") << finding.found;
      EXPECT_NE(finding.cure, "") << finding.found;
      only = finding;
      ++count;
    }
  }
  EXPECT_EQ(count, 1) << ReportText(report, true, false);
  return only;
}

TEST(Judge, SoundNodesAreOk) {
  ExamRecord record = Sound(3, 2);
  for (const size_t rank : {0, 2, 4}) WithCheckpoint(&record, rank);
  AddWay(&record, 0, 2, 1e9, 1.1e9);
  AddWay(&record, 0, 4, 0.9e9, 1e9);
  AddWay(&record, 2, 4, 1e9, 0.8e9);
  AddWay(&record, 0, 1, 5e9, 5e9);
  AddWay(&record, 2, 3, 5e9, 5e9);
  AddWay(&record, 4, 5, 5e9, 5e9);
  const ExamReport report =
      Judge(record, {.memory = {{0, 10 * kGiB}, {1, 10 * kGiB}}, .fingerprint = "abcdefabcdefabcdef"}, {});
  EXPECT_EQ(report.level(), Level::kOk) << ReportText(report, true, false);
  ASSERT_EQ(report.nodes.size(), 3U);
  EXPECT_THAT(report.nodes[1].ranks, ElementsAre(2, 3));
  EXPECT_THAT(report.between.ends, ElementsAre("h1", "h2", "h3"));
  EXPECT_EQ(report.between.ways.size(), 6U);
  EXPECT_EQ(report.within.ways.size(), 6U);
}

TEST(Judge, AClockThatIsOffIsNamedWithWhatItBreaks) {
  ExamRecord record = Sound(2);
  record.ranks[1].skew = {.seconds = -400, .uncertainty = 0.002};
  const Finding finding = OnlyFinding(Judge(record, {}, {}), "h2");
  EXPECT_EQ(finding.level, Level::kFail);
  EXPECT_EQ(finding.found, "the clock is 400 s behind the coordinator's (known to 2.0 ms)");
  EXPECT_THAT(finding.cause, AllOf(HasSubstr("TLS"), Not(HasSubstr("Cure"))));
  EXPECT_THAT(finding.cure, HasSubstr("chronyc"));
  record.ranks[1].skew = {.seconds = 1, .uncertainty = 0.002};
  EXPECT_EQ(OnlyFinding(Judge(record, {}, {}), "h2").level, Level::kWarn);
  record.ranks[1].skew = {.seconds = 400, .uncertainty = 500};  // the answer took a quarter of an hour
  EXPECT_EQ(Judge(record, {}, {}).level(), Level::kOk);
}

TEST(Judge, TwoMpiVersions) {
  ExamRecord record = Sound(3);
  record.ranks[2].facts->set_mpi_version("MPICH Version: 4.0.2");
  record.ranks[2].node->set_mpirun_version("");
  const Finding finding = OnlyFinding(Judge(record, {}, {}), "h3");
  EXPECT_EQ(finding.level, Level::kFail);
  EXPECT_EQ(finding.found, "MPICH Version: 4.0.2 here, Open MPI v4.1.4 on 2 other nodes");
  EXPECT_THAT(finding.cause, HasSubstr("two MPI versions"));
}

TEST(Judge, ALauncherOfAnotherMpi) {
  ExamRecord record = Sound(1);
  record.ranks[0].node->set_mpirun_version("mpirun (Open MPI) 5.0.3");
  EXPECT_THAT(OnlyFinding(Judge(record, {}, {}), "h1").cause, HasSubstr("two MPI versions"));
  record.ranks[0].node->set_mpirun_version("HYDRA build details:");
  EXPECT_THAT(OnlyFinding(Judge(record, {}, {}), "h1").cause, HasSubstr("size 1"));
}

TEST(Judge, MemoryAgainstTheLayoutAndTheJobsLimit) {
  ExamRecord record = Sound(1, 2);
  const Needs needs{.memory = {{0, 29 * kGiB}, {1, 29 * kGiB}}, .weights = {}, .fingerprint = {}};
  Finding finding = OnlyFinding(Judge(record, needs, {}), "h1");
  EXPECT_EQ(finding.level, Level::kWarn) << "58 of 60";
  EXPECT_EQ(finding.found, "60.00 GiB of 64.00 GiB available; its ranks need 58.00 GiB");
  record.ranks[0].node->set_memory_limit(16 * kGiB);
  finding = OnlyFinding(Judge(record, needs, {}), "h1");
  EXPECT_EQ(finding.level, Level::kFail);
  EXPECT_THAT(finding.found, HasSubstr("16.00 GiB left by the control group"));
  EXPECT_THAT(finding.cause, HasSubstr("the job's memory limit"));
}

TEST(Judge, CoresThatAreBoundOrShared) {
  ExamRecord record = Sound(1, 4);
  for (RankRecord& rank : record.ranks) rank.facts->set_allowed_cores(1);
  for (size_t r = 0; r < 4; ++r) record.ranks[r].facts->set_cores(std::to_string(r));
  Finding finding = OnlyFinding(Judge(record, {}, {}), "h1");
  EXPECT_EQ(finding.cause, "each rank is bound to one core: at most 4 of 32 cores compute");
  EXPECT_THAT(finding.cure, HasSubstr("--bind-to none"));
  record = Sound(1, 4);
  record.ranks[0].node->set_core_quota(2);
  EXPECT_EQ(OnlyFinding(Judge(record, {}, {}), "h1").cause,
            "4 ranks share 2 cores: each waits for the others to give way");
}

TEST(Judge, LimitsSharedMemoryAndTemporaryFiles) {
  ExamRecord record = Sound(1, 4);
  record.ranks[0].node->set_files_limit(256);
  EXPECT_THAT(OnlyFinding(Judge(record, {}, {}), "h1").cure, HasSubstr("ulimit -n"));
  record = Sound(1, 4);
  record.ranks[0].node->set_locked_limit(65536);
  EXPECT_EQ(Judge(record, {}, {}).level(), Level::kOk) << "no matter without InfiniBand";
  record.ranks[0].node->add_infiniband("mlx5_0");
  EXPECT_THAT(OnlyFinding(Judge(record, {}, {}), "h1").cure, HasSubstr("ulimit -l unlimited"));
  record = Sound(1, 16);
  record.ranks[0].node->set_shared_total(64 << 20);
  record.ranks[0].node->set_shared_free(64 << 20);
  Finding finding = OnlyFinding(Judge(record, {}, {}), "h1");
  EXPECT_EQ(finding.check, "/dev/shm");
  EXPECT_EQ(finding.level, Level::kFail);
  EXPECT_THAT(finding.cure, HasSubstr("--shm-size"));
  record = Sound(1);
  record.ranks[0].node->set_temporary_writable(false);
  EXPECT_THAT(OnlyFinding(Judge(record, {}, {}), "h1").cure, HasSubstr("TMPDIR"));
}

TEST(Judge, NodesThatAreNotAlike) {
  ExamRecord record = Sound(3);
  record.ranks[0].facts->set_arithmetic("cpu portable");
  const ExamReport report = Judge(record, {}, {});
  EXPECT_EQ(report.level(), Level::kFail);
  EXPECT_THAT(ReportText(report, true, false), HasSubstr("cpu portable here, cpu fma on 2 other nodes"));
  record = Sound(3);
  record.ranks[1].node->mutable_network()->set_mtu(9000);
  EXPECT_THAT(OnlyFinding(Judge(record, {}, {}), "h2").cause, HasSubstr("large ones hang"));
  record = Sound(3);
  for (const size_t rank : {0, 1, 2}) WithCheckpoint(&record, rank);
  record.ranks[1].checkpoint->set_fingerprint("0123456789abcdef");
  EXPECT_THAT(OnlyFinding(Judge(record, {}, {}), "h2").cause, HasSubstr("different files"));
}

TEST(Judge, ACheckpointThatIsShortMissingHangingOrSlow) {
  ExamRecord record = Sound(1);
  v1::CheckpointFiles* files = WithCheckpoint(&record, 0);
  files->clear_fingerprint();
  files->add_problems(
      "/models/m/model-00002.safetensors: the tensors end at offset 900 of the data, the file has 800 bytes "
      "of data");
  Finding finding = OnlyFinding(Judge(record, {.fingerprint = "abc"}, {}), "h1");
  EXPECT_THAT(finding.found, HasSubstr("model-00002"));
  EXPECT_THAT(finding.cause, HasSubstr("cut short"));
  files->set_problems(0, "/models/m/model-00002.safetensors: open: Permission denied");
  EXPECT_THAT(OnlyFinding(Judge(record, {}, {}), "h1").cure, HasSubstr("chmod"));
  files->set_hung("opening /models/m/model-00003.safetensors: no answer in 13 s");
  finding = OnlyFinding(Judge(record, {}, {}), "h1");
  EXPECT_THAT(finding.found, AllOf(HasSubstr("nfs4 at /models"), HasSubstr("no answer in 13 s")));
  EXPECT_THAT(finding.cause, HasSubstr("stale mount"));

  record = Sound(1);
  files = WithCheckpoint(&record, 0);
  files->set_bytes_read(3 << 20);  // 1 MiB/s
  finding = OnlyFinding(Judge(record, {}, {}), "h1");
  EXPECT_EQ(finding.level, Level::kWarn);
  EXPECT_THAT(finding.found, AllOf(HasSubstr("1.00 MiB/s"), HasSubstr("load in 8192 s")));
  EXPECT_EQ(finding.cause, "a start takes 137 minutes");
}

TEST(Judge, ANodeThatReadsSlowerThanTheOthers) {
  ExamRecord record = Sound(4);
  for (size_t rank = 0; rank < 4; ++rank) WithCheckpoint(&record, rank);
  record.ranks[2].checkpoint->set_bytes_read(kGiB);
  const Finding finding = OnlyFinding(Judge(record, {}, {}), "h3");
  EXPECT_EQ(finding.check, "read rate");
  EXPECT_THAT(finding.found, HasSubstr("358 MB/s, the median node reads 1074 MB/s"));
}

TEST(Judge, ASlowNodeIsNamedAndNotItsPartners) {
  for (const int nodes : {3, 4, 7}) {
    ExamRecord record = Sound(nodes);
    for (int one = 0; one < nodes; ++one) {
      for (int other = one + 1; other < nodes; ++other) {
        const bool slow = one == 1 || other == 1;
        AddWay(&record, one, other, slow ? 20e6 : 1e9, slow ? 20e6 : 1e9);
      }
    }
    const Finding finding = OnlyFinding(Judge(record, {}, {}), "h2");
    EXPECT_THAT(finding.found, HasSubstr("h2 sends 20.0 MB/s at best"));
    EXPECT_EQ(finding.level, Level::kWarn);
  }
}

TEST(Judge, ASlowPairIsNamedByBothItsEnds) {
  ExamRecord record = Sound(4);
  for (int one = 0; one < 4; ++one) {
    for (int other = one + 1; other < 4; ++other)
      AddWay(&record, one, other, one == 1 && other == 3 ? 30e6 : 1e9, 1e9);
  }
  const ExamReport report = Judge(record, {}, {});
  const Finding finding = OnlyFinding(report, "h2");
  EXPECT_EQ(finding.found, "h2 -> h4: 30.0 MB/s, others reach 1.00 GB/s");
  ASSERT_NE(report.between.Find(1, 3), nullptr);
  EXPECT_TRUE(report.between.Find(1, 3)->outlier);
  EXPECT_FALSE(report.between.Find(3, 1)->outlier);
}

TEST(Judge, ANodeThatReceivesSlowly) {
  ExamRecord record = Sound(4);
  for (int one = 0; one < 4; ++one) {
    for (int other = one + 1; other < 4; ++other) AddWay(&record, one, other, other == 3 ? 30e6 : 1e9, 1e9);
  }
  EXPECT_THAT(OnlyFinding(Judge(record, {}, {}), "h4").found, HasSubstr("h4 receives 30.0 MB/s at best"));
}

TEST(Judge, ALatePair) {
  ExamRecord record = Sound(4);
  for (int one = 0; one < 4; ++one) {
    for (int other = one + 1; other < 4; ++other)
      AddWay(&record, one, other, 1e9, 1e9, one == 0 && other == 2 ? 2e-3 : 20e-6);
  }
  EXPECT_EQ(OnlyFinding(Judge(record, {}, {}), "h1").found, "h1 <-> h3: 2000 us, the median is 20 us");
}

TEST(Judge, OnePairHasNothingToCompareWith) {
  ExamRecord record = Sound(2);
  AddWay(&record, 0, 1, 1e9, 1e8);
  EXPECT_EQ(Judge(record, {}, {}).level(), Level::kOk);
  EXPECT_EQ(Judge(record, {}, {}).between.reference, 0);
}

TEST(Judge, MissingRefusedAndFailedRanks) {
  ExamRecord record = Sound(2, 2);
  record.ranks[3] = {};
  record.ranks[1].failure =
      "rank 1 (host h1, pid 101) gave no answer for 21 s in phase device (looking at the device). Likely: "
      "the device "
      "does not answer: look at nvidia-smi";
  record.refused = {
      "worker on host h9, pid 5 is version 0.0.9, this coordinator is 0.1.0: start both from one build"};
  const ExamReport report = Judge(record, {}, {});
  EXPECT_EQ(report.level(), Level::kFail);
  const std::string text = ReportText(report, false, false);
  EXPECT_THAT(text, HasSubstr("3 of 4 ranks joined; missing: 3"));
  EXPECT_THAT(text, HasSubstr("refused: worker on host h9"));
  EXPECT_THAT(text, HasSubstr("cause: the device does not answer: look at nvidia-smi"));
  EXPECT_THAT(Bad(report.nodes[1].findings), IsEmpty()) << "what is there is still looked at";
}

TEST(Judge, HostsThatDoNotReachEachOtherAreNamedOncePerNode) {
  ExamRecord record = Sound(2, 2);
  record.ended = "the ways between ranks were not measured: hosts do not reach each other";
  record.ranks[0].unreachable = {"rank 0 at 10.0.0.1 cannot reach rank 2 at 10.0.0.2: no answer"};
  record.ranks[1].unreachable = {"rank 1 at 10.0.0.1 cannot reach rank 2 at 10.0.0.2: no answer"};
  const ExamReport report = Judge(record, {}, {});
  const std::vector<Finding> bad = Bad(report.nodes[0].findings);
  ASSERT_EQ(bad.size(), 1U);
  EXPECT_EQ(bad[0].check, "reach");
  EXPECT_EQ(report.level(), Level::kFail);
}

TEST(Report, SaysTheWorstLast) {
  ExamRecord record = Sound(12);
  record.ranks[3].node->set_huge_pages("never");
  record.ranks[5].node->set_temporary_writable(false);
  const ExamReport report = Judge(record, {}, {});
  const std::string text = ReportText(report, false, false);
  EXPECT_THAT(text, HasSubstr("node h1  OK    rank 0\nnode h2  OK    rank 1\n"))
      << "of many, one line where all is well";
  EXPECT_THAT(text, HasSubstr("\nverdict  FAIL  1 FAIL, 1 WARN; 10 of 12 nodes well"));
  EXPECT_LT(text.find("  FAIL  h6 temporary"), text.find("  WARN  h4 huge pages"));
  EXPECT_THAT(text, Not(HasSubstr("\033")));
  EXPECT_THAT(ReportText(report, false, true), HasSubstr("\033[31;1mFAIL\033[0m"));
}

TEST(Report, JsonAndPageHoldTheMatrix) {
  ExamRecord record = Sound(3);
  record.ranks[0].hello.set_host("<h1>");
  AddWay(&record, 0, 1, 1e9, 2e9, 1e-5);
  AddWay(&record, 0, 2, 1e9, 1e9, 1e-5);
  AddWay(&record, 1, 2, 1e9, 1e6, 1e-5);
  const ExamReport report = Judge(record, {}, {});
  const auto json = ReportJson(report);
  EXPECT_EQ(json["verdict"], "WARN");
  EXPECT_EQ(json["between_nodes"]["ways"].size(), 6U);
  EXPECT_EQ(json["between_nodes"]["ways"][1]["from"], "h2");
  EXPECT_EQ(json["between_nodes"]["ways"][1]["bytes_per_second"], 2e9);
  EXPECT_EQ(json["between_nodes"]["ways"][1]["latency_seconds"], 1e-5);
  EXPECT_EQ(json["between_nodes"]["ways"][5]["outlier"], true);
  const std::string html = ReportHtml(report);
  EXPECT_THAT(html, AllOf(HasSubstr("&lt;h1&gt; to h2: 1.00 GB/s, 10.0 us"), Not(HasSubstr("<h1> to")),
                          HasSubstr("bandwidth between nodes"), HasSubstr("stroke=\"#d00\"")));
}

}  // namespace
}  // namespace fulger
