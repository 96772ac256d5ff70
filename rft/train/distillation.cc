#include "rft/train/distillation.h"

#include <ATen/ops/empty.h>

#include "absl/strings/str_cat.h"
#include "rft/tensor/dispatch.h"

namespace rft {

absl::Status ValidateTeacher(absl::Span<const Datum> datums, const Description& teacher,
                             int64_t vocab_size) {
  const auto k = static_cast<size_t>(teacher.top_k);
  if (k < 1) return absl::InvalidArgumentError("teacher: describe it with top_k of at least 1");
  if (teacher.top_ids.size() != datums.size() || teacher.top_logprobs.size() != datums.size())
    return absl::InvalidArgumentError(absl::StrCat("teacher: describes ", teacher.top_ids.size(),
                                                   " datums, there are ", datums.size()));
  for (size_t i = 0; i < datums.size(); ++i) {
    const std::vector<float>& weights = datums[i].weights;
    if (teacher.top_ids[i].size() != weights.size() * k ||
        teacher.top_logprobs[i].size() != weights.size() * k)
      return absl::InvalidArgumentError(absl::StrCat("teacher: datums[", i, "] has ",
                                                     teacher.top_ids[i].size(), " ids, needs ",
                                                     weights.size(), " times ", k));
    for (size_t t = 0; t < weights.size(); ++t)
      for (size_t j = t * k; weights[t] != 0.0f && j < (t + 1) * k; ++j)
        if (teacher.top_ids[i][j] < 0 || teacher.top_ids[i][j] >= vocab_size)
          return absl::InvalidArgumentError(
              absl::StrCat("teacher: datums[", i, "], position ", t, ": id ", teacher.top_ids[i][j],
                           " is outside the student's vocabulary of ", vocab_size));
  }
  return absl::OkStatus();
}

TeacherTokens TeacherTokensOf(absl::Span<const Datum> datums, const MicroBatch& batch,
                              const Description& teacher) {
  const auto n = static_cast<int64_t>(batch.predictions.size());
  const int64_t k = teacher.top_k;
  TeacherTokens tokens{at::empty({n, k}, at::kLong), at::empty({n, k}, at::kFloat),
                       at::empty({n}, at::kDouble)};
  for (int64_t i = 0; i < n; ++i) {
    const auto& p = batch.predictions[i];
    Data<double>(tokens.weights_N)[i] = datums[p.datum].weights[p.token];
    for (int64_t j = 0; j < k; ++j) {
      Data<int64_t>(tokens.ids_NK)[i * k + j] = teacher.top_ids[p.datum][p.token * k + j];
      Data<float>(tokens.logprobs_NK)[i * k + j] = teacher.top_logprobs[p.datum][p.token * k + j];
    }
  }
  return tokens;
}

}  // namespace rft
