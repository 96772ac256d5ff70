#include "rft/train/preference.h"

#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include "absl/strings/str_cat.h"
#include "rft/tensor/dispatch.h"

namespace rft {

absl::Status ValidatePreference(absl::Span<const Datum> datums, const PreferenceLoss& loss) {
  const auto invalid = [](size_t i, const char* what) {
    return absl::InvalidArgumentError(absl::StrCat("datums[", i, "]", what));
  };
  if (datums.empty()) return absl::InvalidArgumentError("datums: is empty");
  if (loss.is_paired() && datums.size() % 2 != 0)
    return absl::InvalidArgumentError(
        absl::StrCat("datums: ", datums.size(),
                     " is odd; this loss takes pairs: chosen, rejected, chosen, rejected, ..."));
  for (size_t i = 0; i < datums.size(); ++i) {
    const Datum& d = datums[i];
    int64_t tokens = 0;
    for (float w : d.weights) {
      if (w != 0.0f && w != 1.0f) return invalid(i, ".weights: a preference loss takes 0 or 1");
      tokens += w != 0.0f;
    }
    if (tokens == 0) return invalid(i, ".weights: the completion has no token");
    if (loss.needs_reference() && d.ref_logprobs.empty())
      return invalid(i, ".ref_logprobs: this loss needs them");
    if (!loss.is_paired() && d.advantages.empty())
      return invalid(i, ".advantages: this loss needs a label, above 0 for a desirable completion");
  }
  return absl::OkStatus();
}

std::vector<std::pair<size_t, size_t>> PreferenceChunks(absl::Span<const Datum> datums,
                                                        const PreferenceLoss& loss,
                                                        int64_t token_budget) {
  const size_t unit = loss.is_paired() ? 2 : 1;
  std::vector<std::pair<size_t, size_t>> chunks;
  int64_t used = 0;
  for (size_t i = 0; i < datums.size(); i += unit) {
    int64_t size = 0;
    for (size_t j = i; j < i + unit; ++j) size += static_cast<int64_t>(datums[j].ids.size());
    if (chunks.empty() || used + size > token_budget) {
      chunks.push_back({i, i});
      used = 0;
    }
    chunks.back().second = i + unit;
    used += size;
  }
  return chunks;
}

PreferenceInput PreferenceInputs(absl::Span<const Datum> chunk, const MicroBatch& batch,
                                 const at::Tensor& logprobs_N, const PreferenceLoss& loss) {
  const auto rows = static_cast<int64_t>(chunk.size());
  const auto n = static_cast<int64_t>(batch.predictions.size());
  at::Tensor row_N = at::zeros({n}, at::kLong), tokens_R = at::zeros({rows}, at::kDouble),
             ref_R = at::zeros({rows}, at::kDouble), label_R = at::zeros({rows}, at::kDouble);
  for (int64_t i = 0; i < n; ++i) {
    const auto& p = batch.predictions[i];
    Data<int64_t>(row_N)[i] = p.datum;
    Data<double>(tokens_R)[p.datum] += 1.0;
    if (loss.needs_reference())
      Data<double>(ref_R)[p.datum] += chunk[p.datum].ref_logprobs[p.token];
    if (!loss.is_paired() && chunk[p.datum].advantages[p.token] > 0.0f)
      Data<double>(label_R)[p.datum] = 1.0;
  }
  PreferenceInput input;
  input.logps_R = at::zeros({rows}, at::kDouble).index_add(0, row_N, logprobs_N.to(at::kDouble));
  if (loss.needs_reference()) input.ref_logps_R = ref_R;
  input.tokens_R = tokens_R;
  if (!loss.is_paired()) input.desirable_R = label_R;
  return input;
}

}  // namespace rft
