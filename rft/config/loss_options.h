// The `losses:` section: a loss's name and overrides for its knobs. Unset means the loss's own
// default, so everything here is optional until ApplyTo lays it over LossConfig defaults
// (Loss::DefaultConfig()).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "rft/config/field.h"
#include "rft/core/loss_config.h"

namespace rft {

struct CorrectionOptions {
  std::optional<std::string> level;
  std::optional<std::string> mode;
  std::optional<double> cap;
  std::optional<double> floor;
  std::optional<double> log_cap;
  std::optional<double> icepop;

  void Visit(ConfigVisitor& v) {
    v.Field("level", &level,
            {.doc = "What the train / inference ratio is taken over; none: no correction.",
             .choices = {"token", "sequence-geometric", "sequence-product", "none"}});
    v.Field("mode", &mode,
            {.doc = "What happens to a ratio beyond the bounds.", .choices = {"truncate", "mask"}});
    v.Field("cap", &cap, {.doc = "Upper bound of the ratio.", .above = 0});
    v.Field("floor", &floor, {.doc = "Lower bound of the ratio.", .min = 0});
    v.Field("log_cap", &log_cap,
            {.doc = "|log ratio| is clamped to this before exp.", .unit = "nats", .above = 0});
    v.Field("icepop", &icepop, {.doc = "Zero outside [1/icepop, icepop].", .above = 1});
  }
};

struct LossOptions {
  std::string name = "grpo";
  std::optional<double> clip_low;
  std::optional<double> clip_high;
  std::optional<double> dual_clip;
  std::optional<double> delta;
  std::optional<double> log_ratio_cap;
  std::optional<double> log_ratio_cap_max;
  std::optional<std::string> aggregation;
  std::optional<double> agg_norm;
  std::optional<double> kl_coef;
  std::optional<std::string> kl_estimator;
  CorrectionOptions correction;

  void Visit(ConfigVisitor& v) {
    v.Field("name", &name, {.doc = "Registered name of the loss: grpo, dapo, gspo-token, ..."});
    v.Field(
        "clip_low", &clip_low,
        {.doc = "Ratio below 1 - clip_low is clipped when the advantage is negative.", .min = 0});
    v.Field(
        "clip_high", &clip_high,
        {.doc = "Ratio above 1 + clip_high is clipped when the advantage is positive.", .min = 0});
    v.Field("dual_clip", &dual_clip,
            {.doc = "c > 1: for a negative advantage A the loss is at most -c A.", .above = 1});
    v.Field("delta", &delta, {.doc = "Largest ratio of the unclipped branch.", .above = 0});
    v.Field("log_ratio_cap", &log_ratio_cap,
            {.doc = "Largest |log ratio|; no gradient beyond.", .unit = "nats", .above = 0});
    v.Field("log_ratio_cap_max", &log_ratio_cap_max,
            {.doc = "Largest log ratio, above only.", .unit = "nats", .above = 0});
    v.Field("aggregation", &aggregation,
            {.doc = "How token losses become one number.",
             .choices = {"token-sum", "token-mean", "seq-mean-token-mean", "seq-mean-token-sum",
                         "seq-mean-token-sum-norm"}});
    v.Field("agg_norm", &agg_norm,
            {.doc = "The constant of seq-mean-token-sum-norm.", .unit = "tokens", .above = 0});
    v.Field("kl_coef", &kl_coef,
            {.doc = "Coefficient of KL(policy || reference) in the loss; 0: no reference model.",
             .min = 0});
    v.Field("kl_estimator", &kl_estimator,
            {.doc = "Estimator of that KL.", .choices = {"k1", "k2", "k3"}});
    v.Nested("correction", correction, "Weight for the train / inference mismatch.");
  }

  // `defaults` with every set knob replaced. REQUIRES: texts are among their choices (the reader
  // has checked them). correction: level "none" removes it; any other knob set there creates it
  // where the loss has none.
  LossConfig ApplyTo(LossConfig defaults) const;
};

}  // namespace rft
