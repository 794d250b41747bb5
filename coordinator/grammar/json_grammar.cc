#include "coordinator/grammar/json_grammar.h"

namespace fulger {
namespace {

constexpr int kMostIndent = 40;

ByteSet Among(std::string_view characters) {
  ByteSet set;
  for (const char c : characters) set.set(static_cast<unsigned char>(c));
  return set;
}

ByteSet Between(int first, int last) { return BytesBetween(first, last); }

}  // namespace

// Well-formed UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
int32_t Utf8Character(GrammarBuilder* b, const ByteSet& ascii, int32_t next) {
  const ByteSet more = Between(0x80, 0xbf);
  const int32_t last = b->Byte(more, next), last_two = b->Byte(more, last),
                last_three = b->Byte(more, last_two);
  ByteSet two_more = Between(0xe1, 0xec) | Between(0xee, 0xef);
  return b->Split({b->Byte(ascii, next), b->Byte(Between(0xc2, 0xdf), last),
                   b->Byte(Between(0xe0, 0xe0), b->Byte(Between(0xa0, 0xbf), last)),
                   b->Byte(two_more, last_two),
                   b->Byte(Between(0xed, 0xed), b->Byte(Between(0x80, 0x9f), last)),
                   b->Byte(Between(0xf0, 0xf0), b->Byte(Between(0x90, 0xbf), last_two)),
                   b->Byte(Between(0xf1, 0xf3), last_three),
                   b->Byte(Between(0xf4, 0xf4), b->Byte(Between(0x80, 0x8f), last_two))});
}

int32_t JsonGrammar::Character(int32_t next) {
  GrammarBuilder& b = *builder_;
  const ByteSet hex = Among("0123456789abcdefABCDEF");
  const int32_t two = b.Byte(hex, b.Byte(hex, next)), three = b.Byte(hex, two);
  const int32_t unicode = b.Literal("u", b.Split({b.Byte(Among("0123456789abcefABCEF"), three),
                                                  b.Byte(Among("dD"), b.Byte(Among("01234567"), two))}));
  const int32_t escape = b.Literal("\\", b.Split({b.Byte(Among("\"\\/bfnrt"), next), unicode}));
  ByteSet plain = Between(0x20, 0x7f);
  plain.reset('"');
  plain.reset('\\');
  return b.Split({Utf8Character(&b, plain, next), escape});
}

int32_t JsonGrammar::Digits(int32_t next) {
  const int32_t loop = builder_->Placeholder();
  builder_->Fill(loop, next);
  const int32_t digit = builder_->Byte(Between('0', '9'), loop);
  builder_->Fill(loop, digit);
  return digit;
}

int32_t JsonGrammar::SpaceRule() {
  if (const auto known = rules_.find("space"); known != rules_.end()) return known->second;
  GrammarBuilder& b = *builder_;
  int32_t indent = b.end();
  for (int i = 0; i < kMostIndent; ++i) indent = b.Split({b.end(), b.Literal(" ", indent)});
  return rules_["space"] = b.Split({b.end(), b.Literal(" ", b.end()), b.Literal("\n", indent)});
}
int32_t JsonGrammar::Space(int32_t next) { return builder_->Call(SpaceRule(), next); }

int32_t JsonGrammar::StringRule() {
  if (const auto known = rules_.find("string"); known != rules_.end()) return known->second;
  GrammarBuilder& b = *builder_;
  const int32_t loop = b.Placeholder();
  b.Fill(loop, b.Literal("\"", b.end()));
  b.Fill(loop, Character(loop));
  return rules_["string"] = b.Literal("\"", loop);
}
int32_t JsonGrammar::String(int32_t next) { return builder_->Call(StringRule(), next); }

int32_t JsonGrammar::CharacterRule() {
  if (const auto known = rules_.find("character"); known != rules_.end()) return known->second;
  return rules_["character"] = Character(builder_->end());
}

int32_t JsonGrammar::StringOfLength(int64_t least, int64_t most, int32_t next) {
  GrammarBuilder& b = *builder_;
  const int32_t close = b.Literal("\"", next);
  int32_t at = close;
  if (most < 0) {
    at = b.Placeholder();
    b.Fill(at, close);
    b.Fill(at, b.Call(CharacterRule(), at));
  }
  for (int64_t i = most; i > least; --i) at = b.Split({close, b.Call(CharacterRule(), at)});
  for (int64_t i = 0; i < least; ++i) at = b.Call(CharacterRule(), at);
  return b.Literal("\"", at);
}

int32_t JsonGrammar::IntegerRule() {
  if (const auto known = rules_.find("integer"); known != rules_.end()) return known->second;
  GrammarBuilder& b = *builder_;
  const int32_t more = b.Split({b.end(), Digits(b.end())});
  const int32_t whole = b.Split({b.Literal("0", b.end()), b.Byte(Between('1', '9'), more)});
  return rules_["integer"] = b.Split({whole, b.Literal("-", whole)});
}
int32_t JsonGrammar::Integer(int32_t next) { return builder_->Call(IntegerRule(), next); }

int32_t JsonGrammar::NumberRule() {
  if (const auto known = rules_.find("number"); known != rules_.end()) return known->second;
  GrammarBuilder& b = *builder_;
  const int32_t last = b.Byte(Between('0', '9'), b.end());
  const int32_t power = b.Byte(Between('0', '9'), b.Split({b.end(), last}));  // few readers know 1e999
  const int32_t exponent = b.Byte(Among("eE"), b.Split({power, b.Byte(Among("+-"), power)}));
  const int32_t scaled = b.Split({b.end(), exponent});
  const int32_t fraction = b.Split({scaled, b.Literal(".", Digits(scaled))});
  return rules_["number"] = Integer(fraction);
}
int32_t JsonGrammar::Number(int32_t next) { return builder_->Call(NumberRule(), next); }

// Opened, items of the rule with commas between, closed.
int32_t JsonGrammar::ListOf(char open, char close, int32_t item_rule, int32_t next) {
  GrammarBuilder& b = *builder_;
  const int32_t end = b.Literal(std::string_view(&close, 1), next);
  const int32_t behind = b.Placeholder();  // an item
  const int32_t item = b.Call(item_rule, behind);
  b.Fill(behind, Space(end));
  b.Fill(behind, b.Literal(",", Space(item)));
  return b.Literal(std::string_view(&open, 1), Space(b.Split({end, item})));
}

int32_t JsonGrammar::ObjectRule() {
  if (const auto known = rules_.find("object"); known != rules_.end()) return known->second;
  GrammarBuilder& b = *builder_;
  const int32_t object = rules_["object"] = b.Placeholder();
  const int32_t pair = String(b.Literal(":", Space(AnyValue(b.end()))));
  b.Fill(object, ListOf('{', '}', pair, b.end()));
  return object;
}

int32_t JsonGrammar::ArrayRule() {
  if (const auto known = rules_.find("array"); known != rules_.end()) return known->second;
  const int32_t array = rules_["array"] = builder_->Placeholder();
  builder_->Fill(array, ListOf('[', ']', ValueRule(), builder_->end()));
  return array;
}

int32_t JsonGrammar::ValueRule() {
  if (const auto known = rules_.find("value"); known != rules_.end()) return known->second;
  GrammarBuilder& b = *builder_;
  const int32_t value = rules_["value"] = b.Placeholder();
  for (const int32_t kind :
       {AnyObject(b.end()), AnyArray(b.end()), String(b.end()), Number(b.end()), b.Literal("true", b.end()),
        b.Literal("false", b.end()), b.Literal("null", b.end())}) {
    b.Fill(value, kind);
  }
  return value;
}

}  // namespace fulger
