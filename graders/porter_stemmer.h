// Porter's stemmer for English (M. Porter, "An algorithm for suffix stripping", Program 14.3, 1980) with NLTK's extensions:
// the same stems as nltk.stem.porter.PorterStemmer() for lower-case words. std only; any thread.
//
//   PorterStem("flies") == "fli", PorterStem("dies") == "die", PorterStem("relational") == "relat"
#pragma once

#include <string>
#include <string_view>

namespace rft {

// REQUIRES: `word` is in lower case (UTF-8).
std::string PorterStem(std::string_view word);

}  // namespace rft
