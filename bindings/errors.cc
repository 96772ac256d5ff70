#include "bindings/errors.h"

#include <array>
#include <string>

#include "absl/strings/str_cat.h"

namespace rft::python {
namespace {

struct ErrorClass {
  absl::StatusCode code;
  const char* name;
  PyObject** built_in;  // nullptr: rft.Error alone
  const char* doc;
};

const auto& ErrorClasses() {
  static const std::array<ErrorClass, 6> classes = {{
      {absl::StatusCode::kInvalidArgument, "ConfigError", &PyExc_ValueError,
       "Something given is wrong: a configuration, a dataset, a model folder, an argument. Also a "
       "ValueError."},
      {absl::StatusCode::kNotFound, "NotFoundError", &PyExc_FileNotFoundError,
       "A file or folder is missing. Also a FileNotFoundError."},
      {absl::StatusCode::kResourceExhausted, "ResourceError", &PyExc_MemoryError,
       "Out of memory, disk or queue space. Also a MemoryError."},
      {absl::StatusCode::kFailedPrecondition, "StateError", &PyExc_RuntimeError,
       "Not possible in the present state (closed, finished, nothing accumulated). Also a "
       "RuntimeError."},
      {absl::StatusCode::kDeadlineExceeded, "DeadlineError", &PyExc_TimeoutError,
       "A deadline passed. Also a TimeoutError."},
      {absl::StatusCode::kDataLoss, "DataLossError", &PyExc_RuntimeError,
       "A checkpoint or record is damaged. Also a RuntimeError."},
  }};
  return classes;
}

std::string CodeName(absl::StatusCode code) { return absl::StatusCodeToString(code); }

// Owned by the module for the life of the process; null outside the extension (a C++ program with LoadPythonCodec).
PyObject* g_base = nullptr;
std::array<PyObject*, 6> g_classes = {};

PyObject* NewClass(const char* name, const char* doc, const py::tuple& bases,
                   const std::string& code) {
  py::dict members;
  members["code"] = code;
  PyObject* made = PyErr_NewExceptionWithDoc(absl::StrCat("rft.", name).c_str(), doc, bases.ptr(),
                                             members.ptr());
  if (made == nullptr) throw py::error_already_set();
  return made;
}

PyObject* ClassOf(absl::StatusCode code) {
  if (code == absl::StatusCode::kOutOfRange) code = absl::StatusCode::kInvalidArgument;
  for (size_t i = 0; i < g_classes.size(); ++i) {
    if (ErrorClasses()[i].code == code) return g_classes[i];
  }
  return g_base;
}

void Raise(const absl::Status& status) {
  try {
    const py::handle type(ClassOf(status.code()));
    const py::str text(std::string(status.message()));
    py::object error = type(text);
    error.attr("code") = CodeName(status.code());
    PyErr_SetObject(type.ptr(), error.ptr());
  } catch (py::error_already_set& error) {  // the message is not UTF-8, or no memory
    error.restore();
  }
}

// The first match counts, so narrower classes come first.
absl::StatusCode CodeOf(const py::error_already_set& error) {
  for (size_t i = 0; i < g_classes.size(); ++i) {
    if (g_classes[i] != nullptr && error.matches(g_classes[i])) return ErrorClasses()[i].code;
  }
  if (error.matches(PyExc_FileNotFoundError)) return absl::StatusCode::kNotFound;
  if (error.matches(PyExc_TimeoutError)) return absl::StatusCode::kDeadlineExceeded;
  if (error.matches(PyExc_MemoryError)) return absl::StatusCode::kResourceExhausted;
  if (error.matches(PyExc_KeyboardInterrupt)) return absl::StatusCode::kCancelled;
  for (PyObject* wrong_input :
       {PyExc_ValueError, PyExc_TypeError, PyExc_LookupError, PyExc_ImportError}) {
    if (error.matches(wrong_input)) return absl::StatusCode::kInvalidArgument;
  }
  return absl::StatusCode::kUnknown;
}

}  // namespace

void BindErrors(py::module_& m) {
  g_base =
      NewClass("Error", "Base of all errors of rft; `code` is the name of the status code.",
               py::make_tuple(py::handle(PyExc_Exception)), CodeName(absl::StatusCode::kUnknown));
  m.attr("Error") = py::handle(g_base);
  for (size_t i = 0; i < g_classes.size(); ++i) {
    const ErrorClass& info = ErrorClasses()[i];
    g_classes[i] = NewClass(info.name, info.doc,
                            py::make_tuple(py::handle(g_base), py::handle(*info.built_in)),
                            CodeName(info.code));
    m.attr(info.name) = py::handle(g_classes[i]);
  }
  py::register_exception_translator([](std::exception_ptr thrown) {
    try {
      if (thrown) std::rethrow_exception(thrown);
    } catch (const StatusException& error) {
      Raise(error.status());
    }
  });
}

absl::Status StatusFromPython(py::error_already_set& error) {
  std::string text;
  try {
    text = absl::StrCat(py::str(error.type().attr("__name__")).cast<std::string>(), ": ",
                        py::str(error.value()).cast<std::string>());
  } catch (py::error_already_set&) {  // its __str__ raises
    text = "a Python exception whose text can't be read";
  }
  return absl::Status(CodeOf(error), text);
}

}  // namespace rft::python
