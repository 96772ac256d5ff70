#include "losses/loss.h"

#include <algorithm>
#include <mutex>
#include <vector>

#include <c10/util/Exception.h>

#include "losses/presets.h"

namespace rft {
namespace {

// "dr_grpo" is written dr-grpo here; papers and configurations know both.
std::string Canonical(std::string_view name) {
  std::string text(name);
  std::replace(text.begin(), text.end(), '_', '-');
  return text;
}

std::string KnownNames() {
  std::string text;
  for (const std::string& name : LossRegistry::Get().Names()) {
    text += (text.empty() ? "" : ", ") + name;
  }
  return text;
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
    TORCH_CHECK(factory != nullptr, "unknown loss '", std::string(name),
                "'; known losses: ", KnownNames());
    loss = (*factory)();
  }
  return *loss;
}

LossConfig LossDefaults(std::string_view name) {
  const LossPreset* preset = FindLossPreset(name);
  return preset != nullptr ? PresetConfig(*preset) : FindLoss(name).DefaultConfig();
}

}  // namespace rft
