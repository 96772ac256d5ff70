// JSON Schemas for what a judging model of our own is held to (TextRequest::json_schema).
// Pure; any thread.
#pragma once

#include <cstdint>

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

namespace rft {

// {"reasoning": text, "result": what `result` is the schema of}, in this order.
boost::json::value ReasonedReply(boost::json::object result);

// `schema` with a maximum for each string, list and number that has none, so that a reply can be whole within `max_tokens`
// even if the model writes at random. Servers have schemas as they are: not all take such keys.
boost::json::value BoundedSchema(boost::json::value schema, int32_t max_tokens);

}  // namespace rft
