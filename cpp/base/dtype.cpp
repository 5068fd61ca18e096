#include "base/dtype.h"

#include "base/error.h"

namespace taille {

DType dtype_from_name(std::string_view name) {
  for (DType t : {DType::f32, DType::u8, DType::s8, DType::s32, DType::s64, DType::boolean, DType::f16, DType::bf16})
    if (name_of(t) == name) return t;
  throw TypeError(concat("dtype '", name,
                         "' is not supported; wanted one of float32, uint8, int8, int32, int64, bool (and for weights "
                         "float16, bfloat16)"));
}

}  // namespace taille
