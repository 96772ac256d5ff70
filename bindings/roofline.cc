#include "bindings/roofline.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <c10/core/InferenceMode.h>

#include "rft/tensor/bf16.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/gemm.h"
#include "rft/tensor/kernels.h"
#include "rft/tensor/large_tensor.h"
#include "rft/tensor/parallel.h"

namespace rft::python {
namespace {

constexpr double kSecondsPerMeasurement = 0.25;
// 768 x 1536 x 1024: packed weights of 3 to 6 MB, the size of a small model's layers.
constexpr int64_t kRows = 768, kColumns = 1536, kDepth = 1024;
constexpr int64_t kBytes = int64_t{512} << 20;  // more than any last-level cache

// Shortest of the runs that fit into the time: what the machine can do when nothing disturbs it.
double BestSeconds(const std::function<void()>& run) {
  run();  // caches, pages, threads
  double best = 1e30;
  const auto begin = std::chrono::steady_clock::now();
  auto now = begin;
  while (std::chrono::duration<double>(now - begin).count() < kSecondsPerMeasurement) {
    const auto start = now;
    run();
    now = std::chrono::steady_clock::now();
    best = std::min(best, std::chrono::duration<double>(now - start).count());
  }
  return best;
}

double Gflops(double seconds) { return 2.0 * kRows * kColumns * kDepth / seconds / 1e9; }

double TorchGflops(at::ScalarType dtype) {
  const c10::InferenceMode inference;
  const at::Tensor x = at::randn({kRows, kDepth}).to(dtype);
  const at::Tensor w = at::randn({kColumns, kDepth}).to(dtype);
  return Gflops(BestSeconds([&] { at::linear(x, w); }));
}

template <typename T>
double OurGflops() {
  const std::vector<float> weight(static_cast<size_t>(kColumns * kDepth), 0.01f);
  std::vector<T> packed(static_cast<size_t>(PackedElements<T>(kDepth, kColumns)));
  Pack(WeightSource(weight.data(), kDepth), kDepth, kColumns, packed.data());
  const std::vector<T> x(static_cast<size_t>(kRows * kDepth), FromFloat<T>(0.5f));
  std::vector<T> y(static_cast<size_t>(kRows * kColumns));
  return Gflops(BestSeconds(
      [&] { Gemm(x.data(), kDepth, packed.data(), kRows, kDepth, kColumns, y.data(), kColumns); }));
}

// In huge pages, as weights and the state cache lie: small ones are read more slowly, and a limit must not be too low.
double DramGbps() {
  const at::Tensor numbers = LargeTensor(kBytes / 8, at::kLong);
  std::fill_n(Data<int64_t>(numbers), numbers.numel(), int64_t{1});
  const int64_t* memory = Data<int64_t>(numbers);
  std::atomic<int64_t> checksum{0};  // so that the reads are not optimised away
  const double seconds = BestSeconds([&] {
    ParallelFor(kBytes / 8, 1 << 16, [&](int64_t begin, int64_t end) {
      int64_t sum[8] = {};
      int64_t i = begin;
      for (; i + 8 <= end; i += 8) {
        for (int64_t lane = 0; lane < 8; ++lane) sum[lane] += memory[i + lane];
      }
      for (; i < end; ++i) sum[0] += memory[i];
      for (const int64_t part : sum) checksum.fetch_add(part, std::memory_order_relaxed);
    });
  });
  return checksum.load() == 0 ? 0.0 : static_cast<double>(kBytes) / seconds / 1e9;
}

double UpdateGbps() {
  constexpr int64_t kArrays = 4, kNumbers = kBytes / 4 / kArrays, kChunk = 1 << 16;
  std::vector<at::Tensor> arrays;
  for (int64_t i = 0; i < kArrays; ++i) arrays.push_back(LargeTensor(kNumbers, at::kFloat));
  const double seconds = BestSeconds([&] {
    ParallelFor(kNumbers / kChunk, 1, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c)
        for (const at::Tensor& array : arrays) {
          float* x = Data<float>(array) + c * kChunk;
          GetKernels().f32.scale(x, 0.5f, kChunk, x);
        }
    });
  });
  return 2.0 * static_cast<double>(kBytes) / seconds / 1e9;
}

// Sets the threads of both pools, and puts them back.
class ThreadScope {
 public:
  explicit ThreadScope(int threads) : ours_(NumThreads()), torchs_(at::get_num_threads()) {
    const int n = threads > 0 ? threads : ours_;
    SetNumThreads(n);
    at::set_num_threads(n);
  }
  ~ThreadScope() {
    SetNumThreads(ours_);
    at::set_num_threads(torchs_);
  }

 private:
  const int ours_, torchs_;
};

}  // namespace

Roofline MeasureRoofline(int threads) {
  const ThreadScope scope(threads);
  return {.bf16_gflops = std::max(OurGflops<Bf16>(), TorchGflops(at::kBFloat16)),
          .fp32_gflops = std::max(OurGflops<float>(), TorchGflops(at::kFloat)),
          .dram_gbps = DramGbps()};
}

MemoryRoofline MeasureMemory() { return {.read_gbps = DramGbps(), .update_gbps = UpdateGbps()}; }

}  // namespace rft::python
