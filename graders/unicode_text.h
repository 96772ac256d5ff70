// UTF-8 text as Python's str sees it: code points, white space, words, lower case. Any thread; linear time but for
// ContainsIgnoringAsciiCase. ASCII goes 16 bytes at a time.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace rft {

bool IsAscii(std::string_view text);

// A byte that is not part of a well-formed sequence becomes U+FFFD.
std::u32string DecodeUtf8(std::string_view text);
void AppendUtf8(char32_t code_point, std::string* out);

// str.isspace() of one character, which is what str.split() splits at.
bool IsPythonSpace(char32_t code_point);

bool IsBlank(std::string_view text);  // white space only, or nothing

// str.split(): the words between white space. Views into `text`.
std::vector<std::string_view> SplitWords(std::string_view text);
size_t CountWords(std::string_view text);  // how many those are

// str.lower().split() of a text in ASCII, without looking at it twice. Words are views into this object.
class LowerAsciiWords {
 public:
  static constexpr size_t kPadding = 8;  // that many bytes can be read from the start of each word

  // False: it is not ASCII.
  bool Read(std::string_view text);
  size_t size() const { return size_; }
  std::string_view operator[](size_t i) const {
    return {lower_ + places_[i].begin, places_[i].end - places_[i].begin};
  }

 private:
  struct Place {
    size_t begin, end;
  };
  static constexpr size_t kFew = 1024;

  size_t size_ = 0;
  char* lower_;
  Place* places_;
  char few_lower_[kFew + 64 + kPadding];
  Place few_places_[kFew / 2 + 1];
  std::vector<char> many_lower_;  // of longer texts
  std::vector<Place> many_places_;
};

// str.lower(), final sigma and dotted capital I included.
std::string LowerUtf8(std::string_view text);

// Whether `needle` occurs in `text`, the case of ASCII letters aside; other bytes count as they are. As quick as strstr, and
// of its worst case: length * length.
bool ContainsIgnoringAsciiCase(std::string_view text, std::string_view needle);

}  // namespace rft
