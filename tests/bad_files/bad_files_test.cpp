// Thousands of model files, each changed in one place: every one is refused in a line that says what is wrong
// where, or loads; nothing else happens, and nothing is allocated that the files do not hold.
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <random>

#include "engine/chat_template/chat_template.h"
#include "engine/checkpoint.h"
#include "engine/model_file_error.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/weights.h"
#include "tests/bad_files/allocation.h"
#include "tests/bad_files/mutations.h"
#include "tests/engine/tiny_llama.h"

namespace redline {
namespace {

using Json = nlohmann::ordered_json;

std::uint64_t file_bytes(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) return std::filesystem::file_size(path);
  std::uint64_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(path)) bytes += entry.file_size();
  return bytes;
}

// Opens mutated models and counts what comes of it.
class Verdicts {
 public:
  explicit Verdicts(std::string model) : model_(std::move(model)), ops_(make_reference_ops()) {
    reset_peak_bytes();
    const std::size_t before = held_bytes();
    EXPECT_EQ(load(), "") << "the file as it was";
    EXPECT_GT(peak_bytes(), before) << "allocations are not counted";
  }

  void check(const Mutation& mutation) {
    SCOPED_TRACE(mutation.what);
    // JSON values and map entries take some tens of bytes for each of the file's few; what a constant bounds
    // (a table of byte values, a pattern) is in the second term.
    const std::size_t limit = 100 * file_bytes(model_) + (2u << 20), before = held_bytes();
    reset_peak_bytes();
    const std::string error = load();
    EXPECT_LE(peak_bytes() - before, limit) << error;
    error.empty() ? ++num_harmless : ++num_refused;
    if (error.empty()) return;
    EXPECT_EQ(error.find(model_), 0U) << "the file comes first: " << error;
    EXPECT_EQ(error.find('\n'), std::string::npos) << error;
    EXPECT_LT(error.size(), 600U) << error;
  }

  std::size_t num_refused = 0, num_harmless = 0;

 private:
  // Everything that running the model would read. The error, or nothing; what is not a ModelFileError fails
  // the test.
  std::string load() {
    try {
      const Checkpoint checkpoint(model_);
      load_weights(checkpoint, *ops_);
      if (checkpoint.has_tokenizer()) {
        const Tokenizer tokenizer(checkpoint.tokenizer_spec());
        tokenizer.decode(tokenizer.encode("Hello <s> 123 w\xc3\xb6rld"));
      }
    } catch (const ModelFileError& error) {
      return error.what();
    } catch (const std::exception& error) {
      ADD_FAILURE() << "another exception: " << error.what();
    }
    return "";
  }

  const std::string model_;
  std::unique_ptr<Ops> ops_;
};

class BadFiles : public ::testing::Test {
 protected:
  BadFiles() : seed_(std::random_device()()) { std::printf("seed %u\n", seed_); }

  // Writes each mutation over `file` of the model.
  void run(const std::string& model, const std::string& file, const std::vector<Mutation>& mutations,
           std::size_t least_refused) {
    Verdicts verdicts((directory_.path() / model).string());
    std::ifstream stream(directory_.path() / file, std::ios::binary);
    const std::string good(std::istreambuf_iterator<char>(stream), {});
    for (const Mutation& mutation : mutations) {
      directory_.write(file, mutation.bytes);
      verdicts.check(mutation);
      if (HasFatalFailure() || ::testing::Test::HasNonfatalFailure()) break;
    }
    directory_.write(file, good);
    std::printf("%s: %zu refused, %zu harmless\n", file.c_str(), verdicts.num_refused, verdicts.num_harmless);
    EXPECT_GE(verdicts.num_refused, least_refused);
  }

  void write_hf(const std::string& config) {
    directory_.write("model/config.json", config);
    directory_.write("model/model.safetensors", safetensors_bytes(tiny_tensors(DType::kBF16, false)));
    directory_.write("model/tokenizer.json", tokenizer_json().dump());
  }

  static Json tokenizer_json() {
    Json vocab;
    for (char c = 'A'; c < 'A' + 26; ++c) vocab[std::string(1, c)] = c - 'A';
    vocab["\u0120"] = 26,
    vocab
        ["A"
         "B"] = 27,
    vocab["\u0120A"] = 28;
    return Json::parse(R"({"version":"1.0","added_tokens":[
      {"id":29,"content":"<s>","single_word":false,"lstrip":false,"rstrip":true,"normalized":false,"special":true},
      {"id":30,"content":"wo","single_word":true,"lstrip":true,"rstrip":false,"normalized":true,"special":false}],
      "normalizer":null,
      "pre_tokenizer":{"type":"Sequence","pretokenizers":[
        {"type":"Split","pattern":{"Regex":"\\p{N}{1,3}|[^\\p{N}]+"},"behavior":"Isolated","invert":false},
        {"type":"Digits","individual_digits":true},
        {"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}]},
      "post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],
        "pair":[],"special_tokens":{"<s>":{"id":"<s>","ids":[29],"tokens":["<s>"]}}},
      "decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},
      "model":{"type":"BPE","dropout":null,"unk_token":"A","continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,
        "byte_fallback":false,"ignore_merges":true,"vocab":{},"merges":["A B",["\u0120","A"]]}})")
        .patch(Json::array({{{"op", "replace"}, {"path", "/model/vocab"}, {"value", vocab}}}));
  }

  const TemporaryDirectory directory_;
  const std::uint32_t seed_;
};

TEST_F(BadFiles, GgufIsRefusedClearlyOrLoads) {
  GgufWriter writer = tiny_gguf(DType::kQ4_1, true);
  writer.add_u32("general.alignment", 32);
  writer.add_string("llama.rope.scaling.type", "yarn");
  writer.add_f32("llama.rope.scaling.factor", 4);
  writer.add_u32("llama.rope.scaling.original_context_length", 64);
  writer.add_bool("tokenizer.ggml.add_bos_token", false);
  writer.add_string("tokenizer.chat_template", "{{ messages }}");
  directory_.write("model.gguf", writer.finish());
  run("model.gguf", "model.gguf", gguf_mutations(writer), 3000);
}

TEST_F(BadFiles, SafetensorsAreRefusedClearlyOrLoad) {
  write_hf(tiny_config_json());
  const std::string good = safetensors_bytes(tiny_tensors(DType::kBF16, false));
  run("model", "model/model.safetensors", safetensors_mutations(good, 2000, seed_), 1500);
}

TEST_F(BadFiles, AnIndexOfShardsIsRefusedClearlyOrLoads) {
  write_hf(tiny_config_json());
  std::filesystem::remove(directory_.path() / "model/model.safetensors");
  const auto tensors = tiny_tensors(DType::kF32, false);
  std::vector<TensorToWrite> halves[2];
  Json index = {{"metadata", {{"total_size", 1}}}, {"weight_map", Json::object()}};
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    halves[i % 2].push_back(tensors[i]);
    index["weight_map"][tensors[i].name] = std::to_string(i % 2) + ".safetensors";
  }
  directory_.write("model/0.safetensors", safetensors_bytes(halves[0]));
  directory_.write("model/1.safetensors", safetensors_bytes(halves[1]));
  const std::string name = "model/model.safetensors.index.json";
  directory_.write(name, index.dump());
  run("model", name, json_mutations(index, 600, seed_), 400);
}

TEST_F(BadFiles, AConfigurationIsRefusedClearlyOrLoads) {
  const char* const variants[] = {
      R"(,"rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":32},"tie_word_embeddings":false,"head_dim":16)",
      R"(,"rope_parameters":{"rope_type":"yarn","factor":4.0,"beta_fast":32,"beta_slow":1,"mscale":1.0,"mscale_all_dim":0.5,"truncate":false,"rope_theta":500.0},"torch_dtype":"bfloat16","attention_bias":false)",
      R"(,"sliding_window":16,"rope_scaling":null)"};
  for (const char* more : variants) {
    std::string config = tiny_config_json(more);
    if (more == variants[2])
      for (const auto& [from, to] : {std::pair{"LlamaFor", "MistralFor"}, {"\"llama\"", "\"mistral\""}})
        config.replace(config.find(from), std::string_view(from).size(), to);
    write_hf(config);
    run("model", "model/config.json", json_mutations(Json::parse(config), 1200, seed_), 600);
  }
}

TEST_F(BadFiles, ATokenizerIsRefusedClearlyOrLoads) {
  write_hf(tiny_config_json());
  run("model", "model/tokenizer.json", json_mutations(tokenizer_json(), 2500, seed_), 1000);
}

TEST_F(BadFiles, ATokenizersConfigurationsAreRefusedClearlyOrLoad) {
  write_hf(tiny_config_json());
  const std::pair<const char*, Json> documents[] = {
      {"model/tokenizer_config.json",
       Json::parse(
           R"({"bos_token":"<s>","eos_token":{"content":"A","special":true},"pad_token":null,"add_bos_token":true,"add_eos_token":false,
         "chat_template":[{"name":"default","template":"{{ messages }}"},{"name":"tool_use","template":"x"}]})")},
      {"model/generation_config.json",
       Json::parse(
           R"({"eos_token_id":[1,2],"bos_token_id":0,"temperature":0.6,"top_p":0.9,"do_sample":true})")}};
  for (const auto& [file, document] : documents) {
    directory_.write(file, document.dump());
    run("model", file, json_mutations(document, 800, seed_), 100);
  }
}

TEST_F(BadFiles, ATemplateIsRefusedWithItsLineOrRenders) {
  const Json goldens =
      Json::parse(std::ifstream(std::string(REDLINE_SOURCE_DIR) + "/tests/goldens/templates.json"));
  std::size_t num_refused = 0, num_rendered = 0;
  ChatTemplate::Limits limits;
  limits.max_steps = 100'000, limits.max_bytes = 4 << 20;
  for (const auto& [name, source] : goldens.at("templates").items())
    for (const Mutation& mutation : template_mutations(source, 800, seed_)) {
      SCOPED_TRACE(name + ": " + mutation.what);
      const std::size_t before = held_bytes();
      reset_peak_bytes();
      try {
        ChatTemplate(mutation.bytes).render(goldens.at("data"), limits);
        ++num_rendered;
      } catch (const TemplateError& error) {
        ++num_refused;
        EXPECT_GE(error.line(), 1);
        EXPECT_LE(error.line(), 1 + std::count(mutation.bytes.begin(), mutation.bytes.end(), '\n'));
        EXPECT_LT(std::string_view(error.what()).size(), 600U) << error.what();
      } catch (const std::exception& error) {
        FAIL() << "another exception: " << error.what();
      }
      EXPECT_LE(peak_bytes() - before, 32u << 20);
    }
  std::printf("templates: %zu refused, %zu rendered\n", num_refused, num_rendered);
  EXPECT_GT(num_refused, 1500U);
  EXPECT_GT(num_rendered, 200U);
}

using BadFilesDeathTest = ::testing::Test;

TEST(BadFilesDeathTest, AFileThatShrinksWhileItsWeightsLoadEndsTheProcessByName) {
  const TemporaryDirectory directory;
  const auto path = directory.write("model.gguf", tiny_gguf(DType::kF32, false).finish());
  EXPECT_EXIT(
      {
        const Checkpoint checkpoint(path.string());
        const auto ops = make_reference_ops();
        LoadOptions options;
        options.progress = [&](std::int64_t, std::int64_t) { std::filesystem::resize_file(path, 4096); };
        load_weights(checkpoint, *ops, options);
      },
      ::testing::ExitedWithCode(1),
      "redline: .*model.gguf: the file shrank or could not be read while it was in use");
}

}  // namespace
}  // namespace redline
