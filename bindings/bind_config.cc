#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "bindings/errors.h"
#include "bindings/module.h"
#include "bindings/python_values.h"
#include "graders/grader.h"
#include "losses/loss.h"
#include "rft/config/config_dump.h"
#include "rft/config/config_reader.h"
#include "rft/config/schedule.h"
#include "rft/core/text.h"
#include "rft/run/model_card.h"

namespace rft::python {
namespace {

ConfigReadOptions OptionsFor(std::vector<std::string> overrides, bool check_paths,
                             std::string overrides_from = "overrides") {
  return {.overrides = std::move(overrides),
          .overrides_from = std::move(overrides_from),
          .check_paths = check_paths,
          .choices = {{"losses.name", LossRegistry::Get().Names()},
                      {"graders.type", GraderRegistry::Get().Names()}}};
}

[[noreturn]] void UnknownKey(const std::string& path, const std::string& prefix,
                             const std::string& key, const std::vector<std::string>& known) {
  const std::optional<std::string> meant = DidYouMean(key, known);
  throw StatusException(absl::InvalidArgumentError(
      absl::StrCat(path, ": no such key",
                   meant ? absl::StrCat("; did you mean ", prefix, *meant, "?")
                         : absl::StrCat("; known here: ", absl::StrJoin(known, ", ")))));
}

// One step of a dotted path: into a section by key, or into a list by number.
py::object Descend(const py::object& node, const std::string& path, const std::string& prefix,
                   const std::string& key) {
  if (py::isinstance<py::dict>(node)) {
    const py::str name(key);
    if (node.contains(name)) return node[name];
    UnknownKey(path, prefix, key, py::list(node).cast<std::vector<std::string>>());
  }
  if (py::isinstance<py::list>(node)) {
    size_t index = 0;
    const auto result = std::from_chars(key.data(), key.data() + key.size(), index);
    if (result.ec == std::errc() && result.ptr == key.data() + key.size() &&
        index < py::len(node)) {
      return py::list(node)[index];
    }
  }
  throw StatusException(
      absl::InvalidArgumentError(absl::StrCat(path, ": no such key; ", prefix, " has no ", key)));
}

py::object Get(const RunConfig& config, const std::string& path) {
  py::object node = FromJson(ResolvedJson(config));
  size_t begin = 0;
  while (begin <= path.size()) {
    const size_t end = std::min(path.find('.', begin), path.size());
    node = Descend(node, path, path.substr(0, begin), path.substr(begin, end - begin));
    begin = end + 1;
  }
  return node;
}

}  // namespace

void BindConfig(py::module_& m) {
  py::class_<RunConfig>(
      m, "RunConfig",
      "Everything a run is told: run.yaml, checked and resolved. Immutable from Python; "
      "change it with `overrides`.")
      .def_static(
          "from_file",
          [](const std::filesystem::path& path, std::vector<std::string> overrides,
             bool check_paths, std::string overrides_from) {
            return ValueOrThrow(ReadRunConfig(
                path, OptionsFor(std::move(overrides), check_paths, std::move(overrides_from))));
          },
          py::arg("path"), py::arg("overrides") = std::vector<std::string>{},
          py::arg("check_paths") = true, py::arg("overrides_from") = "overrides",
          "Reads run.yaml or a resolved config.json; `overrides` are \"trainer.steps=10\", applied "
          "in order; messages about them begin with `overrides_from`.\n\n"
          "Raises ConfigError with every mistake on a line of its own (file:line: key: what), "
          "NotFoundError.")
      .def_static(
          "from_json",
          [](const std::string& text, std::vector<std::string> overrides,
             const std::string& base_dir, bool check_paths) {
            return ValueOrThrow(ParseRunConfig(text, "<text>", base_dir,
                                               OptionsFor(std::move(overrides), check_paths)));
          },
          py::arg("text"), py::arg("overrides") = std::vector<std::string>{},
          py::arg("base_dir") = ".", py::arg("check_paths") = true,
          "From JSON (or YAML) text; relative paths start in `base_dir`. Raises as from_file.")
      .def("to_json", &ResolvedJson,
           "Every field with its value, as JSON text that from_json reads back.")
      .def("get", &Get, py::arg("key"),
           "The value at a dotted key: get(\"trainer.steps\"), get(\"graders.0.weight\"), "
           "get(\"losses\") for a section.\n\n"
           "Raises ConfigError for an unknown key.")
      .def(
          "model_card",
          [](const RunConfig& self, const std::string& kind, const std::string& scores_json) {
            return ModelCard(self, kind, scores_json);
          },
          py::arg("kind"), py::arg("scores_json"),
          "README.md of a model made with this configuration: hashes of the data, scores, "
          "configuration.")
      .def(
          "learning_rate",
          [](const RunConfig& config, int64_t step) {
            return LearningRateAt(config.trainer, step);
          },
          py::arg("step"), "Of step `step` (from 0), by trainer.schedule.")
      .def_static("schema", &ConfigSchemaJson, "JSON schema of run.yaml, as text, for editors.")
      .def_static("docs", &ConfigDocsMarkdown,
                  "Every key with type, default, range and description, as Markdown.")
      .def("__repr__", [](const RunConfig& c) {
        return absl::StrCat("<rft.RunConfig '", c.name, "': ", c.losses.name, ", ", c.trainer.steps,
                            " steps of ", c.rollout.prompts_per_step, " prompts x ",
                            c.rollout.group_size, " completions, ", c.graders.size(),
                            c.graders.size() == 1 ? " grader" : " graders", ", model ", c.model,
                            ">");
      });
}

}  // namespace rft::python
