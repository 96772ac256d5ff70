#include "tests/losses/loss_presets.h"

#include <limits>
#include <optional>
#include <stdexcept>

#include "losses/loss.h"

namespace rft::testing {
namespace {

using Level = ImportanceCorrection::Level;
using Mode = ImportanceCorrection::Mode;

// Oracle rows have at most 11 tokens; its constant L of Dr.GRPO is 16.
constexpr double kAggNorm = 16.0;

// Plain PPO clipping without guards or correction: where TRL starts from.
void Bare(LossConfig* c) {
  c->log_ratio_cap.reset();
  c->log_ratio_cap_max.reset();
  c->correction.reset();
}

void Verl(LossConfig* c) {
  c->correction.reset();
  c->dual_clip = 3.0;
}

void TokenSum(LossConfig* c) { c->aggregation = Aggregation::kTokenSum; }
void TokenMean(LossConfig* c) { c->aggregation = Aggregation::kTokenMean; }
void Norm(LossConfig* c) {
  c->aggregation = Aggregation::kSeqMeanTokenSumNorm;
  c->agg_norm = kAggNorm;
}
void Kl(LossConfig* c, double coef) { c->kl_coef = coef; }

void Correct(LossConfig* c, Level level, Mode mode, double cap, double log_cap) {
  c->correction = ImportanceCorrection{};
  c->correction->level = level;
  c->correction->mode = mode;
  c->correction->cap = cap;
  c->correction->log_cap = log_cap;
}

void FireworksGrpo(LossConfig* c) {
  TokenSum(c);
  Kl(c, 0.001);
}

void TrlDapoCorrected(LossConfig* c, Level level, Mode mode) {
  Bare(c);
  c->clip_high = 0.2;
  Kl(c, 0.04);
  Correct(c, level, mode, 3.0, std::numeric_limits<double>::infinity());
}

void VerlCorrected(LossConfig* c, Level level, Mode mode) {
  Verl(c);
  TokenMean(c);
  Correct(c, level, mode, 2.0, 20.0);
}

}  // namespace

const std::vector<LossPreset>& LossPresets() {
  using C = LossConfig*;
  static const auto* presets = new std::vector<LossPreset>{
      {"rft.grpo", "grpo", [](C c) { Kl(c, 0.001); }},
      {"rft.dapo", "dapo", [](C) {}},
      {"rft.gspo-token", "gspo-token", [](C) {}},
      {"rft.dr_grpo", "grpo", Norm},
      {"fireworks.grpo", "grpo", FireworksGrpo},
      {"fireworks.grpo_seq_tis", "grpo",
       [](C c) { FireworksGrpo(c), c->correction->level = Level::kSequenceGeometric; }},
      {"fireworks.grpo_icepop", "grpo", [](C c) { FireworksGrpo(c), c->correction->icepop = 2.0; }},
      {"fireworks.dapo", "dapo", TokenSum},
      {"fireworks.dapo_dual", "dapo", [](C c) { TokenSum(c), c->dual_clip = 3.0; }},
      {"trl.grpo", "grpo", Bare},
      {"trl.grpo_kl_plain", "grpo", [](C c) { Bare(c), Kl(c, 0.04); }},
      {"trl.grpo_delta", "grpo", [](C c) { Bare(c), c->delta = 4.0; }},
      {"trl.bnpo", "grpo", [](C c) { Bare(c), TokenMean(c); }},
      {"trl.dr_grpo", "grpo", [](C c) { Bare(c), Norm(c); }},
      {"trl.dapo", "dapo", Bare},
      {"trl.gspo", "gspo-token", Bare},
      {"trl.luspo", "gspo-token",
       [](C c) { Bare(c), c->aggregation = Aggregation::kSeqMeanTokenSum; }},
      {"trl.dapo_token_truncate", "dapo",
       [](C c) { TrlDapoCorrected(c, Level::kToken, Mode::kTruncate); }},
      {"trl.dapo_token_mask", "dapo", [](C c) { TrlDapoCorrected(c, Level::kToken, Mode::kMask); }},
      {"trl.dapo_sequence_truncate", "dapo",
       [](C c) { TrlDapoCorrected(c, Level::kSequenceProduct, Mode::kTruncate); }},
      {"trl.dapo_sequence_mask", "dapo",
       [](C c) { TrlDapoCorrected(c, Level::kSequenceProduct, Mode::kMask); }},
      {"verl.vanilla/token-mean", "grpo", [](C c) { Verl(c), TokenMean(c); }},
      {"verl.vanilla/token-sum", "grpo", [](C c) { Verl(c), TokenSum(c); }},
      {"verl.vanilla/seq-mean-token-sum", "grpo",
       [](C c) { Verl(c), c->aggregation = Aggregation::kSeqMeanTokenSum; }},
      {"verl.vanilla/seq-mean-token-mean", "grpo", Verl},
      {"verl.vanilla/seq-mean-token-sum-norm", "grpo", [](C c) { Verl(c), Norm(c); }},
      {"verl.vanilla_cliphigher", "dapo", [](C c) { Verl(c), c->dual_clip = 10.0; }},
      {"verl.gspo", "gspo-token", [](C c) { c->correction.reset(); }},
      {"verl.vanilla_tis_token", "grpo",
       [](C c) { VerlCorrected(c, Level::kToken, Mode::kTruncate); }},
      {"verl.vanilla_tis_seq", "grpo",
       [](C c) { VerlCorrected(c, Level::kSequenceProduct, Mode::kTruncate); }},
      {"verl.vanilla_icepop", "grpo",
       [](C c) { VerlCorrected(c, Level::kToken, Mode::kMask), c->correction->floor = 0.5; }},
  };
  return *presets;
}

LossConfig PresetConfig(const std::string& preset) {
  for (const LossPreset& one : LossPresets()) {
    if (one.preset != preset) continue;
    LossConfig config = FindLoss(one.loss).DefaultConfig();
    one.change(&config);
    return config;
  }
  throw std::out_of_range("no LossConfig for preset " + preset);
}

}  // namespace rft::testing
