#include "coordinator/api/openai_request.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/log.h"
#include "coordinator/api/json_fields.h"
#include "coordinator/api/openai_form.h"
#include "coordinator/api/openai_messages.h"
#include "coordinator/frontend/field_error.h"

namespace fulger {
namespace {

using nlohmann::json;

constexpr int32_t kIntMax = std::numeric_limits<int32_t>::max();
constexpr size_t kMaxStops = 64;
constexpr int32_t kMaxLogprobs = 20;
constexpr int32_t kCompletionTokens = 16;  // OpenAI's default for /v1/completions

// Fields that would change the answer and that no part of this server can honour.
constexpr std::pair<const char*, const char*> kRefused[] = {
    {"use_beam_search", "there is no beam search"},
    {"suffix", "there is no insertion"},
    {"functions", "the old form of tools is not supported: use tools"},
    {"function_call", "the old form of tool_choice is not supported"},
    {"audio", "the model has no audio"},
    {"guided_json", "use response_format"},
    {"guided_regex", "use response_format"},
    {"guided_choice", "use response_format"},
    {"guided_grammar", "use response_format"},
    {"structured_outputs", "use response_format"},
    {"chat_template", "the template is the checkpoint's"},
    {"chat_template_kwargs", "the template takes no arguments"},
    {"documents", "the template takes no documents"},
    {"mm_processor_kwargs", "pictures are processed as the checkpoint says"},
    {"logits_processors", "there are none"},
    {"bad_words", "use logit_bias"},
};

absl::Status ReadSampling(const JsonFields& f, v1::SamplingParams* s) {
  ASSIGN_OR_RETURN(const float temperature, f.Number("temperature", 0, 100, 1));
  ASSIGN_OR_RETURN(float top_p, f.Number("top_p", 0, 1, 1));
  if (top_p == 0) top_p = std::numeric_limits<float>::min();  // 0 is absent on the wire; this keeps one token
  ASSIGN_OR_RETURN(const int32_t top_k, f.Int32("top_k", -1, kIntMax, 0));
  ASSIGN_OR_RETURN(const float min_p, f.Number("min_p", 0, 1, 0));
  ASSIGN_OR_RETURN(const float repetition, f.Number("repetition_penalty", 0.01, 100, 1));
  ASSIGN_OR_RETURN(const float presence, f.Number("presence_penalty", -2, 2, 0));
  ASSIGN_OR_RETURN(const float frequency, f.Number("frequency_penalty", -2, 2, 0));
  s->set_temperature(temperature);
  s->set_top_p(top_p);
  s->set_top_k(top_k == -1 ? 0 : top_k);
  s->set_min_p(min_p);
  s->set_repetition_penalty(repetition);
  s->set_presence_penalty(presence);
  s->set_frequency_penalty(frequency);
  return absl::OkStatus();
}

absl::Status ReadTokenRules(const JsonFields& f, const OpenAiLimits& limits, v1::SamplingParams* s) {
  std::vector<int32_t> stop_ids, allowed;
  RETURN_IF_ERROR(f.Ids("stop_token_ids", limits.vocab, &stop_ids));
  RETURN_IF_ERROR(f.Ids("allowed_token_ids", limits.vocab, &allowed));
  if (f.Find("allowed_token_ids") != nullptr && allowed.empty()) {
    return FieldError(f.Path("allowed_token_ids"), "an empty list allows nothing");
  }
  s->mutable_stop_ids()->Add(stop_ids.begin(), stop_ids.end());
  s->mutable_allowed_ids()->Add(allowed.begin(), allowed.end());
  const json* bias = f.Find("logit_bias");
  if (bias == nullptr) return absl::OkStatus();
  const std::string path = f.Path("logit_bias");
  if (!bias->is_object()) return FieldError(path, "expected an object, found {}", JsonKind(*bias));
  for (const auto& [key, value] : bias->items()) {
    const bool digits = !key.empty() && key.size() < 10 && key.find_first_not_of("0123456789") == key.npos;
    const int64_t id = digits ? std::stoll(key) : -1;
    if (id < 0 || id >= limits.vocab) {
      return FieldError(path, "expected token ids from 0 to {}, found \"{}\"", limits.vocab - 1, key);
    }
    ASSIGN_OR_RETURN(const float amount, JsonFields(*bias, path + ".").Number(key.c_str(), -100, 100, 0));
    (*s->mutable_logit_bias())[static_cast<int32_t>(id)] = amount;
  }
  return absl::OkStatus();
}

absl::Status ReadLengths(const JsonFields& f, bool chat, v1::SamplingParams* s) {
  ASSIGN_OR_RETURN(int32_t most, f.Int32("max_tokens", 1, kIntMax, chat ? 0 : kCompletionTokens));
  ASSIGN_OR_RETURN(most, f.Int32("max_completion_tokens", 1, kIntMax, most));
  ASSIGN_OR_RETURN(const int32_t least, f.Int32("min_tokens", 0, kIntMax, 0));
  if (most > 0 && least > most) {
    return FieldError(f.Path("min_tokens"), "{} is more than max_tokens, {}", least, most);
  }
  s->set_max_tokens(most);
  s->set_min_tokens(least);
  return absl::OkStatus();
}

absl::Status ReadLogprobs(const JsonFields& f, bool chat, v1::SamplingParams* s) {
  s->set_logprobs(-1);
  if (!chat) {
    ASSIGN_OR_RETURN(const int32_t n, f.Int32("logprobs", 0, kMaxLogprobs, -1));
    s->set_logprobs(n);
    return absl::OkStatus();
  }
  bool wanted = false;
  RETURN_IF_ERROR(f.Bool("logprobs", &wanted));
  ASSIGN_OR_RETURN(const int32_t top, f.Int32("top_logprobs", 0, kMaxLogprobs, 0));
  if (!wanted && top > 0) return FieldError(f.Path("top_logprobs"), "only with logprobs: true");
  if (wanted) s->set_logprobs(top);
  return absl::OkStatus();
}

absl::Status ReadStop(const JsonFields& f, GenerateInput* input) {
  RETURN_IF_ERROR(f.Strings("stop", kMaxStops, &input->stop));
  for (const std::string& stop : input->stop) {
    if (stop.empty()) return FieldError(f.Path("stop"), "an empty string would stop at once");
  }
  RETURN_IF_ERROR(f.Bool("include_stop_str_in_output", &input->include_stop));
  RETURN_IF_ERROR(f.Bool("ignore_eos", &input->ignore_eos));
  return f.Bool("skip_special_tokens", &input->skip_special_tokens);
}

absl::Status ReadStream(const JsonFields& f, OpenAiRequest* out) {
  RETURN_IF_ERROR(f.Bool("stream", &out->stream));
  const json* options = f.Find("stream_options");
  if (options == nullptr) return absl::OkStatus();
  const std::string path = f.Path("stream_options");
  if (!options->is_object()) return FieldError(path, "expected an object, found {}", JsonKind(*options));
  const JsonFields inner(*options, path + ".");
  RETURN_IF_ERROR(inner.Bool("include_usage", &out->include_usage));
  RETURN_IF_ERROR(inner.Bool("continuous_usage_stats", &out->continuous_usage));
  if (!out->stream && (out->include_usage || out->continuous_usage)) {
    return FieldError(path, "only with stream: true");
  }
  return absl::OkStatus();
}

// What both kinds of request share.
absl::Status ReadCommon(const JsonFields& f, const OpenAiLimits& limits, OpenAiRequest* out,
                        GenerateInput* input) {
  for (const auto& [name, why] : kRefused) RETURN_IF_ERROR(f.Refuse(name, why));
  RETURN_IF_ERROR(f.String("model", &out->model));
  RETURN_IF_ERROR(f.Int("n", 1, limits.max_choices, &out->n));
  int64_t best_of = out->n;
  RETURN_IF_ERROR(f.Int("best_of", 1, kIntMax, &best_of));
  if (best_of != out->n) return FieldError(f.Path("best_of"), "only n, {}, is supported", out->n);
  RETURN_IF_ERROR(ReadStream(f, out));
  RETURN_IF_ERROR(ReadSampling(f, &input->sampling));
  RETURN_IF_ERROR(ReadTokenRules(f, limits, &input->sampling));
  RETURN_IF_ERROR(ReadLengths(f, out->chat, &input->sampling));
  RETURN_IF_ERROR(ReadLogprobs(f, out->chat, &input->sampling));
  RETURN_IF_ERROR(f.Int("prompt_logprobs", 0, kMaxLogprobs, &out->prompt_logprobs));
  if (out->prompt_logprobs >= 0 && out->stream) {
    return FieldError(f.Path("prompt_logprobs"), "not together with stream: true");
  }
  input->sampling.set_prompt_logprobs(static_cast<int32_t>(out->prompt_logprobs + 1));
  RETURN_IF_ERROR(ReadStop(f, input));
  RETURN_IF_ERROR(f.Int("truncate_prompt_tokens", 1, kIntMax, &input->truncate_prompt));
  int64_t priority = 0;
  RETURN_IF_ERROR(f.Int("priority", -kMaxPriority, kMaxPriority, &priority));
  input->priority = static_cast<int32_t>(priority);
  RETURN_IF_ERROR(f.Bool("explain_cache", &out->explain_cache));
  if (f.Find("seed") != nullptr) {
    int64_t seed = 0;
    RETURN_IF_ERROR(
        f.Int("seed", std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max(), &seed));
    input->seed = static_cast<uint64_t>(seed);
  }
  return absl::OkStatus();
}

absl::Status ReadChatPrompt(const JsonFields& f, const OpenAiLimits& limits, GenerateInput* input) {
  const json* messages = f.Find("messages");
  if (messages == nullptr) return FieldError("messages", "missing");
  ASSIGN_OR_RETURN(input->messages, ParseMessages(*messages, limits));
  RETURN_IF_ERROR(f.Bool("continue_final_message", &input->continue_final_message));
  input->add_generation_prompt = !input->continue_final_message;
  RETURN_IF_ERROR(f.Bool("add_generation_prompt", &input->add_generation_prompt));
  if (!input->continue_final_message) return absl::OkStatus();
  if (input->add_generation_prompt) {
    return FieldError(f.Path("continue_final_message"), "not together with add_generation_prompt");
  }
  if (input->messages.back().role != "assistant") {
    return FieldError(f.Path("continue_final_message"), "the last message is not the assistant's");
  }
  return absl::OkStatus();
}

// A string, a list of strings, a list of ids, or a list of lists of ids: one input each.
absl::Status ReadPrompts(const JsonFields& f, const OpenAiLimits& limits, const GenerateInput& common,
                         std::vector<GenerateInput>* out) {
  const json* prompt = f.Find("prompt");
  if (prompt == nullptr) return FieldError("prompt", "missing");
  const auto add = [&](const json& one, const std::string& path) -> absl::Status {
    GenerateInput input = common;
    if (one.is_string()) {
      input.text = one.get<std::string>();
    } else if (one.is_array() && !one.empty()) {
      const json holder = {{"ids", one}};
      std::vector<int32_t> ids;
      if (absl::Status s = JsonFields(holder).Ids("ids", limits.vocab, &ids); !s.ok()) {
        return FieldError(path, "expected token ids from 0 to {}", limits.vocab - 1);
      }
      input.ids = std::move(ids);
    } else {
      return FieldError(path, "expected a string or token ids, found {}",
                        one.is_array() ? "an empty list" : JsonKind(one));
    }
    out->push_back(std::move(input));
    return absl::OkStatus();
  };
  if (!prompt->is_array() || prompt->empty() || (*prompt)[0].is_number()) return add(*prompt, "prompt");
  if (prompt->size() > static_cast<size_t>(limits.max_choices)) {
    return FieldError("prompt", "expected at most {} prompts, found {}", limits.max_choices, prompt->size());
  }
  for (size_t i = 0; i < prompt->size(); ++i) {
    RETURN_IF_ERROR(add((*prompt)[i], fmt::format("prompt[{}]", i)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<OpenAiRequest> ParseChatRequest(std::string_view body, const OpenAiLimits& limits) {
  ASSIGN_OR_RETURN(const json object, ParseJsonObject(body));
  const JsonFields f(object);
  OpenAiRequest out;
  out.chat = true;
  GenerateInput input;
  RETURN_IF_ERROR(ReadCommon(f, limits, &out, &input));
  RETURN_IF_ERROR(f.Refuse("echo", "chat has no echo"));
  RETURN_IF_ERROR(ReadChatPrompt(f, limits, &input));
  RETURN_IF_ERROR(ReadAnswerForm(f, body, &out, &input));
  out.prompts.push_back(std::move(input));
  out.ignored = f.Unread();
  return out;
}

absl::StatusOr<OpenAiRequest> ParseCompletionRequest(std::string_view body, const OpenAiLimits& limits) {
  ASSIGN_OR_RETURN(const json object, ParseJsonObject(body));
  const JsonFields f(object);
  OpenAiRequest out;
  GenerateInput common;
  RETURN_IF_ERROR(ReadCommon(f, limits, &out, &common));
  RETURN_IF_ERROR(ReadResponseFormat(f, body, &common));
  RETURN_IF_ERROR(f.Bool("echo", &out.echo));
  if (out.echo && common.sampling.logprobs() >= 0) {
    common.sampling.set_prompt_logprobs(
        std::max(common.sampling.prompt_logprobs(), common.sampling.logprobs() + 1));
  }
  RETURN_IF_ERROR(ReadPrompts(f, limits, common, &out.prompts));
  if (static_cast<int64_t>(out.prompts.size()) * out.n > limits.max_choices) {
    return FieldError("n", "{} prompts times {} are more than {} answers", out.prompts.size(), out.n,
                      limits.max_choices);
  }
  out.ignored = f.Unread();
  return out;
}

absl::StatusOr<TokenizeRequest> ParseTokenizeRequest(std::string_view body, const OpenAiLimits& limits) {
  ASSIGN_OR_RETURN(const json object, ParseJsonObject(body));
  const JsonFields f(object);
  TokenizeRequest out;
  RETURN_IF_ERROR(f.String("model", &out.model));
  RETURN_IF_ERROR(f.Bool("return_token_strs", &out.return_token_strings));
  if (f.Find("messages") != nullptr) {
    RETURN_IF_ERROR(ReadChatPrompt(f, limits, &out.input));
    RETURN_IF_ERROR(ReadTools(f, body, &out.input));
    return out;
  }
  if (f.Find("prompt") == nullptr) return FieldError("prompt", "missing, and so is messages");
  std::string prompt;
  RETURN_IF_ERROR(f.String("prompt", &prompt));
  out.input.text = std::move(prompt);
  return out;
}

absl::StatusOr<DetokenizeRequest> ParseDetokenizeRequest(std::string_view body, const OpenAiLimits& limits) {
  ASSIGN_OR_RETURN(const json object, ParseJsonObject(body));
  const JsonFields f(object);
  DetokenizeRequest out;
  RETURN_IF_ERROR(f.String("model", &out.model));
  if (f.Find("tokens") == nullptr) return FieldError("tokens", "missing");
  RETURN_IF_ERROR(f.Ids("tokens", limits.vocab, &out.tokens));
  return out;
}

}  // namespace fulger
