#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "absl/strings/str_cat.h"
#include "bindings/errors.h"
#include "bindings/module.h"
#include "bindings/python_grammar.h"
#include "rft/core/status_macros.h"
#include "rft/engine/local_engine.h"
#include "rft/models/lora.h"
#include "rft/models/reload_weights.h"
#include "rft/serve/server.h"

namespace rft::python {
namespace {

// The model, its engine and the HTTP server in front of it. The GIL is released in all calls: the server's workers take it
// to tokenise.
class PyServer {
 public:
  PyServer(std::shared_ptr<CausalLm> model, std::shared_ptr<TextCodec> codec,
           const EngineOptions& engine_options, const serve::HttpOptions& http,
           const serve::ServiceOptions& service, GrammarCompiler compile_grammar,
           const std::map<std::string, std::string>& adapters)
      : model_(std::move(model)), host_(http.host) {
    py::gil_scoped_release release;
    engine_ = ValueOrThrow(CreateLocalEngine(model_, engine_options, codec));
    for (const auto& [name, folder] : adapters) ThrowIfError(LoadAdapter(name, folder));
    serve::ServiceParts parts{
        .engine = engine_.get(),
        .codec = std::move(codec),
        .version = model_->weights()->version(),
        .routes = model_->route_codec(),
        .load_weights = [this](const std::string& folder) { return Load(folder); },
        .load_adapter = [this](const std::string& name,
                               const std::string& folder) { return LoadAdapter(name, folder); },
        .unload_adapter = [this](const std::string& name) { return UnloadAdapter(name); },
        .adapters = adapters,
        .compile_grammar = std::move(compile_grammar)};
    server_ = ValueOrThrow(serve::Server::Start(http, service, std::move(parts)));
  }
  ~PyServer() { Stop(); }

  void Stop() {
    py::gil_scoped_release release;
    server_->Stop();
    engine_->Shutdown();
    std::lock_guard<std::mutex> lock(mutex_);
    stopped_ = true;
    changed_.notify_all();
  }

  // False once stopped.
  bool Wait(double seconds) {
    py::gil_scoped_release release;
    std::unique_lock<std::mutex> lock(mutex_);
    return !changed_.wait_for(lock, std::chrono::duration<double>(seconds),
                              [this] { return stopped_; });
  }

  std::string url() const { return absl::StrCat("http://", host_, ":", server_->port()); }
  uint16_t port() const { return server_->port(); }

 private:
  // Adapters go on over the new base.
  absl::StatusOr<int64_t> Load(const std::string& folder) {
    std::lock_guard<std::mutex> lock(weights_mutex_);
    RFT_ASSIGN_OR_RETURN(const auto weights, ReloadWeights(*model_, folder));
    RFT_RETURN_IF_ERROR(engine_->Publish(weights));
    for (const auto& [name, adapter] : adapters_)
      RFT_RETURN_IF_ERROR(engine_->PublishAdapter(name, adapter->PackNewVersion()));
    return weights->version();
  }

  absl::Status LoadAdapter(const std::string& name, const std::string& folder) {
    std::lock_guard<std::mutex> lock(weights_mutex_);
    RFT_ASSIGN_OR_RETURN(auto adapter, LoraAdapter::Load(model_, folder));
    RFT_RETURN_IF_ERROR(engine_->PublishAdapter(name, adapter->weights()));
    adapters_[name] = std::move(adapter);
    return absl::OkStatus();
  }

  absl::Status UnloadAdapter(const std::string& name) {
    std::lock_guard<std::mutex> lock(weights_mutex_);
    adapters_.erase(name);
    return engine_->PublishAdapter(name, nullptr);
  }

  const std::shared_ptr<CausalLm> model_;
  const std::string host_;
  std::mutex weights_mutex_;  // one load at a time
  std::map<std::string, std::shared_ptr<LoraAdapter>> adapters_;
  std::unique_ptr<InferenceEngine> engine_;
  std::unique_ptr<serve::Server> server_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopped_ = false;
};

std::unique_ptr<PyServer> MakeServer(
    std::shared_ptr<CausalLm> model, std::shared_ptr<TextCodec> codec,
    std::vector<std::string> model_names, const std::string& host, uint16_t port,
    std::vector<std::string> api_keys, std::string weights_root,
    std::vector<std::string> allowed_origins, int64_t max_batch, int64_t max_batch_tokens,
    int64_t kv_memory_mb, int64_t queue_limit, const py::object& compile_grammar,
    const std::map<std::string, std::string>& adapters, bool prefix_cache) {
  serve::HttpOptions http;
  http.host = host;
  http.port = port;
  serve::ServiceOptions service;
  service.model_names = std::move(model_names);
  service.api_keys = std::move(api_keys);
  service.weights_root = std::move(weights_root);
  service.allowed_origins = std::move(allowed_origins);
  EngineOptions engine;
  engine.max_batch = max_batch;
  engine.max_batch_tokens = max_batch_tokens;
  engine.kv_memory_bytes = kv_memory_mb << 20;
  engine.queue_limit = queue_limit;
  engine.prefix_cache = prefix_cache;
  return std::make_unique<PyServer>(
      std::move(model), std::move(codec), engine, http, service,
      compile_grammar.is_none() ? GrammarCompiler() : MakePythonGrammarCompiler(compile_grammar),
      adapters);
}

}  // namespace

void BindServe(py::module_& m) {
  py::class_<PyServer>(m, "Server",
                       "An OpenAI-compatible HTTP server over an engine of its own. Listens when "
                       "it is made; `wait` until Ctrl-C, then `stop`.")
      .def(py::init(&MakeServer), py::arg("model"), py::arg("codec"), py::arg("model_names"),
           py::arg("host") = "127.0.0.1", py::arg("port") = 0,
           py::arg("api_keys") = std::vector<std::string>{}, py::arg("weights_root") = "",
           py::arg("allowed_origins") = std::vector<std::string>{}, py::arg("max_batch") = 64,
           py::arg("max_batch_tokens") = 1024, py::arg("kv_memory_mb") = 1024,
           py::arg("queue_limit") = 4096, py::arg("compile_grammar") = py::none(),
           py::arg("adapters") = std::map<std::string, std::string>{},
           py::arg("prefix_cache") = true,
           "port 0: any free one. model_names: what requests may call the model; the first is "
           "shown. api_keys: without any, whoever can connect may ask, and only loopback addresses "
           "are allowed. weights_root: /update_weights takes folders below it. compile_grammar: "
           "rft.structure.compiler(codec), for structured output. adapters: folders (PEFT's "
           "format) by the name that requests give as "
           "their model.\n\nRaises "
           "ConfigError (a bad option), StateError (the port is taken).")
      .def("wait", &PyServer::Wait, py::arg("seconds"),
           "Sleeps up to so long; False once the server has been stopped.")
      .def("stop", &PyServer::Stop, "Ends all requests and connections. Idempotent.")
      .def_property_readonly("port", &PyServer::port)
      .def_property_readonly("url", &PyServer::url, "http://host:port")
      .def("__enter__", [](py::object self) { return self; })
      .def("__exit__", [](PyServer& self, const py::args&) { self.Stop(); })
      .def("__repr__",
           [](const PyServer& self) { return absl::StrCat("<rft.Server at ", self.url(), ">"); });
}

}  // namespace rft::python
