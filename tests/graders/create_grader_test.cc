#include "gmock/gmock.h"
#include "tests/graders/grader_testing.h"

namespace rft {
namespace {

using ::testing::HasSubstr;

TEST(CreateGraderTest, ListsTheKnownTypesAndSuggestsTheNearest) {
  const std::string message = CreationError(Spec("regex_mach", {}, "format"));
  EXPECT_THAT(
      message,
      HasSubstr(
          "graders[format].type: unknown grader type \"regex_mach\"; did you mean regex_match?"));
  EXPECT_THAT(message, HasSubstr("(known types: "));
  EXPECT_THAT(message, HasSubstr("number_match, "));
}

TEST(CreateGraderTest, SuggestsNothingWhenNothingIsNear) {
  EXPECT_THAT(CreationError(Spec("bleu", {})), ::testing::Not(HasSubstr("did you mean")));
}

// The contract every registered grader keeps.
class GraderContract : public ::testing::TestWithParam<std::string> {};

TEST_P(GraderContract, NamesAParameterItDoesNotKnow) {
  EXPECT_THAT(CreationError(Spec(GetParam(), {{"no_such_key", "1"}}, "mine")),
              HasSubstr("graders[mine].no_such_key: unknown key"));
}

INSTANTIATE_TEST_SUITE_P(AllRegistered, GraderContract,
                         ::testing::ValuesIn(GraderRegistry::Get().Names()));

}  // namespace
}  // namespace rft
