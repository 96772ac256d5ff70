#include "rft/core/text.h"

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "rft/core/json_writer.h"
#include "rft/core/rng.h"

namespace rft {
namespace {

TEST(EditDistanceTest, CountsInsertionsDeletionsSubstitutionsAndSwaps) {
  EXPECT_EQ(EditDistance("", "abc"), 3);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3);
  EXPECT_EQ(EditDistance("clip_hihg", "clip_high"), 1);
  EXPECT_EQ(EditDistance("same", "same"), 0);
}

TEST(DidYouMeanTest, SuggestsTheClosestOrNothing) {
  const std::vector<std::string> known = {"clip_low", "clip_high", "delta"};
  EXPECT_EQ(DidYouMean("clip_hihg", known), "clip_high");
  EXPECT_EQ(DidYouMean("dleta", known), "delta");
  EXPECT_EQ(DidYouMean("temperature", known), std::nullopt);
}

// Expected texts: Python's bytes.decode(errors="replace").
TEST(Utf8Test, ReplacesEachMaximalInvalidPartAsPythonDoes) {
  const std::string fffd = "\xEF\xBF\xBD";
  const struct {
    std::string bytes, expected;
  } cases[] = {
      {"a\xC3\xA9z", "a\xC3\xA9z"},
      {"\xFF", fffd},
      {"a\x80"
       "b",
       "a" + fffd + "b"},
      {"\xE2\x82", fffd},  // cut off: one part
      {"\xE2\x82z", fffd + "z"},
      {"\xC0\xAF", fffd + fffd},             // overlong
      {"\xED\xA0\x80", fffd + fffd + fffd},  // a surrogate
      {"\xF0\x9F\x98\x80", "\xF0\x9F\x98\x80"},
      {"\xF0\x9F\x98", fffd},
      {"\xF4\x90\x80\x80", fffd + fffd + fffd + fffd},  // above U+10FFFF
  };
  for (const auto& c : cases) {
    EXPECT_EQ(ReplaceInvalidUtf8(c.bytes), c.expected);
    EXPECT_EQ(FindInvalidUtf8(c.bytes).has_value(), c.bytes != c.expected);
    EXPECT_EQ(FindInvalidUtf8(ReplaceInvalidUtf8(c.bytes)), std::nullopt);
  }
}

TEST(Utf8Test, FindsTheFirstBadByte) { EXPECT_EQ(FindInvalidUtf8("abc\xFF"), 3u); }

TEST(ShortestNumberTest, IsShortAndAlwaysAFloatingPointText) {
  EXPECT_EQ(ShortestDouble(0.1), "0.1");
  EXPECT_EQ(ShortestDouble(40), "40.0");
  EXPECT_EQ(ShortestDouble(1e-5), "1e-05");
  EXPECT_EQ(ShortestFloat(-0.3f), "-0.3");
  EXPECT_EQ(ShortestDouble(-INFINITY), "-inf");
}

TEST(ShortestNumberTest, FloatsReadBackTheSameBitsThroughADouble) {
  for (uint64_t i = 0; i < 100000; ++i) {
    const uint32_t bits = static_cast<uint32_t>(BitsAt(1, 2, i));
    float value = 0;
    std::memcpy(&value, &bits, sizeof(value));
    if (!std::isfinite(value)) continue;
    ASSERT_EQ(static_cast<float>(std::strtod(ShortestFloat(value).c_str(), nullptr)), value);
  }
}

TEST(JsonQuoteTest, EscapesControlCharactersAndRepairsUtf8) {
  EXPECT_EQ(JsonQuote("a\"b\\c\n\x01"), "\"a\\\"b\\\\c\\n\\u0001\"");
  EXPECT_EQ(JsonQuote("\xFF"), "\"\xEF\xBF\xBD\"");
}

TEST(JsonWriterTest, WritesOneLineOrIndentedText) {
  const auto write = [](int indent) {
    JsonWriter w(indent);
    w.BeginObject();
    w.Key("a"), w.BeginArray(), w.Int(-1), w.Double(0.5), w.Double(NAN), w.EndArray();
    w.Key("b"), w.BeginObject(), w.EndObject();
    w.Key("c"), w.Bool(true);
    w.EndObject();
    return w.Take();
  };
  EXPECT_EQ(write(0), R"({"a": [-1, 0.5, null], "b": {}, "c": true})");
  EXPECT_EQ(write(1), "{\n \"a\": [\n  -1,\n  0.5,\n  null\n ],\n \"b\": {},\n \"c\": true\n}");
}

}  // namespace
}  // namespace rft
