// taille in C++17: taille.h with owners and exceptions. Header only; link libtaille (CMake: taille::taille).
//
//   taille::Model model("model.safetensors");
//   std::vector<float> pixels(256);
//   std::vector<taille::Tensor> scores = model.run({taille::view(pixels, {1, 256})});
//   const float* first = scores[0].data<float>();
//
// Every failure is a taille::Error (std::bad_alloc where memory ends). A Model may be used from several threads at
// once, all but moving and destroying it. After a move the source is empty, and may only be assigned to or destroyed.
#ifndef TAILLE_HPP
#define TAILLE_HPP

#include <taille/taille.h>

#include <cstring>
#include <initializer_list>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace taille {

class Error : public std::runtime_error {
 public:
  Error(taille_status status, const std::string& what) : std::runtime_error(what), status_(status) {}
  taille_status status() const noexcept { return status_; }

 private:
  taille_status status_;
};

namespace detail {

inline void check(taille_status status) {
  if (status == TAILLE_OUT_OF_MEMORY) throw std::bad_alloc();
  if (status != TAILLE_OK) throw Error(status, taille_last_error());
}

template <class T>
constexpr int32_t dtype_of() {
  using U = std::remove_cv_t<T>;
  if constexpr (std::is_same_v<U, float>) return TAILLE_FLOAT32;
  if constexpr (std::is_same_v<U, uint8_t>) return TAILLE_UINT8;
  if constexpr (std::is_same_v<U, int8_t>) return TAILLE_INT8;
  if constexpr (std::is_same_v<U, int32_t>) return TAILLE_INT32;
  // On some systems `long long` is not int64_t, and is the same all the same.
  if constexpr (std::is_integral_v<U> && std::is_signed_v<U> && sizeof(U) == 8) return TAILLE_INT64;
  if constexpr (std::is_same_v<U, bool>) return TAILLE_BOOL;
  return 0;
}

}  // namespace detail

inline const char* version() noexcept { return taille_version(); }

// One input or output of a model.
struct TensorInfo {
  std::string name;
  int32_t dtype;                       // taille_dtype
  std::vector<int64_t> dims;           // a size, or TAILLE_DYNAMIC
  std::vector<std::string> dim_names;  // "3", "batch", "12*sequence"
};

// Memory of the caller's, as an input or for an output. Row-major, without gaps.
class View {
 public:
  // Throws Error (TAILLE_INVALID_ARGUMENT) on more than TAILLE_MAX_RANK dims.
  View(void* data, size_t bytes, int32_t dtype, const std::vector<int64_t>& dims) : tensor_{} {
    if (dims.size() > TAILLE_MAX_RANK)
      throw Error(TAILLE_INVALID_ARGUMENT,
                  "a tensor has at most 8 dimensions; " + std::to_string(dims.size()) + " were given");
    tensor_.data = data;
    tensor_.bytes = bytes;
    tensor_.dtype = dtype;
    tensor_.rank = static_cast<int32_t>(dims.size());
    for (size_t i = 0; i < dims.size(); ++i) tensor_.dims[i] = dims[i];
  }
  const taille_tensor& c() const noexcept { return tensor_; }

 private:
  taille_tensor tensor_;
};

// `count` elements from `data` on, as an array of these dims. What is const stays unchanged as an input.
template <class T>
View view(T* data, size_t count, const std::vector<int64_t>& dims) {
  static_assert(detail::dtype_of<T>() != 0, "taille takes float, (u)int8_t, int32_t, int64_t and bool");
  return View(const_cast<std::remove_cv_t<T>*>(data), count * sizeof(T), detail::dtype_of<T>(), dims);
}
template <class T>
View view(const std::vector<T>& data, const std::vector<int64_t>& dims) {
  return view(data.data(), data.size(), dims);
}

// An array with memory of its own.
class Tensor {
 public:
  Tensor() = default;

  int32_t dtype() const noexcept { return tensor_.dtype; }
  std::vector<int64_t> dims() const { return {tensor_.dims, tensor_.dims + tensor_.rank}; }
  size_t bytes() const noexcept { return tensor_.bytes; }
  // Throws Error (TAILLE_INVALID_ARGUMENT) where the elements are of another type.
  template <class T>
  const T* data() const {
    if (detail::dtype_of<T>() != tensor_.dtype)
      throw Error(TAILLE_INVALID_ARGUMENT, "the tensor has elements of another type");
    return reinterpret_cast<const T*>(memory_.get());
  }
  template <class T>
  T* data() {
    return const_cast<T*>(std::as_const(*this).data<T>());
  }
  template <class T>
  size_t size() const noexcept {
    return tensor_.bytes / sizeof(T);
  }
  // Of its memory; valid while the tensor lives.
  View view() const { return View(memory_.get(), tensor_.bytes, tensor_.dtype, dims()); }

 private:
  friend class Model;
  struct Free {
    void operator()(unsigned char* memory) const { ::operator delete(memory, std::align_val_t(64)); }
  };

  explicit Tensor(const taille_tensor& shape)
      : tensor_(shape),
        memory_(static_cast<unsigned char*>(::operator new(shape.bytes > 0 ? shape.bytes : 1, std::align_val_t(64)))) {
    tensor_.data = memory_.get();
  }

  taille_tensor tensor_{};
  std::unique_ptr<unsigned char, Free> memory_;
};

class Model {
 public:
  // threads = 0: all that this process was granted.
  explicit Model(const std::string& path, int threads = 0) {
    taille_model* opened = nullptr;
    detail::check(taille_model_open(path.c_str(), threads, &opened));
    handle_.reset(opened);
    size_t inputs = 0, outputs = 0;
    detail::check(taille_model_counts(opened, &inputs, &outputs));
    for (size_t i = 0; i < inputs; ++i) inputs_.push_back(described(taille_model_input, i));
    for (size_t i = 0; i < outputs; ++i) outputs_.push_back(described(taille_model_output, i));
  }

  const std::vector<TensorInfo>& inputs() const noexcept { return inputs_; }
  const std::vector<TensorInfo>& outputs() const noexcept { return outputs_; }
  int threads() const {
    int32_t count = 0;
    detail::check(taille_model_threads(handle_.get(), &count));
    return count;
  }

  // Inputs in the model's order; the outputs in the model's order, in memory of their own.
  std::vector<Tensor> run(const std::vector<View>& inputs) const {
    const std::vector<taille_tensor> in = tensors(inputs);
    std::vector<taille_tensor> out(outputs_.size(), taille_tensor{});
    detail::check(taille_model_infer(handle_.get(), in.data(), in.size(), out.data(), out.size()));
    std::vector<Tensor> results;
    results.reserve(out.size());
    for (taille_tensor& one : out) {
      results.push_back(Tensor(one));
      one = results.back().tensor_;
    }
    detail::check(taille_model_run(handle_.get(), in.data(), in.size(), out.data(), out.size()));
    return results;
  }

  // Into memory of the caller's, whose dims are not looked at: it need only be large enough.
  void run(const std::vector<View>& inputs, const std::vector<View>& outputs) const {
    const std::vector<taille_tensor> in = tensors(inputs);
    std::vector<taille_tensor> out = tensors(outputs);
    detail::check(taille_model_run(handle_.get(), in.data(), in.size(), out.data(), out.size()));
  }

  // Answers are kept and copied where the same inputs come again; bytes = 0: no longer. See taille_model_set_cache.
  void set_cache(int64_t bytes, double ttl_seconds = 3600) const {
    detail::check(taille_model_set_cache(handle_.get(), bytes, ttl_seconds));
  }
  taille_cache_stats cache_stats() const {
    taille_cache_stats stats{};
    detail::check(taille_model_get_cache_stats(handle_.get(), &stats));
    return stats;
  }

  // Gives back all memory but the weights, and ends the model's threads. The model can be run again.
  void release() const { detail::check(taille_model_release(handle_.get())); }

  taille_model* c() const noexcept { return handle_.get(); }

 private:
  struct Close {
    void operator()(taille_model* model) const { taille_model_close(model); }
  };

  std::unique_ptr<taille_model, Close> handle_;
  std::vector<TensorInfo> inputs_, outputs_;

  TensorInfo described(taille_status (*describe)(const taille_model*, size_t, taille_tensor_info*), size_t at) const {
    taille_tensor_info info{};
    detail::check(describe(handle_.get(), at, &info));
    TensorInfo out{info.name, info.dtype, {info.dims, info.dims + info.rank}, {}};
    for (int32_t i = 0; i < info.rank; ++i) out.dim_names.emplace_back(info.dim_names[i]);
    return out;
  }

  static std::vector<taille_tensor> tensors(const std::vector<View>& views) {
    std::vector<taille_tensor> out;
    out.reserve(views.size());
    for (const View& one : views) out.push_back(one.c());
    return out;
  }
};

}  // namespace taille

#endif
