#include "rft/api/not_finite.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace rft {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

Datum GoodDatum() {
  return {.ids = {5, 6, 7}, .weights = {0, 1, 1}, .advantages = {0, 1, 1}, .routes = {}};
}

// "1: advantages[2] is nan"
std::string Found(const std::vector<Datum>& datums, std::vector<std::vector<float>> logprobs,
                  std::vector<std::vector<float>> gradient = {}, bool finite = false) {
  ForwardBackwardResult result;
  result.finite = finite;
  result.logprobs = std::move(logprobs);
  NameNotFinite(datums, gradient, &result);
  return absl::StrCat(result.not_finite_datum, ": ", result.not_finite);
}

TEST(NotFiniteTest, NamesTheFirstDatumAndTheNumber) {
  std::vector<Datum> datums(3, GoodDatum());
  datums[1].advantages[2] = kNaN;
  datums[2].ref_logprobs = {0, -kInf, 0};
  EXPECT_EQ(Found(datums, {}), "1: advantages[2] is nan");
  datums[1] = GoodDatum();
  EXPECT_EQ(Found(datums, {}), "2: ref_logprobs[1] is -inf");
}

TEST(NotFiniteTest, LooksAtTheLogprobsAndTheGradientToo) {
  const std::vector<Datum> datums(2, GoodDatum());
  EXPECT_EQ(Found(datums, {{0, -1, -1}, {0, kNaN, -1}}), "1: the log-probability of ids[1] is nan");
  EXPECT_EQ(Found(datums, {{0, -1, -1}, {0, -1, -1}}, {{0, kInf, 0}, {0, 0, 0}}),
            "0: d loss / d logprob[1] is inf");
}

TEST(NotFiniteTest, NamesWhatOverflowsWhereAllAreFinite) {
  std::vector<Datum> datums(2, GoodDatum());
  datums[0].advantages[1] = 1e10f;
  datums[1].weights[2] = 3e38f;
  EXPECT_EQ(Found(datums, {}), "1: weights[2] is 3e+38");
}

TEST(NotFiniteTest, BlamesNoTokenThatIsNotTrainedOnAndNoDatumWhereAllAreFinite) {
  std::vector<Datum> datums(2, GoodDatum());
  datums[0].advantages[0] = kNaN;
  EXPECT_EQ(Found(datums, {{0, -1, -1}, {0, -1, -1}}), "-1: ");
  datums[0].advantages[1] = kNaN;
  EXPECT_EQ(Found(datums, {}, {}, /*finite=*/true), "-1: ");
}

}  // namespace
}  // namespace rft
