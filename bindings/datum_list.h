// The `datums` of a verb: a sequence of rft.Datum. What is something else is a TypeError that says so, with the way to write it.
#pragma once

#include <string>
#include <vector>

#include <pybind11/pybind11.h>

#include "absl/strings/str_cat.h"
#include "rft/api/datum.h"

namespace rft::python {

struct DatumList : std::vector<Datum> {};

}  // namespace rft::python

namespace pybind11::detail {

template <>
struct type_caster<rft::python::DatumList> {
  PYBIND11_TYPE_CASTER(rft::python::DatumList, const_name("Sequence[Datum]"));

  bool load(handle source, bool /*convert*/) {
    const auto type_name = [](handle of) { return str(type::handle_of(of).attr("__name__")); };
    if (isinstance<rft::Datum>(source))
      throw type_error("datums: got one Datum; a list is expected: [datum]");
    if (!isinstance<sequence>(source) || isinstance<str>(source))
      throw type_error(absl::StrCat("datums: expected a list of Datum, got ",
                                    type_name(source).cast<std::string>()));
    for (const object& item : reinterpret_borrow<sequence>(source)) {
      if (!isinstance<rft::Datum>(item))
        throw type_error(absl::StrCat("datums[", value.size(), "]: expected a Datum, got ",
                                      type_name(item).cast<std::string>()));
      value.push_back(item.cast<const rft::Datum&>());
    }
    return true;
  }
};

}  // namespace pybind11::detail
