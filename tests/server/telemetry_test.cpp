#include <gtest/gtest.h>

#include <map>
#include <stdexcept>

#include "server/telemetry/otlp_options.h"
#include "server/telemetry/trace_context.h"

namespace redline::server {
namespace {

constexpr const char* kTraceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

TEST(TraceContext, IsReadAsTheStandardHasIt) {
  const auto found = parse_traceparent(kTraceparent);
  ASSERT_TRUE(found);
  EXPECT_EQ(hex(found->trace.data(), 16), "0af7651916cd43dd8448eb211c80319c");
  EXPECT_EQ(hex(found->parent.data(), 8), "b7ad6b7169203331");
  EXPECT_TRUE(found->is_sampled);
  const std::string ids = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-";
  EXPECT_FALSE(parse_traceparent("00-" + ids + "02")->is_sampled);
  EXPECT_TRUE(parse_traceparent("cc-" + ids + "03-what comes later")->is_sampled);
  EXPECT_TRUE(parse_traceparent("cc-" + ids + "01"));
}

TEST(TraceContext, WhatIsNotOfTheStandardIsNone) {
  const std::string ids = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-";
  for (const std::string& header :
       {std::string(), std::string("00"), "ff-" + ids + "01", "00-" + ids + "01-more", "00-" + ids + "01 ",
        "cc-" + ids + "01.more", "00-" + ids + "0", "0x-" + ids + "01", "00-" + ids + "0g",
        std::string("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01"),
        "00-" + std::string(32, '0') + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + std::string(16, '0') + "-01",
        std::string("00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        std::string("00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01")})
    EXPECT_FALSE(parse_traceparent(header)) << header;
}

TEST(Sampler, KeepsItsShareOfTracesAndItsCallersDecision) {
  const Sampler some{.follows_parent = true, .share = 0.25};
  int kept = 0;
  for (int i = 0; i < 4000; ++i) kept += some.samples(new_trace_id(), {});
  EXPECT_NEAR(kept, 1000, 200);
  const auto caller = parse_traceparent(kTraceparent);
  EXPECT_TRUE((Sampler{.follows_parent = true, .share = 0}.samples(caller->trace, caller)));
  EXPECT_FALSE((Sampler{.follows_parent = false, .share = 0}.samples(caller->trace, caller)));
  TraceId last;
  last.fill(0xff);
  EXPECT_TRUE(Sampler{}.samples(last, {}));
}

class OtlpEnvironment : public testing::Test {
 protected:
  std::optional<OtlpOptions> read(const std::string& flag = "") {
    return otlp_options(flag, "1.2", [this](const char* name) {
      const auto found = variables_.find(name);
      return found == variables_.end() ? nullptr : found->second.c_str();
    });
  }
  std::string refusal(const std::string& flag = "") {
    try {
      read(flag);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "";
  }
  std::map<std::string, std::string> variables_;
};

TEST_F(OtlpEnvironment, EndpointsAreFoundInTheirOrder) {
  EXPECT_FALSE(read());
  variables_["OTEL_EXPORTER_OTLP_ENDPOINT"] = "https://collector/";
  const auto base = read();
  EXPECT_EQ(base->host + " " + base->port + " " + base->target, "collector 443 /v1/traces");
  EXPECT_TRUE(base->tls);
  variables_["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = "http://[::1]:4318";
  const auto own = read();
  EXPECT_EQ(own->host + " " + own->port + " " + own->target, "::1 4318 /");
  EXPECT_FALSE(own->tls);
  const auto flag = read("http://127.0.0.1:99/a//");
  EXPECT_EQ(flag->host + " " + flag->port + " " + flag->target, "127.0.0.1 99 /a/v1/traces");
  variables_["OTEL_SDK_DISABLED"] = "TRUE";
  EXPECT_FALSE(read("http://127.0.0.1:99"));
}

TEST_F(OtlpEnvironment, WhatCannotBeMeantIsRefusedByName) {
  EXPECT_NE(refusal("collector:4318").find("--otlp-endpoint: 'collector:4318' is no URL"), std::string::npos);
  EXPECT_NE(refusal("http://:1").find("names no host"), std::string::npos);
  EXPECT_NE(refusal("http://a:x").find("names no host and port"), std::string::npos);
  EXPECT_NE(refusal("http://me:word@a").find("OTEL_EXPORTER_OTLP_HEADERS"), std::string::npos);
  EXPECT_EQ(refusal("http://me:word@a").find("word"), std::string::npos);
  EXPECT_NE(refusal("http://a/b c"), "");
  EXPECT_NE(refusal("http://a/?q"), "");
  const std::map<std::string, std::string> wrong = {{"OTEL_BSP_SCHEDULE_DELAY", "soon"},
                                                    {"OTEL_EXPORTER_OTLP_TIMEOUT", "0"},
                                                    {"OTEL_RESOURCE_ATTRIBUTES", "a=%4"},
                                                    {"OTEL_EXPORTER_OTLP_HEADERS", "a b=c"},
                                                    {"OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a=%0d%0ab"},
                                                    {"OTEL_TRACES_SAMPLER", "jaeger_remote"}};
  for (const auto& [name, value] : wrong) {
    variables_ = {{name, value}};
    EXPECT_EQ(refusal("http://a").find(name + ": "), 0u) << refusal("http://a");
  }
}

TEST_F(OtlpEnvironment, HeadersResourceAndTimesAreRead) {
  variables_ = {{"OTEL_EXPORTER_OTLP_HEADERS", "a=b"},
                {"OTEL_EXPORTER_OTLP_TRACES_HEADERS", " key = v%3D1 ,,other=x=y"},
                {"OTEL_RESOURCE_ATTRIBUTES", "service.name=named,zone=a%20b"},
                {"OTEL_BSP_MAX_QUEUE_SIZE", "100"},
                {"OTEL_TRACES_SAMPLER", "traceidratio"},
                {"OTEL_TRACES_SAMPLER_ARG", "0.5"}};
  const auto options = read("http://a");
  EXPECT_EQ(options->headers, (Headers{{"key", "v=1"}, {"other", "x=y"}}));
  const std::map<std::string, AttributeValue> resource(options->resource.begin(), options->resource.end());
  EXPECT_EQ(resource.at("service.name"), AttributeValue("named"));
  EXPECT_EQ(resource.at("zone"), AttributeValue("a b"));
  EXPECT_EQ(resource.at("service.version"), AttributeValue("1.2"));
  EXPECT_EQ(options->max_batch, 100u) << "no more than may wait";
  EXPECT_FALSE(options->sampler.follows_parent);
  EXPECT_EQ(options->sampler.share, 0.5);
  variables_["OTEL_SERVICE_NAME"] = "stronger";
  const auto named = read("http://a");
  EXPECT_EQ(named->resource.back(), (std::pair<std::string, AttributeValue>("service.name", "stronger")));
}

}  // namespace
}  // namespace redline::server
