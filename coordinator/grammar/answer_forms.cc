#include "coordinator/grammar/answer_forms.h"

#include "coordinator/frontend/field_error.h"
#include "coordinator/grammar/grammar.h"
#include "coordinator/grammar/json_grammar.h"

namespace fulger {
namespace {

constexpr std::string_view kCallOpen = "```typescript\nfunctions.", kCallClose = ")\n```";

class FormConstraint final : public TokenConstraint {
 public:
  FormConstraint(std::shared_ptr<const TokenTrie> trie, std::shared_ptr<GrammarMatcher> matcher,
                 GrammarMatcher::State state, std::function<std::string(int32_t)> bytes, std::string field)
      : trie_(std::move(trie)),
        matcher_(std::move(matcher)),
        state_(state),
        bytes_(std::move(bytes)),
        field_(std::move(field)) {}

  absl::StatusOr<std::shared_ptr<const TokenMask>> Advance(int32_t id) override {
    const auto next = matcher_->Advance(state_, bytes_(id));
    if (!next.ok()) return WithField(Annotate(next.status(), field_), field_);
    state_ = *next;
    auto mask = matcher_->MaskOf(state_);
    if (!mask.ok()) return WithField(Annotate(mask.status(), field_), field_);
    return mask;
  }

 private:
  const std::shared_ptr<const TokenTrie> trie_;  // the matcher's
  const std::shared_ptr<GrammarMatcher> matcher_;
  GrammarMatcher::State state_;
  const std::function<std::string(int32_t)> bytes_;
  const std::string field_;
};

std::string Key(const AnswerForm& form) {
  std::string key = fmt::format("{}{}{}{}:{}", static_cast<int>(form.kind), form.several ? 1 : 0,
                                form.text ? 1 : 0, form.schema.size(), form.schema);
  for (const AnswerForm::Tool& tool : form.tools) {
    key += fmt::format("{}:{}{}:{}", tool.name.size(), tool.name, tool.schema.size(), tool.schema);
  }
  return key;
}

const std::string& FieldOfForm(const AnswerForm& form) {
  return form.field.empty() && !form.tools.empty() ? form.tools[0].field : form.field;
}

}  // namespace

absl::StatusOr<Grammar> AnswerForms::Build(const AnswerForm& form) const {
  GrammarBuilder builder;
  JsonGrammar json(&builder);
  int32_t start = builder.end();
  switch (form.kind) {
    case AnswerForm::Kind::kJsonObject:
      start = json.AnyObject(builder.end());
      break;
    case AnswerForm::Kind::kJsonSchema: {
      ASSIGN_OR_RETURN(start, json.Schema(form.schema, form.field, builder.end()));
      break;
    }
    case AnswerForm::Kind::kToolCalls: {
      // start -> calls -> behind; behind: the end, another call, or text again.
      const int32_t behind = builder.Placeholder();
      std::vector<int32_t> calls;
      for (const AnswerForm::Tool& tool : form.tools) {
        const int32_t close = builder.Literal(kCallClose, behind);
        int32_t arguments = 0;
        if (tool.schema.empty()) {
          arguments = json.AnyObject(close);
        } else {
          ASSIGN_OR_RETURN(arguments, json.Schema(tool.schema, tool.field, close));
        }
        calls.push_back(builder.Literal(tool.name + "(", arguments));
      }
      int32_t call = builder.Literal(kCallOpen, builder.Split(std::move(calls)));
      if (vocabulary_.call_id) call = builder.Literal(std::string_view(&kCallMark, 1), call);
      builder.Fill(behind, builder.end());
      start = call;
      if (form.text) {
        start = builder.Placeholder();
        builder.Fill(start, builder.end());
        builder.Fill(start, call);
        builder.Fill(start, Utf8Character(&builder, BytesBetween(0, 0x7f), start));
      }
      if (form.several) builder.Fill(behind, start);
      if (!form.schema.empty()) {  // a value, or calls
        ASSIGN_OR_RETURN(const int32_t value, json.Schema(form.schema, form.field, builder.end()));
        start = builder.Split({value, call});
      }
      break;
    }
  }
  absl::StatusOr<Grammar> grammar = std::move(builder).Finish(start);
  if (!grammar.ok()) return FieldError(FieldOfForm(form), "{}", Message(grammar.status()));
  return grammar;
}

absl::StatusOr<std::shared_ptr<GrammarMatcher>> AnswerForms::Matcher(const AnswerForm& form) {
  const std::string key = Key(form);
  {
    std::lock_guard lock(mu_);
    for (auto at = recent_.begin(); at != recent_.end(); ++at) {
      if (at->first != key) continue;
      if (at->second->full()) {
        recent_.erase(at);
        break;
      }
      recent_.splice(recent_.begin(), recent_, at);
      return at->second;
    }
  }
  std::call_once(trie_made_, [this] {
    std::vector<std::string_view> tokens;
    for (int32_t id = 0; id < vocabulary_.size; ++id) {
      const std::string_view bytes = vocabulary_.bytes(id);
      // The mark is no byte of text: a token that has it is none of any answer.
      const bool text = bytes.find(kCallMark) == std::string_view::npos;
      tokens.push_back(id == vocabulary_.call_id ? std::string_view(&kCallMark, 1) : text ? bytes : "");
    }
    trie_ = std::make_shared<TokenTrie>(tokens);
  });
  ASSIGN_OR_RETURN(Grammar grammar, Build(form));
  auto matcher = std::make_shared<GrammarMatcher>(std::move(grammar), trie_.get(), vocabulary_.end_ids);
  std::lock_guard lock(mu_);
  recent_.emplace_front(key, matcher);
  if (recent_.size() > kKept) recent_.pop_back();
  return matcher;
}

absl::StatusOr<AnswerForms::Begin> AnswerForms::Start(const AnswerForm& form) {
  ASSIGN_OR_RETURN(std::shared_ptr<GrammarMatcher> matcher, Matcher(form));
  const std::string& field = FieldOfForm(form);
  const auto state = matcher->Start();
  if (!state.ok()) return FieldError(field, "{}", Message(state.status()));
  auto mask = matcher->MaskOf(*state);
  if (!mask.ok()) return FieldError(field, "{}", Message(mask.status()));
  const auto bytes = [call = vocabulary_.call_id, bytes = vocabulary_.bytes](int32_t id) {
    return id == call ? std::string(1, kCallMark) : std::string(bytes(id));
  };
  return Begin{
      .constraint = std::make_shared<FormConstraint>(trie_, std::move(matcher), *state, bytes, field),
      .first_mask = *std::move(mask)};
}

}  // namespace fulger
