// Length of the longest common subsequence of two texts, 64 rows of the table at a time: what fuzzy_match and rouge_l are made
// of. Time a * b / 64 and little memory; the caller bounds the lengths.
// Source: Hyyro 2004, "Bit-parallel LCS-length computation revisited"; tests/graders/quick_paths_test.cc compares it with the
// table of all pairs. Pure; any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"

namespace rft {

size_t CommonSubsequence(std::string_view a, std::string_view b);  // by bytes
size_t CommonSubsequence(std::u32string_view a, std::u32string_view b);
size_t CommonSubsequence(absl::Span<const uint32_t> a, absl::Span<const uint32_t> b);

// A text that many others are compared with, by bytes: what does not depend on those is done once. Copies what it needs.
class SubsequencePattern {
 public:
  static constexpr size_t kMaxSize = 4096;

  SubsequencePattern() = default;  // of ""
  // REQUIRES: at most kMaxSize bytes.
  void Set(std::string_view text);
  // CommonSubsequence(the text, other)
  size_t Common(std::string_view other) const;

 private:
  std::string text_;
  std::array<uint16_t, 256> row_of_{};  // byte -> its row in `rows_`; 0: it is not in the text
  size_t num_rows_ = 1;
  std::vector<uint64_t> rows_;
};

}  // namespace rft
