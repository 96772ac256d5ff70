#include "rft/models/quantized_weights.h"

#include <array>
#include <cstring>

#include <c10/util/Float8_e4m3fn.h>
#include <c10/util/Half.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "rft/core/status_macros.h"
#include "rft/models/config_json.h"
#include "rft/tensor/bf16.h"

namespace rft {
namespace {

using Kind = StoredQuantization::Kind;
constexpr int64_t kPerWord = 8;  // int4 values in an int32

const std::array<float, 256>& E4m3Table() {
  static const std::array<float, 256> table = [] {
    std::array<float, 256> values{};
    for (int i = 0; i < 256; ++i)
      values[i] = c10::Float8_e4m3fn(static_cast<uint8_t>(i), c10::Float8_e4m3fn::from_bits());
    return values;
  }();
  return table;
}

absl::Status WrongShape(const std::string& name, const TensorView& view,
                        const std::vector<int64_t>& wanted) {
  return absl::InvalidArgumentError(absl::StrCat(name, ": the file has shape [",
                                                 absl::StrJoin(view.shape, ", "), "], expected [",
                                                 absl::StrJoin(wanted, ", "), "]"));
}

absl::StatusOr<std::vector<float>> ReadScales(const TensorMap& tensors, const std::string& name,
                                              const std::vector<int64_t>& shape) {
  RFT_ASSIGN_OR_RETURN(const TensorView view, FindTensor(tensors, name));
  if (view.shape != shape) return WrongShape(name, view, shape);
  std::vector<float> scales(view.bytes.size() / TensorDtypeBytes(view.dtype));
  for (size_t i = 0; i < scales.size(); ++i) {
    if (view.dtype == TensorDtype::kF32) {
      std::memcpy(&scales[i], view.bytes.data() + 4 * i, 4);
      continue;
    }
    uint16_t bits;
    std::memcpy(&bits, view.bytes.data() + 2 * i, 2);
    if (view.dtype == TensorDtype::kBF16)
      scales[i] = ToFloat(Bf16{bits});
    else if (view.dtype == TensorDtype::kF16)
      scales[i] = c10::Half(bits, c10::Half::from_bits());
    else
      return absl::InvalidArgumentError(absl::StrCat(name, ": dtype ", TensorDtypeName(view.dtype),
                                                     " is not supported for scales"));
  }
  return scales;
}

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// out[i] = value_of(row, column) times the scale of its block.
template <typename ValueOf>
absl::Status Fill(const std::string& name, const std::vector<float>& scales,
                  const StoredQuantization& q, int64_t n, int64_t k, const ValueOf& value_of,
                  absl::Span<float> out) {
  const int64_t blocks = CeilDiv(k, q.block_columns);
  float poison = 0.0f;  // becomes NaN when any value is NaN or Inf
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < k; ++j) {
      float& x = out[i * k + j];
      x = value_of(i, j) * scales[i / q.block_rows * blocks + j / q.block_columns];
      poison += x * 0.0f;
    }
  if (poison == 0.0f) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": contains NaN or Inf; the checkpoint is damaged"));
}

}  // namespace

absl::StatusOr<StoredQuantization> ReadQuantization(const json::value& config) {
  constexpr char kKey[] = "config.json: quantization_config";
  if (!config.is_object())
    return absl::InvalidArgumentError(absl::StrCat(kKey, ": must be an object"));
  ConfigJson r(config.get_object(), kKey);
  const std::string method = r.Text("quant_method", "");
  StoredQuantization q;
  if (method == "fp8") {
    const json::value* blocks = r.Find("weight_block_size");
    if (!blocks || !blocks->is_array() || blocks->get_array().size() != 2 ||
        !blocks->get_array()[0].is_int64() || !blocks->get_array()[1].is_int64() ||
        blocks->get_array()[0].get_int64() < 1 || blocks->get_array()[1].get_int64() < 1)
      return absl::InvalidArgumentError(
          absl::StrCat(kKey, ".weight_block_size: expected two sizes of at least 1"));
    q.block_rows = blocks->get_array()[0].get_int64();
    q.block_columns = blocks->get_array()[1].get_int64();
    return q;
  }
  const json::value* groups = r.Find("config_groups");
  if (method != "compressed-tensors" || r.Text("format", "") != "pack-quantized" || !groups ||
      !groups->is_object() || groups->get_object().size() != 1)
    return absl::InvalidArgumentError(
        absl::StrCat(kKey, ".quant_method: '", method,
                     "' is not supported in this form; supported: fp8 in blocks, "
                     "compressed-tensors pack-quantized int4 in one group of layers"));
  const json::value& group = groups->get_object().begin()->value();
  const json::value* weights =
      group.is_object() ? group.get_object().if_contains("weights") : nullptr;
  if (!weights || !weights->is_object())
    return absl::InvalidArgumentError(
        absl::StrCat(kKey, ".config_groups: expected one with weights"));
  ConfigJson w(weights->get_object(), absl::StrCat(kKey, ".config_groups.weights"));
  if (w.Int("num_bits", {}) != 4) w.Fail("num_bits", "only 4 is supported");
  if (w.Text("type", "int") != "int") w.Fail("type", "only int is supported");
  if (!w.Bool("symmetric", true)) w.Fail("symmetric", "zero points are not supported");
  q.kind = Kind::kInt4Groups;
  q.block_columns = w.Int("group_size", {});
  RFT_RETURN_IF_ERROR(w.status());
  return q;
}

absl::StatusOr<bool> LoadQuantized(const TensorMap& tensors, const StoredQuantization& q,
                                   const std::string& name, const std::vector<int64_t>& shape,
                                   absl::Span<float> out) {
  const std::string stored = q.kind == Kind::kFp8Blocks ? name : name + "_packed";
  const auto it = tensors.find(stored);
  if (it == tensors.end() || shape.size() != 2) return false;
  const TensorView& view = it->second;
  const int64_t n = shape[0], k = shape[1];
  const std::byte* bytes = view.bytes.data();
  if (q.kind == Kind::kFp8Blocks) {
    if (view.dtype != TensorDtype::kF8E4M3) return false;
    if (view.shape != shape) return WrongShape(stored, view, shape);
    RFT_ASSIGN_OR_RETURN(const std::vector<float> scales,
                         ReadScales(tensors, name + "_scale_inv",
                                    {CeilDiv(n, q.block_rows), CeilDiv(k, q.block_columns)}));
    const auto value = [&, table = E4m3Table()](int64_t i, int64_t j) {
      return table[std::to_integer<uint8_t>(bytes[i * k + j])];
    };
    RFT_RETURN_IF_ERROR(Fill(name, scales, q, n, k, value, out));
    return true;
  }
  if (k % kPerWord != 0 || view.dtype != TensorDtype::kI32 ||
      view.shape != std::vector<int64_t>{n, k / kPerWord})
    return WrongShape(stored, view, {n, CeilDiv(k, kPerWord)});
  RFT_ASSIGN_OR_RETURN(const std::vector<float> scales,
                       ReadScales(tensors, name + "_scale", {n, CeilDiv(k, q.block_columns)}));
  const auto value = [&](int64_t i,
                         int64_t j) {  // little endian: byte b holds values 2b and 2b + 1
    const int pair = std::to_integer<int>(bytes[(i * k + j) / 2]);
    return static_cast<float>((j % 2 == 0 ? pair & 15 : pair >> 4) - 8);
  };
  RFT_RETURN_IF_ERROR(Fill(name, scales, q, n, k, value, out));
  return true;
}

}  // namespace rft
