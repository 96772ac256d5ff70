// The knobs of a preference loss. Which of them a loss reads, and its defaults, are the loss's own (losses/dpo.cc, ...).
// std only, so that torch-free code can carry it.
#pragma once

#include <string>

namespace rft {

struct PreferenceConfig {
  std::string name = "dpo";
  double beta = 0.1;  // strength; ORPO: weight of the odds-ratio term
  double label_smoothing =
      0.0;             // part of the pairs assumed to be labelled the wrong way round (dpo, simpo)
  double gamma = 0.5;  // simpo: the margin asked for
  double sft_coef = 0.0;  // weight of the mean negative log-probability of the chosen completion
  double desirable_weight = 1.0, undesirable_weight = 1.0;  // kto
  double kl = 0.0;  // kto: the baseline z0 of this batch, nats per completion; see losses/kto.cc
};

}  // namespace rft
