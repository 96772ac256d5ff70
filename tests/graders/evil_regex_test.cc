// Patterns that take a backtracking matcher exponential or quadratic time, on a mebibyte each: 50 pairs, at most 50 ms a pair.
#include <algorithm>
#include <cstdio>
#include <ctime>

#include "tests/graders/grader_testing.h"

namespace rft {
namespace {

constexpr size_t kMebibyte = size_t{1} << 20;
constexpr double kLimitS = 0.05;

std::string Filled(const std::string& part, const std::string& end) {
  std::string text;
  text.reserve(kMebibyte + part.size() + end.size());
  while (text.size() < kMebibyte) text += part;
  return text + end;
}

struct Pair {
  const char* pattern;
  const char* part;  // repeated up to a mebibyte
  const char* end;   // what makes the match fail, or succeed, at the very end
};

// Nested and overlapping repetitions, ambiguous alternatives, long searches from every start, counted repetitions, and real ones:
// an e-mail check, a list of numbers, trimming, HTML tags, the pattern of Stack Overflow's outage and that of Cloudflare's.
constexpr Pair kPairs[] = {
    {"^(a+)+$", "a", "!"},
    {"^(a*)*$", "a", "!"},
    {"^(a|a)*$", "a", "!"},
    {"^(a|aa)+$", "a", "!"},
    {"^(a+)+b", "a", "c"},
    {"(x+x+)+y", "x", ""},
    {"^(([a-z])+.)+[A-Z]([a-z])+$", "a", ""},
    {"(.*)*x", "a", ""},
    {"(.*a){10}$", "a", "!"},
    {"(.*?,){11}P", "1,", ""},
    {"^(\\w+\\s?)*$", "word ", "!"},
    {"^(\\d+)*$", "1", "x"},
    {"(a|b|ab)*c", "ab", ""},
    {"(a*b*)*c", "ab", ""},
    {"((a+)+)+$", "a", "b"},
    {"(a?){50}a{50}", "a", ""},
    {"(a{1,30}){1,30}b", "a", ""},
    {"[ab]*a[ab]{10}c", "ab", ""},
    {"(?:a|b)*abb(?:a|b){8}c", "abb", ""},
    {"\\s+$", " ", "x"},
    {"^\\s*(.*?)\\s*$", " ", "x"},
    {"(\\s*,\\s*)+;", " , ", ""},
    {".*.*=.*", "a", ""},
    {"(?:.*=.*){3}$", "a=", "\n"},
    {"x*x*x*x*x*y", "x", ""},
    {"^([a-zA-Z0-9])(([\\-.]|[_]+)?([a-zA-Z0-9]+))*(@){1}[a-z0-9]+[.]{1}$", "a", "!"},
    {"<([a-z]+)[^>]*>(.*?)</([a-z]+)>", "<a b=", ""},
    {"(<[^>]*>)*$", "<a>", "<"},
    {"<!--.*?-->", "<!--", ""},
    {"\"(\\\\.|[^\"])*\"$", "\\a", "\""},
    {"(?:\"[^\"]*\"|[^\",]*)(?:,(?:\"[^\"]*\"|[^\",]*))*;", "\"a\",", ""},
    {"(?:(?:\"|'|\\]|\\}|\\\\|\\d|(?:nan|infinity|true|false|null|undefined|symbol|math)|`|-|\\+)+["
     ")]*;?((?:\\s|-|~|!|\\{\\}|\\|\\||\\+)*.*(?:.*=.*)))",
     "x=", ""},
    {"^(?:(?:25[0-5]|2[0-4]\\d|1?\\d?\\d)(?:\\.|$))+x", "127.", ""},
    {"^[+-]?(\\d+(,\\d{3})*)+(\\.\\d+)?$", "1,111", "x"},
    {"(\\d+\\.?\\d*)+e", "1.1", ""},
    {"(?i)(a|A)+$", "aA", "!"},
    {"(\\pL+)+\\d", "\xC3\xA9", ""},
    {"(?s)(.+)+\\x00\\x00", "a\n", ""},
    {"(?m)^(.*\\n)*END$", "line\n", "EN"},
    {"(?:[^\\n]+\\n?)+#", "abc\n", ""},
    {"\\b(\\w+)\\b(\\s+\\w+)*\\s+zz$", "aa ", "z"},
    {"<think>(.*?)</think>.*<answer>(.*?)</answer>", "<think>", ""},
    {"(<think>.*</think>\\s*)+$", "<think></think> ", "x"},
    {"\\\\boxed\\{(.*)\\}\\}", "\\boxed{", ""},
    {"####\\s*(-?[0-9.,]+)+\\s*$", "#### 1,1", "x"},
    {"(?:answer is:?\\s*)+(.*)!", "answer is ", ""},
    {"([^a]|a)*z$", "a", "y"},
    {"(a.|.b)*c$", "ab", "x"},
    {"^(?:.?){40}$", "a", ""},
    {"(\\.|[^.])*\\.\\.\\.!$", ".", ""},
};

// Of this thread's CPU time: that of other processes isn't the pattern's.
double Now() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double SecondsFor(const GraderSpec& spec, const std::string& text) {
  const auto grader = CreateGrader(spec);
  EXPECT_TRUE(grader.ok()) << grader.status();
  const Row row;
  double best = 1e9;
  for (int i = 0; i < 5 && best > kLimitS; ++i) {
    const double start = Now();
    EXPECT_TRUE(IsScore((*grader)->Run(GradeInput{row, text, {}, FinishReason::kStop})));
    best = std::min(best, Now() - start);
  }
  return best;
}

TEST(EvilRegexTest, EachOfFiftyPairsTakesAtMostFiftyMilliseconds) {
  static_assert(std::size(kPairs) == 50);
  double slowest = 0;
  for (const Pair& pair : kPairs) {
    const double seconds =
        SecondsFor(Spec("regex_match", {{"pattern", pair.pattern}}), Filled(pair.part, pair.end));
    EXPECT_LE(seconds, kLimitS) << pair.pattern;
    slowest = std::max(slowest, seconds);
  }
  RecordProperty("slowest_ms", static_cast<int>(slowest * 1000));
  printf("slowest of %zu pairs: %.1f ms\n", std::size(kPairs), slowest * 1000);
}

}  // namespace
}  // namespace rft
