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
  // Adds a token's bytes; the stop string that is complete with them, null if none is. Of several the one that begins first.
  const std::string* Add(std::string_view bytes) {
    if (longest_ == 0) return nullptr;
    tail_.append(bytes);
    const std::string* found = nullptr;
    size_t first = std::string::npos;
    for (const std::string& s : *stops_)
      if (const size_t at = tail_.find(s); at < first) first = at, found = &s;
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
