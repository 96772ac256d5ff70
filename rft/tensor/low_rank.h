// What a low-rank adapter (LoRA, 2106.09685, eq. 3) adds to a linear layer: y += s (x A^T) B^T.
//
// Shapes: T tokens, K inputs, N outputs, r rank. dtypes: x compute dtype C; A [r, K] and B [N, r] float32 masters with
// packed copies of dtype C; y is C or, for the residual stream, float32. s is applied to x A^T in float32 before its one
// rounding to C. Row by row the same bits whatever else is computed (rft/tensor/gemm.h), so sampler and trainer agree.
// Gradients: x and y through autograd; A and B by adding to Parameter::grad. Errors: c10::Error on a shape mismatch.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "rft/tensor/weight.h"

namespace rft {

// The adapters of the parameters that are stacked in one Weight, in the same order. They read the same x, so their A are
// one product; each B writes its own columns of y. Immutable once published, like Weight.
struct LowRank {
  struct Part {
    int64_t column = 0, n = 0;  // columns [column, column + n) of y
    Parameter *a = nullptr, *b = nullptr;
    at::Tensor b_packed;
  };
  int64_t rank = 0, k = 0;
  float scale = 1.0f;
  uint64_t site = 0;  // which layer this is: part of the dropout's key
  at::ScalarType dtype = at::kFloat;
  std::vector<Part> parts;
  at::Tensor
      a_packed;  // [parts * padded_rank(), K]; not padded where the parameters are not on the CPU

  // bf16 products read pairs: an odd rank has a zero row more.
  int64_t padded_rank() const { return dtype == at::kBFloat16 ? (rank + 1) / 2 * 2 : rank; }
  int64_t inner() const { return static_cast<int64_t>(parts.size()) * padded_rank(); }
  // Fills the packed copies from the masters; allocates tensors on the first call only.
  void Repack();
};

// The adapter of an embedding table: row `id` gains s B A[:, id], in float32 whatever the compute dtype. Immutable once
// published, like Weight.
struct EmbeddingLowRank {
  LowRank expand;  // one part, of dtype float32; its a_packed stays undefined
  at::Tensor a_VR;
  // Makes the copies of A [r, V] and B [H, r].
  EmbeddingLowRank(Parameter* a, Parameter* b, float scale);
  void Repack();  // as LowRank's
};

// Inverted dropout of x on the adapter's path (training only). The mask is a function of (seed, key of the token, column),
// so it doesn't depend on micro-batches or threads. Adapters of one stacked Weight share it.
struct LowRankDropout {
  double p = 0.0;
  uint64_t seed = 0;
  at::Tensor keys_T;  // int64, one per token of the packed stream
};

// What such a dropout multiplies the numbers of x with, 0 or 1 / (1 - p): float32 [T, K], on the CPU.
at::Tensor DropoutFactors(const LowRankDropout& dropout, const LowRank& adapter);

// One adapter on rows [begin, begin + count) of x and y.
struct LowRankRows {
  const LowRank* adapter = nullptr;
  int64_t begin = 0, count = 0;
};

namespace ops {

// The two directions without autograd, for operations that have adapters inside (rft/tensor/experts.h).
// Forward: adds to the rows of y and returns h = s x A^T of them. Backward: dy [T, N] of dtype C, contiguous; adds to A's and
// B's gradients and returns dx of the rows, [count, K]. An undefined h is computed again.
at::Tensor LowRankForward(const at::Tensor& y_TN, const at::Tensor& x_TK, const LowRankRows& rows,
                          const LowRankDropout* dropout);
at::Tensor LowRankBackward(const at::Tensor& dy_TN, const at::Tensor& h, const at::Tensor& x_TK,
                           const LowRankRows& rows, const LowRankDropout* dropout);

// Adds the adapter's part to rows [begin, begin + count) of y_TN, in place, and returns y_TN.
// `dropout` may be null. Both pointers must outlive the backward.
at::Tensor AddLowRank(const at::Tensor& y_TN, const at::Tensor& x_TK, const LowRank& adapter,
                      int64_t begin, int64_t count, const LowRankDropout* dropout = nullptr);
// The same for rows of embeddings: x_TH float32, ids_T int64.
at::Tensor AddLowRankEmbedding(const at::Tensor& x_TH, const at::Tensor& ids_T,
                               const EmbeddingLowRank& adapter, int64_t begin, int64_t count);

}  // namespace ops
}  // namespace rft
