#include "graders/porter_stemmer.h"

#include <span>
#include <utility>
#include <vector>

#include "graders/unicode_text.h"

namespace rft {
namespace {

constexpr std::pair<std::string_view, std::string_view> kIrregular[] = {
    {"sky", "sky"},        {"skies", "sky"},       {"dying", "die"},       {"lying", "lie"},
    {"tying", "tie"},      {"news", "news"},       {"innings", "inning"},  {"inning", "inning"},
    {"outings", "outing"}, {"outing", "outing"},   {"canning", "canning"}, {"cannings", "canning"},
    {"howe", "howe"},      {"proceed", "proceed"}, {"exceed", "exceed"},   {"succeed", "succeed"},
};

struct Rule {
  std::string_view suffix;
  std::string_view replacement;
};

// In steps 2 and 3 the stem's measure must be above 0, in step 4 above 1. The first suffix that fits decides.
constexpr Rule kStep2[] = {
    {"ational", "ate"}, {"tional", "tion"}, {"enci", "ence"}, {"anci", "ance"}, {"izer", "ize"},
    {"bli", "ble"},     {"alli", "al"},     {"entli", "ent"}, {"eli", "e"},     {"ousli", "ous"},
    {"ization", "ize"}, {"ation", "ate"},   {"ator", "ate"},  {"alism", "al"},  {"iveness", "ive"},
    {"fulness", "ful"}, {"ousness", "ous"}, {"aliti", "al"},  {"iviti", "ive"}, {"biliti", "ble"},
    {"fulli", "ful"},   {"logi", "log"},
};
constexpr Rule kStep3[] = {{"icate", "ic"}, {"ative", ""}, {"alize", "al"}, {"iciti", "ic"},
                           {"ical", "ic"},  {"ful", ""},   {"ness", ""}};
constexpr Rule kStep4[] = {{"al", ""},   {"ance", ""}, {"ence", ""}, {"er", ""},    {"ic", ""},
                           {"able", ""}, {"ible", ""}, {"ant", ""},  {"ement", ""}, {"ment", ""},
                           {"ent", ""},  {"ion", ""},  {"ou", ""},   {"ism", ""},   {"ate", ""},
                           {"iti", ""},  {"ous", ""},  {"ive", ""},  {"ize", ""}};

bool IsVowelLetter(char c) { return c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u'; }

// A "y" is a consonant unless a consonant comes before it.
bool NextIsConsonant(char c, bool first, bool previous_is_consonant) {
  if (IsVowelLetter(c)) return false;
  return c != 'y' || first || !previous_is_consonant;
}

bool IsConsonant(std::string_view word, size_t index) {
  size_t begin = index;
  while (begin > 0 && word[begin] == 'y') --begin;
  bool consonant = NextIsConsonant(word[begin], true, false);
  for (size_t i = begin + 1; i <= index; ++i)
    consonant = NextIsConsonant(word[i], false, consonant);
  return consonant;
}

// The m of the paper: how often a consonant follows a vowel.
int Measure(std::string_view stem) {
  int count = 0;
  bool previous = true;
  for (size_t i = 0; i < stem.size(); ++i) {
    const bool consonant = NextIsConsonant(stem[i], i == 0, previous);
    if (i > 0 && consonant && !previous) ++count;
    previous = consonant;
  }
  return count;
}

bool ContainsVowel(std::string_view stem) {
  bool previous = true;
  for (size_t i = 0; i < stem.size(); ++i) {
    previous = NextIsConsonant(stem[i], i == 0, previous);
    if (!previous) return true;
  }
  return false;
}

bool EndsInDoubleConsonant(std::string_view word) {
  const size_t n = word.size();
  return n >= 2 && word[n - 1] == word[n - 2] && IsConsonant(word, n - 1);
}

// Consonant, vowel, consonant other than w, x, y; or just vowel, consonant.
bool EndsInCvc(std::string_view word) {
  const size_t n = word.size();
  if (n == 2) return !IsConsonant(word, 0) && IsConsonant(word, 1);
  if (n < 3) return false;
  const char last = word[n - 1];
  return IsConsonant(word, n - 3) && !IsConsonant(word, n - 2) && IsConsonant(word, n - 1) &&
         last != 'w' && last != 'x' && last != 'y';
}

std::string Replaced(std::string_view word, size_t drop, std::string_view replacement) {
  std::string out(word.substr(0, word.size() - drop));
  out.append(replacement);
  return out;
}

std::string Step1a(const std::string& word) {
  if (word.ends_with("ies")) return Replaced(word, 3, word.size() == 4 ? "ie" : "i");
  if (word.ends_with("sses")) return Replaced(word, 4, "ss");
  if (word.ends_with("s") && !word.ends_with("ss")) return Replaced(word, 1, "");
  return word;
}

std::string Step1b(const std::string& word) {
  if (word.ends_with("ied")) return Replaced(word, 3, word.size() == 4 ? "ie" : "i");
  if (word.ends_with("eed")) {
    return Measure(std::string_view(word).substr(0, word.size() - 3)) > 0 ? Replaced(word, 1, "")
                                                                          : word;
  }
  size_t drop = 0;
  for (const std::string_view suffix : {std::string_view("ed"), std::string_view("ing")}) {
    if (drop == 0 && word.ends_with(suffix) &&
        ContainsVowel(std::string_view(word).substr(0, word.size() - suffix.size()))) {
      drop = suffix.size();
    }
  }
  if (drop == 0) return word;
  const std::string stem = Replaced(word, drop, "");
  if (stem.ends_with("at") || stem.ends_with("bl") || stem.ends_with("iz")) return stem + "e";
  const char last = stem.back();
  // "*d" is the paper's name for a double consonant; NLTK's code takes these two characters for one as well.
  if (EndsInDoubleConsonant(stem) || stem.ends_with("*d")) {
    return last == 'l' || last == 's' || last == 'z'
               ? stem
               : Replaced(stem, 2, std::string_view(&last, 1));
  }
  return Measure(stem) == 1 && EndsInCvc(stem) ? stem + "e" : stem;
}

std::string Step1c(const std::string& word) {
  const bool applies = word.ends_with("y") && word.size() > 2 && IsConsonant(word, word.size() - 2);
  return applies ? Replaced(word, 1, "i") : word;
}

std::string Apply(const std::string& word, std::span<const Rule> rules, int measure_above) {
  for (const auto& [suffix, replacement] : rules) {
    if (!word.ends_with(suffix)) continue;
    // The "l" of "logi" counts as part of the stem, so that "geologi" works like "archaeologi".
    const size_t dropped = suffix == "logi" ? 3 : suffix.size();
    const std::string_view stem = std::string_view(word).substr(0, word.size() - dropped);
    bool applies = Measure(stem) > measure_above;
    if (suffix == "ion") applies = applies && (stem.back() == 's' || stem.back() == 't');
    return applies ? Replaced(word, suffix.size(), replacement) : word;
  }
  return word;
}

std::string Step2(std::string word) {
  while (word.ends_with("alli") && Measure(std::string_view(word).substr(0, word.size() - 4)) > 0) {
    word = Replaced(word, 2, "");
  }
  return Apply(word, kStep2, 0);
}

std::string Step5(std::string word) {
  if (word.ends_with("e")) {
    const std::string_view stem = std::string_view(word).substr(0, word.size() - 1);
    const int measure = Measure(stem);
    if (measure > 1 || (measure == 1 && !EndsInCvc(stem))) word.pop_back();
  }
  if (word.ends_with("ll") && Measure(std::string_view(word).substr(0, word.size() - 1)) > 1)
    word.pop_back();
  return word;
}

// One byte per character.
std::string Stem(const std::string& word) {
  for (const auto& [irregular, stem] : kIrregular) {
    if (word == irregular) return std::string(stem);
  }
  if (word.size() <= 2) return word;
  return Step5(Apply(Apply(Step2(Step1c(Step1b(Step1a(word)))), kStep3, 0), kStep4, 1));
}

}  // namespace

std::string PorterStem(std::string_view word) {
  // The rules count characters. Those beyond ASCII are all consonants to them: each gets a byte of its own on the way.
  const std::u32string points = DecodeUtf8(word);
  if (points.size() == word.size()) return Stem(std::string(word));
  std::vector<char32_t> others;
  std::string bytes;
  for (const char32_t c : points) {
    if (c < 0x80) {
      bytes += static_cast<char>(c);
      continue;
    }
    size_t i = 0;
    while (i < others.size() && others[i] != c) ++i;
    if (i == others.size()) others.push_back(c);
    if (others.size() > 0x80) return std::string(word);  // not a word of English
    bytes += static_cast<char>(0x80 + i);
  }
  std::string out;
  for (const char c : Stem(bytes)) {
    const auto byte = static_cast<unsigned char>(c);
    AppendUtf8(byte < 0x80 ? byte : others[byte - 0x80], &out);
  }
  return out;
}

}  // namespace rft
