#include "losses/loss.h"

#include <algorithm>
#include <mutex>
#include <optional>
#include <vector>

#include <c10/util/Exception.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "losses/presets.h"
#include "rft/core/text.h"

namespace rft {
namespace {

// "dr_grpo" is written dr-grpo here; papers and configurations know both.
std::string Canonical(std::string_view name) {
  std::string text(name);
  std::replace(text.begin(), text.end(), '_', '-');
  return text;
}

// "unknown loss 'dapoo'; did you mean 'dapo'?"
std::string Unknown(std::string_view name) {
  const std::vector<std::string> losses = LossRegistry::Get().Names();
  std::vector<std::string> known = LossPresetNames();
  known.insert(known.begin(), losses.begin(), losses.end());
  const std::string text = absl::StrCat("unknown loss '", std::string(name), "'; ");
  if (const std::optional<std::string> meant = DidYouMean(name, known))
    return absl::StrCat(text, "did you mean '", *meant, "'?");
  return absl::StrCat(text, "known losses: ", absl::StrJoin(losses, ", "));
}

}  // namespace

const Loss& FindLoss(std::string_view name) {
  static std::mutex* mutex = new std::mutex;
  static auto* losses = new std::map<std::string, std::unique_ptr<Loss>>;
  std::lock_guard<std::mutex> lock(*mutex);
  const std::string key = Canonical(name);
  std::unique_ptr<Loss>& loss = (*losses)[key];
  if (loss == nullptr) {
    const auto* factory = LossRegistry::Get().Find(key);
    TORCH_CHECK(factory != nullptr, Unknown(name));
    loss = (*factory)();
  }
  return *loss;
}

LossConfig LossDefaults(std::string_view name) {
  const LossPreset* preset = FindLossPreset(name);
  return preset != nullptr ? PresetConfig(*preset) : FindLoss(name).DefaultConfig();
}

}  // namespace rft
