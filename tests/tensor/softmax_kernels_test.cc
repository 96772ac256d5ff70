// Softmax statistics, exp, the logits' gradient, the optimizer and the norm of every table, against formulas in double.
#include <algorithm>

#include "tests/tensor/kernel_testing.h"

namespace rft {
namespace {

using testing::As;
using testing::ExpectClose;
using testing::KernelTest;
using testing::RandomRow;

struct Softmax {
  double log_sum_exp, entropy;
  std::vector<double> p;
};
Softmax Reference(const std::vector<float>& x, float scale) {
  const double max = *std::max_element(x.begin(), x.end());
  double sum = 0.0;
  for (float v : x) sum += std::exp((v - max) * scale);
  Softmax s{max * scale + std::log(sum), 0.0, {}};
  for (float v : x) {
    s.p.push_back(std::exp(v * static_cast<double>(scale) - s.log_sum_exp));
    if (s.p.back() > 0.0) s.entropy -= s.p.back() * std::log(s.p.back());
  }
  return s;
}

class SoftmaxKernelTest : public KernelTest {
 protected:
  void Check(const std::vector<float>& x, float scale, const std::string& what) {
    float entropy = NAN;
    const Softmax expected = Reference(x, scale);
    const RowStats stats = GetParam()->row_stats(x.data(), x.size(), scale, &entropy);
    EXPECT_EQ(stats.max, *std::max_element(x.begin(), x.end()) * scale) << what;
    EXPECT_NEAR(stats.log_sum_exp, expected.log_sum_exp,
                2e-6 * std::max(1.0, std::abs(expected.log_sum_exp)))
        << what;
    EXPECT_NEAR(entropy, expected.entropy, 1e-5 * std::max(1.0, expected.entropy)) << what;
    std::vector<float> kept(x.size()), exps(x.size());
    const RowStats again = GetParam()->row_exp_stats(x.data(), x.size(), scale, kept.data());
    GetParam()->row_exp(x.data(), x.size(), scale, stats.max, exps.data());
    EXPECT_EQ(again.sum, stats.sum) << what;
    EXPECT_EQ(again.log_sum_exp, stats.log_sum_exp) << what;
    EXPECT_EQ(kept, exps) << what;
  }
};

TEST_P(SoftmaxKernelTest, FindsLogSumExpAndEntropyOfRowsOfEveryLength) {
  for (int64_t n : {1, 2, 15, 16, 17, 63, 64, 65, 258, 5000})
    for (float scale : {1.0f, 0.5f, 3.0f})
      Check(RandomRow(n, 9, 8.0), scale, "n " + std::to_string(n));
}

TEST_P(SoftmaxKernelTest, CountsMinusInfinityAsImpossible) {
  std::vector<float> x = RandomRow(100, 9, 4.0);
  for (size_t i = 0; i < x.size(); i += 3) x[i] = -INFINITY;
  Check(x, 1.0f, "a third");
  std::fill(x.begin(), x.end(), -INFINITY);
  x[99] = 2.5f;
  Check(x, 1.0f, "all but the last");
}

TEST_P(SoftmaxKernelTest, KeepsLargeAndSmallLogitsInRange) {
  Check({3000.0f, 2999.0f, -3000.0f}, 1.0f, "large");
  Check({-3000.0f, -3001.0f}, 1.0f, "small");
}

TEST_P(SoftmaxKernelTest, TakesExpToAFewUnitsInTheLastPlace) {
  std::vector<float> x, y(4001);
  for (int i = 0; i <= 4000; ++i) x.push_back(-87.0f + static_cast<float>(i) * 0.04f);
  GetParam()->row_exp(x.data(), x.size(), 1.0f, 0.0f, y.data());
  for (size_t i = 0; i < x.size(); ++i) {
    const double expected = std::exp(static_cast<double>(x[i]));
    ASSERT_NEAR(y[i], expected, 2.5e-7 * expected) << "exp(" << x[i] << ")";
  }
}

TEST_P(SoftmaxKernelTest, TakesExpOfVeryNegativeNumbersAsZero) {
  const float x[] = {-104.5f, -1000.0f, -INFINITY, 0.0f};
  float y[4];
  GetParam()->row_exp(x, 4, 1.0f, 0.0f, y);
  EXPECT_EQ(std::vector<float>(y, y + 4), (std::vector<float>{0.0f, 0.0f, 0.0f, 1.0f}));
}

template <typename T>
void CheckGradient(const TypedKernels<T>& kernels, int64_t n, float inv_temperature) {
  const std::vector<float> x = RandomRow(n, 2, 5.0);
  const int64_t target = n / 2;
  Softmax s = Reference(x, inv_temperature);
  s.p[target] -= 1.0;
  for (double& p : s.p) p *= -0.7 * inv_temperature;
  std::vector<T> out(n);
  kernels.softmax_gradient(x.data(), n, inv_temperature, static_cast<float>(s.log_sum_exp), target,
                           -0.7f, out.data());
  ExpectClose(out, s.p, 0.3, "n " + std::to_string(n));
}

TEST_P(SoftmaxKernelTest, GivesTheGradientOfALogProbability) {
  for (int64_t n : {1, 16, 17, 258})
    for (float inv_temperature : {1.0f, 2.0f}) {
      CheckGradient(GetParam()->f32, n, inv_temperature);
      CheckGradient(GetParam()->bf16, n, inv_temperature);
    }
}

TEST_P(SoftmaxKernelTest, SumsSquaresInDouble) {
  for (int64_t n : {1, 16, 33, 4096, 10001}) {
    const std::vector<float> x = RandomRow(n, 4, 3.0);
    double expected = 0.0;
    for (float v : x) expected += static_cast<double>(v) * v;
    EXPECT_NEAR(GetParam()->sum_of_squares(x.data(), n), expected, 1e-6 * expected) << n;
  }
}

RFT_FOR_ALL_KERNELS(SoftmaxKernelTest);

class AdamWKernelTest : public KernelTest {};

TEST_P(AdamWKernelTest, StepsAsTheFormulaInDouble) {
  constexpr int64_t kCount = 37;
  constexpr double kScale = 0.5, kLr = 0.01, kBeta1 = 0.9, kBeta2 = 0.95, kEps = 1e-8, kDecay = 0.1;
  std::vector<float> w = RandomRow(kCount, 1), m(kCount, 0.0f), v(kCount, 0.0f);
  std::vector<double> ew(w.begin(), w.end()), em(kCount, 0.0), ev(kCount, 0.0);
  for (int t = 1; t <= 10; ++t) {
    std::vector<float> g = RandomRow(kCount, 100 + t);
    const std::vector<float> given = g;
    const double bias1 = 1.0 - std::pow(kBeta1, t), bias2 = 1.0 - std::pow(kBeta2, t);
    GetParam()->adamw(w.data(), m.data(), v.data(), g.data(), kCount, kScale, kLr, kBeta1, kBeta2,
                      kEps, kDecay, static_cast<float>(bias1),
                      static_cast<float>(std::sqrt(bias2)));
    for (int64_t i = 0; i < kCount; ++i) {
      const double gi = given[i] * kScale;
      em[i] = kBeta1 * em[i] + (1.0 - kBeta1) * gi;
      ev[i] = kBeta2 * ev[i] + (1.0 - kBeta2) * gi * gi;
      ew[i] =
          ew[i] * (1.0 - kLr * kDecay) - kLr * (em[i] / bias1) / (std::sqrt(ev[i] / bias2) + kEps);
    }
    EXPECT_EQ(g, std::vector<float>(kCount, 0.0f)) << "the gradient is cleared";
  }
  ExpectClose(w, ew, 1.0, "w");
  ExpectClose(m, em, 0.2, "m");
  ExpectClose(v, ev, 0.2, "v");
}

RFT_FOR_ALL_KERNELS(AdamWKernelTest);

}  // namespace
}  // namespace rft
