#include <iterator>

#include "tests/bad_files/mutations.h"

namespace redline {
namespace {

constexpr std::uint32_t kString = 8, kArray = 9, kNumTypes = 13;
constexpr std::size_t kTypeBytes[kNumTypes] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

std::string number_text(std::uint64_t number) {
  return number < 1u << 20 ? std::to_string(number) : "2^k or so";
}

// A value of the numbered scalar type, with every byte from `pattern`.
std::string scalar(std::uint32_t type, const std::string& pattern) {
  if (type == kString) return bytes_of(std::uint64_t{pattern.size()}) + pattern;
  return pattern.substr(0, kTypeBytes[type]);
}

class GgufChanges {
 public:
  explicit GgufChanges(GgufWriter writer) : writer_(std::move(writer)), good_(writer_.finish()) {
    fields_ = writer_.fields();
  }

  std::vector<Mutation> all() {
    for (const auto& field : fields_) change_field(field);
    for (std::size_t i = 0; i < writer_.keys().size(); ++i) change_key(i);
    for (std::size_t i = 0; i < writer_.tensors().size(); ++i) change_tensor(i);
    cut();
    return std::move(mutations_);
  }

 private:
  void put(const std::string& what, const std::string& bytes) { mutations_.push_back({what, bytes}); }

  // `bytes` over the field, as far as it reaches.
  void overwrite(const GgufWriter::Field& field, const std::string& bytes, const std::string& what) {
    std::string changed = good_;
    const std::size_t size = std::min(field.size, bytes.size());
    changed.replace(field.offset, size, bytes, 0, size);
    put(field.what + " at byte " + std::to_string(field.offset) + " = " + what, changed);
  }

  void change_field(const GgufWriter::Field& field) {
    if (field.what == "string" || field.what == "key" || field.what == "name") {
      overwrite(field, "\xff\xfe", "not UTF-8");
      overwrite(field, std::string(2, '\0'), "NULs");
      return;
    }
    const bool type = field.what.ends_with("type") || field.what == "version" || field.what == "dimensions";
    if (type)
      for (std::uint32_t value = 0; value <= 42; ++value)
        overwrite(field, bytes_of(value), std::to_string(value));
    std::uint64_t now = 0;
    std::copy_n(good_.begin() + static_cast<std::ptrdiff_t>(field.offset),
                std::min<std::size_t>(field.size, 8), reinterpret_cast<char*>(&now));
    const std::uint64_t values[] = {
        0,          1,          now - 1,    now + 1,    now * 2,    now + 32,   good_.size(),
        255,        0x7fffffff, 0x80000000, ~0u,        1ull << 24, 1ull << 32, 1ull << 60,
        1ull << 61, 1ull << 62, 1ull << 63, ~0ull - 31, ~0ull - 7,  ~0ull};
    for (const std::uint64_t value : values) overwrite(field, bytes_of(value), number_text(value));
    if (field.what == "value" && field.size == 4)
      for (const float value :
           {-1.0F, 0.0F, 1e-40F, 3e38F, std::numeric_limits<float>::infinity(), std::nanf("")})
        overwrite(field, bytes_of(value), "float " + std::to_string(value));
  }

  void change_key(std::size_t i) {
    const std::string name = writer_.keys()[i].name;
    GgufWriter missing = writer_, twice = writer_;
    missing.keys().erase(missing.keys().begin() + static_cast<std::ptrdiff_t>(i));
    put(name + " missing", missing.finish());
    twice.keys().push_back(twice.keys()[i]);
    put(name + " twice", twice.finish());
    const std::string patterns[] = {std::string(8, '\0'), std::string("\1\0\0\0\0\0\0\0", 8),
                                    std::string(8, '\xff'), std::string("\0\0\xc0\x7f\0\0\xf8\x7f", 8)};
    for (std::uint32_t type = 0; type < kNumTypes; ++type)
      for (const std::string& pattern : patterns) {
        if (type == kArray) continue;
        GgufWriter other = writer_;
        other.keys()[i].type = bytes_of(type);
        other.keys()[i].value = scalar(type, pattern);
        put(name + " of type " + std::to_string(type), other.finish());
        for (const std::uint64_t count : {0, 1, 3}) {
          std::string elements;
          for (std::uint64_t n = 0; n < count; ++n) elements += scalar(type, pattern);
          other.keys()[i].type = bytes_of(kArray);
          other.keys()[i].value = bytes_of(type) + bytes_of(count) + elements;
          put(name + " an array of type " + std::to_string(type), other.finish());
        }
      }
  }

  void change_tensor(std::size_t i) {
    const auto changed = [&](const char* what, auto&& change) {
      GgufWriter other = writer_;
      change(other.tensors()[i], other);
      put("tensor " + writer_.tensors()[i].name + " " + what, other.finish());
    };
    using Writer = GgufWriter;
    changed("missing", [i](TensorToWrite&, Writer& w) {
      w.tensors().erase(w.tensors().begin() + static_cast<std::ptrdiff_t>(i));
    });
    changed("twice", [](TensorToWrite& t, Writer& w) { w.add_tensor(TensorToWrite(t)); });
    changed("renamed", [](TensorToWrite& t, Writer&) { t.name += "x"; });
    changed("called nothing", [](TensorToWrite& t, Writer&) { t.name.clear(); });
    changed("as its neighbour", [i](TensorToWrite& t, Writer& w) {
      std::swap(t.name, w.tensors()[(i + 1) % w.tensors().size()].name);
    });
    changed("turned", [](TensorToWrite& t, Writer&) { std::ranges::reverse(t.shape); });
    changed("one row less", [](TensorToWrite& t, Writer&) { --t.shape[0]; });
    changed("with a dimension more", [](TensorToWrite& t, Writer&) { t.shape.insert(t.shape.begin(), 1); });
    changed("with a product that wraps", [](TensorToWrite& t, Writer&) {
      t.shape = {1ll << 32, 1ll << 32, t.shape.back()};
    });
    changed("with a product that wraps to its size", [](TensorToWrite& t, Writer&) {
      t.shape = {(1ll << 62) + t.shape[0], 4};
    });
    changed("of NaNs", [](TensorToWrite& t, Writer&) { std::ranges::fill(t.data, '\xff'); });
    changed("without data", [](TensorToWrite& t, Writer&) { t.data.clear(); });
  }

  void cut() {
    for (const auto& field : fields_)
      for (const std::size_t size : {field.offset, field.offset + 1, field.offset + field.size - 1})
        if (size < good_.size()) put("cut after " + std::to_string(size), good_.substr(0, size));
    put("a byte more", good_ + '\0');
    put("a byte less", good_.substr(0, good_.size() - 1));
  }

  GgufWriter writer_;
  const std::string good_;
  std::vector<GgufWriter::Field> fields_;
  std::vector<Mutation> mutations_;
};

}  // namespace

std::vector<Mutation> gguf_mutations(GgufWriter writer) { return GgufChanges(std::move(writer)).all(); }

}  // namespace redline
