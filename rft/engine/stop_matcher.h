// Finds stop strings in the bytes of a growing completion, across token and UTF-8 boundaries. Torch-free.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace rft {

class StopMatcher {
 public:
  explicit StopMatcher(const std::vector<std::string>* stop_strings) : stops_(stop_strings) {
    for (const std::string& s : *stops_) longest_ = s.size() > longest_ ? s.size() : longest_;
  }
  // Adds a token's bytes; true if a stop string ends within them.
  bool Add(std::string_view bytes) {
    if (longest_ == 0) return false;
    tail_.append(bytes);
    bool found = false;
    for (const std::string& s : *stops_) found = found || tail_.find(s) != std::string::npos;
    if (tail_.size() >= longest_)
      tail_.erase(0, tail_.size() - (longest_ - 1));  // what a later match can begin in
    return found;
  }

 private:
  const std::vector<std::string>* stops_;
  size_t longest_ = 0;
  std::string tail_;
};

}  // namespace rft
