// length, soft_overlong, repetition, language, tag_format: graders of how a text is, not of what it says.
#include "gmock/gmock.h"
#include "tests/graders/grader_testing.h"

namespace rft {
namespace {

using ::testing::HasSubstr;

Grade GradeTokens(const GraderSpec& spec, const std::vector<TokenId>& ids) {
  const auto grader = CreateGrader(spec);
  EXPECT_TRUE(grader.ok()) << grader.status();
  const Row row;
  return (*grader)->Run(GradeInput{row, "some text", ids, FinishReason::kStop});
}

TEST(LengthTest, FallsInAStraightLineBeyondItsBounds) {
  const GraderSpec spec =
      Spec("length", {{"unit", "characters"}, {"min", "4"}, {"max", "8"}, {"ramp", "4"}});
  const std::map<size_t, double> cases = {{0, 0.0}, {1, 0.25}, {3, 0.75}, {4, 1.0},
                                          {8, 1.0}, {9, 0.75}, {12, 0.0}, {99, 0.0}};
  for (const auto& [n, score] : cases)
    EXPECT_EQ(ScoreOf(GradeText(spec, std::string(n, 'x'))), score) << n;
}

TEST(LengthTest, CountsTokensWordsCharactersAndLines) {
  const std::string text = "\xC3\xA9t\xC3\xA9  two\nthree\n";
  const std::map<std::string, double> counts = {{"words", 3}, {"characters", 15}, {"lines", 2}};
  for (const auto& [unit, count] : counts) {
    const Grade grade = GradeText(Spec("length", {{"unit", unit}, {"max", "0"}}), text);
    EXPECT_EQ(std::get<Score>(grade).sub_scores.at("length"), count) << unit;
  }
  EXPECT_EQ(ScoreOf(GradeTokens(Spec("length", {{"max", "0"}, {"ramp", "10"}}), {1, 2, 3, 4})),
            0.6);
}

TEST(LengthTest, SaysThatThereAreNoTokensToCount) {
  EXPECT_THAT(GradeReason(GradeTokens(Spec("length", {{"max", "5"}}), {})),
              HasSubstr("without token ids"));
  EXPECT_THAT(CreationError(Spec("length", {{"min", "3"}, {"max", "2"}})),
              HasSubstr("greater than max"));
}

// TRL's get_soft_overlong_punishment(max_completion_len=100, soft_punish_cache=20): its documentation's example, and the edges.
TEST(SoftOverlongGraderTest, IsTheRampOfDapo) {
  const GraderSpec spec = Spec("soft_overlong", {{"max_tokens", "100"}, {"buffer_tokens", "20"}});
  const std::map<size_t, double> cases = {{1, 0.0},   {80, 0.0},   {81, -0.05},
                                          {90, -0.5}, {100, -1.0}, {101, -1.0}};
  for (const auto& [n, score] : cases)
    EXPECT_DOUBLE_EQ(ScoreOf(GradeTokens(spec, std::vector<TokenId>(n, 1))), score) << n;
}

// TRL's get_repetition_penalty_reward(ngram_size=2, max_penalty=-1.0): its documentation's example.
TEST(RepetitionTest, IsOneMinusTheShareOfRepeatedNgrams) {
  const GraderSpec spec = Spec("repetition", {{"n", "2"}, {"unit", "tokens"}});
  EXPECT_EQ(ScoreOf(GradeTokens(spec, {1, 2, 3, 4})), 1.0);
  EXPECT_EQ(ScoreOf(GradeTokens(spec, {5, 5, 5, 5, 5})), 0.25);
  EXPECT_EQ(ScoreOf(GradeTokens(spec, {5})), 1.0);
}

TEST(RepetitionTest, CountsWordsOrCharacters) {
  EXPECT_DOUBLE_EQ(
      ScoreOf(GradeText(Spec("repetition", {{"n", "2"}}), "the cat The Cat the cat sat")),
      3.0 / 6.0);
  EXPECT_DOUBLE_EQ(ScoreOf(GradeText(Spec("repetition", {{"n", "1"}, {"unit", "characters"}}),
                                     "\xC3\xA9\xC3\xA9z")),
                   2.0 / 3.0);
}

TEST(LanguageTest, TellsLanguagesApart) {
  const std::map<std::string, std::string> texts = {
      {"en",
       "The quick brown fox jumps over the lazy dog, and everybody in the village watches it with "
       "great pleasure."},
      {"de",
       "Der schnelle braune Fuchs springt \xC3\xBC"
       "ber den faulen Hund, und alle im Dorf schauen ihm dabei gern zu."},
      {"fr",
       "Le renard brun rapide saute par-dessus le chien paresseux, et tout le monde au village le "
       "regarde avec plaisir."},
      {"ru",
       "\xD0\x91\xD1\x8B\xD1\x81\xD1\x82\xD1\x80\xD0\xB0\xD1\x8F \xD0\xBB\xD0\xB8\xD1\x81\xD0\xB0 "
       "\xD0\xBF\xD1\x80\xD1\x8B\xD0\xB3"
       "\xD0\xB0\xD0\xB5\xD1\x82 \xD1\x87\xD0\xB5\xD1\x80\xD0\xB5\xD0\xB7 "
       "\xD0\xBB\xD0\xB5\xD0\xBD\xD0\xB8\xD0\xB2\xD1\x83\xD1\x8E "
       "\xD1\x81\xD0\xBE\xD0\xB1\xD0\xB0\xD0\xBA\xD1\x83"}};
  for (const auto& [code, text] : texts) {
    for (const auto& [wanted, other] : texts) {
      const double score = ScoreOf(GradeText(Spec("language", {{"language", wanted}}), text));
      if (wanted == code) {
        EXPECT_GT(score, 0.9) << wanted;
      } else {
        EXPECT_LT(score, 0.1) << wanted << " on " << code;
      }
    }
  }
}

TEST(LanguageTest, AbstainsWhereTheLanguageCantBeTold) {
  EXPECT_STREQ(GradeKind(GradeText(Spec("language", {{"language", "en"}}), "42")), "abstain");
  EXPECT_EQ(ScoreOf(GradeText(Spec("language", {{"language", "en"}, {"undecided", "1"}}), "42")),
            1.0);
  EXPECT_STREQ(GradeKind(GradeText(Spec("language", {{"language", "klingonish"}}), "x")), "error");
}

double Tags(Params params, const std::string& completion) {
  params.insert({"tags", "[\"think\", \"answer\"]"});
  return ScoreOf(GradeText(Spec("tag_format", std::move(params)), completion));
}

TEST(TagFormatTest, WantsEachTagOnceAndInOrder) {
  EXPECT_EQ(Tags({}, " <think>a</think>\n<answer>b</answer>\n"), 1.0);
  for (const char* bad :
       {"", "<think>a</think>", "<answer>b</answer><think>a</think>", "<think>a</think><answer>b",
        "<think></think><answer>b</answer>", "<think>a</think><answer>b</answer><answer>c</answer>",
        "<think><answer>b</answer></think>", "</think>a<think><answer>b</answer>",
        "so <think>a</think><answer>b</answer>", "<think>a</think> x <answer>b</answer>",
        "<think>a<think></think><answer>b</answer>"}) {
    EXPECT_EQ(Tags({}, bad), 0.0) << bad;
  }
}

TEST(TagFormatTest, FollowsItsOptions) {
  EXPECT_EQ(Tags({{"outside", "anything"}}, "so <think>a</think> x <answer>b</answer>."), 1.0);
  EXPECT_EQ(Tags({{"nonempty", "false"}}, "<think></think><answer>b</answer>"), 1.0);
  EXPECT_EQ(Tags({{"score", "share"}}, "<think>a</think><answer>b"), 0.5);
  EXPECT_THAT(CreationError(Spec("tag_format", {{"tags", "think"}})),
              HasSubstr("must be a list of names"));
}

TEST(TagFormatTest, SaysWhatIsWrongWithEachTag) {
  const Grade grade =
      GradeText(Spec("tag_format", {{"tags", "[\"a\", \"b\"]"}}), "<b>x</b><b>y</b>");
  EXPECT_EQ(GradeReason(grade), "<a> is missing; <b> occurs more than once");
  EXPECT_EQ(std::get<Score>(grade).sub_scores.at("b"), 0.0);
}

}  // namespace
}  // namespace rft
