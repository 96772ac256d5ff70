#include "rft/train/export_check.h"

#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "rft/core/log.h"
#include "rft/core/process_memory.h"
#include "rft/core/status_macros.h"
#include "rft/io/manifest.h"
#include "rft/io/safetensors.h"
#include "rft/tensor/bf16.h"
#include "rft/tensor/dispatch.h"
#include "rft/tensor/try_torch.h"
#include "rft/train/memory_model.h"

namespace rft {
namespace {

bool IsRounded(const TensorView& view, const at::Tensor& trained) {
  const at::Tensor values = trained.cpu();
  if (view.dtype != TensorDtype::kBF16 || view.shape != values.sizes().vec()) return false;
  for (int64_t i = 0; i < values.numel(); ++i) {
    uint16_t stored;  // not necessarily aligned
    std::memcpy(&stored, view.bytes.data() + 2 * i, sizeof stored);
    if (stored != FromFloat<Bf16>(Data<float>(values)[i]).bits) return false;
  }
  return true;
}

absl::Status CheckTensors(Trainer& trainer, const std::string& dir) {
  RFT_ASSIGN_OR_RETURN(const TensorMap tensors, OpenModelWeights(dir));
  const LoraAdapter* adapter = trainer.adapter().get();
  const auto damaged = [&](const std::string& name) {
    return absl::DataLossError(absl::StrCat(FolderCommit::FinalName(dir), ": ", name,
                                            " is not what was trained; the export is damaged"));
  };
  for (const Parameter& p : std::as_const(trainer.model()->parameters()).all()) {
    const auto view = FindTensor(tensors, p.name);
    if (!view.ok())
      return absl::DataLossError(
          absl::StrCat(FolderCommit::FinalName(dir), ": ", view.status().message()));
    RFT_ASSIGN_OR_RETURN(const bool same, TryTorch([&] {
                           return IsRounded(*view, adapter ? adapter->Merged(p) : p.value);
                         }));
    if (!same) return damaged(p.name);
  }
  if (adapter == nullptr) return absl::OkStatus();
  RFT_ASSIGN_OR_RETURN(const std::optional<at::Tensor> own_head,
                       TryTorch([&] { return adapter->MergedOwnHead(); }));
  if (!own_head) return absl::OkStatus();
  const std::string head = trainer.model()->config().head + ".weight";
  const auto view = FindTensor(tensors, head);
  if (!view.ok() || !IsRounded(*view, *own_head)) return damaged(head);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::optional<double>> CheckExport(Trainer& trainer, const TrainerOptions& options,
                                                  const std::string& dir,
                                                  absl::Span<const Datum> datums) {
  RFT_RETURN_IF_ERROR(CheckTensors(trainer, dir));
  if (datums.empty()) return std::nullopt;
  const CausalLm& trained = *trainer.model();
  const int64_t needed = 4 * trained.parameters().num_parameters() + PackedBytes(trained);
  if (needed > AvailableBytes()) {
    LogWarning(FolderCommit::FinalName(dir),
               ": no memory to load the saved model beside the trained one; its tensors have "
               "been compared, its log-probabilities have not");
    return std::nullopt;
  }
  RFT_ASSIGN_OR_RETURN(std::shared_ptr<CausalLm> saved, LoadModel(dir, trained.dtype()));
  TrainerOptions scoring{.token_budget = options.token_budget,
                         .replay_routes = options.replay_routes,
                         .temperature = options.temperature};
  RFT_RETURN_IF_ERROR(
      TryTorch([&] { saved->MoveTo(trained.device(), trained.parameters().is_offloaded()); }));
  RFT_ASSIGN_OR_RETURN(scoring.frozen, TryTorch([&] { return saved->weights(); }));
  RFT_ASSIGN_OR_RETURN(const auto scorer, Trainer::Create(saved, scoring));
  RFT_ASSIGN_OR_RETURN(const ForwardResult theirs, scorer->Forward(datums));
  RFT_ASSIGN_OR_RETURN(const ForwardResult ours, trainer.Forward(datums));
  double sum = 0.0;
  int64_t count = 0;
  for (size_t i = 0; i < datums.size(); ++i)
    for (size_t t = 0; t < datums[i].weights.size(); ++t)
      if (datums[i].weights[t] != 0.0f) {
        sum += std::abs(static_cast<double>(ours.logprobs[i][t]) - theirs.logprobs[i][t]);
        ++count;
      }
  const double mean = count > 0 ? sum / static_cast<double>(count) : 0.0;
  if (mean <= kExportTolerance) return mean;
  const std::string what = absl::StrCat(
      FolderCommit::FinalName(dir), ": log-probabilities of ", datums.size(), " rows differ by ",
      mean, " nats from the trainer's on average (allowed: ", kExportTolerance, ")");
  const bool adapted = trainer.adapter() != nullptr;
  const bool rounds = adapted || trained.dtype() == at::kFloat;
  if (!rounds || !std::isfinite(mean))
    return absl::DataLossError(absl::StrCat(what, "; the export is damaged"));
  LogWarning(what, ": bf16 rounds off much of the small changes that training has made so far; ",
             adapted ? "the adapter's own folder has them all (rft serve --lora NAME=FOLDER)"
                     : "with trainer.dtype bf16 the rounded weights themselves are trained");
  return mean;
}

}  // namespace rft
