// Expected values: text_metrics_golden.json, which data/make_text_metrics.py made with rapidfuzz, sacrebleu, nltk and rouge_score.
#include "graders/text_metrics.h"

#include "gmock/gmock.h"
#include "graders/porter_stemmer.h"
#include "graders/unicode_text.h"
#include "tests/graders/golden.h"
#include "tests/graders/grader_testing.h"

namespace rft {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class TextMetricsTest : public ::testing::TestWithParam<std::string> {};

TEST_P(TextMetricsTest, EqualsThePythonPackage) {
  const json::value golden = ReadGolden("text_metrics_golden.json");
  const absl::StatusOr<TextMetric> metric = ParseTextMetric(GetParam());
  ASSERT_TRUE(metric.ok());
  size_t num_cases = 0;
  for (const json::value& one : golden.at("cases").as_array()) {
    const std::string candidate(one.at("candidate").as_string());
    const std::string reference(one.at("reference").as_string());
    const absl::StatusOr<double> score = CompareTexts(*metric, candidate, reference);
    ASSERT_TRUE(score.ok()) << score.status();
    EXPECT_NEAR(*score, one.at("scores").at(GetParam()).to_number<double>(), 1e-12)
        << candidate << " | " << reference;
    ++num_cases;
  }
  EXPECT_GE(num_cases, 80u);
}

INSTANTIATE_TEST_SUITE_P(AllMetrics, TextMetricsTest, ::testing::ValuesIn(TextMetricNames()));

TEST(PorterStemmerTest, EqualsNltk) {
  const json::value golden = ReadGolden("text_metrics_golden.json");
  for (const auto& [word, stem] : golden.at("stems").as_object()) {
    EXPECT_EQ(PorterStem(std::string(word)), std::string(stem.as_string())) << word;
  }
}

TEST(TextMetricsLimits, RefuseTextsThatWouldTakeTooLong) {
  const std::string big(1 << 20, 'x');
  const absl::StatusOr<double> score = CompareTexts(TextMetric::kFuzzyMatch, big, "y" + big + "z");
  EXPECT_EQ(score.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(score.status().message()), HasSubstr("1048576 and 1048578 characters"));
  EXPECT_TRUE(CompareTexts(TextMetric::kFuzzyMatch, big, "xyx").ok());
}

TEST(TextMetricsLimits, ReadAMebibyteInLinearTime) {
  std::string big;
  while (big.size() < (1 << 20)) big += "a,b.c-d &amp; ";
  for (const TextMetric metric :
       {TextMetric::kBleu, TextMetric::kGleu, TextMetric::kRouge5, TextMetric::kCosine}) {
    EXPECT_DOUBLE_EQ(*CompareTexts(metric, big, big), 1.0);
  }
}

TEST(TextMetricsLimits, SuggestTheNearestName) {
  EXPECT_THAT(std::string(ParseTextMetric("rogue_l").status().message()),
              HasSubstr("did you mean rouge_l?"));
}

TEST(UnicodeTextTest, DecodesBrokenUtf8WithoutReadingBeyondIt) {
  EXPECT_EQ(DecodeUtf8("a\xE4\xB8"), std::u32string(U"a\uFFFD\uFFFD"));
  EXPECT_EQ(DecodeUtf8("\xFF\xC3\xA9"), std::u32string(U"\uFFFD\u00E9"));
  EXPECT_THAT(SplitWords(" a\xC2\xA0 bc "), ElementsAre("a", "bc"));
}

TEST(TextSimilarityTest, ScoresTheCompletionAgainstTheReference) {
  const GraderSpec spec =
      Spec("text_similarity", {{"evaluation_metric", "rouge_l"}, {"reference", "{{item.answer}}"}});
  EXPECT_DOUBLE_EQ(ScoreOf(GradeText(spec, "the cat sat", {{"answer", "The cat sat."}})), 1.0);
  EXPECT_DOUBLE_EQ(ScoreOf(GradeText(spec, "a dog", {{"answer", "The cat sat."}})), 0.0);
}

TEST(TextSimilarityTest, PassesAtTheThreshold) {
  const Params params = {
      {"evaluation_metric", "fuzzy_match"}, {"reference", "abcd"}, {"pass_threshold", "0.75"}};
  const Grade grade = GradeText(Spec("text_similarity", params), "abce");
  EXPECT_EQ(ScoreOf(grade), 1.0);
  EXPECT_EQ(std::get<Score>(grade).sub_scores.at("similarity"), 0.75);
  EXPECT_EQ(ScoreOf(GradeText(Spec("text_similarity", params), "abef")), 0.0);
}

TEST(TextSimilarityTest, NamesTheMetricsItKnows) {
  EXPECT_THAT(
      CreationError(Spec("text_similarity", {{"evaluation_metric", "blue"}, {"reference", "x"}})),
      HasSubstr("graders[g].evaluation_metric: \"blue\" is not one of fuzzy_match, bleu"));
}

}  // namespace
}  // namespace rft
