#include "losses/packed_rows.h"

#include <optional>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/repeat_interleave.h>
#include <ATen/ops/segment_reduce.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

namespace rft {
void CheckRowOffsets(const at::Tensor& row_offsets_R1, int64_t num_tokens) {
  TORCH_CHECK(row_offsets_R1.defined() && row_offsets_R1.dim() == 1 &&
                  row_offsets_R1.numel() >= 1 && row_offsets_R1.scalar_type() == at::kLong,
              "row_offsets_R1: expected int64 with one entry per row plus one");
  const at::Tensor host = row_offsets_R1.to(at::kCPU).contiguous();
  const int64_t* offsets = host.const_data_ptr<int64_t>();
  const int64_t num_rows = host.numel() - 1;
  TORCH_CHECK(offsets[0] == 0 && offsets[num_rows] == num_tokens,
              "row_offsets_R1: expected to start at 0 and end at ", num_tokens,
              " (the number of tokens), but they run from ", offsets[0], " to ", offsets[num_rows]);
  for (int64_t r = 0; r < num_rows; ++r) {
    TORCH_CHECK(offsets[r] <= offsets[r + 1], "row_offsets_R1: row ", r, " ends at ",
                offsets[r + 1], ", before its start ", offsets[r]);
  }
}

PackedRows::PackedRows(const at::Tensor& mask_T, const at::Tensor& row_offsets_R1) {
  at::NoGradGuard no_grad;
  CheckRowOffsets(row_offsets_R1, mask_T.numel());
  active_T_ = mask_T > 0;
  const at::Tensor offsets = row_offsets_R1.to(mask_T.device());
  lengths_R_ = offsets.diff();
  row_of_T_ = at::repeat_interleave(lengths_R_, std::optional<int64_t>(mask_T.numel()));
  counts_R_ = RowSum(active_T_);
}

at::Tensor PackedRows::ZeroInactive(const at::Tensor& x_T) const {
  return at::where(active_T_, x_T, at::zeros({}, x_T.options().requires_grad(false)));
}

at::Tensor PackedRows::RowSum(const at::Tensor& x_T) const {
  at::NoGradGuard no_grad;
  const at::Tensor values_T = ZeroInactive(x_T.detach().to(at::kDouble));
  if (values_T.numel() == 0) return at::zeros({lengths_R_.numel()}, values_T.options());
  return at::segment_reduce(values_T, "sum", lengths_R_, /*indices=*/{}, /*offsets=*/{}, /*axis=*/0,
                            /*unsafe=*/true, /*initial=*/0.0);
}

at::Tensor PackedRows::RowMean(const at::Tensor& x_T) const {
  return RowSum(x_T) / counts_R_.clamp_min(1.0);
}

at::Tensor PackedRows::RowMeanOfAll(const at::Tensor& x_T) const {
  at::NoGradGuard no_grad;
  const at::Tensor sums_R = at::zeros({num_rows()}, x_T.options().dtype(at::kDouble))
                                .index_add(0, row_of_T_, x_T.detach());
  return sums_R / lengths_R_.clamp_min(1);
}

at::Tensor PackedRows::SpreadMean(const at::Tensor& x_T) const {
  const at::Tensor sums_R = at::zeros({num_rows()}, x_T.options().requires_grad(false))
                                .index_add(0, row_of_T_, ZeroInactive(x_T));
  return (sums_R / counts_R_.clamp_min(1.0)).index_select(0, row_of_T_);
}

at::Tensor PackedRows::Spread(const at::Tensor& x_R, const at::Tensor& like_T) const {
  return x_R.to(like_T.scalar_type()).index_select(0, row_of_T_);
}

}  // namespace rft
