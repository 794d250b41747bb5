#include "coordinator/frontend/frontend.h"

#include <algorithm>
#include <filesystem>
#include <limits>
#include <random>
#include <set>
#include <utility>

#include "base/log.h"
#include "coordinator/frontend/field_error.h"
#include "coordinator/frontend/image_preparer.h"
#include "coordinator/frontend/prompt_encoder.h"
#include "coordinator/frontend/request_identity.h"
#include "coordinator/frontend/text_sink.h"
#include "coordinator/grammar/answer_forms.h"
#include "coordinator/saved/saved_requests.h"
#include "coordinator/text/chat_template.h"
#include "coordinator/text/stop_strings.h"
#include "coordinator/text/tokenizer.h"
#include "model/config.h"
#include "model/picture/processor_config.h"
#include "monitoring/metrics/server_metrics.h"

namespace fulger {
namespace {

constexpr int32_t kMaxLogprobs = 20;

// Lives as long as the program: what a request holds may outlive its frontend.
const Clock* TheSteadyClock() {
  static const SteadyClock clock;
  return &clock;
}

uint64_t DrawSeed() {
  thread_local std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

std::string FolderName(const std::string& dir) {
  std::filesystem::path path(dir);
  if (!path.has_filename()) path = path.parent_path();  // "models/tiny/"
  return path.filename().string();
}

absl::StatusOr<ChatForm> PickForm(const FrontendOptions& options, const ModelConfig& config) {
  ChatForm form = ChatForm::kVl01;
  if (options.chat_template == "auto") {
    ASSIGN_OR_RETURN(form, ChatFormOfModelType(config.model_type));
  } else {
    ASSIGN_OR_RETURN(form, ParseChatForm(options.chat_template));
  }
  const absl::StatusOr<std::string> hash = TemplateHash(options.model_dir);
  if (!hash.ok()) {
    LogInfo("chat template: {} ({})", ChatFormName(form), Message(hash.status()));
  } else if (ChatFormOfTemplate(*hash) == form) {
    LogInfo("chat template: {}, as the checkpoint's own ({})", ChatFormName(form), *hash);
  } else if (ChatFormOfTemplate(*hash)) {
    LogWarn("chat template: {}, although the checkpoint's own ({}) is {}", ChatFormName(form), *hash,
            ChatFormName(*ChatFormOfTemplate(*hash)));
  } else {
    LogWarn("chat template: {}; the checkpoint's own ({}) was never compared with it", ChatFormName(form),
            *hash);
  }
  return form;
}

// What ends an answer by itself: the ids of config.json and of the tokenizer.
absl::StatusOr<std::vector<int32_t>> EndIds(const ModelConfig& config, const Tokenizer& tokenizer) {
  std::set<int32_t> ids;
  if (config.text.eos_token_id) ids.insert(*config.text.eos_token_id);
  if (const auto eos = tokenizer.eos_id(); eos.ok()) ids.insert(*eos);
  if (const auto end = tokenizer.ControlId("<end_of_sentence>"); ids.empty() && end.ok()) ids.insert(*end);
  if (ids.empty()) {
    return InvalidArgument(
        "no end-of-sequence token: neither config.json (eos_token_id) nor tokenizer_config.json (eos_token) "
        "names "
        "one, and the tokenizer has no <end_of_sentence>");
  }
  return std::vector<int32_t>(ids.begin(), ids.end());
}

// Edges that read text cannot send these, but floats on the wire can be anything.
absl::Status CheckRanges(const v1::SamplingParams& s) {
  const struct {
    const char* field;
    float value, low, high;
  } ranges[] = {
      {"temperature", s.temperature(), 0, 100},
      {"top_p", s.top_p(), 0, 1},
      {"min_p", s.min_p(), 0, 1},
      {"repetition_penalty", s.repetition_penalty(), 0, 100},
      {"presence_penalty", s.presence_penalty(), -2, 2},
      {"frequency_penalty", s.frequency_penalty(), -2, 2},
  };
  for (const auto& r : ranges) {
    if (!(r.value >= r.low && r.value <= r.high)) {
      return FieldError(r.field, "expected a number from {} to {}, found {}", r.low, r.high, r.value);
    }
  }
  for (const auto& [id, bias] : s.logit_bias()) {
    if (!(bias >= -100 && bias <= 100)) {
      return FieldError("logit_bias", "token {}: expected a number from -100 to 100, found {}", id, bias);
    }
  }
  if (s.top_k() < 0) return FieldError("top_k", "expected 0 or more, found {}", s.top_k());
  if (s.min_tokens() < 0) return FieldError("min_tokens", "expected 0 or more, found {}", s.min_tokens());
  if (s.max_tokens() < 0) return FieldError("max_tokens", "expected 0 or more, found {}", s.max_tokens());
  if (s.logprobs() < -1 || s.logprobs() > kMaxLogprobs) {
    return FieldError("logprobs", "expected -1 to {}, found {}", kMaxLogprobs, s.logprobs());
  }
  if (s.prompt_logprobs() < 0 || s.prompt_logprobs() > kMaxLogprobs + 1) {
    return FieldError("prompt_logprobs", "expected 0 to {}, found {}", kMaxLogprobs + 1, s.prompt_logprobs());
  }
  return absl::OkStatus();
}

struct Parts {
  ModelCard card;
  Tokenizer tokenizer;
  std::unique_ptr<ImagePreparer> images;  // null without vision
  PromptEncoder::Options encoding;
  std::vector<int32_t> end_ids;
};

// Special tokens are never text; one of them stands in front of a call of a tool.
AnswerVocabulary VocabularyOf(const Parts& parts) {
  AnswerVocabulary vocabulary{.size = parts.card.vocab, .bytes = {}, .end_ids = parts.end_ids, .call_id = {}};
  vocabulary.bytes = [tokenizer = &parts.tokenizer](int32_t id) {
    return tokenizer->IsSpecial(id) ? std::string_view() : tokenizer->IdToBytes(id);
  };
  if (const auto call = parts.tokenizer.ControlId("<function_call>"); call.ok()) vocabulary.call_id = *call;
  return vocabulary;
}

class TextFrontend final : public Frontend {
 public:
  TextFrontend(const FrontendOptions& options, Engine* engine, Parts parts)
      : parts_(std::move(parts)),
        forms_(VocabularyOf(parts_)),
        encoder_(&parts_.tokenizer, parts_.images.get(), parts_.encoding),
        engine_(engine),
        saved_(options.saved),
        metrics_(options.metrics),
        clock_(options.clock != nullptr ? options.clock : TheSteadyClock()),
        admission_(Admission::Create(options.admission, clock_)),
        deadlines_([engine](const std::string& id) { engine->Cancel(id); }) {}

  absl::Status Generate(GenerateInput input, TextHandlers handlers) override;
  bool Cancel(const std::string& id) override { return engine_->Cancel(id); }
  absl::StatusOr<std::vector<int32_t>> Tokenize(const GenerateInput& input) const override {
    ASSIGN_OR_RETURN(EncodedPrompt prompt, encoder_.Encode(input));
    return std::move(prompt.ids);
  }
  absl::StatusOr<std::string> Detokenize(const std::vector<int32_t>& ids) const override {
    return parts_.tokenizer.Decode(ids, /*skip_special_tokens=*/false);
  }
  std::string TokenText(int32_t id) const override { return std::string(parts_.tokenizer.IdToBytes(id)); }
  const ModelCard& card() const override { return parts_.card; }
  EngineStats Stats() const override { return engine_->Stats(); }

 private:
  absl::Status FitIntoContext(const EncodedPrompt& prompt, v1::SamplingParams* sampling) const;
  absl::Status CompleteSampling(const GenerateInput& input, const EncodedPrompt& prompt,
                                v1::SamplingParams* sampling) const;
  absl::StatusOr<std::vector<ImageSpan>> PreparePictures(const EncodedPrompt& prompt);

  absl::Status Constrain(const AnswerForm& form, EngineRequest* request);
  void GoOnWhereItWas(const GenerateInput& input, EngineRequest* request);

  const Parts parts_;
  AnswerForms forms_;
  const PromptEncoder encoder_;
  Engine* const engine_;
  SavedRequests* const saved_;
  ServerMetrics* const metrics_;
  const Clock* const clock_;
  const std::shared_ptr<Admission> admission_;
  DeadlineWatch deadlines_;
};

// The wording is what clients of OpenAI's API look for.
absl::Status TextFrontend::FitIntoContext(const EncodedPrompt& prompt, v1::SamplingParams* sampling) const {
  const int64_t context = parts_.card.max_context;
  const auto length = static_cast<int64_t>(prompt.ids.size());
  if (length >= context) {
    return WithField(OutOfRange("{}: This model's maximum context length is {} tokens, but the prompt has {} "
                                "tokens ({} of them for pictures)",
                                prompt.field, context, length, prompt.image_tokens),
                     prompt.field);
  }
  const int64_t left = context - length;
  if (sampling->max_tokens() == 0) {
    sampling->set_max_tokens(
        static_cast<int32_t>(std::min<int64_t>(left, std::numeric_limits<int32_t>::max())));
  } else if (sampling->max_tokens() > left) {
    return WithField(
        OutOfRange("max_tokens: This model's maximum context length is {} tokens, but the prompt has {} "
                   "tokens and {} more are asked for",
                   context, length, sampling->max_tokens()),
        "max_tokens");
  }
  return absl::OkStatus();
}

absl::Status TextFrontend::CompleteSampling(const GenerateInput& input, const EncodedPrompt& prompt,
                                            v1::SamplingParams* sampling) const {
  RETURN_IF_ERROR(CheckRanges(*sampling));
  const int64_t vocab = parts_.card.vocab;
  for (const auto* ids : {&sampling->stop_ids(), &sampling->allowed_ids()}) {
    for (const int32_t id : *ids) {
      if (id >= 0 && id < vocab) continue;
      return FieldError(ids == &sampling->stop_ids() ? "stop_token_ids" : "allowed_token_ids",
                        "token ids are from 0 to {}, found {}", vocab - 1, id);
    }
  }
  for (const auto& [id, bias] : sampling->logit_bias()) {
    if (id < 0 || id >= vocab) {
      return FieldError("logit_bias", "token ids are from 0 to {}, found {}", vocab - 1, id);
    }
  }
  // Absent on the wire means off.
  if (sampling->top_p() == 0) sampling->set_top_p(1);
  if (sampling->repetition_penalty() == 0) sampling->set_repetition_penalty(1);
  RETURN_IF_ERROR(FitIntoContext(prompt, sampling));
  if (sampling->min_tokens() > sampling->max_tokens()) {
    return FieldError("min_tokens", "{} is more than max_tokens, {}", sampling->min_tokens(),
                      sampling->max_tokens());
  }
  if (!input.ignore_eos) {
    sampling->mutable_stop_ids()->Add(parts_.end_ids.begin(), parts_.end_ids.end());
  }
  sampling->set_seed(input.seed ? *input.seed : DrawSeed());
  return absl::OkStatus();
}

absl::StatusOr<std::vector<ImageSpan>> TextFrontend::PreparePictures(const EncodedPrompt& prompt) {
  std::vector<ImageSpan> spans;
  for (const PlaceholderRun& run : prompt.runs) {
    auto image = parts_.images->Prepare(prompt.images[static_cast<size_t>(run.index)]);
    if (!image.ok()) {
      return WithField(Annotate(image.status(), fmt::format("picture {}", run.index)), prompt.field);
    }
    spans.push_back({.position = run.first, .image = *std::move(image)});
  }
  return spans;
}

// The grammar decides when the answer may end, and that is where the model's own end is allowed.
absl::Status TextFrontend::Constrain(const AnswerForm& form, EngineRequest* request) {
  const v1::SamplingParams& sampling = request->sampling;
  if (sampling.min_tokens() > 0) return FieldError("min_tokens", "not together with {}", form.field);
  if (!sampling.allowed_ids().empty())
    return FieldError("allowed_token_ids", "not together with {}", form.field);
  ASSIGN_OR_RETURN(AnswerForms::Begin begin, forms_.Start(form));
  request->constraint = std::move(begin.constraint);
  request->first_mask = std::move(begin.first_mask);
  return absl::OkStatus();
}

// The same request as one that an earlier server had begun takes over its tokens, and its seed if none is
// asked for.
void TextFrontend::GoOnWhereItWas(const GenerateInput& input, EngineRequest* request) {
  if (saved_ == nullptr || request->sampling.prompt_logprobs() > 0) return;
  request->identity = RequestIdentity(input, request->prompt, request->images);
  request->saved = saved_->Take(request->identity);
  if (request->saved == nullptr) return;
  request->sampling.set_seed(request->saved->seed());
  LogInfo("request {}: goes on behind {} saved tokens{}",
          request->request.empty() ? request->id : request->request, request->saved->tokens_size(),
          request->saved->has_state() ? "" : ", computed again");
}

absl::Status TextFrontend::Generate(GenerateInput input, TextHandlers handlers) {
  if (input.arrival == TimePoint{}) input.arrival = clock_->Now();
  const bool timed = input.deadline != TimePoint{};
  if (timed && clock_->Now() >= input.deadline) {
    return MakeStatus(absl::StatusCode::kDeadlineExceeded, "the request's time was up before it began");
  }
  ASSIGN_OR_RETURN(EncodedPrompt prompt, encoder_.Encode(input));
  auto stops = StopStringMatcher::Create(input.stop, input.include_stop);
  if (!stops.ok()) return FieldError("stop", "{}", Message(stops.status()));

  EngineRequest request;
  request.id = input.id;
  request.request = input.request;
  request.arrival = input.arrival;
  request.sampling = input.sampling;
  request.priority = input.priority;
  request.use_anchors = input.use_prefix_cache;
  request.copies = input.copies;
  request.borders = std::move(prompt.borders);
  const std::vector<int32_t> own_stop_ids(input.sampling.stop_ids().begin(), input.sampling.stop_ids().end());
  RETURN_IF_ERROR(CompleteSampling(input, prompt, &request.sampling));
  TextSinkHolds holds;
  ASSIGN_OR_RETURN(holds.ticket, admission_->Enter(input.client, std::ssize(prompt.ids)));
  if (input.form) {
    if (input.ignore_eos) return FieldError("ignore_eos", "not together with {}", input.form->field);
    RETURN_IF_ERROR(Constrain(*input.form, &request));
  }
  const TimePoint before_pictures = clock_->Now();
  ASSIGN_OR_RETURN(request.images, PreparePictures(prompt));
  const double picture_seconds = prompt.runs.empty() ? 0 : Seconds(clock_->Now() - before_pictures);
  const auto length = static_cast<int64_t>(prompt.ids.size());
  const int64_t max_tokens = request.sampling.max_tokens();
  const bool scored = request.sampling.prompt_logprobs() > 0;
  const auto head = scored ? std::optional(prompt.ids.front()) : std::nullopt;
  request.prompt = std::move(prompt.ids);
  GoOnWhereItWas(input, &request);

  if (handlers.on_prompt) handlers.on_prompt({.prompt_tokens = length, .image_tokens = prompt.image_tokens});
  if (timed) holds.deadline = deadlines_.Watch(input.deadline, input.id);
  auto sink = std::make_shared<TextSink>(&parts_.tokenizer, *std::move(stops),
                                         TextSinkOptions{.skip_special_tokens = input.skip_special_tokens,
                                                         .max_tokens = max_tokens,
                                                         .prompt_head = head,
                                                         .own_stop_ids = own_stop_ids,
                                                         .arrival = input.arrival,
                                                         .picture_seconds = picture_seconds,
                                                         .clock = clock_,
                                                         .metrics = metrics_},
                                         std::move(handlers), std::move(holds));
  SavedRequests::Handle saved = request.saved;
  if (absl::Status status = engine_->Submit(std::move(request), std::move(sink)); !status.ok()) {
    if (saved != nullptr) saved_->PutBack(std::move(saved));
    return status;
  }
  saved.reset();
  if (metrics_ != nullptr) {
    metrics_->prompt_tokens.Add(static_cast<double>(length));
    metrics_->request_prompt_tokens.Observe(static_cast<double>(length));
    metrics_->request_max_tokens.Observe(static_cast<double>(max_tokens));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Frontend>> MakeFrontend(const FrontendOptions& options, Engine* engine) {
  ASSIGN_OR_RETURN(const ModelConfig config, LoadModelConfig(options.model_dir));
  ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::Load(options.model_dir));
  if (tokenizer.vocab_size() > config.text.vocab) {
    return InvalidArgument("{}: the tokenizer has ids up to {}, the model's vocabulary ends at {}",
                           options.model_dir, tokenizer.vocab_size() - 1, config.text.vocab - 1);
  }
  ASSIGN_OR_RETURN(const ChatForm form, PickForm(options, config));
  ASSIGN_OR_RETURN(std::vector<int32_t> end_ids, EndIds(config, tokenizer));
  ModelCard card{.id = options.model_name.empty() ? FolderName(options.model_dir) : options.model_name,
                 .model_type = config.model_type,
                 .vision = config.vision.has_value(),
                 .max_context = options.max_context,
                 .vocab = config.text.vocab};
  std::unique_ptr<ImagePreparer> images;
  if (config.vision) {
    ASSIGN_OR_RETURN(const int32_t image_token, tokenizer.image_token_id());
    if (image_token != config.image_token_id) {
      return InvalidArgument("{}: config.json says that pictures are token {}, the tokenizer says {}",
                             options.model_dir, config.image_token_id, image_token);
    }
    ASSIGN_OR_RETURN(ImageProcessorConfig processor, LoadImageProcessorConfig(options.model_dir));
    RETURN_IF_ERROR(CheckMatchesVisionTower(processor, static_cast<int>(config.vision->image_size),
                                            static_cast<int>(config.vision->patch_size)));
    LogInfo("pictures: tiles of {} pixels, {} canvases, from {}", processor.tile_size,
            processor.pinpoints.size(), processor.source);
    images = std::make_unique<ImagePreparer>(
        std::move(processor),
        ImageLimits{.max_bytes = static_cast<uint64_t>(options.max_image_bytes),
                    .max_pixels = static_cast<uint64_t>(options.max_image_pixels)},
        options.image_cache_bytes);
  }
  const PromptEncoder::Options encoding{.form = form,
                                        .vision = card.vision,
                                        .image_token = config.image_token_id,
                                        .vocab = config.text.vocab,
                                        .max_images = options.max_images};
  return std::make_unique<TextFrontend>(options, engine,
                                        Parts{.card = std::move(card),
                                              .tokenizer = std::move(tokenizer),
                                              .images = std::move(images),
                                              .encoding = encoding,
                                              .end_ids = std::move(end_ids)});
}

}  // namespace fulger
