#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "absl/strings/str_cat.h"
#include "bindings/arrays.h"
#include "bindings/errors.h"
#include "bindings/generation.h"
#include "bindings/module.h"
#include "bindings/request_arguments.h"
#include "graders/text_generators.h"
#include "rft/api/engine_text_generator.h"
#include "rft/engine/local_engine.h"
#include "rft/remote/http_engine.h"

namespace rft::python {
namespace {

constexpr double kSignalCheck_s = 0.1;  // how soon Ctrl-C is noticed

// The engine with what it needs kept alive. Its thread is joined without the GIL.
class PyEngine {
 public:
  PyEngine(std::shared_ptr<CausalLm> model, std::shared_ptr<TextCodec> codec,
           const EngineOptions& options)
      : model_(std::move(model)),
        what_(model_->config().architecture),
        engine_(ValueOrThrow(
            WithoutGil([&] { return CreateLocalEngine(model_, options, std::move(codec)); }))) {}
  // Over a server.
  explicit PyEngine(const HttpEngineOptions& options)
      : what_(options.url),
        engine_(ValueOrThrow(WithoutGil([&] { return CreateHttpEngine(options); }))) {}
  ~PyEngine() {
    py::gil_scoped_release release;
    engine_.reset();
  }

  InferenceEngine& engine() { return *engine_; }
  const std::string& what() const { return what_; }
  void Close() {
    closed_ = true;
    WithoutGil([&] { engine_->Shutdown(); });
  }
  bool closed() const { return closed_; }

 private:
  std::shared_ptr<CausalLm> model_;  // null over a server
  std::string what_;
  std::unique_ptr<InferenceEngine> engine_;
  bool closed_ = false;
};

// Cancels and waits: an exception is on its way out, and nothing of the call may run on afterwards.
void Abandon(Generation& generation, InferenceEngine& engine) {
  py::gil_scoped_release release;
  generation.Cancel(engine);
  std::vector<TokenEvent> ignored;
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (generation.Wait(1.0, &ignored) && std::chrono::steady_clock::now() < give_up) {
  }
}

// Until all is finished: hands out tokens, notices Ctrl-C, and ends at the deadline.
void WaitForAll(Generation& generation, InferenceEngine& engine,
                const std::optional<py::function>& on_token, double deadline_s) {
  const auto start = std::chrono::steady_clock::now();
  std::vector<TokenEvent> tokens;
  try {
    while (WithoutGil([&] { return generation.Wait(kSignalCheck_s, &tokens); })) {
      for (const TokenEvent& t : tokens)
        if ((*on_token)(t.prompt, t.sample, t.id, t.logprob).is(py::bool_(true)))
          generation.Cancel(engine, t.prompt);
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
      if (std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() >
          deadline_s) {
        throw StatusException(absl::DeadlineExceededError(
            absl::StrCat("generate: not finished within ", deadline_s,
                         " s; raise deadline_s, or ask for fewer or shorter completions")));
      }
    }
  } catch (...) {
    Abandon(generation, engine);
    throw;
  }
}

// A list of max_tokens: taken out of the keywords, one number per prompt.
std::vector<int32_t> TakeLimits(py::kwargs& keywords) {
  std::vector<int32_t> limits;
  if (keywords.contains("max_tokens") && py::isinstance<py::sequence>(keywords["max_tokens"]))
    limits = keywords.attr("pop")("max_tokens").cast<std::vector<int32_t>>();
  return limits;
}

std::vector<std::vector<Completion>> Generate(PyEngine& self, const py::iterable& prompts,
                                              uint64_t seed,
                                              const std::optional<py::function>& on_token,
                                              double deadline_s, py::kwargs keywords) {
  if (!(deadline_s >= 0.0))
    throw StatusException(absl::InvalidArgumentError("deadline_s: must be at least 0"));
  bool echo = false;
  const std::vector<int32_t> limits = TakeLimits(keywords);
  GenerateRequest request = ReadRequest(keywords, &echo);
  std::vector<GenerateRequest> requests;
  for (const py::handle prompt : prompts) {
    if (py::isinstance<py::str>(prompt) || py::isinstance<py::int_>(prompt))
      throw py::type_error(
          "prompts: expected a list of prompts, each a list of token ids: generate([ids, ...]); "
          "codec.encode makes ids of text");
    request.prompt = ToTokenIds(prompt, absl::StrCat("prompts[", requests.size(), "]"));
    request.rng = {.run_seed = seed, .row = requests.size()};
    if (!limits.empty())
      request.sampling.max_tokens = limits[std::min(requests.size(), limits.size() - 1)];
    requests.push_back(request);
  }
  if (!limits.empty() && limits.size() != requests.size())
    throw StatusException(absl::InvalidArgumentError(
        absl::StrCat("max_tokens: ", limits.size(), " numbers for ", requests.size(), " prompts")));
  std::vector<std::vector<TokenId>> echoed;
  if (echo)
    for (const GenerateRequest& r : requests) echoed.push_back(r.prompt);
  const auto generation = Generation::Create(on_token.has_value());
  ThrowIfError(WithoutGil([&] { return generation->Submit(self.engine(), std::move(requests)); }));
  WaitForAll(*generation, self.engine(), on_token, deadline_s);
  auto results = generation->TakeResults();
  for (size_t i = 0; i < echoed.size(); ++i)
    for (Completion& completion : results[i]) PrependPrompt(echoed[i], completion);
  return results;
}

py::dict Stats(PyEngine& self) {
  const EngineStats s = WithoutGil([&] { return self.engine().stats(); });
  return py::dict(
      py::arg("tokens_sampled") = s.tokens_sampled,
      py::arg("tokens_prefilled") = s.tokens_prefilled, py::arg("iterations") = s.iterations,
      py::arg("busy_s") = s.busy_s, py::arg("matmul_s") = s.matmul_s,
      py::arg("attention_s") = s.attention_s, py::arg("rowwise_s") = s.rowwise_s,
      py::arg("sampling_s") = s.sampling_s, py::arg("running") = s.running,
      py::arg("waiting") = s.waiting, py::arg("page_bytes") = s.page_bytes,
      py::arg("pages_total") = s.pages_total, py::arg("pages_used") = s.pages_used,
      py::arg("pages_cached") = s.pages_cached, py::arg("preemptions") = s.preemptions,
      py::arg("prefix_hit_tokens") = s.prefix_hit_tokens,
      py::arg("prefix_evictions") = s.prefix_evictions, py::arg("weight_swaps") = s.weight_swaps);
}

py::list RecentIterations(PyEngine& self) {
  py::list iterations;
  for (const IterationCost& c : WithoutGil([&] { return self.engine().RecentIterations(); }))
    iterations.append(
        py::dict(py::arg("index") = c.index, py::arg("prefill_tokens") = c.prefill_tokens,
                 py::arg("decode_tokens") = c.decode_tokens, py::arg("decode_keys") = c.decode_keys,
                 py::arg("busy_s") = c.busy_s, py::arg("matmul_s") = c.matmul_s,
                 py::arg("attention_s") = c.attention_s, py::arg("rowwise_s") = c.rowwise_s,
                 py::arg("sampling_s") = c.sampling_s));
  return iterations;
}

std::unique_ptr<PyEngine> MakeEngine(std::shared_ptr<CausalLm> model,
                                     std::shared_ptr<TextCodec> codec, int64_t max_batch,
                                     int64_t max_batch_tokens, int64_t kv_memory_mb,
                                     int64_t queue_limit, int64_t kv_memory_bytes,
                                     bool prefix_cache, bool check_invariants) {
  return std::make_unique<PyEngine>(
      std::move(model), std::move(codec),
      EngineOptions{.max_batch = max_batch,
                    .max_batch_tokens = max_batch_tokens,
                    .kv_memory_bytes = kv_memory_bytes > 0 ? kv_memory_bytes : kv_memory_mb << 20,
                    .queue_limit = queue_limit,
                    .prefix_cache = prefix_cache,
                    .check_invariants = check_invariants});
}

std::unique_ptr<PyEngine> Connect(const std::string& url, const std::string& dialect,
                                  const std::string& model, const std::string& api_key,
                                  double deadline_s, int64_t queue_limit, int64_t max_context,
                                  int64_t vocab_size, const CausalLm* routes_of) {
  return std::make_unique<PyEngine>(
      HttpEngineOptions{.url = url,
                        .model = model,
                        .api_key = api_key,
                        .dialect = ValueOrThrow(ParseHttpDialect(dialect)),
                        .deadline_s = deadline_s,
                        .queue_limit = queue_limit,
                        .max_context = max_context,
                        .vocab_size = vocab_size,
                        .routes = routes_of == nullptr ? RouteCodec() : routes_of->route_codec()});
}

// Keeps the Python engine alive while graders may ask it.
class KeptTextGenerator : public TextGenerator {
 public:
  KeptTextGenerator(py::object engine, std::shared_ptr<TextCodec> codec)
      : engine_(std::move(engine)),
        codec_(std::move(codec)),
        generator_(engine_.cast<PyEngine&>().engine(), *codec_) {}
  ~KeptTextGenerator() override {
    py::gil_scoped_acquire gil;
    engine_.release().dec_ref();
  }
  absl::StatusOr<GeneratedText> Generate(const TextRequest& request) override {
    return generator_.Generate(request);
  }

 private:
  py::object engine_;
  std::shared_ptr<TextCodec> codec_;
  EngineTextGenerator generator_;
};

void SetEngineAsTextGenerator(const std::string& name, const py::object& engine,
                              std::shared_ptr<TextCodec> codec) {
  if (engine.is_none()) return WithoutGil([&] { SetTextGenerator(name, nullptr); });
  if (!py::isinstance<PyEngine>(engine) || codec == nullptr)
    throw StatusException(
        absl::InvalidArgumentError("set_text_generator: an rft.Engine and its codec are needed"));
  auto generator = std::make_shared<KeptTextGenerator>(engine, std::move(codec));
  WithoutGil([&] { SetTextGenerator(name, std::move(generator)); });
}

}  // namespace

void BindEngine(py::module_& m) {
  m.def("set_text_generator", &SetEngineAsTextGenerator, py::arg("name"), py::arg("engine"),
        py::arg("codec") = nullptr,
        "Gives graders a model to ask: `generator: NAME` in an llm_judge's section is this engine "
        "from now on. engine None takes the name away. In a run, \"policy\" is the model being "
        "trained.\n\nRaises ConfigError (not an engine, no codec).");
  py::class_<PyEngine>(
      m, "Engine",
      "Samples from a model in this process: continuous batching over a paged cache. A completion "
      "depends on its prompt, seed and weights only, not on what else is in the batch.")
      .def(py::init(&MakeEngine), py::arg("model"), py::arg("codec") = nullptr,
           py::arg("max_batch") = 64, py::arg("max_batch_tokens") = 1024,
           py::arg("kv_memory_mb") = 1024, py::arg("queue_limit") = 65536,
           py::arg("kv_memory_bytes") = 0, py::arg("prefix_cache") = true,
           py::arg("check_invariants") = false,
           "max_batch: sequences that decode at once. max_batch_tokens: tokens per iteration, "
           "prefill included. kv_memory_mb: "
           "cache, MiB (kv_memory_bytes: the same in bytes, where a MiB is too coarse). codec: "
           "needed "
           "for stop strings only. prefix_cache: keep pages of earlier texts while there is room. "
           "check_invariants: of the scheduler in every iteration, for tests.")
      .def_static(
          "connect", &Connect, py::arg("url"), py::kw_only(), py::arg("dialect") = "rft",
          py::arg("model") = "", py::arg("api_key") = "", py::arg("deadline_s") = 600.0,
          py::arg("queue_limit") = 4096, py::arg("max_context") = 0, py::arg("vocab_size") = 0,
          py::arg("routes_of") = nullptr,
          "An engine behind HTTP: token ids go to the server and come back, text is never "
          "tokenised again. url: of the server, without a path. dialect: \"rft\", \"vllm\", "
          "\"sglang\" or \"llama.cpp\". model: as the server calls it; \"\": the first one that "
          "it lists. deadline_s: of one request. max_context: 0: what the server says. vocab_size: "
          "0: not checked. routes_of: a mixture of experts of the same shape, whose expert choices "
          "generate(routes=...) can then ask for.\n\nRaises ConfigError (a bad url, an unknown "
          "model), Error with code "
          "UNAVAILABLE "
          "(not reachable), DataLossError (not such a server). A completion that the server spoilt "
          "has "
          "finish_reason \"error\" and says why in error.")
      .def("generate", &Generate, py::arg("prompts"), py::kw_only(), py::arg("seed") = 0,
           py::arg("on_token") = py::none(), py::arg("deadline_s") = 3600.0,
           "n completions of each prompt (lists or arrays of token ids): result[i][s] is sample s "
           "of prompt i.\n\n"
           "Keywords, with what leaves them off: n=1, temperature=1.0, top_p=1.0, top_k=0, "
           "min_p=0.0, max_tokens=64 (or a list, one number per prompt), min_tokens=0, "
           "ignore_eos=False, stop_ids=[], "
           "stop_strings=[], repetition_penalty=1.0, presence_penalty=0.0, "
           "frequency_penalty=0.0, logit_bias={} (id -> bias), allowed_ids=[] (everything), "
           "top_logprobs=0 (alternatives recorded per token), prompt_logprobs=None (or the number "
           "of alternatives), echo=False (the prompt comes first in ids and logprobs), "
           "grammar=None (rft.compile_grammar), routes=\"none\" (or \"completion\", \"all\": whose "
           "expert choices a "
           "mixture of experts records, \"all\" the prompt's, too), weight_policy=\"continue\" (or "
           "\"finish\", "
           "\"recompute\": what a published version means for a running completion), client=0 "
           "(clients take turns), use_prefix_cache=True, cache_salt=\"\" (only requests with the "
           "same one share pages), adapter=\"\" (a name given to publish).\n\n"
           "temperature 0 is greedy. on_token(prompt, sample, id, logprob) is called in this "
           "thread as tokens come. If it returns True, the prompt's unfinished samples end there, "
           "with "
           "finish_reason \"cancelled\" and the tokens drawn so far; finished ones stay as they "
           "are. What it raises ends the call and comes out of it. Ctrl-C cancels.\n\n"
           "Raises ConfigError (an empty or too long prompt, ids outside the vocabulary, a bad "
           "parameter), ResourceError (queue "
           "full), StateError (closed), DeadlineError (deadline_s seconds passed).")
      .def(
          "publish",
          [](PyEngine& self, std::shared_ptr<PublishedWeights> weights,
             const std::string& adapter) {
            ThrowIfError(WithoutGil([&] {
              return adapter.empty() ? self.engine().Publish(std::move(weights))
                                     : self.engine().PublishAdapter(adapter, std::move(weights));
            }));
          },
          py::arg("weights"), py::arg("adapter") = "",
          "Samples from `weights` from the next iteration on; no copy. Running completions go on "
          "with them. adapter: a name; only generate(adapter=name) uses these weights then, in one "
          "batch with all others. None as weights frees the name.")
      .def("stats", &Stats,
           "Counters since the start, and what is running, waiting and cached now.")
      .def("recent_iterations", &RecentIterations,
           "Of the latest iterations (512 at most, oldest first): what each computed and where its "
           "time went, seconds. index: `iterations` of stats() before it. decode_keys: positions "
           "that its decode_tokens attended to.")
      .def_property_readonly(
          "max_context", [](PyEngine& self) { return self.engine().max_context(); },
          "Longest prompt + completion, in tokens.")
      .def("close", &PyEngine::Close,
           "Cancels everything and stops the engine's thread. Idempotent.")
      .def("__enter__", [](py::object self) { return self; })
      .def("__exit__", [](PyEngine& self, const py::args&) { self.Close(); })
      .def("__repr__", [](PyEngine& self) {
        if (self.closed()) return std::string("<rft.Engine closed>");
        const EngineStats s = self.engine().stats();
        return absl::StrCat("<rft.Engine for ", self.what(), ": ", s.running, " running, ",
                            s.waiting, " waiting, ", s.tokens_sampled, " tokens sampled, context ",
                            self.engine().max_context(), ">");
      });
}

}  // namespace rft::python
