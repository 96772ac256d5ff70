#include "rft/serve/trainer_routes.h"

#include <initializer_list>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "rft/core/status_macros.h"
#include "rft/serve/fields.h"

namespace rft::serve {
namespace {

absl::Status Succeed(const Client& client, const std::string& message) {
  client->Reply({.body = ToJson(json::object{{"success", true}, {"message", message}})});
  return absl::OkStatus();
}

// The folder of new weights under any of the names that it goes by.
std::string ReadFolder(Fields& f) {
  std::string folder;  // one of our name, vLLM-based trainers' and SGLang's
  for (const char* key : {"path", "weight_dir", "model_path"})
    if (const auto given = f.Text(key, 4096)) folder = *given;
  return folder;
}

}  // namespace

void TrainerRoutes::AddTo(Routes& routes) {
  const auto add = [&](const char* method, std::initializer_list<const char*> paths,
                       Handler<TrainerRoutes> handler) {
    AddRoute(routes, *this, method, paths, handler);
  };
  add("GET", {"/v1/weights"}, &TrainerRoutes::Weights);
  add("POST", {"/update_weights", "/update_weights_from_disk"}, &TrainerRoutes::UpdateWeights);
  add("POST", {"/v1/load_lora_adapter", "/load_lora_adapter"}, &TrainerRoutes::LoadAdapter);
  add("POST", {"/v1/unload_lora_adapter", "/unload_lora_adapter"}, &TrainerRoutes::UnloadAdapter);
  add("POST", {"/pause", "/pause_generation"}, &TrainerRoutes::Pause);
  add("POST", {"/resume", "/continue_generation"}, &TrainerRoutes::Resume);
  add("GET", {"/is_paused"}, &TrainerRoutes::IsPaused);
  add("POST", {"/reset_prefix_cache", "/flush_cache"}, &TrainerRoutes::ResetPrefixCache);
  add("GET", {"/get_world_size"}, &TrainerRoutes::WorldSize);
}

absl::Status TrainerRoutes::Weights(const Request&, const Client& client) {
  client->Reply({.body = ToJson(json::object{{"version", weights_.version()},
                                             {"path", weights_.folder()},
                                             {"label", weights_.label()},
                                             {"paused", gate_.paused()}})});
  return absl::OkStatus();
}

absl::Status TrainerRoutes::UpdateWeights(const Request& request, const Client& client) {
  RFT_ASSIGN_OR_RETURN(const json::object body, ReadBody(*request, limits_));
  Fields f(body, "");
  std::string folder = ReadFolder(f);
  if (const json::object* info = f.Object("update_info")) {  // vLLM's envelope
    Fields inner(*info, "update_info.");
    folder = ReadFolder(inner);
    f.Take(inner.Finish());
  }
  if (folder.empty()) f.Fail("path", "is missing: the folder of the new weights");
  std::string label;
  if (const json::value* given = f.Any("weight_version"))
    label = given->is_int64() ? absl::StrCat(given->get_int64())
                              : f.Text("weight_version", 256).value_or("");
  const bool abort = f.Bool("abort_all_requests").value_or(false);
  const std::string format = f.Text("load_format", 64).value_or("auto");
  if (format != "auto" && format != "safetensors")
    f.Fail("load_format", "must be auto or safetensors: other files are not read");
  f.Only("manifest", "null", "files are not checked against one; leave it out");
  // What they ask for is always so, or about a GPU; docs/serving.md says which.
  f.Ignore({"flush_cache", "is_async", "keep_pause", "token_step", "torch_empty_cache",
            "recapture_cuda_graph"});
  RFT_RETURN_IF_ERROR(f.Finish());
  if (abort) gate_.Abort();
  RFT_ASSIGN_OR_RETURN(const int64_t version, weights_.Update(folder, label));
  ++metrics_.weight_updates;
  client->Reply({.body = ToJson(json::object{{"success", true},
                                             {"message", "the next iteration runs on them"},
                                             {"version", version}})});
  return absl::OkStatus();
}

absl::Status TrainerRoutes::LoadAdapter(const Request& request, const Client& client) {
  RFT_ASSIGN_OR_RETURN(const json::object body, ReadBody(*request, limits_));
  Fields f(body, "");
  const std::string name = f.Text("lora_name", 128).value_or("");
  const std::string folder = f.Text("lora_path", 4096).value_or("");
  const bool replace = f.Bool("load_inplace").value_or(false);
  if (folder.empty()) f.Fail("lora_path", "is missing: the adapter's folder");
  f.Ignore({"base_model_name", "pinned"});
  RFT_RETURN_IF_ERROR(f.Finish());
  RFT_RETURN_IF_ERROR(adapters_.Add(name, folder, replace));
  return Succeed(client, absl::StrCat("requests may name '", name, "' as their model"));
}

absl::Status TrainerRoutes::UnloadAdapter(const Request& request, const Client& client) {
  RFT_ASSIGN_OR_RETURN(const json::object body, ReadBody(*request, limits_));
  Fields f(body, "");
  const std::string name = f.Text("lora_name", 128).value_or("");
  f.Ignore({"lora_int_id"});
  RFT_RETURN_IF_ERROR(f.Finish());
  RFT_RETURN_IF_ERROR(adapters_.Remove(name));
  return Succeed(client, "what runs on it goes on");
}

absl::Status TrainerRoutes::Pause(const Request& request, const Client& client) {
  RFT_ASSIGN_OR_RETURN(const json::object body, ReadBody(*request, limits_, /*optional=*/true));
  Fields f(body, "");
  std::string mode = f.Text("mode", 64).value_or("abort");
  if (f.Bool("wait_for_inflight_requests").value_or(false)) mode = "wait";
  const bool clear = f.Bool("clear_cache").value_or(false) ||
                     absl::StrContains(request->query, "clear_cache=true");
  for (const char* known : {"abort", "wait", "keep"})
    if (absl::StrContains(request->query, absl::StrCat("mode=", known))) mode = known;
  if (absl::StrContains(request->query, "wait_for_inflight_requests=true")) mode = "wait";
  if (mode != "abort" && mode != "wait" && mode != "keep")
    f.Fail("mode", "must be abort, wait or keep");
  RFT_RETURN_IF_ERROR(f.Finish());
  if (clear) engine_.ResetPrefixCache();
  const auto answer = [client] { client->Reply({.body = R"({"status":"paused"})"}); };
  if (mode == "keep") {
    // What runs needs no stop to be kept: weights are exchanged between two of its tokens.
    gate_.Pause(/*abort=*/false, [] {});
    answer();
  } else {
    gate_.Pause(mode == "abort", answer);
  }
  return absl::OkStatus();
}

absl::Status TrainerRoutes::Resume(const Request&, const Client& client) {
  gate_.Resume();
  client->Reply({.body = R"({"status":"resumed"})"});
  return absl::OkStatus();
}

absl::Status TrainerRoutes::IsPaused(const Request&, const Client& client) {
  client->Reply({.body = absl::StrCat("{\"is_paused\":", gate_.paused() ? "true" : "false", "}")});
  return absl::OkStatus();
}

absl::Status TrainerRoutes::ResetPrefixCache(const Request&, const Client& client) {
  engine_.ResetPrefixCache();
  return Succeed(client, "the next iteration begins without it");
}

absl::Status TrainerRoutes::WorldSize(const Request&, const Client& client) {
  client->Reply({.body = R"({"world_size":1})"});
  return absl::OkStatus();
}

}  // namespace rft::serve
