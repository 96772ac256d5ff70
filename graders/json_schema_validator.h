// JSON Schema, draft 2020-12 with draft 7's spellings (array `items` with `additionalItems`, `dependencies`, `definitions`).
// Our own, because the validators Debian packages match `pattern` with std::regex, which a long string overflows the stack of;
// this one uses RE2. Compared with the Python package jsonschema (tests/graders/json_schema_test.cc).
//
// Known: type, enum, const; (exclusive)minimum and maximum, multipleOf; minLength, maxLength, pattern; items, prefixItems,
// additionalItems, contains with min/maxContains, minItems, maxItems, uniqueItems; properties, patternProperties,
// additionalProperties, required, propertyNames, minProperties, maxProperties, dependentRequired, dependentSchemas,
// dependencies; allOf, anyOf, oneOf, not, if/then/else; $ref within the schema ("#/..."). `format` and other annotations are
// not checked, as the drafts have it by default. Immutable once compiled; Validate may be called from several threads.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "rft/io/json.h"

namespace rft {

class JsonSchema {
 public:
  // kInvalidArgument: not a schema, a pattern that RE2 can't take, a $ref that leads nowhere or outside, or one of
  // $dynamicRef, unevaluatedItems, unevaluatedProperties, $anchor, which aren't known. Says where ("#/properties/a/pattern").
  static absl::StatusOr<JsonSchema> Compile(const json::value& schema);

  // nullopt: valid. Otherwise the first thing that is wrong: "/a/0: is not of type string".
  // kResourceExhausted: more than a million steps, or schemas that refer to each other without end.
  absl::StatusOr<std::optional<std::string>> Validate(const json::value& instance) const;

 private:
  struct Node;
  class Compiler;
  class Validator;
  std::shared_ptr<const Node> root_;  // keeps all nodes
};

}  // namespace rft
