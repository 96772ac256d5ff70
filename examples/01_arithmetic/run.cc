// The demo in ten lines of C++: the twin of run.py, and like it takes another run.yaml as its argument.
// `make build` puts it into build/release/examples/arithmetic. Build it against an installed rft:
//   find_package(rft REQUIRED)   target_link_libraries(run PRIVATE rft::rft rft::python_text)
#include <iostream>

#include "bindings/python_text.h"
#include "rft/rft.h"

int main(int argc, char** argv) {
  auto config = rft::ReadRunConfig(argc > 1 ? argv[1] : "examples/01_arithmetic/run.yaml");
  if (!config.ok()) return std::cerr << config.status().message() << "\n", 1;
  auto codec = rft::LoadPythonCodec(config->model);
  if (!codec.ok()) return std::cerr << codec.status().message() << "\n", 1;
  auto run = rft::Run::Create(*config, *codec);
  if (!run.ok()) return std::cerr << run.status().message() << "\n", 1;

  (*run)
      ->AddGrader(
          "short", [](const rft::GradeInput& in) { return in.completion.size() <= 40; }, 0.1)
      .IgnoreError();
  while (auto step = (*run)->Next())
    std::cout << step->index << " " << step->reward_mean << " " << step->kl_max << "\n";
  (*run)->Save("runs/arithmetic-model").IgnoreError();
  absl::Status finished = (*run)->Finish();
  std::cout << (*run)->stop_reason() << "; " << (*run)->dir() << "\n";
  return finished.ok() ? 0 : 1;
}
