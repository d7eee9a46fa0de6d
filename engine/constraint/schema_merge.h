// Schemas that hold several at once, as one.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "engine/constraint/grammar.h"

namespace redline {

using SchemaJson = nlohmann::ordered_json;

/// Throws GrammarError: what is wrong at a place in the schema (a JSON pointer; empty: the whole).
[[noreturn]] void fail_at(const std::string& place, const std::string& what);

/// Whether the keyword only describes.
bool is_annotation(const std::string& keyword);

/// What `reference` (#, #/..., percent-encoded) names in `root`. Throws GrammarError at `place`.
const SchemaJson& referred(const SchemaJson& root, const std::string& reference, const std::string& place);

/// A schema that accepts what both do. References and allOf on their outermost level are taken in; of
/// subschemas that both have, the result holds an allOf. Throws GrammarError at `place`.
SchemaJson merged_schema(const SchemaJson& root, const SchemaJson& a, const SchemaJson& b,
                         const std::string& place);

}  // namespace redline
