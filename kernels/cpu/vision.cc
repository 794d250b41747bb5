#include "base/bfloat16.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/ops/check_args.h"

namespace fulger {

absl::Status CpuOps::Patchify(Stream&, const PatchifyArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  const int64_t side = args.tiles.dim(1);
  const int64_t p = args.patch;
  const int64_t grid = side / p;
  context_.ForRows(args.out.dim(0), 8 * 3 * p * p, [&](int64_t i) {
    const int64_t tile = i / (grid * grid);
    const int64_t y0 = i / grid % grid * p;
    const int64_t x0 = i % grid * p;
    const uint8_t* pixels = args.tiles.data<uint8_t>() + tile * side * side * 3;
    float* out = args.out.mut_row<float>(i);
    for (size_t c = 0; c < 3; ++c) {
      for (int64_t y = 0; y < p; ++y) {
        const uint8_t* row = pixels + ((y0 + y) * side + x0) * 3 + static_cast<int64_t>(c);
        for (int64_t x = 0; x < p; ++x) {
          *out++ = (static_cast<float>(row[3 * x]) / 255.0F - args.mean[c]) / args.std[c];
        }
      }
    }
  });
  return absl::OkStatus();
}

absl::Status CpuOps::VitEmbed(Stream&, const VitEmbedArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  const int64_t positions = args.out.dim(1);
  const int64_t d = args.out.dim(2);
  context_.ForRows(args.out.dim(0) * positions, 2 * d, [&](int64_t i) {
    const int64_t tile = i / positions;
    const int64_t position = i % positions;
    float* out = args.out.mut_data<float>() + i * d;
    context_.k.widen(RawRow(args.position, position), IsBF16(args.position), out, d);
    if (position > 0) {
      const float* patch = args.patches.row<float>(tile * (positions - 1) + position - 1);
      context_.k.add_scaled(patch, 1.0F, out, 1.0F, out, d);
      return;
    }
    for (int64_t j = 0; j < d; ++j) {
      out[j] += IsBF16(args.cls) ? BF16ToFloat(args.cls.data<uint16_t>()[j]) : args.cls.data<float>()[j];
    }
  });
  return absl::OkStatus();
}

}  // namespace fulger
