// Text helpers: "did you mean", UTF-8 checking and repair, numbers that read back as the same bits.
// std only.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace rft {

// Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`.
// EditDistance("clip_hihg", "clip_high") == 1.
int EditDistance(std::string_view a, std::string_view b);

// The candidate closest to `word`, if it is close enough to be a typing mistake (distance at most a
// third of the longer word, rounded up); nullopt otherwise. Of equally close ones, the first.
std::optional<std::string> DidYouMean(std::string_view word,
                                      std::span<const std::string> candidates);

// Offset of the first byte that is not part of a well-formed UTF-8 sequence (overlong forms,
// surrogates and values above U+10FFFF are not well formed); nullopt if all of it is.
std::optional<size_t> FindInvalidUtf8(std::string_view text);

// Each maximal invalid part replaced by U+FFFD, as Python's bytes.decode(errors="replace") does.
std::string ReplaceInvalidUtf8(std::string_view text);

// The shortest decimal that reads back as the same value: 0.1, 1e-05, 40.0 (always with '.' or
// 'e'), inf, -inf, nan.
std::string ShortestDouble(double value);
// Likewise for a float; also exact when it is read as a double and narrowed.
std::string ShortestFloat(float value);

// "text" with the escapes of JSON. Invalid UTF-8 is replaced, so that the result is always valid
// JSON.
std::string JsonQuote(std::string_view text);

}  // namespace rft
