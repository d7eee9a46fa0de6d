#include "engine/session_file.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>

#include "engine/model_file_error.h"
#include "engine/weights.h"

namespace redline {
namespace {

constexpr char kMagic[] = "RLSESSN1";
constexpr std::size_t kMagicBytes = sizeof kMagic - 1;
constexpr std::int64_t kSampledRows = 16;  // of each matrix
static_assert(std::endian::native == std::endian::little);

/// Of bytes in order, however they are cut. Each word is multiplied into the state: a changed or moved word
/// shows but by chance of 2^-64.
class Checksum {
 public:
  void add(const void* data, std::size_t size) {
    const auto* bytes = static_cast<const unsigned char*>(data);
    for (; size > 0 && num_pending_ > 0; --size) add_byte(*bytes++);
    for (; size >= sizeof(std::uint64_t); size -= sizeof(std::uint64_t), bytes += sizeof(std::uint64_t)) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes, sizeof word);
      add_word(word);
    }
    for (; size > 0; --size) add_byte(*bytes++);
  }
  std::uint64_t value() const {
    Checksum last = *this;
    last.add_word(pending_);
    last.add_word(num_words_ * sizeof(std::uint64_t) + num_pending_);
    return last.state_;
  }

 private:
  void add_byte(unsigned char byte) {
    pending_ |= std::uint64_t{byte} << (8 * num_pending_);
    if (++num_pending_ < sizeof pending_) return;
    num_pending_ = 0;
    add_word(std::exchange(pending_, 0));
  }
  void add_word(std::uint64_t word) {
    state_ = (state_ ^ word) * 0x9e3779b97f4a7c15u;
    state_ ^= state_ >> 32;
    ++num_words_;
  }
  std::uint64_t state_ = 0xcbf29ce484222325u, pending_ = 0, num_words_ = 0;
  std::size_t num_pending_ = 0;
};

void add_rows(Checksum& checksum, const WeightView& matrix, const Ops& ops) {
  std::vector<float> row(static_cast<std::size_t>(matrix.cols));
  const std::int64_t step = std::max<std::int64_t>(1, matrix.rows / kSampledRows);
  for (std::int64_t i = 0; i < matrix.rows; i += step) {
    ops.unpack_row(matrix, i, row.data());
    checksum.add(row.data(), row.size() * sizeof(float));
  }
}

std::uint64_t weights_sample(const ModelWeights& weights, const Ops& ops) {
  Checksum checksum;
  add_rows(checksum, weights.embedding.view, ops);
  for (const LayerWeights& layer : weights.layers) {
    for (const PackedMatrix& matrix : layer.qkv) add_rows(checksum, matrix.view, ops);
    add_rows(checksum, layer.o.view, ops);
    for (const auto* matrix : {&layer.gate_up, &layer.gate, &layer.up})
      if (*matrix) add_rows(checksum, (*matrix)->view, ops);
    add_rows(checksum, layer.down.view, ops);
  }
  return checksum.value();
}

std::size_t block_bytes(const KvCache& cache) {
  return static_cast<std::size_t>(cache.layer(0).block_bytes());
}

std::byte* block_of(const KvCache& cache, std::int32_t layer, std::int32_t block) {
  return cache.layer(layer).data + block * cache.layer(layer).block_bytes();
}

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

/// The first of the parts, between semicolons, in which two descriptions differ.
std::pair<std::string, std::string> first_difference(std::string_view ours, std::string_view theirs) {
  for (;;) {
    const std::string_view a = ours.substr(0, ours.find("; ")), b = theirs.substr(0, theirs.find("; "));
    if (a != b || (a.empty() && b.empty())) return {std::string(a), b.empty() ? "nothing" : std::string(b)};
    ours.remove_prefix(std::min(ours.size(), a.size() + 2));
    theirs.remove_prefix(std::min(theirs.size(), b.size() + 2));
  }
}

class Output {
 public:
  explicit Output(const std::string& path) : path_(path), file_(std::fopen(path.c_str(), "wb")) {
    if (!file_) fail();
  }
  void write(const void* data, std::size_t bytes) {
    if (std::fwrite(data, 1, bytes, file_.get()) != bytes) fail();
    checksum_.add(data, bytes);
  }
  void write_number(std::uint64_t number) { write(&number, sizeof number); }
  void finish() {
    write_number(checksum_.value());
    if (std::fflush(file_.get()) != 0) fail();
  }

 private:
  [[noreturn]] void fail() const {
    throw std::runtime_error(path_ + ": cannot be written: " + std::strerror(errno));
  }
  std::string path_;
  File file_;
  Checksum checksum_;
};

}  // namespace

std::string session_description(const LoadedModel& model, const KvCacheConfig& cache,
                                std::int64_t max_context) {
  const ModelConfig& c = model.config;
  char text[512];
  std::snprintf(
      text, sizeof text,
      "%s L%lld H%lld Hq%lld Hkv%lld d%lld F%lld V%lld theta %.17g eps %.17g; weights %016llx; cache "
      "%s, blocks of %d, tiles %d; %s; context %lld",
      c.architecture.c_str(), static_cast<long long>(c.num_layers), static_cast<long long>(c.hidden_size),
      static_cast<long long>(c.num_q_heads), static_cast<long long>(c.num_kv_heads),
      static_cast<long long>(c.head_dim), static_cast<long long>(c.ffn_size),
      static_cast<long long>(c.vocab_size), c.rope_theta, c.rms_norm_eps,
      static_cast<unsigned long long>(weights_sample(*model.weights, *model.ops)), name(cache.dtype),
      cache.block_size, static_cast<int>(cache.tiles), model.ops->name().c_str(),
      static_cast<long long>(c.rope_scaling.type == RopeType::kLongRope ? max_context : 0));
  return text;
}

void write_session(const std::string& path, const std::string& description,
                   std::span<const std::int32_t> tokens, const KvCache& cache,
                   std::span<const std::int32_t> blocks, Ops& ops) {
  const std::string unfinished = path + ".part";
  try {
    Output out(unfinished);
    out.write(kMagic, kMagicBytes);
    out.write_number(description.size());
    out.write(description.data(), description.size());
    out.write_number(tokens.size());
    out.write(tokens.data(), tokens.size_bytes());
    std::vector<std::byte> bytes(block_bytes(cache));
    for (const std::int32_t block : blocks)
      for (std::int32_t layer = 0; layer < cache.config().num_layers; ++layer) {
        ops.download(bytes.data(), block_of(cache, layer, block), bytes.size());
        out.write(bytes.data(), bytes.size());
      }
    out.finish();
    std::filesystem::rename(unfinished, path);
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove(unfinished, ignored);
    throw;
  }
}

class SessionFile::Input {
 public:
  explicit Input(const std::string& path) : path_(path), file_(std::fopen(path.c_str(), "rb")) {
    std::error_code error;
    if (file_) size_ = std::filesystem::file_size(path, error);
    if (!file_ || error) throw ModelFileError({path}, std::string("cannot be read: ") + std::strerror(errno));
  }
  std::uint64_t size() const { return size_; }
  std::uint64_t left() const { return size_ - at_; }
  void read(const char* item, void* data, std::size_t bytes) {
    if (bytes > left()) fail(item, std::to_string(bytes) + " bytes", std::to_string(left()));
    if (std::fread(data, 1, bytes, file_.get()) != bytes) fail(item, "bytes", "a file that cannot be read");
    checksum_.add(data, bytes);
    at_ += bytes;
  }
  std::uint64_t read_number(const char* item) {
    std::uint64_t number = 0;
    read(item, &number, sizeof number);
    return number;
  }
  std::uint64_t checksum() const { return checksum_.value(); }
  [[noreturn]] void fail(const char* item, const std::string& expected, const std::string& found) const {
    throw ModelFileError({path_, item, at_}, expected, found);
  }

 private:
  std::string path_;
  File file_;
  std::uint64_t size_ = 0, at_ = 0;
  Checksum checksum_;
};

SessionFile::SessionFile(const std::string& path, const std::string& description, const KvCache& cache)
    : input_(std::make_unique<Input>(path)) {
  char magic[kMagicBytes];
  input_->read("magic", magic, sizeof magic);
  if (std::memcmp(magic, kMagic, kMagicBytes) != 0)
    input_->fail("magic", "a saved session", "another kind of file");
  const std::uint64_t length = input_->read_number("description's length");
  if (length > input_->left())
    input_->fail("description", std::to_string(length) + " bytes", "the file's end");
  std::string found(length, '\0');
  input_->read("description", found.data(), found.size());
  if (found != description) {
    const auto [ours, theirs] = first_difference(description, found);
    input_->fail("description", "a session of " + ours, theirs);
  }
  const std::uint64_t num_tokens = input_->read_number("number of tokens");
  const auto block_size = static_cast<std::uint64_t>(cache.config().block_size);
  const std::uint64_t bytes_each =
      sizeof(std::int32_t) +
      block_bytes(cache) * static_cast<std::uint64_t>(cache.config().num_layers) / block_size;
  if (num_tokens % block_size != 0 || num_tokens > input_->left() / bytes_each ||
      num_tokens * bytes_each + sizeof(std::uint64_t) != input_->left())
    input_->fail("number of tokens",
                 "as many as the file's " + std::to_string(input_->size()) + " bytes hold, in whole blocks",
                 std::to_string(num_tokens));
  tokens_.resize(num_tokens);
  input_->read("tokens", tokens_.data(), tokens_.size() * sizeof(std::int32_t));
}

SessionFile::~SessionFile() = default;

void SessionFile::read_into(const KvCache& cache, std::span<const std::int32_t> blocks, Ops& ops) {
  std::vector<std::byte> bytes(block_bytes(cache));
  for (const std::int32_t block : blocks)
    for (std::int32_t layer = 0; layer < cache.config().num_layers; ++layer) {
      input_->read("K and V", bytes.data(), bytes.size());
      ops.upload(block_of(cache, layer, block), bytes.data(), bytes.size());
    }
  const std::uint64_t computed = input_->checksum();
  if (const std::uint64_t stored = input_->read_number("checksum"); stored != computed)
    input_->fail("checksum", std::to_string(computed), std::to_string(stored) + ": the file was damaged");
}

}  // namespace redline
