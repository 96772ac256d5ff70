#include "rft/train/moment.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "rft/tensor/bf16.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/large_tensor.h"
#include "rft/tensor/parallel.h"

namespace rft {
namespace {

// Decodes and encodes 8-bit numbers. Encoding looks up the upper 16 bits of a float: codes lie further apart than that.
struct Codes {
  std::array<float, 256> value;
  std::vector<uint8_t> code_of = std::vector<uint8_t>(1 << 16);

  explicit Codes(bool is_signed) : value(DynamicMap(is_signed)) {
    for (uint32_t upper = 0; upper < code_of.size(); ++upper) {
      const auto middle = std::bit_cast<float>(upper << 16 | 0x8000u);
      const float x = std::isnan(middle) ? 0.0f : std::clamp(middle, value.front(), value.back());
      const auto above = std::lower_bound(value.begin(), value.end(), x);
      auto nearest = above;
      if (above == value.end() || (above != value.begin() && x - *(above - 1) < *above - x))
        nearest = above - 1;
      code_of[upper] = static_cast<uint8_t>(nearest - value.begin());
    }
  }
  uint8_t CodeOf(float x) const { return code_of[std::bit_cast<uint32_t>(x) >> 16]; }

  static const Codes& Get(bool is_signed) {
    static const auto* signed_codes = new Codes(true);
    static const auto* unsigned_codes = new Codes(false);
    return is_signed ? *signed_codes : *unsigned_codes;
  }
};

constexpr float kLeastScale = 1e-18f;  // its square is still a normal number

// 16 random bits of (seed, position): a 64-bit finaliser (Steele et al. 2014, "splitmix").
uint32_t RandomBits(uint64_t seed, uint64_t position) {
  uint64_t z = seed * 0x9E3779B97F4A7C15u + position * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return static_cast<uint32_t>(z >> 48);
}

}  // namespace

std::array<float, 256> DynamicMap(bool is_signed) {
  std::vector<double> values = {0.0, 1.0};
  for (int i = 0; i < 7; ++i) {
    const int count = 1 << (is_signed ? i : i + 1);
    const double power = std::pow(10.0, i - 6);
    for (int j = 0; j < count; ++j) {  // middles of equal parts of [0.1, 1]
      const double middle = 0.1 + 0.9 * (j + 0.5) / count;
      values.push_back(power * middle);
      if (is_signed) values.push_back(-power * middle);
    }
  }
  std::sort(values.begin(), values.end());
  if (is_signed) values.front() = -1.0;
  std::array<float, 256> map{};
  std::copy(values.begin(), values.end(), map.begin());
  return map;
}

bool Moment::IsFormat(const std::string& format) {
  return format == "fp32" || format == "bf16" || format == "int8";
}

int64_t Moment::Bytes(int64_t n, const std::string& format) {
  if (format == "int8") return n + 4 * ((n + kBlock - 1) / kBlock);
  return n * (format == "bf16" ? 2 : 4);
}

Moment::Moment(int64_t n, const std::string& format, bool is_signed, at::Device device)
    : is_signed_(is_signed) {
  TORCH_CHECK(device.is_cpu() || format == "fp32", "moments: ", format, " is for the CPU");
  storage_ = LargeTensor(n,
                         format == "fp32"   ? at::kFloat
                         : format == "bf16" ? at::kBFloat16
                                            : at::kByte,
                         device);
  if (format != "int8") return;
  scales_ = LargeTensor((n + kBlock - 1) / kBlock, at::kFloat);
  std::fill_n(Data<uint8_t>(storage_), n, Codes::Get(is_signed).CodeOf(0.0f));
}

void Moment::Read(int64_t begin, int64_t count, float* out) const {
  if (storage_.scalar_type() == at::kFloat) {
    std::copy_n(Data<float>(storage_) + begin, count, out);
  } else if (storage_.scalar_type() == at::kBFloat16) {
    const Bf16* values = Data<Bf16>(storage_) + begin;
    for (int64_t i = 0; i < count; ++i) out[i] = rft::ToFloat(values[i]);
  } else {
    const Codes& codes = Codes::Get(is_signed_);
    const uint8_t* stored = Data<uint8_t>(storage_) + begin;
    for (int64_t i = 0; i < count; ++i) {
      const float x = codes.value[stored[i]] * Data<float>(scales_)[(begin + i) / kBlock];
      out[i] = is_signed_ ? x : x * x;
    }
  }
}

void Moment::Write(int64_t begin, int64_t count, const float* values, uint64_t seed) {
  if (storage_.scalar_type() == at::kFloat) {
    std::copy_n(values, count, Data<float>(storage_) + begin);
  } else if (storage_.scalar_type() == at::kBFloat16) {
    auto* out = reinterpret_cast<uint16_t*>(Data<Bf16>(storage_) + begin);
    for (int64_t i = 0; i < count; ++i)
      out[i] = static_cast<uint16_t>(
          (std::bit_cast<uint32_t>(values[i]) + RandomBits(seed, begin + i)) >> 16);
  } else {
    const Codes& codes = Codes::Get(is_signed_);
    uint8_t* out = Data<uint8_t>(storage_) + begin;
    for (int64_t b = 0; b < count; b += kBlock) {
      const int64_t size = std::min(kBlock, count - b);
      float largest = 0.0f;
      for (int64_t i = 0; i < size; ++i) largest = std::max(largest, std::abs(values[b + i]));
      if (!is_signed_) largest = std::sqrt(largest);
      if (largest < kLeastScale) largest = 0.0f;
      Data<float>(scales_)[(begin + b) / kBlock] = largest;
      const float divisor = largest > 0.0f ? largest : 1.0f;
      for (int64_t i = 0; i < size; ++i) {
        const float x = largest == 0.0f ? 0.0f : values[b + i];
        out[b + i] = codes.CodeOf((is_signed_ ? x : std::sqrt(x)) / divisor);
      }
    }
  }
}

at::Tensor Moment::ToFloat() const {
  if (storage_.scalar_type() == at::kFloat) return storage_;
  at::Tensor values = LargeTensor(storage_.numel(), at::kFloat);
  Read(0, storage_.numel(), Data<float>(values));
  return values;
}

void Moment::FromFloat(const at::Tensor& values) {
  if (is_float())
    storage_.copy_(values);  // nothing to do if it is the storage
  else
    Write(0, storage_.numel(), Data<float>(values), /*seed=*/0);
}

}  // namespace rft
