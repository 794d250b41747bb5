#include "worker/comm/launcher.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <iterator>
#include <optional>
#include <string_view>

namespace fulger {
namespace {

absl::StatusOr<std::optional<int>> ReadNumber(const GetEnv& getenv, const char* name) {
  const char* text = getenv(name);
  if (text == nullptr || *text == '\0') return std::optional<int>();
  const std::string_view view(text);
  int value = 0;
  const auto [end, error] = std::from_chars(view.data(), view.data() + view.size(), value);
  if (error != std::errc() || end != view.data() + view.size() || value < 0) {
    return InvalidArgument("environment variable {}: expected a number, found \"{}\"", name, view);
  }
  return std::optional<int>(value);
}

struct Variables {
  const char* launcher;
  const char* rank;
  const char* size;
  const char* local_rank;
};
// mpirun inside a Slurm job sets both; it is then the one that started us.
constexpr Variables kLaunchers[] = {
    {"mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"},
    {"slurm", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"},
    {"pmix", "PMIX_RANK", nullptr, nullptr},
};

// srun's plugins set one of these: pmix; pmi2, Cray's and Intel's.
constexpr const char* kPmi[] = {"PMIX_RANK", "PMI_RANK", "PMI_FD", "PMI2_RANK"};

}  // namespace

absl::StatusOr<Launcher> ProbeLauncher(const GetEnv& getenv) {
  const GetEnv env = getenv ? getenv : [](const char* name) -> const char* { return std::getenv(name); };
  const auto set = [&](const char* name) { return env(name) != nullptr; };
  for (const Variables& names : kLaunchers) {
    // A batch script has SLURM_PROCID and the whole job's SLURM_NTASKS as well, and no step: srun did not
    // start it.
    if (std::string_view(names.launcher) == "slurm" && !set("SLURM_STEP_ID")) continue;
    ASSIGN_OR_RETURN(const std::optional<int> rank, ReadNumber(env, names.rank));
    if (!rank) continue;
    Launcher launcher{.name = names.launcher, .rank = *rank};
    if (names.size != nullptr) {
      ASSIGN_OR_RETURN(const std::optional<int> size, ReadNumber(env, names.size));
      ASSIGN_OR_RETURN(const std::optional<int> local_rank, ReadNumber(env, names.local_rank));
      launcher.size = size.value_or(0);
      launcher.local_rank = local_rank.value_or(-1);
    }
    if (launcher.name == "slurm") {
      launcher.pmi = std::any_of(std::begin(kPmi), std::end(kPmi), set);
    }
    return launcher;
  }
  return Launcher{};
}

}  // namespace fulger
