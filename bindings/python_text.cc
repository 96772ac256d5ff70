#include "bindings/python_text.h"

#include <cstdlib>
#include <mutex>
#include <utility>
#include <vector>

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "absl/strings/str_cat.h"
#include "bindings/errors.h"
#include "bindings/python_codec.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

namespace py = pybind11;

// The interpreter that the build used; its pyvenv.cfg tells the embedded one where the packages are.
std::string PythonExecutable() {
  if (const char* chosen = std::getenv("RFT_PYTHON")) return chosen;
#ifdef RFT_BUILD_PYTHON_EXECUTABLE
  return RFT_BUILD_PYTHON_EXECUTABLE;
#else
  return "python3";
#endif
}

absl::Status StartInterpreter() {
  const std::string executable = PythonExecutable();
  PyConfig config;
  PyConfig_InitPythonConfig(&config);
  config.install_signal_handlers = 0;  // Ctrl-C stays the program's own
  config.parse_argv = 0;
  PyStatus status = PyConfig_SetBytesString(&config, &config.program_name, executable.c_str());
  if (!PyStatus_Exception(status)) status = Py_InitializeFromConfig(&config);
  PyConfig_Clear(&config);
  if (PyStatus_Exception(status)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the Python interpreter (", executable,
        ") could not be started: ", status.err_msg == nullptr ? "unknown reason" : status.err_msg,
        "; set RFT_PYTHON to the python of rft's environment"));
  }
  PyEval_SaveThread();  // this thread holds the GIL now; whoever needs it takes it
  return absl::OkStatus();
}

absl::Status EnsureInterpreter() {
  static std::mutex* mutex = new std::mutex;
  std::lock_guard<std::mutex> lock(*mutex);
  return Py_IsInitialized() ? absl::OkStatus() : StartInterpreter();
}

// REQUIRES: the GIL is held.
absl::StatusOr<std::shared_ptr<TextCodec>> LoadWithGil(const std::string& model_dir) {
  py::object module;
  try {
    module = py::module_::import("rft.codec");
  } catch (py::error_already_set& error) {
    return absl::FailedPreconditionError(
        absl::StrCat("Python's rft.codec can't be imported by ", PythonExecutable(), " (",
                     std::string(python::StatusFromPython(error).message()),
                     "); run `make setup`, or set RFT_PYTHON to the python of an environment that "
                     "has rft and transformers"));
  }
  try {
    const py::object codec = module.attr("load_codec")(model_dir);
    RFT_ASSIGN_OR_RETURN(std::shared_ptr<TextCodec> made,
                         python::PythonTextCodec::Create(
                             codec.attr("encode_chat"), codec.attr("encode"),
                             codec.attr("token_bytes").cast<std::vector<std::string>>(),
                             codec.attr("is_special").cast<std::vector<bool>>(),
                             codec.attr("end_ids").cast<std::vector<TokenId>>(),
                             codec.attr("encode_chat_json"), codec.attr("grammar_compiler")()));
    return made;
  } catch (py::error_already_set& error) {
    return python::StatusFromPython(error);
  } catch (const py::cast_error& error) {
    return absl::InternalError(
        absl::StrCat("rft.codec.load_codec(", model_dir, "): ", error.what()));
  }
}

}  // namespace

absl::StatusOr<std::shared_ptr<TextCodec>> LoadPythonCodec(const std::string& model_dir) {
  RFT_RETURN_IF_ERROR(EnsureInterpreter());
  py::gil_scoped_acquire gil;
  return LoadWithGil(model_dir);
}

}  // namespace rft
