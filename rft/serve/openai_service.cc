#include "rft/serve/openai_service.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <initializer_list>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "rft/core/rng.h"
#include "rft/core/status_macros.h"
#include "rft/core/text.h"
#include "rft/serve/adapters_control.h"
#include "rft/serve/api_error.h"
#include "rft/serve/api_keys.h"
#include "rft/serve/chat_reply.h"
#include "rft/serve/completion_reply.h"
#include "rft/serve/counting_exchange.h"
#include "rft/serve/pause_gate.h"
#include "rft/serve/prompt_fields.h"
#include "rft/serve/routes.h"
#include "rft/serve/trainer_routes.h"
#include "rft/serve/weights_control.h"

namespace rft::serve {
namespace {

int64_t UnixSeconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

size_t LongestToken(const TextCodec& codec) {
  size_t longest = 1;
  for (const std::string& bytes : codec.token_bytes()) longest = std::max(longest, bytes.size());
  return longest;
}

class OpenAiService : public HttpService {
 public:
  OpenAiService(const ServiceOptions& options, ServiceParts parts)
      : options_(options),
        engine_(*parts.engine),
        codec_(std::move(parts.codec)),
        keys_(options.api_keys),
        compile_grammar_(std::move(parts.compile_grammar)),
        route_codec_(parts.routes),
        weights_(options.weights_root, parts.version, std::move(parts.load_weights)),
        adapters_(options.weights_root, options.limits.max_adapters, options.model_names,
                  std::move(parts.adapters), std::move(parts.load_adapter),
                  std::move(parts.unload_adapter)),
        started_(UnixSeconds()),
        id_seed_(
            static_cast<uint64_t>(std::chrono::system_clock::now().time_since_epoch().count())) {
    bounds_ = {options.limits, engine_.max_context(),
               static_cast<size_t>(engine_.max_context()) * LongestToken(*codec_)};
    AddRoutes();
  }
  ~OpenAiService() override { gate_->DropHeld(); }

  std::optional<HttpReply> Refuse(const HttpRequest& head) override {
    auto refusal = Judge(head);
    if (refusal) metrics_->CountRequest(FindPath(head.path), refusal->status);
    return refusal;
  }

  void Handle(Request request, Client client) override {
    client = CountAnswers(std::move(client), metrics_, FindPath(request->path));
    const Route* route = Find(request->method, request->path);
    absl::Status status = route->handler(request, client);
    if (!status.ok()) client->Reply(ErrorReply(status));
  }

 private:
  void AddRoutes() {
    const auto add = [this](const char* method, std::initializer_list<const char*> paths,
                            Handler<OpenAiService> handler, bool is_public = false) {
      AddRoute(routes_, *this, method, paths, handler, is_public);
    };
    add("GET", {"/healthz", "/health", "/ping"}, &OpenAiService::Health, /*is_public=*/true);
    add("GET", {"/metrics"}, &OpenAiService::MetricsText);
    add("GET", {"/v1/models"}, &OpenAiService::Models);
    add("GET", {kOneModel}, &OpenAiService::OneModel);
    add("POST", {"/v1/completions", "/inference/v1/completions"}, &OpenAiService::Completions);
    add("POST", {"/v1/chat/completions", "/inference/v1/chat/completions"},
        &OpenAiService::ChatCompletions);
    add("POST", {"/tokenize"}, &OpenAiService::Tokenize);
    add("POST", {"/detokenize"}, &OpenAiService::Detokenize);
    trainer_routes_.AddTo(routes_);
  }

  // The route's path; "other" for unknown ones, so that clients can't fill the metrics with names.
  std::string FindPath(const std::string& path) const {
    if (routes_.contains(path)) return path;
    return absl::StartsWith(path, kOneModel) ? kOneModel : "other";
  }
  const Route* Find(const std::string& method, const std::string& path) const {
    auto it = routes_.find(FindPath(path));
    return it != routes_.end() && it->second.method == method ? &it->second : nullptr;
  }

  HttpReply NoSuchRoute(const std::string& path) const {
    constexpr size_t kLongest = 64;
    std::vector<std::string> known;
    for (const auto& [name, route] : routes_) known.push_back(name);
    const auto meant = path.size() > kLongest ? std::nullopt : DidYouMean(path, known);
    return ErrorReply(
        404, absl::StrCat("no such route; ", meant ? absl::StrCat("did you mean ", *meant, "?")
                                                   : "docs/serving.md lists those there are"));
  }

  std::optional<HttpReply> Judge(const HttpRequest& head) const {
    const auto route = routes_.find(FindPath(head.path));
    const bool is_public = route != routes_.end() && route->second.is_public;
    if (!is_public && !keys_.Allow(head))
      return ErrorReply(401, "a valid API key is needed: Authorization: Bearer KEY");
    const std::string origin(head.Header("origin"));
    if (!origin.empty() &&
        std::find(options_.allowed_origins.begin(), options_.allowed_origins.end(), origin) ==
            options_.allowed_origins.end())
      return ErrorReply(
          403, "requests of web pages are refused; allow their origin with --allow-origin");
    if (route == routes_.end()) return NoSuchRoute(head.path);
    if (route->second.method != head.method) {
      HttpReply reply = ErrorReply(405, absl::StrCat("use ", route->second.method));
      reply.headers.emplace_back("Allow", route->second.method);
      return reply;
    }
    const std::string_view type = head.Header("content-type");
    const bool has_body =
        !head.Header("transfer-encoding").empty() ||
        (!head.Header("content-length").empty() && head.Header("content-length") != "0");
    if (head.method == "POST" && has_body &&
        !absl::StartsWithIgnoreCase(absl::string_view(type.data(), type.size()),
                                    "application/json"))
      return ErrorReply(415,
                        "the body must be JSON, with the header Content-Type: application/json");
    return std::nullopt;
  }

  absl::Status CheckModel(const std::string& name) const {
    const auto& known = options_.model_names;
    if (name.empty() || std::find(known.begin(), known.end(), name) != known.end() ||
        adapters_.Has(name))
      return absl::OkStatus();
    return absl::NotFoundError(
        absl::StrCat("the model '", ReplaceInvalidUtf8(name),
                     "' does not exist here; known: ", absl::StrJoin(known, ", ")));
  }

  absl::Status CheckVocabulary(const std::vector<TokenId>& ids, const std::string& name) const {
    const size_t size = codec_->token_bytes().size();
    for (size_t i = 0; i < ids.size(); ++i)
      if (ids[i] < 0 || static_cast<size_t>(ids[i]) >= size)
        return absl::InvalidArgumentError(absl::StrCat(name, ": item ", i, ", token ", ids[i],
                                                       ", is outside the vocabulary of ", size));
    return absl::OkStatus();
  }

  absl::Status Completions(const Request& request, const Client& client) {
    RFT_ASSIGN_OR_RETURN(const json::object body, ReadBody(*request, options_.limits));
    Fields f(body, "");
    ReplyContext context;
    context.fields = ReadGenerationFields(f, options_.limits, engine_.max_context());
    const int64_t max_top = options_.limits.max_top_logprobs;
    const json::value* logprobs = f.Any("logprobs");
    int64_t top = f.Int("top_logprobs", 0, max_top).value_or(0);
    if (logprobs != nullptr && logprobs->is_bool()) {
      if (logprobs->get_bool()) context.logprobs = LogprobStyle::kContent;
    } else if (const auto count = f.Int("logprobs", 0, max_top)) {
      context.logprobs = LogprobStyle::kLegacy;
      top = *count;
    }
    context.fields.sampling.num_top_logprobs = static_cast<int32_t>(top);
    const bool has_logprobs = context.logprobs != LogprobStyle::kNone;
    if (top > 0 && !has_logprobs) f.Fail("top_logprobs", "needs logprobs");
    EchoMode echo = f.Bool("echo").value_or(false) ? EchoMode::kPrompt : EchoMode::kNone;
    if (echo == EchoMode::kPrompt && has_logprobs) {
      context.fields.want_prompt = true;
      context.fields.num_prompt_top_logprobs =
          std::max(context.fields.num_prompt_top_logprobs, static_cast<int32_t>(top));
    }
    if (context.fields.prompt_only) {
      if (echo == EchoMode::kNone && !context.fields.prompt_logprobs)
        f.Fail("max_tokens", "0 is for the prompt alone: with echo or prompt_logprobs");
      echo = EchoMode::kPromptOnly;
    }
    f.Only("echo_last", "0", "only the whole prompt can be echoed");
    f.Only("suffix", "\"\"", "this server does not insert; leave it out");
    f.Only("add_special_tokens", "false",
           "nothing is added to a text prompt; write the tokens' text");
    const json::value* prompt = f.Any("prompt");
    RFT_RETURN_IF_ERROR(f.Finish());
    RFT_RETURN_IF_ERROR(CheckModel(context.fields.model));
    RFT_ASSIGN_OR_RETURN(context.prompts, ReadPrompts(prompt, bounds_, *codec_));
    if (static_cast<int64_t>(context.prompts.size()) * context.fields.n >
        options_.limits.max_completions)
      return absl::InvalidArgumentError(
          absl::StrCat("n: ", context.prompts.size(), " prompts times ", context.fields.n,
                       " completions; at most ", options_.limits.max_completions, " are allowed"));
    context.id = NewId("cmpl-");
    if (!context.fields.has_max_tokens)
      context.fields.sampling.max_tokens = 16;  // OpenAI's default
    return Generate(*request, std::move(context), client,
                    [echo](ReplyContext c) { return MakeCompletionReply(std::move(c), echo); });
  }

  absl::Status ChatCompletions(const Request& request, const Client& client) {
    RFT_ASSIGN_OR_RETURN(json::object body, ReadBody(*request, options_.limits));
    if (json::value* newer = body.if_contains("max_completion_tokens")) {
      if (!newer->is_null()) body["max_tokens"] = *newer;
      body.erase("max_completion_tokens");
    }
    Fields f(body, "");
    ReplyContext context;
    context.fields = ReadGenerationFields(f, options_.limits, engine_.max_context());
    if (f.Bool("logprobs").value_or(false)) context.logprobs = LogprobStyle::kContent;
    if (const auto top = f.Int("top_logprobs", 0, options_.limits.max_top_logprobs)) {
      if (*top > 0 && context.logprobs == LogprobStyle::kNone)
        f.Fail("top_logprobs", "needs logprobs");
      context.fields.sampling.num_top_logprobs = static_cast<int32_t>(*top);
    }
    if (context.fields.prompt_only) f.Fail("max_tokens", "must be at least 1");
    f.Only("echo", "false", "is for /v1/completions");
    for (const char* older : {"functions", "function_call"})
      f.Only(older, "null", "OpenAI has replaced it by tools and tool_choice");
    f.Only("modalities", "[\"text\"]", "only text is made here");
    f.Only("verbosity", "\"medium\"", "the model knows no such setting; say it in a message");
    RFT_ASSIGN_OR_RETURN(ChatPrompt prompt, ReadChatPrompt(f, bounds_, *codec_));
    if (prompt.call) {
      if (context.fields.grammar)
        return absl::InvalidArgumentError(absl::StrCat(
            "tool_choice: asks for a call, ", context.fields.grammar_field, " for other text"));
      context.fields.grammar = std::move(prompt.call);
      context.fields.grammar_field = "tool_choice";
    }
    RFT_RETURN_IF_ERROR(CheckModel(context.fields.model));
    if (!context.fields.has_max_tokens) {
      const int64_t room = engine_.max_context() - static_cast<int64_t>(prompt.ids.size());
      if (room < 1)
        return absl::InvalidArgumentError(absl::StrCat("messages: ", prompt.ids.size(),
                                                       " tokens leave no room in the context of ",
                                                       engine_.max_context()));
      context.fields.sampling.max_tokens = static_cast<int32_t>(room);
    }
    context.prompts.push_back(std::move(prompt.ids));
    context.id = NewId("chatcmpl-");
    const ToolReply tools{.parse = prompt.has_tools, .one_call = prompt.one_call};
    return Generate(*request, std::move(context), client,
                    [tools](ReplyContext c) { return MakeChatReply(std::move(c), tools); });
  }

  static absl::Status CheckRouting(const ReplyContext& context) {
    if (!context.fields.include_routing_matrix) return absl::OkStatus();
    if (context.logprobs != LogprobStyle::kContent)
      return absl::InvalidArgumentError(
          "include_routing_matrix: needs \"logprobs\": true, which has an entry per token");
    if (context.routes.token_bytes() == 0)
      return absl::InvalidArgumentError(
          "include_routing_matrix: this model has no mixture-of-experts layers; leave it out");
    return absl::OkStatus();
  }

  template <typename MakeWriter>
  absl::Status Generate(const HttpRequest& http, ReplyContext context, const Client& client,
                        MakeWriter make_writer) {
    context.model = context.fields.model.empty() ? options_.model_names[0] : context.fields.model;
    context.created = UnixSeconds();
    context.codec = codec_;
    context.routes = route_codec_;
    RFT_RETURN_IF_ERROR(CheckRouting(context));
    std::shared_ptr<const TokenGrammar> grammar;
    if (context.fields.grammar) {
      const std::string& field = context.fields.grammar_field;
      if (!compile_grammar_)
        return absl::InvalidArgumentError(
            absl::StrCat(field, ": this server has no structured output; leave it out"));
      auto compiled = compile_grammar_(*context.fields.grammar);
      if (!compiled.ok() && compiled.status().code() == absl::StatusCode::kInvalidArgument)
        return absl::InvalidArgumentError(absl::StrCat(field, ": ", compiled.status().message()));
      RFT_RETURN_IF_ERROR(compiled.status());
      grammar = *std::move(compiled);
    }
    const std::string adapter = adapters_.Has(context.model) ? context.model : "";
    std::vector<GenerateRequest> requests;
    for (const std::vector<TokenId>& prompt : context.prompts) {
      RFT_RETURN_IF_ERROR(CheckVocabulary(prompt, "prompt"));
      GenerateRequest request;
      request.prompt = prompt;
      request.sampling = context.fields.sampling;
      request.num_samples = context.fields.n;
      request.want_prompt_logprobs = context.fields.prompt_logprobs || context.fields.want_prompt;
      request.num_prompt_top_logprobs = context.fields.num_prompt_top_logprobs;
      request.grammar = grammar;
      if (context.fields.include_routing_matrix)
        request.routes = context.fields.want_prompt ? RouteCapture::kPromptAndCompletion
                                                    : RouteCapture::kCompletion;
      request.adapter = adapter;
      request.weight_policy = context.fields.weight_policy;
      request.client = keys_.ClientOf(http, context.fields.user);
      request.cache_salt = context.fields.cache_salt;
      request.rng = {.run_seed = context.fields.seed, .row = requests.size()};
      requests.push_back(std::move(request));
    }
    std::shared_ptr<ReplyWriter> writer = make_writer(std::move(context));
    return gate_->Run([this, client, writer = std::move(writer), gate = gate_,
                       requests = std::move(requests)]() mutable {
      const auto job = GenerationJob::Start(engine_, std::move(requests), client, std::move(writer),
                                            metrics_, [gate] { gate->JobDone(); });
      gate->Track(job);
    });
  }

  absl::Status Health(const Request&, const Client& client) {
    client->Reply(
        {.body = absl::StrCat("{\"status\":\"ok\",\"weight_version\":", weights_.version(), "}")});
    return absl::OkStatus();
  }

  absl::Status MetricsText(const Request&, const Client& client) {
    client->Reply({.body = metrics_->Text(engine_.stats(), weights_.version(), gate_->paused()),
                   .content_type = "text/plain; version=0.0.4; charset=utf-8"});
    return absl::OkStatus();
  }

  // An adapter names the model that it is over.
  json::object ModelObject(const std::string& name) const {
    json::object model{{"id", name},
                       {"object", "model"},
                       {"created", started_},
                       {"owned_by", "rft"},
                       {"max_model_len", engine_.max_context()},
                       {"weight_version", weights_.version()}};
    if (adapters_.Has(name)) model["parent"] = options_.model_names[0];
    return model;
  }

  absl::Status Models(const Request&, const Client& client) {
    json::array data;
    for (const std::string& name : options_.model_names) data.push_back(ModelObject(name));
    for (const auto& [name, folder] : adapters_.folders()) data.push_back(ModelObject(name));
    client->Reply({.body = ToJson(json::object{{"object", "list"}, {"data", std::move(data)}})});
    return absl::OkStatus();
  }

  absl::Status OneModel(const Request& request, const Client& client) {
    std::string name = request->path.substr(std::string(kOneModel).size());
    for (size_t at; (at = name.find("%2F")) != name.npos;) name.replace(at, 3, "/");
    RFT_RETURN_IF_ERROR(name.empty() ? absl::NotFoundError("no such route") : CheckModel(name));
    client->Reply({.body = ToJson(ModelObject(name))});
    return absl::OkStatus();
  }

  absl::Status Tokenize(const Request& request, const Client& client) {
    RFT_ASSIGN_OR_RETURN(const json::object body, ReadBody(*request, options_.limits));
    Fields f(body, "");
    const std::string model = f.Text("model", 1024).value_or("");
    const bool strings = f.Bool("return_token_strs").value_or(false);
    std::vector<TokenId> ids;
    if (f.Any("prompt") != nullptr) {
      f.Only("add_special_tokens", "false",
             "nothing is added to a text prompt; write the tokens' text");
      const auto text = f.Text("prompt", bounds_.max_bytes);
      RFT_RETURN_IF_ERROR(f.Finish());
      RFT_ASSIGN_OR_RETURN(ids, codec_->Encode(*text));
    } else {
      RFT_ASSIGN_OR_RETURN(ChatPrompt prompt, ReadChatPrompt(f, bounds_, *codec_));
      ids = std::move(prompt.ids);
    }
    RFT_RETURN_IF_ERROR(CheckModel(model));
    JsonWriter w;
    w.BeginObject();
    w.Key("count");
    w.Int(static_cast<int64_t>(ids.size()));
    w.Key("max_model_len");
    w.Int(engine_.max_context());
    w.Key("tokens");
    WriteIds(w, ids);
    if (strings) {
      w.Key("token_strs");
      w.BeginArray();
      for (const TokenId id : ids) w.String(ReplaceInvalidUtf8(TokenBytes(*codec_, id)));
      w.EndArray();
    }
    w.EndObject();
    client->Reply({.body = w.Take()});
    return absl::OkStatus();
  }

  absl::Status Detokenize(const Request& request, const Client& client) {
    RFT_ASSIGN_OR_RETURN(const json::object body, ReadBody(*request, options_.limits));
    Fields f(body, "");
    const std::string model = f.Text("model", 1024).value_or("");
    const auto ids = f.Ids("tokens", static_cast<size_t>(bounds_.max_context));
    if (!ids) f.Fail("tokens", "is missing");
    RFT_RETURN_IF_ERROR(f.Finish());
    RFT_RETURN_IF_ERROR(CheckModel(model));
    RFT_RETURN_IF_ERROR(CheckVocabulary(*ids, "tokens"));
    std::string text;
    for (const TokenId id : *ids) text += TokenBytes(*codec_, id);
    client->Reply({.body = absl::StrCat("{\"prompt\":", JsonQuote(text), "}")});
    return absl::OkStatus();
  }

  std::string NewId(const char* prefix) {
    return absl::StrCat(prefix, absl::Hex(BitsAt(id_seed_, 0, next_id_++), absl::kZeroPad16));
  }

  static constexpr const char* kOneModel = "/v1/models/";

  const ServiceOptions options_;
  InferenceEngine& engine_;
  const std::shared_ptr<const TextCodec> codec_;
  const ApiKeys keys_;
  const GrammarCompiler compile_grammar_;
  const RouteCodec route_codec_;
  WeightsControl weights_;
  AdaptersControl adapters_;
  const int64_t started_;
  const uint64_t id_seed_;
  std::atomic<uint64_t> next_id_{0};
  PromptBounds bounds_;
  Routes routes_;
  const std::shared_ptr<Metrics> metrics_ = std::make_shared<Metrics>();
  const std::shared_ptr<PauseGate> gate_ =
      std::make_shared<PauseGate>(options_.limits.max_held_requests);
  TrainerRoutes trainer_routes_{engine_, weights_, adapters_, *gate_, *metrics_, options_.limits};
};

}  // namespace

std::unique_ptr<HttpService> MakeOpenAiService(const ServiceOptions& options, ServiceParts parts) {
  return std::make_unique<OpenAiService>(options, std::move(parts));
}

}  // namespace rft::serve
