#include "server/model_server.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "tests/server/http_client.h"

namespace redline::server {
namespace {

using tests::Answer;
using tests::ask;
using Json = nlohmann::json;

constexpr const char* kModel = REDLINE_SOURCE_DIR "/tests/goldens/tiny/plain_4to2_d32_long_bf16";

std::shared_ptr<LoadedModel> open_model(const ModelServer::Progress& progress) {
  ModelOptions options;
  options.progress = progress;
  return LoadedModel::open(kModel, options);
}

struct TinyService {
  explicit TinyService(const ModelServer::Progress& progress) : model(open_model(progress)) {}

  std::shared_ptr<LoadedModel> model;
  std::atomic<int> steps_to_live = 0;  // 0: for ever; the last one waits for client_has_read
  std::atomic<bool> client_has_read = false;
  LiveMeter meter{DevicePeaks{}, 0, 0};
  Engine engine{model, {}, [this](const StepRecord& step) {
                  meter.add_step(step);
                  if (--steps_to_live != 0) return;
                  client_has_read.wait(false);
                  throw std::runtime_error("the device is gone");
                }};
  Service service{engine, meter, {.model_names = {"tiny"}, .metrics = {}, .sensors = {}}};
};

/// A server whose loader does what the test says: `release` lets it load, `fail` makes it throw.
class LoadingServer : public testing::Test {
 protected:
  LoadingServer() {
    running_ = std::thread([this] {
      try {
        ended_ = server_.run([this](const ModelServer::Progress& progress) { return load(progress); },
                             [this] { loaded_.set_value(); });
      } catch (const std::exception& error) {
        error_ = error.what();
      }
    });
    holding_.get_future().wait();
  }
  ~LoadingServer() override {
    release();
    if (running_.joinable()) {
      server_.stop(std::chrono::seconds(5));
      running_.join();
    }
  }

  std::shared_ptr<Service> load(const ModelServer::Progress& progress) {
    progress(250, 1000);
    holding_.set_value();
    if (held_.get_future().get()) throw std::runtime_error("weights.bin: is broken");
    const auto whole = std::make_shared<TinyService>(progress);
    whole->steps_to_live = steps_to_live_;
    tiny_ = whole;
    return std::shared_ptr<Service>(whole, &whole->service);
  }
  void release(bool fail = false) {
    if (!std::exchange(released_, true)) held_.set_value(fail);
  }
  Answer ask(const std::string& request, const std::string& body = "") {
    return tests::ask(server_.port(), request, body);
  }

  std::promise<void> holding_, loaded_;
  std::promise<bool> held_;
  bool released_ = false;
  int steps_to_live_ = 0;
  std::shared_ptr<TinyService> tiny_;
  ModelServer server_{{.host = "127.0.0.1"}, {}, {}, {{}, "1.2.3", "tiny"}};
  std::optional<bool> ended_;
  std::string error_;
  std::thread running_;
};

TEST_F(LoadingServer, HealthSaysThatItLoadsAndHowFarItIs) {
  for (const char* path : {"GET /health", "GET /v1/health"}) {
    const Answer health = ask(path);
    EXPECT_EQ(health.status, 503);
    EXPECT_NE(health.head.find("Retry-After: "), std::string::npos) << health.head;
    const Json body = Json::parse(health.body);
    EXPECT_EQ(body.at("error").at("code"), "loading");
    EXPECT_EQ(body.at("error").at("message"), "the model is being loaded: 250 of 1000 bytes");
    EXPECT_EQ(body.at("loading"), (Json{{"done_bytes", 250}, {"total_bytes", 1000}}));
  }
}

TEST_F(LoadingServer, MetricsTheDashboardAndTheVersionAnswerMeanwhile) {
  const Answer metrics = ask("GET /metrics");
  EXPECT_EQ(metrics.status, 200);
  EXPECT_NE(metrics.body.find("\nredline_load_progress_ratio 0.25\n"), std::string::npos) << metrics.body;
  EXPECT_NE(metrics.body.find("model=\"tiny\""), std::string::npos) << metrics.body;
  EXPECT_EQ(ask("GET /").status, 200);
  EXPECT_EQ(ask("GET /dashboard.js").status, 200);
  EXPECT_EQ(Json::parse(ask("GET /version").body).at("version"), "1.2.3");
  EXPECT_EQ(Json::parse(ask("GET /load").body).at("server_load"), 0);
}

TEST_F(LoadingServer, RoutesThatNeedTheModelSayWhenToComeAgainAndWrongOnesAreWrongAlready) {
  for (const char* request : {"POST /v1/completions", "POST /v1/chat/completions", "POST /tokenize",
                              "GET /v1/models", "GET /props", "GET /steps", "GET /v1/utilization"}) {
    const Answer answer = ask(request, "{}");
    EXPECT_EQ(answer.status, 503) << request;
    EXPECT_NE(answer.head.find("Retry-After: "), std::string::npos) << request;
    EXPECT_EQ(Json::parse(answer.body).at("error").at("code"), "loading") << request;
  }
  EXPECT_EQ(ask("GET /nothing").status, 404);
  EXPECT_EQ(ask("GET /v1/completions").status, 405);
  EXPECT_EQ(ask("POST /v1/embeddings").status, 501);
}

TEST_F(LoadingServer, ServesOnceItIsLoaded) {
  release();
  loaded_.get_future().wait();
  EXPECT_EQ(ask("GET /health").body, R"({"status":"ok"})");
  const Answer answer =
      ask("POST /v1/completions", R"({"prompt": [5, 9, 2], "max_tokens": 4, "ignore_eos": true})");
  EXPECT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(Json::parse(answer.body).at("usage").at("completion_tokens"), 4);
  EXPECT_NE(ask("GET /metrics").body.find("\nredline_load_progress_ratio 1\n"), std::string::npos);
  server_.stop(std::chrono::seconds(5));
  running_.join();
  EXPECT_EQ(ended_, true);
}

TEST_F(LoadingServer, AnEngineThatDiesIsToldToStreamsCallsAndHealth) {
  steps_to_live_ = 5;
  release();
  loaded_.get_future().wait();
  const std::string body = R"({"prompt": [5, 9, 2], "max_tokens": 400, "ignore_eos": true, "stream": true})";
  tests::Client stream(server_.port());
  stream.send(tests::request_text("POST /v1/completions", body));
  EXPECT_TRUE(stream.read_up_to("data: ").starts_with("HTTP/1.1 200 OK\r\n"));
  tiny_->client_has_read = true;
  tiny_->client_has_read.notify_one();
  const std::string rest = stream.read_to_end();
  EXPECT_NE(rest.find("the device is gone"), std::string::npos) << rest;
  EXPECT_EQ(rest.find("[DONE]"), std::string::npos);
  EXPECT_FALSE(rest.ends_with("0\r\n\r\n")) << "no proper end";
  for (const char* request : {"GET /health", "POST /v1/completions"}) {
    const Answer answer = ask(request, body);
    EXPECT_EQ(answer.status, 503);
    EXPECT_EQ(Json::parse(answer.body).at("error").at("code"), "engine_stopped");
  }
  EXPECT_EQ(ask("GET /metrics").status, 200);
}

TEST_F(LoadingServer, AFailureToLoadEndsItWithItsError) {
  tests::Client waiting(server_.port());  // a silent client does not hold it up
  release(/*fail=*/true);
  running_.join();
  EXPECT_EQ(error_, "weights.bin: is broken");
  EXPECT_THROW(tests::Client(server_.port()), std::exception);
}

TEST_F(LoadingServer, StoppedMeanwhileItEndsAtOnceThoughTheLoaderGoesOn) {
  tests::Client waiting(server_.port());
  server_.stop(std::chrono::hours(1));
  running_.join();  // the loader is still held
  EXPECT_EQ(ended_, false);
}

TEST(ModelServerKeys, HoldWhileTheModelIsLoaded) {
  ApiKeys keys;
  keys.add("secret-key");
  ModelServer server({.host = "127.0.0.1"}, {}, {}, {std::move(keys), "1", "tiny"});
  std::promise<void> held;
  std::thread running([&] {
    server.run(
        [&](const ModelServer::Progress&) -> std::shared_ptr<Service> {
          held.get_future().wait();
          throw std::runtime_error("never");
        },
        [] {});
  });
  EXPECT_EQ(ask(server.port(), "GET /health").status, 503);
  EXPECT_EQ(ask(server.port(), "GET /metrics").status, 401);
  EXPECT_EQ(ask(server.port(), "POST /v1/completions").status, 401);
  EXPECT_EQ(ask(server.port(), "GET /").status, 200);
  server.stop(std::chrono::seconds(1));
  running.join();
  held.set_value();
}

}  // namespace
}  // namespace redline::server
