#include "rft/tensor/large_tensor.h"

#include <cstdint>

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

namespace rft {
namespace {

TEST(LargeTensorTest, IsZeroAndWritable) {
  for (int64_t n : {0, 5, 3 << 20}) {
    at::Tensor t = LargeTensor(n, at::kFloat);
    ASSERT_EQ(t.numel(), n);
    float* data = t.data_ptr<float>();
    for (int64_t i = 0; i < n; i += 4097) {
      ASSERT_EQ(data[i], 0.0f);
      data[i] = 1.0f;
    }
  }
}

TEST(LargeTensorTest, StartsOnAHugePage) {
  const at::Tensor t = LargeTensor(3 << 20, at::kBFloat16);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(t.data_ptr()) % (2 << 20), 0u);
}

TEST(LargeTensorTest, RefusesWhatTheAddressSpaceCannotHold) {
  EXPECT_THROW(LargeTensor(int64_t{1} << 56, at::kFloat), c10::Error);
}

}  // namespace
}  // namespace rft
