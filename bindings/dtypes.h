// Names of compute types: "bf16", "fp32"; "int8" is bf16 with int8 weights (for judges and references).
#pragma once

#include <string>

#include <c10/core/ScalarType.h>

#include "absl/strings/str_cat.h"
#include "bindings/errors.h"

namespace rft::python {

// Throws StatusException (kInvalidArgument) for any other name.
inline at::ScalarType ComputeDtype(const std::string& name) {
  if (name == "bf16") return at::kBFloat16;
  if (name == "fp32") return at::kFloat;
  if (name == "int8") return at::kChar;
  throw StatusException(absl::InvalidArgumentError(
      absl::StrCat("dtype: '", name, "' is not one of bf16, fp32, int8")));
}

inline std::string DtypeName(at::ScalarType dtype) {
  return dtype == at::kBFloat16 ? "bf16" : dtype == at::kChar ? "int8" : "fp32";
}

}  // namespace rft::python
