#include "engine/meter/svg.h"

#include <cmath>
#include <cstdio>

namespace redline {
namespace {

constexpr const char* kStyle =
    "  svg { --paper: #ffffff; --ink: #1c1e21; --soft: #6a7078; --grid: #e6e8eb; --red: #c8102e; --blue: "
    "#1f6f8b;"
    " --green: #2f7d4f; --amber: #b06f00; --violet: #6b4fa0; font: 13px system-ui, sans-serif; }\n"
    "  @media (prefers-color-scheme: dark) { svg { --paper: #16181b; --ink: #eceef0; --soft: #9aa1a9;"
    " --grid: #2c3035; --red: #ff5a6e; --blue: #62b6d2; --green: #6cc794; --amber: #e0a84a; --violet: "
    "#b39ae0; } }\n"
    "  .paper { fill: var(--paper); } text { fill: var(--ink); } .soft { fill: var(--soft); font-size: 12px; "
    "}\n"
    "  .halo { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; }\n"
    "  .title { font-size: 16px; font-weight: 600; } .grid { stroke: var(--grid); }\n"
    "  .line { fill: none; stroke-width: 2; stroke-linejoin: round; }\n";

std::string attribute(const char* name, double value) {
  return std::string(" ") + name + "=\"" + svg_number(value) + "\"";
}
std::string classed(const std::string& element, const std::string& classes) {
  return "<" + element + " class=\"" + classes + "\"";
}
std::string hovered(const std::string& element, const std::string& hover) {
  return hover.empty() ? "/>\n" : "><title>" + escape_markup(hover) + "</title></" + element + ">\n";
}

}  // namespace

std::string svg_number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.5g", value);
  return text;
}

std::string escape_markup(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '&')
      out += "&amp;";
    else if (c == '"')
      out += "&quot;";
    else
      out += c;
  }
  return out;
}

SvgAxis SvgAxis::linear(double largest) {
  SvgAxis axis;
  double step = 1;
  if (largest > 0) {
    step = std::pow(10, std::floor(std::log10(largest / 4)));
    for (const double factor : {2.0, 2.5, 2.0})
      if (largest / step > 8) step *= factor;
    axis.end = std::ceil(largest / step) * step;
  }
  for (double value = 0; value <= axis.end * 1.0001; value += step) axis.marks.push_back(value);
  return axis;
}

SvgAxis SvgAxis::log(double smallest, double largest) {
  SvgAxis axis{.logarithmic = true, .marks = {}};
  axis.begin = std::pow(10, std::floor(std::log10(smallest)));
  axis.end = std::pow(10, std::ceil(std::log10(largest)));
  if (axis.end <= axis.begin) axis.end = axis.begin * 10;
  for (double value = axis.begin; value <= axis.end * 1.0001; value *= 10) axis.marks.push_back(value);
  return axis;
}

double SvgAxis::at(double value) const {
  return logarithmic ? std::log(value / begin) / std::log(end / begin) : (value - begin) / (end - begin);
}

Svg::Svg(double width, double height, const std::string& title, const std::string& style) {
  svg_ = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + svg_number(width) + " " +
         svg_number(height) + "\" role=\"img\">\n<title>" + escape_markup(title) + "</title>\n<style>\n" +
         kStyle + style + "</style>\n<rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n";
}

void Svg::text(double x, double y, const std::string& classes, const std::string& anchor,
               const std::string& words) {
  svg_ += classed("text", classes) + attribute("x", x) + attribute("y", y) + " text-anchor=\"" + anchor +
          "\">" + escape_markup(words) + "</text>\n";
}

void Svg::line(const std::string& classes, double x1, double y1, double x2, double y2) {
  svg_ += classed("line", classes) + attribute("x1", x1) + attribute("y1", y1) + attribute("x2", x2) +
          attribute("y2", y2) + "/>\n";
}

void Svg::path(const std::string& classes, const std::vector<std::pair<double, double>>& points) {
  svg_ += classed("path", classes) + " d=\"";
  for (std::size_t i = 0; i < points.size(); ++i)
    svg_ += (i == 0 ? "M " : " L ") + svg_number(points[i].first) + " " + svg_number(points[i].second);
  svg_ += "\"/>\n";
}

void Svg::dot(const std::string& classes, double x, double y, double radius, const std::string& hover) {
  svg_ += classed("circle", classes) + attribute("cx", x) + attribute("cy", y) + attribute("r", radius) +
          hovered("circle", hover);
}

void Svg::bar(const std::string& classes, double x, double y, double width, double height,
              const std::string& hover) {
  svg_ += classed("rect", classes) + attribute("x", x) + attribute("y", y) + attribute("width", width) +
          attribute("height", height) + hovered("rect", hover);
}

void Svg::axes(const SvgPanel& panel, const SvgAxis& x, const SvgAxis& y, const std::string& title,
               const std::function<std::string(double)>& label_x,
               const std::function<std::string(double)>& label_y) {
  if (!title.empty()) text(panel.left, panel.top - 10, "", "start", title);
  for (const double value : y.marks) {
    line("grid", panel.left, panel.y(y, value), panel.left + panel.width, panel.y(y, value));
    text(panel.left - 8, panel.y(y, value) + 4, "soft", "end", label_y(value));
  }
  for (const double value : x.marks)
    text(panel.x(x, value), panel.top + panel.height + 18, "soft", "middle", label_x(value));
}

}  // namespace redline
