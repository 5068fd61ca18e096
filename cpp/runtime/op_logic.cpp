// Comparisons, logic, choice, casts and integer arithmetic: the small work around masks and positions. Plain loops.
#include <cmath>

#include "base/error.h"
#include "runtime/broadcast.h"
#include "runtime/operator.h"

namespace taille {

namespace {

// Calls body(out index, offsets of the operands) for every element.
template <class Body>
void for_elements(const BroadcastPlan& p, const Body& body) {
  int64_t at[3] = {0, 0, 0};
  for (int64_t i = 0; i < p.outer; ++i) {
    for (size_t o = 0; o < p.steps.size(); ++o) at[o] = p.offset(o, i);
    for (int64_t j = 0; j < p.inner; ++j) {
      body(i * p.inner + j, at);
      for (size_t o = 0; o < p.steps.size(); ++o) at[o] += p.steps[o];
    }
  }
}

// out[j] = f(a[j * a_step], b[j * b_step]); loops of their own for the steps that compilers make vectors of.
template <class In, class Out, class F>
void binary_run(const In* a, int64_t a_step, const In* b, int64_t b_step, Out* __restrict out, int64_t n, const F& f) {
  if (a_step == 1 && b_step == 1) {
    for (int64_t j = 0; j < n; ++j) out[j] = static_cast<Out>(f(a[j], b[j]));
  } else if (a_step == 0 && b_step == 1) {
    for (int64_t j = 0; j < n; ++j) out[j] = static_cast<Out>(f(*a, b[j]));
  } else if (a_step == 1 && b_step == 0) {
    for (int64_t j = 0; j < n; ++j) out[j] = static_cast<Out>(f(a[j], *b));
  } else {
    for (int64_t j = 0; j < n; ++j) out[j] = static_cast<Out>(f(a[j * a_step], b[j * b_step]));
  }
}

class Logic final : public Operator {
 public:
  using Body = std::function<void(const RunContext&, const BroadcastPlan&)>;
  explicit Logic(Body body) : body_(std::move(body)) {}

  Planned plan(const NodeShapes& shapes) const override {
    auto p = std::make_shared<BroadcastPlan>(plan_broadcast(shapes.inputs, shapes.output));
    return {[this, p](const RunContext& c) { body_(c, *p); }, 0};
  }

 private:
  Body body_;
};

template <class In, class Out, class F>
OperatorPtr binary(F f) {
  return std::make_unique<Logic>([f](const RunContext& c, const BroadcastPlan& p) {
    const In *a = c.in<In>(0), *b = c.in<In>(1);
    Out* out = c.out<Out>();
    for (int64_t i = 0; i < p.outer; ++i)
      binary_run(a + p.offset(0, i), p.steps[0], b + p.offset(1, i), p.steps[1], out + i * p.inner, p.inner, f);
  });
}

template <class T>
OperatorPtr compare(const std::string& op) {
  if (op == "eq") return binary<T, uint8_t>([](T a, T b) { return a == b; });
  if (op == "ne") return binary<T, uint8_t>([](T a, T b) { return a != b; });
  if (op == "lt") return binary<T, uint8_t>([](T a, T b) { return a < b; });
  if (op == "le") return binary<T, uint8_t>([](T a, T b) { return a <= b; });
  if (op == "gt") return binary<T, uint8_t>([](T a, T b) { return a > b; });
  if (op == "ge") return binary<T, uint8_t>([](T a, T b) { return a >= b; });
  return nullptr;
}

// Two's complement wrap-around, as numpy and torch have it.
OperatorPtr integer(const std::string& op) {
  using U = uint64_t;
  if (op == "add") return binary<int64_t, int64_t>([](int64_t a, int64_t b) { return U(a) + U(b); });
  if (op == "sub") return binary<int64_t, int64_t>([](int64_t a, int64_t b) { return U(a) - U(b); });
  if (op == "mul") return binary<int64_t, int64_t>([](int64_t a, int64_t b) { return U(a) * U(b); });
  return nullptr;
}

template <class T>
OperatorPtr where() {
  return std::make_unique<Logic>([](const RunContext& c, const BroadcastPlan& p) {
    const uint8_t* condition = c.in<uint8_t>(0);
    const T *a = c.in<T>(1), *b = c.in<T>(2);
    T* out = c.out<T>();
    for_elements(p, [&](int64_t i, const int64_t* at) { out[i] = condition[at[0]] ? a[at[1]] : b[at[2]]; });
  });
}

template <class From, class To>
OperatorPtr cast_op() {
  return std::make_unique<Logic>([](const RunContext& c, const BroadcastPlan& p) {
    const From* x = c.in<From>(0);
    To* out = c.out<To>();
    for_elements(p, [&](int64_t i, const int64_t* at) {
      const From v = x[at[0]];
      if constexpr (std::is_same_v<To, uint8_t>)
        out[i] = v != 0;
      else if constexpr (std::is_same_v<From, float> && std::is_same_v<To, int64_t>)
        // Truncation; what does not fit gives the smallest integer, as the CPU's own conversion does.
        out[i] = std::abs(v) < 9.2e18f ? static_cast<int64_t>(v) : INT64_MIN;
      else
        out[i] = static_cast<To>(v);
    });
  });
}

template <class From>
OperatorPtr cast_from(DType to) {
  if (to == DType::f32) return cast_op<From, float>();
  if (to == DType::s64) return cast_op<From, int64_t>();
  return cast_op<From, uint8_t>();
}

OperatorPtr by_type(const std::string& op, DType in, DType out) {
  if (op == "cast") {
    if (in == DType::f32) return cast_from<float>(out);
    return in == DType::s64 ? cast_from<int64_t>(out) : cast_from<uint8_t>(out);
  }
  if (in == DType::s64 && out == DType::s64) return integer(op);
  if (out != DType::boolean) return nullptr;
  if (in == DType::f32) return compare<float>(op);
  return in == DType::s64 ? compare<int64_t>(op) : compare<uint8_t>(op);
}

}  // namespace

OperatorPtr make_logic(const Graph& g, const Node& node, const EngineConfig&) {
  const std::string& op = node.op;
  if (op == "logical_and") return binary<uint8_t, uint8_t>([](uint8_t a, uint8_t b) { return (a != 0) & (b != 0); });
  if (op == "logical_or") return binary<uint8_t, uint8_t>([](uint8_t a, uint8_t b) { return (a | b) != 0; });
  if (op == "logical_not")
    return std::make_unique<Logic>([](const RunContext& c, const BroadcastPlan& p) {
      for_elements(p, [&](int64_t i, const int64_t* at) { c.out<uint8_t>()[i] = !c.in<uint8_t>(0)[at[0]]; });
    });
  if (op == "where") return g.value(node.output).dtype == DType::f32 ? where<float>() : where<int64_t>();
  if (node.inputs.empty()) return nullptr;
  return by_type(op, g.value(node.inputs[0]).dtype, g.value(node.output).dtype);
}

}  // namespace taille
