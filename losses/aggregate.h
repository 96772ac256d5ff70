// Per-token losses to the raw sum of a call. Division by the denominator of the whole step is the
// caller's, so that nothing depends on how rows are split over calls (rows themselves are never
// split).
//
//   aggregation               sum                                   denominator
//   kTokenSum                 sum_t L                               0: do not divide
//   kTokenMean                sum_t L                               active tokens
//   kSeqMeanTokenMean         sum_i (1/|y_i|) sum_t L               rows with an active token
//   kSeqMeanTokenSum          sum_i sum_t L                         rows with an active token
//   kSeqMeanTokenSumNorm      sum_i (1/agg_norm) sum_t L            rows with an active token
// With row_denominator kAll the last three count every row of the call.
#pragma once

#include <ATen/core/Tensor.h>

#include "losses/packed_rows.h"
#include "rft/core/loss_config.h"

namespace rft {

// losses_T with gradient, exact 0 at inactive tokens. Returns a scalar with gradient.
at::Tensor AggregateSum(const at::Tensor& losses_T, const PackedRows& rows,
                        const LossConfig& config);

// num_rows: those that config.row_denominator counts.
double AggregateDenominator(double num_tokens, double num_rows, const LossConfig& config);

}  // namespace rft
