// A benchmark: how a question is put, and how its response is scored.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "coordinator/eval/question_file.h"

namespace fulger {

enum class Benchmark { kMmmu, kMmmuPro, kAi2d, kChartQa, kDocVqa, kOcrBench, kMathVista, kExact };

absl::StatusOr<Benchmark> ParseBenchmark(std::string_view name);
std::vector<std::string> BenchmarkNames();

// Multiple choice: the answer becomes the letter of an option. Files have it as that letter, as the option's
// text or, AI2D's parquet, as the option's index from 0; anything else (the "?" of a test set without
// answers) is refused.
absl::Status SettleAnswer(Benchmark benchmark, Question& question);

struct Judgement {
  double score = 0;    // 0 ... 1
  std::string parsed;  // what was read out of the response
  // The response names no answer: MMMU draws a letter at random there, we draw it from the question's id.
  bool guessed = false;
};

// `extraction`: what an extractor model made of the response (MathVista alone); empty: read by rules.
Judgement Judge(Benchmark benchmark, const Question& question, std::string_view response,
                std::string_view extraction = {});
// Whether MathVista's authors would ask a model to extract the answer.
bool WantsExtractor(Benchmark benchmark, const Question& question, std::string_view response);

struct RequestSettings {
  std::string model;
  int max_tokens = 0;
  double temperature = 0;
  bool has_instruction = false;
  std::string instruction;  // in the place of the benchmark's own, if has_instruction
};
// The text behind the pictures, options and instruction included.
std::string PromptText(Benchmark benchmark, const Question& question, const RequestSettings& settings);
// The body of POST /v1/chat/completions. "<image 2>" in the text becomes that picture; pictures that the text
// does not name stand before it.
std::string RequestBody(Benchmark benchmark, const Question& question, const RequestSettings& settings);
// The request that asks a model for the answer inside a response.
std::string ExtractorBody(const Question& question, std::string_view response,
                          const RequestSettings& settings);

}  // namespace fulger
