#include "coordinator/api/openai_generation.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace fulger {

OpenAiGeneration::OpenAiGeneration(OpenAiRequest request, AnswerWriter writer, HttpHeaders headers,
                                   Frontend* frontend, std::shared_ptr<HttpResponder> responder,
                                   RequestLogLine line)
    : writer_(std::move(writer)),
      headers_(std::move(headers)),
      frontend_(frontend),
      responder_(std::move(responder)),
      line_(std::move(line)),
      request_(std::move(request)),
      prompts_(request_.prompts.size()) {
  for (size_t p = 0; p < request_.prompts.size(); ++p) {
    for (int64_t j = 0; j < request_.n; ++j) {
      Choice& choice = choices_.emplace_back();
      choice.id = fmt::format("{}-{}", writer_.id(), choices_.size() - 1);
      choice.prompt = p;
      if (!request_.prompts[p].tools.empty()) choice.tools.emplace();
      if (const int32_t top = request_.prompts[p].sampling.logprobs(); top >= 0) {
        choice.logprobs.emplace(frontend_, request_.chat);
        choice.top = static_cast<size_t>(top);
      }
      if (request_.prompt_logprobs >= 0) {
        choice.prompt_logprobs.emplace(frontend_, request_.prompt_logprobs);
      }
      leaving_->ids.push_back(choice.id);
    }
  }
}

absl::Status OpenAiGeneration::Start(TimePoint arrival) {
  arrival_ = arrival;
  responder_->OnGone([leaving = leaving_, frontend = frontend_] {
    leaving->gone = true;
    for (const std::string& id : leaving->ids) frontend->Cancel(id);
  });
  for (size_t p = 0; p < request_.prompts.size(); ++p) {
    GenerateInput& prompt = request_.prompts[p];
    prompt.arrival = arrival;
    prompt.copies = request_.n - 1;
    if (request_.echo) {
      std::string echoed;
      if (prompt.text) {
        echoed = *prompt.text;
      } else if (auto text = frontend_->Detokenize(*prompt.ids); text.ok()) {
        echoed = *std::move(text);
      } else {
        Fail(text.status());
        return text.status();
      }
      std::lock_guard lock(mu_);
      for (Choice& choice : choices_) {
        if (choice.prompt == p) choice.text = echoed;
      }
    }
    std::vector<GenerateInput> inputs(static_cast<size_t>(request_.n - 1), prompt);
    inputs.push_back(std::move(prompt));
    for (int64_t j = 0; j < request_.n; ++j) {
      if (leaving_->gone) {
        Fail(Cancelled("the client left"));
        return absl::OkStatus();
      }
      const size_t index = p * static_cast<size_t>(request_.n) + static_cast<size_t>(j);
      GenerateInput& input = inputs[static_cast<size_t>(j)];
      input.id = leaving_->ids[index];
      input.sampling.set_choice(static_cast<uint32_t>(j));
      if (absl::Status status = frontend_->Generate(std::move(input), Handlers(index)); !status.ok()) {
        Fail(status);
        return status;
      }
    }
  }
  if (request_.stream) {
    std::lock_guard lock(mu_);
    if (!finished_) EnsureBegun();
  }
  if (leaving_->gone) CancelAll();  // left between a check above and the submission after it
  return absl::OkStatus();
}

TextHandlers OpenAiGeneration::Handlers(size_t choice) {
  auto self = shared_from_this();
  return {.on_prompt =
              [self, choice](const PromptInfo& info) {
                std::lock_guard lock(self->mu_);
                self->prompts_[self->choices_[choice].prompt] = info;
              },
          .on_delta = [self, choice](TextDelta&& delta) { return self->OnDelta(choice, std::move(delta)); },
          .on_prompt_tokens =
              [self, choice](std::vector<PromptToken>&& tokens) { self->OnPromptTokens(choice, tokens); },
          .on_done = [self, choice](const TextResult& result) { self->OnDone(choice, result); }};
}

void OpenAiGeneration::OnPromptTokens(size_t index, const std::vector<PromptToken>& tokens) {
  std::lock_guard lock(mu_);
  Choice& choice = choices_[index];
  for (const PromptToken& token : tokens) {
    if (choice.prompt_logprobs) choice.prompt_logprobs->Add(token);
    if (request_.echo && choice.logprobs) choice.logprobs->AddPrompt(token, choice.top);
  }
}

bool OpenAiGeneration::OnDelta(size_t index, TextDelta&& delta) {
  std::lock_guard lock(mu_);
  if (finished_) return true;  // by another choice's error; this one is being cancelled
  Choice& choice = choices_[index];
  if (choice.enough) return false;
  if (delta.id >= 0) {
    ++choice.tokens;
    if (choice.logprobs) choice.logprobs->Add(delta);
  }
  if (choice.tools) {
    Add(&choice, choice.tools->Push(delta.text));
  } else {
    choice.text += delta.text;
  }
  // The last token travels with the reason of the end, so that every chunk is one token.
  if (request_.stream && delta.id >= 0 && !delta.last) StreamPart(index, delta.saved);
  return !choice.enough;
}

void OpenAiGeneration::OnDone(size_t index, const TextResult& result) {
  {
    std::lock_guard lock(mu_);
    choices_[index].times = result.times;
    choices_[index].picture_seconds = result.picture_seconds;
  }
  if (result.finish_reason == "error" || result.finish_reason == "cancelled") {
    Fail(result.error.ok() ? Cancelled("the request was cancelled") : result.error);
    return;
  }
  std::lock_guard lock(mu_);
  if (finished_) return;
  Choice& choice = choices_[index];
  if (choice.tools && !choice.enough) Add(&choice, choice.tools->Flush());
  choice.result = result;
  choice.tokens = choice.result->completion_tokens;
  ++done_;
  if (request_.stream) StreamPart(index);
  if (done_ == choices_.size()) Complete();
}

void OpenAiGeneration::Fail(const absl::Status& status) {
  {
    std::lock_guard lock(mu_);
    if (finished_) return;
    finished_ = true;
    RequestLogLine line = LineNow();
    const HttpResponse answer = ErrorOf(status);
    if (leaving_->gone) {
      line.status = "499";
      line.finish = "abort";
    } else {
      if (!begun_) line.status = std::to_string(answer.status);
      line.finish = "error";
    }
    line.error = leaving_->gone ? "the client left" : Message(status);
    LogRequest(line);
    if (begun_) {
      responder_->Write(ErrorEvent(status));
      responder_->Write("data: [DONE]\n\n");
      responder_->End();
    } else {
      HttpResponse response = answer;
      response.headers.insert(response.headers.end(), headers_.begin(), headers_.end());
      responder_->Send(std::move(response));
    }
  }
  CancelAll();
}

void OpenAiGeneration::CancelAll() {
  for (const std::string& id : leaving_->ids) frontend_->Cancel(id);
}

void OpenAiGeneration::EnsureBegun() {
  if (begun_) return;
  begun_ = true;
  HttpHeaders headers = headers_;
  headers.emplace_back("Cache-Control", "no-cache");
  headers.emplace_back("X-Accel-Buffering", "no");  // reverse proxies must not collect the tokens
  responder_->Begin(200, "text/event-stream", headers);
}

void OpenAiGeneration::Add(Choice* choice, ToolCallParser::Output output) {
  choice->text += output.text;
  for (ToolCallDelta& call : output.calls) {
    if (request_.one_call && call.index > 0) break;
    choice->called = true;
    if (!choice->calls.empty() && choice->calls.back().index == call.index) {
      choice->calls.back().arguments += call.arguments;
    } else {
      choice->calls.push_back(std::move(call));
    }
  }
  // What would follow is not wanted: the sequence need not write it.
  if (request_.one_call && choice->tools->complete() > 0) choice->enough = true;
}

AnswerPart OpenAiGeneration::Part(size_t index) {
  Choice& choice = choices_[index];
  AnswerPart part;
  part.index = static_cast<int64_t>(index);
  part.role = !choice.begun;
  part.text = std::exchange(choice.text, {});
  part.calls = std::exchange(choice.calls, {});
  if (choice.logprobs) part.logprobs = choice.logprobs->Take();
  if (choice.prompt_logprobs && choice.result) part.prompt_logprobs = choice.prompt_logprobs->Take();
  if (choice.result) part.end = &*choice.result;
  part.called = choice.called;
  choice.begun = true;
  return part;
}

void OpenAiGeneration::StreamPart(size_t index, bool at_once) {
  EnsureBegun();
  const std::string chunk =
      writer_.Chunk(Part(index), request_.continuous_usage ? UsageJson(UsageNow()) : "");
  if (at_once) responder_->AllowBehind(chunk.size());
  responder_->Write(chunk);
}

RequestLogLine OpenAiGeneration::LineNow() const {
  RequestLogLine line = line_;
  const Usage usage = UsageNow();
  line.answer = writer_.id();
  line.stream = request_.stream;
  line.choices = std::ssize(choices_);
  line.prompt_tokens = usage.prompt_tokens;
  line.cached_tokens = usage.cached_tokens;
  line.image_tokens = usage.image_tokens;
  line.completion_tokens = usage.completion_tokens;
  for (const Choice& choice : choices_) {
    line.picture = std::max(line.picture, choice.picture_seconds);
    line.queue = std::max(line.queue, choice.times.queue);
    line.prefill = std::max(line.prefill, choice.times.prefill);
    line.decode = std::max(line.decode, choice.times.decode);
    if (!choice.result) continue;
    if (!line.finish.empty()) line.finish += ",";
    line.finish += choice.called ? "tool_calls" : choice.result->finish_reason;
  }
  line.total = Seconds(std::chrono::steady_clock::now() - arrival_);
  return line;
}

void OpenAiGeneration::Complete() {
  finished_ = true;
  LogRequest(LineNow());
  if (request_.stream) {
    if (request_.include_usage) responder_->Write(writer_.UsageChunk(UsageJson(UsageNow())));
    responder_->Write("data: [DONE]\n\n");
    responder_->End();
    return;
  }
  std::vector<AnswerPart> parts;
  parts.reserve(choices_.size());
  for (size_t i = 0; i < choices_.size(); ++i) parts.push_back(Part(i));
  HttpResponse response;
  response.body = writer_.Whole(parts, UsageJson(UsageNow()));
  response.headers = headers_;
  responder_->Send(std::move(response));
}

// Prompts count once, however many answers they get.
Usage OpenAiGeneration::UsageNow() const {
  Usage usage;
  for (const PromptInfo& info : prompts_) {
    usage.prompt_tokens += info.prompt_tokens;
    usage.image_tokens += info.image_tokens;
  }
  for (size_t i = 0; i < choices_.size(); ++i) {
    usage.completion_tokens += choices_[i].tokens;
    const bool first = i % static_cast<size_t>(request_.n) == 0;
    if (!first || !choices_[i].result) continue;
    const TextResult& result = *choices_[i].result;
    usage.cached_tokens += result.cached_tokens;
    if (!request_.explain_cache) continue;
    if (!usage.cache.empty()) usage.cache += "; next prompt: ";
    usage.cache += Describe(result.cache, result.prompt_tokens);
  }
  return usage;
}

}  // namespace fulger
