#include "losses/presets.h"

#include <limits>

#include "losses/loss.h"

namespace rft {
namespace {

using C = LossConfig*;
using Level = ImportanceCorrection::Level;
using Mode = ImportanceCorrection::Mode;

constexpr double kInf = std::numeric_limits<double>::infinity();

// --- Building blocks --------------------------------------------------------------------------

// Without guards or correction: where TRL and Tinker start from.
void Bare(C c) {
  c->log_ratio_cap.reset();
  c->log_ratio_cap_max.reset();
  c->correction.reset();
}

void TokenSum(C c) { c->aggregation = Aggregation::kTokenSum; }
void TokenMean(C c) { c->aggregation = Aggregation::kTokenMean; }
void AllRows(C c) { c->row_denominator = RowDenominator::kAll; }

void Correct(C c, Level level, Mode mode, double cap, double log_cap) {
  c->correction = ImportanceCorrection{};
  c->correction->level = level;
  c->correction->mode = mode;
  c->correction->cap = cap;
  c->correction->log_cap = log_cap;
}

void Bounds(C c, double low, double high) {
  c->clip_low = low;
  c->clip_high = high;
}

// --- Fireworks cookbook: token sums, token correction truncated at 5, log ratios within +-20 -----

void Fireworks(C c) {
  TokenSum(c);
  c->log_ratio_cap = 20.0;
  c->correction = ImportanceCorrection{};
}
void FireworksGrpo(C c) {
  Fireworks(c);
  c->kl_coef = 0.001;
}
void FireworksGspo(C c) {
  Fireworks(c);
  Bounds(c, 0.2, 0.2);
  c->log_ratio_cap.reset();
  c->row_mean_over_masked = true;
}
void FireworksDro(C c) {
  Fireworks(c);
  c->dro.gate_zero_advantage = true;
}
void FireworksReinforce(C c) {
  TokenSum(c);
  c->ratio_anchor = RatioAnchor::kSampling;
  c->kl_coef = 0.01;
  c->kl_estimator = KlEstimator::kK1;
  c->kl_detached = true;
}

// --- Tinker's built-ins: token sums against the sampler, nothing else --------------------------

void Tinker(C c) {
  Bare(c);
  TokenSum(c);
  c->ratio_anchor = RatioAnchor::kSampling;
}

// --- TRL ----------------------------------------------------------------------------------------

void TrlRows(C c) {
  Bare(c);
  AllRows(c);
}
void TrlGspo(C c) {
  TrlRows(c);
  c->ratio_level = RatioLevel::kSequence;
  Bounds(c, 3e-4, 4e-4);
}
void TrlKl(C c) {
  TrlRows(c);
  c->kl_coef = 0.04;
}
void TrlCorrected(C c, Level level, Mode mode) {
  Bare(c);
  c->clip_high = 0.2;
  c->kl_coef = 0.04;
  Correct(c, level, mode, 3.0, kInf);
}

// --- verl ---------------------------------------------------------------------------------------

void Verl(C c) {
  c->correction.reset();
  c->dual_clip = 3.0;
}
void VerlCorrected(C c, Level level, Mode mode) {
  Verl(c);
  TokenMean(c);
  Correct(c, level, mode, 2.0, 20.0);
}
void VerlReinforceIs(C c) {
  c->ratio_anchor = RatioAnchor::kSampling;
  Bounds(c, 1.0, 1.0);
  c->aggregation = Aggregation::kSeqMeanTokenSum;
  c->correction.reset();
}

}  // namespace

const std::vector<LossPreset>& LossPresets() {
  static const auto* presets = new std::vector<LossPreset>{
      {"rft.grpo", "grpo", [](C c) { c->kl_coef = 0.001; }},
      {"rft.dapo", "dapo", [](C) {}},
      {"rft.gspo-token", "gspo-token", [](C) {}},
      {"rft.gspo", "gspo", [](C) {}},
      {"rft.dr_grpo", "dr-grpo", [](C) {}},
      {"rft.cispo", "cispo", [](C) {}},
      {"rft.reinforce", "reinforce", [](C) {}},

      {"fireworks.grpo", "grpo", FireworksGrpo},
      {"fireworks.grpo_seq_tis", "grpo",
       [](C c) { FireworksGrpo(c), c->correction->level = Level::kSequenceGeometric; }},
      {"fireworks.grpo_icepop", "grpo", [](C c) { FireworksGrpo(c), c->correction->icepop = 2.0; }},
      {"fireworks.dapo", "dapo", Fireworks},
      {"fireworks.dapo_dual", "dapo", [](C c) { Fireworks(c), c->dual_clip = 3.0; }},
      {"fireworks.gspo", "gspo-token", FireworksGspo},
      {"fireworks.cispo", "cispo", [](C c) { Fireworks(c), Bounds(c, 0.2, 0.28); }},
      {"fireworks.importance_sampling", "importance-sampling", Fireworks},
      {"fireworks.dro", "dro", FireworksDro},
      {"fireworks.reinforce", "importance-sampling", FireworksReinforce},

      {"tinker.importance_sampling", "importance-sampling", Tinker},
      {"tinker.ppo", "ppo", Tinker},
      {"tinker.cispo", "cispo", Tinker},

      {"trl.grpo", "grpo", TrlRows},
      {"trl.grpo_kl", "grpo", [](C c) { TrlKl(c), c->kl_times_ratio = true; }},
      {"trl.grpo_kl_plain", "grpo", TrlKl},
      {"trl.grpo_delta", "grpo", [](C c) { TrlRows(c), c->delta = 4.0; }},
      {"trl.grpo_opsm", "grpo", [](C c) { TrlRows(c), c->off_policy_mask = OffPolicyMask{}; }},
      {"trl.bnpo", "ppo", Bare},
      {"trl.dr_grpo", "dr-grpo", TrlRows},
      {"trl.dapo", "dapo", Bare},
      {"trl.dapo_entropy", "ppo", [](C c) { Bare(c), c->top_entropy = 0.2; }},
      {"trl.dapo_token_truncate", "dapo",
       [](C c) { TrlCorrected(c, Level::kToken, Mode::kTruncate); }},
      {"trl.dapo_token_mask", "dapo", [](C c) { TrlCorrected(c, Level::kToken, Mode::kMask); }},
      {"trl.dapo_sequence_truncate", "dapo",
       [](C c) { TrlCorrected(c, Level::kSequenceProduct, Mode::kTruncate); }},
      {"trl.dapo_sequence_mask", "dapo",
       [](C c) { TrlCorrected(c, Level::kSequenceProduct, Mode::kMask); }},
      {"trl.cispo", "cispo", [](C c) { Bare(c), Bounds(c, 1.0, 4.0); }},
      {"trl.gspo", "gspo", TrlGspo},
      {"trl.luspo", "luspo", TrlGspo},
      {"trl.sapo", "sapo", TrlRows},
      {"trl.vespo", "vespo", [](C) {}},
      {"trl.vespo_tis", "vespo",
       [](C c) { Correct(c, Level::kToken, Mode::kTruncate, 3.0, kInf); }},

      {"verl.vanilla/token-mean", "grpo", [](C c) { Verl(c), TokenMean(c); }},
      {"verl.vanilla/token-sum", "grpo", [](C c) { Verl(c), TokenSum(c); }},
      {"verl.vanilla/seq-mean-token-sum", "grpo",
       [](C c) { Verl(c), c->aggregation = Aggregation::kSeqMeanTokenSum; }},
      {"verl.vanilla/seq-mean-token-mean", "grpo", Verl},
      {"verl.vanilla/seq-mean-token-sum-norm", "dr-grpo", Verl},
      {"verl.vanilla_cliphigher", "dapo", [](C c) { Verl(c), c->dual_clip = 10.0; }},
      {"verl.vanilla_tis_token", "grpo",
       [](C c) { VerlCorrected(c, Level::kToken, Mode::kTruncate); }},
      {"verl.vanilla_tis_seq", "grpo",
       [](C c) { VerlCorrected(c, Level::kSequenceProduct, Mode::kTruncate); }},
      {"verl.vanilla_icepop", "grpo",
       [](C c) { VerlCorrected(c, Level::kToken, Mode::kMask), c->correction->floor = 0.5; }},
      {"verl.gspo", "gspo-token", [](C c) { c->correction.reset(); }},
      {"verl.sapo", "sapo", [](C) {}},
      {"verl.gpg", "reinforce", [](C) {}},
      {"verl.geo_mean", "gmpo", [](C) {}},
      {"verl.cispo", "cispo", [](C c) { c->correction.reset(), Bounds(c, 0.2, 0.2); }},
      {"verl.dro", "dro", [](C) {}},
      {"verl.dppo_tv", "dppo-tv", [](C) {}},
      {"verl.dppo_kl", "dppo-kl", [](C) {}},
      {"verl.kl_cov", "kl-cov", [](C c) { c->covariance.kl_coef = 0.1; }},
      {"verl.clip_cov", "clip-cov", [](C) {}},
      {"verl.reinforce_is", "cispo", VerlReinforceIs},
  };
  return *presets;
}

std::vector<std::string> LossPresetNames() {
  std::vector<std::string> names;
  for (const LossPreset& preset : LossPresets()) names.emplace_back(preset.name);
  return names;
}

const LossPreset* FindLossPreset(std::string_view name) {
  for (const LossPreset& preset : LossPresets()) {
    if (name == preset.name) return &preset;
  }
  return nullptr;
}

LossConfig PresetConfig(const LossPreset& preset) {
  LossConfig config = FindLoss(preset.loss).DefaultConfig();
  preset.change(&config);
  return config;
}

}  // namespace rft
