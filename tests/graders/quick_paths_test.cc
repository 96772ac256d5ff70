// The quick ways of graders against the plain ones they stand for, on random texts: SIMD scans, literal searches, bit-parallel
// alignment, JSON in one pass, numbering, patterns that begin with a literal.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "graders/common_subsequence.h"
#include "graders/extract.h"
#include "graders/number_text.h"
#include "graders/numbering.h"
#include "graders/quick_json.h"
#include "graders/quick_regex.h"
#include "graders/text_metrics.h"
#include "graders/unicode_text.h"
#include "re2/re2.h"
#include "rft/io/json.h"
#include "tests/graders/grader_testing.h"

namespace rft {
namespace {

class QuickPathsTest : public ::testing::Test {
 protected:
  size_t Below(size_t n) { return random_() % n; }

  std::string Text(size_t size, const std::vector<std::string>& parts) {
    std::string text;
    while (text.size() < size) text += parts[Below(parts.size())];
    return text;
  }

  std::mt19937 random_{7};
};

std::vector<std::string> PlainWords(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  for (const char32_t c : DecodeUtf8(std::string(text) + " ")) {
    if (!IsPythonSpace(c)) {
      AppendUtf8(c, &word);
    } else if (!word.empty()) {
      words.push_back(std::exchange(word, ""));
    }
  }
  return words;
}

TEST_F(QuickPathsTest, WordsAreThoseOfAPlainScan) {
  for (int i = 0; i < 2000; ++i) {
    std::vector<std::string> parts = {"a",    "bc",  " ",    "\n",
                                      "\x1C", "\t ", "word", std::string(70, 'x')};
    if (i % 3 == 0) parts.push_back(i % 2 == 0 ? "\xC2\xA0" : "\xC3\xA9");
    const std::string text = Text(Below(300), parts);
    const std::vector<std::string_view> words = SplitWords(text);
    EXPECT_EQ(std::vector<std::string>(words.begin(), words.end()), PlainWords(text)) << text;
    EXPECT_EQ(CountWords(text), words.size()) << text;
  }
}

TEST_F(QuickPathsTest, LowerWordsAreThoseOfLowerCaseSplit) {
  int num_ascii = 0;
  for (int i = 0; i < 2000; ++i) {
    std::vector<std::string> parts = {"a",    "Bc",  " ",      "\n",
                                      "\x1C", "\t ", "WORDs1", std::string(70, 'X')};
    if (i % 10 == 0) parts.push_back("\xC3\x89");
    const std::string text = Text(Below(i % 50 == 0 ? 3000 : 300), parts);
    LowerAsciiWords words;
    if (!words.Read(text)) {
      EXPECT_FALSE(IsAscii(text)) << text;
      continue;
    }
    ++num_ascii;
    std::vector<std::string> found;
    for (size_t w = 0; w < words.size(); ++w) found.emplace_back(words[w]);
    EXPECT_EQ(found, PlainWords(absl::AsciiStrToLower(text))) << text;
  }
  EXPECT_GT(num_ascii, 1500);
}

TEST_F(QuickPathsTest, MatchesWhereRe2Does) {
  int num_matched = 0, num_compared = 0;
  for (const char* pattern : {R"(<a>\s*-?\d+\s*</a>)", "<a>.*</a>", "(?s)<a>.*?</a>b", "<a>[^<]+<",
                              "aab", "<a>(?:x|yy)*</a>", "<a>(b|<a>)+</a>", "ab[a-c\\d]+x?<",
                              R"(a<(\w+|\d*)[-b]>)", "<a>x??y*?</a>", "<<a>+"}) {
    const std::optional<QuickRegex> quick = QuickRegex::Compile(pattern);
    ASSERT_TRUE(quick.has_value()) << pattern;
    const RE2 regex(pattern);
    for (int i = 0; i < 1500; ++i) {
      std::vector<std::string> parts = {"<a>", "</a>", "a", "b",  "x", "y", "1",
                                        "-",   " ",    "<", "\n", ">", "c", "aa"};
      if (i % 5 == 0) parts.push_back(i % 2 == 0 ? "\xC3\xA9" : "\xFF");
      const std::string text = Text(Below(60), parts);
      const std::optional<bool> matches = quick->Matches(text);
      if (!matches.has_value()) {
        EXPECT_FALSE(IsAscii(text));
        continue;
      }
      ++num_compared;
      num_matched += *matches;
      EXPECT_EQ(*matches, RE2::PartialMatch(text, regex)) << pattern << " | " << text;
    }
  }
  EXPECT_GT(num_compared, 12000);
  EXPECT_GT(num_matched, 1000);
}

// Random patterns: what is taken is valid, and means what it means to RE2.
TEST_F(QuickPathsTest, TakesNoPatternThatRe2ReadsOtherwise) {
  int num_taken = 0;
  RE2::Options quiet;
  quiet.set_log_errors(false);
  const std::vector<std::string> parts = {"a", "b", "ab", "(",   ")", "(?:",  "|",    "*",
                                          "+", "?", "[",  "]",   "^", "-",    "a-b",  "\\",
                                          "d", "s", ".",  "{2}", "$", "[ab]", "[^a]", "(a|b)"};
  for (int i = 0; i < 30000; ++i) {
    const std::string pattern = "ab" + Text(1 + Below(8), parts);
    const std::optional<QuickRegex> quick = QuickRegex::Compile(pattern);
    if (!quick.has_value()) continue;
    ++num_taken;
    const RE2 regex(pattern, quiet);
    ASSERT_TRUE(regex.ok()) << pattern;
    for (int j = 0; j < 5; ++j) {
      const std::string text = Text(Below(20), {"a", "b", "ab", "d", "1", " ", "-", "s", "\n"});
      EXPECT_EQ(quick->Matches(text), RE2::PartialMatch(text, regex)) << pattern << " | " << text;
    }
  }
  EXPECT_GT(num_taken, 3000);
}

TEST_F(QuickPathsTest, SearchesIgnoringCaseAsAPlainSearchOfLowerCaseDoes) {
  int num_found = 0;
  for (int i = 0; i < 4000; ++i) {
    const std::string text =
        Text(Below(120), {"a", "A", "b", "B", "@", "`", "\xC3\xA9", "the ", "-", "7", "e7"});
    const std::string needle = Text(Below(6), {"a", "B", "@", "e A", "T", "E7", "b-"});
    const bool found =
        absl::AsciiStrToLower(text).find(absl::AsciiStrToLower(needle)) != std::string::npos;
    num_found += found;
    EXPECT_EQ(ContainsIgnoringAsciiCase(text, needle), found) << text << " | " << needle;
  }
  EXPECT_GT(num_found, 500);
  EXPECT_LT(num_found, 3500);
}

TEST_F(QuickPathsTest, FindsBetweenLiteralsWhatTheRegularExpressionFinds) {
  int num_found = 0;
  for (const char* flags : {"", "(?s)"}) {
    for (const char* pick : {"first", "last"}) {
      const GraderSpec quick_spec =
          Spec("any", {{"extract", std::string(flags) + "<a>(.*?)</a>"}, {"pick", pick}});
      const GraderSpec plain_spec =
          Spec("any", {{"extract", std::string(flags) + "(?:<a>)(.*?)</a>"}, {"pick", pick}});
      ParamReader quick_params(quick_spec), plain_params(plain_spec);
      const Extract quick = Extract::Read(quick_params), plain = Extract::Read(plain_params);
      for (int i = 0; i < 2000; ++i) {
        const std::string text =
            Text(Below(60), {"<a>", "</a>", "<a>", "\n", "x", "<", "\xC3\xA9", "\xFF"});
        const auto found = quick.Find(text);
        num_found += found.has_value();
        EXPECT_EQ(found, plain.Find(text)) << text;
      }
    }
  }
  EXPECT_GT(num_found, 1000);
}

TEST_F(QuickPathsTest, FindsBetweenLiteralsInLinearTime) {
  const GraderSpec spec = Spec("any", {{"extract", "<a>(.*?)</a>"}});
  ParamReader params(spec);
  const Extract extract = Extract::Read(params);
  std::string text;
  while (text.size() < (1 << 22)) text += "<a>\n";
  EXPECT_EQ(extract.Find(text + "</a>"), std::nullopt);
  EXPECT_EQ(extract.Find(text + "<a>5</a>"), "5");
}

TEST_F(QuickPathsTest, SearchesIgnoringCaseWhereTheRareByteIsNotRare) {
  const std::string text = Text(2000, {"7", "77", "x7"}) + "AbC7";
  EXPECT_TRUE(ContainsIgnoringAsciiCase(text, "aBc7"));
  EXPECT_FALSE(ContainsIgnoringAsciiCase(text, "aBd7"));
  EXPECT_FALSE(ContainsIgnoringAsciiCase(text, "aBc7x"));
}

TEST_F(QuickPathsTest, CountsTheNgramsThatAPlainSetHolds) {
  for (int i = 0; i < 400; ++i) {
    const size_t n = 1 + Below(i % 20 == 0 ? DistinctNgrams::kMaxOrder : 5);
    std::vector<std::string> words;
    for (size_t size = Below(80); words.size() < size;)
      words.push_back(Text(1 + Below(3), {"a", "b", std::string(30, 'c')}));
    DistinctNgrams by_word(n, words.size()), by_number(n, words.size()), by_padded(n, words.size());
    std::set<std::vector<std::string>> plain;
    std::map<std::string, uint32_t> numbers;
    for (size_t w = 0; w < words.size(); ++w) {
      by_word.AddWord(words[w]);
      const std::string padded = words[w] + std::string(8, '#');
      by_padded.AddPaddedWord(std::string_view(padded).substr(0, words[w].size()));
      by_number.AddNumber(
          numbers.try_emplace(words[w], static_cast<uint32_t>(numbers.size())).first->second);
      if (w + 1 >= n)
        plain.insert({words.begin() + static_cast<int64_t>(w + 1 - n),
                      words.begin() + static_cast<int64_t>(w + 1)});
    }
    EXPECT_EQ(by_word.num_distinct(), plain.size()) << n << " of " << words.size();
    EXPECT_EQ(by_number.num_distinct(), plain.size()) << n << " of " << words.size();
    EXPECT_EQ(by_padded.num_distinct(), plain.size()) << n << " of " << words.size();
    EXPECT_EQ(by_word.size(), words.size() < n ? 0 : words.size() - n + 1);
  }
}

size_t PlainCommonSubsequence(const std::u32string& a, const std::u32string& b) {
  std::vector<size_t> row(b.size() + 1, 0);
  for (const char32_t x : a) {
    size_t diagonal = 0;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t above = row[j + 1];
      row[j + 1] = x == b[j] ? diagonal + 1 : std::max(above, row[j]);
      diagonal = above;
    }
  }
  return row[b.size()];
}

TEST_F(QuickPathsTest, AlignsAsTheTableOfAllPairsDoes) {
  for (const size_t size : {1, 3, 63, 64, 65, 255, 256, 257, 1000}) {
    for (int i = 0; i < 12; ++i) {
      std::vector<std::string> parts = {"a", "b", "c", " ", "de"};
      if (i % 3 == 0) parts.push_back("\xC3\xA9");
      const std::string a = Text(size, parts), b = Text(1 + Below(2 * size), parts);
      const std::u32string x = DecodeUtf8(a), y = DecodeUtf8(b);
      const double expected = 2.0 * static_cast<double>(PlainCommonSubsequence(x, y)) /
                              static_cast<double>(x.size() + y.size());
      EXPECT_DOUBLE_EQ(*CompareTexts(TextMetric::kFuzzyMatch, a, b), expected) << a << " | " << b;
    }
  }
}

TEST_F(QuickPathsTest, AlignsTextsThatAreMuchAlike) {
  for (int i = 0; i < 300; ++i) {
    const std::string a = Text(1 + Below(i % 10 == 0 ? 1200 : 400), {"a", "b", "c", " ", "de"});
    std::string b = a;
    for (size_t edits = Below(4); edits > 0 && !b.empty(); --edits) {
      const size_t at = Below(b.size());
      if (Below(2) == 0) {
        b.erase(at, 1 + Below(60));
      } else {
        b.insert(at, Text(1 + Below(60), {"x", "a", " "}));
      }
    }
    const std::u32string x = DecodeUtf8(a), y = DecodeUtf8(b);
    const size_t common = PlainCommonSubsequence(x, y);
    EXPECT_EQ(CommonSubsequence(a, b), common) << a << " | " << b;
    EXPECT_EQ(CommonSubsequence(x, y), common) << a << " | " << b;
    SubsequencePattern pattern;
    pattern.Set(Text(Below(500), {"other"}));
    pattern.Set(a);
    EXPECT_EQ(pattern.Common(b), common) << a << " | " << b;
    EXPECT_EQ(pattern.Common(""), 0u);
    EXPECT_EQ(pattern.Common(a), a.size());
  }
}

TEST_F(QuickPathsTest, RemembersReferencesAndNothingElse) {
  std::vector<std::string> references;
  for (int i = 0; i < 40; ++i)
    references.push_back(Text(Below(120), {"ab", "c", "de", i % 9 == 0 ? "\xC3\xA9" : "f"}));
  for (int i = 0; i < 3000; ++i) {
    const std::string& reference = references[Below(references.size())];
    const std::string text = Text(Below(120), {"ab", "c", "e", Below(9) == 0 ? "\xC3\xA9" : "f"});
    const std::u32string x = DecodeUtf8(text), y = DecodeUtf8(reference);
    const double expected = x.empty() && y.empty()
                                ? 1.0
                                : 2.0 * static_cast<double>(PlainCommonSubsequence(x, y)) /
                                      static_cast<double>(x.size() + y.size());
    EXPECT_DOUBLE_EQ(*CompareTexts(TextMetric::kFuzzyMatch, text, reference), expected)
        << text << " | " << reference;
  }
}

TEST_F(QuickPathsTest, AlignsLongTextsAsTheTableOfAllPairsDoes) {
  const std::string a = Text(5000, {"ab", "cd", "x"}), b = Text(5200, {"ab", "cd", "y"});
  const std::u32string x = DecodeUtf8(a), y = DecodeUtf8(b);
  EXPECT_DOUBLE_EQ(*CompareTexts(TextMetric::kFuzzyMatch, a, b),
                   2.0 * static_cast<double>(PlainCommonSubsequence(x, y)) /
                       static_cast<double>(x.size() + y.size()));
}

TEST_F(QuickPathsTest, NumbersWordsInTheOrderTheyFirstCome) {
  const std::vector<std::string> parts = {"a", "b", "ab", "xyz", std::string("\0", 1)};
  std::vector<std::string> words;
  for (int i = 0; i < 3000; ++i) words.push_back(i % 50 == 0 ? "" : Text(1 + Below(40), parts));
  WordNumbers numbers(words.size());
  std::map<std::string, uint32_t> expected;
  for (const std::string& word : words) {
    const auto number = static_cast<uint32_t>(expected.size());
    EXPECT_EQ(numbers.Number(word), expected.try_emplace(word, number).first->second) << word;
  }
  EXPECT_EQ(numbers.size(), expected.size());
  for (int i = 0; i < 500; ++i) {
    const std::string word = Text(1 + Below(8), {"a", "b", "ab", "q"});
    const auto known = expected.find(word);
    EXPECT_EQ(numbers.Find(word), known == expected.end() ? numbers.size() : known->second) << word;
  }
}

TEST_F(QuickPathsTest, ReadsShortWholeNumbersAsTheCarefulReaderDoes) {
  int num_taken = 0;
  for (int i = 0; i < 20000; ++i) {
    const std::string text =
        Text(Below(18), {"1", "0", "27", "9", "-", " ", "\n", "+", ".", "e", ",", "$"});
    const std::optional<ShortWholeNumber> quick = ParseShortWholeNumber(text);
    if (!quick.has_value()) continue;
    ++num_taken;
    const std::optional<Number> careful = ParseNumber(text);
    ASSERT_TRUE(careful.has_value()) << text;
    EXPECT_EQ(static_cast<double>(quick->value), careful->value) << text;
    EXPECT_EQ(quick->text, careful->text) << text;
    // Through the way of numbers that are not short and whole.
    const std::optional<Number> same = ParseNumber(absl::StrCat(std::string(quick->text), ".0"));
    ASSERT_TRUE(same.has_value()) << text;
    EXPECT_EQ(same->exact, careful->exact) << text;
  }
  EXPECT_GT(num_taken, 1000);
}

// Graders that read lists in different ways share a thread's memory.
TEST_F(QuickPathsTest, RemembersListsAsEachGraderReadsThem) {
  const std::vector<Params> ways = {{}, {{"ignore_case", "false"}}, {{"separators", "|"}}};
  std::vector<std::unique_ptr<Grader>> graders;
  for (const Params& params : ways) graders.push_back(*CreateGrader(Spec("set_match", params)));
  const Row row = RowWith({{"answer", "Oslo, Rome|Paris"}});
  const auto score = [&](size_t way, std::string_view completion) {
    return ScoreOf(graders[way]->Run({row, completion, {}, FinishReason::kStop}));
  };
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(score(0, "rome|paris, oslo"), 1.0);
    EXPECT_EQ(score(1, "rome|paris, oslo"), 0.0);
    EXPECT_EQ(score(1, "Rome|Paris, Oslo"), 1.0);
    EXPECT_EQ(score(2, "Rome|Paris, Oslo"), 0.0);
    EXPECT_EQ(score(2, "Paris|oslo, rome"), 1.0);
  }
}

// What the quick reader takes, the careful one takes as well, and the values are the same.
TEST_F(QuickPathsTest, ReadsJsonAsTheCarefulReaderDoes) {
  const std::vector<std::string> seeds = {
      R"({"tags": ["a", "b"], "age": 4711, "name": "n4711", "nested": {"x": null, "y": [true, false]}})",
      R"([1, -2, 3.25, 1e5, -0, 1.7976931348623157e308, 18446744073709551615, 9007199254740993])",
      R"("a \"quoted\" \\ \/ \n text é")",
      R"({"a text that is longer than sixteen bytes": "and \"quoted\" behind them, ünd böyond: 漢字 \t end", "é": "é"})",
      R"({"a": {"a": {"a": [[[[]]]]}}, "b": 1.0})"};
  int num_taken = 0, num_left = 0;
  const std::string bytes = "{}[]\",:0123456789.eE+-\\/ \ntrufalsn\xC3\xA9\xFF\x01";
  for (int i = 0; i < 20000; ++i) {
    std::string text = seeds[Below(seeds.size())];
    for (size_t edits = Below(4); edits > 0; --edits) {
      const size_t at = Below(text.size());
      if (Below(2) == 0) {
        text[at] = bytes[Below(bytes.size())];
      } else {
        text.insert(at, 1, bytes[Below(bytes.size())]);
      }
    }
    QuickJson reader;
    const QuickJson::Value* quick = reader.Read(text);
    if (quick == nullptr) {
      ++num_left;
      continue;
    }
    ++num_taken;
    const absl::StatusOr<json::value> careful = ParseJson(text, {.reject_duplicate_keys = true});
    ASSERT_TRUE(careful.ok()) << text << ": " << careful.status();
    EXPECT_EQ(ToJson(*quick), ToJson(*careful)) << text;
    QuickJson other;
    EXPECT_TRUE(JsonEqual(*quick, *other.Read(text))) << text;
  }
  EXPECT_GT(num_taken, 2000);
  EXPECT_GT(num_left, 2000);
}

TEST_F(QuickPathsTest, RemembersWhatItReadAndNothingElse) {
  for (int i = 0; i < 2000; ++i) {
    const std::string text = absl::StrCat(R"({"a": )", Below(500), R"(, "b": [)", Below(3), "]}",
                                          Below(50) == 0 ? "," : "");
    QuickJson reader;
    const QuickJson::Value* plain = reader.Read(text);
    const QuickJson::Value* remembered = QuickJson::ReadRemembered(text);
    ASSERT_EQ(plain == nullptr, remembered == nullptr) << text;
    if (plain == nullptr) continue;
    EXPECT_EQ(ToJson(*remembered), ToJson(*plain));
  }
}

TEST_F(QuickPathsTest, LeavesDoubtfulJsonToTheCarefulReader) {
  for (const char* text :
       {"{\"a\": 1, \"a\": 2}", "\"\\ud800\"", "1e400", "123456789012345678901234567890", "", "nul",
        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"}) {
    QuickJson reader;
    EXPECT_EQ(reader.Read(text), nullptr) << text;
  }
}

}  // namespace
}  // namespace rft
