#include "rft/io/json.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "rft/core/rng.h"
#include "rft/core/text.h"

namespace rft {
namespace {

using ::testing::HasSubstr;

std::string ErrorOf(const std::string& text, const JsonLimits& limits = {}) {
  return std::string(ParseJson(text, limits).status().message());
}

TEST(ParseJsonTest, ReadsWhatToJsonWrites) {
  const std::string text =
      R"({"a": [1, -2, 18446744073709551615, 0.1, "x\ny", true, null], "b": {"c": {}}, "d": []})";
  EXPECT_EQ(ToJson(*ParseJson(text)), text);
}

TEST(ParseJsonTest, ReadsDoublesExactly) {
  for (uint64_t i = 0; i < 20000; ++i) {
    const uint64_t bits = BitsAt(3, 4, i);
    double value = 0;
    std::memcpy(&value, &bits, sizeof(value));
    if (!std::isfinite(value)) continue;
    const auto parsed = ParseJson("[" + ShortestDouble(value) + "]");
    ASSERT_TRUE(parsed.ok());
    ASSERT_EQ(parsed->get_array()[0].get_double(), value) << ShortestDouble(value);
  }
}

// Expected: json.loads of Python 3.11.
TEST(ParseJsonTest, ReadsNumbersBeyondADoubleAsPythonDoes) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  const std::pair<const char*, double> cases[] = {{"1e400", kInf},
                                                  {"-1e400", -kInf},
                                                  {"1e-400", 0.0},
                                                  {"9E72036854775808", kInf},
                                                  {"-9e+72036854775808", -kInf},
                                                  {"9e-72036854775808", 0.0},
                                                  {"0e72036854775808", 0.0},
                                                  {"0.0001e2147483648", kInf},
                                                  {"1e00000000000000000000003", 1000.0},
                                                  {"1e-99999999999999999999", 0.0}};
  for (const auto& [text, expected] : cases) {
    const auto parsed = ParseJson(absl::StrCat("{\"a\\\"e99999999999\": [", text, ", 1e2]}"));
    ASSERT_TRUE(parsed.ok()) << text << ": " << parsed.status();
    const json::array& list = parsed->at("a\"e99999999999").as_array();
    EXPECT_EQ(list[0].get_double(), expected) << text;
    EXPECT_EQ(list[1].get_double(), 100.0) << text;
  }
}

TEST(ParseJsonTest, SaysLineColumnAndReason) {
  EXPECT_THAT(ErrorOf("{\n  \"a\": x}"), HasSubstr("line 2, column 8: not valid JSON"));
  EXPECT_THAT(ErrorOf("[1, 2"), HasSubstr("the text ends before the JSON value does"));
  EXPECT_THAT(ErrorOf(""), HasSubstr("the text ends before the JSON value does"));
  EXPECT_THAT(ErrorOf("{} {}"),
              HasSubstr("line 1, column 4: text after the end of the JSON value"));
  EXPECT_THAT(ErrorOf("[\"\xFF\"]"), HasSubstr("line 1, column 3: not UTF-8 text (byte 2)"));
  EXPECT_THAT(ErrorOf("[NaN]"), HasSubstr("not valid JSON"));
}

TEST(ParseJsonTest, KeepsItsLimits) {
  EXPECT_THAT(ErrorOf(std::string(100, '[')), HasSubstr("nested deeper than 64 levels"));
  EXPECT_TRUE(ParseJson(std::string(64, '[') + std::string(64, ']')).ok());
  EXPECT_THAT(ErrorOf("[1,2,3]", {.max_bytes = 5}),
              HasSubstr("is 7 bytes long; at most 5 are read"));
}

TEST(ParseJsonTest, RefusesDuplicateKeysOnlyWhenAsked) {
  const std::string text = R"({"x": {"a": 1}, "y": {"a": 1, "\u0061": 2}})";
  EXPECT_TRUE(ParseJson(text).ok());
  EXPECT_EQ(ErrorOf(text, {.reject_duplicate_keys = true}), "the key \"a\" is given twice");
  EXPECT_TRUE(ParseJson(R"({"x": {"a": 1}, "y": {"a": 1}})", {.reject_duplicate_keys = true}).ok());
}

TEST(ToJsonTest, WritesNullForWhatJsonLacks) {
  EXPECT_EQ(ToJson(json::object{{"loss", NAN}, {"steps", 3}}), R"({"loss": null, "steps": 3})");
}

TEST(JsonMembersTest, NameTheKeyAndWhatItMustBe) {
  const json::value value = *ParseJson(R"({"n": 1, "t": "x", "inf": "-inf"})");
  const json::object& object = value.get_object();
  EXPECT_EQ(*GetInt(object, "n"), 1);
  EXPECT_EQ(*GetDouble(object, "inf"), -INFINITY);
  EXPECT_EQ(GetInt(object, "t").status().message(), "'t' must be a whole number");
  EXPECT_EQ(GetDouble(object, "t").status().message(), "'t' must be a number");
  EXPECT_EQ(GetString(object, "z").status().message(), "'z' is missing");
  EXPECT_EQ(GetArray(object, "n").status().message(), "'n' must be a list");
}

}  // namespace
}  // namespace rft
