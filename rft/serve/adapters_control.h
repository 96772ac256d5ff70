// The adapters that are served beside the base model: a request's `model` names one. Loaded and unloaded while the server
// runs, in the style of vLLM's /v1/load_lora_adapter.
// Thread safety: all methods may be called from any thread.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace rft::serve {

class AdaptersControl {
 public:
  // Loads a folder (PEFT's format) and publishes it to the engine under the name.
  using Load = std::function<absl::Status(const std::string& name, const std::string& folder)>;
  using Unload = std::function<absl::Status(const std::string& name)>;
  // `served`: names of the base model, which no adapter may take. `loaded`: adapters that are there already, by name.
  AdaptersControl(std::string root, size_t max_adapters, std::vector<std::string> served,
                  std::map<std::string, std::string> loaded, Load load, Unload unload);

  // Blocks while it loads. `replace`: an adapter of this name gives way; otherwise kInvalidArgument. kResourceExhausted: as
  // many as are allowed are there; kAborted: another load is under way; else as ResolveFolder and LoraAdapter::Load. After
  // an error what was served before is served still.
  absl::Status Add(const std::string& name, const std::string& folder, bool replace);
  // kNotFound if there is none. What runs on it goes on.
  absl::Status Remove(const std::string& name);

  bool Has(const std::string& name) const;
  std::map<std::string, std::string> folders() const;  // by name

 private:
  const std::string root_;
  const size_t max_adapters_;
  const std::vector<std::string> served_;
  const Load load_;
  const Unload unload_;
  std::mutex updating_;
  mutable std::mutex mutex_;  // guards what follows
  std::map<std::string, std::string> folders_;
};

}  // namespace rft::serve
