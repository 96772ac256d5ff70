#include "rft/serve/fields.h"

#include <gtest/gtest.h>

namespace rft::serve {
namespace {

std::string MistakeOf(const char* text, void (*read)(Fields&)) {
  const json::value value = ParseJson(text).value();
  Fields f(value.as_object(), "");
  read(f);
  return std::string(f.Finish().message());
}

TEST(FieldsTest, TakesWholeNumbersHoweverTheyAreWritten) {
  const json::value value = ParseJson(R"({"a": 3, "b": 3.0, "c": 1e3, "d": null})").value();
  Fields f(value.as_object(), "");
  EXPECT_EQ(f.Int("a", 0, 9), 3);
  EXPECT_EQ(f.Int("b", 0, 9), 3);
  EXPECT_EQ(f.Int("c", 0, 9999), 1000);
  EXPECT_EQ(f.Int("d", 0, 9), std::nullopt);
  EXPECT_TRUE(f.Finish().ok());
}

TEST(FieldsTest, NamesTheFieldTheLimitsAndTheValue) {
  EXPECT_EQ(MistakeOf(R"({"n": 1000000000})", [](Fields& f) { f.Int("n", 1, 128); }),
            "n: must be a whole number in 1 .. 128, got 1000000000");
  EXPECT_EQ(MistakeOf(R"({"top_p": "x"})", [](Fields& f) { f.Number("top_p", 0, 1); }),
            "top_p: must be a number in 0 .. 1, got \"x\"");
}

TEST(FieldsTest, RefusesUnknownFieldsWithAGuess) {
  EXPECT_EQ(MistakeOf(R"({"temprature": 1})", [](Fields& f) { f.Number("temperature", 0, 2); }),
            "temprature: Extra inputs are not permitted, field: 'temprature', value: 1; did you "
            "mean temperature?");
  EXPECT_EQ(MistakeOf(R"({"routing_matrix_format": "parquet_v1"})", [](Fields&) {}),
            "routing_matrix_format: Extra inputs are not permitted, field: "
            "'routing_matrix_format', value: 'parquet_v1'");
}

TEST(FieldsTest, KeepsTheFirstMistake) {
  EXPECT_EQ(MistakeOf(R"({"a": [], "b": []})",
                      [](Fields& f) {
                        f.Bool("a");
                        f.Bool("b");
                      }),
            "a: must be true or false, got a list");
}

TEST(FieldsTest, LimitsTextsAndLists) {
  EXPECT_EQ(MistakeOf(R"({"s": "abcd"})", [](Fields& f) { f.Text("s", 3); }),
            "s: has 4 bytes; at most 3 are allowed");
  EXPECT_EQ(MistakeOf(R"({"s": ["a", "b", "c"]})", [](Fields& f) { f.Texts("s", 2, 9); }),
            "s: has 3 items; at most 2 are allowed");
  EXPECT_EQ(MistakeOf(R"({"s": [""]})", [](Fields& f) { f.Texts("s", 2, 9); }),
            "s: each must have 1 .. 9 bytes, got 0");
}

TEST(FieldsTest, RefusesIdsThatAreNone) {
  for (const char* text : {R"({"t": [1, -1]})", R"({"t": [1, 2147483648]})", R"({"t": [1, "2"]})",
                           R"({"t": [1, 2.5]})"})
    EXPECT_TRUE(MistakeOf(text, [](Fields& f) { f.Ids("t", 9); }).starts_with("t: item 1 is not"));
  EXPECT_EQ(MistakeOf(R"({"t": [1, 2, 3]})", [](Fields& f) { f.Ids("t", 2); }),
            "t: has 3 tokens; at most 2 are allowed");
}

}  // namespace
}  // namespace rft::serve
