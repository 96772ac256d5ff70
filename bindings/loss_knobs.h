// A loss's knobs as Python keyword arguments -> LossConfig. The knobs, their ranges and the messages are those of the
// `losses:` section of run.yaml (rft/config/loss_options.h), so nothing is declared twice.
#pragma once

#include <string>

#include <pybind11/pybind11.h>

#include "rft/core/loss_config.h"

namespace rft::python {

namespace py = pybind11;

// forward_backward(datums, "dapo", clip_high=0.28, correction={"level": "token", "cap": 5.0}): the registered loss's own
// defaults with the given knobs laid over them; None leaves a knob as it is. REQUIRES: the GIL is held.
// Throws StatusException (kInvalidArgument): an unknown loss (lists the known ones), an unknown knob ("did you mean"), a
// value of the wrong type or out of range; all mistakes together.
LossConfig ReadLossConfig(const std::string& name, const py::dict& knobs);

}  // namespace rft::python
