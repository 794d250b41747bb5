#include "tests/cuda_emulation/runtime.h"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <utility>

#include "tests/cuda_emulation/card.h"
#include "tests/cuda_emulation/grid.h"
#include "tests/cuda_emulation/memory.h"

namespace fulger::cuda_emulation {
struct Stream {
  std::deque<std::function<std::string()>> work;
  uint64_t put = 0;   // enqueued so far
  uint64_t done = 0;  // of those, executed
  bool running = false;
  cudaError_t failed = cudaSuccess;  // reported by the next synchronisation
};
struct Event {
  Stream* stream = nullptr;  // null: not recorded yet, or its stream is gone (which finishes its work)
  uint64_t after = 0;        // complete when the stream has done so much
};

namespace {

class Runtime {
 public:
  std::recursive_mutex mutex;
  Memory memory;
  std::set<Stream*> streams;
  std::set<Event*> events;
  std::map<const void*, int> shared_limit;  // cudaFuncAttributeMaxDynamicSharedMemorySize
  std::string report;

  Runtime() {
#if !defined(__SANITIZE_ADDRESS__)
    struct sigaction action {};
    action.sa_sigaction = &OnFault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (const int signal : {SIGSEGV, SIGBUS, SIGFPE}) sigaction(signal, &action, nullptr);
    static char stack[64 << 10];  // a thread's own may be what overflowed
    const stack_t alternative{.ss_sp = stack, .ss_flags = 0, .ss_size = sizeof(stack)};
    sigaltstack(&alternative, nullptr);
#endif
  }

  void Report(const std::string& text) {
    report = text;
    std::fprintf(stderr, "CUDA emulation: %s\n", text.c_str());
  }

  bool Knows(Stream* stream) const { return streams.contains(stream); }

  // Executes the first `count` pieces of all that the stream was ever given.
  void Run(Stream& stream, uint64_t count) {
    if (stream.running || stream.done >= count) return;  // running: an event of our own stream
    stream.running = true;
    memory.Begin();
    while (stream.done < count && !stream.work.empty()) {
      const std::function<std::string()> work = std::move(stream.work.front());
      stream.work.pop_front();
      ++stream.done;
      if (stream.failed != cudaSuccess) continue;  // a real context is lost
      std::string wrong = work();
      if (wrong.empty()) continue;
      Report(wrong);
      stream.failed = cudaErrorLaunchFailure;
    }
    memory.End();
    stream.running = false;
  }
  cudaError_t Synchronize(Stream& stream) {
    Run(stream, stream.put);
    if (stream.failed == cudaSuccess) {
      const std::string wrong = memory.Check();
      if (!wrong.empty()) {
        Report(wrong);
        stream.failed = cudaErrorIllegalAddress;
      }
    }
    return std::exchange(stream.failed, cudaSuccess);
  }
  void RunAll() {
    for (Stream* stream : streams) Run(*stream, stream->put);
  }

 private:
  static void OnFault(int signal, siginfo_t* info, void*);
};

Runtime& R() {
  static auto* const runtime = new Runtime();  // outlives everything that frees its memory at exit
  return *runtime;
}

// A kernel's first use of an allocation, or the end of the program: that these functions are not made for
// signal handlers can lose no more than the message.
void Runtime::OnFault(int signal, siginfo_t* info, void*) {
  if (signal == SIGSEGV && R().memory.Use(info->si_addr)) return;
  const std::string where = Position();
  if (!where.empty()) {
    std::fprintf(stderr, "CUDA emulation: signal %d in %s: %s\n", signal, where.c_str(),
                 R().memory.Describe(info->si_addr).c_str());
  } else if (R().memory.Near(info->si_addr) != nullptr) {
    std::fprintf(stderr, "CUDA emulation: the host's code touches memory of the device: %s\n",
                 R().memory.Describe(info->si_addr).c_str());
  }
  std::signal(signal, SIG_DFL);  // the instruction faults once more
}

thread_local cudaError_t last_error = cudaSuccess;

cudaError_t Remember(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}
// An error that a real device would give without a word.
cudaError_t Refuse(cudaError_t error, const std::string& why) {
  R().Report(why);
  return Remember(error);
}

std::string Dimensions(const dim3& d) {
  return "(" + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " + std::to_string(d.z) + ")";
}

}  // namespace

cudaError_t Enqueue(cudaStream_t handle, std::function<std::string()> work) {
  const std::lock_guard lock(R().mutex);
  auto* const stream = reinterpret_cast<Stream*>(handle);
  if (!R().Knows(stream)) {
    return Refuse(cudaErrorInvalidResourceHandle,
                  stream == nullptr ? "work on the default stream" : "work on a stream that does not exist");
  }
  stream->work.push_back(std::move(work));
  ++stream->put;
  return cudaSuccess;
}

cudaError_t Launch(const cudaLaunchConfig_t& config, const void* function, std::span<char> static_shared,
                   std::span<const std::span<const char>> arguments, std::function<void()> thread) {
  const std::lock_guard lock(R().mutex);
  const dim3 grid = config.gridDim;
  const dim3 block = config.blockDim;
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffU || grid.y > 65535 || grid.z > 65535 ||
      threads == 0 || threads > kMaxThreads || block.z > 64) {
    return Refuse(cudaErrorInvalidConfiguration, FunctionName(function) + ": a grid of " + Dimensions(grid) +
                                                     " blocks of " + Dimensions(block) + " threads");
  }
  const auto limit = R().shared_limit.find(function);
  const size_t shared = limit == R().shared_limit.end() ? kSharedBytes : static_cast<size_t>(limit->second);
  if (config.dynamicSmemBytes > std::max(shared, kSharedBytes)) {
    return Refuse(cudaErrorInvalidValue,
                  FunctionName(function) + ": " + std::to_string(config.dynamicSmemBytes) +
                      " bytes of dynamic shared memory, it may have " + std::to_string(shared));
  }
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::span<const char> bytes = arguments[i];
    for (size_t at = 0; at + sizeof(void*) <= bytes.size(); at += sizeof(void*)) {
      const void* p = nullptr;
      std::memcpy(&p, bytes.data() + at, sizeof(p));
      if (!IsHostAddress(R().memory, p)) continue;
      return Refuse(cudaErrorIllegalAddress, FunctionName(function) + ": byte " + std::to_string(at) +
                                                 " of its parameter " + std::to_string(i) +
                                                 " points to memory that is not the device's");
    }
  }
  KernelCall call{.function = function,
                  .grid = grid,
                  .block = block,
                  .dynamic_shared = config.dynamicSmemBytes,
                  .static_shared = static_shared,
                  .thread = std::move(thread)};
  return Enqueue(config.stream, [call = std::move(call)] { return RunGrid(call); });
}

std::string CheckDeviceRange(const char* what, const void* p, size_t bytes) {
  const Allocation* const a = R().memory.Find(p, bytes);
  if (a != nullptr && a->space == Space::kDevice) return {};
  return std::string(what) + ": " + std::to_string(bytes) +
         " bytes that are not in one allocation of the device";
}

std::string TakeReport() {
  const std::lock_guard lock(R().mutex);
  return std::exchange(R().report, {});
}

}  // namespace fulger::cuda_emulation

// The functions of cuda_runtime_api.h that this project calls; another one does not link.
using namespace fulger::cuda_emulation;  // NOLINT(google-build-using-namespace): C functions

namespace {

Stream* StreamOf(cudaStream_t handle) {
  auto* const stream = reinterpret_cast<Stream*>(handle);
  return R().Knows(stream) ? stream : nullptr;
}
Event* EventOf(cudaEvent_t handle) {
  auto* const event = reinterpret_cast<Event*>(handle);
  return R().events.contains(event) ? event : nullptr;
}
const char* NameOf(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorInsufficientDriver:
      return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorNoKernelImageForDevice:
      return "cudaErrorNoKernelImageForDevice";
    case cudaErrorDevicesUnavailable:
      return "cudaErrorDevicesUnavailable";
    case cudaErrorSystemDriverMismatch:
      return "cudaErrorSystemDriverMismatch";
    default:
      return "another error";
  }
}

}  // namespace

extern "C" {

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
const char* cudaGetErrorName(cudaError_t error) { return NameOf(error); }
// The real one's words for what TheCard() may be; of faults the emulation says more than the real one can.
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaErrorInsufficientDriver:
      return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorNoKernelImageForDevice:
      return "no kernel image is available for execution on the device";
    case cudaErrorDevicesUnavailable:
      return "CUDA-capable device(s) is/are busy or unavailable";
    case cudaErrorSystemDriverMismatch:
      return "system has unsupported display driver / cuda driver combination";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    default:
      return "the emulation has printed what is wrong";
  }
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = TheCard().driver;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  const Card& card = TheCard();
  if (card.driver < CUDART_VERSION / 1000 * 1000) return Remember(cudaErrorInsufficientDriver);
  if (card.gpus == 0) return Remember(cudaErrorNoDevice);
  if (card.error != cudaErrorDevicesUnavailable && card.error != cudaSuccess) return Remember(card.error);
  *count = card.gpus;
  return cudaSuccess;
}
// Each process has one context here, whatever its number.
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= TheCard().gpus) return Remember(cudaErrorInvalidDevice);
  return Remember(TheCard().error);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
  if (device < 0 || device >= TheCard().gpus) return Remember(cudaErrorInvalidDevice);
  *p = {};
  std::snprintf(p->name, sizeof(p->name), "CUDA EMULATED ON THE CPU");
  p->major = TheCard().major;
  p->minor = TheCard().minor;
  p->multiProcessorCount = 108;
  p->totalGlobalMem = TheCard().memory;
  p->sharedMemPerBlock = kSharedBytes;
  p->sharedMemPerBlockOptin = kSharedBytesOptIn;
  p->maxThreadsPerBlock = kMaxThreads;
  p->warpSize = kWarp;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total) {
  const std::lock_guard lock(R().mutex);
  *total = TheCard().memory;
  *free_bytes = *total - std::min(*total, TheCard().held + R().memory.used());
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  if (TheCard().major < 8) return Remember(cudaErrorNoKernelImageForDevice);
  *attributes = {};
  attributes->maxThreadsPerBlock = kMaxThreads;
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  const std::lock_guard lock(R().mutex);
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
      static_cast<size_t>(value) > kSharedBytesOptIn) {
    return Refuse(cudaErrorInvalidValue, FunctionName(function) + ": attribute " + std::to_string(attribute) +
                                             " = " + std::to_string(value));
  }
  R().shared_limit[function] = value;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** p, size_t bytes) {
  const std::lock_guard lock(R().mutex);
  *p = bytes == 0 ? nullptr : R().memory.Allocate(bytes, Space::kDevice);
  return *p != nullptr || bytes == 0 ? cudaSuccess : Remember(cudaErrorMemoryAllocation);
}
// Waits for the device, as the real one does.
cudaError_t cudaFree(void* p) {
  const std::lock_guard lock(R().mutex);
  R().RunAll();
  if (p == nullptr) return cudaSuccess;
  const std::string wrong = R().memory.Check();
  if (!wrong.empty()) return Refuse(cudaErrorIllegalAddress, wrong);
  if (R().memory.Free(p, Space::kDevice)) return cudaSuccess;
  return Refuse(cudaErrorInvalidValue, "cudaFree of what cudaMalloc has not given, or twice");
}
cudaError_t cudaHostAlloc(void** p, size_t bytes, unsigned) {
  const std::lock_guard lock(R().mutex);
  *p = R().memory.Allocate(bytes, Space::kPinned);
  return *p != nullptr ? cudaSuccess : Remember(cudaErrorMemoryAllocation);
}
cudaError_t cudaFreeHost(void* p) {
  const std::lock_guard lock(R().mutex);
  R().RunAll();
  if (p == nullptr || R().memory.Free(p, Space::kPinned)) return cudaSuccess;
  return Refuse(cudaErrorInvalidValue, "cudaFreeHost of what cudaHostAlloc has not given, or twice");
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* p) {
  const std::lock_guard lock(R().mutex);
  *attributes = {};
  const Allocation* const a = R().memory.Find(p, 1);
  attributes->type = a == nullptr                 ? cudaMemoryTypeUnregistered
                     : a->space == Space::kDevice ? cudaMemoryTypeDevice
                                                  : cudaMemoryTypeHost;
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  const std::lock_guard lock(R().mutex);
  if (flags != cudaStreamNonBlocking)
    return Refuse(cudaErrorInvalidValue, "a stream that waits for the default one");
  auto* const made = new Stream();
  R().streams.insert(made);
  *stream = reinterpret_cast<cudaStream_t>(made);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  const std::lock_guard lock(R().mutex);
  Stream* const stream = StreamOf(handle);
  if (stream == nullptr) return Refuse(cudaErrorInvalidResourceHandle, "cudaStreamDestroy of no stream");
  R().Run(*stream, stream->put);
  for (Event* event : R().events) {
    if (event->stream == stream) event->stream = nullptr;
  }
  R().streams.erase(stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  const std::lock_guard lock(R().mutex);
  Stream* const stream = StreamOf(handle);
  if (stream == nullptr) return Refuse(cudaErrorInvalidResourceHandle, "cudaStreamSynchronize of no stream");
  return Remember(R().Synchronize(*stream));
}
cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event_handle, unsigned) {
  const std::lock_guard lock(R().mutex);
  Event* const event = EventOf(event_handle);
  if (event == nullptr) return Refuse(cudaErrorInvalidResourceHandle, "cudaStreamWaitEvent for no event");
  // What it was at this call, whatever is recorded later.
  return Enqueue(handle, [stream = event->stream, after = event->after] {
    if (R().Knows(stream)) R().Run(*stream, after);
    return std::string();
  });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  const std::lock_guard lock(R().mutex);
  auto* const made = new Event();
  R().events.insert(made);
  *event = reinterpret_cast<cudaEvent_t>(made);
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t handle) {
  const std::lock_guard lock(R().mutex);
  Event* const event = EventOf(handle);
  if (event == nullptr) return Refuse(cudaErrorInvalidResourceHandle, "cudaEventDestroy of no event");
  R().events.erase(event);
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream_handle) {
  const std::lock_guard lock(R().mutex);
  Event* const event = EventOf(handle);
  Stream* const stream = StreamOf(stream_handle);
  if (event == nullptr || stream == nullptr) {
    return Refuse(cudaErrorInvalidResourceHandle, "cudaEventRecord of no event, or on no stream");
  }
  *event = {stream, stream->put};
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  const std::lock_guard lock(R().mutex);
  Event* const event = EventOf(handle);
  if (event == nullptr) return Refuse(cudaErrorInvalidResourceHandle, "cudaEventSynchronize of no event");
  if (event->stream != nullptr) R().Run(*event->stream, event->after);
  return cudaSuccess;
}
// Each question lets the stream do one more piece of work.
cudaError_t cudaEventQuery(cudaEvent_t handle) {
  const std::lock_guard lock(R().mutex);
  Event* const event = EventOf(handle);
  if (event == nullptr) return Refuse(cudaErrorInvalidResourceHandle, "cudaEventQuery of no event");
  if (event->stream == nullptr || event->stream->done >= event->after) return cudaSuccess;
  R().Run(*event->stream, event->stream->done + 1);
  return Remember(cudaErrorNotReady);
}

cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t stream) {
  return Enqueue(stream, [=] {
    std::string wrong = CheckDeviceRange("cudaMemsetAsync", p, bytes);
    if (wrong.empty()) std::memset(p, value, bytes);
    return wrong;
  });
}
// The caller's pageable memory is read at once, and written before the call returns; pinned memory when the
// stream comes to it.
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const std::lock_guard lock(R().mutex);
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  const auto space_of = [](const void* p) {
    const Allocation* const a = R().memory.Near(p);
    return a == nullptr ? -1 : static_cast<int>(a->space);
  };
  const int device = static_cast<int>(Space::kDevice);
  if (!to_device && !from_device) return Refuse(cudaErrorInvalidMemcpyDirection, "a copy of that kind");
  if ((space_of(to) == device) != to_device || (space_of(from) == device) != from_device) {
    return Refuse(cudaErrorInvalidValue, "a copy of kind " + std::to_string(kind) + " between " +
                                             (space_of(from) == device ? "device" : "host") + " and " +
                                             (space_of(to) == device ? "device" : "host"));
  }
  const void* source = from;
  std::shared_ptr<char[]> taken;
  if (!from_device && space_of(from) < 0) {
    taken = std::make_shared<char[]>(bytes);
    std::memcpy(taken.get(), from, bytes);
    source = taken.get();
  }
  const cudaError_t error = Enqueue(stream, [=, taken = std::move(taken)] {
    std::string wrong;
    if (to_device) wrong = CheckDeviceRange("a copy to the device", to, bytes);
    if (wrong.empty() && from_device) wrong = CheckDeviceRange("a copy from the device", from, bytes);
    const char* const a = static_cast<const char*>(from);
    const char* const b = static_cast<const char*>(to);
    if (wrong.empty() && to_device && from_device && a < b + bytes && b < a + bytes)
      wrong = "a copy onto itself";
    if (wrong.empty()) std::memcpy(to, source, bytes);
    return wrong;
  });
  if (error == cudaSuccess && !to_device && space_of(to) < 0) {
    Stream* const s = StreamOf(stream);
    R().Run(*s, s->put);
  }
  return error;
}

}  // extern "C"
