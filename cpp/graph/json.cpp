#include "graph/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <system_error>

#include "base/error.h"

#if defined(__APPLE__)
#include <xlocale.h>
#endif

namespace taille {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

void append_utf8(std::string& out, uint32_t code) {
  const auto put = [&](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xc0 | code >> 6);
    put(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    put(0xe0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3f));
    put(0x80 | (code & 0x3f));
  } else {
    put(0xf0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3f));
    put(0x80 | (code >> 6 & 0x3f));
    put(0x80 | (code & 0x3f));
  }
}

// The number that is all of the text; infinity where it has too large or too small an exponent. Whatever the locale.
double real_number(const char* first, const char* last) {
#if defined(__cpp_lib_to_chars)
  double real = 0;
  const auto [end, error] = std::from_chars(first, last, real);
  return error == std::errc() && end == last ? real : HUGE_VAL;
#else  // the library of macOS has it for integers alone
  static const locale_t c_locale = newlocale(LC_ALL_MASK, "C", locale_t{});
  const std::string text(first, last);  // it ends with a zero
  char* end = nullptr;
  const double real = strtod_l(text.c_str(), &end, c_locale);
  const bool vanished = real == 0 && text.find_first_of("123456789") < text.find_first_of("eE");
  return end == text.c_str() + text.size() && !vanished ? real : HUGE_VAL;
#endif
}

class JsonParser {
 public:
  JsonParser(std::string_view text, const JsonLimits& limits) : text_(text), limits_(limits) {}

  Json document() {
    if (text_.size() > limits_.bytes) fail(concat("is longer than ", limits_.bytes, " bytes"));
    Json root = value(0);
    skip_space();
    if (at_ != text_.size()) fail("has text after its value");
    return root;
  }

 private:
  std::string_view text_;
  const JsonLimits& limits_;
  size_t at_ = 0;
  size_t values_ = 0;

  [[noreturn]] void fail(const std::string& what) const {
    throw std::invalid_argument(concat("the JSON ", what, " (at byte ", at_, ")"));
  }

  bool done() const { return at_ >= text_.size(); }
  char peek() const { return done() ? '\0' : text_[at_]; }
  bool take(char c) {
    if (done() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  void skip_space() {
    while (!done() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t')) ++at_;
  }

  Json value(int depth) {
    skip_space();
    if (done()) fail("ends too early");
    if (++values_ > limits_.values) fail(concat("has more than ", limits_.values, " values"));
    switch (peek()) {
      case '{':
        return object(depth + 1);
      case '[':
        return array(depth + 1);
      case '"':
        return Json{string()};
      case 't':
        return word("true", Json{true});
      case 'f':
        return word("false", Json{false});
      case 'n':
        return word("null", Json{nullptr});
      default:
        return number();
    }
  }

  Json word(std::string_view spelling, Json meaning) {
    if (text_.substr(at_, spelling.size()) != spelling) fail("has an unknown word");
    at_ += spelling.size();
    return meaning;
  }

  void check_depth(int depth) const {
    if (depth > limits_.depth) fail(concat("is nested deeper than ", limits_.depth));
  }

  Json array(int depth) {
    check_depth(depth);
    ++at_;
    Json::Array items;
    skip_space();
    if (take(']')) return Json{std::move(items)};
    for (;;) {
      items.push_back(value(depth));
      skip_space();
      if (take(']')) return Json{std::move(items)};
      if (!take(',')) fail("wants ',' or ']'");
    }
  }

  Json object(int depth) {
    check_depth(depth);
    ++at_;
    Json::Object members;
    skip_space();
    if (take('}')) return Json{std::move(members)};
    for (;;) {
      skip_space();
      if (peek() != '"') fail("wants a key in quotes");
      std::string key = string();
      skip_space();
      if (!take(':')) fail("wants ':' after a key");
      members.push_back({std::move(key), value(depth)});
      skip_space();
      if (take('}')) break;
      if (!take(',')) fail("wants ',' or '}'");
    }
    std::ranges::sort(members, {}, &JsonMember::key);
    const auto twice = std::ranges::adjacent_find(members, {}, &JsonMember::key);
    if (twice != members.end()) fail(concat("has the key '", printable(twice->key), "' twice in one object"));
    return Json{std::move(members)};
  }

  std::string string() {
    ++at_;
    std::string out;
    for (;;) {
      if (done()) fail("ends inside a string");
      const char c = text_[at_];
      if (c == '"') {
        ++at_;
        return out;
      }
      if (c == '\\') {
        ++at_;
        escape(out);
        continue;
      }
      if (static_cast<unsigned char>(c) < 0x20) fail("has a bare control character in a string");
      const size_t length = utf8_length(text_, at_);
      if (length == 0) fail("has a string that is not UTF-8");
      out.append(text_, at_, length);
      at_ += length;
    }
  }

  void escape(std::string& out) {
    static constexpr std::string_view kLetters = "\"\\/bfnrt";
    static constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
    if (take('u')) {
      append_utf8(out, unicode_escape());
      return;
    }
    const size_t which = done() ? std::string_view::npos : kLetters.find(text_[at_]);
    if (which == std::string_view::npos) fail("has an unknown escape");
    out.push_back(kMeanings[which]);
    ++at_;
  }

  uint32_t unicode_escape() {
    const uint32_t first = hex4();
    if (first < 0xd800 || first > 0xdfff) return first;
    if (first > 0xdbff || !take('\\') || !take('u')) fail("has half a surrogate pair");
    const uint32_t second = hex4();
    if (second < 0xdc00 || second > 0xdfff) fail("has half a surrogate pair");
    return 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
  }

  uint32_t hex4() {
    uint32_t code = 0;
    const char* first = text_.data() + at_;
    const char* last = first + std::min<size_t>(4, text_.size() - at_);
    const auto [end, error] = std::from_chars(first, last, code, 16);
    if (error != std::errc() || end != first + 4) fail("wants four hex digits after \\u");
    at_ += 4;
    return code;
  }

  void digits() {
    if (!is_digit(peek())) fail(done() ? "ends inside a number" : "has something that is no value");
    while (is_digit(peek())) ++at_;
  }

  Json number() {
    const size_t start = at_;
    take('-');
    if (!take('0')) digits();
    bool integral = true;
    if (take('.')) {
      integral = false;
      digits();
    }
    if (peek() == 'e' || peek() == 'E') {
      integral = false;
      ++at_;
      if (!take('+')) take('-');
      digits();
    }
    const char* first = text_.data() + start;
    const char* last = text_.data() + at_;
    if (integral && text_.substr(start, at_ - start) != "-0") {
      int64_t integer = 0;
      if (std::from_chars(first, last, integer).ec == std::errc()) return Json{integer};
    }
    const double real = real_number(first, last);
    if (!std::isfinite(real)) fail("has a number out of range");
    return Json{real};
  }
};

}  // namespace

const Json* Json::find(std::string_view key) const {
  const Object* members = get_if<Object>();
  if (members == nullptr) return nullptr;
  const auto it =
      std::ranges::lower_bound(*members, key, {}, [](const JsonMember& m) { return std::string_view(m.key); });
  return it != members->end() && it->key == key ? &it->value : nullptr;
}

Json parse_json(std::string_view text, const JsonLimits& limits) { return JsonParser(text, limits).document(); }

void JsonWriter::separate() {
  if (comma_) text_.push_back(',');
  comma_ = true;
}

void JsonWriter::begin_object() {
  separate();
  text_.push_back('{');
  comma_ = false;
}

void JsonWriter::end_object() {
  text_.push_back('}');
  comma_ = true;
}

void JsonWriter::begin_array() {
  separate();
  text_.push_back('[');
  comma_ = false;
}

void JsonWriter::end_array() {
  text_.push_back(']');
  comma_ = true;
}

void JsonWriter::key(std::string_view name) {
  separate();
  quote(name);
  text_.push_back(':');
  comma_ = false;
}

void JsonWriter::string(std::string_view text) {
  separate();
  quote(text);
}

void JsonWriter::quote(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  text_.push_back('"');
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_length(text, at);
    check(length != 0, "'", printable(text), "' is not UTF-8");
    const char c = text[at];
    if (c == '"' || c == '\\') {
      text_.push_back('\\');
      text_.push_back(c);
    } else if (static_cast<unsigned char>(c) < 0x20) {
      text_ += "\\u00";
      text_.push_back(kHex[c >> 4]);
      text_.push_back(kHex[c & 15]);
    } else {
      text_.append(text, at, length);
    }
    at += length;
  }
  text_.push_back('"');
}

void JsonWriter::integer(int64_t number) {
  separate();
  text_ += std::to_string(number);
}

void JsonWriter::number(double finite) {
  check(std::isfinite(finite), "JSON has no inf or NaN");
  separate();
  if (finite == 0 && std::signbit(finite)) {
    text_ += "-0.0";  // others read "-0" as the integer 0
    return;
  }
  char digits[32];  // the shortest text of a double has at most 24 characters
  text_.append(digits, std::to_chars(digits, digits + sizeof digits, finite).ptr);
}

void JsonWriter::boolean(bool b) {
  separate();
  text_ += b ? "true" : "false";
}

size_t utf8_length(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0u; };
  const uint32_t lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4) return 0;
  for (size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  const uint32_t second = byte(1);
  // Overlong forms, surrogates and what lies beyond U+10FFFF show in the second byte.
  if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f)) return 0;
  if ((lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f)) return 0;
  return length;
}

std::string printable(std::string_view text, size_t limit) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    if (out.size() >= limit) return out + "...";
    const size_t length = utf8_length(text, at);
    const auto c = static_cast<unsigned char>(text[at]);
    if (length == 0 || c < 0x20 || c == 0x7f)
      out.push_back('?');
    else
      out.append(text, at, length);
    at += std::max<size_t>(length, 1);
  }
  return out;
}

}  // namespace taille
