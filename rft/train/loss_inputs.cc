#include "rft/train/loss_inputs.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include "absl/strings/str_cat.h"
#include "losses/validate.h"
#include "rft/core/status_macros.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/try_torch.h"

namespace rft {
namespace {

float SftWeight(const Datum& datum, size_t t) {
  if (!datum.sft_weights.empty()) return datum.sft_weights[t];
  return !datum.advantages.empty() && datum.advantages[t] > 0.0f ? 1.0f : 0.0f;
}

}  // namespace

absl::Status ValidateLossInputs(absl::Span<const Datum> datums, const LossConfig& config) {
  if (config.name == "cross-entropy") return absl::OkStatus();
  RFT_RETURN_IF_ERROR(TryTorch([&] { CheckKlIsInTheLoss(config); }));
  for (size_t i = 0; i < datums.size(); ++i) {
    if (datums[i].advantages.empty())
      return absl::InvalidArgumentError(
          absl::StrCat("datums[", i, "].advantages: loss ", config.name, " needs them"));
    for (size_t t = 0; t < datums[i].weights.size(); ++t)
      if (datums[i].weights[t] != 0.0f && datums[i].weights[t] != 1.0f)
        return absl::InvalidArgumentError(absl::StrCat("datums[", i, "].weights[", t, "]: loss ",
                                                       config.name, " takes 0 or 1, got ",
                                                       datums[i].weights[t]));
    if (config.kl_coef != 0.0 && datums[i].ref_logprobs.empty())
      return absl::InvalidArgumentError(
          absl::StrCat("datums[", i, "].ref_logprobs: a loss with kl_coef != 0 needs them"));
  }
  return absl::OkStatus();
}

absl::Status ValidateCustomLoss(const CustomLossResult& custom, absl::Span<const Datum> datums) {
  if (custom.dlogprobs.size() != datums.size())
    return absl::InvalidArgumentError(absl::StrCat("custom loss: returned gradients for ",
                                                   custom.dlogprobs.size(), " datums, there are ",
                                                   datums.size()));
  for (size_t i = 0; i < datums.size(); ++i)
    if (custom.dlogprobs[i].size() != datums[i].ids.size())
      return absl::InvalidArgumentError(
          absl::StrCat("custom loss: dlogprobs[", i, "] has ", custom.dlogprobs[i].size(),
                       " entries, the datum has ", datums[i].ids.size(), " tokens"));
  if (!(custom.denominator >= 0.0) || std::isinf(custom.denominator))
    return absl::InvalidArgumentError(absl::StrCat("custom loss: its denominator is ",
                                                   custom.denominator,
                                                   "; expected a number of at least 0"));
  return absl::OkStatus();
}

LossInput LossInputs(absl::Span<const Datum> datums, const MicroBatch& batch,
                     const at::Tensor& logprobs_N) {
  const auto n = static_cast<int64_t>(batch.predictions.size());
  const at::Tensor current = logprobs_N.detach();
  LossInput input;
  input.logprobs_T = logprobs_N;
  input.old_logprobs_T = current.clone();
  input.mask_T = at::zeros({n}, at::kFloat);
  input.advantages_T = at::zeros({n}, at::kFloat);
  input.ref_logprobs_T = current.clone();
  input.sampling_logprobs_T = at::zeros({n}, at::kFloat);
  const bool has_sft_weights =
      std::any_of(batch.predictions.begin(), batch.predictions.end(),
                  [&](const auto& p) { return !datums[p.datum].sft_weights.empty(); });
  if (has_sft_weights) input.sft_weights_T = at::zeros({n}, at::kFloat);
  std::vector<int64_t> offsets = {0};
  for (int64_t i = 0; i < n; ++i) {
    const auto& p = batch.predictions[i];
    const Datum& d = datums[p.datum];
    if (i > 0 && batch.predictions[i - 1].datum != p.datum) offsets.push_back(i);
    Data<float>(input.mask_T)[i] = d.weights[p.token];
    if (!d.advantages.empty()) Data<float>(input.advantages_T)[i] = d.advantages[p.token];
    if (has_sft_weights) Data<float>(input.sft_weights_T)[i] = SftWeight(d, p.token);
    if (!d.old_logprobs.empty()) Data<float>(input.old_logprobs_T)[i] = d.old_logprobs[p.token];
    if (!d.ref_logprobs.empty()) Data<float>(input.ref_logprobs_T)[i] = d.ref_logprobs[p.token];
    Data<float>(input.sampling_logprobs_T)[i] = d.sampling_logprobs.empty()
                                                    ? Data<float>(input.old_logprobs_T)[i]
                                                    : d.sampling_logprobs[p.token];
  }
  offsets.push_back(n);
  input.row_offsets_R1 = at::tensor(offsets, at::kLong);
  return input;
}

}  // namespace rft
