#include "losses/correction.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>
#include <c10/util/Exception.h>

namespace rft {
namespace {

using Level = ImportanceCorrection::Level;
using Mode = ImportanceCorrection::Mode;

at::Tensor RawWeights(const ImportanceCorrection& correction, const at::Tensor& difference_T,
                      const PackedRows& rows) {
  const double cap = correction.log_cap;
  switch (correction.level) {
    case Level::kToken:
      return difference_T.clamp(-cap, cap).exp();
    case Level::kSequenceGeometric:
      return rows.Spread(rows.RowMean(difference_T.clamp(-cap, cap)).exp(), difference_T);
    case Level::kSequenceProduct:
      return rows.Spread(rows.RowSum(difference_T).clamp(-cap, cap).exp(), difference_T);
  }
  TORCH_CHECK(false, "unknown correction level ", static_cast<int>(correction.level));
}

// x where low <= raw <= high, 0 elsewhere.
at::Tensor KeepInside(const at::Tensor& x_T, const at::Tensor& raw_T, double low, double high) {
  return at::where((raw_T >= low).logical_and(raw_T <= high), x_T, at::zeros_like(x_T));
}

}  // namespace

CorrectionWeights ComputeCorrection(const ImportanceCorrection& correction,
                                    const at::Tensor& old_logprobs_T,
                                    const at::Tensor& sampling_logprobs_T, const PackedRows& rows) {
  at::NoGradGuard no_grad;
  CorrectionWeights result;
  result.raw_T = RawWeights(correction, old_logprobs_T - sampling_logprobs_T, rows);
  const double floor = correction.floor.value_or(0.0);
  result.weight_T = correction.mode == Mode::kTruncate
                        ? result.raw_T.clamp(floor, correction.cap)
                        : KeepInside(result.raw_T, result.raw_T, floor, correction.cap);
  if (correction.icepop) {
    result.weight_T =
        KeepInside(result.weight_T, result.raw_T, 1.0 / *correction.icepop, *correction.icepop);
  }
  return result;
}

}  // namespace rft
