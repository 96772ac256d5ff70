#include "losses/loss.h"

#include <mutex>
#include <vector>

#include <c10/util/Exception.h>

namespace rft {
namespace {

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
  const std::string key(name);
  std::unique_ptr<Loss>& loss = (*losses)[key];
  if (loss == nullptr) {
    const auto* factory = LossRegistry::Get().Find(name);
    TORCH_CHECK(factory != nullptr, "unknown loss '", key, "'; known losses: ", KnownNames());
    loss = (*factory)();
  }
  return *loss;
}

}  // namespace rft
