// The timeline's JSON from records made by hand, and the metrics of the same records.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "coordinator/telemetry/step_observer.h"

namespace fulger {
namespace {

using Json = nlohmann::json;
using ::testing::HasSubstr;

TimePoint At(int64_t micros) { return TimePoint(std::chrono::microseconds(micros)); }

class TelemetryTest : public testing::Test {
 protected:
  void Plan(uint64_t step, int64_t begin, int64_t end) {
    v1::StepPlan plan;
    plan.set_epoch(3);
    plan.set_step(step);
    v1::Row* prompt = plan.add_rows();
    prompt->set_sequence(1);
    prompt->set_count(40);
    v1::Row* decoding = plan.add_rows();
    decoding->set_sequence(2);
    decoding->set_count(1);
    decoding->set_result_of_step(1);
    observer_.OnPlan(
        {.replica = 0, .plan = plan, .begin = At(begin), .end = At(end), .request_of = request_of_});
  }
  void Update(uint64_t step, int64_t begin, int64_t end) {
    const std::vector<double> first = {0.5}, gaps = {0.25};
    observer_.OnStep({.replica = 0,
                      .epoch = 3,
                      .step = step,
                      .answered = At(begin),
                      .applied = At(end),
                      .decode_rows = 1,
                      .prefill_tokens = 40,
                      .seconds = 0.004,
                      .first_token = first,
                      .token_gap = gaps});
  }
  void RequestDone() {
    observer_.OnRequestDone(
        {.id = "chatcmpl-1-0",
         .request = "mine",
         .arrival = At(1000),
         .completion = {.reason = FinishReason::kLength,
                        .prompt_tokens = 40,
                        .completion_tokens = 2,
                        .times = {.queue = 0.0005, .prefill = 0.002, .decode = 0.001, .total = 0.004}}});
  }
  Json Finish() {
    const std::string text = timeline_.Finish({{"version", "1"}});
    Json trace = Json::parse(text, nullptr, false);
    EXPECT_FALSE(trace.is_discarded()) << text;
    return trace;
  }
  static std::vector<Json> Events(const Json& trace, const std::string& phase) {
    std::vector<Json> found;
    for (const Json& event : trace["traceEvents"]) {
      if (event["ph"] == phase) found.push_back(event);
    }
    return found;
  }

  const std::function<std::string_view(uint64_t)> request_of_ = [](uint64_t id) {
    return id == 1 ? std::string_view("mine") : std::string_view("another");
  };
  MetricRegistry registry_;
  Timeline timeline_;
  StepObserver observer_{&registry_, &timeline_};
};

v1::RankTiming Timing(int rank, uint64_t step) {
  v1::RankTiming timing;
  timing.set_rank(rank);
  timing.set_step(step);
  timing.set_start_seconds(0.002);
  timing.set_total_seconds(0.001);
  timing.set_wait_seconds(0.0001);
  for (const auto& [name, offset] :
       {std::pair("embedding", 0.0), std::pair("layer 0: experts", 0.0004), std::pair("idle", 0.00095)}) {
    v1::TimedActivity* activity = timing.add_activities();
    activity->set_name(name);
    activity->set_offset_seconds(offset);
  }
  return timing;
}

TEST_F(TelemetryTest, AStepFromPlanOverRanksToUpdate) {
  ASSERT_TRUE(timeline_.Start(At(900)));
  EXPECT_FALSE(timeline_.Start(At(901)));  // one at a time
  Plan(7, 1100, 1200);
  timeline_.OnTiming("0", 3, Timing(0, 7), 0);
  timeline_.OnTiming("0", 3, Timing(1, 7), 0.5);  // of a clock half a second behind
  Update(7, 3100, 3150);
  RequestDone();
  const Json trace = Finish();
  EXPECT_EQ(trace["otherData"]["version"], "1");

  const std::vector<Json> spans = Events(trace, "X");
  ASSERT_EQ(spans.size(), 8u) << trace.dump(
      1);  // plan, update, and for each rank the step with two activities
  EXPECT_EQ(spans[0]["name"], "plan step 7");
  EXPECT_EQ(spans[0]["args"]["requests"], Json({"mine", "another"}));
  EXPECT_EQ(spans[0]["args"]["decode_rows"], 1);
  EXPECT_EQ(spans[0]["args"]["prefill_tokens"], 40);
  EXPECT_EQ(spans[0]["ts"], 1100);
  EXPECT_EQ(spans[0]["dur"], 100);
  EXPECT_EQ(spans[1]["name"], "step 7");
  EXPECT_EQ(spans[1]["pid"], 2);
  EXPECT_EQ(spans[1]["tid"], 0);
  EXPECT_NEAR(spans[1]["ts"].get<double>(), 2000, 1e-6);
  EXPECT_EQ(spans[1]["args"]["prefill_tokens"], 40);
  EXPECT_NEAR(spans[1]["args"]["wait_ms"].get<double>(), 0.1, 1e-9);
  EXPECT_EQ(spans[2]["name"], "embedding");
  EXPECT_NEAR(spans[2]["dur"].get<double>(), 400, 1e-6);
  EXPECT_EQ(spans[3]["name"], "layer 0: experts");
  EXPECT_NEAR(spans[3]["dur"].get<double>(), 550, 1e-6);
  EXPECT_NEAR(spans[4]["ts"].get<double>(), 502'000, 1e-6);
  EXPECT_EQ(spans[7]["name"], "update step 7");
  EXPECT_EQ(spans[7]["args"]["tokens"], 2);

  std::map<std::string, int> arrows;
  for (const char* phase : {"s", "t", "f"}) {
    for (const Json& arrow : Events(trace, phase)) {
      EXPECT_EQ(arrow["id"], "0.3.7");
      ++arrows[phase];
    }
  }
  EXPECT_EQ(arrows, (std::map<std::string, int>{{"s", 1}, {"t", 2}, {"f", 1}}));

  // The request and its phases, each within it and behind the one before.
  std::vector<std::string> marks;
  for (const Json& event : trace["traceEvents"]) {
    if (!event.contains("cat") || event["cat"] != "request") continue;
    EXPECT_EQ(event["id"], "chatcmpl-1-0");
    marks.push_back(fmt::format("{} {} {:.0f}", event["ph"].get<std::string>(),
                                event["name"].get<std::string>(), event["ts"].get<double>()));
  }
  EXPECT_THAT(
      marks, testing::ElementsAre("b request mine 1000", "b queue 1000", "e queue 1500", "b prefill 1500",
                                  "e prefill 3500", "b decode 3500", "e decode 4500", "e request mine 5000"));
}

TEST_F(TelemetryTest, NothingIsGatheredUnlessAsked) {
  Plan(1, 10, 20);
  Update(1, 30, 40);
  timeline_.OnTiming("0", 3, Timing(0, 1), 0);
  ASSERT_TRUE(timeline_.Start(At(50)));
  timeline_.OnTiming("0", 3, Timing(0, 1), 0);  // planned before
  Update(1, 60, 70);                            // without an arrow: its beginning is not there
  const Json trace = Finish();
  EXPECT_EQ(Events(trace, "X").size(), 1u);
  EXPECT_TRUE(Events(trace, "f").empty());
  Plan(2, 80, 90);
  ASSERT_TRUE(timeline_.Start(At(100)));
  EXPECT_TRUE(Events(Finish(), "X").empty());  // and each begins empty
}

TEST_F(TelemetryTest, StepsAndPhasesAreMeasured) {
  Update(1, 30, 40);
  RequestDone();
  observer_.OnRequestDone({.completion = {.reason = FinishReason::kCancelled}});  // did not end well
  const std::string text = registry_.Serialize();
  EXPECT_THAT(text, HasSubstr("fulger_step_tokens_bucket{le=\"32\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("fulger_step_tokens_bucket{le=\"64\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("fulger_step_seconds_sum{kind=\"mixed\"} 0.004\n"));
  EXPECT_THAT(text, HasSubstr("fulger_step_seconds_count{kind=\"decode\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("fulger_request_queue_seconds_sum 0.0005\n"));
  EXPECT_THAT(text, HasSubstr("fulger_request_prefill_seconds_count 1\n"));
  EXPECT_THAT(text, HasSubstr("fulger_request_decode_seconds_sum 0.001\n"));
  EXPECT_THAT(text, HasSubstr("fulger_request_inference_seconds_sum 0.003\n"));
}

TEST_F(TelemetryTest, WorkIsCountedByTheModelsArithmetic) {
  const ModelConfig config = ReleasedVl01Config();
  auto plan = MakePlan(config, {});
  ASSERT_TRUE(plan.ok());
  const std::vector<TensorSpec> table = TensorTable(config);
  const std::vector<RankMemory> memory = {{.weights = RankWeightBytes(table, plan->ranks[0], DType::kBF16)}};
  observer_.SetModel(config, *plan, memory);
  Plan(7, 0, 1);  // 40 tokens of a prompt, and one sequence that decodes at position 0
  const StepShape parts[] = {{.sequences = 1, .rows = 1, .context = 0},
                             {.sequences = 1, .rows = 40, .context = 20}};
  const StepWork work = WorkOfStep(config, *plan, memory, parts);
  const std::string text = registry_.Serialize();
  const auto value = [&](const std::string& series) {
    const size_t at = text.find("\n" + series + " ");
    return at == std::string::npos ? -1 : std::stod(text.substr(at + series.size() + 2));
  };
  EXPECT_NEAR(value("fulger_step_flops_total"), work.flops, 1e-6 * work.flops);
  EXPECT_NEAR(value("fulger_step_read_bytes_total{what=\"weights\"}"), work.weights, 1e-6 * work.weights);
  EXPECT_NEAR(value("fulger_step_read_bytes_total{what=\"kv\"}"), work.kv, 1e-6 * work.kv);
}

}  // namespace
}  // namespace fulger
