#include "rft/models/stacked_experts.h"

#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

constexpr std::string_view kExperts = ".experts.";

// "model.layers.3.mlp.experts.7.up_proj.weight" -> {"model.layers.3.mlp.experts", 7, "up_proj"}
struct ExpertName {
  std::string prefix;
  int64_t expert = 0;
  std::string part;
  bool is_gate() const { return part == "gate_proj" || part == "w1"; }
  bool is_down() const { return part == "down_proj" || part == "w2"; }
};

std::optional<ExpertName> ParseExpertName(const std::string& name) {
  const size_t at = name.find(kExperts), number = at + kExperts.size();
  if (at == std::string::npos) return std::nullopt;
  const size_t dot = name.find('.', number), end = name.rfind(".weight");
  ExpertName parsed;
  if (dot == std::string::npos || end == std::string::npos || end <= dot ||
      !absl::SimpleAtoi(name.substr(number, dot - number), &parsed.expert))
    return std::nullopt;
  parsed.prefix = name.substr(0, number - 1);
  parsed.part = name.substr(dot + 1, end - dot - 1);
  return parsed;
}

}  // namespace

bool HasStackedExperts(const TensorMap& tensors) {
  for (const auto& [name, view] : tensors)
    if (std::string_view(name).ends_with(".experts.gate_up_proj")) return true;
  return false;
}

absl::StatusOr<TensorView> FindParameterTensor(const TensorMap& tensors, const std::string& name,
                                               const std::vector<int64_t>& shape) {
  const auto expert = ParseExpertName(name);
  if (tensors.contains(name) || !expert) return FindTensor(tensors, name);
  const auto it = tensors.find(
      absl::StrCat(expert->prefix, expert->is_down() ? ".down_proj" : ".gate_up_proj"));
  if (it == tensors.end()) return FindTensor(tensors, name);
  TensorView view = it->second;
  const int64_t rows = expert->is_down() ? shape[0] : 2 * shape[0];
  if (view.shape.size() != 3 || expert->expert >= view.shape[0] || view.shape[1] != rows ||
      view.shape[2] != shape[1])
    return absl::InvalidArgumentError(
        absl::StrCat(it->first, ": the file has shape [", absl::StrJoin(view.shape, ", "),
                     "], expert ", expert->expert, " needs [experts, ", rows, ", ", shape[1], "]"));
  const size_t part = view.bytes.size() / view.shape[0] / (rows / shape[0]);
  const size_t first =
      expert->expert * (rows / shape[0]) + (expert->is_down() || expert->is_gate() ? 0 : 1);
  view.bytes = view.bytes.subspan(first * part, part);
  view.shape = shape;
  return view;
}

std::vector<TensorToWrite> StackExperts(std::vector<TensorToWrite> tensors) {
  std::vector<TensorToWrite> stacked;
  std::string open;  // prefix of the layer whose experts are being collected
  std::vector<TensorToWrite> gate_up, down;
  auto flush = [&] {
    if (open.empty()) return;
    for (auto& [name, parts, per_expert] :
         {std::tuple{".gate_up_proj", &gate_up, int64_t{2}}, {".down_proj", &down, int64_t{1}}}) {
      TensorToWrite t{open + name, (*parts)[0].dtype, (*parts)[0].shape, nullptr};
      t.shape[0] *= per_expert;
      t.shape.insert(t.shape.begin(), static_cast<int64_t>(parts->size()) / per_expert);
      t.write = [all = std::move(*parts)](const ByteSink& sink) -> absl::Status {
        for (const TensorToWrite& part : all) RFT_RETURN_IF_ERROR(part.write(sink));
        return absl::OkStatus();
      };
      stacked.push_back(std::move(t));
      parts->clear();
    }
    open.clear();
  };
  for (TensorToWrite& t : tensors) {
    const auto expert = ParseExpertName(t.name);
    if (!expert || expert->prefix != open) flush();
    if (!expert) {
      stacked.push_back(std::move(t));
      continue;
    }
    open = expert->prefix;
    (expert->is_down() ? down : gate_up).push_back(std::move(t));
  }
  flush();
  return stacked;
}

}  // namespace rft
