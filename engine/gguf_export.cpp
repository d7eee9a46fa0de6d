#include "engine/gguf_export.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "engine/architecture.h"
#include "engine/gguf.h"
#include "engine/gguf_output.h"
#include "engine/gguf_vocabulary.h"
#include "engine/model_file_error.h"
#include "engine/rope.h"
#include "engine/tensor_names.h"
#include "engine/weight_source.h"

namespace redline {
namespace {

// llama.cpp's numbers for "mostly this type"; it prints them and no more.
constexpr std::pair<DType, int> kFileTypes[] = {
    {DType::kF32, 0},     {DType::kF16, 1},     {DType::kQ4_0, 2},  {DType::kQ4_1, 3},
    {DType::kQ8_0, 7},    {DType::kQ5_0, 8},    {DType::kQ5_1, 9},  {DType::kQ2_K, 10},
    {DType::kQ3_K, 11},   {DType::kQ4_K, 14},   {DType::kQ5_K, 16}, {DType::kQ6_K, 18},
    {DType::kIQ4_NL, 25}, {DType::kIQ4_XS, 30}, {DType::kBF16, 32}, {DType::kMXFP4, 38},
};

// What the file says apart from its keys' values.
class Exporter {
 public:
  Exporter(const std::string& source, const ModelConfig& config, std::shared_ptr<WeightSource> weights)
      : source_(source),
        config_(config),
        row_(*find_hf_architecture(config.architecture)),
        prefix_(std::string(row_.gguf_name) + "."),
        weights_(std::move(weights)) {}

  /// A GGUF's own keys.
  void copy_keys(const GgufFile& gguf, bool types_change) {
    for (const auto& [key, bytes] : gguf.raw_values()) {
      if (key == "general.alignment" || key == "general.quantization_version") continue;
      if (key == "general.file_type" && types_change) continue;
      out_.add_raw(key, bytes);
    }
    if (types_change) add_file_type();
    out_.add_u32("general.quantization_version", 2);
  }

  /// The keys that say what `config` is.
  void add_config() {
    out_.add_string("general.architecture", row_.gguf_name);
    out_.add_string("general.name", config_.name);
    add_file_type();
    out_.add_u32("general.quantization_version", 2);
    const auto add = [&](const char* key, std::int64_t value) { out_.add_u32(prefix_ + key, value); };
    add("block_count", config_.num_layers);
    add("context_length", config_.max_positions);
    add("embedding_length", config_.hidden_size);
    add("feed_forward_length", config_.ffn_size);
    add("vocab_size", config_.vocab_size);
    add("attention.head_count", config_.num_q_heads);
    add("attention.head_count_kv", config_.num_kv_heads);
    add("attention.key_length", config_.head_dim);
    add("attention.value_length", config_.head_dim);
    out_.add_f32(prefix_ + "attention.layer_norm_rms_epsilon", config_.rms_norm_eps);
    add("rope.dimension_count", config_.rotary_dim);
    out_.add_f32(prefix_ + "rope.freq_base", config_.rope_theta);
    add_rope_scaling();
    add_layers();
    add_multipliers();
  }

  void add_tokenizer(const TokenizerSpec* spec) {
    if (spec)
      add_vocabulary(out_, *spec, config_.vocab_size);
    else
      out_.add_string("tokenizer.ggml.model", "no_vocab");
  }

  void write(const std::filesystem::path& path, const ExportOptions& options) {
    add_tensors();
    out_.write(path, options.progress);
  }

 private:
  [[noreturn]] void fail(const std::string& what, const std::string& expected,
                         const std::string& found) const {
    throw ModelFileError({.file = source_, .item = what}, expected + ", all that a GGUF can say", found);
  }

  void add_file_type() {
    const DType dtype = weights_->dtype(TensorRole::kDown, 0);
    const auto* known = std::ranges::find(kFileTypes, dtype, &std::pair<DType, int>::first);
    if (known != std::end(kFileTypes)) out_.add_u32("general.file_type", known->second);
  }

  void add_rope_scaling() {
    const RopeScaling& scaling = config_.rope_scaling;
    const auto add_factor = [&](const char* type) {
      out_.add_string(prefix_ + "rope.scaling.type", type);
      out_.add_f32(prefix_ + "rope.scaling.factor", scaling.factor);
    };
    const auto add_original = [&] {
      out_.add_u32(prefix_ + "rope.scaling.original_context_length", scaling.original_max_positions);
    };
    if (scaling.type == RopeType::kLinear) add_factor("linear");
    if (scaling.type == RopeType::kYarn) {
      add_factor("yarn");
      add_original();
      out_.add_f32(prefix_ + "rope.scaling.yarn_beta_fast", scaling.beta_fast);
      out_.add_f32(prefix_ + "rope.scaling.yarn_beta_slow", scaling.beta_slow);
      // Readers multiply it by what YaRN asks for.
      if (scaling.attention_factor > 0)
        out_.add_f32(prefix_ + "rope.scaling.attn_factor",
                     scaling.attention_factor / (1 + 0.1 * std::log(std::max(scaling.factor, 1.0))));
      if (!scaling.truncate) fail("rope_scaling", "YaRN's range in whole dimensions", "truncate false");
    }
    if (scaling.type == RopeType::kLongRope) {
      add_original();
      out_.add_f32(prefix_ + "rope.scaling.attn_factor", scaling.attention_factor);
    }
  }

  void add_layers() {
    const std::int64_t window = config_.layer(0).window;
    for (std::int64_t i = 0; i < config_.num_layers; ++i) {
      const LayerConfig layer = config_.layer(i);
      const std::string at = "layer " + std::to_string(i);
      if (layer.window != window) fail(at, "one window for all layers", std::to_string(layer.window));
      if (layer.rotates == row_.leaves_unrotated(i))
        fail(at, "the rotation that the architecture implies", layer.rotates ? "rotation" : "none");
    }
    if (window == 0) return;
    if (row_.windowed_layers != WindowedLayers::kAll)
      fail("sliding_window", "no window for this architecture", std::to_string(window));
    out_.add_u32(prefix_ + "attention.sliding_window", window);
  }

  void add_multipliers() {
    if (!row_.has_multipliers) return;
    out_.add_f32(prefix_ + "embedding_scale", config_.embedding_multiplier);
    out_.add_f32(prefix_ + "residual_scale", config_.residual_multiplier);
    out_.add_f32(prefix_ + "attention.scale", config_.attention_multiplier);
    out_.add_f32(prefix_ + "logit_scale", config_.logits_divisor);
  }

  void add_tensors() {
    for_each_tensor(config_, [&](TensorRole role, std::int64_t layer) {
      if (row_.fused_projections && (role == TensorRole::kQ || role == TensorRole::kGate)) {
        const bool qkv = role == TensorRole::kQ;
        add_matrix(kGgufNames.in_layer(layer, qkv ? kGgufNames.fused_qkv : kGgufNames.fused_gate_up), layer,
                   qkv ? std::vector{TensorRole::kQ, TensorRole::kK, TensorRole::kV}
                       : std::vector{TensorRole::kGate, TensorRole::kUp});
      } else if (row_.fused_projections &&
                 (role == TensorRole::kK || role == TensorRole::kV || role == TensorRole::kUp)) {
        return;  // with the first of theirs
      } else {
        const std::string name = kGgufNames.name(role, layer, config_.norm_placement);
        tensor_shape(role, config_).size() == 2 ? add_matrix(name, layer, {role})
                                                : add_vector(name, role, layer);
      }
    });
    const RopeScaling& scaling = config_.rope_scaling;
    if (scaling.type == RopeType::kLlama3)
      add_floats("rope_freqs.weight", divisors());
    else if (!scaling.frequency_divisors.empty())
      add_floats("rope_freqs.weight", scaling.frequency_divisors);
    if (scaling.type == RopeType::kLongRope) {
      add_floats("rope_factors_long.weight", scaling.long_divisors);
      add_floats("rope_factors_short.weight", scaling.short_divisors);
    }
  }

  // By what the configuration divides the plain frequencies.
  std::vector<float> divisors() const {
    ModelConfig plain = config_;
    plain.rope_scaling = {};
    std::vector<float> divisors = RopeTable(plain).inverse_frequencies();
    const RopeTable scaled(config_);
    for (std::size_t i = 0; i < divisors.size(); ++i) divisors[i] /= scaled.inverse_frequencies()[i];
    return divisors;
  }

  // The rows of `roles`, one matrix after the other.
  void add_matrix(const std::string& name, std::int64_t layer, const std::vector<TensorRole>& roles) {
    const DType dtype = weights_->dtype(roles.front(), layer);
    if (!gguf_type_id(dtype))
      throw ModelFileError({.file = source_, .item = "tensor " + printable(name)},
                           "a type of GGUF's (--dtype q8_0)", redline::name(dtype));
    std::vector<std::int64_t> shape{0, config_.hidden_size};
    for (const TensorRole role : roles) {
      shape[0] += tensor_shape(role, config_)[0];
      shape[1] = tensor_shape(role, config_)[1];
      if (weights_->dtype(role, layer) != dtype)
        throw ModelFileError({.file = source_, .item = "tensor " + printable(name)},
                             std::string("one type for its parts, ") + redline::name(dtype),
                             redline::name(weights_->dtype(role, layer)));
    }
    out_.add_tensor(name, dtype, shape, [this, layer, roles](const GgufOutput::Put& put) {
      for (const TensorRole role : roles) {
        const MatrixSource source = weights_->matrix(role, layer);
        const auto bytes = static_cast<std::size_t>(row_bytes(source.dtype, source.cols));
        for (std::int64_t row = 0; row < source.rows; ++row) put({source.row(engine_row(role, row)), bytes});
        weights_->done(role, layer);
      }
    });
  }

  // Which of the engine's rows is row `row` of the file: some architectures' files interleave the halves of
  // each q and k head.
  std::int64_t engine_row(TensorRole role, std::int64_t row) const {
    if (!row_.gguf_interleaves_rope || (role != TensorRole::kQ && role != TensorRole::kK)) return row;
    const std::int64_t d = config_.head_dim, i = row % d;
    return row - i + i / 2 + (i % 2) * (d / 2);
  }

  void add_vector(const std::string& name, TensorRole role, std::int64_t layer) {
    out_.add_tensor(name, DType::kF32, tensor_shape(role, config_),
                    [this, role, layer](const GgufOutput::Put& put) {
                      put(std::as_bytes(std::span<const float>(weights_->vector(role, layer))));
                      weights_->done(role, layer);
                    });
  }

  void add_floats(const std::string& name, std::vector<float> values) {
    const std::vector<std::int64_t> shape{static_cast<std::int64_t>(values.size())};
    out_.add_tensor(name, DType::kF32, shape, [values = std::move(values)](const GgufOutput::Put& put) {
      put(std::as_bytes(std::span(values)));
    });
  }

  const std::string source_;  // what messages name
  const ModelConfig config_;
  const Architecture& row_;
  const std::string prefix_;
  const std::shared_ptr<WeightSource> weights_;
  GgufOutput out_;
};

}  // namespace

void export_gguf(const Checkpoint& checkpoint, const std::filesystem::path& path,
                 const ExportOptions& options) {
  LoadOptions load;
  load.dtype = options.dtype;
  Exporter exporter(checkpoint.path().string(), checkpoint.config(),
                    make_file_weights(checkpoint, load, options.num_threads));
  if (const GgufFile* gguf = checkpoint.gguf()) {
    exporter.copy_keys(*gguf, options.dtype.has_value());
  } else {
    exporter.add_config();
    if (checkpoint.has_tokenizer()) {
      const TokenizerSpec spec = checkpoint.tokenizer_spec();
      exporter.add_tokenizer(&spec);
    } else {
      exporter.add_tokenizer(nullptr);
    }
  }
  exporter.write(path, options);
}

void export_gguf(const ModelConfig& config, std::uint64_t seed, const std::filesystem::path& path,
                 const ExportOptions& options) {
  REDLINE_CHECK(options.dtype.has_value(), "a type for random weights");
  Exporter exporter(config.name, config, make_random_weights(config, *options.dtype, seed));
  exporter.add_config();
  exporter.add_tokenizer(nullptr);
  exporter.write(path, options);
}

}  // namespace redline
