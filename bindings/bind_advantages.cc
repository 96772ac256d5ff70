// rft.compute_advantages: rollout/advantage.h for loops of one's own.
#include <optional>
#include <string>
#include <vector>

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "absl/strings/str_cat.h"
#include "bindings/errors.h"
#include "bindings/module.h"
#include "rollout/advantage.h"

namespace rft::python {
namespace {

[[noreturn]] void Wrong(const std::string& what) {
  throw StatusException(absl::InvalidArgumentError(what));
}

// A rollout's numbers: one, one per turn, or none (unscored).
struct Value {
  std::vector<double> numbers;
  bool per_turn = false;
};
using Values = std::vector<std::vector<Value>>;  // [group][rollout]

Value ToValue(py::handle item, const std::string& where) {
  Value value;
  if (item.is_none()) return value;
  try {
    if (PyFloat_Check(item.ptr()) || PyLong_Check(item.ptr())) {
      value.numbers.push_back(item.cast<double>());
      return value;
    }
    value.numbers = py::list(py::reinterpret_borrow<py::object>(item)).cast<std::vector<double>>();
  } catch (const py::error_already_set&) {  // no list
    try {
      value.numbers = {py::float_(py::reinterpret_borrow<py::object>(item)).cast<double>()};
      return value;
    } catch (const py::error_already_set&) {
    }
    Wrong(absl::StrCat(where, ": expected a number, a list of numbers (one per turn) or None, got ",
                       Py_TYPE(item.ptr())->tp_name));
  } catch (const py::cast_error&) {
    Wrong(absl::StrCat(where, ": expected numbers, one per turn"));
  }
  value.per_turn = true;
  return value;
}

Values ToValues(const py::iterable& groups, const char* what) {
  Values values;
  for (const py::handle group : groups) {
    const std::string where = absl::StrCat(what, "[", values.size(), "]");
    if (!py::isinstance<py::iterable>(group))
      Wrong(absl::StrCat(where, ": expected a group, a list with one entry per rollout"));
    std::vector<Value>& members = values.emplace_back();
    for (const py::handle member : group)
      members.push_back(ToValue(member, absl::StrCat(where, "[", members.size(), "]")));
  }
  return values;
}

bool PerTurn(const Values& rewards) {
  std::optional<bool> per_turn;
  for (const auto& group : rewards) {
    for (const Value& value : group) {
      if (value.numbers.empty()) continue;
      if (per_turn.has_value() && *per_turn != value.per_turn)
        Wrong("rewards: some are numbers, some are lists of turns");
      per_turn = value.per_turn;
    }
  }
  return per_turn.value_or(false);
}

void CheckLengths(const Values& rewards, const Values& lengths) {
  if (lengths.empty()) return;
  bool fits = lengths.size() == rewards.size();
  for (size_t g = 0; fits && g < rewards.size(); ++g) {
    fits = lengths[g].size() == rewards[g].size();
    for (size_t i = 0; fits && i < rewards[g].size(); ++i) {
      const size_t n = rewards[g][i].numbers.size();
      fits = n == 0 || lengths[g][i].numbers.size() == n;
    }
  }
  if (!fits) Wrong("lengths: expected one per reward, in the same nesting");
}

py::object Advantages(const py::iterable& rewards, const std::string& kind,
                      const std::optional<py::iterable>& lengths, double eps, double clip,
                      double difficulty_weight, int64_t k, double turn_discount) {
  AdvantageOptions options;
  options.kind = ValueOrThrow(AdvantageKindFromName(kind));
  options.eps = eps;
  options.clip = clip;
  options.difficulty_weight = difficulty_weight;
  options.k = k;
  options.turn_discount = turn_discount;
  if (eps < 0 || clip < 0 || difficulty_weight < 0 || k < 1)
    Wrong("eps, clip and difficulty_weight must be at least 0, k at least 1");
  const Values given = ToValues(rewards, "rewards");
  const Values sizes = lengths ? ToValues(*lengths, "lengths") : Values{};
  CheckLengths(given, sizes);
  if (PerTurn(given)) {
    std::vector<TurnRewardGroup> groups;
    for (size_t g = 0; g < given.size(); ++g) {
      TurnRewardGroup& group = groups.emplace_back();
      for (size_t i = 0; i < given[g].size(); ++i) {
        group.rewards.push_back(given[g][i].numbers);
        if (!sizes.empty()) group.lengths.push_back(sizes[g][i].numbers);
      }
    }
    return py::cast(ComputeTurnAdvantages(options, groups));
  }
  std::vector<RewardGroup> groups;
  for (size_t g = 0; g < given.size(); ++g) {
    RewardGroup& group = groups.emplace_back();
    for (size_t i = 0; i < given[g].size(); ++i) {
      const bool scored = !given[g][i].numbers.empty();
      group.rewards.push_back(scored ? std::optional<double>(given[g][i].numbers.front())
                                     : std::nullopt);
      const bool sized = !sizes.empty() && !sizes[g][i].numbers.empty();
      group.lengths.push_back(sized ? sizes[g][i].numbers.front() : 1.0);
    }
  }
  return py::cast(ComputeAdvantages(options, groups));
}

}  // namespace

void BindAdvantages(py::module_& m) {
  m.def("compute_advantages", &Advantages, py::arg("rewards"), py::arg("kind") = "grpo",
        py::kw_only(), py::arg("lengths") = py::none(), py::arg("eps") = 1e-6,
        py::arg("clip") = 0.0, py::arg("difficulty_weight") = 0.0, py::arg("k") = 4,
        py::arg("turn_discount") = 1.0,
        "Advantages of a step's groups, in the nesting of `rewards`: a list of groups, each a list "
        "with one entry per rollout: its reward, None where it has none, or a list with one reward "
        "per turn (turns of the same number are compared with each other). lengths: completion "
        "tokens likewise, for the kinds that count tokens. Kinds and formulas: docs/losses.md.\n\n"
        "    rft.compute_advantages([[1.0, 0.0, None, 0.0]], \"rloo\")\n"
        "    rft.compute_advantages([[[0.2, 1.0], [0.0, 0.0]]], turn_discount=0.9)   # two turns "
        "each");
}

}  // namespace rft::python
