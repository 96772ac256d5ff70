// The two products of a linear layer's backward, shared by Linear, LinearAdd, experts, adapters and the vocabulary projection.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "rft/tensor/weight.h"

namespace rft::ops {

// Adds dy^T x to the gradients of the weight's parts (those that have one) and returns dx = dy W (dtype of x).
// x [T, K] and dy [T, N]: contiguous, of the same compute dtype.
at::Tensor LinearBackward(const at::Tensor& x_TK, const at::Tensor& dy_TN, const Weight& weight);

// W packed for dx = dy W: [K, N]-major panels. Made once where several calls share it.
at::Tensor PackTransposed(const Weight& weight, at::ScalarType dtype);
// dx = dy * packed as made by PackTransposed.
at::Tensor InputGradient(const at::Tensor& dy_TN, const at::Tensor& packed_transposed,
                         const Weight& weight);
// T rows of a matrix (rows contiguous but perhaps further apart than they are long): its own, or those that an index names.
struct TokenRows {
  at::Tensor matrix;
  const int32_t* index = nullptr;
  int64_t count = 0;

  TokenRows(at::Tensor all) : matrix(std::move(all)), count(matrix.size(0)) {}  // NOLINT: means all
  TokenRows(at::Tensor of, const int32_t* rows, int64_t number)
      : matrix(std::move(of)), index(rows), count(number) {}
};

// Whether a part of the weight has a gradient to add to: not where the base is frozen.
bool NeedsWeightGradient(const Weight& weight);
// dW += dy^T x only.
void AccumulateWeightGradient(const TokenRows& x_TK, const at::Tensor& dy_TN, const Weight& weight);

// Columns [first, first + n) of dy are those of this gradient, float32 [n, K]; undefined: nobody wants it.
struct GradientOfColumns {
  int64_t first;
  at::Tensor grad;
};
// grad += dy^T x for each of them, the same bits for every thread count. x [T, K] and dy [T, N]: of the same compute dtype;
// rows of dy contiguous but perhaps further apart than they are long.
void AddTransposedProduct(const at::Tensor& dy_TN, const TokenRows& x_TK,
                          const std::vector<GradientOfColumns>& grads);

}  // namespace rft::ops
