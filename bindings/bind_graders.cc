#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "bindings/errors.h"
#include "bindings/grader_values.h"
#include "bindings/module.h"
#include "bindings/offline_grading.h"
#include "graders/sandbox/overhead.h"
#include "graders/worker_command.h"
#include "rft/io/dataset.h"
#include "rft/tensor/parallel.h"

namespace rft::python {
namespace {

std::vector<std::shared_ptr<const Row>> ParseRows(const std::vector<std::string>& lines) {
  std::vector<std::shared_ptr<const Row>> rows;
  std::vector<std::string> mistakes;
  for (size_t i = 0; i < lines.size(); ++i) {
    auto row = ParseGradedRow(lines[i], static_cast<int64_t>(i));
    if (row.ok()) {
      rows.push_back(*std::move(row));
    } else {
      mistakes.push_back(absl::StrCat("rows_json[", i, "]: ", std::string(row.status().message())));
    }
  }
  if (!mistakes.empty())
    throw StatusException(absl::InvalidArgumentError(absl::StrJoin(mistakes, "\n")));
  return rows;
}

py::list GradeRows(const py::iterable& specs, const std::vector<std::string>& rows_json,
                   const std::vector<std::string>& completions, int threads,
                   std::vector<std::vector<TokenId>> token_ids, double over_s, double settle_s) {
  if (token_ids.empty()) token_ids.resize(completions.size());
  if (token_ids.size() != completions.size()) {
    throw StatusException(absl::InvalidArgumentError(
        absl::StrCat("grade_rows: ", token_ids.size(), " lists of token ids for ",
                     completions.size(), " completions; one each is needed")));
  }
  if (rows_json.size() != completions.size()) {
    throw StatusException(absl::InvalidArgumentError(
        absl::StrCat("grade_rows: ", rows_json.size(), " rows and ", completions.size(),
                     " completions; one of each is needed")));
  }
  const std::vector<GraderSpec> parsed = ToGraderSpecs(specs);
  const auto results = ValueOrThrow(WithoutGil([&] {
    return GradeOffline(parsed, ParseRows(rows_json), completions, token_ids,
                        threads > 0 ? threads : NumThreads(), over_s, settle_s);
  }));
  py::list list;
  for (const std::vector<TimedGrade>& grades : results) {
    py::list dicts;
    for (size_t g = 0; g < grades.size(); ++g) {
      py::dict dict = GradeToDict(parsed[g].name, grades[g].grade);
      dict["seconds"] = grades[g].seconds;
      dicts.append(std::move(dict));
    }
    list.append(std::move(dicts));
  }
  return list;
}

double TimeGraderOn(const py::dict& spec, const std::vector<std::string>& rows_json,
                    const std::vector<std::string>& completions, int repeats) {
  if (rows_json.size() != completions.size()) {
    throw StatusException(absl::InvalidArgumentError(
        absl::StrCat("time_grader: ", rows_json.size(), " rows and ", completions.size(),
                     " completions; one of each is needed")));
  }
  const GraderSpec parsed = ToGraderSpec(spec, 0);
  return ValueOrThrow(
      WithoutGil([&] { return TimeGrader(parsed, ParseRows(rows_json), completions, repeats); }));
}

py::list ReadRows(const std::filesystem::path& path) {
  const auto rows = ValueOrThrow(WithoutGil([&] { return ReadDataset(path.string()); }));
  py::list list;
  for (const auto& row : rows) list.append(RowToDict(*row));
  return list;
}

py::dict SandboxMilliseconds(int executions) {
  const SandboxOverhead ms =
      ValueOrThrow(WithoutGil([&] { return MeasureSandboxOverhead(executions); }));
  return py::dict(py::arg("bare") = ms.bare, py::arg("warm") = ms.warm,
                  py::arg("back_to_back") = ms.back_to_back);
}

}  // namespace

void BindGraders(py::module_& m) {
  m.def("grade_rows", &GradeRows, py::arg("specs"), py::arg("rows_json"), py::arg("completions"),
        py::arg("threads") = 0, py::arg("token_ids") = std::vector<std::vector<TokenId>>(),
        py::arg("over_s") = 0.0, py::arg("settle_s") = 0.0,
        "Runs graders over completions that already exist: result[i][g] is grader g on "
        "completions[i], a dict of grader, kind "
        "(\"score\", \"abstain\", \"error\", \"timeout\", \"killed\"), score (None unless kind is "
        "\"score\"), reason, sub_scores "
        "and seconds.\n\nspecs: dicts of type, name, weight, deadline_s, params. rows_json: one "
        "dataset line each; `messages` "
        "may be missing. threads: for C++ graders; 0: as many as tensor work uses. token_ids: of "
        "each "
        "completion, for graders that count tokens; may be left out. over_s: completions are "
        "handed over evenly in this time, as in a run; 0: at once. settle_s: how long the graders "
        "are there before, as in a run, where the first completion takes a while.\n\n"
        "Raises ConfigError (all mistakes of the specs and rows), StateError (a Python function "
        "that can't be loaded).");
  m.def("time_grader", &TimeGraderOn, py::arg("spec"), py::arg("rows_json"), py::arg("completions"),
        py::arg("repeats") = 1,
        "Seconds of CPU time that a C++ grader takes for all completions, `repeats` times over, on "
        "one thread "
        "and without the pool: what `rft bench graders` reports.\n\n"
        "Raises ConfigError (the spec, the rows), StateError (a grade that is not a score).");
  m.def("read_dataset", &ReadRows, py::arg("path"),
        "The rows of a JSONL dataset: dicts of index, messages, columns (every other key, as text) "
        "and json (the line).\n\n"
        "Raises ConfigError naming every bad line (file:line: what), NotFoundError.");
  m.def("sandbox_overhead", &SandboxMilliseconds, py::arg("executions") = 40,
        "Milliseconds of a small program: bare (a process started for it), warm (in a sandbox "
        "started ahead), back_to_back "
        "(sandboxed, one after another). Medians.\n\nRaises StateError where the kernel refuses "
        "isolation.");
  m.def("set_worker_command", &SetWorkerCommand, py::arg("command"),
        "The command that starts a Python grader's worker, for graders made from now on; empty: "
        "the default. Importing this "
        "module sets [sys.executable, \"-m\", \"rft._worker\"] unless RFT_PYTHON is set.");
}

}  // namespace rft::python
