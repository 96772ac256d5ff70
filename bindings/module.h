// What module.cc calls: one function per area, each in its own bind_<area>.cc.
#pragma once

#include <pybind11/pybind11.h>

namespace rft::python {

namespace py = pybind11;

void BindConfig(py::module_& m);
void BindText(py::module_& m);
void BindModels(py::module_& m);
void BindRecords(py::module_& m);
void BindTraining(py::module_& m);
void BindEngine(py::module_& m);
void BindServe(py::module_& m);
void BindGraders(py::module_& m);
void BindLosses(py::module_& m);
void BindAdvantages(py::module_& m);
void BindRun(py::module_& m);
void BindInfo(py::module_& m);

}  // namespace rft::python
