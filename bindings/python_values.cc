#include "bindings/python_values.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace rft::python {

py::object FromJson(const std::string& text) {
  return py::module_::import("json").attr("loads")(text);
}

std::string ToJsonText(py::handle value) {
  return py::module_::import("json")
      .attr("dumps")(value, py::arg("ensure_ascii") = false)
      .cast<std::string>();
}

py::dict MemoryPlanDict(const MemoryPlan& plan) {
  py::list items;
  for (const MemoryItem& item : plan.items)
    items.append(py::make_tuple(
        item.name, item.bytes,
        item.on_device ? absl::StrCat("on ", plan.device, ": ", item.what) : item.what));
  py::dict result;
  result["items"] = items;
  result["total_bytes"] = plan.total_bytes;
  result["limit_bytes"] = plan.limit_bytes;
  result["device"] = plan.device.empty() ? "cpu" : plan.device;
  result["host_bytes"] = plan.device.empty() ? plan.total_bytes : plan.host_bytes;
  result["token_budget"] = plan.token_budget;
  result["text"] = MemoryPlanText(plan);
  return result;
}

std::string ShortCount(int64_t n) {
  if (n < 10'000) return std::to_string(n);
  if (n < 1'000'000) return absl::StrFormat("%.3gk", n / 1e3);
  if (n < 1'000'000'000) return absl::StrFormat("%.3gM", n / 1e6);
  return absl::StrFormat("%.3gB", n / 1e9);
}

std::string ShortNumber(double value) { return absl::StrFormat("%.4g", value); }

}  // namespace rft::python
