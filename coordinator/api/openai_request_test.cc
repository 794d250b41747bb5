#include "coordinator/api/openai_request.h"

#include <nlohmann/json.hpp>

#include "coordinator/frontend/field_error.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr OpenAiLimits kLimits{.vocab = 1000, .max_choices = 8, .max_image_bytes = 100, .max_images = 2};
// A picture's bytes are not looked at here.
constexpr char kPicture[] = "data:image/png;base64,iVBORw0KGgo=";

json Chat() { return {{"messages", {{{"role", "user"}, {"content", "hi"}}}}}; }
json With(json base, const json& more) {
  base.update(more);
  return base;
}
absl::StatusOr<OpenAiRequest> ParseChat(const json& more) {
  return ParseChatRequest(With(Chat(), more).dump(), kLimits);
}
absl::StatusOr<OpenAiRequest> ParseText(const json& body) {
  return ParseCompletionRequest(body.dump(), kLimits);
}

TEST(ChatRequest, DefaultsAreThoseOfTheContract) {
  ASSERT_OK_AND_ASSIGN(const OpenAiRequest r, ParseChat(json::object()));
  EXPECT_EQ(r.n, 1);
  EXPECT_FALSE(r.stream);
  const GenerateInput& in = r.prompts.at(0);
  ASSERT_EQ(in.messages.size(), 1);
  EXPECT_EQ(in.messages[0].role, "user");
  EXPECT_EQ(in.messages[0].parts.at(0).text, "hi");
  EXPECT_EQ(in.sampling.temperature(), 1);
  EXPECT_EQ(in.sampling.top_p(), 1);
  EXPECT_EQ(in.sampling.max_tokens(), 0);  // all that is left
  EXPECT_EQ(in.sampling.logprobs(), -1);
  EXPECT_EQ(in.sampling.repetition_penalty(), 1);
  EXPECT_FALSE(in.seed.has_value());
  EXPECT_TRUE(in.add_generation_prompt);
}

TEST(ChatRequest, FormsOfAnswers) {
  const auto form = [](const std::string& more) -> std::optional<AnswerForm> {
    const auto r = ParseChatRequest(R"({"messages":[{"role":"user","content":"x"}],)" + more + "}", kLimits);
    EXPECT_OK(r.status());
    return r.ok() ? r->prompts[0].form : std::nullopt;
  };
  EXPECT_FALSE(form(R"("response_format":{"type":"text"})").has_value());
  EXPECT_EQ(form(R"("response_format":{"type":"json_object"})")->kind, AnswerForm::Kind::kJsonObject);
  // The schema's properties keep their order.
  const auto schema =
      form(R"("response_format":{"type":"json_schema","json_schema":{"schema":{"z":{"b":1,"a":2},"c":3}}})");
  EXPECT_EQ(schema->kind, AnswerForm::Kind::kJsonSchema);
  EXPECT_EQ(schema->schema, R"({"z":{"b":1,"a":2},"c":3})");
  EXPECT_EQ(schema->field, "response_format.json_schema.schema");

  const std::string f = R"({"type":"function","function":{"name":"f","parameters":{"type":"object"}}})";
  const std::string g = R"({"function":{"strict":true,"parameters":{"b":1,"a":2},"name":"g"}})";
  EXPECT_FALSE(form(R"("tools":[)" + f + "]").has_value());
  EXPECT_FALSE(form(R"("tools":[)" + g + R"(],"tool_choice":"none")").has_value());
  const auto strict = form(R"("tools":[)" + f + "," + g + R"(],"tool_choice":"auto")");
  EXPECT_TRUE(strict->text && strict->several);
  EXPECT_EQ(strict->tools.at(0).schema, "");  // not strict: any object
  EXPECT_EQ(strict->tools.at(1).schema, R"({"b":1,"a":2})");
  EXPECT_EQ(strict->tools.at(1).field, "tools[1].function.parameters");
  const auto required = form(R"("tools":[)" + f + R"(],"tool_choice":"required")");
  EXPECT_TRUE(!required->text && required->several);
  EXPECT_FALSE(
      form(R"("tools":[)" + f + R"(],"tool_choice":"required","parallel_tool_calls":false)")->several);
  const auto named =
      form(R"("tools":[)" + f + "," + g + R"(],"tool_choice":{"type":"function","function":{"name":"g"}})");
  // A form of what is no call: calls or a value, whether a tool is strict or not.
  const std::string object = R"(,"response_format":{"type":"json_object"})";
  const auto either = form(R"("tools":[)" + f + "]" + object);
  EXPECT_TRUE(!either->text && either->several);
  EXPECT_EQ(either->tools.size(), 1u);
  EXPECT_EQ(either->schema, R"({"type":"object"})");
  EXPECT_EQ(either->field, "response_format");
  EXPECT_EQ(form(R"("tools":[)" + f + R"(],"tool_choice":"required")" + object)->schema, "");
  EXPECT_EQ(form(R"("tools":[)" + f + R"(],"tool_choice":"none")" + object)->kind,
            AnswerForm::Kind::kJsonObject);
  EXPECT_EQ(named->tools.size(), 1u);
  EXPECT_EQ(named->tools.at(0).name, "g");
  EXPECT_TRUE(!named->text && !named->several);
}

TEST(ChatRequest, NullIsAbsentAndUnknownFieldsAreIgnored) {
  ASSERT_OK_AND_ASSIGN(const OpenAiRequest r, ParseChat({{"temperature", nullptr},
                                                         {"stop", nullptr},
                                                         {"tools", nullptr},
                                                         {"logit_bias", nullptr},
                                                         {"response_format", nullptr},
                                                         {"prompt_logprobs", nullptr},
                                                         {"stream_options", nullptr},
                                                         {"n", nullptr},
                                                         {"some_future_field", {1, 2}},
                                                         {"user", "u"}}));
  EXPECT_EQ(r.prompts[0].sampling.temperature(), 1);
  EXPECT_THAT(r.ignored, ElementsAre("some_future_field", "user"));  // for the debug log
  ASSERT_OK_AND_ASSIGN(const OpenAiRequest text, ParseText({{"prompt", "x"}, {"user", "u"}, {"echo", true}}));
  EXPECT_THAT(text.ignored, ElementsAre("user"));
}

TEST(ChatRequest, EveryFieldArrives) {
  ASSERT_OK_AND_ASSIGN(
      const OpenAiRequest r,
      ParseChat({{"model", "m"},
                 {"max_tokens", 5},
                 {"max_completion_tokens", 7},
                 {"temperature", 0.5},
                 {"top_p", 0.25},
                 {"n", 3},
                 {"stream", true},
                 {"stream_options", {{"include_usage", true}, {"continuous_usage_stats", true}}},
                 {"stop", {"a", "b"}},
                 {"seed", -1},
                 {"presence_penalty", 1.5},
                 {"frequency_penalty", -1.5},
                 {"logit_bias", {{"3", -100}, {"999", 2.5}}},
                 {"logprobs", true},
                 {"top_logprobs", 4},
                 {"ignore_eos", true},
                 {"min_tokens", 2},
                 {"top_k", 40},
                 {"min_p", 0.125},
                 {"repetition_penalty", 1.25},
                 {"stop_token_ids", {11, 12}},
                 {"include_stop_str_in_output", true},
                 {"skip_special_tokens", false},
                 {"truncate_prompt_tokens", 100},
                 {"priority", -3},
                 {"explain_cache", true},
                 {"allowed_token_ids", {1, 2}}}));
  EXPECT_THAT(r.ignored, ::testing::IsEmpty());
  EXPECT_EQ(r.model, "m");
  EXPECT_EQ(r.n, 3);
  EXPECT_TRUE(r.stream && r.include_usage && r.continuous_usage);
  const GenerateInput& in = r.prompts[0];
  const v1::SamplingParams& s = in.sampling;
  EXPECT_EQ(s.max_tokens(), 7);
  EXPECT_EQ(s.temperature(), 0.5);
  EXPECT_EQ(s.top_p(), 0.25);
  EXPECT_THAT(in.stop, ElementsAre("a", "b"));
  EXPECT_EQ(in.seed, std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(s.presence_penalty(), 1.5);
  EXPECT_EQ(s.frequency_penalty(), -1.5);
  EXPECT_EQ(s.logit_bias().at(3), -100);
  EXPECT_EQ(s.logit_bias().at(999), 2.5);
  EXPECT_EQ(s.logprobs(), 4);
  EXPECT_TRUE(in.ignore_eos && in.include_stop);
  EXPECT_FALSE(in.skip_special_tokens);
  EXPECT_EQ(s.min_tokens(), 2);
  EXPECT_EQ(s.top_k(), 40);
  EXPECT_EQ(s.min_p(), 0.125);
  EXPECT_EQ(s.repetition_penalty(), 1.25);
  EXPECT_THAT(s.stop_ids(), ElementsAre(11, 12));
  EXPECT_THAT(s.allowed_ids(), ElementsAre(1, 2));
  EXPECT_EQ(in.truncate_prompt, 100);
  EXPECT_EQ(in.priority, -3);
  EXPECT_TRUE(r.explain_cache);
}

TEST(ChatRequest, ContentPartsAndPictures) {
  const json messages = {{{"role", "developer"}, {"content", "be kind"}},
                         {{"role", "user"},
                          {"content",
                           {{{"type", "text"}, {"text", "what is "}},
                            {{"type", "image_url"}, {"image_url", {{"url", kPicture}, {"detail", "high"}}}},
                            {{"type", "text"}, {"text", "?"}}}}}};
  ASSERT_OK_AND_ASSIGN(const OpenAiRequest r, ParseChatRequest(json{{"messages", messages}}.dump(), kLimits));
  const auto& m = r.prompts[0].messages;
  EXPECT_EQ(m[0].role, "system");
  ASSERT_EQ(m[1].parts.size(), 3);
  EXPECT_EQ(m[1].parts[1].kind, PromptPart::Kind::kImage);
  EXPECT_EQ(m[1].parts[1].image, "\x89PNG\r\n\x1a\n");
  EXPECT_EQ(m[1].parts[2].text, "?");
}

TEST(ChatRequest, ToolsAndTheirAnswers) {
  const json messages = {
      {{"role", "user"}, {"content", "weather?"}},
      {{"role", "assistant"},
       {"content", nullptr},
       {"tool_calls",
        {{{"id", "c1"}, {"type", "function"}, {"function", {{"name", "w"}, {"arguments", "{\"a\":1}"}}}}}}},
      {{"role", "tool"}, {"tool_call_id", "c1"}, {"content", "sunny"}}};
  const json tools = {{{"type", "function"}, {"function", {{"name", "w"}}}}};
  ASSERT_OK_AND_ASSIGN(const OpenAiRequest r,
                       ParseChatRequest(json{{"messages", messages}, {"tools", tools}}.dump(), kLimits));
  const auto& m = r.prompts[0].messages;
  EXPECT_EQ(m[1].tool_calls.at(0).name, "w");
  EXPECT_EQ(m[1].tool_calls.at(0).arguments, "{\"a\":1}");
  EXPECT_EQ(m[2].name, "w");
  EXPECT_THAT(r.prompts[0].tools, ElementsAre(tools[0].dump()));
  ASSERT_OK_AND_ASSIGN(const OpenAiRequest none, ParseChat({{"tools", tools}, {"tool_choice", "none"}}));
  EXPECT_TRUE(none.prompts[0].tools.empty());
}

// body, the field that must be named, part of the message
struct BadCase {
  json body;
  const char* field;
  const char* message;
};
void PrintTo(const BadCase& c, std::ostream* out) { *out << c.body.dump(); }

class BadChat : public ::testing::TestWithParam<BadCase> {};
TEST_P(BadChat, NamesTheField) {
  const absl::Status status = ParseChat(GetParam().body).status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(GetParam().message)));
  EXPECT_EQ(FieldOf(status).value_or(""), GetParam().field);
}

json Message(const json& content, const char* role = "user") {
  return {{"messages", {{{"role", role}, {"content", content}}}}};
}
json Picture(const std::string& url) {
  return Message({{{"type", "image_url"}, {"image_url", {{"url", url}}}}});
}

INSTANTIATE_TEST_SUITE_P(
    All, BadChat,
    ::testing::Values(
        BadCase{{{"temperature", -0.1}}, "temperature", "from 0 to 100, found -0.1"},
        BadCase{{{"temperature", "hot"}}, "temperature", "expected a number, found a string"},
        BadCase{{{"top_p", 1.5}}, "top_p", "found 1.5"}, BadCase{{{"top_p", -1}}, "top_p", "found -1"},
        BadCase{{{"max_tokens", 0}}, "max_tokens", "found 0"},
        BadCase{{{"max_tokens", -5}}, "max_tokens", "found -5"},
        BadCase{{{"max_tokens", 1.5}}, "max_tokens", "expected a whole number, found 1.5"},
        BadCase{{{"max_tokens", 1e30}}, "max_tokens", "whole number"},
        BadCase{{{"max_completion_tokens", 18446744073709551615ULL}}, "max_completion_tokens", "found 1844"},
        BadCase{{{"min_tokens", 9}, {"max_tokens", 8}}, "min_tokens", "more than max_tokens"},
        BadCase{{{"n", 0}}, "n", "found 0"}, BadCase{{{"n", 9}}, "n", "from 1 to 8"},
        BadCase{{{"best_of", 2}}, "best_of", "only n"},
        BadCase{{{"stream", 1}}, "stream", "expected true or false, found a number"},
        BadCase{{{"stream_options", {{"include_usage", true}}}}, "stream_options", "only with stream"},
        BadCase{{{"stop", ""}}, "stop", "empty string"}, BadCase{{{"stop", {1}}}, "stop", "expected strings"},
        BadCase{{{"seed", 1.5}}, "seed", "whole number"},
        BadCase{{{"presence_penalty", 3}}, "presence_penalty", "from -2 to 2"},
        BadCase{{{"repetition_penalty", 0}}, "repetition_penalty", "found 0"},
        BadCase{{{"top_k", -2}}, "top_k", "found -2"},
        BadCase{{{"logit_bias", {{"1000", 1}}}}, "logit_bias", "found \"1000\""},
        BadCase{{{"logit_bias", {{"x", 1}}}}, "logit_bias", "found \"x\""},
        BadCase{{{"logit_bias", {{"1", 101}}}}, "logit_bias.1", "from -100 to 100"},
        BadCase{{{"stop_token_ids", {1000}}}, "stop_token_ids", "from 0 to 999, found 1000"},
        BadCase{{{"allowed_token_ids", json::array()}}, "allowed_token_ids", "nothing"},
        BadCase{{{"top_logprobs", 2}}, "top_logprobs", "only with logprobs"},
        BadCase{{{"logprobs", true}, {"top_logprobs", 21}}, "top_logprobs", "found 21"},
        BadCase{{{"response_format", {{"type", "xml"}}}}, "response_format.type", "found \"xml\""},
        BadCase{{{"response_format", {{"type", "json_schema"}}}}, "response_format.json_schema", "missing"},
        BadCase{{{"response_format", {{"type", "json_schema"}, {"json_schema", {{"name", "x"}}}}}},
                "response_format.json_schema.schema",
                "missing"},
        BadCase{{{"prompt_logprobs", 21}}, "prompt_logprobs", "0 to 20"},
        BadCase{{{"prompt_logprobs", 0}, {"stream", true}}, "prompt_logprobs", "stream"},
        BadCase{{{"guided_json", {{"a", 1}}}}, "guided_json", "response_format"},
        BadCase{{{"echo", true}}, "echo", "no echo"},
        BadCase{{{"tool_choice", "required"}}, "tool_choice", "no tools"},
        BadCase{{{"tools", {{{"type", "x"}}}}}, "tools[0].function", "missing"},
        BadCase{{{"tools", {{{"function", {{"name", "a b"}}}}}}}, "tools[0].function.name", "found \"a b\""},
        BadCase{{{"tools", {{{"function", {{"name", "a"}}}}}}, {"tool_choice", {{"type", "function"}}}},
                "tool_choice.function",
                "missing"},
        BadCase{{{"tools", {{{"function", {{"name", "a"}}}}}},
                 {"tool_choice", {{"type", "function"}, {"function", {{"name", "b"}}}}}},
                "tool_choice.function.name",
                "no tool \"b\""},
        BadCase{{{"messages", json::array()}}, "messages", "at least one"},
        BadCase{{{"messages", "hi"}}, "messages", "expected a list, found a string"},
        BadCase{{{"messages", nullptr}}, "messages", "missing"},
        BadCase{Message("x", "robot"), "messages[0].role", "found \"robot\""},
        BadCase{Message(nullptr), "messages[0].content", "without content"},
        BadCase{Message(5), "messages[0].content", "found a number"},
        BadCase{Message({{{"type", "video"}}}), "messages[0].content[0].type", "found \"video\""},
        BadCase{Message("x", "tool"), "messages[0].tool_call_id", "no call before"},
        BadCase{Picture("https://example.com/a.png"), "messages[0].content[0].image_url",
                "fetches no pictures"},
        BadCase{Picture("data:image/png;base64,***"), "messages[0].content[0].image_url", ""},
        BadCase{Picture("data:image/png;base64," + std::string(400, 'A')), "messages[0].content[0].image_url",
                "100"},
        BadCase{{{"continue_final_message", true}}, "continue_final_message", "not the assistant's"}));

TEST(ChatRequest, TooManyPictures) {
  json parts = json::array();
  for (int i = 0; i < 3; ++i) parts.push_back({{"type", "image_url"}, {"image_url", {{"url", kPicture}}}});
  const absl::Status status = ParseChat(Message(parts)).status();
  EXPECT_EQ(FieldOf(status), "messages[0].content[2].image_url");
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at most 2 pictures")));
}

TEST(CompletionRequest, PromptsOfAllKinds) {
  ASSERT_OK_AND_ASSIGN(OpenAiRequest r, ParseText({{"prompt", "abc"}}));
  EXPECT_EQ(r.prompts.at(0).text, "abc");
  EXPECT_EQ(r.prompts[0].sampling.max_tokens(), 16);
  ASSERT_OK_AND_ASSIGN(r, ParseText({{"prompt", {"a", "b"}}, {"logprobs", 2}}));
  ASSERT_EQ(r.prompts.size(), 2);
  EXPECT_EQ(r.prompts[1].text, "b");
  EXPECT_EQ(r.prompts[1].sampling.logprobs(), 2);
  ASSERT_OK_AND_ASSIGN(r, ParseText({{"prompt", {1, 2, 3}}}));
  ASSERT_EQ(r.prompts.size(), 1);
  EXPECT_THAT(*r.prompts[0].ids, ElementsAre(1, 2, 3));
  ASSERT_OK_AND_ASSIGN(r, ParseText({{"prompt", {{1, 2}, {3}}}}));
  ASSERT_EQ(r.prompts.size(), 2);
  EXPECT_THAT(*r.prompts[1].ids, ElementsAre(3));
}

TEST(CompletionRequest, BadPrompts) {
  const auto field = [](const json& body) { return FieldOf(ParseText(body).status()).value_or("none"); };
  EXPECT_EQ(field(json::object()), "prompt");
  EXPECT_EQ(field({{"prompt", json::array()}}), "prompt");
  EXPECT_EQ(field({{"prompt", {1, 1000}}}), "prompt");
  EXPECT_EQ(field({{"prompt", {1, "a"}}}), "prompt");
  EXPECT_EQ(field({{"prompt", {"a", 1}}}), "prompt[1]");
  EXPECT_EQ(field({{"prompt", {{1}, json::array()}}}), "prompt[1]");
  EXPECT_EQ(field({{"prompt", {"a", "b", "c"}}, {"n", 3}}), "n");
  EXPECT_EQ(field({{"prompt", "a"}, {"suffix", "b"}}), "suffix");
}

TEST(Body, MustBeOneSoundJsonObject) {
  const auto message = [](std::string_view body) {
    const absl::Status s = ParseChatRequest(body, kLimits).status();
    EXPECT_EQ(s.code(), absl::StatusCode::kInvalidArgument);
    return std::string(s.message());
  };
  EXPECT_THAT(message(""), HasSubstr("empty"));
  EXPECT_THAT(message("[1]"), HasSubstr("a list: expected an object"));
  EXPECT_THAT(message("{\"messages\": "), HasSubstr("not JSON"));
  EXPECT_THAT(message("{\"temperature\": NaN}"), HasSubstr("not JSON"));
  EXPECT_THAT(message("{\"temperature\": 1e999}"), HasSubstr("not JSON"));
  EXPECT_THAT(message("{\"model\": \"\xff\xfe\"}"), HasSubstr("UTF-8"));
  EXPECT_THAT(message("{\"model\": \"a\", \"model\": \"b\"}"), HasSubstr("model: the key is there twice"));
  EXPECT_THAT(message("{\"a\": {\"b\": 1, \"b\": 2}}"), HasSubstr("b: the key is there twice"));
  std::string deep = "{\"a\":";
  deep += std::string(100'000, '[') + std::string(100'000, ']') + "}";
  EXPECT_THAT(message(deep), HasSubstr("nested more than 64"));
}

}  // namespace
}  // namespace fulger
