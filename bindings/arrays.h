// numpy arrays (or anything that converts to one: lists, torch tensors on the CPU) <-> std::vector.
// numpy only, no torch. REQUIRES: the GIL is held.
#pragma once

#include <string>
#include <vector>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "rft/core/types.h"

namespace rft::python {

namespace py = pybind11;

// One dimension, float32 after conversion. `what` names the argument in errors. Throws StatusException
// (kInvalidArgument): not numbers, or more than one dimension.
std::vector<float> ToFloats(py::handle values, const std::string& what);

// One dimension of whole numbers that fit int32; a list of floats is refused rather than cut.
std::vector<TokenId> ToTokenIds(py::handle values, const std::string& what);

// A new array that owns the vector's memory (no copy).
template <typename T>
py::array_t<T> TakeArray(std::vector<T> values) {
  auto* owned = new std::vector<T>(std::move(values));
  py::capsule owner(owned, [](void* p) { delete static_cast<std::vector<T>*>(p); });
  return py::array_t<T>({static_cast<py::ssize_t>(owned->size())},
                        {static_cast<py::ssize_t>(sizeof(T))}, owned->data(), owner);
}

// A copy that can't be written to: for attributes, where writing into a copy would silently change nothing.
template <typename T>
py::array_t<T> ReadOnlyArray(const std::vector<T>& values) {
  py::array_t<T> array = TakeArray(values);
  array.attr("flags").attr("writeable") = false;
  return array;
}

// One array per row.
py::list ArrayList(std::vector<std::vector<float>> rows);

}  // namespace rft::python
