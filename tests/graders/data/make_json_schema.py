"""Writes json_schema_golden.json: schemas, instances, and whether the Python package jsonschema finds them valid.

    pip install jsonschema==4.26.0
    python tests/graders/data/make_json_schema.py
"""

from __future__ import annotations

import json
from pathlib import Path

from jsonschema import Draft7Validator, Draft202012Validator

INSTANCES = [
    None, True, False, 0, 1, -1, 1.0, 2, 3, 4.5, 7, 10, 1e20, "", "a", "ab", "abc", "abcd", "Ab1", "\u00e9\u00e9", "2024-01-01", [], [1], [1, 1], [1, 1.0],
    [1, 2], [1, "a"], ["a", 1], [1, 2, 3], [1, 2, 3, 4], [[1], [1]], [{"a": 1, "b": 2}, {"b": 2.0, "a": 1}], [True, 1], ["a", "b"], [None],
    {}, {"a": 1}, {"a": "x"}, {"b": 1}, {"a": 1, "b": 2}, {"a": 1, "b": "x"}, {"a": None}, {"a": {"a": {"a": 1}}}, {"a": {"a": {"a": "x"}}},
    {"ab": 1, "x1": 2}, {"a": 1, "c": 3}, {"a": [1, 2, 2]}, {"name": "Ann", "age": 30}, {"name": "Ann", "age": -1}, {"name": "Ann"},
    {"name": "", "age": 3, "tags": ["x"]}, {"kind": "circle", "r": 1}, {"kind": "square", "r": 1}, {"kind": "square", "side": 2},
    {"value": 1, "next": {"value": 2, "next": None}}, {"value": 1, "next": {"value": "2"}},
]  # fmt: skip

NEW = [  # draft 2020-12
    True, False, {},
    *({"type": t} for t in ("null", "boolean", "string", "array", "object", "number", "integer", ["string", "null"], ["integer", "array"])),
    {"enum": [1, "a", None, [1, 2], {"a": 1}]}, {"const": 1}, {"const": {"a": 1, "b": 2}}, {"const": True}, {"const": 0}, {"const": False},
    {"minimum": 1}, {"maximum": 2}, {"exclusiveMinimum": 1}, {"exclusiveMaximum": 2}, {"multipleOf": 2}, {"multipleOf": 0.5}, {"multipleOf": 1.5},
    {"minLength": 2}, {"maxLength": 2}, {"pattern": "^a"}, {"pattern": "b"}, {"pattern": "^[A-Z][a-z]\\d$"},
    {"items": {"type": "integer"}}, {"prefixItems": [{"type": "integer"}, {"type": "string"}]}, {"items": False},
    {"prefixItems": [{"type": "integer"}], "items": {"type": "string"}}, {"prefixItems": [{}], "items": False},
    {"contains": {"const": 1}}, {"contains": {"type": "integer"}, "minContains": 2}, {"contains": {"const": 1}, "maxContains": 1},
    {"contains": {"const": 9}, "minContains": 0}, {"minItems": 2}, {"maxItems": 2}, {"uniqueItems": True},
    {"properties": {"a": {"type": "integer"}}}, {"properties": {"a": False}}, {"required": ["a"]}, {"required": ["a", "b"]},
    {"properties": {"a": {}}, "additionalProperties": False}, {"additionalProperties": {"type": "integer"}},
    {"patternProperties": {"^a": {"type": "integer"}}}, {"patternProperties": {"\\d": {"minimum": 3}}, "additionalProperties": {"type": "string"}},
    {"propertyNames": {"maxLength": 1}}, {"propertyNames": {"pattern": "^[a-c]"}}, {"minProperties": 2}, {"maxProperties": 1},
    {"dependentRequired": {"a": ["b"]}}, {"dependentSchemas": {"a": {"minProperties": 2}}},
    {"allOf": [{"type": "number"}, {"minimum": 2}]}, {"anyOf": [{"type": "string"}, {"minimum": 2}]}, {"oneOf": [{"minimum": 1}, {"maximum": 2}]},
    {"oneOf": [{"type": "string"}, {"type": "array"}, {"required": ["a"], "type": "object"}]}, {"not": {"type": "string"}}, {"not": {}},
    {"if": {"type": "integer"}, "then": {"minimum": 2}, "else": {"type": "string"}}, {"if": {"required": ["a"]}, "then": {"required": ["b"]}}, {"then": False},
    {"$defs": {"p": {"type": "integer", "minimum": 2}}, "$ref": "#/$defs/p"}, {"$defs": {"p": {"type": "array"}}, "anyOf": [{"$ref": "#/$defs/p"}, {"const": 1}]},
    {"properties": {"a": {"$ref": "#"}}, "type": ["object", "integer"]}, {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "null"}}},
    {"type": "object", "properties": {"name": {"type": "string", "minLength": 1}, "age": {"type": "integer", "minimum": 0},
                                      "tags": {"type": "array", "items": {"type": "string"}}}, "required": ["name", "age"], "additionalProperties": False},
    {"oneOf": [{"properties": {"kind": {"const": "circle"}, "r": {"type": "number"}}, "required": ["kind", "r"]},
               {"properties": {"kind": {"const": "square"}, "side": {"type": "number"}}, "required": ["kind", "side"]}]},
    {"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {"value": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
                                                "required": ["value"]}}},
    {"format": "date", "title": "annotations", "default": 1, "$comment": "no effect"},
]  # fmt: skip

OLD = [  # draft 7
    {"items": [{"type": "integer"}, {"type": "string"}]}, {"items": [{"type": "integer"}], "additionalItems": {"type": "string"}},
    {"items": [{}], "additionalItems": False}, {"items": {"type": "integer"}, "additionalItems": False}, {"additionalItems": False},
    {"dependencies": {"a": ["b"]}}, {"dependencies": {"a": {"minProperties": 2}}}, {"definitions": {"p": {"type": "string"}}, "items": {"$ref": "#/definitions/p"}},
]  # fmt: skip


def main() -> None:
    cases = []
    for validator, schemas in ((Draft202012Validator, NEW), (Draft7Validator, OLD)):
        for schema in schemas:
            validator.check_schema(schema)
            cases.append({"schema": schema, "valid": [validator(schema).is_valid(instance) for instance in INSTANCES]})
    body = ",\n".join(json.dumps(case) for case in cases)
    Path(__file__).with_name("json_schema_golden.json").write_text(f'{{"instances": {json.dumps(INSTANCES)},\n"cases": [\n{body}\n]}}\n')
    print(f"{len(cases)} schemas, {len(INSTANCES)} instances")


if __name__ == "__main__":
    main()
