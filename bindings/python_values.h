// Python values <-> JSON text, and small helpers for text in `__repr__`. REQUIRES: the GIL is held.
#pragma once

#include <cstdint>
#include <string>

#include <pybind11/pybind11.h>

#include "rft/core/memory_plan.h"

namespace rft::python {

namespace py = pybind11;

// json.loads / json.dumps. Raise what they raise.
py::object FromJson(const std::string& text);
std::string ToJsonText(py::handle value);

// {"items": [(name, bytes, what)], "total_bytes", "limit_bytes", "token_budget", "text"}
py::dict MemoryPlanDict(const MemoryPlan& plan);

// "135M", "1.23M", "512"
std::string ShortCount(int64_t n);
// Up to four significant digits, as %.4g.
std::string ShortNumber(double value);

}  // namespace rft::python
