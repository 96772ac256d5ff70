// Norm, rotation, activation and conversion of every table against formulas in double.
#include <algorithm>

#include "tests/tensor/kernel_testing.h"

namespace rft {
namespace {

using testing::As;
using testing::Exact;
using testing::ExpectClose;
using testing::KernelTest;
using testing::RandomRow;
using testing::SameBits;

constexpr int64_t kSizes[] = {1, 15, 16, 17, 48, 100};  // whole vectors, parts, and both

std::vector<double> NormReference(const std::vector<double>& x, const std::vector<double>& w,
                                  double eps, double& rstd) {
  double squares = 0.0;
  for (double v : x) squares += v * v;
  rstd = 1.0 / std::sqrt(squares / static_cast<double>(x.size()) + eps);
  std::vector<double> y;
  for (size_t i = 0; i < x.size(); ++i) y.push_back(x[i] * rstd * w[i]);
  return y;
}

// dx and dw of y = x rstd(x) w.
std::pair<std::vector<double>, std::vector<double>> NormGradient(const std::vector<double>& x,
                                                                 const std::vector<double>& w,
                                                                 const std::vector<double>& dy,
                                                                 double rstd) {
  const auto n = static_cast<double>(x.size());
  double dot = 0.0;
  for (size_t i = 0; i < x.size(); ++i) dot += x[i] * w[i] * dy[i];
  std::pair<std::vector<double>, std::vector<double>> g;
  for (size_t i = 0; i < x.size(); ++i) {
    g.first.push_back(rstd * w[i] * dy[i] - x[i] * rstd * rstd * rstd * dot / n);
    g.second.push_back(dy[i] * x[i] * rstd);
  }
  return g;
}

class NormKernelTest : public KernelTest {
 protected:
  template <typename T>
  void CheckResidual(const TypedKernels<T>& kernels, int64_t n) {
    const std::vector<float> x = RandomRow(n, 1, 3.0), w = RandomRow(n, 2),
                             before = RandomRow(n, 3);
    const std::vector<T> dy = As<T>(RandomRow(n, 4));
    std::vector<T> y(n);
    double rstd;
    const std::vector<double> expected = NormReference(Exact(x), Exact(w), 1e-5, rstd);
    EXPECT_NEAR(kernels.rms_norm_residual(x.data(), w.data(), 1e-5f, n, y.data()), rstd,
                1e-6 * rstd);
    ExpectClose(y, expected, 1.0, "y");
    std::vector<float> dx = before, dw = before;
    kernels.rms_norm_residual_backward(x.data(), w.data(), dy.data(), static_cast<float>(rstd), n,
                                       dx.data(), dw.data());
    auto [gx, gw] = NormGradient(Exact(x), Exact(w), Exact(dy), rstd);
    for (int64_t i = 0; i < n; ++i) gx[i] += before[i], gw[i] += before[i];
    ExpectClose(dx, gx, 2.0, "dx");
    ExpectClose(dw, gw, 2.0, "dw");
  }
  template <typename T>
  void CheckHead(const TypedKernels<T>& kernels, int64_t n) {
    const std::vector<T> x = As<T>(RandomRow(n, 1, 3.0)), dy = As<T>(RandomRow(n, 4));
    const std::vector<float> w = RandomRow(n, 2);
    std::vector<T> y(n), dx = dy;  // dx over dy, as RotateHeads' backward calls it
    double rstd;
    const std::vector<double> expected = NormReference(Exact(x), Exact(w), 1e-6, rstd);
    kernels.rms_norm_head(x.data(), w.data(), 1e-6f, n, y.data());
    ExpectClose(y, expected, 1.0, "y");
    std::vector<float> dw(n, 0.0f);
    kernels.rms_norm_head_backward(x.data(), w.data(), dx.data(), static_cast<float>(rstd), n,
                                   dx.data(), dw.data());
    const auto [gx, gw] = NormGradient(Exact(x), Exact(w), Exact(dy), rstd);
    ExpectClose(dx, gx, 1.0, "dx");
    ExpectClose(dw, gw, 2.0, "dw");
  }
};

TEST_P(NormKernelTest, NormsTheResidualAndItsGradient) {
  for (int64_t n : kSizes) {
    CheckResidual(GetParam()->f32, n);
    CheckResidual(GetParam()->bf16, n);
  }
}

TEST_P(NormKernelTest, NormsAHeadAndItsGradientInPlace) {
  for (int64_t n : kSizes) {
    CheckHead(GetParam()->f32, n);
    CheckHead(GetParam()->bf16, n);
  }
}

RFT_FOR_ALL_KERNELS(NormKernelTest);

class RotationKernelTest : public KernelTest {
 protected:
  template <typename T>
  void Check(const TypedKernels<T>& kernels, int64_t n, float sign) {
    const int64_t half = n / 2;
    std::vector<float> cos, sin;
    for (float angle : RandomRow(half, 5, 3.0))
      cos.push_back(std::cos(angle)), sin.push_back(std::sin(angle));
    const std::vector<T> x = As<T>(RandomRow(n, 6));
    std::vector<double> expected(n);
    for (int64_t i = 0; i < half; ++i) {
      const double a = ToFloat(x[i]), b = ToFloat(x[half + i]);
      expected[i] = a * cos[i] - b * sign * sin[i];
      expected[half + i] = b * cos[i] + a * sign * sin[i];
    }
    std::vector<T> y = x;
    kernels.rope(y.data(), cos.data(), sin.data(), sign, n);
    ExpectClose(y, expected, 1.0, "head dim " + std::to_string(n));
    kernels.rope(y.data(), cos.data(), sin.data(), -sign, n);
    ExpectClose(y, Exact(x), 2.0, "back again");
  }
};

TEST_P(RotationKernelTest, RotatesAndRotatesBack) {
  for (int64_t n : {2, 16, 24, 64, 80})
    for (float sign : {1.0f, -1.0f}) {
      Check(GetParam()->f32, n, sign);
      Check(GetParam()->bf16, n, sign);
    }
}

RFT_FOR_ALL_KERNELS(RotationKernelTest);

class SwiGluKernelTest : public KernelTest {
 protected:
  template <typename T>
  void Check(const TypedKernels<T>& kernels, int64_t n) {
    const std::vector<T> gate = As<T>(RandomRow(n, 1, 12.0)), up = As<T>(RandomRow(n, 2)),
                         dout = As<T>(RandomRow(n, 3));
    std::vector<double> y, dgate, dup;
    for (int64_t i = 0; i < n; ++i) {
      const double g = ToFloat(gate[i]), u = ToFloat(up[i]), d = ToFloat(dout[i]),
                   s = 1.0 / (1.0 + std::exp(-g));
      y.push_back(g * s * u);
      dup.push_back(d * g * s);
      dgate.push_back(d * u * s * (1.0 + g * (1.0 - s)));
    }
    std::vector<T> out(n), out_gate(n), out_up(n);
    kernels.swiglu(gate.data(), up.data(), n, out.data());
    kernels.swiglu_backward(gate.data(), up.data(), dout.data(), n, out_gate.data(), out_up.data());
    ExpectClose(out, y, 1.0, "y");
    ExpectClose(out_gate, dgate, 1.0, "dgate");
    ExpectClose(out_up, dup, 1.0, "dup");
  }
  // One pass gives the bits of the steps it takes the place of.
  template <typename T>
  void CheckWeighted(const TypedKernels<T>& kernels, int64_t n, bool adds) {
    constexpr float kWeight = 0.3f;
    const std::vector<T> gate = As<T>(RandomRow(n, 1, 12.0)), up = As<T>(RandomRow(n, 2)),
                         dout = As<T>(RandomRow(n, 3)), more = As<T>(RandomRow(n, 4));
    std::vector<T> a(n), scaled(n), dgate(n), dup(n), out(n), out_gate(n), out_up(n);
    kernels.swiglu(gate.data(), up.data(), n, a.data());
    const float dot = kernels.dot(a.data(), dout.data(), n);
    kernels.scale(a.data(), kWeight, n, a.data());
    kernels.scale(dout.data(), kWeight, n, scaled.data());
    for (int64_t i = 0; adds && i < n; ++i)
      scaled[i] = FromFloat<T>(ToFloat(scaled[i]) + ToFloat(more[i]));
    kernels.swiglu_backward(gate.data(), up.data(), scaled.data(), n, dgate.data(), dup.data());
    EXPECT_EQ(kernels.swiglu_weighted_backward(gate.data(), up.data(), dout.data(), kWeight,
                                               adds ? more.data() : nullptr, n, out.data(),
                                               out_gate.data(), out_up.data()),
              dot);
    EXPECT_TRUE(SameBits(out.data(), a.data(), n));
    EXPECT_TRUE(SameBits(out_gate.data(), dgate.data(), n));
    EXPECT_TRUE(SameBits(out_up.data(), dup.data(), n));
  }
};

TEST_P(SwiGluKernelTest, ActivatesAndGivesBothGradients) {
  for (int64_t n : kSizes) {
    Check(GetParam()->f32, n);
    Check(GetParam()->bf16, n);
  }
}

TEST_P(SwiGluKernelTest, WeighsTheGradientsInOnePass) {
  for (int64_t n : kSizes)
    for (bool adds : {false, true}) {
      CheckWeighted(GetParam()->f32, n, adds);
      CheckWeighted(GetParam()->bf16, n, adds);
    }
}

TEST_P(SwiGluKernelTest, StaysFiniteFarFromZero) {
  const float gate[] = {-1000.0f, 1000.0f, -90.0f, 90.0f}, up[] = {2.0f, 2.0f, 2.0f, 2.0f};
  float out[4];
  GetParam()->f32.swiglu(gate, up, 4, out);
  EXPECT_NEAR(out[0], 0.0, 1e-30);
  EXPECT_FLOAT_EQ(out[1], 2000.0f);
  EXPECT_NEAR(out[2], 0.0, 1e-30);
  EXPECT_FLOAT_EQ(out[3], 180.0f);
}

RFT_FOR_ALL_KERNELS(SwiGluKernelTest);

class ConversionKernelTest : public KernelTest {};

TEST_P(ConversionKernelTest, RoundsToNearestEvenAndKeepsSpecialValues) {
  const std::vector<float> values = {
      0.0f,   -0.0f,       1.0f,     1.00390625f, 1.01171875f, 3.4e38f, INFINITY, -INFINITY, NAN,
      1e-40f, -2.7182818f, 65504.0f, 1.0000001f,  255.5f,      1e-3f,   7.0f,     1.0039063f};
  const std::vector<Bf16> expected = As<Bf16>(values);  // the scalar conversion
  std::vector<Bf16> actual(values.size());
  GetParam()->bf16.from_float(values.data(), values.size(), actual.data());
  for (size_t i = 0; i < values.size(); ++i) {
    const bool flushed = std::fpclassify(values[i]) == FP_SUBNORMAL && actual[i].bits == 0;
    if (!flushed) {  // a CPU's own conversion may make 0 of it
      EXPECT_EQ(actual[i].bits, expected[i].bits) << values[i];
    }
  }
  EXPECT_EQ(expected[3].bits, 0x3f80);  // a tie goes to the even neighbour: down ...
  EXPECT_EQ(expected[4].bits, 0x3f82);  // ... and up
  EXPECT_TRUE(std::isnan(ToFloat(actual[8])));
}

RFT_FOR_ALL_KERNELS(ConversionKernelTest);

}  // namespace
}  // namespace rft
