#include "rft/api/not_finite.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"

namespace rft {
namespace {

constexpr float kSquareOverflows = 1.9e19f;

// "advantages[7] is nan": the first number that counts and is not below `limit`, or nothing.
std::string Find(const Datum& datum, const char* name, const std::vector<float>& values,
                 float limit) {
  const size_t count = std::min(values.size(), datum.weights.size());
  for (size_t t = 0; t < count; ++t)
    if (datum.weights[t] != 0.0f && !(std::abs(values[t]) < limit))
      return absl::StrCat(name, "[", t, "] is ", values[t]);
  return "";
}

// Whether one was found.
bool Name(absl::Span<const Datum> datums, absl::Span<const std::vector<float>> gradient,
          float limit, ForwardBackwardResult* result) {
  static const std::vector<float> kNone;
  for (size_t i = 0; i < datums.size(); ++i) {
    const Datum& d = datums[i];
    const std::pair<const char*, const std::vector<float>*> vectors[] = {
        {"weights", &d.weights},
        {"advantages", &d.advantages},
        {"old_logprobs", &d.old_logprobs},
        {"sampling_logprobs", &d.sampling_logprobs},
        {"ref_logprobs", &d.ref_logprobs},
        {"sft_weights", &d.sft_weights},
        {"the log-probability of ids", i < result->logprobs.size() ? &result->logprobs[i] : &kNone},
        {"d loss / d logprob", i < gradient.size() ? &gradient[i] : &kNone}};
    for (const auto& [name, values] : vectors) {
      std::string found = Find(d, name, *values, limit);
      if (found.empty()) continue;
      result->not_finite_datum = static_cast<int64_t>(i);
      result->not_finite = std::move(found);
      return true;
    }
  }
  return false;
}

}  // namespace

void NameNotFinite(absl::Span<const Datum> datums, absl::Span<const std::vector<float>> gradient,
                   ForwardBackwardResult* result) {
  if (result->finite) return;
  if (!Name(datums, gradient, std::numeric_limits<float>::infinity(), result))
    Name(datums, gradient, kSquareOverflows, result);
}

}  // namespace rft
