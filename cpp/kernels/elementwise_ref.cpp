// Plain scalar specifications; the transcendental ones in double.
#include <cmath>

#include "kernels/elementwise.h"

namespace taille {
namespace {

float clamp(float x, float lo, float hi) {
  if (lo > x) x = lo;
  return hi < x ? hi : x;
}

double reference(UnaryOp op, float x, float lo, float hi) {
  const double d = x;
  switch (op) {
    case UnaryOp::clamp:
      return clamp(x, lo, hi);
    case UnaryOp::neg:
      return -x;
    case UnaryOp::abs:
      return std::fabs(x);
    case UnaryOp::exp:
      return std::exp(d);
    case UnaryOp::log:
      return std::log(d);
    case UnaryOp::sqrt:
      return std::sqrt(d);
    case UnaryOp::rsqrt:
      return 1 / std::sqrt(d);
    case UnaryOp::reciprocal:
      return 1 / d;
    case UnaryOp::tanh:
      return std::tanh(d);
    case UnaryOp::sigmoid:
      return 1 / (1 + std::exp(-d));
    case UnaryOp::silu:
      return d / (1 + std::exp(-d));
    case UnaryOp::erf:
      return std::erf(d);
    case UnaryOp::gelu:
      return 0.5 * d * (1 + std::erf(d * 0.70710678118654752));
    case UnaryOp::gelu_tanh:
      return 0.5 * d * (1 + std::tanh(0.79788456080286536 * (d + 0.044715 * d * d * d)));
    case UnaryOp::hardswish:
      return x * (clamp(x + 3, 0, 6) * (1.0f / 6.0f));
    case UnaryOp::hardsigmoid:
      return clamp(x + 3, 0, 6) * (1.0f / 6.0f);
  }
  return 0;
}

float reference(BinaryOp op, float a, float b) {
  switch (op) {
    case BinaryOp::add:
      return a + b;
    case BinaryOp::sub:
      return a - b;
    case BinaryOp::mul:
      return a * b;
    case BinaryOp::div:
      return a / b;
    case BinaryOp::minimum:
      return std::isnan(a) || a < b ? a : b;
    case BinaryOp::maximum:
      return std::isnan(a) || a > b ? a : b;
    case BinaryOp::pow:
      return b == 2 ? a * a : std::pow(a, b);
  }
  return 0;
}

}  // namespace

void unary_reference(const UnaryArgs& g) {
  for (int64_t i = 0; i < g.n; ++i) g.out[i] = static_cast<float>(reference(g.op, g.x[i], g.lo, g.hi));
}

void binary_reference(const BinaryArgs& g) {
  for (int64_t i = 0; i < g.n; ++i) g.out[i] = reference(g.op, g.a[i * g.a_step], g.b[i * g.b_step]);
}

}  // namespace taille
