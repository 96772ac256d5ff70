// README.md of a saved model: what it was made from, how, and how it scores.
#pragma once

#include <string>

#include "rft/config/run_config.h"
#include "rft/core/file_system.h"

namespace rft {

// `kind`: train, sft, dpo. `scores_json`: a JSON object, shown as it is. Datasets are named by their SHA-256.
std::string ModelCard(const RunConfig& config, const std::string& kind,
                      const std::string& scores_json, FileSystem& fs = FileSystem::Default());

}  // namespace rft
