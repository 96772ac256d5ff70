#include "rft/config/loss_options.h"

#include <array>
#include <string_view>

#include "rft/core/check.h"

namespace rft {
namespace {

// The position of `word` among `words`, as an enum whose values are in the same order.
template <typename Enum, size_t N>
Enum FromWord(std::string_view word, const std::array<std::string_view, N>& words) {
  for (size_t i = 0; i < N; ++i) {
    if (words[i] == word) return static_cast<Enum>(i);
  }
  RFT_CHECK(false && "text outside its choices");
}

constexpr std::array<std::string_view, 5> kAggregations = {
    "token-sum", "token-mean", "seq-mean-token-mean", "seq-mean-token-sum",
    "seq-mean-token-sum-norm"};
constexpr std::array<std::string_view, 3> kKlEstimators = {"k1", "k2", "k3"};
constexpr std::array<std::string_view, 3> kLevels = {"token", "sequence-geometric",
                                                     "sequence-product"};
constexpr std::array<std::string_view, 2> kModes = {"truncate", "mask"};

template <typename T>
void Override(const std::optional<T>& given, T* value) {
  if (given) *value = *given;
}
void Override(const std::optional<double>& given, std::optional<double>* value) {
  if (given) *value = given;
}

void ApplyCorrection(const CorrectionOptions& given, LossConfig* config) {
  if (given.level == "none") {
    config->correction.reset();
    return;
  }
  const bool any =
      given.level || given.mode || given.cap || given.floor || given.log_cap || given.icepop;
  if (!any) return;
  ImportanceCorrection correction = config->correction.value_or(ImportanceCorrection{});
  if (given.level) correction.level = FromWord<ImportanceCorrection::Level>(*given.level, kLevels);
  if (given.mode) correction.mode = FromWord<ImportanceCorrection::Mode>(*given.mode, kModes);
  Override(given.cap, &correction.cap);
  Override(given.floor, &correction.floor);
  Override(given.log_cap, &correction.log_cap);
  Override(given.icepop, &correction.icepop);
  config->correction = correction;
}

}  // namespace

LossConfig LossOptions::ApplyTo(LossConfig config) const {
  config.name = name;
  Override(clip_low, &config.clip_low);
  Override(clip_high, &config.clip_high);
  Override(dual_clip, &config.dual_clip);
  Override(delta, &config.delta);
  Override(log_ratio_cap, &config.log_ratio_cap);
  Override(log_ratio_cap_max, &config.log_ratio_cap_max);
  Override(agg_norm, &config.agg_norm);
  Override(kl_coef, &config.kl_coef);
  if (aggregation) config.aggregation = FromWord<Aggregation>(*aggregation, kAggregations);
  if (kl_estimator) config.kl_estimator = FromWord<KlEstimator>(*kl_estimator, kKlEstimators);
  ApplyCorrection(correction, &config);
  return config;
}

}  // namespace rft
