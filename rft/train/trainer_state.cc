#include "rft/train/trainer_state.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "rft/core/file_system.h"
#include "rft/core/status_macros.h"
#include "rft/io/safetensors.h"
#include "rft/io/safetensors_writer.h"
#include "rft/tensor/dispatch.h"

namespace rft {
namespace {

// The arenas of a state as float32: the parameters' own, the moments' own or decoded ones.
struct Arenas {
  at::Tensor values, m, v;  // v undefined for sgd, both before the first step

  Arenas(ParameterStore& parameters, Optimizer& optimizer, int64_t num_steps)
      : values(parameters.values()) {
    if (num_steps == 0) return;
    m = optimizer.first_moment().ToFloat();
    if (optimizer.second_moment().defined()) v = optimizer.second_moment().ToFloat();
  }
};

// (name in the file, 1-D float32 view of the arena) of everything that is saved, with the parameter's shape.
struct Entry {
  std::string name;
  std::vector<int64_t> shape;
  float* data;
  int64_t count;
};

std::vector<Entry> Entries(ParameterStore& parameters, const Arenas& arenas) {
  std::vector<Entry> entries;
  const std::pair<const char*, const at::Tensor*> named[] = {
      {"", &arenas.values}, {"adam_m.", &arenas.m}, {"adam_v.", &arenas.v}};
  for (const auto& [prefix, arena] : named) {
    if (!arena->defined()) continue;
    for (const Parameter& p : parameters.all())
      entries.push_back({absl::StrCat(prefix, p.name), p.value.sizes().vec(),
                         Data<float>(*arena) + parameters.OffsetOf(p), p.value.numel()});
  }
  return entries;
}

// Elements of an entry from `begin` on, as the file has them.
struct Piece {
  int64_t begin;
  TensorView view;
};

// The entry as one tensor or as ranges that cover it, in order.
absl::StatusOr<std::vector<Piece>> PiecesOf(const TensorMap& tensors, const Entry& e) {
  if (const auto whole = tensors.find(e.name); whole != tensors.end()) {
    if (whole->second.dtype != TensorDtype::kF32 || whole->second.shape != e.shape)
      return absl::InvalidArgumentError(
          absl::StrCat(e.name, ": is ", TensorDtypeName(whole->second.dtype), " [",
                       absl::StrJoin(whole->second.shape, ", "), "], this model needs F32 [",
                       absl::StrJoin(e.shape, ", "), "]"));
    return std::vector<Piece>{{0, whole->second}};
  }
  std::vector<Piece> pieces;
  const std::string prefix = absl::StrCat(e.name, "[");
  for (auto it = tensors.lower_bound(prefix);
       it != tensors.end() && absl::StartsWith(it->first, prefix); ++it) {
    const std::vector<std::string> range = absl::StrSplit(it->first.substr(prefix.size()), ':');
    int64_t begin = 0, end = 0;
    if (range.size() != 2 || !absl::SimpleAtoi(range[0], &begin) ||
        !absl::SimpleAtoi(absl::StripSuffix(range[1], "]"), &end) || begin < 0 ||
        it->second.dtype != TensorDtype::kF32 ||
        static_cast<int64_t>(it->second.bytes.size() / sizeof(float)) != end - begin)
      return absl::InvalidArgumentError(
          absl::StrCat(it->first, ": expected F32 numbers of a range [begin:end]"));
    pieces.push_back({begin, it->second});
  }
  if (pieces.empty()) return FindTensor(tensors, e.name).status();
  std::sort(pieces.begin(), pieces.end(),
            [](const Piece& a, const Piece& b) { return a.begin < b.begin; });
  int64_t covered = 0;
  bool gapless = true;
  for (const Piece& piece : pieces) {
    gapless = gapless && piece.begin == covered;
    if (gapless) covered += static_cast<int64_t>(piece.view.bytes.size() / sizeof(float));
  }
  if (!gapless || covered != e.count)
    return absl::InvalidArgumentError(absl::StrCat(e.name, ": its ranges don't cover its ", e.count,
                                                   " numbers once; at ", covered));
  return pieces;
}

}  // namespace

absl::Status SaveTrainerState(const std::string& dir, ParameterStore& parameters,
                              Optimizer& optimizer) {
  std::vector<TensorToWrite> tensors;
  const Arenas arenas(parameters, optimizer, optimizer.num_steps());
  for (const Entry& e : Entries(parameters, arenas))
    tensors.push_back(
        {e.name, TensorDtype::kF32, e.shape, [e](const ByteSink& sink) {
           return sink({reinterpret_cast<const std::byte*>(e.data), e.count * sizeof(float)});
         }});
  SafetensorsWriteOptions options;
  options.metadata["step"] = absl::StrCat(optimizer.num_steps());
  options.metadata["optimizer"] = optimizer.options().kind;
  return WriteSafetensors(JoinPath(dir, kTrainerStateFile), tensors, options);
}

absl::Status LoadTrainerState(const std::string& dir, ParameterStore& parameters,
                              Optimizer& optimizer) {
  const std::string path = JoinPath(dir, kTrainerStateFile);
  RFT_ASSIGN_OR_RETURN(const SafetensorsFile file, OpenSafetensors(path));
  const auto step_text = file.metadata.find("step");
  int64_t step = 0;
  if (step_text == file.metadata.end() || !absl::SimpleAtoi(step_text->second, &step) || step < 0)
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": metadata has no valid \"step\"; not a trainer's state"));
  const auto kind = file.metadata.find("optimizer");
  const std::string saved = kind == file.metadata.end() ? "adamw" : kind->second;
  if (saved != optimizer.options().kind)
    return absl::InvalidArgumentError(absl::StrCat(path, ": is the state of trainer.optimizer ",
                                                   saved, ", this trainer has ",
                                                   optimizer.options().kind));
  const Arenas arenas(parameters, optimizer, step);
  const std::vector<Entry> entries = Entries(parameters, arenas);
  std::vector<std::vector<Piece>> found;
  for (const Entry& e : entries) {
    auto pieces = PiecesOf(file.tensors, e);
    if (!pieces.ok())
      return absl::InvalidArgumentError(absl::StrCat(path, ": ", pieces.status().message()));
    found.push_back(*std::move(pieces));
  }
  for (size_t i = 0; i < entries.size(); ++i)
    for (const Piece& piece : found[i])
      std::memcpy(entries[i].data + piece.begin, piece.view.bytes.data(), piece.view.bytes.size());
  if (arenas.m.defined()) optimizer.first_moment().FromFloat(arenas.m);
  if (arenas.v.defined()) optimizer.second_moment().FromFloat(arenas.v);
  if (step == 0) optimizer.Reset();
  optimizer.set_num_steps(step);
  return absl::OkStatus();
}

}  // namespace rft
