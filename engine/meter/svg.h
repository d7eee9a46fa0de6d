// A picture as SVG text: axes, lines, marks and words, for light and dark pages.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace redline {

/// A number with five significant digits at most, as SVG and labels take it.
std::string svg_number(double value);
/// With the characters that XML and HTML reserve replaced.
std::string escape_markup(const std::string& text);

/// An axis' ends and its marks. `at` says where on it a value lies, 0 to 1.
struct SvgAxis {
  double begin = 0, end = 1;
  bool logarithmic = false;
  std::vector<double> marks;

  /// From 0, with four to eight steps of 1, 2 or 5 times a power of ten.
  static SvgAxis linear(double largest);
  /// Over whole powers of ten; requires 0 < smallest <= largest.
  static SvgAxis log(double smallest, double largest);
  double at(double value) const;
};

/// The rectangle of a panel in the picture.
struct SvgPanel {
  double left = 0, top = 0, width = 0, height = 0;

  double x(const SvgAxis& axis, double value) const { return left + width * axis.at(value); }
  double y(const SvgAxis& axis, double value) const { return top + height * (1 - axis.at(value)); }
};

class Svg {
 public:
  /// `title` is what a screen reader says. `style`: rules added to the common ones; colours are var(--red),
  /// --blue,
  /// --green, --amber, --violet, --ink, --soft, --grid, --paper.
  Svg(double width, double height, const std::string& title, const std::string& style = "");

  void text(double x, double y, const std::string& classes, const std::string& anchor,
            const std::string& words);
  void line(const std::string& classes, double x1, double y1, double x2, double y2);
  void path(const std::string& classes, const std::vector<std::pair<double, double>>& points);
  /// `hover`: shown where the mouse rests.
  void dot(const std::string& classes, double x, double y, double radius, const std::string& hover);
  void bar(const std::string& classes, double x, double y, double width, double height,
           const std::string& hover);
  /// Horizontal grid lines with their values on the left, values below, and the panel's title above.
  void axes(const SvgPanel& panel, const SvgAxis& x, const SvgAxis& y, const std::string& title,
            const std::function<std::string(double)>& label_x = svg_number,
            const std::function<std::string(double)>& label_y = svg_number);
  /// The whole picture.
  std::string finish() const { return svg_ + "</svg>\n"; }

 private:
  std::string svg_;
};

}  // namespace redline
