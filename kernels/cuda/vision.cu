// The ViT's entry: one block per patch or token.
#include "kernels/cuda/device_math.cuh"

namespace fulger::cuda {
namespace {

constexpr int kThreads = 128;

// Written in the order of the output: [channel][y][x].
__global__ void PatchifyKernel(PatchifyLaunch a) {
  const int64_t i = blockIdx.x;
  const int64_t grid = a.side / a.patch;
  const int64_t tile = i / (grid * grid);
  const int64_t y0 = i / grid % grid * a.patch;
  const int64_t x0 = i % grid * a.patch;
  const uint8_t* pixels = a.tiles + tile * a.side * a.side * 3;
  const int64_t area = a.patch * a.patch;
  for (int64_t e = threadIdx.x; e < 3 * area; e += kThreads) {
    const int64_t c = e / area;
    const int64_t y = e % area / a.patch;
    const int64_t x = e % a.patch;
    const auto pixel = static_cast<float>(pixels[((y0 + y) * a.side + x0 + x) * 3 + c]);
    a.out.p[i * a.out.ld + e] = (pixel / 255.0F - a.mean[c]) / a.std[c];
  }
}

__global__ void VitEmbedKernel(Rows patches, Vector cls, Vector position, float* out, int64_t positions,
                               int64_t width) {
  const int64_t i = blockIdx.x;
  const int64_t tile = i / positions;
  const int64_t p = i % positions;
  for (int64_t e = threadIdx.x; e < width; e += kThreads) {
    const float token = p == 0 ? At(cls, e) : patches.p[(tile * (positions - 1) + p - 1) * patches.ld + e];
    out[i * width + e] = token + At(position, p * width + e);
  }
}

}  // namespace

cudaError_t Patchify(cudaStream_t stream, const PatchifyLaunch& a) {
  const int64_t grid = a.side / a.patch;
  const int64_t patches = a.tile_count * grid * grid;
  if (patches == 0) return cudaSuccess;
  return LaunchKernel(stream, {static_cast<unsigned>(patches), kThreads}, PatchifyKernel, a);
}

cudaError_t VitEmbed(cudaStream_t stream, Rows patches, Vector cls, Vector position, float* out,
                     int64_t tiles, int64_t positions, int64_t width) {
  if (tiles == 0 || width == 0) return cudaSuccess;
  return LaunchKernel(stream, {static_cast<unsigned>(tiles * positions), kThreads}, VitEmbedKernel, patches,
                      cls, position, out, positions, width);
}

}  // namespace fulger::cuda
