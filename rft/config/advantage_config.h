// The section `advantage` of a run: from rewards to advantages (rollout/advantage.h, docs/losses.md).
#pragma once

#include <cstdint>
#include <string>

#include "rft/config/field.h"

namespace rft {

struct AdvantageConfig {
  std::string kind = "grpo";
  double eps = 1e-6;
  double clip = 0.0;
  double difficulty_weight = 0.0;
  int64_t k = 4;
  std::string level = "rollout";
  double turn_discount = 1.0;

  void Visit(ConfigVisitor& v) {
    v.Field("kind", &kind,
            {.doc = "grpo: (reward - mean) / deviation of the group; dr-grpo: without the "
                    "division; rloo: mean of the others; max-rl: divided by the mean; opo: mean "
                    "by length; pass-k: best against second; pass-at-k: the best of k; batch-std: "
                    "deviation of the "
                    "step; "
                    "gpg, reinforce-pp, reinforce-pp-baseline: docs/losses.md.",
             .choices = {"grpo", "dr-grpo", "rloo", "max-rl", "opo", "pass-k", "batch-std", "gpg",
                         "reinforce-pp", "reinforce-pp-baseline", "pass-at-k"}});
    v.Field("eps", &eps, {.doc = "Added to a deviation that is divided by.", .min = 0});
    v.Field("clip", &clip, {.doc = "Largest |advantage|; 0: off.", .min = 0});
    v.Field("difficulty_weight", &difficulty_weight,
            {.doc = "Advantages are multiplied by 1 + this times (1 - mean reward of the group); "
                    "rewards from 0 to 1.",
             .min = 0});
    v.Field("k", &k,
            {.doc = "pass-at-k: completions drawn at a time.", .unit = "completions", .min = 1});
    v.Field(
        "level", &level,
        {.doc = "turn: each turn has the advantage of its own reward, against the same turn of the "
                "group's other rollouts. Graders return a list, one score per turn.",
         .choices = {"rollout", "turn"}});
    v.Field(
        "turn_discount", &turn_discount,
        {.doc = "level turn: how much of what follows a turn is credited with; 0: nothing but its "
                "own reward.",
         .min = 0,
         .max = 1});
  }
};

}  // namespace rft
