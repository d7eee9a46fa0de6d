// What a client says that answers must look like.
#pragma once

#include <memory>

#include "engine/constraint/constraint_compiler.h"
#include "server/fields.h"

namespace redline::server {

/// Whether reading the call may compile a constraint: read_constraint's, or that of forced tool calls.
bool may_bring_constraint(const Json& call);

/// From response_format, grammar (GBNF), or vLLM's guided_json, guided_regex, guided_choice, guided_grammar
/// and structured_outputs; null where there is none, or only {"type": "text"}. Throws ApiError 400 naming the
/// field: for two at once, and for what is wrong, not supported or too large. `compiler` may be null: a model
/// without a tokenizer.
std::shared_ptr<Constraint> read_constraint(const Fields& fields, ConstraintCompiler* compiler);

}  // namespace redline::server
