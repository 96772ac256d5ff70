#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/utils/pybind.h>

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>

#include "bindings/errors.h"
#include "bindings/loss_knobs.h"
#include "bindings/module.h"
#include "losses/loss_totals.h"
#include "losses/presets.h"
#include "rft/tensor/try_torch.h"

namespace rft::python {
namespace {

at::Tensor Offsets(const py::object& value) {
  if (THPVariable_Check(value.ptr())) return value.cast<at::Tensor>();
  return at::tensor(value.cast<std::vector<int64_t>>(), at::kLong);
}

py::dict LossForward(const std::string& name, at::Tensor logprobs_T, at::Tensor old_logprobs_T,
                     std::optional<at::Tensor> sampling_logprobs_T,
                     std::optional<at::Tensor> ref_logprobs_T,
                     std::optional<at::Tensor> advantages_T, at::Tensor mask_T,
                     const py::object& row_offsets, std::optional<at::Tensor> entropy_T,
                     std::optional<at::Tensor> sft_weights_T,
                     std::optional<at::Tensor> held_logprobs_T, const py::kwargs& knobs) {
  const LossConfig config = ReadLossConfig(name, knobs);
  const LossInput input{std::move(logprobs_T),
                        std::move(old_logprobs_T),
                        sampling_logprobs_T.value_or(at::Tensor()),
                        ref_logprobs_T.value_or(at::Tensor()),
                        advantages_T.value_or(at::Tensor()),
                        std::move(mask_T),
                        Offsets(row_offsets),
                        entropy_T.value_or(at::Tensor()),
                        sft_weights_T.value_or(at::Tensor()),
                        held_logprobs_T.value_or(at::Tensor())};
  const LossOutput output = ValueOrThrow(WithoutGil([&] {
    return TryTorch([&]() -> LossOutput { return FindLoss(config.name).forward(input, config); });
  }));
  LossTotals totals;
  totals.Add(output);
  return py::dict(py::arg("sum") = output.sum, py::arg("denominator") = output.denominator,
                  py::arg("metrics") = totals.Metrics(), py::arg("num_tokens") = output.num_tokens,
                  py::arg("num_rows") = output.num_rows);
}

py::dict LossInfo(const std::string& name) {
  const LossConfig config =
      ValueOrThrow(TryTorch([&]() -> LossConfig { return LossDefaults(name); }));
  return py::dict(py::arg("loss") = config.name,
                  py::arg("splits_over_calls") = FindLoss(config.name).splits_over_calls());
}

}  // namespace

void BindLosses(py::module_& m) {
  m.def("loss_presets", &LossPresetNames,
        "Names of the presets: losses as other implementations compute them (docs/losses.md).");
  m.def("loss_info", &LossInfo, py::arg("name"),
        "Of a loss or preset, a dict: loss (the registered loss behind it), splits_over_calls "
        "(whether rows can be split over calls without changing the result).");
  m.def("loss_forward", &LossForward, py::arg("name"), py::arg("logprobs_T"),
        py::arg("old_logprobs_T"), py::arg("sampling_logprobs_T"), py::arg("ref_logprobs_T"),
        py::arg("advantages_T"), py::arg("mask_T"), py::arg("row_offsets"),
        py::arg("entropy_T") = py::none(), py::arg("sft_weights_T") = py::none(),
        py::arg("held_logprobs_T") = py::none(),
        "A registered loss or preset on torch tensors (rft.losses is the friendlier face): T "
        "tokens of R rows packed one after another, "
        "all float32 or all float64; "
        "row_offsets has R + 1 entries (row r is [off[r], off[r + 1])). sampling_logprobs_T and "
        "ref_logprobs_T may be None; entropy_T, sft_weights_T: for entropy_coef, top_entropy and "
        "sft_coef; held_logprobs_T stands for the constant sg(logprobs) (finite differences).\n\n"
        "Returns a dict: sum (scalar tensor; its gradient flows into logprobs_T), denominator "
        "(active tokens or rows; 0: a "
        "plain sum), metrics (token means), num_tokens, num_rows. The loss is sum / denominator, "
        "both added up over all calls "
        "of a step first.\n\nRaises ConfigError: unknown loss or knob, shapes or dtypes that do "
        "not fit.");
}

}  // namespace rft::python
