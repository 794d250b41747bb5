// Files of questions, requests, results and the report. The run itself: tests/e2e/eval_test.py.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "coordinator/eval/benchmark.h"
#include "coordinator/eval/python_text.h"
#include "coordinator/eval/question_file.h"
#include "coordinator/eval/report.h"
#include "coordinator/eval/results.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_file.h"

namespace fulger {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr const char* kPng =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC";

TEST(ParseTsv, KnowsQuotes) {
  ASSERT_OK_AND_ASSIGN(const auto rows,
                       ParseTsv("a\tb\r\n\"x\ty\"\t\"says \"\"no\"\"\nand goes\"\n\nlast\t"));
  EXPECT_THAT(rows, ElementsAre(ElementsAre("a", "b"), ElementsAre("x\ty", "says \"no\"\nand goes"),
                                ElementsAre("last", "")));
  EXPECT_THAT(ParseTsv("a\n\"open").status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("row 1")));
}

TEST(ParseList, TakesJsonAndPython) {
  EXPECT_THAT(*ParseList("[\"a\", 'it\\'s', 3]"), ElementsAre("a", "it's", "3"));
  EXPECT_THAT(*ParseList("[]"), IsEmpty());
  EXPECT_EQ(ParseList("plain"), std::nullopt);
  EXPECT_EQ(ParseList("['open]"), std::nullopt);
}

TEST(ReadQuestions, Tsv) {
  const std::string path = WriteTestFile(
      "q.tsv", std::string("index\timage\tquestion\tA\tB\tC\tanswer\tcategory\n1\t") + kPng +
                   "\tWhich?\tred\tblue\t\tB\tcolours\n2\t1\tAgain?\t\t\t\t['x', 'y']\t\n3\t['" + kPng +
                   "', '" + kPng + "']\tTwo?\t\t\t\tz\t\n");
  ASSERT_OK_AND_ASSIGN(const std::vector<Question> questions, ReadQuestions(path));
  ASSERT_EQ(questions.size(), 3);
  EXPECT_THAT(questions[0].options, ElementsAre("red", "blue"));
  EXPECT_THAT(questions[0].pictures, ElementsAre(std::string("data:image/png;base64,") + kPng));
  EXPECT_EQ(questions[0].category, "colours");
  EXPECT_EQ(questions[1].pictures, questions[0].pictures);  // "1" is the row that has it
  EXPECT_THAT(questions[1].answers, ElementsAre("x", "y"));
  EXPECT_EQ(questions[2].pictures.size(), 2);
}

TEST(ReadQuestions, Jsonl) {
  const std::string path = WriteTestFile(
      "q.jsonl",
      std::string("{\"id\": 7, \"question\": \"How many?\", \"answer\": 3, \"answer_type\": \"float\", "
                  "\"precision\": 1.0, \"images\": [\"data:image/png;base64,") +
          kPng + "\"]}\n{\"question\": \"List?\", \"answer\": [1, 2], \"answer_type\": \"list\"}\n");
  ASSERT_OK_AND_ASSIGN(const std::vector<Question> questions, ReadQuestions(path));
  EXPECT_EQ(questions[0].id, "7");
  EXPECT_EQ(questions[0].precision, 1);
  EXPECT_THAT(questions[0].answers, ElementsAre("3"));
  EXPECT_THAT(questions[1].answers, ElementsAre("[1,2]"));
  EXPECT_EQ(questions[1].id, "1");
}

TEST(SettleAnswer, BecomesALetter) {
  const auto settled = [](Benchmark benchmark, std::vector<std::string> options,
                          const std::string& answer) -> absl::StatusOr<std::string> {
    Question question{.id = "q9", .text = "?", .options = std::move(options), .answers = {answer}};
    RETURN_IF_ERROR(SettleAnswer(benchmark, question));
    return question.answers[0];
  };
  EXPECT_EQ(*settled(Benchmark::kMmmu, {"red", "blue"}, "B"), "B");
  EXPECT_EQ(*settled(Benchmark::kMmmu, {"red", "blue"}, "blue"), "B");
  EXPECT_EQ(*settled(Benchmark::kMmmu, {"C", "X"}, "C"), "A");  // only two options: C is a text
  EXPECT_EQ(*settled(Benchmark::kMmmuPro, {"2", "1", "0"}, "1"), "B");
  EXPECT_EQ(*settled(Benchmark::kAi2d, {"2", "1", "0"}, "2"), "C");  // an index there, whatever the texts are
  EXPECT_EQ(*settled(Benchmark::kMmmu, {}, "12"), "12");
  EXPECT_EQ(*settled(Benchmark::kDocVqa, {"a", "b"}, "1"), "1");
  for (const char* wrong : {"?", "E", "green", "", "7"}) {
    EXPECT_THAT(settled(Benchmark::kAi2d, {"red", "blue"}, wrong).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("question q9")))
        << wrong;
  }
}

TEST(ReadQuestions, NamesWhatIsWrong) {
  const auto refusal = [](const std::string& name, const std::string& text) {
    return Message(ReadQuestions(WriteTestFile(name, text)).status());
  };
  EXPECT_THAT(refusal("a.jsonl", "{\"question\": \"x\"}\n"),
              AllOf(HasSubstr("row 1"), HasSubstr("no answer")));
  EXPECT_THAT(refusal("b.jsonl", "nonsense\n"), HasSubstr("line 1"));
  EXPECT_THAT(refusal("c.tsv", "question\tanswer\nx\n"), HasSubstr("expected 2 columns, found 1"));
  EXPECT_THAT(refusal("d.csv", ""), HasSubstr(".tsv or .jsonl"));
  EXPECT_THAT(refusal("e.jsonl", "{\"question\": \"x\", \"answer\": \"y\", \"image\": \"gone.png\"}\n"),
              HasSubstr("gone.png"));
  EXPECT_THAT(refusal("f.jsonl",
                      "{\"id\": 1, \"question\": \"x\", \"answer\": \"y\"}\n"
                      "{\"id\": 1, \"question\": \"x\", \"answer\": \"y\"}\n"),
              HasSubstr("the id 1"));
}

TEST(RequestBody, PutsPicturesWhereTheTextNamesThem) {
  Question question;
  question.text = "Compare <image 2> with <image 9>.";
  question.pictures = {"data:one", "data:two"};
  question.options = {"same", "other"};
  RequestSettings settings;
  settings.model = "m";
  const auto body = nlohmann::json::parse(RequestBody(Benchmark::kMmmu, question, settings));
  const auto& content = body["messages"][0]["content"];
  ASSERT_EQ(content.size(), 4);
  EXPECT_EQ(content[0]["image_url"]["url"], "data:one");  // the text does not name it
  EXPECT_EQ(content[1]["text"], "Compare ");
  EXPECT_EQ(content[2]["image_url"]["url"], "data:two");
  EXPECT_EQ(content[3]["text"],
            " with <image 9>.\n(A) same\n(B) other\nAnswer with the letter of the right option.");
  EXPECT_EQ(body["temperature"], 0);
  EXPECT_FALSE(body.contains("max_tokens"));
  settings.has_instruction = true;
  EXPECT_EQ(PromptText(Benchmark::kMmmu, question, settings),
            "Compare <image 2> with <image 9>.\n(A) same\n(B) other");
}

TEST(Judge, DrawsALetterWhereNoneIsNamed) {
  Question question;
  question.id = "q1";
  question.options = {"x", "y", "z"};
  question.answers = {"B"};
  const Judgement judgement = Judge(Benchmark::kMmmu, question, "no idea");
  EXPECT_TRUE(judgement.guessed);
  EXPECT_EQ(judgement.parsed, Judge(Benchmark::kMmmu, question, "really no idea").parsed);  // by the id alone
  EXPECT_FALSE(Judge(Benchmark::kMmmu, question, "B").guessed);
  EXPECT_EQ(Judge(Benchmark::kMmmu, question, "B").score, 1);
}

TEST(Judge, MathVistaTakesTheExtraction) {
  Question question;
  question.answers = {"14"};
  question.answer_type = "integer";
  EXPECT_TRUE(WantsExtractor(Benchmark::kMathVista, question, "There are 14 of 20"));
  EXPECT_FALSE(WantsExtractor(Benchmark::kMathVista, question, "14"));
  EXPECT_EQ(Judge(Benchmark::kMathVista, question, "There are 14 of 20", "14").score, 1);
  EXPECT_EQ(Judge(Benchmark::kMathVista, question, "There are 14 of 20").score,
            0);  // by rules: the last number
  EXPECT_EQ(Judge(Benchmark::kMathVista, question, "20 - 6 = 14").score, 1);
}

TEST(ResultsFile, GoesOnAfterACrash) {
  const std::string path = WriteTestFile("results.jsonl", "");
  std::filesystem::remove(path);
  std::vector<Result> earlier;
  {
    ASSERT_OK_AND_ASSIGN(ResultsFile file, ResultsFile::Open(path, "run one", &earlier));
    ASSERT_OK(file.Append({.id = "1", .response = "two\nlines \xff", .score = 0.25}));
    ASSERT_OK(file.Append({.id = "2", .score = 1}));
  }
  ASSERT_OK_AND_ASSIGN(const std::string whole, ReadFile(path));
  std::filesystem::resize_file(path, whole.size() - 5);  // the crash
  {
    ASSERT_OK_AND_ASSIGN(ResultsFile file, ResultsFile::Open(path, "run one", &earlier));
    ASSERT_EQ(earlier.size(), 1);
    EXPECT_EQ(earlier[0].id, "1");
    EXPECT_EQ(earlier[0].score, 0.25);
    ASSERT_OK(file.Append({.id = "2", .score = 1}));
  }
  ASSERT_OK_AND_ASSIGN(const std::string again, ReadFile(path));
  EXPECT_EQ(again, whole);
  EXPECT_THAT(ResultsFile::Open(path, "run two", &earlier).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("another run")));
}

// Wilson's interval for 8 of 10 is 0.4902 to 0.9433 (Brown, Cai, DasGupta, Statistical Science 16, 2001,
// formula 4).
TEST(Mean, HasWilsonsInterval) {
  const Estimate e = Mean({1, 1, 1, 1, 1, 1, 1, 1, 0, 0});
  EXPECT_DOUBLE_EQ(e.mean, 0.8);
  EXPECT_NEAR(e.low, 0.4902, 1e-4);
  EXPECT_NEAR(e.high, 0.9433, 1e-4);
  // Not all 0 or 1: mean 0.5, sample variance 0.0625 * 4 / 3, so +- 1.95996 * sqrt(0.083333 / 4).
  const Estimate soft = Mean({0.25, 0.25, 0.75, 0.75});
  EXPECT_NEAR(soft.low, 0.5 - 0.28290, 1e-4);
  EXPECT_EQ(Mean({}).count, 0);
}

TEST(Report, TakesNothingForHtml) {
  Question question;
  question.id = "<b>1";
  question.text = "Is <script>alert(1)</script> here?";
  question.answers = {"a&b"};
  question.pictures = {"data:image/png;base64,AA\" onerror=\"x"};
  const std::vector<Result> results = {
      {.id = "<b>1", .category = "c", .response = "</pre><script>", .score = 0},
      {.id = "2", .category = "c", .score = 1}};
  const std::string html = ReportHtml("{\"model\":\"<m>\"}", {question}, results);
  EXPECT_THAT(html, Not(HasSubstr("<script")));
  EXPECT_THAT(html, Not(HasSubstr("\" onerror=\"")));
  EXPECT_THAT(html, AllOf(HasSubstr("a&amp;b"), HasSubstr("1 of 2 lost points"), HasSubstr("50.0 %")));
  const auto json = nlohmann::json::parse(SummaryJson("{}", results, 3));
  EXPECT_EQ(json["score"], 0.5);
  EXPECT_EQ(json["questions"], 3);
  EXPECT_THAT(SummaryText(results, 3), HasSubstr("2 of 3 questions answered"));
}

}  // namespace
}  // namespace fulger
