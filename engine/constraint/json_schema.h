// JSON schemas as grammars.
#pragma once

#include <chrono>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "engine/constraint/grammar.h"
#include "engine/constraint/json_grammar.h"

namespace redline {

/// The JSON texts that `schema` accepts, or a part of them: properties in the schema's order, none that it
/// does not name unless it says additionalProperties, strings and numbers in one spelling or few.
/// docs/constraints.md lists the keywords. `json` holds the rules; expressions for several schemas may share
/// one. References (#/...) are looked up in `schema`. Throws GrammarError with the place as a JSON pointer
/// for what is wrong or not supported, and after `deadline`.
Grammar::Expression json_schema_expression(JsonGrammar& json, const nlohmann::ordered_json& schema,
                                           std::chrono::steady_clock::time_point deadline);

/// Grammars whose texts are all of one kind.
Grammar json_schema_grammar(const nlohmann::ordered_json& schema,
                            std::chrono::steady_clock::time_point deadline);
Grammar json_object_grammar();
/// The texts that `pattern` matches as a whole.
Grammar regex_grammar(std::string_view pattern);
Grammar choice_grammar(const std::vector<std::string>& texts);

}  // namespace redline
