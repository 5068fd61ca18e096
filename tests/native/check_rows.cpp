// Softmax, norms and means.
#include "check.h"
#include "kernels/normalize.h"

namespace taille::check {

void check_rows(Checker& checker, Random& r) {
  for (int64_t n : {1, 2, 3, 5, 15, 16, 17, 31, 33, 63, 64, 65, 100, 384, 500})
    for (int64_t rows : {1, 2, 3, 4, 7, 8, 9, 13}) {
      const std::string what = std::to_string(rows) + " x " + std::to_string(n);
      auto values = r.floats(rows * n, -8.0f, 8.0f);
      auto scores = values;
      for (float& x : scores)
        if (r.one_in(8)) x = -kInfinity;
      const Guarded x = guarded(values), s = guarded(scores);
      const Guarded gamma = guarded(r.floats(n, -2.0f, 2.0f)), beta = guarded(r.floats(n, -1.0f, 1.0f));
      const auto out = [](int64_t size, float*& to) -> Output {
        return {Output::Kind::floats, static_cast<size_t>(size) * 4,
                [&to](uint8_t* p) { to = reinterpret_cast<float*>(p); }};
      };
      SoftmaxArgs softmax{s.as<float>(), rows, n, nullptr};
      checker.compare("softmax", what, softmax_table(), softmax, {out(rows * n, softmax.out)});
      NormArgs norm{x.as<float>(), rows, n, nullptr, nullptr, 1e-5f, nullptr, nullptr, 20.0f, 128.0f};
      if (!r.one_in(3)) norm.gamma = gamma.as<float>();
      if (!r.one_in(3)) norm.beta = beta.as<float>();
      Output floats = out(rows * n, norm.out);
      Output bytes{Output::Kind::bytes, static_cast<size_t>(rows * n), [&](uint8_t* p) { norm.out_u8 = p; }};
      checker.compare("layer_norm", what, layer_norm_table(), norm, {floats});
      checker.compare("rms_norm", what, rms_norm_table(), norm, {floats});
      checker.compare("layer_norm", what + " to bytes", layer_norm_table(), norm, {bytes});
      checker.compare("rms_norm", what + " to bytes", rms_norm_table(), norm, {bytes});
      MeanRowsArgs mean{x.as<float>(), rows, n, n, static_cast<float>(rows), nullptr};
      checker.compare("mean_rows", what, mean_rows_table(), mean, {out(n, mean.out)});
      MeanLastArgs last{x.as<float>(), rows, n, static_cast<float>(n), nullptr};
      checker.compare("mean_last", what, mean_last_table(), last, {out(rows, last.out)});
    }
}

}  // namespace taille::check
