// How the presets of the golden cases are spelled through LossConfig: a registered loss's defaults
// plus changes.
#pragma once

#include <string>
#include <vector>

#include "rft/core/loss_config.h"

namespace rft::testing {

struct LossPreset {
  std::string preset;                  // the oracle's name, "trl.dapo"
  std::string loss;                    // the registered loss, "dapo"
  void (*change)(LossConfig* config);  // applied to its DefaultConfig
};

const std::vector<LossPreset>& LossPresets();

// Throws std::out_of_range for a preset that is not in the table.
LossConfig PresetConfig(const std::string& preset);

}  // namespace rft::testing
