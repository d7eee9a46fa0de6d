#include "engine/constraint/constraint.h"

#include <algorithm>
#include <utility>

namespace redline {
namespace {

// What one mask or one token may cost, in items looked at: it holds up the whole batch. The first mask is
// made beforehand and may cost more.
constexpr std::uint64_t kMaxWork = 200'000, kMaxFirstWork = 5'000'000;
constexpr std::int64_t kLeastTableBytes = 1 << 20;
constexpr std::chrono::milliseconds kPreparation{200};  // other calls wait to be read

std::vector<std::string> texts_of(const Tokenizer& tokenizer) {
  std::vector<std::string> texts(static_cast<std::size_t>(tokenizer.num_tokens()));
  for (TokenId id = 0; id < tokenizer.num_tokens(); ++id)
    if (!tokenizer.is_special(id)) texts[static_cast<std::size_t>(id)] = tokenizer.piece(id);
  return texts;
}

}  // namespace

bool TokenMask::empty() const {
  return std::ranges::all_of(words_, [](std::uint64_t word) { return word == 0; });
}

void TokenMask::add(const TokenMask& other) {
  for (std::size_t i = 0; i < words_.size(); ++i) words_[i] |= other.words_[i];
}

ConstraintVocabulary::ConstraintVocabulary(const std::vector<std::string>& texts)
    : num_tokens_(texts.size()),
      texts_(texts),
      trie_(static_cast<TokenId>(texts.size()), [this](TokenId id) { return text(id); }) {}

ConstraintVocabulary::ConstraintVocabulary(const Tokenizer& tokenizer)
    : ConstraintVocabulary(texts_of(tokenizer)) {
  for (TokenId id = 0; id < tokenizer.num_tokens(); ++id)
    if (tokenizer.is_special(id)) specials_.emplace(tokenizer.piece(id), id);
}

std::string_view ConstraintVocabulary::text(TokenId token) const {
  const auto index = static_cast<std::size_t>(token);
  return index < texts_.size() ? std::string_view(texts_[index]) : std::string_view();
}

TokenId ConstraintVocabulary::special(std::string_view name) const {
  const auto found = specials_.find(std::string(name));
  return found == specials_.end() ? kNoToken : found->second;
}

std::size_t ConstraintVocabulary::special_prefix(std::string_view text) const {
  std::size_t longest = 0;
  for (const auto& [name, unused] : specials_)
    if (name.size() > longest && text.starts_with(name)) longest = name.size();
  return longest;
}

Constraint::Tables::Tables(std::shared_ptr<const Automaton> automaton, const ConstraintVocabulary& of)
    : vocabulary(of), pushdown(std::move(automaton)), path(of.trie().max_depth() + 1) {
  vocabulary.num_tables_ += 1;
}
Constraint::Tables::~Tables() { vocabulary.num_tables_ -= 1; }

Constraint::Constraint(const Grammar& grammar, std::shared_ptr<const ConstraintVocabulary> vocabulary,
                       std::chrono::steady_clock::time_point deadline)
    : vocabulary_(std::move(vocabulary)),
      automaton_(std::make_shared<Automaton>(
          grammar, [this](std::string_view name) { return vocabulary_->special(name); }, deadline)),
      tables_(std::make_shared<Tables>(automaton_, *vocabulary_)) {
  try {
    prepare(deadline);
  } catch (const ConstraintError& error) {
    throw GrammarError(error.what());
  }
}

// The first mask, whose failure is the grammar's; then, as far as time and a part of the memory go, those of
// every place that a rule of the grammar has, so that most of an answer's masks are put together from these.
void Constraint::prepare(std::chrono::steady_clock::time_point deadline) {
  const auto now = std::chrono::steady_clock::now();
  const auto end = now + std::min<std::chrono::steady_clock::duration>(kPreparation, (deadline - now) / 2);
  Tables& tables = *tables_;
  Pushdown& pushdown = tables.pushdown;
  pushdown.set_work_limit(kMaxFirstWork);
  mask(tables, pushdown.start());
  std::vector<Pushdown::Set> found = {pushdown.start()};
  std::unordered_map<Pushdown::Set, bool> seen = {{pushdown.start(), true}};
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (std::chrono::steady_clock::now() > end ||
        pushdown.num_bytes() + tables.mask_bytes > kLeastTableBytes * 4)
      return;
    pushdown.set_work_limit(kMaxWork);
    // Its own tops by what lies below them; each group goes on alone.
    const std::vector<Pushdown::Item> items(pushdown.items(found[i]).begin(), pushdown.items(found[i]).end());
    std::unordered_map<Pushdown::Set, std::vector<Pushdown::Item>> groups;
    for (const Pushdown::Item& item : items)
      if (item.top != Pushdown::kBottom) groups[item.rest].push_back({item.top, Pushdown::kEmpty});
    const auto visit = [&](Pushdown::Set set) {
      if (set != Pushdown::kNone && seen.try_emplace(set, true).second) found.push_back(set);
    };
    for (const auto& [rest, group] : groups) {
      const Pushdown::Set local = pushdown.intern(group);
      local_mask(tables, local);
      const std::size_t num_classes = automaton_->num_classes();
      for (std::size_t symbol = 0; symbol < num_classes; ++symbol)
        visit(pushdown.step(local, static_cast<SymbolClass>(symbol)));
      // What lies below is where the text goes on once this returns: a level of it is looked at here.
      std::vector<Pushdown::Item> below(pushdown.items(rest).begin(), pushdown.items(rest).end());
      for (Pushdown::Item& item : below)
        if (item.top != Pushdown::kBottom) item.rest = Pushdown::kEmpty;
      visit(pushdown.closed(pushdown.intern(below)));
    }
  }
}

// Marks the tokens below `node` that `set` can go on with after the node's own byte, and notes where it may
// end on the way.
void Constraint::walk(Tables& tables, std::uint32_t node, Pushdown::Set set, TokenMask& mask,
                      std::vector<std::uint32_t>* exits) const {
  const TokenTrie& trie = vocabulary_->trie();
  const auto nodes = trie.nodes();
  Pushdown& pushdown = tables.pushdown;
  const std::size_t base = nodes[node].depth;
  tables.path[base] = set;
  for (std::uint32_t i = node + 1; i < nodes[node].end;) {
    const TokenTrie::Node& at = nodes[i];
    const Pushdown::Set next = pushdown.row(tables.path[at.depth - 1u])[automaton_->class_of(at.byte)];
    if (next == Pushdown::kNone) {
      i = at.end;
      continue;
    }
    tables.path[at.depth] = next;
    for (const TokenId token : trie.tokens(i)) mask.set(token);
    if (exits && at.end > i + 1 && pushdown.may_end(next)) exits->push_back(i);
    ++i;
  }
}

const Constraint::LocalMask& Constraint::local_mask(Tables& tables, Pushdown::Set set) const {
  const auto found = tables.local_masks.find(set);
  if (found != tables.local_masks.end()) return found->second;
  LocalMask local{std::make_shared<TokenMask>(vocabulary_->num_tokens()), {}};
  walk(tables, 0, set, *local.tokens, &local.exits);
  for (std::size_t i = 0; i < automaton_->tokens().size(); ++i)
    if (tables.pushdown.step(set, automaton_->token_class(i)) != Pushdown::kNone)
      local.tokens->set(automaton_->tokens()[i]);
  tables.mask_bytes += local.tokens->num_bytes() + local.exits.size() * sizeof(std::uint32_t);
  return tables.local_masks.emplace(set, std::move(local)).first->second;
}

// Tops over the same rest are walked as if nothing were known of it: what they allow without it holds
// wherever they stand, and is kept for all these places. Where they return to it inside a token, the walk
// goes on there.
std::shared_ptr<const TokenMask> Constraint::mask(Tables& tables, Pushdown::Set set) const {
  const auto found = tables.masks.find(set);
  if (found != tables.masks.end()) return found->second;
  Pushdown& pushdown = tables.pushdown;
  auto mask = std::make_shared<TokenMask>(vocabulary_->num_tokens());
  std::vector<Pushdown::Item> items(pushdown.items(set).begin(), pushdown.items(set).end());
  std::ranges::sort(items, {}, [](const Pushdown::Item& item) { return std::pair(item.rest, item.top); });
  for (std::size_t i = 0; i < items.size();) {
    const Pushdown::Set rest = items[i].rest;
    std::vector<Pushdown::Item> group;
    for (; i < items.size() && items[i].rest == rest; ++i)
      if (items[i].top != Pushdown::kBottom) group.push_back({items[i].top, Pushdown::kEmpty});
    if (group.empty()) continue;
    const LocalMask& local = local_mask(tables, pushdown.intern(group));
    mask->add(*local.tokens);
    const Pushdown::Set below = pushdown.closed(rest);
    if (below == Pushdown::kEmpty) continue;
    for (const std::uint32_t exit : local.exits) walk(tables, exit, below, *mask, nullptr);
  }
  tables.mask_bytes += mask->num_bytes();
  return tables.masks[set] = mask;
}

std::shared_ptr<Constraint::Tables> Constraint::current_tables() {
  const std::int64_t num_tables = std::max<std::int64_t>(vocabulary_->num_tables_, 1);
  const std::int64_t most = std::max(kLeastTableBytes, kMaxTableBytes / num_tables);
  if (static_cast<std::int64_t>(tables_->pushdown.num_bytes() + tables_->mask_bytes) > most)
    tables_ = std::make_shared<Tables>(automaton_, *vocabulary_);
  return tables_;
}

Matcher::Matcher(std::shared_ptr<Constraint> constraint) : constraint_(std::move(constraint)) {
  const std::lock_guard lock(constraint_->mutex_);
  tables_ = constraint_->current_tables();
  place_ = tables_->pushdown.start();
}

void Matcher::enter_tables() {
  const std::shared_ptr<Constraint::Tables> tables = constraint_->current_tables();
  tables->pushdown.set_work_limit(kMaxWork);
  if (tables == tables_) return;
  place_ = tables->pushdown.import(tables_->pushdown, place_);
  tables_ = tables;
}

std::shared_ptr<const TokenMask> Matcher::allowed() {
  const std::lock_guard lock(constraint_->mutex_);
  enter_tables();
  return constraint_->mask(*tables_, place_);
}

bool Matcher::may_end() {
  const std::lock_guard lock(constraint_->mutex_);
  return tables_->pushdown.may_end(place_);
}

bool Matcher::complete() {
  const std::lock_guard lock(constraint_->mutex_);
  return place_ == Pushdown::kEmpty;
}

bool Matcher::advance(TokenId token) {
  const std::lock_guard lock(constraint_->mutex_);
  enter_tables();
  Pushdown& pushdown = tables_->pushdown;
  Pushdown::Set place = place_;
  const std::string_view text = constraint_->vocabulary().text(token);
  for (const char byte : text) {
    place = pushdown.step(place, constraint_->automaton().class_of(static_cast<unsigned char>(byte)));
    if (place == Pushdown::kNone) return false;
  }
  if (text.empty()) {
    const auto tokens = constraint_->automaton().tokens();
    const auto found = std::ranges::find(tokens, token);
    if (found == tokens.end()) return false;
    place = pushdown.step(
        place, constraint_->automaton().token_class(static_cast<std::size_t>(found - tokens.begin())));
    if (place == Pushdown::kNone) return false;
  }
  place_ = place;
  return true;
}

}  // namespace redline
