// A tensor dimension: an integer polynomial over named symbols ("batch", "sequence"), and floor quotients of such.
//   text:  "8", "batch", "12*sequence", "batch*sequence + 1", "floor((height + 1)/2)"
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace taille {

using SymbolValues = std::map<std::string, int64_t, std::less<>>;

class Dim {
 public:
  Dim(int64_t constant = 0);  // NOLINT: an integer is a dimension
  static Dim symbol(std::string name);
  // Throws std::invalid_argument where `text` is not of the grammar above (length, nesting and size are bounded).
  static Dim parse(std::string_view text);
  static Dim floor_div(const Dim& numerator, int64_t divisor);

  bool is_constant() const;
  int64_t constant() const;  // only where is_constant()
  Dim operator+(const Dim& o) const;
  Dim operator-(const Dim& o) const;
  Dim operator*(const Dim& o) const;
  bool operator==(const Dim& o) const { return terms_ == o.terms_; }
  // The quotient where division leaves no remainder for every value of the symbols, as far as is known.
  std::optional<Dim> exact_quotient(const Dim& divisor) const;

  // Throws std::invalid_argument on an unbound symbol or overflow.
  int64_t evaluate(const SymbolValues& values) const;
  // The symbols it depends on, those inside floor quotients included.
  std::vector<std::string> symbols() const;
  std::string text() const;

 private:
  struct FloorDiv;
  // A product of atoms (sorted names; a floor quotient is named by its text) -> coefficient. No zero coefficients.
  std::map<std::vector<std::string>, int64_t> terms_;
  std::map<std::string, std::shared_ptr<const FloorDiv>> quotients_;

  void add_term(const std::vector<std::string>& atoms, int64_t coefficient);
  void adopt(const Dim& o);
};

using Shape = std::vector<Dim>;

Dim element_count(const Shape& shape);
std::string text_of(const Shape& shape);  // "[batch, 3, 32, 32]"
std::vector<int64_t> evaluate(const Shape& shape, const SymbolValues& values);

}  // namespace taille
