#include "bindings/arrays.h"

#include <cstdint>
#include <limits>

#include "absl/strings/str_cat.h"
#include "bindings/errors.h"

namespace rft::python {
namespace {

[[noreturn]] void Wrong(const std::string& what, const std::string& why) {
  throw StatusException(absl::InvalidArgumentError(absl::StrCat(what, ": ", why)));
}

std::string ShapeText(const py::array& array) {
  return py::str(array.attr("shape")).cast<std::string>();
}

py::array AsVector(py::handle values, const std::string& what) {
  py::array array = py::array::ensure(values);
  if (!array)
    Wrong(what, absl::StrCat("must be a list or an array of numbers, not ",
                             Py_TYPE(values.ptr())->tp_name));
  if (array.ndim() != 1)
    Wrong(what, absl::StrCat("must have one dimension, not the shape ", ShapeText(array)));
  return array;
}

}  // namespace

std::vector<float> ToFloats(py::handle values, const std::string& what) {
  const py::array array = AsVector(values, what);
  const char kind = array.dtype().kind();
  if (array.size() > 0 && kind != 'f' && kind != 'i' && kind != 'u' && kind != 'b') {
    Wrong(what, absl::StrCat("must be numbers, not ", py::str(array.dtype()).cast<std::string>()));
  }
  const auto floats = py::array_t<float, py::array::c_style | py::array::forcecast>::ensure(array);
  if (!floats) Wrong(what, "can't be converted to float32");
  return {floats.data(), floats.data() + floats.size()};
}

std::vector<TokenId> ToTokenIds(py::handle values, const std::string& what) {
  const py::array array = AsVector(values, what);
  if (array.size() == 0) return {};
  const char kind = array.dtype().kind();
  if (kind != 'i' && kind != 'u') {
    Wrong(what, absl::StrCat("must be whole numbers (token ids), not ",
                             py::str(array.dtype()).cast<std::string>()));
  }
  const auto wide = py::array_t<int64_t, py::array::c_style | py::array::forcecast>::ensure(array);
  if (!wide) Wrong(what, "can't be converted to int64");
  std::vector<TokenId> ids(static_cast<size_t>(wide.size()));
  for (size_t i = 0; i < ids.size(); ++i) {
    const int64_t id = wide.data()[i];
    if (id < std::numeric_limits<TokenId>::min() || id > std::numeric_limits<TokenId>::max()) {
      Wrong(what, absl::StrCat("entry ", i, " is ", id, ", which does not fit 32 bits"));
    }
    ids[i] = static_cast<TokenId>(id);
  }
  return ids;
}

py::list ArrayList(std::vector<std::vector<float>> rows) {
  py::list list;
  for (std::vector<float>& row : rows) list.append(TakeArray(std::move(row)));
  return list;
}

}  // namespace rft::python
