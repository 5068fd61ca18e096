// Element types of tensors. The names are those users see (numpy's).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace taille {

// f16 and bf16 hold weights only (base/half.h); everything is computed in f32.
enum class DType : uint8_t { f32, u8, s8, s32, s64, boolean, f16, bf16 };

constexpr bool is_half(DType t) { return t == DType::f16 || t == DType::bf16; }

constexpr size_t size_of(DType t) {
  switch (t) {
    case DType::f32:
    case DType::s32:
      return 4;
    case DType::s64:
      return 8;
    case DType::f16:
    case DType::bf16:
      return 2;
    case DType::u8:
    case DType::s8:
    case DType::boolean:
      return 1;
  }
  return 0;
}

constexpr std::string_view name_of(DType t) {
  switch (t) {
    case DType::f32:
      return "float32";
    case DType::u8:
      return "uint8";
    case DType::s8:
      return "int8";
    case DType::s32:
      return "int32";
    case DType::s64:
      return "int64";
    case DType::boolean:
      return "bool";
    case DType::f16:
      return "float16";
    case DType::bf16:
      return "bfloat16";
  }
  return "?";
}

// The dtype of that name; throws TypeError naming it otherwise.
DType dtype_from_name(std::string_view name);

}  // namespace taille
