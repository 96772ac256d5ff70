// A file made by the official safetensors package (golden/make_golden.py).
#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rft/io/safetensors.h"

namespace rft {
namespace {

using ::testing::ElementsAre;

template <typename T>
std::vector<T> Values(const TensorView& view) {
  std::vector<T> values(view.bytes.size() / sizeof(T));
  std::memcpy(values.data(), view.bytes.data(), view.bytes.size());
  return values;
}

TEST(SafetensorsGoldenTest, ReadsWhatTheOfficialPackageWrites) {
  const auto file = OpenSafetensors(std::string(RFT_TEST_DATA_DIR) + "/io/golden/tiny.safetensors");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->tensors.size(), 4u);
  EXPECT_EQ(file->metadata.at("made_by"), "safetensors");
  const TensorMap& tensors = file->tensors;
  EXPECT_THAT(tensors.at("a.weight").shape, ElementsAre(2, 3));
  EXPECT_THAT(Values<float>(tensors.at("a.weight")),
              ElementsAre(0.0f, 0.25f, 0.5f, 0.75f, 1.0f, 1.25f));
  EXPECT_EQ(tensors.at("b.half").dtype, TensorDtype::kF16);
  EXPECT_THAT(Values<uint16_t>(tensors.at("b.half")), ElementsAre(0x3C00, 0xC000));
  EXPECT_THAT(Values<int64_t>(tensors.at("c.ids")), ElementsAre(1, -1));
  EXPECT_EQ(tensors.at("d.flag").dtype, TensorDtype::kBool);
  EXPECT_THAT(Values<uint8_t>(tensors.at("d.flag")), ElementsAre(1, 0, 1));
}

}  // namespace
}  // namespace rft
