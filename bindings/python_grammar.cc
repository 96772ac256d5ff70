#include "bindings/python_grammar.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <string>
#include <utility>

#include <pybind11/numpy.h>

#include "bindings/errors.h"

namespace rft::python {
namespace {

// A Python object that is let go of with the GIL, wherever that happens.
class Held {
 public:
  explicit Held(py::object object) : object_(std::move(object)) {}
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  ~Held() {
    if (!Py_IsInitialized()) {  // the interpreter is gone, and the object with it
      object_.release();
      return;
    }
    py::gil_scoped_acquire gil;
    object_ = py::object();
  }
  const py::object& object() const { return object_; }

 private:
  py::object object_;
};

class PythonMask : public TokenMask {
 public:
  explicit PythonMask(py::object mask) : mask_(std::move(mask)) {}
  absl::Status Next(TokenBits bits) override {
    return Call([&] {
      const py::capsule not_owned(bits.data(), [](void*) {});
      mask_.object().attr("next")(py::array_t<int32_t>(static_cast<py::ssize_t>(bits.size()),
                                                       reinterpret_cast<int32_t*>(bits.data()),
                                                       not_owned));
    });
  }
  absl::Status Accept(TokenId id) override {
    return Call([&] { mask_.object().attr("accept")(id); });
  }

 private:
  template <typename F>
  static absl::Status Call(F&& body) {
    py::gil_scoped_acquire gil;
    try {
      body();
      return absl::OkStatus();
    } catch (py::error_already_set& error) {
      return StatusFromPython(error);
    }
  }
  Held mask_;
};

constexpr const char* kKindNames[] = {"json_schema", "json", "regex", "ebnf", "tool_call"};

// The attributes kind and text, of grammars that have them (rft.compile_grammar's).
std::optional<GrammarSpec> SpecOf(const py::object& grammar) {
  const py::object kind = py::getattr(grammar, "kind", py::none()),
                   text = py::getattr(grammar, "text", py::none());
  if (!py::isinstance<py::str>(kind) || !py::isinstance<py::str>(text)) return std::nullopt;
  const auto* known =
      std::find(std::begin(kKindNames), std::end(kKindNames), kind.cast<std::string>());
  if (known == std::end(kKindNames)) return std::nullopt;
  return GrammarSpec{static_cast<GrammarSpec::Kind>(known - std::begin(kKindNames)),
                     text.cast<std::string>()};
}

class PythonGrammar : public TokenGrammar {
 public:
  explicit PythonGrammar(py::object grammar)
      : spec_(SpecOf(grammar)), grammar_(std::move(grammar)) {}
  const GrammarSpec* spec() const override { return spec_ ? &*spec_ : nullptr; }
  absl::StatusOr<std::unique_ptr<TokenMask>> Start() const override {
    py::gil_scoped_acquire gil;
    try {
      return std::make_unique<PythonMask>(grammar_.object().attr("start")());
    } catch (py::error_already_set& error) {
      return StatusFromPython(error);
    }
  }

 private:
  const std::optional<GrammarSpec> spec_;
  Held grammar_;
};

}  // namespace

std::shared_ptr<const TokenGrammar> MakePythonGrammar(py::object grammar) {
  return std::make_shared<PythonGrammar>(std::move(grammar));
}

GrammarCompiler MakePythonGrammarCompiler(py::object compile) {
  auto held = std::make_shared<Held>(std::move(compile));
  return [held](const GrammarSpec& spec) -> absl::StatusOr<std::shared_ptr<const TokenGrammar>> {
    py::gil_scoped_acquire gil;
    try {
      return MakePythonGrammar(held->object()(kKindNames[static_cast<int>(spec.kind)], spec.text));
    } catch (py::error_already_set& error) {
      return StatusFromPython(error);
    }
  };
}

}  // namespace rft::python
