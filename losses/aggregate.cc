#include "losses/aggregate.h"

#include <ATen/TensorOperators.h>

namespace rft {

at::Tensor AggregateSum(const at::Tensor& losses_T, const PackedRows& rows,
                        const LossConfig& config) {
  switch (config.aggregation) {
    case Aggregation::kSeqMeanTokenMean: {
      const at::Tensor share_T = rows.Spread(rows.counts_R().clamp_min(1.0).reciprocal(), losses_T);
      return (losses_T * share_T).sum();
    }
    case Aggregation::kSeqMeanTokenSumNorm:
      return losses_T.sum() / config.agg_norm;
    case Aggregation::kTokenSum:
    case Aggregation::kTokenMean:
    case Aggregation::kSeqMeanTokenSum:
      break;
  }
  return losses_T.sum();
}

double AggregateDenominator(double num_tokens, double num_rows, const LossConfig& config) {
  if (config.aggregation == Aggregation::kTokenSum) return 0.0;
  return config.aggregation == Aggregation::kTokenMean ? num_tokens : num_rows;
}

}  // namespace rft
