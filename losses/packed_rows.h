// The rows of a packed token stream, and sums over their active tokens.
//
// Shapes: T tokens of R rows, row r is [row_offsets_R1[r], row_offsets_R1[r + 1]). A token is
// active where its mask is > 0. Row statistics are taken in float64 whatever the input, so that
// a long row is as exact as a short one. No gradient flows through them,
// except through SpreadMean.
// Errors: c10::Error when the offsets do not cover [0, T) in order.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace rft {

// c10::Error unless the offsets are int64 and cover [0, num_tokens) in order.
void CheckRowOffsets(const at::Tensor& row_offsets_R1, int64_t num_tokens);

class PackedRows {
 public:
  PackedRows(const at::Tensor& mask_T, const at::Tensor& row_offsets_R1);

  const at::Tensor& active_T() const { return active_T_; }  // bool
  const at::Tensor& counts_R() const { return counts_R_; }  // float64, active tokens of each row
  int64_t num_rows() const { return lengths_R_.numel(); }   // with or without active tokens

  // x where active, exact 0 elsewhere; the gradient of an inactive token is exactly 0 even if x is
  // NaN or Inf there.
  at::Tensor ZeroInactive(const at::Tensor& x_T) const;
  // Sum over each row's active tokens; float64, constant.
  at::Tensor RowSum(const at::Tensor& x_T) const;
  // Mean over each row's active tokens, 0 for a row without any; float64, constant.
  at::Tensor RowMean(const at::Tensor& x_T) const;
  // Likewise over all its tokens, active or not; 0 for an empty row.
  at::Tensor RowMeanOfAll(const at::Tensor& x_T) const;
  // The mean over each row's active tokens at each of its tokens, with gradient through x_T.
  at::Tensor SpreadMean(const at::Tensor& x_T) const;
  // One value per row to one per token, in `like`'s dtype.
  at::Tensor Spread(const at::Tensor& x_R, const at::Tensor& like_T) const;

 private:
  at::Tensor active_T_;
  at::Tensor lengths_R_;  // int64
  at::Tensor row_of_T_;   // int64
  at::Tensor counts_R_;
};

}  // namespace rft
