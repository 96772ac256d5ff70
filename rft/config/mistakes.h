// Collects what is wrong with a configuration, so that all of it is reported at once.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace rft {

class Mistakes {
 public:
  // "run.yaml:14: trainer.steps: <what>"
  void Add(const std::string& where, const std::string& path, const std::string& what);

  // "run.yaml:14: losses.clip_hihg: unknown key; did you mean losses.clip_high?". Looks among the
  // keys of the same section (`siblings`) first, then for the same key in another section, then for
  // a similar one anywhere.
  void AddUnknownKey(const std::string& where, const std::string& prefix, const std::string& key,
                     const std::vector<std::string>& siblings,
                     const std::vector<std::string>& all_paths);

  // OK, or kInvalidArgument with one mistake a line, in the order of the file's lines.
  absl::Status status() const;

 private:
  struct Mistake {
    int line;  // for sorting; mistakes without a line come last
    std::string text;
  };
  std::vector<Mistake> mistakes_;
};

}  // namespace rft
