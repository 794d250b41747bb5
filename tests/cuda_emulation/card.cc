#include "tests/cuda_emulation/card.h"

#include <cstdlib>
#include <string>

namespace fulger::cuda_emulation {
namespace {

std::string Variable(const char* name) {
  const std::string full = std::string("FULGER_EMULATION_") + name;
  const char* const value = std::getenv(full.c_str());
  return value == nullptr ? std::string() : value;
}

size_t MiB(const char* name, size_t otherwise) {
  const std::string value = Variable(name);
  return value.empty() ? otherwise : std::stoul(value) << 20;
}

// "12.4": both parts.
void Versions(const char* name, int* major, int* minor) {
  const std::string value = Variable(name);
  if (value.empty()) return;
  const size_t dot = value.find('.');
  *major = std::stoi(value.substr(0, dot));
  *minor = dot == std::string::npos ? 0 : std::stoi(value.substr(dot + 1));
}

Card Read() {
  Card card;
  if (const std::string gpus = Variable("GPUS"); !gpus.empty()) card.gpus = std::stoi(gpus);
  Versions("CAPABILITY", &card.major, &card.minor);
  int major = card.driver / 1000;
  int minor = card.driver % 1000 / 10;
  Versions("DRIVER", &major, &minor);
  card.driver = major * 1000 + minor * 10;
  card.memory = MiB("MEMORY_MIB", card.memory);
  card.held = MiB("HELD_MIB", card.held);
  if (const std::string error = Variable("ERROR"); !error.empty()) {
    card.error = static_cast<cudaError_t>(std::stoi(error));
  }
  return card;
}

}  // namespace

const Card& TheCard() {
  static const Card card = Read();
  return card;
}

}  // namespace fulger::cuda_emulation
