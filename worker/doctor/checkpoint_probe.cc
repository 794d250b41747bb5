#include "worker/doctor/checkpoint_probe.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/file.h"
#include "model/checkpoint/checkpoint.h"
#include "model/checkpoint/shards.h"
#include "model/config.h"
#include "worker/doctor/machine.h"

namespace fulger {
namespace {

constexpr int kMostProblems = 20;
constexpr int kReaders = 4;                 // threads, about as many as loading has
constexpr size_t kBlock = size_t{4} << 20;  // of one read: a multiple of every block size
constexpr size_t kAlignment = 4096;         // that direct reads ask for

// Shared by the caller, who may stop waiting, and the threads that look.
class Look : public std::enable_shared_from_this<Look> {
 public:
  explicit Look(CheckpointProbe probe) : probe_(std::move(probe)) { result_.set_dir(probe_.dir); }

  v1::CheckpointFiles Run(std::chrono::milliseconds deadline) {
    std::thread([self = shared_from_this()] {
      self->Examine();
      std::lock_guard lock(self->mu_);
      self->done_ = true;
      self->changed_.notify_all();
    }).detach();
    std::unique_lock lock(mu_);
    if (!changed_.wait_for(lock, deadline, [this] { return done_; })) {
      result_.set_hung(
          fmt::format("{}: no answer in {:.0f} s", doing_, std::chrono::duration<double>(deadline).count()));
    }
    return result_;
  }

 private:
  struct Part {
    std::string path;
    uint64_t size = 0;
  };
  class Descriptor {
   public:
    explicit Descriptor(int fd) : fd_(fd) {}
    ~Descriptor() {
      if (fd_ >= 0) ::close(fd_);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    int fd() const { return fd_; }

   private:
    int fd_;
  };

  void Doing(std::string what) {
    std::lock_guard lock(mu_);
    doing_ = std::move(what);
  }
  void Problem(const std::string& what) {
    std::lock_guard lock(mu_);
    if (result_.problems_size() == kMostProblems) result_.add_problems("and more");
    if (result_.problems_size() < kMostProblems) result_.add_problems(what);
  }

  void Examine() {
    const Mount mount = MountOf(probe_.dir);
    {
      std::lock_guard lock(mu_);
      result_.set_mount_point(mount.point);
      result_.set_file_system(mount.type);
    }
    Doing(fmt::format("{}/config.json", probe_.dir));
    const absl::StatusOr<ModelConfig> config = LoadModelConfig(probe_.dir);
    if (!config.ok()) Problem(Message(config.status()));
    Doing(fmt::format("listing {}", probe_.dir));
    const absl::StatusOr<ShardList> shards = ListShards(probe_.dir);
    if (!shards.ok()) Problem(Message(shards.status()));
    bool whole = config.ok() && shards.ok();
    if (shards.ok()) {
      for (const std::string& name : shards->files) whole = OpenOne(name) && whole;
    }
    if (whole) Audit(*config);
    if (probe_.read_seconds > 0 && !parts_.empty()) Read();
  }

  // Its header says how long it must be.
  bool OpenOne(const std::string& name) {
    const std::string path = probe_.dir + "/" + name;
    Doing(fmt::format("opening {}", path));
    const absl::StatusOr<SafetensorsFile> file = SafetensorsFile::Open(path);
    if (!file.ok()) {
      const std::string why = Message(file.status());
      Problem(why.find(name) == std::string::npos ? fmt::format("{}: {}", path, why) : why);
      return false;
    }
    parts_.push_back({.path = path, .size = file->file().size()});
    std::lock_guard lock(mu_);
    result_.set_files(result_.files() + 1);
    result_.set_bytes(result_.bytes() + static_cast<int64_t>(file->file().size()));
    return true;
  }

  void Audit(const ModelConfig& config) {
    const absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(probe_.dir, config);
    absl::Status status = checkpoint.status();
    if (status.ok()) status = checkpoint->Complete();
    if (!status.ok()) return Problem(Message(status));
    std::lock_guard lock(mu_);
    result_.set_fingerprint(checkpoint->Fingerprint());
  }

  // Blocks in turn, from this reader's place on, until the time is over or each was read once.
  void Read() {
    struct Block {
      const Part* part;
      uint64_t offset;
    };
    std::vector<Block> blocks;
    for (const Part& part : parts_) {
      for (uint64_t offset = 0; offset < part.size; offset += kBlock) blocks.push_back({&part, offset});
    }
    const size_t first =
        blocks.size() * static_cast<size_t>(probe_.reader) / static_cast<size_t>(std::max(1, probe_.readers));
    Doing(fmt::format("reading {}", blocks[first].part->path));
    std::atomic<size_t> next{0};
    std::atomic<int64_t> bytes{0};
    std::atomic<bool> direct{true};
    const auto begin = std::chrono::steady_clock::now();
    const auto end = begin + std::chrono::duration_cast<std::chrono::nanoseconds>(
                                 std::chrono::duration<double>(probe_.read_seconds));
    const auto read = [&] {
      const std::unique_ptr<void, void (*)(void*)> buffer(std::aligned_alloc(kAlignment, kBlock), &std::free);
      while (std::chrono::steady_clock::now() < end) {
        const size_t i = next++;
        if (i >= blocks.size()) return;
        const Block& block = blocks[(first + i) % blocks.size()];
        const int64_t n = ReadBlock(block.part->path, block.offset, buffer.get(), &direct);
        if (n < 0) return;
        bytes += n;
      }
    };
    std::vector<std::thread> threads;
    for (int i = 0; i < kReaders; ++i) threads.emplace_back(read);
    for (std::thread& thread : threads) thread.join();
    std::lock_guard lock(mu_);
    result_.set_bytes_read(bytes);
    result_.set_seconds(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    result_.set_direct(direct);
  }

  // Bytes; -1 after a failure, which is noted.
  int64_t ReadBlock(const std::string& path, uint64_t offset, void* buffer, std::atomic<bool>* direct) {
    for (const bool try_direct : {true, false}) {
      const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | (try_direct ? O_DIRECT : 0)));
      ssize_t n = -1;
      if (file.fd() >= 0) {
        // Without direct reads: what this node holds already is dropped, where the file system does that.
        if (!try_direct)
          (void)::posix_fadvise(file.fd(), static_cast<off_t>(offset), kBlock, POSIX_FADV_DONTNEED);
        n = ::pread(file.fd(), buffer, kBlock, static_cast<off_t>(offset));
      }
      if (n >= 0) return n;
      const bool unknown = errno == EINVAL || errno == EOPNOTSUPP;
      if (!try_direct || !unknown) {
        Problem(fmt::format("{}: reading at offset {}: {}", path, offset, std::strerror(errno)));
        return -1;
      }
      *direct = false;
    }
    return -1;
  }

  const CheckpointProbe probe_;
  std::vector<Part> parts_;  // of the thread that looks
  std::mutex mu_;
  std::condition_variable changed_;
  bool done_ = false;
  std::string doing_;
  v1::CheckpointFiles result_;
};

}  // namespace

v1::CheckpointFiles ProbeCheckpoint(const CheckpointProbe& probe, std::chrono::milliseconds deadline) {
  return std::make_shared<Look>(probe)->Run(deadline);
}

}  // namespace fulger
