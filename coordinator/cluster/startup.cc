#include "coordinator/cluster/startup.h"

namespace fulger {

std::string_view PhaseName(v1::Phase phase) {
  switch (phase) {
    case v1::PHASE_RENDEZVOUS:
      return "rendezvous";
    case v1::PHASE_DEVICE:
      return "device";
    case v1::PHASE_COMMUNICATORS:
      return "communicators";
    case v1::PHASE_LOAD:
      return "load";
    case v1::PHASE_WARM_UP:
      return "warm-up";
    case v1::PHASE_READY:
      return "ready";
    default:
      return "launch";
  }
}

Duration StartupDeadlines::Of(v1::Phase phase) const {
  switch (phase) {
    case v1::PHASE_RENDEZVOUS:
    case v1::PHASE_DEVICE:
      return device;  // a rank that has been told its place begins with its device
    case v1::PHASE_COMMUNICATORS:
      return communicators;
    case v1::PHASE_WARM_UP:
      return warm_up;
    default:
      return load;
  }
}

std::string_view StandsStillAdvice(v1::Phase phase) {
  switch (phase) {
    case v1::PHASE_RENDEZVOUS:
      return "their hosts were not reached by the launcher or cannot reach this one: look at the launcher's "
             "output and at "
             "those workers' own last lines, and open the control port between the hosts";
    case v1::PHASE_DEVICE:
      return "the device does not answer: look at nvidia-smi and dmesg on that host; where the checkpoint's "
             "folder "
             "hangs, so does its config.json";
    case v1::PHASE_COMMUNICATORS:
      return "the ranks do not find each other on the network they exchange over: choose its interface with "
             "OMPI_MCA_btl_tcp_if_include (mpi) or NCCL_SOCKET_IFNAME (nccl), and let hosts reach each "
             "other's ports";
    case v1::PHASE_LOAD:
      return "the file system does not answer: read a file of the checkpoint on that host with dd";
    case v1::PHASE_WARM_UP:
      return "a rank of the stage does not follow its first one: let hosts reach each other's ports";
    default:
      return "no rank was started, or none can reach this host: look at the launcher's output, and start "
             "fulger-worker "
             "by hand on one host";
  }
}

std::string_view GoneAdvice(v1::Phase phase) {
  if (phase == v1::PHASE_COMMUNICATORS) {
    return "its process ended (MPI's own message stands above: a PMI that it does not speak needs another "
           "srun --mpi, two MPI "
           "versions need one build for all nodes) or its host is cut off (ping it)";
  }
  return phase == v1::PHASE_LOAD
             ? "its process ended (memory? dmesg and its own last lines say) or its host is cut off (ping it)"
             : "its process ended (its own last lines say why) or its host is cut off (ping it)";
}

}  // namespace fulger
