// run.yaml (or a resolved config.json) -> RunConfig, with every mistake reported at once:
//
//   run.yaml:14: losses.clip_hihg: unknown key; did you mean losses.clip_high?
//   run.yaml:20: trainer.steps: expected a whole number, got "many"
//   run.yaml: model: missing; Hugging Face folder (config.json, *.safetensors, tokenizer files).
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "rft/config/run_config.h"
#include "rft/core/file_system.h"

namespace rft {

struct ConfigReadOptions {
  std::vector<std::string>
      overrides;  // "trainer.steps=10": as after --set on the command line, in order
  std::string overrides_from = "--set";  // what messages about them say they came from
  // Whether model, data.train and data.heldout must exist. They become absolute paths when they do:
  // relative ones are looked for in base_dir first, then in the working directory.
  bool check_paths = true;
  // Further choices for text fields, known only to others: {"losses.name", LossRegistry names}. Key
  // of a grader's type: "graders.type".
  std::map<std::string, std::vector<std::string>> choices;
};

// kInvalidArgument lists all mistakes, one a line; kNotFound and others if the file can't be read.
absl::StatusOr<RunConfig> ReadRunConfig(const std::string& path,
                                        const ConfigReadOptions& options = {},
                                        FileSystem& fs = FileSystem::Default());

// From text; `name` is what messages call it, `base_dir` where its relative paths start.
absl::StatusOr<RunConfig> ParseRunConfig(std::string_view text, const std::string& name,
                                         const std::string& base_dir,
                                         const ConfigReadOptions& options = {},
                                         FileSystem& fs = FileSystem::Default());

// "run.yaml:14: losses.name: <what>": a message about a key that was read without a mistake.
std::string AtKey(const RunConfig& config, const std::string& key, std::string_view what);

}  // namespace rft
