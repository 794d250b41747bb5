// The published scores, each as its authors define it. Pure functions; ASCII case folding as far as English
// needs it.
//
// | function | definition |
// |---|---|
// | ParseChoice, ParseFinalChoice, ScoreOpen | github.com/MMMU-Benchmark/MMMU, eval_utils.py (and MMMU-Pro's
// evaluate.py) | | RelaxedAccuracy | ChartQA (arXiv 2203.10244, section 5.1) in the form of pix2struct's
// metrics.py | | Anls | Biten et al., arXiv 1905.13648, equation 1, threshold 0.5 | | Contains | OCRBench:
// github.com/Yuliang-Liu/MultimodalOCR | | MathVista... | github.com/lupantech/MathVista, calculate_score.py
// and extract_answer.py |
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fulger {

// The letter that a response to a multiple choice question means, options lettered from A. Nothing where MMMU
// would draw one at random.
std::optional<char> ParseChoice(std::string_view response, const std::vector<std::string>& options);
// MMMU-Pro with chain of thought: what follows the last "Answer:" if it names exactly one letter, else as
// above.
std::optional<char> ParseFinalChoice(std::string_view response, const std::vector<std::string>& options);
// MMMU's open questions: a string answer inside one of the key phrases of the response, or a number equal to
// one there.
bool ScoreOpen(std::string_view response, const std::vector<std::string>& answers);

// Within 5 % for numbers ("50%" is 0.5; a target of 0 is compared as text), equal but for case for everything
// else.
bool RelaxedAccuracy(std::string_view response, std::string_view answer);

// 1 - edit distance / longer length of the best answer; 0 where that is below 0.5. Case and outer space are
// ignored.
double Anls(std::string_view response, const std::vector<std::string>& answers);

// Any answer is part of the response. Without `spaces`, all white space is dropped and case counts (HME100k).
bool Contains(std::string_view response, const std::vector<std::string>& answers, bool spaces = true);

struct MathVistaQuestion {
  std::vector<std::string> options;  // empty: free form
  std::string answer_type;           // "integer", "float", "list" or "text"
  int precision = 0;                 // digits, of a float
};
// Where the response is the answer already, the authors ask no extractor: an option, a number, 'The answer is
// "x".'.
std::optional<std::string> MathVistaDirect(std::string_view response, const MathVistaQuestion& question);
// The extraction in the form that is compared with the answer; nothing where the authors have None.
std::optional<std::string> MathVistaNormalize(std::string_view extraction, const MathVistaQuestion& question);

}  // namespace fulger
