#include "bindings/grader_values.h"

#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>
#include <variant>

#include <pybind11/stl.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "bindings/errors.h"
#include "bindings/python_values.h"
#include "rft/config/grader_reader.h"
#include "rft/core/text.h"

namespace rft::python {
namespace {

const std::vector<std::string> kKeys = {"name",       "type",   "weight",
                                        "deadline_s", "params", "base_dir"};

[[noreturn]] void Wrong(const std::string& where, const std::string& what) {
  throw StatusException(absl::InvalidArgumentError(absl::StrCat(where, ": ", what)));
}

std::string TextOf(py::handle value, const std::string& where) {
  if (!py::isinstance<py::str>(value))
    Wrong(where, absl::StrCat("must be text, not ", Py_TYPE(value.ptr())->tp_name));
  return value.cast<std::string>();
}

double NumberOf(py::handle value, const std::string& where) {
  if (!PyNumber_Check(value.ptr()))
    Wrong(where, absl::StrCat("must be a number, not ", Py_TYPE(value.ptr())->tp_name));
  return py::float_(py::reinterpret_borrow<py::object>(value)).cast<double>();
}

std::map<std::string, std::string> ParamsOf(py::handle value, const std::string& where) {
  if (!py::isinstance<py::dict>(value))
    Wrong(where, "must be a dict of the grader type's own keys");
  std::map<std::string, std::string> params;
  for (const auto& [key, param] : py::reinterpret_borrow<py::dict>(value)) {
    params[TextOf(key, where)] =
        py::isinstance<py::str>(param) ? param.cast<std::string>() : ToJsonText(param);
  }
  return params;
}

}  // namespace

GraderSpec ToGraderSpec(py::handle value, size_t index) {
  const std::string where = absl::StrCat("graders[", index, "]");
  if (!py::isinstance<py::dict>(value))
    Wrong(where, absl::StrCat("must be a dict, not ", Py_TYPE(value.ptr())->tp_name));
  GraderSpec spec;
  std::error_code ignored;  // empty then: relative paths start in the working directory anyway
  spec.base_dir = std::filesystem::current_path(ignored).string();
  for (const auto& [key, item] : py::reinterpret_borrow<py::dict>(value)) {
    const std::string name = TextOf(key, where);
    const std::string here = absl::StrCat(where, ".", name);
    if (name == "name") {
      spec.name = TextOf(item, here);
    } else if (name == "type") {
      spec.type = TextOf(item, here);
    } else if (name == "weight") {
      spec.weight = NumberOf(item, here);
    } else if (name == "deadline_s") {
      spec.deadline_s = NumberOf(item, here);
    } else if (name == "params") {
      spec.params = ParamsOf(item, here);
    } else if (name == "base_dir") {
      spec.base_dir = TextOf(item, here);
    } else {
      const std::optional<std::string> meant = DidYouMean(name, kKeys);
      Wrong(here, absl::StrCat("unknown key; ",
                               meant ? absl::StrCat("did you mean ", *meant, "?")
                                     : absl::StrCat("known: ", absl::StrJoin(kKeys, ", "),
                                                    " (the type's own keys go into params)")));
    }
  }
  if (spec.type.empty()) Wrong(where, "'type' is missing");
  if (spec.name.empty()) spec.name = DefaultGraderName(spec);
  return spec;
}

std::vector<GraderSpec> ToGraderSpecs(const py::iterable& values) {
  std::vector<GraderSpec> specs;
  for (const py::handle value : values) specs.push_back(ToGraderSpec(value, specs.size()));
  return specs;
}

py::dict GradeToDict(const std::string& grader, const Grade& grade) {
  const Score* score = std::get_if<Score>(&grade);
  py::dict dict;
  dict["grader"] = grader;
  dict["kind"] = GradeKind(grade);
  dict["score"] = score == nullptr ? py::object(py::none()) : py::object(py::float_(score->value));
  // A reason may quote what a model wrote, cut within a character.
  dict["reason"] = ReplaceInvalidUtf8(GradeReason(grade));
  py::dict sub_scores;
  if (score != nullptr) {
    for (const auto& [name, value] : score->sub_scores)
      sub_scores[py::str(ReplaceInvalidUtf8(name))] = value;
  }
  dict["sub_scores"] = std::move(sub_scores);
  if (score != nullptr && !score->turn_scores.empty()) dict["turn_scores"] = score->turn_scores;
  if (score != nullptr && !score->token_advantages.empty())
    dict["token_advantages"] = score->token_advantages;
  return dict;
}

py::dict RowToDict(const Row& row) {
  py::list messages;
  for (const Message& message : row.messages) {
    messages.append(py::dict(py::arg("role") = message.role, py::arg("content") = message.content));
  }
  return py::dict(py::arg("index") = row.index, py::arg("messages") = messages,
                  py::arg("columns") = row.columns, py::arg("json") = row.json);
}

}  // namespace rft::python
