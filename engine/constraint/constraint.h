// What a request's answers must look like: a grammar compiled for a vocabulary, and each answer's place in
// it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/constraint/automaton.h"
#include "engine/constraint/grammar.h"
#include "engine/constraint/pushdown.h"
#include "engine/constraint/token_trie.h"
#include "engine/tokenizer/tokenizer.h"

namespace redline {

/// A bit for each token of a vocabulary.
class TokenMask {
 public:
  explicit TokenMask(std::size_t num_tokens) : words_((num_tokens + 63) / 64) {}
  void set(TokenId token) { words_[word(token)] |= std::uint64_t{1} << (token & 63); }
  bool has(TokenId token) const {
    return word(token) < words_.size() && (words_[word(token)] >> (token & 63) & 1) != 0;
  }
  bool empty() const;
  void add(const TokenMask& other);
  std::span<const std::uint64_t> words() const { return words_; }
  std::size_t num_bytes() const { return words_.size() * sizeof(std::uint64_t); }

 private:
  static std::size_t word(TokenId token) { return static_cast<std::size_t>(token) / 64; }
  std::vector<std::uint64_t> words_;
};

/// What constraints need to know of a model's tokens; one for all of them. Immutable but for its count of
/// them.
class ConstraintVocabulary {
 public:
  /// Keeps a reference to `tokenizer`. Special tokens are no text: only a grammar that names one takes it.
  explicit ConstraintVocabulary(const Tokenizer& tokenizer);
  /// A vocabulary of these texts by id without special tokens, for tests.
  explicit ConstraintVocabulary(const std::vector<std::string>& texts);

  const TokenTrie& trie() const { return trie_; }
  std::size_t num_tokens() const { return num_tokens_; }
  /// The bytes that the token adds to a text; empty for special tokens.
  std::string_view text(TokenId token) const;
  /// -1: no special token has that name.
  TokenId special(std::string_view name) const;
  /// The length of the longest special token's name that `text` begins with; 0: none.
  std::size_t special_prefix(std::string_view text) const;

 private:
  friend class Constraint;
  std::size_t num_tokens_;
  std::vector<std::string> texts_;
  std::unordered_map<std::string, TokenId> specials_;
  TokenTrie trie_;
  // Tables of constraints in use: they share a bound on memory.
  mutable std::atomic<std::int64_t> num_tables_{0};
};

/// A grammar compiled for one vocabulary, with what has been worked out about it: transitions, and the tokens
/// that may come next. Requests share one; any number of threads may use it.
class Constraint {
 public:
  /// Tables of all constraints of a vocabulary together are held below about this, and each below a part of
  /// it.
  static constexpr std::int64_t kMaxTableBytes = std::int64_t{256} << 20;

  /// Throws GrammarError. Works out beforehand what masks it can in up to 200 ms.
  Constraint(const Grammar& grammar, std::shared_ptr<const ConstraintVocabulary> vocabulary,
             std::chrono::steady_clock::time_point deadline);

  const Automaton& automaton() const { return *automaton_; }
  const ConstraintVocabulary& vocabulary() const { return *vocabulary_; }

 private:
  friend class Matcher;
  // The part of a mask that one automaton's states decide alone, whatever the stack below them holds.
  struct LocalMask {
    std::shared_ptr<TokenMask> tokens;
    std::vector<std::uint32_t> exits;  // nodes of the trie where their rule may return, and tokens go on
  };
  struct Tables {
    Tables(std::shared_ptr<const Automaton> automaton, const ConstraintVocabulary& vocabulary);
    ~Tables();
    const ConstraintVocabulary& vocabulary;
    Pushdown pushdown;
    std::unordered_map<Pushdown::Set, std::shared_ptr<const TokenMask>> masks;
    std::unordered_map<Pushdown::Set, LocalMask> local_masks;
    std::vector<Pushdown::Set> path;  // scratch of walk()
    std::size_t mask_bytes = 0;
  };

  // All require mutex_.
  std::shared_ptr<const TokenMask> mask(Tables& tables, Pushdown::Set set) const;
  const LocalMask& local_mask(Tables& tables, Pushdown::Set set) const;
  void walk(Tables& tables, std::uint32_t node, Pushdown::Set set, TokenMask& mask,
            std::vector<std::uint32_t>* exits) const;
  std::shared_ptr<Tables> current_tables();
  void prepare(std::chrono::steady_clock::time_point deadline);

  std::shared_ptr<const ConstraintVocabulary> vocabulary_;
  std::shared_ptr<const Automaton> automaton_;
  std::mutex mutex_;
  std::shared_ptr<Tables>
      tables_;  // replaced where they have grown too large; then places move to the new ones
};

/// One answer's place in its grammar. A value: copies go on independently. Not thread-safe; those of one
/// constraint may be used by different threads.
class Matcher {
 public:
  explicit Matcher(std::shared_ptr<Constraint> constraint);

  /// The tokens that keep the text a beginning of one in the grammar, the end not among them. Throws
  /// ConstraintError where the grammar is too ambiguous.
  std::shared_ptr<const TokenMask> allowed();
  /// Whether the text may end here.
  bool may_end();
  /// Whether it must: nothing can follow.
  bool complete();
  /// Goes on by a token; false, and the place unchanged, where it is not allowed.
  bool advance(TokenId token);

 private:
  void enter_tables();

  std::shared_ptr<Constraint> constraint_;
  std::shared_ptr<Constraint::Tables> tables_;
  Pushdown::Set place_ = Pushdown::kNone;
};

}  // namespace redline
