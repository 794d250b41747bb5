// The phases in which a replica starts: launch, rendezvous, device, communicators, load, warm-up, ready. Each
// has a name, a deadline, and one line of what is usually wrong and how to mend it.
#pragma once

#include <string_view>

#include "base/clock.h"
#include "fulger/v1/control.pb.h"

namespace fulger {

// "launch" for PHASE_UNSPECIFIED: nobody has joined.
std::string_view PhaseName(v1::Phase phase);

struct StartupDeadlines {
  // Of a replica: until the first rank joins, where somebody starts the workers along with the coordinator
  // (0: never), and from then on until all have.
  Duration launch{0};
  Duration rendezvous = std::chrono::seconds(120);
  // Of a rank that stands still, by phase.
  Duration device = std::chrono::seconds(120);
  Duration communicators = std::chrono::seconds(180);
  Duration load = std::chrono::seconds(600);
  Duration warm_up = std::chrono::seconds(300);

  Duration Of(v1::Phase phase) const;
};

// Likely cause, and cure, of a phase that reached its deadline. One line, which ends without a full stop.
std::string_view StandsStillAdvice(v1::Phase phase);
// And of a rank that went away in it.
std::string_view GoneAdvice(v1::Phase phase);

}  // namespace fulger
