// Fuzz targets: what must hold for any bytes at an edge that strangers' bytes reach. A target returns when
// the bytes were handled, well or with an error, and ends the process (FULGER_CHECK, a sanitizer) when a
// promise was broken. Deterministic, no state between calls that changes an answer. Run from the root of the
// tree.
//
// Run two ways: fuzz_replay_test runs every target over its seeds and over mutations of them (make test), and
// a libFuzzer program for each target searches on (preset fuzz; deploy/ci/fuzz.sh).
#pragma once

#include <span>
#include <string_view>

namespace fulger {

void FuzzChatTemplate(std::string_view bytes);
void FuzzConfig(std::string_view bytes);
void FuzzDataUrl(std::string_view bytes);
void FuzzHttp(std::string_view bytes);
void FuzzImage(std::string_view bytes);
void FuzzJsonSchema(std::string_view bytes);
void FuzzOpenAiRequest(std::string_view bytes);
void FuzzSafetensors(std::string_view bytes);
void FuzzTokenizerFile(std::string_view bytes);
void FuzzTokenizerText(std::string_view bytes);

struct FuzzTarget {
  std::string_view name;
  void (*run)(std::string_view bytes);
  std::string_view seeds;  // a folder below tests/; its files, not those of folders in it
};

inline constexpr FuzzTarget kFuzzTargets[] = {
    {"chat_template", FuzzChatTemplate, "fuzz/seeds/chat_template"},
    {"config", FuzzConfig, "golden/model/data/configs"},
    {"data_url", FuzzDataUrl, "fuzz/seeds/data_url"},
    {"http", FuzzHttp, "fuzz/seeds/http"},
    {"image", FuzzImage, "golden/image/files"},
    {"json_schema", FuzzJsonSchema, "fuzz/seeds/json_schema"},
    {"openai_request", FuzzOpenAiRequest, "fuzz/seeds/openai_request"},
    {"safetensors", FuzzSafetensors, "fuzz/seeds/safetensors"},
    {"tokenizer_file", FuzzTokenizerFile, "golden/text/tokenizer_bytelevel"},
    {"tokenizer_text", FuzzTokenizerText, "fuzz/seeds/tokenizer_text"},
};

}  // namespace fulger
