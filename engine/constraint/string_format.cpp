#include "engine/constraint/string_format.h"

#include <utility>

namespace redline {
namespace {

#define DATE                                                                              \
  "([12]\\d{3}-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|" \
  "02-(0[1-9]|1\\d|2[0-8]))|([12]\\d(0[48]|[2468][048]|[13579][26])|(12|16|20|24|28)00)-02-29)"
#define TIME "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,9})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)"
#define LABEL "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define BYTE "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"
#define H "[0-9A-Fa-f]{1,4}"
#define N "\\d{1,6}"

constexpr std::pair<std::string_view, std::string_view> kFormats[] = {
    {"date", DATE},
    {"time", TIME},
    {"date-time", DATE "T" TIME},
    {"duration", "P(" N "W|(" N "D|" N "M(" N "D)?|" N "Y(" N "M(" N "D)?)?)(T(" N "H(" N "M(" N "S)?)?|" N
                 "M(" N "S)?|" N "S))?|T(" N "H(" N "M(" N "S)?)?|" N "M(" N "S)?|" N "S))"},
    {"email", "[A-Za-z0-9_+-]{1,20}(\\.[A-Za-z0-9_+-]{1,20}){0,2}@(" LABEL "\\.){1,3}[A-Za-z]{2,20}"},
    {"hostname", LABEL "(\\." LABEL "){0,3}"},
    {"ipv4", BYTE "(\\." BYTE "){3}"},
    {"ipv6",
     "((" H ":){7}" H "|(" H ":){1,7}:|(" H ":){1,6}:" H "|(" H ":){1,5}(:" H "){1,2}|(" H ":){1,4}(:" H
     "){1,3}|(" H ":){1,3}(:" H "){1,4}|(" H ":){1,2}(:" H "){1,5}|" H ":(:" H "){1,6}|:((:" H "){1,7}|:))"},
    {"uuid", "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"},
    {"uri", "[A-Za-z][A-Za-z0-9+.-]{0,20}://[A-Za-z0-9._~/?@!$&'()*+,;=-]{1,2000}"},
};

#undef DATE
#undef TIME
#undef LABEL
#undef BYTE
#undef H
#undef N

}  // namespace

std::optional<std::string> format_pattern(std::string_view name) {
  for (const auto& [format, pattern] : kFormats)
    if (format == name) return std::string(pattern);
  return std::nullopt;
}

std::string format_names() {
  std::string names;
  for (const auto& [format, unused] : kFormats) names += (names.empty() ? "" : ", ") + std::string(format);
  return names;
}

}  // namespace redline
