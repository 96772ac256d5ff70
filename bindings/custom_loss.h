// A Python function as a CustomLoss, and the way back for what it raises.
#pragma once

#include <exception>
#include <vector>

#include <pybind11/pybind11.h>

#include "rft/api/training_client.h"
#include "rft/run/update.h"

namespace rft::python {

namespace py = pybind11;

// fn(list of float32 arrays, one per datum) -> (loss_sum, list of d loss / d logprob[, metrics[, denominator]]).
// Must outlive what Callback and BatchCallback returned.
class PythonLoss {
 public:
  explicit PythonLoss(py::function function) : function_(std::move(function)) {}

  // Takes the GIL while it runs; any thread. A Python exception is kept and the Status says only that there was one.
  CustomLoss Callback();
  // The same for a function whose first argument is the list of datums.
  BatchLoss BatchCallback();

  // Throws what the function raised, the same exception object. REQUIRES: the GIL is held.
  void RethrowIfRaised() const {
    if (raised_) std::rethrow_exception(raised_);
  }

 private:
  // function_ of these arguments and the log-probabilities.
  absl::StatusOr<CustomLossResult> Run(const std::vector<std::vector<float>>& logprobs,
                                       const absl::Span<const Datum>* datums);

  py::function function_;
  std::exception_ptr raised_;
};

}  // namespace rft::python
