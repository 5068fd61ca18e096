#include "graph/dim.h"

#include <algorithm>
#include <cctype>

#include "base/error.h"

namespace taille {

struct Dim::FloorDiv {
  Dim numerator;
  int64_t divisor;
};

namespace {

constexpr size_t kMaxText = 4096;
constexpr int kMaxNesting = 32;
constexpr size_t kMaxTerms = 64;

int64_t add(int64_t a, int64_t b) {
  int64_t r = 0;
  check(!__builtin_add_overflow(a, b, &r), "dimension overflows 64 bits");
  return r;
}

int64_t mul(int64_t a, int64_t b) {
  int64_t r = 0;
  check(!__builtin_mul_overflow(a, b, &r), "dimension overflows 64 bits");
  return r;
}

int64_t floor_quotient(int64_t a, int64_t b) { return a / b - ((a % b != 0) && ((a < 0) != (b < 0)) ? 1 : 0); }

// Recursive descent over: sum := product (('+'|'-') product)*; product := factor ('*' factor)*;
// factor := integer | name | '(' sum ')' | 'floor(' '(' sum ')' '/' integer ')' | '-' factor
class DimParser {
 public:
  explicit DimParser(std::string_view text) : text_(text) {
    check(text.size() <= kMaxText, "dimension text is longer than ", kMaxText, " characters");
  }

  Dim parse() {
    Dim d = sum();
    skip();
    if (at_ != text_.size()) fail("unexpected text");
    return d;
  }

 private:
  std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;

  [[noreturn]] void fail(const char* what) const {
    throw std::invalid_argument(concat("dimension '", text_, "': ", what, " at character ", at_));
  }
  void skip() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }
  bool take(char c) {
    skip();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void want(char c) {
    if (!take(c)) fail("malformed expression");
  }

  Dim sum() {
    if (++depth_ > kMaxNesting) fail("nested too deeply");
    Dim left = product();
    for (;;) {
      if (take('+'))
        left = left + product();
      else if (take('-'))
        left = left - product();
      else
        break;
    }
    --depth_;
    return left;
  }

  Dim product() {
    Dim left = factor();
    while (take('*')) left = left * factor();
    return left;
  }

  Dim factor() {
    if (++depth_ > kMaxNesting) fail("nested too deeply");
    Dim result = atom();
    --depth_;
    return result;
  }

  Dim atom() {
    skip();
    if (at_ >= text_.size()) fail("expression ends early");
    if (take('-')) return Dim(0) - factor();
    if (take('(')) {
      Dim inner = sum();
      want(')');
      return inner;
    }
    if (std::isdigit(static_cast<unsigned char>(text_[at_]))) return Dim(integer());
    return name_or_floor();
  }

  int64_t integer() {
    skip();
    if (at_ >= text_.size() || !std::isdigit(static_cast<unsigned char>(text_[at_]))) fail("wanted an integer");
    int64_t value = 0;
    while (at_ < text_.size() && std::isdigit(static_cast<unsigned char>(text_[at_])))
      value = add(mul(value, 10), text_[at_++] - '0');
    return value;
  }

  Dim name_or_floor() {
    const size_t begin = at_;
    while (at_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[at_])) || text_[at_] == '_')) ++at_;
    if (at_ == begin) fail("wanted a name, an integer or '('");
    std::string name(text_.substr(begin, at_ - begin));
    if (name != "floor") return Dim::symbol(std::move(name));
    want('(');
    want('(');
    Dim numerator = sum();
    want(')');
    want('/');
    const int64_t divisor = integer();
    want(')');
    if (divisor < 1) fail("the divisor must be at least 1");
    return Dim::floor_div(numerator, divisor);
  }
};

}  // namespace

Dim::Dim(int64_t constant) {
  if (constant != 0) terms_[{}] = constant;
}

Dim Dim::symbol(std::string name) {
  Dim d;
  d.terms_[{std::move(name)}] = 1;
  return d;
}

Dim Dim::parse(std::string_view text) { return DimParser(text).parse(); }

Dim Dim::floor_div(const Dim& numerator, int64_t divisor) {
  check(divisor >= 1, "floor quotient: the divisor must be at least 1, got ", divisor);
  if (auto exact = numerator.exact_quotient(Dim(divisor))) return *exact;
  if (numerator.is_constant()) return Dim(floor_quotient(numerator.constant(), divisor));
  std::string name = concat("floor((", numerator.text(), ")/", divisor, ")");
  Dim d;
  d.terms_[{name}] = 1;
  d.quotients_[name] = std::make_shared<const FloorDiv>(FloorDiv{numerator, divisor});
  return d;
}

bool Dim::is_constant() const { return terms_.empty() || (terms_.size() == 1 && terms_.begin()->first.empty()); }

int64_t Dim::constant() const { return terms_.empty() ? 0 : terms_.begin()->second; }

void Dim::add_term(const std::vector<std::string>& atoms, int64_t coefficient) {
  int64_t& sum = terms_[atoms];
  sum = add(sum, coefficient);
  if (sum == 0) terms_.erase(atoms);
  check(terms_.size() <= kMaxTerms, "dimension has more than ", kMaxTerms, " terms");
}

void Dim::adopt(const Dim& o) { quotients_.insert(o.quotients_.begin(), o.quotients_.end()); }

Dim Dim::operator+(const Dim& o) const {
  Dim r = *this;
  r.adopt(o);
  for (const auto& [atoms, c] : o.terms_) r.add_term(atoms, c);
  return r;
}

Dim Dim::operator-(const Dim& o) const { return *this + o * Dim(-1); }

Dim Dim::operator*(const Dim& o) const {
  Dim r;
  r.adopt(*this);
  r.adopt(o);
  for (const auto& [a, ca] : terms_)
    for (const auto& [b, cb] : o.terms_) {
      std::vector<std::string> atoms = a;
      atoms.insert(atoms.end(), b.begin(), b.end());
      check(atoms.size() <= kMaxTerms, "dimension has too high a degree");
      std::sort(atoms.begin(), atoms.end());
      r.add_term(atoms, mul(ca, cb));
    }
  return r;
}

std::optional<Dim> Dim::exact_quotient(const Dim& divisor) const {
  if (divisor.terms_.empty()) return {};
  if (terms_.empty()) return Dim(0);
  if (divisor.terms_.size() > 1) return *this == divisor ? std::optional<Dim>(Dim(1)) : std::nullopt;
  const auto& [d_atoms, d] = *divisor.terms_.begin();
  Dim r;
  r.adopt(*this);
  for (const auto& [atoms, c] : terms_) {
    if (c % d != 0) return {};
    std::vector<std::string> rest;
    std::set_difference(atoms.begin(), atoms.end(), d_atoms.begin(), d_atoms.end(), std::back_inserter(rest));
    if (rest.size() + d_atoms.size() != atoms.size()) return {};
    r.add_term(rest, c / d);
  }
  return r;
}

int64_t Dim::evaluate(const SymbolValues& values) const {
  int64_t sum = 0;
  for (const auto& [atoms, c] : terms_) {
    int64_t product = c;
    for (const std::string& atom : atoms) {
      if (auto q = quotients_.find(atom); q != quotients_.end()) {
        product = mul(product, floor_quotient(q->second->numerator.evaluate(values), q->second->divisor));
        continue;
      }
      auto v = values.find(atom);
      check(v != values.end(), "dimension symbol '", atom, "' has no value");
      product = mul(product, v->second);
    }
    sum = add(sum, product);
  }
  return sum;
}

std::vector<std::string> Dim::symbols() const {
  std::vector<std::string> out;
  auto push = [&](const std::string& s) {
    if (std::find(out.begin(), out.end(), s) == out.end()) out.push_back(s);
  };
  for (const auto& [atoms, c] : terms_)
    for (const std::string& atom : atoms) {
      auto q = quotients_.find(atom);
      if (q == quotients_.end()) {
        push(atom);
        continue;
      }
      for (const std::string& s : q->second->numerator.symbols()) push(s);
    }
  return out;
}

std::string Dim::text() const {
  if (terms_.empty()) return "0";
  std::string out;
  // Highest degree first, the constant last: "batch*sequence + 1".
  for (auto it = terms_.rbegin(); it != terms_.rend(); ++it) {
    const auto& [atoms, c] = *it;
    const bool negative = c < 0;
    if (!out.empty())
      out += negative ? " - " : " + ";
    else if (negative)
      out += "-";
    const std::string magnitude = negative ? std::to_string(c).substr(1) : std::to_string(c);
    std::string factors = atoms.empty() || magnitude != "1" ? magnitude : "";
    for (const std::string& atom : atoms) factors += (factors.empty() ? "" : "*") + atom;
    out += factors;
  }
  return out;
}

Dim element_count(const Shape& shape) {
  Dim n(1);
  for (const Dim& d : shape) n = n * d;
  return n;
}

std::string text_of(const Shape& shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + shape[i].text();
  return out + "]";
}

std::vector<int64_t> evaluate(const Shape& shape, const SymbolValues& values) {
  std::vector<int64_t> out;
  out.reserve(shape.size());
  for (const Dim& d : shape) out.push_back(d.evaluate(values));
  return out;
}

}  // namespace taille
