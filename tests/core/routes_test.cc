#include "rft/core/routes.h"

#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "rft/core/rng.h"

namespace rft {
namespace {

// `k` distinct ids of [0, n), ascending, per layer.
std::vector<int32_t> RandomRoute(const RouteCodec& c, uint64_t seed) {
  std::vector<int32_t> route;
  for (int64_t l = 0; l < c.num_layers(); ++l) {
    std::vector<int32_t> ids(c.num_experts());
    std::iota(ids.begin(), ids.end(), 0);
    for (int64_t j = 0; j < c.top_k(); ++j)
      std::swap(ids[j], ids[j + BitsAt(seed, l, j) % (c.num_experts() - j)]);
    std::sort(ids.begin(), ids.begin() + c.top_k());
    route.insert(route.end(), ids.begin(), ids.begin() + c.top_k());
  }
  return route;
}

struct Shape {
  int64_t experts, top_k;
};
const Shape kShapes[] = {{1, 1},   {2, 1},    {8, 2},   {10, 3},  {16, 4},  {60, 4},  {33, 16},
                         {128, 8}, {129, 12}, {256, 1}, {256, 8}, {257, 2}, {384, 8}, {512, 10}};

TEST(RouteCodecTest, GivesBackWhatItPacked) {
  for (const Shape& s : kShapes) {
    const RouteCodec codec(5, s.experts, s.top_k);
    for (uint64_t seed = 0; seed < 20; ++seed) {
      const std::vector<int32_t> route = RandomRoute(codec, seed);
      std::vector<uint8_t> bytes(codec.token_bytes());
      codec.Encode(route.data(), bytes.data());
      std::vector<int32_t> back(route.size());
      ASSERT_TRUE(codec.Decode(bytes.data(), back.data()).ok()) << s.experts << " " << s.top_k;
      EXPECT_EQ(back, route);
    }
  }
}

TEST(RouteCodecTest, TakesNoMoreThanTheBitsOfTheChoice) {
  for (const Shape& s : kShapes) {
    const double bits = static_cast<double>(s.top_k) * std::log2(static_cast<double>(s.experts));
    EXPECT_LE(RouteCodec(3, s.experts, s.top_k).layer_bytes(),
              std::max(1.0, std::ceil(bits / 8.0 - 1e-9)))
        << s.experts << " experts, top " << s.top_k;
  }
  EXPECT_EQ(RouteCodec(48, 128, 8).token_bytes(), 48 * 7);
  EXPECT_EQ(RouteCodec().token_bytes(), 0);
}

TEST(RouteCodecTest, PacksBitsWhereExpertsAreAPowerOfTwo) {
  const int32_t route[] = {1, 2, 5, 15};
  uint8_t bytes[2];
  RouteCodec(1, 16, 4).Encode(route, bytes);
  EXPECT_EQ(bytes[0], 0x21);
  EXPECT_EQ(bytes[1], 0xf5);
}

TEST(RouteCodecTest, RefusesBytesThatAreNoRoute) {
  const RouteCodec codec(1, 10, 3);
  std::vector<int32_t> experts(3);
  for (const std::vector<uint8_t>& bytes :
       std::vector<std::vector<uint8_t>>{{0, 0}, {0xff, 0xff}, {0x37, 0x01}})
    EXPECT_FALSE(codec.Decode(bytes.data(), experts.data()).ok());
}

TEST(RouteCodecTest, SpeaksTheWireFormOfOneByteAnExpert) {
  const RouteCodec codec(2, 10, 2);
  const int32_t route[] = {0, 9, 3, 4};
  std::vector<uint8_t> bytes(codec.token_bytes());
  codec.Encode(route, bytes.data());
  EXPECT_EQ(codec.ToWire(bytes.data()), "AAkDBA==");  // base64 of 00 09 03 04
  EXPECT_EQ(*codec.FromWire("AAkDBA=="), bytes);
  EXPECT_EQ(*codec.FromWire("CQAEAw=="), bytes);  // any order
}

TEST(RouteCodecTest, SpeaksTheWireFormOfTwoBytesAboveTwoHundredAndFiftySixExperts) {
  const RouteCodec codec(1, 384, 2);
  const int32_t route[] = {5, 300};
  std::vector<uint8_t> bytes(codec.token_bytes());
  codec.Encode(route, bytes.data());
  EXPECT_EQ(codec.ToWire(bytes.data()), "BQAsAQ==");  // 05 00 2c 01
  EXPECT_EQ(*codec.FromWire("BQAsAQ=="), bytes);
}

TEST(RouteCodecTest, NamesWhatIsWrongOnTheWire) {
  const RouteCodec codec(2, 10, 2);
  EXPECT_EQ(codec.FromWire("!").status().message(), "not base64");
  EXPECT_EQ(codec.FromWire("AAk=").status().message(),
            "has 2 bytes; this model needs 2 layers x 2 experts x 1 bytes");
  EXPECT_EQ(codec.FromWire("AAoDBA==").status().message(), "expert 10 is not one of 10");
  EXPECT_FALSE(codec.FromWire("AQEDBA==").ok());
  const std::vector<std::string> tokens = {"", "AAkDBA==", "AAk="};
  EXPECT_EQ(TokenRoutesFromWire(codec, tokens).status().message().substr(0, 20),
            "routing_matrices[2]:");
}

TEST(TokenRoutesTest, ReadsADatumsRoutesByTheInputOfTheForward) {
  const RouteCodec codec(2, 10, 2);
  const std::vector<std::string> texts = {"", "AAkDBA==", "AgUDBA=="};  // of three positions
  const auto by_input = DatumRoutesFromWire(codec, texts);
  ASSERT_TRUE(by_input.ok());
  EXPECT_EQ(by_input->known, (std::vector<uint8_t>{0, 0, 1, 1}));  // of four tokens
  const auto by_token = TokenRoutesFromWire(codec, texts);
  EXPECT_TRUE(std::equal(by_token->packed.begin(), by_token->packed.end(),
                         by_input->packed.begin() + codec.token_bytes(), by_input->packed.end()));
  EXPECT_EQ(DatumRoutesFromWire(codec, std::vector<std::string>{"", "?"}).status().message(),
            "routing_matrices[1]: not base64");
}

TEST(TokenRoutesTest, KnowsWhichTokensAreLeftToTheRouter) {
  const RouteCodec codec(2, 10, 2);
  const auto routes = TokenRoutesFromWire(codec, std::vector<std::string>{"", "AAkDBA=="});
  ASSERT_TRUE(routes.ok());
  EXPECT_FALSE(routes->has(0));
  EXPECT_TRUE(routes->has(1));
  EXPECT_EQ(static_cast<int64_t>(routes->packed.size()), 2 * codec.token_bytes());
}

}  // namespace
}  // namespace rft
