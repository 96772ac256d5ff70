// rft._rft: the compiled half of the Python package. Names, shapes and defaults: python/rft/_rft.pyi.
#include "bindings/module.h"

#include <cstdlib>
#include <string>
#include <vector>

#include "bindings/errors.h"
#include "graders/worker_command.h"

namespace rft::python {
namespace {

// Python graders run in processes of this same interpreter, so that they find what the caller's environment has; RFT_PYTHON
// (graders/worker_command.h) still names another one.
void UseThisPythonForWorkers() {
  if (std::getenv("RFT_PYTHON") != nullptr) return;
  const py::object executable = py::module_::import("sys").attr("executable");
  if (!executable.is_none() && py::len(executable) > 0) {
    SetWorkerCommand({executable.cast<std::string>(), "-m", "rft._worker"});
  }
}

}  // namespace
}  // namespace rft::python

PYBIND11_MODULE(_rft, m) {
  using namespace rft::python;
  m.doc() =
      "The compiled half of rft: models, engine, trainer, graders, losses, runs. Use it through "
      "`import rft`.";
  BindErrors(m);
  BindText(m);
  BindConfig(m);
  BindModels(m);
  BindRecords(m);
  BindTraining(m);
  BindEngine(m);
  BindServe(m);
  BindGraders(m);
  BindLosses(m);
  BindAdvantages(m);
  BindRun(m);
  BindInfo(m);
  UseThisPythonForWorkers();
}
