// One moment of an optimizer: a number per parameter, kept as float32, bf16 or 8 bits.
//
//   fp32   4 bytes; used where it lies
//   bf16   2 bytes; rounded stochastically (a hash of step and position), so that small changes are not lost but on average
//          added; a value that bf16 has stays as it is
//   int8   1 byte and a float32 scale per 256 numbers: blockwise dynamic quantisation (Dettmers et al., 2110.02861, sec. 2);
//          the codes are those of bitsandbytes' dynamic map, with -1 in place of the most negative one, so that writing what
//          was read gives the same codes. Of numbers that are never negative the root is coded: a mean square would otherwise
//          round to 0 where the mean itself does not, and AdamW divides one by the other
//
// Ranges are handled in whole blocks. Thread-safe for disjoint ranges.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include <ATen/core/Tensor.h>

namespace rft {

class Moment {
 public:
  static constexpr int64_t kBlock = 256;
  static bool IsFormat(const std::string& format);
  // Bytes for `n` numbers.
  static int64_t Bytes(int64_t n, const std::string& format);

  Moment() = default;
  // Zeros. `is_signed` false: for numbers that are never negative. REQUIRES: IsFormat; fp32 where `device` is not the CPU.
  Moment(int64_t n, const std::string& format, bool is_signed, at::Device device = at::kCPU);

  bool defined() const { return storage_.defined(); }
  bool is_float() const { return storage_.scalar_type() == at::kFloat; }
  at::Tensor& values() { return storage_; }  // REQUIRES: is_float

  // REQUIRES: begin is a multiple of kBlock, count too unless it reaches the end.
  void Read(int64_t begin, int64_t count, float* out) const;
  void Write(int64_t begin, int64_t count, const float* values, uint64_t seed);

  at::Tensor ToFloat() const;  // fp32: the storage itself
  void FromFloat(const at::Tensor& values);

 private:
  at::Tensor storage_;  // 1-D
  at::Tensor scales_;   // int8: one per block
  bool is_signed_ = true;
};

// The 256 values of 8-bit codes, ascending.
std::array<float, 256> DynamicMap(bool is_signed);

}  // namespace rft
