// The functions of taille.h that open, describe and run models: check, call the runtime, give a status.
#include <utility>

#include "runtime/c_api_model.h"
#include "runtime/response_cache.h"

using namespace taille;
using namespace taille::c_api;

namespace {

constexpr int32_t kMaxThreads = 1024;

std::shared_ptr<OpenModel> model_of(const taille_model* model) { return open_models().get(model, "model"); }

void describe_into(const std::vector<Described>& all, const char* what, size_t index, taille_tensor_info* info) {
  check(info != nullptr, "info is NULL");
  check(index < all.size(), "the model has ", all.size(), " ", what, "; index is ", index);
  const Described& one = all[index];
  taille_tensor_info out{};
  out.name = one.name.c_str();
  out.dtype = code_of(one.dtype);
  out.rank = static_cast<int32_t>(one.dims.size());
  for (size_t d = 0; d < one.dims.size(); ++d) {
    out.dims[d] = one.dims[d];
    out.dim_names[d] = one.texts[d].c_str();
  }
  *info = out;
}

}  // namespace

taille_status taille_model_open(const char* path, int32_t threads, taille_model** model) {
  if (model != nullptr) *model = nullptr;
  return guarded("taille_model_open", [&] {
    check(model != nullptr, "model is NULL");
    check(path != nullptr, "path is NULL");
    check(threads >= 0 && threads <= kMaxThreads, "threads is ", threads, "; wanted 1 to ", kMaxThreads,
          ", or 0 for all that are granted");
    *model = reinterpret_cast<taille_model*>(open_models().add(std::make_shared<OpenModel>(path, threads)));
  });
}

taille_status taille_model_close(taille_model* model) {
  return guarded("taille_model_close", [&] {
    if (model != nullptr) open_models().remove(model, "model");
  });
}

taille_status taille_model_counts(const taille_model* model, size_t* inputs, size_t* outputs) {
  return guarded("taille_model_counts", [&] {
    const auto open = model_of(model);
    check(inputs != nullptr && outputs != nullptr, inputs ? "outputs" : "inputs", " is NULL");
    *inputs = open->inputs.size();
    *outputs = open->outputs.size();
  });
}

taille_status taille_model_input(const taille_model* model, size_t index, taille_tensor_info* info) {
  return guarded("taille_model_input", [&] { describe_into(model_of(model)->inputs, "inputs", index, info); });
}

taille_status taille_model_output(const taille_model* model, size_t index, taille_tensor_info* info) {
  return guarded("taille_model_output", [&] { describe_into(model_of(model)->outputs, "outputs", index, info); });
}

taille_status taille_model_threads(const taille_model* model, int32_t* threads) {
  return guarded("taille_model_threads", [&] {
    const auto open = model_of(model);
    check(threads != nullptr, "threads is NULL");
    *threads = open->model->threads();
  });
}

taille_status taille_model_infer(const taille_model* model, const taille_tensor* inputs, size_t input_count,
                                 taille_tensor* outputs, size_t output_count) {
  return guarded("taille_model_infer", [&] {
    const auto open = model_of(model);
    const auto plan = open->model->plan_for(open->arrays(inputs, input_count, false));
    check(output_count == open->outputs.size(), "the model has ", open->outputs.size(), " outputs; ", output_count,
          " were given");
    check(outputs != nullptr || output_count == 0, "outputs is NULL");
    copy_shapes(open->shapes(*plan), outputs, true);
  });
}

taille_status taille_model_run(taille_model* model, const taille_tensor* inputs, size_t input_count,
                               taille_tensor* outputs, size_t output_count) {
  return guarded("taille_model_run", [&] {
    const auto open = model_of(model);
    const std::vector<InputArray> arrays = open->arrays(inputs, input_count, true);
    const auto plan = open->model->plan_for(arrays);
    const std::vector<taille_tensor> shapes = open->shapes(*plan);
    open->check_outputs(arrays, shapes, outputs, output_count);
    std::vector<void*> to;
    for (size_t i = 0; i < output_count; ++i) to.push_back(outputs[i].data);
    open->model->answer(*plan, arrays, to);
    copy_shapes(shapes, outputs, false);
  });
}

taille_status taille_model_set_cache(taille_model* model, int64_t bytes, double ttl) {
  return guarded("taille_model_set_cache", [&] {
    const auto open = model_of(model);
    check(bytes >= 0, "bytes is ", bytes, "; wanted at least 1, or 0 for no cache");
    open->model->set_cache(
        bytes > 0 ? std::make_shared<ResponseCache>(ResponseCache::Options{bytes, ttl_nanoseconds(ttl)}) : nullptr);
  });
}

taille_status taille_model_get_cache_stats(const taille_model* model, taille_cache_stats* stats) {
  return guarded("taille_model_get_cache_stats", [&] {
    const auto open = model_of(model);
    check(stats != nullptr, "stats is NULL");
    *stats = {};
    const auto cache = open->model->cache();
    if (!cache) return;
    const ResponseCache::Statistics s = cache->statistics();
    *stats = {s.hits,    s.misses,  s.shared, s.no_room, s.bypassed,     s.evictions,
              s.expired, s.entries, s.bytes,  s.waiting, s.switched_off, s.on};
  });
}

taille_status taille_model_release(taille_model* model) {
  return guarded("taille_model_release", [&] { model_of(model)->model->release(); });
}
