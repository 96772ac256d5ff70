#include "rft/models/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <ATen/ops/arange.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/reciprocal.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/tensor.h>
#include <c10/core/InferenceMode.h>

#include "rft/tensor/dispatch.h"

namespace rft {
namespace {

// llama3: long wavelengths are divided by `factor`, short ones kept, those between interpolated.
float Llama3(float frequency, const RopeConfig& c) {
  const double wavelength = 2.0 * std::numbers::pi / frequency;
  const double original = static_cast<double>(c.original_max_positions);
  if (wavelength > original / c.low_freq_factor) return static_cast<float>(frequency / c.factor);
  if (wavelength < original / c.high_freq_factor) return frequency;
  const double smooth =
      (original / wavelength - c.low_freq_factor) / (c.high_freq_factor - c.low_freq_factor);
  return static_cast<float>((1.0 - smooth) * frequency / c.factor + smooth * frequency);
}

// YaRN (2309.00071, section 3.2): a ramp between interpolated and original frequencies over the dimensions.
void Yarn(std::vector<float>& frequencies, const RopeConfig& c, int64_t head_dim) {
  auto dimension = [&](double rotations) {
    return static_cast<double>(head_dim) *
           std::log(static_cast<double>(c.original_max_positions) /
                    (rotations * 2.0 * std::numbers::pi)) /
           (2.0 * std::log(c.theta));
  };
  const double low = std::max(std::floor(dimension(c.beta_fast)), 0.0);
  double high = std::min(std::ceil(dimension(c.beta_slow)), static_cast<double>(head_dim - 1));
  if (low == high) high += 0.001;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    frequencies[i] =
        static_cast<float>(frequencies[i] / c.factor * ramp + frequencies[i] * (1.0 - ramp));
  }
}

double AttentionFactor(const RopeConfig& c) {
  if (c.type != "yarn") return 1.0;
  if (c.attention_factor > 0) return c.attention_factor;
  return c.factor > 1.0 ? 0.1 * std::log(c.factor) + 1.0 : 1.0;
}

}  // namespace

std::vector<float> InverseFrequencies(const RopeConfig& config, int64_t head_dim) {
  const at::Tensor exponents =
      at::arange(0, head_dim, 2, at::kLong).to(at::kFloat).div_(static_cast<double>(head_dim));
  const at::Tensor inverse = at::reciprocal(at::pow(at::Scalar(config.theta), exponents));
  std::vector<float> f(Data<float>(inverse), Data<float>(inverse) + inverse.numel());
  if (config.type == "linear")
    for (float& x : f) x = static_cast<float>(x / config.factor);
  if (config.type == "llama3")
    for (float& x : f) x = Llama3(x, config);
  if (config.type == "yarn") Yarn(f, config, head_dim);
  return f;
}

RopeTable::RopeTable(const RopeConfig& config, int64_t head_dim, int64_t max_positions) {
  c10::InferenceMode off(false);
  const std::vector<float> f = InverseFrequencies(config, head_dim);
  const at::Tensor angles =
      at::outer(at::arange(max_positions, at::kFloat), at::tensor(f, at::kFloat));
  const double factor = AttentionFactor(config);
  cos_PD_ = at::cos(angles).mul_(factor);
  sin_PD_ = at::sin(angles).mul_(factor);
}

void RopeTable::MoveTo(at::Device device) {
  cos_PD_ = cos_PD_.to(device);
  sin_PD_ = sin_PD_.to(device);
}

}  // namespace rft
