// taille in C++17: taille.h with owners and exceptions. Header only; link libtaille (CMake: taille::taille).
//
//   taille::Model model("model.safetensors");
//   std::vector<float> pixels(256);
//   std::vector<taille::Tensor> scores = model.run({taille::view(pixels, {1, 256})});
//   const float* first = scores[0].data<float>();
//
//   taille::Runner runner(model);  // many requests in flight
//   std::future<std::vector<taille::Tensor>> later = runner.submit({taille::view(pixels, {1, 256})});
//
// Every failure is a taille::Error (std::bad_alloc where memory ends). A Model or Runner may be used from several
// threads at once, all but moving and destroying it. After a move the source is empty, and may only be assigned to or
// destroyed.
#ifndef TAILLE_HPP
#define TAILLE_HPP

#include <taille/taille.h>

#include <cstring>
#include <exception>
#include <future>
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

inline void check(taille_status status, const char* what) {
  if (status == TAILLE_OUT_OF_MEMORY) throw std::bad_alloc();
  if (status != TAILLE_OK) throw Error(status, what);
}
inline void check(taille_status status) {
  if (status != TAILLE_OK) check(status, taille_last_error());
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

// Of a callable that may be none: a std::function, a pointer.
template <class F>
bool is_empty(const F& f) {
  constexpr bool says = std::is_constructible_v<bool, const F&> && !std::is_convertible_v<const F&, bool>;
  if constexpr (says || std::is_pointer_v<F>) return !f;
  return false;
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
  friend class Runner;
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
    handle_ = std::shared_ptr<taille_model>(opened, taille_model_close);
    size_t inputs = 0, outputs = 0;
    detail::check(taille_model_counts(opened, &inputs, &outputs));
    for (size_t i = 0; i < inputs; ++i) inputs_.push_back(described(taille_model_input, i));
    for (size_t i = 0; i < outputs; ++i) outputs_.push_back(described(taille_model_output, i));
  }

  Model(Model&&) = default;
  Model& operator=(Model&&) = default;

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
    std::vector<Tensor> results = room_for(handle_.get(), outputs_.size(), in);
    std::vector<taille_tensor> out = tensors(results);
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
  friend class Runner;

  std::shared_ptr<taille_model> handle_;  // with the runners of the model
  std::vector<TensorInfo> inputs_, outputs_;

  TensorInfo described(taille_status (*describe)(const taille_model*, size_t, taille_tensor_info*), size_t at) const {
    taille_tensor_info info{};
    detail::check(describe(handle_.get(), at, &info));
    TensorInfo out{info.name, info.dtype, {info.dims, info.dims + info.rank}, {}};
    for (int32_t i = 0; i < info.rank; ++i) out.dim_names.emplace_back(info.dim_names[i]);
    return out;
  }

  // Memory for what a model of that many outputs gives for such inputs.
  static std::vector<Tensor> room_for(const taille_model* model, size_t count, const std::vector<taille_tensor>& in) {
    std::vector<taille_tensor> out(count, taille_tensor{});
    detail::check(taille_model_infer(model, in.data(), in.size(), out.data(), out.size()));
    std::vector<Tensor> results;
    results.reserve(out.size());
    for (const taille_tensor& one : out) results.push_back(Tensor(one));
    return results;
  }

  static std::vector<taille_tensor> tensors(const std::vector<View>& views) {
    std::vector<taille_tensor> out;
    out.reserve(views.size());
    for (const View& one : views) out.push_back(one.c());
    return out;
  }
  static std::vector<taille_tensor> tensors(const std::vector<Tensor>& owners) {
    std::vector<taille_tensor> out;
    out.reserve(owners.size());
    for (const Tensor& one : owners) out.push_back(one.tensor_);
    return out;
  }
};

// Runs the requests of many threads together; see "Requests in flight" in taille.h. What it is destroyed with, it
// cancels (Error, TAILLE_CANCELLED) unless it runs already. It may outlive its Model, but not be drained, closed or
// destroyed by a callback.
class Runner {
 public:
  using Outputs = std::vector<Tensor>;

  // As `taille tune` found best for this CPU, where the artefact says so; see taille_runner_defaults.
  static taille_runner_options defaults(const Model& model) {
    taille_runner_options options{};
    detail::check(taille_runner_defaults(model.c(), &options));
    return options;
  }

  explicit Runner(const Model& model) : Runner(model, defaults(model)) {}
  Runner(const Model& model, const taille_runner_options& options)
      : model_(model.handle_), output_count_(model.outputs_.size()) {
    taille_runner* opened = nullptr;
    detail::check(taille_runner_open(model.c(), &options, &opened));
    handle_.reset(opened);
  }

  // Queues a request and returns its number at once. `done`, a callable, is moved here and called once, with the
  // outputs or with what run() would throw, by whom taille_done is; it must not throw. What the views show must stay
  // until then. Where this throws (Error: TAILLE_QUEUE_FULL, TAILLE_DEADLINE, ...), `done` is not called.
  template <class Done, class = std::enable_if_t<std::is_invocable_v<Done&, std::exception_ptr, Outputs>>>
  uint64_t submit(const std::vector<View>& inputs, Done done, double deadline = 0, int32_t priority = 0) const {
    if (detail::is_empty(done)) throw Error(TAILLE_INVALID_ARGUMENT, "done is empty");
    const std::vector<taille_tensor> in = Model::tensors(inputs);
    auto kept = std::make_unique<Done>(std::move(done));
    uint64_t request = 0;
    detail::check(taille_runner_submit(handle_.get(), in.data(), in.size(), deadline, priority, &finish<Done>,
                                       kept.get(), &request));
    static_cast<void>(kept.release());  // finish() has it
    return request;
  }

  // The same, with a future. `request`, where given, gets the number.
  std::future<Outputs> submit(const std::vector<View>& inputs, double deadline = 0, int32_t priority = 0,
                              uint64_t* request = nullptr) const {
    std::promise<Outputs> promise;
    std::future<Outputs> future = promise.get_future();
    auto settle = [promise = std::move(promise)](std::exception_ptr error, Outputs outputs) mutable {
      error ? promise.set_exception(std::move(error)) : promise.set_value(std::move(outputs));
    };
    const uint64_t number = submit(inputs, std::move(settle), deadline, priority);
    if (request != nullptr) *request = number;
    return future;
  }

  // Submits and waits, as Model::run; this thread runs the batch where it can.
  Outputs run(const std::vector<View>& inputs, double deadline = 0, int32_t priority = 0) const {
    const std::vector<taille_tensor> in = Model::tensors(inputs);
    Outputs results = Model::room_for(model_.get(), output_count_, in);
    std::vector<taille_tensor> out = Model::tensors(results);
    detail::check(taille_runner_run(handle_.get(), in.data(), in.size(), deadline, priority, out.data(), out.size()));
    return results;
  }

  // False where the request has begun, is done, or never was.
  bool cancel(uint64_t request) const {
    int32_t cancelled = 0;
    detail::check(taille_runner_cancel(handle_.get(), request, &cancelled));
    return cancelled != 0;
  }

  // Refuses new requests and waits for all others; Error (TAILLE_DEADLINE) after that many seconds (below 0: never).
  void drain(double seconds = -1) const { detail::check(taille_runner_drain(handle_.get(), seconds)); }

  // Drains, cancels what still waits after that many seconds, and ends the threads.
  void close(double seconds = -1) {
    detail::check(taille_runner_close(handle_.get(), seconds));
    static_cast<void>(handle_.release());
  }

  taille_runner_stats stats() const {
    taille_runner_stats stats{};
    detail::check(taille_runner_get_stats(handle_.get(), &stats));
    return stats;
  }

  taille_runner* c() const noexcept { return handle_.get(); }

 private:
  struct Close {
    void operator()(taille_runner* runner) const { taille_runner_close(runner, 0); }
  };

  std::shared_ptr<taille_model> model_;
  size_t output_count_;
  std::unique_ptr<taille_runner, Close> handle_;

  template <class Done>
  static void finish(void* user_data, taille_status status, const taille_tensor* outputs, size_t output_count,
                     const char* error) noexcept {
    const std::unique_ptr<Done> done(static_cast<Done*>(user_data));
    Outputs results;
    std::exception_ptr failure;
    try {
      detail::check(status, error);
      results.reserve(output_count);
      for (size_t i = 0; i < output_count; ++i) {
        results.push_back(Tensor(outputs[i]));
        std::memcpy(results.back().memory_.get(), outputs[i].data, outputs[i].bytes);
      }
    } catch (...) {
      failure = std::current_exception();
      results.clear();
    }
    (*done)(std::move(failure), std::move(results));
  }
};

}  // namespace taille

#endif
