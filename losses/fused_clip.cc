#include "losses/fused_clip.h"

#include <vector>

#include <torch/csrc/autograd/custom_function.h>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/scalar_tensor.h>
#include <c10/util/Exception.h>

#include "losses/aggregate.h"
#include "losses/fused_clip_kernel.h"
#include "losses/packed_rows.h"

namespace rft {
namespace {

// Rows are handed out in blocks of at least this many tokens: fixed, so that the order of additions
// does not depend on the number of threads.
constexpr int64_t kBlockTokens = 16384;

// A scalar whose gradient by logprobs_T is known already.
class KnownGradient : public torch::autograd::Function<KnownGradient> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& logprobs_T,
                            const at::Tensor& gradient_T, double value) {
    context->saved_data["gradient"] = gradient_T;
    return at::scalar_tensor(value, logprobs_T.options().requires_grad(false));
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    return {gradients[0] * context->saved_data["gradient"].toTensor(), at::Tensor(), at::Tensor()};
  }
};

std::vector<int64_t> BlockStarts(const int64_t* offsets, int64_t num_rows) {
  std::vector<int64_t> starts = {0};
  for (int64_t r = 1; r < num_rows; ++r) {
    if (offsets[r] - offsets[starts.back()] >= kBlockTokens) starts.push_back(r);
  }
  starts.push_back(num_rows);
  return starts;
}

template <typename T>
FusedClipTotals Run(const LossInput& input, const LossConfig& config, at::Tensor* gradient_T) {
  at::NoGradGuard no_grad;
  const at::Tensor lp_T = input.logprobs_T.detach().contiguous();
  std::vector<at::Tensor> held;  // contiguous copies live until the end
  const auto data = [&](const at::Tensor& x_T) -> const T* {
    if (!x_T.defined()) return nullptr;
    held.push_back(x_T.detach().contiguous());
    return held.back().template const_data_ptr<T>();
  };
  const at::Tensor offsets = input.row_offsets_R1.contiguous();
  *gradient_T = at::empty_like(lp_T);
  FusedClipArrays<T> arrays;
  arrays.logprobs = lp_T.const_data_ptr<T>();
  arrays.old_logprobs = data(input.old_logprobs_T);
  arrays.sampling_logprobs = data(input.sampling_logprobs_T);
  arrays.ref_logprobs = data(input.ref_logprobs_T);
  arrays.advantages = data(input.advantages_T);
  arrays.mask = data(input.mask_T);
  arrays.row_offsets = offsets.const_data_ptr<int64_t>();
  arrays.gradient = gradient_T->mutable_data_ptr<T>();

  const std::vector<int64_t> starts = BlockStarts(arrays.row_offsets, offsets.numel() - 1);
  const auto num_blocks = static_cast<int64_t>(starts.size()) - 1;
  std::vector<FusedClipTotals> parts(static_cast<size_t>(num_blocks));
  at::parallel_for(0, num_blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b)
      parts[b] = RunFusedClip<T>(arrays, config, starts[b], starts[b + 1]);
  });
  FusedClipTotals totals;
  for (const FusedClipTotals& part : parts) totals.Add(part);
  return totals;
}

void FillMetrics(const FusedClipTotals& t, const LossInput& input, const LossConfig& config,
                 LossOutput* output) {
  auto& sums = output->metric_sums;
  sums = {{"ratio_mean", t.ratio},
          {"clip_frac", t.clip},
          {"clip_frac_low", t.clip_low},
          {"clip_frac_high", t.clip_high},
          {"clip_frac_region", t.outside},
          {"gradient_frac", t.live},
          {"approx_kl_k1", -t.moved},
          {"approx_kl_k3", t.moved_k3},
          {"mismatch_k1", -t.mismatch},
          {"mismatch_k3", t.mismatch_k3},
          {"mismatch_abs_mean", t.mismatch_abs}};
  if (config.dual_clip) sums["dual_clip_frac"] = t.dual;
  if (config.correction) {
    sums["tis_mean"] = t.weight;
    sums["tis_sq_mean"] = t.weight_sq;
    sums["tis_clip_frac"] = t.weight_changed;
  }
  if (input.ref_logprobs_T.defined()) {
    sums["ref_kl_k1"] = t.ref_k1;
    sums["ref_kl_k2"] = t.ref_k2;
    sums["ref_kl_k3"] = t.ref_k3;
  }
  if (t.num_tokens == 0.0) return;
  output->metric_maxima = {{"ratio_max", t.ratio_max}, {"mismatch_abs_max", t.mismatch_max}};
  if (config.correction) output->metric_maxima["tis_max"] = t.weight_max;
  output->metric_minima = {{"ratio_min", t.ratio_min}};
}

}  // namespace

bool CanFuseClip(const LossInput& input, const LossConfig& config) {
  const bool plain_kl = config.kl_coef == 0.0 || config.kl_target != KlTarget::kLoss ||
                        (!config.kl_detached && (config.kl_estimator == KlEstimator::kK1 ||
                                                 config.kl_estimator == KlEstimator::kK2 ||
                                                 config.kl_estimator == KlEstimator::kK3));
  return plain_kl && input.logprobs_T.is_cpu() && !input.held_logprobs_T.defined() &&
         !input.entropy_T.defined() && config.ratio_level != RatioLevel::kSequence &&
         !config.row_mean_over_masked && !config.off_policy_mask && !config.top_entropy &&
         config.entropy_coef == 0.0 && config.sft_coef == 0.0 && !config.term_gradients;
}

LossOutput FusedClipLoss(const LossInput& input, const LossConfig& config) {
  CheckRowOffsets(input.row_offsets_R1, input.logprobs_T.numel());
  at::Tensor gradient_T;
  const FusedClipTotals totals = input.logprobs_T.scalar_type() == at::kDouble
                                     ? Run<double>(input, config, &gradient_T)
                                     : Run<float>(input, config, &gradient_T);
  LossOutput output;
  output.sum = KnownGradient::apply(input.logprobs_T, gradient_T, totals.sum);
  output.num_tokens = totals.num_tokens;
  output.num_rows = totals.num_rows;
  output.num_masked = static_cast<double>(input.logprobs_T.numel()) - totals.num_tokens;
  const double counted_rows = config.row_denominator == RowDenominator::kAll
                                  ? static_cast<double>(input.row_offsets_R1.numel() - 1)
                                  : totals.num_rows;
  output.denominator = AggregateDenominator(totals.num_tokens, counted_rows, config);
  FillMetrics(totals, input, config, &output);
  return output;
}

}  // namespace rft
