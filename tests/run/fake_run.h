// A run in a temporary folder whose model is a fake that learns: it answers "7" with a probability that grows with every
// update of its trainer, otherwise "0". The task is to answer "7".
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "rft/config/config_reader.h"
#include "rft/run/run.h"
#include "tests/testing/fake_codec.h"
#include "tests/testing/fake_engine.h"
#include "tests/testing/fake_trainer.h"
#include "tests/testing/temp_dir.h"

namespace rft::testing {

class FakeRun {
 public:
  FakeRun();

  // Reads a small configuration with `overrides` ("trainer.steps=2") over it and creates the run.
  absl::StatusOr<std::unique_ptr<Run>> Create(std::vector<std::string> overrides = {},
                                              const std::string& resume_dir = "");

  std::string Path(const std::string& name) const { return dir_ / name; }
  void Write(const std::string& name, const std::string& text) const;
  std::string Read(const std::string& path) const;
  std::vector<std::string> ReadLines(const std::string& path) const;
  // The lines of metrics.jsonl of a run folder, without what depends on the clock.
  std::vector<std::string> StableMetrics(const std::string& run_dir) const;

  // Of the latest Create.
  FakeTrainer* trainer = nullptr;
  FakeEngine* engine = nullptr;

  FakeEngine::Script script;  // replaces the learning model where it is set
  decltype(RunParts::check_export) check_export;
  int64_t max_context = 64;

 private:
  RunParts MakeParts();

  TempDir dir_;
};

}  // namespace rft::testing
