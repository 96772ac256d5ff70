// Products of rows that are grouped by expert, each group with its own packed matrix, as one parallel loop. Torch-free.
// Batch-invariant as gemm.h: a row's bits depend on its expert's matrix and its own values only.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "rft/tensor/gemm.h"

namespace rft {

// Rows offsets[e] .. offsets[e + 1] - 1 belong to packed[e], a [K, N] matrix packed as in gemm.h.
template <typename T>
struct ExpertMatrices {
  std::vector<const T*> packed;      // E
  std::vector<Int8Panels> int8;      // E, in place of `packed`; T is Bf16
  const int64_t* offsets = nullptr;  // E + 1, ascending from 0
  int64_t k = 0, n = 0;
  int64_t num_experts() const { return static_cast<int64_t>(packed.size() + int8.size()); }
  int64_t num_rows() const { return offsets[num_experts()]; }
};

// What is done with rows [begin, end) of a product while they are in the cache; called for every row once, from any thread.
using RowsBody = std::function<void(int64_t begin, int64_t end)>;

// c[p] = a[p] * the row's matrix, or a[token[p]] * ...; c [P, N], rows of a of K.
template <typename T>
void GroupedGemm(const T* a, const ExpertMatrices<T>& matrices, T* c,
                 const int32_t* token = nullptr, const RowsBody& then = {});

// Whether so many rows, in tasks of rows alone, are enough for all threads: then GroupedGemmChain and a sum over each token's rows
// are faster than GroupedGemm and GroupedGemmAdd, with the same bits where a token's rows come in the order of the experts.
bool KeepsThreadsBusyByRows(int64_t num_rows);

// c[p] = a[token[p]] * the row's first matrix; `then`, which makes rows of b of those of c; d[p] = b[p] * the row's second matrix:
// some rows of an expert at a time, which stay in the cache. c [P, N], b [P, K of the second], d [P, N of the second].
template <typename T>
void GroupedGemmChain(const T* a, const ExpertMatrices<T>& first, T* c, const int32_t* token,
                      const RowsBody& then, const T* b, const ExpertMatrices<T>& second, float* d);

// out = start (null: 0; or out itself), then out[token[p], :] += weight[p] * (a[p] * the row's matrix), for each token in the order of the experts; float sums.
// token: int32 [P], ascending within each expert's rows, each token at most once there; weight: [P], or null for 1.
template <typename T>
void GroupedGemmAdd(const T* a, const ExpertMatrices<T>& matrices, const int32_t* token,
                    const float* weight, int64_t num_tokens, const float* start, float* out);

}  // namespace rft
