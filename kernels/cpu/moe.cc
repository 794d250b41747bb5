#include <algorithm>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/ops/check_args.h"

namespace fulger {
namespace {

// One call of Moe. (token, choice) pairs whose expert is held here are grouped by expert: pair p of expert e
// is row p of the gathered activations. Every phase then runs over (expert, piece of its columns) on all
// threads.
class MoeRun {
 public:
  MoeRun(CpuContext& context, const MoeArgs& args)
      : c_(context),
        a_(args),
        tokens_(args.x.dim(0)),
        h_(args.x.dim(1)),
        f_(args.w1.dim(1)),
        k_(args.ids.dim(1)),
        experts_(args.w1.dim(0)) {}

  void Run() {
    Group();
    const int64_t pairs = first_[experts_];
    float* memory = c_.shared_scratch.Get<float>(pairs * (2 * h_ + 2 * f_));
    gathered_ = memory;
    hidden_ = gathered_ + pairs * h_;
    up_ = hidden_ + pairs * f_;
    down_ = up_ + pairs * f_;
    if (tokens_ > 1) {
      c_.ForRows(pairs, h_,
                 [&](int64_t p) { std::copy_n(a_.x.row<float>(token_[p]), h_, gathered_ + p * h_); });
    }
    Hidden();
    Down();
    Combine();
  }

 private:
  void Group() {
    int32_t* memory = c_.index_scratch.Get<int32_t>(2 * tokens_ * k_ + 2 * experts_ + 1);
    pair_of_ = memory;
    token_ = pair_of_ + tokens_ * k_;
    first_ = token_ + tokens_ * k_;
    active_ = first_ + experts_ + 1;
    const int32_t* ids = a_.ids.data<int32_t>();
    std::fill_n(first_, experts_ + 1, 0);
    for (int64_t i = 0; i < tokens_ * k_; ++i) {
      if (const int64_t e = Local(ids[i]); e >= 0) ++first_[e + 1];
    }
    for (int64_t e = 0; e < experts_; ++e) {
      if (first_[e + 1] > 0) active_[active_count_++] = static_cast<int32_t>(e);
      most_ = std::max<int64_t>(most_, first_[e + 1]);
      first_[e + 1] += first_[e];
    }
    // Filling moves each start to its end; moved back below.
    for (int64_t i = 0; i < tokens_ * k_; ++i) {
      const int64_t e = Local(ids[i]);
      pair_of_[i] = e < 0 ? -1 : first_[e]++;
      if (e >= 0) token_[pair_of_[i]] = static_cast<int32_t>(i / k_);
    }
    for (int64_t e = experts_; e > 0; --e) first_[e] = first_[e - 1];
    first_[0] = 0;
  }
  int64_t Local(int32_t id) const {
    const int64_t e = id - a_.first_expert;
    return e >= 0 && e < experts_ ? e : -1;
  }

  static const void* Expert(const TensorView& w, int64_t e) {
    return static_cast<const char*>(w.raw()) + e * w.stride(0) * static_cast<int64_t>(ByteSize(w.dtype()));
  }
  cpu::LinearBlock Block(const float* x, const TensorView& w, const TensorView& scale, int64_t e,
                         float* out) const {
    const int64_t rows = w.dim(1);
    const int64_t width = w.dim(2);
    return {.x = x,
            .ldx = width,
            .w = Expert(w, e),
            .ldw = width,
            .w_scale = scale.empty_view() ? nullptr : scale.row<float>(e),
            .w_type = WeightTypeOf(w),
            .out = out + first_[e] * rows,
            .ldo = rows,
            .t = first_[e + 1] - first_[e],
            .n = rows,
            .k = width};
  }

  // Calls fn(expert, first column, columns, worker) over all pieces of all active experts.
  template <typename F>
  void ForPieces(int64_t n, int64_t k, F&& fn) {
    const int64_t grain = c_.ColumnGrain(most_, n, k);
    const int64_t parts = (n + grain - 1) / grain;
    const int64_t pieces = active_count_ * parts;
    const bool worth = first_[experts_] * n * k >= CpuContext::kMinimumCost;
    c_.pool.ParallelFor(pieces, worth ? 1 : pieces, [&](int64_t begin, int64_t end, int worker) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t j0 = i % parts * grain;
        fn(active_[i / parts], j0, std::min(grain, n - j0), worker);
      }
    });
  }

  void Hidden() {
    ForPieces(f_, 2 * h_, [&](int64_t e, int64_t j0, int64_t n, int worker) {
      const float* x = tokens_ == 1 ? a_.x.data<float>() : gathered_ + first_[e] * h_;
      cpu::LinearBlock gate = Columns(Block(x, a_.w1, a_.w1_scale, e, hidden_), j0, n);
      cpu::LinearBlock up = Columns(Block(x, a_.w3, a_.w3_scale, e, up_), j0, n);
      gate.work = up.work = c_.LinearWork(worker);
      c_.k.linear(gate);
      c_.k.linear(up);
      for (int64_t i = 0; i < gate.t; ++i) {
        c_.k.silu_mul(gate.out + i * f_, up.out + i * f_, gate.out + i * f_, n);
      }
    });
  }

  void Down() {
    ForPieces(h_, f_, [&](int64_t e, int64_t j0, int64_t n, int worker) {
      cpu::LinearBlock b = Columns(Block(hidden_ + first_[e] * f_, a_.w2, a_.w2_scale, e, down_), j0, n);
      b.work = c_.LinearWork(worker);
      c_.k.linear(b);
    });
  }

  // Pairs of a token in ascending order are its experts in ascending order.
  void Combine() {
    c_.ForRows(tokens_, 2 * k_ * h_, [&](int64_t t) {
      float* out = a_.out.mut_row<float>(t);
      std::fill_n(out, h_, 0.0F);
      int32_t last = -1;
      for (int64_t round = 0; round < k_; ++round) {
        int64_t next = -1;
        for (int64_t j = 0; j < k_; ++j) {
          const int32_t p = pair_of_[t * k_ + j];
          if (p > last && (next < 0 || p < pair_of_[t * k_ + next])) next = j;
        }
        if (next < 0) break;
        last = pair_of_[t * k_ + next];
        c_.k.add_scaled(out, 1.0F, down_ + last * h_, a_.weights.row<float>(t)[next], out, h_);
      }
    });
  }

  CpuContext& c_;
  const MoeArgs& a_;
  const int64_t tokens_;
  const int64_t h_;
  const int64_t f_;
  const int64_t k_;
  const int64_t experts_;
  int32_t* pair_of_ = nullptr;  // [tokens * k]: -1 where the expert lives elsewhere
  int32_t* token_ = nullptr;    // [pairs]
  int32_t* first_ = nullptr;    // [experts + 1]: pairs of expert e are [first[e], first[e + 1])
  int32_t* active_ = nullptr;   // experts with at least one pair
  int64_t active_count_ = 0;
  int64_t most_ = 0;  // pairs of the busiest expert
  float* gathered_ = nullptr;
  float* hidden_ = nullptr;
  float* up_ = nullptr;
  float* down_ = nullptr;
};

}  // namespace

absl::Status CpuOps::Moe(Stream&, const MoeArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  MoeRun(context_, args).Run();
  return absl::OkStatus();
}

}  // namespace fulger
