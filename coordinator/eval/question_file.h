// Benchmark files: questions with their pictures and answers.
//
// TSV, the layout in which the benchmarks are passed around (tabs, quoted fields may hold tabs and line
// ends): columns index, image (base64, a Python list of several, or the index of the row that has it),
// question, hint, A, B, ..., answer, category, and whatever else; a picture may also be a path in image_path.
// JSONL: one object a line with the same names, or id / question_id / questionId / pid, images (list of paths
// or data URLs), options (list), answers (list).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace fulger {

struct Question {
  std::string id;
  std::string text;
  std::string hint;
  std::vector<std::string> pictures;  // data URLs
  std::vector<std::string> options;   // A, B, ...
  std::vector<std::string> answers;   // any of them is right
  std::string category;               // of the summary; empty: none
  std::string dataset;                // OCRBench: where the question comes from
  std::string question_type;          // MathVista: multi_choice or free_form; MMMU: open
  std::string answer_type;            // MathVista: integer, float, list, text
  int precision = 0;                  // MathVista: digits of a float
};

// Ids are unique, every question has a text and an answer. Errors name the row.
absl::StatusOr<std::vector<Question>> ReadQuestions(const std::string& path);

// Rows of fields, the first one the header. Quotes as in RFC 4180.
absl::StatusOr<std::vector<std::vector<std::string>>> ParseTsv(std::string_view text);

}  // namespace fulger
