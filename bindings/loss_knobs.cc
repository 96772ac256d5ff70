#include "bindings/loss_knobs.h"

#include <set>
#include <utility>
#include <vector>

#include <pybind11/stl.h>

#include "absl/strings/str_cat.h"
#include "bindings/errors.h"
#include "losses/loss.h"
#include "rft/config/config_tree.h"
#include "rft/config/loss_options.h"
#include "rft/config/mistakes.h"
#include "rft/config/value_reader.h"
#include "rft/core/text.h"
#include "rft/tensor/try_torch.h"

namespace rft::python {
namespace {

// The value as the configuration reader would see it written in YAML.
ConfigNode ToNode(py::handle value, const std::string& where) {
  ConfigNode node;
  node.where = where;
  if (value.is_none()) return node;
  node.kind = ConfigNode::Kind::kScalar;
  if (py::isinstance<py::bool_>(value)) {
    node.text = value.cast<bool>() ? "true" : "false";
  } else if (py::isinstance<py::str>(value)) {
    node.text = value.cast<std::string>();
    node.quoted = true;
  } else if (PyNumber_Check(value.ptr()) && PyIndex_Check(value.ptr())) {  // int, numpy's integers
    node.text = py::str(py::int_(py::reinterpret_borrow<py::object>(value))).cast<std::string>();
  } else if (PyNumber_Check(value.ptr())) {
    node.text =
        ShortestDouble(py::float_(py::reinterpret_borrow<py::object>(value)).cast<double>());
  } else {
    node.kind = ConfigNode::Kind::kMap;
  }
  return node;
}

// Walks the declared fields and takes each one's value out of the keyword arguments.
class KnobReader : public ConfigVisitor {
 public:
  KnobReader(std::string where, const py::dict& knobs) : where_(std::move(where)) {
    frames_.push_back({knobs, "", {}});
  }

  void Field(const char* name, FieldRef field, const FieldInfo& info) override {
    Frame& frame = frames_.back();
    if (frame.prefix.empty() && std::string_view(name) == "name")
      return;  // the loss itself: an argument of its own
    frame.known.insert(name);
    if (!frame.values.contains(name)) return;
    const ConfigNode node = ToNode(frame.values[name], where_);
    if (node.kind != ConfigNode::Kind::kNull)
      ReadValue(node, frame.prefix + name, info, field, &mistakes_);
  }

  void BeginSection(const char* name, const char*) override {
    Frame& frame = frames_.back();
    frame.known.insert(name);
    py::dict section;
    const std::string path = frame.prefix + name;
    if (frame.values.contains(name)) {
      const py::object value = frame.values[name];
      if (py::isinstance<py::dict>(value)) {
        section = value;
      } else if (!value.is_none()) {
        mistakes_.Add(where_, path, "expected a dict of knobs, such as {\"level\": \"token\"}");
      }
    }
    frames_.push_back({section, path + ".", {}});
  }

  void EndSection() override {
    ReportUnknown(frames_.back());
    frames_.pop_back();
  }

  absl::Status Finish() {
    ReportUnknown(frames_.back());
    return mistakes_.status();
  }

 private:
  struct Frame {
    py::dict values;
    std::string prefix;
    std::set<std::string> known;
  };

  void ReportUnknown(const Frame& frame) {
    std::vector<std::string> known(frame.known.begin(), frame.known.end());
    for (const auto& [key, value] : frame.values) {
      const std::string name = py::str(key).cast<std::string>();
      if (!frame.known.contains(name))
        mistakes_.AddUnknownKey(where_, frame.prefix, name, known, {});
    }
  }

  const std::string where_;
  std::vector<Frame> frames_;
  Mistakes mistakes_;
};

}  // namespace

LossConfig ReadLossConfig(const std::string& name, const py::dict& knobs) {
  const LossConfig defaults =
      ValueOrThrow(TryTorch([&]() -> LossConfig { return LossDefaults(name); }));
  LossOptions options;
  options.name = defaults.name;
  KnobReader reader(absl::StrCat("loss ", name), knobs);
  options.Visit(reader);
  ThrowIfError(reader.Finish());
  return options.ApplyTo(defaults);
}

}  // namespace rft::python
