#include "bindings/request_arguments.h"

#include <cmath>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <pybind11/stl.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "bindings/arrays.h"
#include "bindings/errors.h"
#include "bindings/python_grammar.h"
#include "rft/core/text.h"

namespace rft::python {
namespace {

WeightPolicy ReadPolicy(const std::string& name) {
  if (const auto policy = ParseWeightPolicy(name)) return *policy;
  throw StatusException(absl::InvalidArgumentError(absl::StrCat(
      "weight_policy: '", name, "' is not one of \"continue\", \"finish\", \"recompute\"")));
}

RouteCapture ReadRoutes(const std::string& name) {
  if (name == "none") return RouteCapture::kNone;
  if (name == "completion") return RouteCapture::kCompletion;
  if (name == "all") return RouteCapture::kPromptAndCompletion;
  throw StatusException(absl::InvalidArgumentError(
      absl::StrCat("routes: '", name, "' is not one of \"none\", \"completion\", \"all\"")));
}

using Setter = std::function<void(GenerateRequest&, py::handle)>;

template <typename T>
Setter Set(T SamplingParams::*member) {
  return [member](GenerateRequest& r, py::handle value) { r.sampling.*member = value.cast<T>(); };
}
template <typename T>
Setter Set(T GenerateRequest::*member) {
  return [member](GenerateRequest& r, py::handle value) { r.*member = value.cast<T>(); };
}
Setter SetIds(std::vector<TokenId> SamplingParams::*member, const char* name) {
  return [member, name](GenerateRequest& r, py::handle value) {
    r.sampling.*member = ToTokenIds(value, name);
  };
}

const std::map<std::string, Setter>& Setters() {
  using S = SamplingParams;
  using R = GenerateRequest;
  static const auto* setters = new std::map<std::string, Setter>{
      {"temperature", Set(&S::temperature)},
      {"top_p", Set(&S::top_p)},
      {"top_k", Set(&S::top_k)},
      {"min_p", Set(&S::min_p)},
      {"max_tokens", Set(&S::max_tokens)},
      {"min_tokens", Set(&S::min_tokens)},
      {"ignore_eos", Set(&S::ignore_eos)},
      {"stop_strings", Set(&S::stop_strings)},
      {"stop_ids", SetIds(&S::stop_ids, "stop_ids")},
      {"allowed_ids", SetIds(&S::allowed_ids, "allowed_ids")},
      {"repetition_penalty", Set(&S::repetition_penalty)},
      {"presence_penalty", Set(&S::presence_penalty)},
      {"frequency_penalty", Set(&S::frequency_penalty)},
      {"top_logprobs", Set(&S::num_top_logprobs)},
      {"logit_bias",
       [](R& r, py::handle value) {
         for (const auto& [id, bias] : value.cast<std::map<TokenId, float>>())
           r.sampling.logit_bias.emplace_back(id, bias);
       }},
      {"prompt_logprobs",
       [](R& r, py::handle value) {  // None, or how many alternatives
         if (value.is_none()) return;
         r.want_prompt_logprobs = true;
         r.num_prompt_top_logprobs = value.cast<int32_t>();
       }},
      {"grammar",
       [](R& r, py::handle value) {
         if (!value.is_none())
           r.grammar = MakePythonGrammar(py::reinterpret_borrow<py::object>(value));
       }},
      {"weight_policy",
       [](R& r, py::handle value) { r.weight_policy = ReadPolicy(value.cast<std::string>()); }},
      {"routes", [](R& r, py::handle value) { r.routes = ReadRoutes(value.cast<std::string>()); }},
      {"client", Set(&R::client)},
      {"adapter", Set(&R::adapter)},
      {"use_prefix_cache", Set(&R::use_prefix_cache)},
      {"cache_salt", Set(&R::cache_salt)},
      {"n", Set(&R::num_samples)},
  };
  return *setters;
}

std::string UnknownArgument(const std::string& name) {
  std::vector<std::string> known = {"echo", "deadline_s", "on_token", "seed"};
  for (const auto& [key, setter] : Setters()) known.push_back(key);
  const std::optional<std::string> meant = DidYouMean(name, known);
  return absl::StrCat("generate() got an unexpected keyword argument '", name, "'; ",
                      meant ? absl::StrCat("did you mean ", *meant, "?")
                            : absl::StrCat("known are ", absl::StrJoin(known, ", ")));
}

}  // namespace

GenerateRequest ReadRequest(const py::kwargs& keywords, bool* echo) {
  GenerateRequest request;
  *echo = false;
  for (const auto& [key, value] : keywords) {
    const auto name = key.cast<std::string>();
    try {
      if (name == "echo") {
        *echo = value.cast<bool>();
        continue;
      }
      const auto it = Setters().find(name);
      if (it == Setters().end()) throw py::type_error(UnknownArgument(name));
      it->second(request, value);
    } catch (const py::cast_error&) {
      throw StatusException(absl::InvalidArgumentError(
          absl::StrCat(name, ": ", py::repr(value).cast<std::string>(), " is not what it takes")));
    }
  }
  request.want_prompt_logprobs = request.want_prompt_logprobs || *echo;
  if (request.num_samples < 1)
    throw StatusException(absl::InvalidArgumentError(
        absl::StrCat("n: ", request.num_samples, "; at least 1 completion")));
  return request;
}

void PrependPrompt(const std::vector<TokenId>& prompt, Completion& c) {
  const size_t size = prompt.size();
  const int64_t version = c.versions.empty() ? 0 : c.versions.front();
  if (!c.routes.empty()) {  // unknown ones are 0, as the first token's
    std::vector<uint8_t> of_prompt = c.prompt_routes;
    of_prompt.resize(size * (c.routes.size() / c.ids.size()));
    c.routes.insert(c.routes.begin(), of_prompt.begin(), of_prompt.end());
  }
  c.ids.insert(c.ids.begin(), prompt.begin(), prompt.end());
  c.logprobs.insert(c.logprobs.begin(), c.prompt_logprobs.begin(), c.prompt_logprobs.end());
  c.sampling_logprobs.insert(c.sampling_logprobs.begin(), size, NAN);
  c.versions.insert(c.versions.begin(), size, version);
  if (!c.top_logprobs.empty()) {
    c.prompt_top_logprobs.resize(size);
    c.top_logprobs.insert(c.top_logprobs.begin(), c.prompt_top_logprobs.begin(),
                          c.prompt_top_logprobs.end());
  }
}

}  // namespace rft::python
