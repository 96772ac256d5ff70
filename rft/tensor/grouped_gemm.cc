#include "rft/tensor/grouped_gemm.h"

#include <algorithm>
#include <type_traits>

#include "rft/tensor/cost_timer.h"
#include "rft/tensor/parallel.h"
#include "rft/tensor/prefetch.h"

namespace rft {
namespace {

constexpr int64_t kMinWork = 2 << 20;  // multiply-adds below which a second thread doesn't pay
constexpr int64_t kRowChunk = 128;     // rows of one expert that a task keeps in the cache
constexpr int64_t kRowsAhead = 2;      // of a chunk that is picked out
constexpr int64_t kTokenChunk = 512;   // tokens whose sums one task makes
constexpr int64_t kScatterRows = 64;   // rows of a tile before it is added to its tokens
// Enough to even out experts of unequal size; a task that adds to tokens has all experts, and only panels are unequal.
constexpr int64_t kTasksPerThread = 8, kAddsPerThread = 12;

void ForTasks(int64_t n, int64_t work, const std::function<void(int64_t)>& body) {
  const CostTimer timer(Cost::kMatmul);
  if (work < kMinWork)
    for (int64_t i = 0; i < n; ++i) body(i);
  else
    ParallelTasks(n, work, body);
}

int64_t PanelsOf(int64_t n) { return RoundUp(n, kPanelWidth) / kPanelWidth; }

// Runs of consecutive panels, so that a run streams memory in order; only as many as the threads need.
struct PanelRuns {
  PanelRuns(int64_t n, int64_t other_tasks, int64_t per_thread)
      : panels(PanelsOf(n)),
        runs(std::clamp<int64_t>(per_thread * NumThreads() / std::max<int64_t>(1, other_tasks), 1,
                                 panels)) {}
  int64_t begin(int64_t run) const { return panels * run / runs; }
  int64_t panels, runs;
};

// c[rows, n] = a[rows, K] * panel p of expert e.
template <typename T, typename C>
void MultiplyPanel(const ExpertMatrices<T>& m, int64_t e, int64_t p, const T* a, int64_t rows,
                   int64_t n, C* c, int64_t ldc) {
  constexpr bool kFloat = std::is_same_v<C, float>;
  const Kernels& kernels = GetKernels();
  if constexpr (std::is_same_v<T, Bf16>) {
    if (!m.int8.empty()) {
      const Int8Panels panel = m.int8[e].Panel(p, m.k);
      if constexpr (kFloat)
        kernels.gemm_panel_int8_float(a, m.k, panel.values, panel.scales, m.k, rows, n, c, ldc,
                                      false);
      else
        kernels.gemm_panel_int8(a, m.k, panel.values, panel.scales, m.k, rows, n, c, ldc, false);
      return;
    }
  }
  const T* panel = m.packed[e] + p * PanelElements<T>(m.k);
  if constexpr (kFloat)
    kernels.typed<T>().gemm_panel_float(a, m.k, panel, m.k, rows, n, c, ldc, false);
  else
    kernels.typed<T>().gemm_panel(a, m.k, panel, m.k, rows, n, c, ldc);
}

// Rows [begin, end) of an expert.
struct Chunk {
  int64_t expert, begin, end;
  int64_t rows() const { return end - begin; }
};

template <typename T>
std::vector<Chunk> ChunksOf(const ExpertMatrices<T>& m) {
  std::vector<Chunk> chunks;
  for (int64_t e = 0; e < m.num_experts(); ++e)
    for (int64_t r = m.offsets[e]; r < m.offsets[e + 1]; r += kRowChunk)
      chunks.push_back({e, r, std::min(m.offsets[e + 1], r + kRowChunk)});
  return chunks;
}

// The chunk's rows of a: where they lie, or else picked out into `memory`.
template <typename T>
const T* RowsOf(const T* a, int64_t k, const int32_t* token, const Chunk& chunk,
                std::vector<T>& memory) {
  if (token == nullptr) return a + chunk.begin * k;
  memory.reserve(chunk.rows() * k);
  for (int64_t r = chunk.begin; r < chunk.end; ++r) {
    PrefetchRow(a + token[std::min(r + kRowsAhead, chunk.end - 1)] * k, k);
    memory.insert(memory.end(), a + token[r] * k, a + (token[r] + 1) * k);
  }
  return memory.data();
}

// The chunk's rows of c, in panels [first, last).
template <typename T, typename C>
void MultiplyPanels(const ExpertMatrices<T>& m, const Chunk& chunk, int64_t first, int64_t last,
                    const T* rows, C* c) {
  for (int64_t p = first; p < last; ++p)
    MultiplyPanel(m, chunk.expert, p, rows, chunk.rows(),
                  std::min<int64_t>(kPanelWidth, m.n - p * kPanelWidth),
                  c + chunk.begin * m.n + p * kPanelWidth, m.n);
}

}  // namespace

template <typename T>
void GroupedGemm(const T* a, const ExpertMatrices<T>& m, T* c, const int32_t* token,
                 const RowsBody& then) {
  const std::vector<Chunk> chunks = ChunksOf(m);
  const PanelRuns runs(m.n, static_cast<int64_t>(chunks.size()), kTasksPerThread);
  ForTasks(static_cast<int64_t>(chunks.size()) * runs.runs, m.num_rows() * m.k * m.n,
           [&](int64_t task) {
             const Chunk& chunk = chunks[task / runs.runs];
             const int64_t run = task % runs.runs;
             std::vector<T> memory;
             MultiplyPanels(m, chunk, runs.begin(run), runs.begin(run + 1),
                            RowsOf(a, m.k, token, chunk, memory), c);
             if (then && runs.runs == 1) then(chunk.begin, chunk.end);
           });
  if (then && runs.runs > 1) ParallelFor(m.num_rows(), GrainFor(8 * m.n), then);
}
template void GroupedGemm<float>(const float*, const ExpertMatrices<float>&, float*, const int32_t*,
                                 const RowsBody&);
template void GroupedGemm<Bf16>(const Bf16*, const ExpertMatrices<Bf16>&, Bf16*, const int32_t*,
                                const RowsBody&);

bool KeepsThreadsBusyByRows(int64_t num_rows) {
  return num_rows >= kRowChunk * kTasksPerThread * NumThreads();
}

template <typename T>
void GroupedGemmChain(const T* a, const ExpertMatrices<T>& first, T* c, const int32_t* token,
                      const RowsBody& then, const T* b, const ExpertMatrices<T>& second, float* d) {
  const std::vector<Chunk> chunks = ChunksOf(first);
  ForTasks(static_cast<int64_t>(chunks.size()),
           first.num_rows() * (first.k * first.n + second.k * second.n), [&](int64_t task) {
             const Chunk& chunk = chunks[task];
             std::vector<T> memory;
             MultiplyPanels(first, chunk, 0, PanelsOf(first.n),
                            RowsOf(a, first.k, token, chunk, memory), c);
             then(chunk.begin, chunk.end);
             MultiplyPanels(second, chunk, 0, PanelsOf(second.n), b + chunk.begin * second.k, d);
           });
}
template void GroupedGemmChain<float>(const float*, const ExpertMatrices<float>&, float*,
                                      const int32_t*, const RowsBody&, const float*,
                                      const ExpertMatrices<float>&, float*);
template void GroupedGemmChain<Bf16>(const Bf16*, const ExpertMatrices<Bf16>&, Bf16*,
                                     const int32_t*, const RowsBody&, const Bf16*,
                                     const ExpertMatrices<Bf16>&, float*);

template <typename T>
void GroupedGemmAdd(const T* a, const ExpertMatrices<T>& m, const int32_t* token,
                    const float* weight, int64_t num_tokens, const float* start, float* out) {
  const int64_t chunks = (num_tokens + kTokenChunk - 1) / kTokenChunk;
  const auto add_scaled = GetKernels().add_scaled;
  const PanelRuns runs(m.n, chunks, kAddsPerThread);
  // A task owns some tokens' sums over some columns: experts come one after another, whoever runs it.
  ForTasks(chunks * runs.runs, m.num_rows() * m.k * m.n, [&](int64_t task) {
    const int64_t chunk = task / runs.runs, run = task % runs.runs;
    const auto first = static_cast<int32_t>(chunk * kTokenChunk),
               last = static_cast<int32_t>(std::min(num_tokens, (chunk + 1) * kTokenChunk));
    const int64_t c0 = runs.begin(run) * kPanelWidth,
                  c1 = std::min(m.n, runs.begin(run + 1) * kPanelWidth);
    for (int64_t t = first; start != out && t < last; ++t)
      if (start != nullptr)
        std::copy(start + t * m.n + c0, start + t * m.n + c1, out + t * m.n + c0);
      else
        std::fill(out + t * m.n + c0, out + t * m.n + c1, 0.0f);
    float tile[kScatterRows * kPanelWidth];
    for (int64_t e = 0; e < m.num_experts(); ++e) {
      const int32_t *from = token + m.offsets[e], *to = token + m.offsets[e + 1];
      const int64_t begin = std::lower_bound(from, to, first) - token,
                    end = std::lower_bound(from, to, last) - token;
      for (int64_t r = begin; r < end; r += kScatterRows) {
        const int64_t rows = std::min(kScatterRows, end - r);
        for (int64_t p = runs.begin(run); p < runs.begin(run + 1); ++p) {
          const int64_t n = std::min<int64_t>(kPanelWidth, m.n - p * kPanelWidth);
          MultiplyPanel(m, e, p, a + r * m.k, rows, n, tile, kPanelWidth);
          for (int64_t i = 0; i < rows; ++i)
            add_scaled(tile + i * kPanelWidth, weight ? weight[r + i] : 1.0f, n,
                       out + token[r + i] * m.n + p * kPanelWidth);
        }
      }
    }
  });
}
template void GroupedGemmAdd<float>(const float*, const ExpertMatrices<float>&, const int32_t*,
                                    const float*, int64_t, const float*, float*);
template void GroupedGemmAdd<Bf16>(const Bf16*, const ExpertMatrices<Bf16>&, const int32_t*,
                                   const float*, int64_t, const float*, float*);

}  // namespace rft
