// The engine "http": rollouts from a server (rft/remote/http_engine.h), weights handed over in a folder both can reach.
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "rft/core/status_macros.h"
#include "rft/engine/local_engine.h"
#include "rft/remote/http_engine.h"

namespace rft {
namespace {

class FolderPublishingEngine : public InferenceEngine {
 public:
  FolderPublishingEngine(std::shared_ptr<CausalLm> model, std::string weights_dir,
                         std::unique_ptr<InferenceEngine> server)
      : model_(std::move(model)),
        weights_dir_(std::move(weights_dir)),
        server_(std::move(server)) {}

  absl::StatusOr<RequestHandle> Submit(GenerateRequest request,
                                       std::shared_ptr<CompletionSink> sink) override {
    return server_->Submit(std::move(request), std::move(sink));
  }
  void Cancel(RequestHandle handle) override { server_->Cancel(handle); }

  // Writes a Hugging Face folder and has the server load it; returns when it has.
  absl::Status Publish(std::shared_ptr<const PublishedWeights> weights) override {
    if (weights_dir_.empty())
      return absl::FailedPreconditionError(
          "engine.weights_dir: is needed to hand weights to a server (a folder that it may load "
          "from)");
    if (model_ == nullptr || weights != model_->weights())
      return absl::InvalidArgumentError("engine: these are not the model's current weights");
    // Two folders in turn: the one that the server loaded last is never written to.
    const std::string folder =
        absl::StrCat(weights_dir_, "/", weights->version() % 2 ? "odd" : "even");
    RFT_RETURN_IF_ERROR(SaveModel(*model_, folder, SaveDtype::kFloat32));
    return server_->Publish(std::make_shared<FolderWeights>(folder, weights->version()));
  }

  EngineStats stats() const override { return server_->stats(); }
  int64_t max_context() const override { return server_->max_context(); }
  void Shutdown() override { server_->Shutdown(); }

 private:
  const std::shared_ptr<CausalLm> model_;
  const std::string weights_dir_;
  const std::unique_ptr<InferenceEngine> server_;
};

absl::StatusOr<std::unique_ptr<InferenceEngine>> CreateRemoteEngine(
    std::shared_ptr<CausalLm> model, const EngineOptions& options,
    std::shared_ptr<const TextCodec> /*codec*/) {
  if (options.server_url.empty())
    return absl::InvalidArgumentError("engine.server_url: is needed for the engine \"http\"");
  HttpEngineOptions http;
  http.url = options.server_url;
  http.model = options.server_model;
  http.queue_limit = options.queue_limit;
  if (model != nullptr) {
    http.vocab_size = model->config().vocab_size;
    http.max_context = model->config().max_positions;
    http.routes = model->route_codec();
  }
  RFT_ASSIGN_OR_RETURN(http.dialect, ParseHttpDialect(options.server_dialect));
  if (!options.server_key_variable.empty()) {
    const char* key = std::getenv(options.server_key_variable.c_str());
    if (key == nullptr)
      return absl::InvalidArgumentError(absl::StrCat(
          "engine.server_key_variable: the environment has no ", options.server_key_variable));
    http.api_key = key;
  }
  RFT_ASSIGN_OR_RETURN(auto server, CreateHttpEngine(http));
  std::string dir = options.weights_dir;
  if (!dir.empty()) dir = std::filesystem::absolute(dir).string();
  auto engine = std::make_unique<FolderPublishingEngine>(model, dir, std::move(server));
  if (!dir.empty() && model != nullptr) RFT_RETURN_IF_ERROR(engine->Publish(model->weights()));
  return engine;
}

RFT_REGISTER_ENGINE("http", CreateRemoteEngine);

}  // namespace
}  // namespace rft
