// Graders' specs and grades as Python dicts. REQUIRES: the GIL is held.
#pragma once

#include <string>
#include <vector>

#include <pybind11/pybind11.h>

#include "rft/core/grade.h"
#include "rft/core/grader_spec.h"
#include "rft/core/types.h"

namespace rft::python {

namespace py = pybind11;

// {"type": ..., "name": type, "weight": 1.0, "deadline_s": 10.0, "params": {...}, "base_dir": working directory}; values of
// params that are not text become JSON text. Throws StatusException (kInvalidArgument) naming the wrong or unknown key.
GraderSpec ToGraderSpec(py::handle value, size_t index);
std::vector<GraderSpec> ToGraderSpecs(const py::iterable& values);

// {"grader", "kind": "score" | "abstain" | "error" | "timeout" | "killed", "score": None unless a score, "reason",
// "sub_scores"}.
py::dict GradeToDict(const std::string& grader, const Grade& grade);

// {"index", "messages": [{"role", "content"}], "columns": {...}, "json": the line}
py::dict RowToDict(const Row& row);

}  // namespace rft::python
