// Losses as other implementations compute them under their own names: "trl.dapo", "verl.gspo",
// "fireworks.grpo", "tinker.cispo", and "rft.*" for our recommended ones. Which is which, and how far
// they agree: docs/losses.md.
//
// A preset is a registered loss with its knobs changed. Sizes that the user must choose (agg_norm:
// the largest completion) keep the loss's default.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "rft/core/loss_config.h"

namespace rft {

struct LossPreset {
  const char* name;
  const char* loss;  // the registered loss
  void (*change)(LossConfig* config);
};

const std::vector<LossPreset>& LossPresets();
std::vector<std::string> LossPresetNames();
// nullptr when there is none of that name.
const LossPreset* FindLossPreset(std::string_view name);
LossConfig PresetConfig(const LossPreset& preset);

}  // namespace rft
