#include "bindings/custom_loss.h"

#include <map>
#include <string>

#include <pybind11/stl.h>

#include "absl/strings/str_cat.h"
#include "bindings/arrays.h"
#include "bindings/errors.h"

namespace rft::python {
namespace {

constexpr const char* kExpected =
    "the loss function must return (loss_sum, list of gradients by each datum's logprobs[, "
    "metrics[, denominator]])";

CustomLossResult Parse(const py::object& returned) {
  if (!py::isinstance<py::tuple>(returned)) throw py::type_error(kExpected);
  const py::tuple parts = returned;
  if (parts.size() < 2 || parts.size() > 4) throw py::type_error(kExpected);
  CustomLossResult result;
  result.loss_sum = py::float_(py::object(parts[0])).cast<double>();
  for (const py::handle gradient : py::reinterpret_borrow<py::iterable>(parts[1])) {
    result.dlogprobs.push_back(
        ToFloats(gradient, absl::StrCat("gradient ", result.dlogprobs.size())));
  }
  if (parts.size() > 2 && !parts[2].is_none()) {
    for (const auto& [name, value] : py::dict(parts[2])) {
      result.metrics[py::str(name).cast<std::string>()] =
          py::float_(py::reinterpret_borrow<py::object>(value)).cast<double>();
    }
  }
  if (parts.size() > 3) result.denominator = py::float_(py::object(parts[3])).cast<double>();
  return result;
}

}  // namespace

CustomLoss PythonLoss::Callback() {
  return [this](const std::vector<std::vector<float>>& logprobs) { return Run(logprobs, nullptr); };
}

BatchLoss PythonLoss::BatchCallback() {
  return [this](absl::Span<const Datum> datums, const std::vector<std::vector<float>>& logprobs) {
    return Run(logprobs, &datums);
  };
}

absl::StatusOr<CustomLossResult> PythonLoss::Run(const std::vector<std::vector<float>>& logprobs,
                                                 const absl::Span<const Datum>* datums) {
  py::gil_scoped_acquire gil;
  try {
    py::list rows;
    if (datums != nullptr)
      for (const Datum& datum : *datums) rows.append(py::cast(datum));
    return Parse(datums != nullptr ? function_(rows, ArrayList(logprobs))
                                   : function_(ArrayList(logprobs)));
  } catch (
      ...) {  // error_already_set, or what the conversions above throw: RethrowIfRaised brings it to Python
    raised_ = std::current_exception();
    return absl::AbortedError("the loss function raised an exception");
  }
}

}  // namespace rft::python
