#include "rft/config/loss_options.h"

#include <array>
#include <limits>
#include <string_view>
#include <variant>

#include "absl/strings/str_cat.h"
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
constexpr std::array<std::string_view, 7> kKlEstimators = {"k1",      "k2",  "k3", "abs",
                                                           "low-var", "k1+", "k3+"};
constexpr std::array<std::string_view, 3> kKlTargets = {"loss", "reward", "advantage"};
constexpr std::array<std::string_view, 3> kRatioLevels = {"token", "sequence", "sequence-token"};
constexpr std::array<std::string_view, 2> kRatioAnchors = {"old", "sampling"};
constexpr std::array<std::string_view, 2> kRowDenominators = {"active", "all"};
constexpr std::array<std::string_view, 2> kAgainst = {"sampling", "old"};
constexpr std::array<std::string_view, 3> kLevels = {"token", "sequence-geometric",
                                                     "sequence-product"};
constexpr std::array<std::string_view, 2> kModes = {"truncate", "mask"};

template <typename T>
void Override(const std::optional<T>& given, T* value) {
  if (given) *value = *given;
}
// 0 switches it off.
void Override(const std::optional<double>& given, std::optional<double>* value) {
  if (given) *value = *given == 0.0 ? std::nullopt : given;
}

template <typename Enum, size_t N>
void Override(const std::optional<std::string>& given, const std::array<std::string_view, N>& words,
              Enum* value) {
  if (given) *value = FromWord<Enum>(*given, words);
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
  Override(given.level, kLevels, &correction.level);
  Override(given.mode, kModes, &correction.mode);
  Override(given.cap, &correction.cap);
  Override(given.floor, &correction.floor);
  Override(given.log_cap, &correction.log_cap);
  if (correction.log_cap == 0.0) correction.log_cap = std::numeric_limits<double>::infinity();
  Override(given.icepop, &correction.icepop);
  config->correction = correction;
}

void ApplyOffPolicyMask(const OffPolicyMaskOptions& given, LossConfig* config) {
  if (!given.delta && !given.against) return;
  OffPolicyMask mask = config->off_policy_mask.value_or(OffPolicyMask{});
  Override(given.delta, &mask.delta);
  Override(given.against, kAgainst, &mask.against);
  config->off_policy_mask = mask;
  if (given.delta == 0.0) config->off_policy_mask.reset();
}

}  // namespace

std::vector<std::string> LossOptions::SetKnobs() const {
  struct Collector : ConfigVisitor {
    std::vector<std::string> knobs;
    std::string section;
    void Field(const char* name, FieldRef field, const FieldInfo& /*info*/) override {
      const bool set = std::visit(
          [](auto* value) {
            if constexpr (requires { value->has_value(); })
              return value->has_value();
            else
              return false;  // `name`
          },
          field);
      if (set) knobs.push_back(section + name);
    }
    void BeginSection(const char* name, const char* /*doc*/) override {
      section = absl::StrCat(name, ".");
    }
    void EndSection() override { section.clear(); }
  };
  LossOptions copy = *this;
  Collector collector;
  copy.Visit(collector);
  return collector.knobs;
}

LossConfig LossOptions::ApplyTo(LossConfig config) const {
  Override(clip_low, &config.clip_low);
  Override(clip_high, &config.clip_high);
  Override(dual_clip, &config.dual_clip);
  Override(delta, &config.delta);
  Override(ratio_level, kRatioLevels, &config.ratio_level);
  Override(ratio_anchor, kRatioAnchors, &config.ratio_anchor);
  Override(row_mean_over_masked, &config.row_mean_over_masked);
  Override(log_ratio_cap, &config.log_ratio_cap);
  Override(log_ratio_cap_max, &config.log_ratio_cap_max);
  Override(aggregation, kAggregations, &config.aggregation);
  Override(agg_norm, &config.agg_norm);
  Override(row_denominator, kRowDenominators, &config.row_denominator);
  Override(kl_coef, &config.kl_coef);
  Override(kl_estimator, kKlEstimators, &config.kl_estimator);
  Override(kl_target, kKlTargets, &config.kl_target);
  if (config.kl_target != KlTarget::kLoss && !kl_estimator) config.kl_estimator = KlEstimator::kK1;
  Override(kl_times_ratio, &config.kl_times_ratio);
  Override(kl_detached, &config.kl_detached);
  ApplyCorrection(correction, &config);
  ApplyOffPolicyMask(off_policy_mask, &config);
  Override(top_entropy, &config.top_entropy);
  Override(entropy_coef, &config.entropy_coef);
  Override(sft_coef, &config.sft_coef);
  Override(term_gradients, &config.term_gradients);
  Override(dro.beta, &config.dro.beta);
  Override(dro.gate_zero_advantage, &config.dro.gate_zero_advantage);
  Override(sapo.tau_positive, &config.sapo.tau_positive);
  Override(sapo.tau_negative, &config.sapo.tau_negative);
  Override(vespo.k_positive, &config.vespo.k_positive);
  Override(vespo.lambda_positive, &config.vespo.lambda_positive);
  Override(vespo.k_negative, &config.vespo.k_negative);
  Override(vespo.lambda_negative, &config.vespo.lambda_negative);
  Override(covariance.fraction, &config.covariance.fraction);
  Override(covariance.low, &config.covariance.low);
  Override(covariance.high, &config.covariance.high);
  Override(covariance.kl_coef, &config.covariance.kl_coef);
  return config;
}

}  // namespace rft
