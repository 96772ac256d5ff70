// UTF-8 text as Python's str sees it: code points, white space, lower case. std only; any thread; linear time.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace rft {

// A byte that is not part of a well-formed sequence becomes U+FFFD.
std::u32string DecodeUtf8(std::string_view text);
void AppendUtf8(char32_t code_point, std::string* out);

// str.isspace() of one character, which is what str.split() splits at.
bool IsPythonSpace(char32_t code_point);

bool IsBlank(std::string_view text);  // white space only, or nothing

// str.split(): the words between white space. Views into `text`.
std::vector<std::string_view> SplitWords(std::string_view text);

// str.lower(), final sigma and dotted capital I included.
std::string LowerUtf8(std::string_view text);

}  // namespace rft
