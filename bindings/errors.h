// Errors across the language border, both ways.
//
// Status -> Python, one class per code. Each is also the built-in exception that a Python user would expect:
//
//   kInvalidArgument, kOutOfRange      rft.ConfigError(rft.Error, ValueError)
//   kNotFound                          rft.NotFoundError(rft.Error, FileNotFoundError)
//   kResourceExhausted                 rft.ResourceError(rft.Error, MemoryError)
//   kFailedPrecondition                rft.StateError(rft.Error, RuntimeError)
//   kDeadlineExceeded                  rft.DeadlineError(rft.Error, TimeoutError)
//   kDataLoss                          rft.DataLossError(rft.Error, RuntimeError)
//   any other                          rft.Error(Exception)
//
// The attribute `code` holds the code's name ("INVALID_ARGUMENT").
#pragma once

#include <exception>
#include <utility>

#include <pybind11/pybind11.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace rft::python {

namespace py = pybind11;

// Carries a Status out of a bound function, with or without the GIL; the translator raises the Python class.
class StatusException : public std::exception {
 public:
  explicit StatusException(absl::Status status)
      : status_(std::move(status)), text_(status_.message()) {}
  const char* what() const noexcept override { return text_.c_str(); }
  const absl::Status& status() const { return status_; }

 private:
  absl::Status status_;
  std::string text_;
};

inline void ThrowIfError(const absl::Status& status) {
  if (!status.ok()) throw StatusException(status);
}

template <typename T>
T ValueOrThrow(absl::StatusOr<T> value) {
  if (!value.ok()) throw StatusException(value.status());
  return std::move(value).value();
}

// Runs `body` with the GIL released; absl::Status and absl::StatusOr become exceptions. `body` must not touch Python.
template <typename F>
auto WithoutGil(F&& body) {
  py::gil_scoped_release release;
  return body();
}

// Creates the classes in `m` and registers the translator.
void BindErrors(py::module_& m);

// A Python exception as a Status: the code is that of our own classes, or follows from the built-in class; the message is
// "<type>: <text>". REQUIRES: the GIL is held.
absl::Status StatusFromPython(py::error_already_set& error);

}  // namespace rft::python
