// The named parts of a score, by name: what std::map does, kept in one sorted vector, since a score has few of them or none and
// graders that take a tenth of a microsecond feel every node that is allocated.
//
//   SubScores parts = {{"format", 1.0}, {"answer", 0.5}};     // in any order; of equal names the last one counts
//   parts["length"] = 12;
//   for (const auto& [name, value] : parts) ...               // answer, format, length
//
// Putting n parts in by name takes n log n comparisons and, where they do not come in their order, n * n / 2 moves: from many parts
// make a SubScores at once. Std only. Thread safety: as a container of std.
#pragma once

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rft/core/check.h"

namespace rft {

class SubScores {
 public:
  using value_type = std::pair<std::string, double>;
  using const_iterator = std::vector<value_type>::const_iterator;
  using iterator = const_iterator;

  // Not "= default": every Score would be filled with zeros first.
  SubScores() {}
  SubScores(std::initializer_list<value_type> parts) : SubScores(std::vector<value_type>(parts)) {}
  explicit SubScores(std::vector<value_type> parts) : parts_(std::move(parts)) {
    const auto before = [](const value_type& a, const value_type& b) { return a.first < b.first; };
    if (!std::is_sorted(parts_.begin(), parts_.end(), before))
      std::stable_sort(parts_.begin(), parts_.end(), before);
    // Of equal names, the last: the first one as seen from the end.
    const auto kept = std::unique(parts_.rbegin(), parts_.rend(),
                                  [](const auto& a, const auto& b) { return a.first == b.first; });
    parts_.erase(parts_.begin(), kept.base());
  }

  // REQUIRES: by name, each once.
  static SubScores Ordered(std::vector<value_type> parts) {
    SubScores result;
    result.parts_ = std::move(parts);
    return result;
  }

  const_iterator begin() const { return parts_.begin(); }
  const_iterator end() const { return parts_.end(); }
  size_t size() const { return parts_.size(); }
  bool empty() const { return parts_.empty(); }
  void reserve(size_t size) { parts_.reserve(size); }

  const_iterator find(std::string_view name) const {
    const auto place = std::lower_bound(parts_.begin(), parts_.end(), name, ComesBefore);
    return place != parts_.end() && place->first == name ? place : parts_.end();
  }
  bool contains(std::string_view name) const { return find(name) != end(); }
  // REQUIRES: contains(name).
  double at(std::string_view name) const {
    const auto found = find(name);
    RFT_CHECK(found != end());
    return found->second;
  }

  // New ones begin at 0.
  double& operator[](std::string_view name) {
    if (parts_.empty()) parts_.reserve(kFew);
    const bool is_last = parts_.empty() || parts_.back().first < name;
    const auto place =
        is_last ? parts_.end() : std::lower_bound(parts_.begin(), parts_.end(), name, ComesBefore);
    if (place != parts_.end() && place->first == name) return place->second;
    return parts_.emplace(place, std::string(name), 0.0)->second;
  }

  bool operator==(const SubScores&) const = default;

 private:
  static bool ComesBefore(const value_type& part, std::string_view name) {
    return part.first < name;
  }

  static constexpr size_t kFew = 4;  // for which there is room from the first one on

  std::vector<value_type> parts_;  // by name
};

}  // namespace rft
