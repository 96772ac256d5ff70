// Length of the longest common subsequence of two texts, 64 rows of the table at a time: what fuzzy_match and rouge_l are made
// of. Time a * b / 64 and little memory; the caller bounds the lengths.
// Source: Hyyro 2004, "Bit-parallel LCS-length computation revisited"; tests/graders/quick_paths_test.cc compares it with the
// table of all pairs. Pure; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "absl/types/span.h"

namespace rft {

size_t CommonSubsequence(std::string_view a, std::string_view b);  // REQUIRES: ASCII
size_t CommonSubsequence(std::u32string_view a, std::u32string_view b);
size_t CommonSubsequence(absl::Span<const uint32_t> a, absl::Span<const uint32_t> b);

}  // namespace rft
