#include "bindings/parameters.h"

#include <cstring>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bindings/errors.h"
#include "rft/core/check.h"
#include "rft/core/text.h"

namespace rft::python {

const Parameter& FindParameter(const ParameterStore& parameters, const std::string& name) {
  if (const Parameter* found = parameters.Find(name)) return *found;
  std::vector<std::string> names;
  for (const Parameter& parameter : parameters.all()) names.push_back(parameter.name);
  const std::optional<std::string> meant = DidYouMean(name, names);
  throw StatusException(absl::InvalidArgumentError(absl::StrCat(
      "no parameter '", name, "'; ",
      meant ? absl::StrCat("did you mean ", *meant, "?") : "parameter_names() lists them")));
}

py::array_t<float> CopyToNumpy(const at::Tensor& tensor) {
  RFT_CHECK(tensor.defined() && tensor.is_contiguous() && tensor.scalar_type() == at::kFloat);
  const at::Tensor values = tensor.cpu();
  py::array_t<float> array(std::vector<py::ssize_t>(values.sizes().begin(), values.sizes().end()));
  std::memcpy(array.mutable_data(), values.const_data_ptr(), static_cast<size_t>(values.nbytes()));
  return array;
}

}  // namespace rft::python
