#include "rft/train/trainer_state.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
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

// The arenas of a state as float32 on the CPU: the parameters' own, the moments' own or decoded ones; copies of those that are
// elsewhere.
struct Arenas {
  at::Tensor values, m, v;  // v undefined for sgd, both before the first step

  Arenas(ParameterStore& parameters, Optimizer& optimizer, int64_t num_steps)
      : values(parameters.values().cpu()) {
    if (num_steps == 0) return;
    m = optimizer.first_moment().ToFloat().cpu();
    if (optimizer.second_moment().defined()) v = optimizer.second_moment().ToFloat().cpu();
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

std::string ShardFile(StateShard shard) {
  if (shard.count == 1) return kTrainerStateFile;
  return absl::StrFormat("trainer-%05d-of-%05d.safetensors", shard.index + 1, shard.count);
}

// The file of a whole state, or those of its shards.
absl::StatusOr<std::vector<std::string>> StateFiles(const std::string& dir) {
  FileSystem& fs = FileSystem::Default();
  if (fs.Exists(JoinPath(dir, kTrainerStateFile)))
    return std::vector<std::string>{JoinPath(dir, kTrainerStateFile)};
  RFT_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.ListDir(dir));
  for (const std::string& name : names) {
    const size_t of = name.find("-of-");
    int64_t count = 0;
    if (!absl::StartsWith(name, "trainer-") || of == std::string::npos ||
        !absl::SimpleAtoi(absl::StripSuffix(name.substr(of + 4), ".safetensors"), &count))
      continue;
    std::vector<std::string> files;
    for (int64_t i = 0; i < count; ++i) {
      files.push_back(JoinPath(dir, ShardFile({i, count})));
      if (!fs.Exists(files.back()))
        return absl::NotFoundError(
            absl::StrCat(files.back(), ": is missing; the state was saved in ", count, " shards"));
    }
    return files;
  }
  return absl::NotFoundError(
      absl::StrCat(dir, ": holds no trainer's state (", kTrainerStateFile, ", or shards of one)"));
}

struct SavedState {
  std::string path;  // for messages
  int64_t step = 0;
  std::string optimizer;
  TensorMap tensors;  // of all shards
};

absl::StatusOr<SavedState> OpenState(const std::string& dir) {
  RFT_ASSIGN_OR_RETURN(const std::vector<std::string> files, StateFiles(dir));
  SavedState state;
  for (const std::string& path : files) {
    RFT_ASSIGN_OR_RETURN(SafetensorsFile file, OpenSafetensors(path));
    const auto text = file.metadata.find("step");
    int64_t step = 0;
    if (text == file.metadata.end() || !absl::SimpleAtoi(text->second, &step) || step < 0)
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": metadata has no valid \"step\"; not a trainer's state"));
    const auto kind = file.metadata.find("optimizer");
    const std::string optimizer = kind == file.metadata.end() ? "adamw" : kind->second;
    if (!state.path.empty() && (step != state.step || optimizer != state.optimizer))
      return absl::InvalidArgumentError(absl::StrCat(path, ": is of step ", step, " of ", optimizer,
                                                     ", ", state.path, " of step ", state.step,
                                                     " of ", state.optimizer));
    state.path = path;
    state.step = step;
    state.optimizer = optimizer;
    state.tensors.merge(file.tensors);
  }
  return state;
}

}  // namespace

absl::Status SaveTrainerState(const std::string& dir, ParameterStore& parameters,
                              Optimizer& optimizer, StateShard shard) {
  if (shard.index < 0 || shard.index >= shard.count)
    return absl::InvalidArgumentError(
        absl::StrCat("save_state: shard ", shard.index, " of ", shard.count, ": counts from 0"));
  std::vector<TensorToWrite> tensors;
  const Arenas arenas(parameters, optimizer, optimizer.num_steps());
  for (const Entry& e : Entries(parameters, arenas)) {
    const int64_t begin = e.count * shard.index / shard.count,
                  end = e.count * (shard.index + 1) / shard.count;
    const bool whole = end - begin == e.count;
    if (begin == end) continue;
    tensors.push_back(
        {whole ? e.name : absl::StrCat(e.name, "[", begin, ":", end, "]"), TensorDtype::kF32,
         whole ? e.shape : std::vector<int64_t>{end - begin},
         [data = e.data + begin, count = end - begin](const ByteSink& sink) {
           return sink({reinterpret_cast<const std::byte*>(data), count * sizeof(float)});
         }});
  }
  SafetensorsWriteOptions options;
  options.metadata["step"] = absl::StrCat(optimizer.num_steps());
  options.metadata["optimizer"] = optimizer.options().kind;
  FileSystem& fs = FileSystem::Default();
  if (const std::string old = JoinPath(dir, kTrainerStateFile); shard.count > 1 && fs.Exists(old))
    RFT_RETURN_IF_ERROR(fs.Remove(old));
  return WriteSafetensors(JoinPath(dir, ShardFile(shard)), tensors, options);
}

absl::Status LoadTrainerState(const std::string& dir, ParameterStore& parameters,
                              Optimizer& optimizer) {
  RFT_ASSIGN_OR_RETURN(const SavedState saved, OpenState(dir));
  if (saved.optimizer != optimizer.options().kind)
    return absl::InvalidArgumentError(
        absl::StrCat(saved.path, ": is the state of trainer.optimizer ", saved.optimizer,
                     ", this trainer has ", optimizer.options().kind));
  const Arenas arenas(parameters, optimizer, saved.step);
  const std::vector<Entry> entries = Entries(parameters, arenas);
  std::vector<std::vector<Piece>> found;
  for (const Entry& e : entries) {
    auto pieces = PiecesOf(saved.tensors, e);
    if (!pieces.ok())
      return absl::InvalidArgumentError(absl::StrCat(saved.path, ": ", pieces.status().message()));
    found.push_back(*std::move(pieces));
  }
  for (size_t i = 0; i < entries.size(); ++i)
    for (const Piece& piece : found[i])
      std::memcpy(entries[i].data + piece.begin, piece.view.bytes.data(), piece.view.bytes.size());
  parameters.values().copy_(arenas.values);  // nothing to do on the CPU
  if (arenas.m.defined()) optimizer.first_moment().FromFloat(arenas.m);
  if (arenas.v.defined()) optimizer.second_moment().FromFloat(arenas.v);
  if (saved.step == 0) optimizer.Reset();
  optimizer.set_num_steps(saved.step);
  return absl::OkStatus();
}

}  // namespace rft
