// Products with int8 weights against the dequantised weights in double, and against themselves, bit for bit.
#include <cmath>

#include "rft/tensor/parallel.h"
#include "rft/tensor/quantize.h"
#include "rft/tensor/weight.h"
#include "tests/tensor/kernel_testing.h"
#include "tests/tensor/thread_count.h"

#include <ATen/ops/empty.h>

namespace rft {
namespace {

using testing::As;
using testing::Exact;
using testing::KernelTest;
using testing::RandomRow;
using testing::SameBits;

// One panel of `columns` rows of k weights, of very different sizes.
struct Panel {
  Panel(int64_t columns, int64_t k, uint64_t seed = 7)
      : columns(columns), k(k), values(PanelElements<Bf16>(k)), scales(kPanelWidth) {
    for (int64_t c = 0; c < columns; ++c) {
      const std::vector<float> row = RandomRow(k, seed + c, std::pow(10.0, c % 5 - 3));
      rows.insert(rows.end(), row.begin(), row.end());
    }
    QuantizePanel(rows.data(), k, columns, values.data(), scales.data());
  }
  // What the panel stands for.
  double At(int64_t c, int64_t i) const {
    return values[(i / 2 * kPanelWidth + c) * 2 + i % 2] * static_cast<double>(scales[c]);
  }
  int64_t columns, k;
  std::vector<float> rows;
  std::vector<int8_t> values;
  std::vector<float> scales;
};

TEST(QuantizePanelTest, KeepsEveryWeightWithinHalfAStepOfItsRow) {
  const Panel panel(47, 66);
  for (int64_t c = 0; c < panel.columns; ++c) {
    const float* row = panel.rows.data() + c * panel.k;
    float largest = 0;
    for (int64_t i = 0; i < panel.k; ++i) largest = std::max(largest, std::abs(row[i]));
    for (int64_t i = 0; i < panel.k; ++i)
      EXPECT_NEAR(panel.At(c, i), row[i], largest / 127.0 / 2.0 * 1.0001);
  }
}

TEST(QuantizePanelTest, IsZeroWhereTheRowIsZeroOrIsNotThere) {
  const std::vector<float> zeros(8, 0.0f);
  std::vector<int8_t> values(PanelElements<Bf16>(8), 1);
  std::vector<float> scales(kPanelWidth, 1.0f);
  QuantizePanel(zeros.data(), 8, 1, values.data(), scales.data());
  EXPECT_EQ(values, std::vector<int8_t>(values.size(), 0));
  EXPECT_EQ(scales, std::vector<float>(kPanelWidth, 0.0f));
}

class GemmInt8KernelTest : public KernelTest {};

TEST_P(GemmInt8KernelTest, MultipliesWithTheDequantisedWeights) {
  for (int64_t rows : {1, 2, 3, 7, 8, 9, 17, 128, 130})
    for (int64_t columns : {1, 16, 47, 48}) {
      const Panel panel(columns, 530);  // three blocks of k
      const std::vector<Bf16> a = As<Bf16>(RandomRow(rows * panel.k, 3));
      std::vector<float> c(rows * columns, 0.5f);
      GetParam()->gemm_panel_int8_float(a.data(), panel.k, panel.values.data(), panel.scales.data(),
                                        panel.k, rows, columns, c.data(), columns, true);
      const std::vector<double> x = Exact(a);
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t j = 0; j < columns; ++j) {
          double sum = 0.5, size = 0.5;
          for (int64_t i = 0; i < panel.k; ++i) {
            sum += x[r * panel.k + i] * panel.At(j, i);
            size += std::abs(x[r * panel.k + i] * panel.At(j, i));
          }
          ASSERT_NEAR(c[r * columns + j], sum, 2e-6 * size) << rows << " rows, column " << j;
        }
    }
}

TEST_P(GemmInt8KernelTest, GivesARowTheSameBitsWhateverTheNumberOfRows) {
  const Panel panel(48, 530);
  const std::vector<Bf16> a = As<Bf16>(RandomRow(130 * panel.k, 3));
  auto product = [&](int64_t first, int64_t rows) {
    std::vector<float> c(rows * 48);
    GetParam()->gemm_panel_int8_float(a.data() + first * panel.k, panel.k, panel.values.data(),
                                      panel.scales.data(), panel.k, rows, 48, c.data(), 48, false);
    return c;
  };
  const std::vector<float> all = product(0, 130);
  for (int64_t rows : {1, 2, 5, 8, 9, 16, 129})
    for (int64_t first : {0, 1, 130 - static_cast<int>(rows)})
      EXPECT_TRUE(SameBits(product(first, rows).data(), all.data() + first * 48, rows * 48))
          << rows << " rows from " << first;
}

TEST_P(GemmInt8KernelTest, RoundsTheFloatProductToBf16) {
  const Panel panel(48, 64);
  for (int64_t rows : {3, 20}) {
    const std::vector<Bf16> a = As<Bf16>(RandomRow(rows * 64, 3));
    std::vector<float> exact(rows * 48);
    std::vector<Bf16> rounded(rows * 48);
    GetParam()->gemm_panel_int8_float(a.data(), 64, panel.values.data(), panel.scales.data(), 64,
                                      rows, 48, exact.data(), 48, false);
    GetParam()->gemm_panel_int8(a.data(), 64, panel.values.data(), panel.scales.data(), 64, rows,
                                48, rounded.data(), 48, false);
    EXPECT_TRUE(SameBits(rounded.data(), As<Bf16>(exact).data(), rows * 48));
  }
}

RFT_FOR_ALL_KERNELS(GemmInt8KernelTest);

TEST(Int8WeightTest, StacksPartsAndDoesNotDependOnThreadsOrRows) {
  const int64_t k = 530, m = 200;
  std::vector<Parameter> parameters;
  for (int64_t rows : {31, 500, 64}) {
    Parameter p{"part", at::empty({rows, k}), at::Tensor()};
    const std::vector<float> values = RandomRow(rows * k, rows);
    std::copy(values.begin(), values.end(), p.value.data_ptr<float>());
    parameters.push_back(p);
  }
  const Weight w = Weight::Create({&parameters[0], &parameters[1], &parameters[2]}, at::kChar);
  EXPECT_EQ(w.compute_dtype(), at::kBFloat16);
  EXPECT_EQ(w.packed.nbytes(), 13u * 48 * k);
  const std::vector<Bf16> a = As<Bf16>(RandomRow(m * k, 3));
  auto product = [&](int threads, int64_t first, int64_t rows) {
    const testing::ThreadCount guard(threads);
    std::vector<float> c(rows * w.n);
    MultiplyToFloat(a.data() + first * k, rows, w, c.data(), false);
    return c;
  };
  const std::vector<float> all = product(2, 0, m), serial = product(1, 0, m);
  EXPECT_TRUE(SameBits(all.data(), serial.data(), m * w.n));
  EXPECT_TRUE(SameBits(product(2, 77, 1).data(), all.data() + 77 * w.n, w.n));
  for (int64_t n : {0, 30, 31, 530, 531, 594}) {  // both sides of the parts' borders
    const Parameter& p = parameters[n < 31 ? 0 : n < 531 ? 1 : 2];
    const float* row = p.value.data_ptr<float>() + (n < 31 ? n : n < 531 ? n - 31 : n - 531) * k;
    double sum = 0, step = 0, size = 0;
    for (int64_t i = 0; i < k; ++i) {
      sum += static_cast<double>(ToFloat(a[i])) * row[i];
      size += std::abs(ToFloat(a[i]));
      step = std::max<double>(step, std::abs(row[i]) / 127.0);
    }
    EXPECT_NEAR(all[n], sum, size * step / 2 + 1e-3) << "row " << n;
  }
}

}  // namespace
}  // namespace rft
