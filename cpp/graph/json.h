// JSON for the artefact: a strict, bounded reader (RFC 8259) and a writer that gives every double back bit for bit.
//
// The reader is for text from anywhere. It refuses what others let pass: duplicate keys, lone surrogates, bad UTF-8,
// numbers outside the range of double, anything after the value. Depth and count of values are bounded, so neither the
// stack nor the memory depends on the text: at most about 100 bytes are held for each value.
// The writer knows no inf or NaN, as JSON does not; who has such numbers spells them as strings.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace taille {

struct JsonMember;

struct Json {
  using Array = std::vector<Json>;
  using Object = std::vector<JsonMember>;  // sorted by key; keys are unique

  // Null where nothing is said. A number is int64_t where it is written as an integer that fits ("-0" is the double it
  // says), else double. (No initialiser: it would need JsonMember to be complete here.)
  std::variant<std::nullptr_t, bool, int64_t, double, std::string, Array, Object> value;

  template <class T>
  const T* get_if() const {
    return std::get_if<T>(&value);
  }
  // The member of that key; null where there is none or this is no object.
  const Json* find(std::string_view key) const;
};

struct JsonMember {
  std::string key;
  Json value;
};

struct JsonLimits {
  size_t bytes = size_t{64} << 20;
  size_t values = size_t{2} << 20;
  int depth = 32;
};

// Throws std::invalid_argument with what is wrong and at which byte.
Json parse_json(std::string_view text, const JsonLimits& limits = {});

class JsonWriter {
 public:
  void begin_object();
  void end_object();
  void begin_array();
  void end_array();
  void key(std::string_view name);
  void string(std::string_view text);  // throws std::invalid_argument unless it is UTF-8
  void integer(int64_t number);
  void number(double finite);
  void boolean(bool b);

  const std::string& text() const { return text_; }

 private:
  std::string text_;
  bool comma_ = false;  // whether what comes next needs one before it

  void separate();
  void quote(std::string_view text);
};

// The length of the UTF-8 character that starts at `at` (< text.size()), or 0 where there is no valid one.
size_t utf8_length(std::string_view text, size_t at);

// The text made safe for a message: control characters and bytes that are not UTF-8 become '?', a long one is cut.
std::string printable(std::string_view text, size_t limit = 80);

}  // namespace taille
