// Plain data that crosses the border: what the trainer takes and gives, what the engine gives.
#include <string>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "absl/strings/str_cat.h"
#include "bindings/arrays.h"
#include "bindings/errors.h"
#include "bindings/module.h"
#include "bindings/python_values.h"
#include "rft/api/datum.h"
#include "rft/api/inference_engine.h"
#include "rollout/datums.h"
#include "rollout/group_record.h"

namespace rft::python {
namespace {

// All values of a uint8 array, row by row.
std::vector<uint8_t> ToBytes(const py::object& values, const char* what) {
  const auto array =
      py::array_t<uint8_t, py::array::c_style | py::array::forcecast>::ensure(values);
  if (!array)
    throw StatusException(
        absl::InvalidArgumentError(absl::StrCat(what, ": must be an array of uint8")));
  return {array.data(), array.data() + array.size()};
}

Datum MakeDatum(const py::object& ids, const py::object& weights, const py::object& advantages,
                const py::object& old_logprobs, const py::object& sampling_logprobs,
                const py::object& ref_logprobs, int64_t prefix_id, int32_t prefix_length,
                const py::object& routes, const py::object& routed, const py::object& sft_weights) {
  Datum datum;
  datum.ids = ToTokenIds(ids, "ids");
  datum.weights = ToFloats(weights, "weights");
  datum.advantages = ToFloats(advantages, "advantages");
  datum.old_logprobs = ToFloats(old_logprobs, "old_logprobs");
  datum.sampling_logprobs = ToFloats(sampling_logprobs, "sampling_logprobs");
  datum.ref_logprobs = ToFloats(ref_logprobs, "ref_logprobs");
  datum.sft_weights = ToFloats(sft_weights, "sft_weights");
  datum.prefix_id = prefix_id;
  datum.prefix_length = prefix_length;
  if (!routes.is_none()) datum.routes.packed = ToBytes(routes, "routes");
  if (!routed.is_none()) datum.routes.known = ToBytes(routed, "routed");
  return datum;
}

// Equal bytes per token: [tokens, bytes]; None where there are none.
py::object BytesPerToken(const std::vector<uint8_t>& bytes, size_t tokens) {
  if (bytes.empty() || tokens == 0) return py::none();
  return ReadOnlyArray(bytes).attr("reshape")(tokens, bytes.size() / tokens);
}

template <typename Class>
void FloatsProperty(Class& bound, const char* name, std::vector<float> Datum::*member,
                    const char* doc) {
  bound.def_property(
      name, [member](const Datum& d) { return ReadOnlyArray(d.*member); },
      [member, name](Datum& d, const py::object& values) { d.*member = ToFloats(values, name); },
      doc);
}

void BindDatum(py::module_& m) {
  const py::tuple none;
  py::class_<Datum> datum(m, "Datum",
                          "One training row. Every vector is as long as ids, and entry t belongs "
                          "to ids[t] given ids[:t]; the "
                          "first entry has no prediction, so weights[0] must be 0. Reading a "
                          "vector gives a read-only copy; "
                          "assign a whole one to change it.");
  datum.def(
      py::init(&MakeDatum), py::arg("ids"), py::arg("weights"), py::arg("advantages") = none,
      py::arg("old_logprobs") = none, py::arg("sampling_logprobs") = none,
      py::arg("ref_logprobs") = none, py::arg("prefix_id") = -1, py::arg("prefix_length") = 0,
      py::arg("routes") = py::none(), py::arg("routed") = py::none(), py::arg("sft_weights") = none,
      "Lists or arrays. weights: SFT weight or loss mask, 0 = not trained on. "
      "Log-probabilities in nats; empty "
      "old_logprobs: on-policy; empty sampling_logprobs: equal to old_logprobs; "
      "ref_logprobs: for a loss with kl_coef. "
      "Datums of one prefix_id >= 0 share their first prefix_length tokens, which are "
      "computed once. routes: uint8 [tokens, bytes] as Completion.routes, experts to use instead "
      "of the router's choice; routed: per token, 0 where the entry means nothing. sft_weights: at "
      "least 0, for a loss with sft_coef; empty: 1 where the advantage is above 0.");
  datum.def_property_readonly(
      "routes", [](const Datum& d) { return BytesPerToken(d.routes.packed, d.ids.size()); },
      "Packed routing of the position that predicts each token, uint8 [tokens, bytes], or None.");
  datum.def_property_readonly(
      "routed", [](const Datum& d) { return ReadOnlyArray(d.routes.known); },
      "uint8: 0 where the entry of routes means nothing; empty: all of them count.");
  datum.def_property(
      "ids", [](const Datum& d) { return ReadOnlyArray(d.ids); },
      [](Datum& d, const py::object& values) { d.ids = ToTokenIds(values, "ids"); },
      "Prompt and completion, int32.");
  FloatsProperty(datum, "weights", &Datum::weights,
                 "SFT weights or loss mask, float32; 0 = not trained on.");
  FloatsProperty(datum, "advantages", &Datum::advantages,
                 "Per token, float32; empty for losses that need none.");
  FloatsProperty(datum, "old_logprobs", &Datum::old_logprobs,
                 "Nats, of the policy before the step's first update.");
  FloatsProperty(datum, "sampling_logprobs", &Datum::sampling_logprobs,
                 "Nats, of the distribution sampled from.");
  FloatsProperty(datum, "ref_logprobs", &Datum::ref_logprobs, "Nats, of the reference model.");
  FloatsProperty(datum, "sft_weights", &Datum::sft_weights,
                 "Weights of the cross-entropy that sft_coef mixes in.");
  datum.def_readwrite("prefix_id", &Datum::prefix_id,
                      "Datums with the same id >= 0 share a prefix; -1: none.");
  datum.def_readwrite("prefix_length", &Datum::prefix_length, "Tokens of the shared prefix.");
  datum.def("__len__", [](const Datum& d) { return d.ids.size(); });
  datum.def("__repr__", [](const Datum& d) {
    int64_t active = 0;
    for (const float w : d.weights) active += w != 0.0f;
    return absl::StrCat(
        "<rft.Datum ", d.ids.size(), " tokens, ", active, " trained on",
        d.prefix_id >= 0 ? absl::StrCat(", prefix ", d.prefix_id, " of ", d.prefix_length) : "",
        ">");
  });
}

void BindResults(py::module_& m) {
  py::class_<ForwardBackwardResult>(m, "FBResult", "What forward_backward says about its datums.")
      .def_readonly("loss_sum", &ForwardBackwardResult::loss_sum,
                    "Raw sum, before any denominator.")
      .def_property_readonly(
          "logprobs", [](const ForwardBackwardResult& r) { return ArrayList(r.logprobs); },
          "One float32 array per datum: nats of each token, 0 where its weight is 0.")
      .def_readonly("metrics", &ForwardBackwardResult::metrics,
                    "Means over the active tokens, by name (docs/losses.md).")
      .def_readonly("num_tokens", &ForwardBackwardResult::num_tokens, "Active tokens.")
      .def_readonly("num_rows", &ForwardBackwardResult::num_rows, "Datums with an active token.")
      .def_readonly("num_computed_tokens", &ForwardBackwardResult::num_computed_tokens,
                    "Positions that went through the model; a shared prefix counts once.")
      .def_readonly(
          "finite", &ForwardBackwardResult::finite,
          "False: a NaN or infinity was seen, and optim_step will skip the accumulated gradient.")
      .def_readonly("not_finite_datum", &ForwardBackwardResult::not_finite_datum,
                    "Where finite is False: the datum to blame; -1: none of them by itself.")
      .def_readonly("not_finite", &ForwardBackwardResult::not_finite,
                    "What of that datum: \"advantages[7] is nan\"; else empty.")
      .def("__repr__", [](const ForwardBackwardResult& r) {
        return absl::StrCat("<rft.FBResult loss_sum ", ShortNumber(r.loss_sum), ", ", r.num_tokens,
                            " tokens of ", r.num_rows, " rows", r.finite ? "" : ", NOT FINITE",
                            r.not_finite.empty() ? ""
                                                 : absl::StrCat(": datums[", r.not_finite_datum,
                                                                "]: ", r.not_finite),
                            ">");
      });
  py::class_<OptimStepResult>(m, "OptimResult", "What optim_step did.")
      .def_readonly("grad_norm", &OptimStepResult::grad_norm,
                    "Of the normalised gradient, before clipping.")
      .def_readonly("skipped", &OptimStepResult::skipped,
                    "True: the gradient was not finite and nothing has changed.")
      .def_readonly("version", &OptimStepResult::version, "Weight version after the step.")
      .def("__repr__", [](const OptimStepResult& r) {
        return absl::StrCat("<rft.OptimResult version ", r.version, ", grad_norm ",
                            ShortNumber(r.grad_norm), r.skipped ? ", SKIPPED" : "", ">");
      });
}

std::vector<std::vector<std::pair<TokenId, float>>> Alternatives(
    const std::vector<std::vector<TokenLogprob>>& rows) {
  std::vector<std::vector<std::pair<TokenId, float>>> result;
  for (const auto& row : rows) {
    auto& pairs = result.emplace_back();
    for (const TokenLogprob& t : row) pairs.emplace_back(t.id, t.logprob);
  }
  return result;
}

void BindCompletion(py::module_& m) {
  py::class_<Completion>(
      m, "Completion",
      "What the model wrote for one prompt. The arrays are read-only and of equal length.")
      .def_property_readonly(
          "ids", [](const Completion& c) { return ReadOnlyArray(c.ids); }, "Token ids, int32.")
      .def_property_readonly(
          "logprobs", [](const Completion& c) { return ReadOnlyArray(c.logprobs); },
          "Nats, at temperature 1 over the whole vocabulary, float32.")
      .def_property_readonly(
          "sampling_logprobs",
          [](const Completion& c) { return ReadOnlyArray(c.sampling_logprobs); },
          "Nats, of the distribution really sampled from (temperature, top-p, ...), float32.")
      .def_property_readonly(
          "versions", [](const Completion& c) { return ReadOnlyArray(c.versions); },
          "Weight version that drew each token, int64.")
      .def_property_readonly(
          "top_logprobs", [](const Completion& c) { return Alternatives(c.top_logprobs); },
          "Per token, the most likely ones as (id, nats); empty unless asked for.")
      .def_property_readonly(
          "prompt_logprobs", [](const Completion& c) { return ReadOnlyArray(c.prompt_logprobs); },
          "Nats of each prompt token, NaN for the first, float32; empty unless asked for.")
      .def_property_readonly(
          "prompt_top_logprobs",
          [](const Completion& c) { return Alternatives(c.prompt_top_logprobs); },
          "As top_logprobs, of the prompt.")
      .def_readonly("stop_string", &Completion::stop_string,
                    "The stop string that ended it; empty = none.")
      .def_property_readonly(
          "routes", [](const Completion& c) { return BytesPerToken(c.routes, c.ids.size()); },
          "Mixtures of experts, if asked for: packed routing of the position that predicted each "
          "token, uint8 [tokens, bytes]; else None. Model.unpack_routes gives the expert ids.")
      .def_property_readonly(
          "prompt_routes",
          [](const Completion& c) {
            const size_t bytes = c.ids.empty() ? 0 : c.routes.size() / c.ids.size();
            return BytesPerToken(c.prompt_routes, bytes == 0 ? 0 : c.prompt_routes.size() / bytes);
          },
          "The same for the prompt's tokens, if asked for; the first one's entry is 0.")
      .def_property_readonly(
          "finish_reason", [](const Completion& c) { return FinishReasonName(c.finish_reason); },
          "\"stop\", \"length\", \"cancelled\" or \"error\".")
      .def_readonly("error", &Completion::error,
                    "What went wrong when finish_reason is \"error\"; else empty.")
      .def("__len__", [](const Completion& c) { return c.ids.size(); })
      .def("__repr__", [](const Completion& c) {
        return absl::StrCat("<rft.Completion ", c.ids.size(), " tokens, ",
                            FinishReasonName(c.finish_reason), c.error.empty() ? "" : ": ", c.error,
                            ">");
      });
}

std::vector<Datum> DatumsOfGroups(const std::vector<std::string>& records, bool mask_truncated,
                                  bool replay_routes) {
  std::vector<Group> groups;
  for (const std::string& record : records) groups.push_back(ValueOrThrow(GroupFromRecord(record)));
  return MakeDatums(groups, {.replay_routes = replay_routes, .mask_truncated = mask_truncated})
      .datums;
}

}  // namespace

void BindRecords(py::module_& m) {
  BindDatum(m);
  m.def("datums_of_groups", &DatumsOfGroups, py::arg("records"), py::kw_only(),
        py::arg("mask_truncated") = false, py::arg("replay_routes") = true,
        "What a run trains on of groups, each a JSON object as its journal and events.jsonl have "
        "them.\n\nRaises ConfigError for what is not such a record.");
  BindResults(m);
  BindCompletion(m);
}

}  // namespace rft::python
