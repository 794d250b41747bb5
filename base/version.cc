#include "base/version.h"

namespace fulger {

const std::string kVersion = FULGER_VERSION;

}  // namespace fulger
