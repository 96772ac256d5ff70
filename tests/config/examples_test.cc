// Every configuration in examples/ is read, paths aside (models and data are made by the examples
// themselves).
#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "rft/config/config_reader.h"

namespace rft {
namespace {

TEST(ExampleConfigsTest, AreAllReadWithoutMistakes) {
  const std::filesystem::path examples =
      std::filesystem::path(RFT_TEST_DATA_DIR) / ".." / "examples";
  ASSERT_TRUE(std::filesystem::exists(examples));
  ConfigReadOptions options;
  options.check_paths = false;
  int num_read = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(examples)) {
    if (entry.path().extension() != ".yaml") continue;
    const absl::StatusOr<RunConfig> config = ReadRunConfig(entry.path().string(), options);
    EXPECT_TRUE(config.ok()) << config.status();
    ++num_read;
  }
  EXPECT_GT(num_read, 0);
}

}  // namespace
}  // namespace rft
