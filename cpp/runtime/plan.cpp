#include "runtime/plan.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"

namespace taille {

namespace {

constexpr int64_t kAlign = 64;
constexpr int64_t kMaxBytes = int64_t{1} << 46;
constexpr int32_t kForever = INT32_MAX;

class Planner {
 public:
  Planner(const Graph& g, const std::vector<OperatorPtr>& operators, const SymbolValues& symbols)
      : g_(g), operators_(operators), symbols_(symbols), root_(g.values.size()), last_use_(g.values.size(), -1) {
    std::iota(root_.begin(), root_.end(), ValueId{0});
  }

  Plan run(bool whole) {
    evaluate_shapes();
    find_strides();
    if (!whole) {
      loops_ = find_sample_loops(g_, plan_.dims);
      write_into_concats();
    }
    find_roots();
    find_inner();
    place();
    make_steps();
    return std::move(plan_);
  }

 private:
  const Graph& g_;
  const std::vector<OperatorPtr>& operators_;
  const SymbolValues& symbols_;
  Plan plan_;
  std::vector<ValueId> root_;      // a value whose memory a value shares; itself where it has its own
  std::vector<int64_t> offset_;    // of a value in its root's memory, in bytes
  std::vector<int64_t> stride_;    // between rows of a value, in elements
  std::vector<int32_t> last_use_;  // of a root
  std::vector<SampleLoop> loops_;  // of nodes
  std::vector<char> inner_;        // of a root: made and read by one sample at a time, in one loop

  static size_t at(ValueId v) { return static_cast<size_t>(v); }
  ValueId root(ValueId v) {
    while (root_[at(v)] != v) v = root_[at(v)] = root_[at(root_[at(v)])];  // halves the way for the next
    return v;
  }

  int64_t bytes(ValueId v) const {
    int64_t n = static_cast<int64_t>(size_of(g_.value(v).dtype));
    for (int64_t d : plan_.dims[at(v)])
      if (__builtin_mul_overflow(n, d, &n) || n > kMaxBytes) refuse(v, "is too large: ", "");
    return n;
  }

  // Apart from the tests that lead here: a text for every dimension of every value is most of a plan's time.
  [[noreturn]] void refuse(ValueId v, const char* before, const char* after) const {
    const Dims& dims = plan_.dims[at(v)];
    throw std::invalid_argument(
        concat("'", g_.value(v).name, "' ", before, text_of(Shape(dims.begin(), dims.end())), after));
  }

  void evaluate_shapes() {
    plan_.dims.reserve(g_.values.size());
    for (const Value& v : g_.values) {
      plan_.dims.push_back(evaluate(v.shape, symbols_));
      for (int64_t d : plan_.dims.back())
        if (d < 0)
          refuse(static_cast<ValueId>(plan_.dims.size() - 1), "would have shape ", "; the inputs are too small");
    }
    for (size_t v = 0; v < g_.values.size(); ++v) bytes(static_cast<ValueId>(v));  // from here on, none overflows
  }

  void find_strides() {
    offset_.assign(g_.values.size(), 0);
    stride_.reserve(g_.values.size());
    for (const Dims& dims : plan_.dims) stride_.push_back(dims.empty() ? 1 : dims.back());
  }

  // The last concats first: then a concat within a concat has its place before its inputs get theirs in it.
  void write_into_concats() {
    std::vector<int32_t> uses, producers;  // found where there is a concat
    for (size_t n = g_.nodes.size(); n-- > 0;) {
      if (g_.nodes[n].op != "concat") continue;
      if (uses.empty()) {
        uses = g_.use_counts();
        producers = g_.producers();
      }
      write_into_concat(n, uses, producers);
    }
  }

  void write_into_concat(size_t n, const std::vector<int32_t>& uses, const std::vector<int32_t>& producers) {
    const Node& node = g_.nodes[n];
    const ValueId out = node.output;
    if (bytes(out) == 0) return;
    const Dims& dims = plan_.dims[at(out)];
    const size_t axis = axis_of(node, dims.size());
    // Where nothing is repeated before the axis, each input is one piece. Else its rows lie apart, if they are those of
    // the output at all, and as far apart as those are.
    const bool apart = product(std::span(dims).first(axis)) > 1;
    if (apart && axis + 1 != dims.size()) return;
    int64_t offset = offset_[at(out)];
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const ValueId v = node.inputs[i];
      const int32_t from = producers[at(v)];
      const Operator* producer = from < 0 ? nullptr : operators_[static_cast<size_t>(from)].get();
      if (producer && uses[at(v)] == 1 && operators_[n]->holds_input(i) && (!apart || producer->strided_output())) {
        root_[at(v)] = out;
        offset_[at(v)] = offset;
        if (apart) stride_[at(v)] = stride_[at(out)];
      }
      offset += product(std::span(plan_.dims[at(v)]).subspan(axis)) * static_cast<int64_t>(size_of(g_.value(v).dtype));
    }
  }

  // Reshapes share their input's memory; an in-place operator takes over input 0 where it is read for the last time.
  void find_roots() {
    std::vector<int32_t> last(g_.values.size(), -1);  // last reader of each value's root so far known
    for (size_t n = 0; n < g_.nodes.size(); ++n)
      if (!operators_[n]) root_[at(g_.nodes[n].output)] = root(g_.nodes[n].inputs[0]);
    for (size_t n = 0; n < g_.nodes.size(); ++n)
      for (ValueId i : g_.nodes[n].inputs)
        if (i != kNone) last[at(root(i))] = static_cast<int32_t>(n);
    std::vector<char> pinned(g_.values.size(), 0);
    for (ValueId i : g_.inputs) pinned[at(i)] = 1;
    for (ValueId o : g_.outputs) {
      pinned[at(root(o))] = 1;
      last[at(root(o))] = kForever;
    }
    for (size_t n = 0; n < g_.nodes.size(); ++n) {
      const Node& node = g_.nodes[n];
      if (!operators_[n] || !operators_[n]->in_place() || pinned[at(root(node.output))]) continue;
      if (root(node.output) != node.output) continue;  // written into a concat
      const ValueId from = root(node.inputs[0]), to = node.output;
      if (g_.is_constant(from) || pinned[at(from)] || last[at(from)] != static_cast<int32_t>(n)) continue;
      if (bytes(node.inputs[0]) != bytes(to)) continue;
      root_[at(to)] = from;
      last[at(from)] = std::max(last[at(from)], last[at(to)]);
    }
    last_use_ = std::move(last);
  }

  const SampleLoop* loop_of(size_t node) const {
    for (const SampleLoop& loop : loops_)
      if (loop.first <= node && node < loop.last) return &loop;
    return nullptr;
  }

  // f(root, loop or null) for every value that a node reads or writes.
  template <class F>
  void for_touched(const F& f) {
    for (size_t n = 0; n < g_.nodes.size(); ++n) {
      const SampleLoop* loop = loop_of(n);
      f(root(g_.nodes[n].output), loop);
      for (ValueId i : g_.nodes[n].inputs)
        if (i != kNone) f(root(i), loop);
    }
  }

  void find_inner() {
    std::vector<const SampleLoop*> only(g_.values.size(), nullptr);
    inner_.assign(g_.values.size(), 0);
    if (loops_.empty()) return;
    std::vector<char> seen(g_.values.size(), 0);
    for_touched([&](ValueId r, const SampleLoop* loop) {
      inner_[at(r)] = loop && (!seen[at(r)] || (inner_[at(r)] && only[at(r)] == loop));
      only[at(r)] = loop;
      seen[at(r)] = 1;
    });
    for (ValueId v : g_.inputs) inner_[at(root(v))] = 0;
    for (ValueId v : g_.outputs) inner_[at(root(v))] = 0;
  }

  // What a loop shares with other nodes is alive from the loop's beginning to its end.
  void extend(std::vector<int32_t>& first, std::vector<int32_t>& last) {
    if (loops_.empty()) return;
    for_touched([&](ValueId r, const SampleLoop* loop) {
      if (!loop || inner_[at(r)]) return;
      first[at(r)] = std::min(first[at(r)], static_cast<int32_t>(loop->first));
      last[at(r)] = std::max(last[at(r)], static_cast<int32_t>(loop->last) - 1);
    });
  }

  // Bytes from one sample of a value to the next.
  int64_t advance(ValueId v, int64_t samples) {
    if (g_.is_constant(v) || inner_[at(root(v))] || bytes(v) == 0) return 0;
    const Dims& dims = plan_.dims[at(v)];
    const int64_t rows = product(std::span(dims).first(dims.size() - 1)) / samples;
    return rows * stride_[at(v)] * static_cast<int64_t>(size_of(g_.value(v).dtype));
  }

  void place() {
    plan_.slots.resize(g_.values.size());
    for (size_t v = 0; v < g_.values.size(); ++v)
      if (g_.values[v].constant) plan_.slots[v] = {Slot::Kind::constant, static_cast<int64_t>(v)};
    for (size_t i = 0; i < g_.inputs.size(); ++i)
      plan_.slots[at(g_.inputs[i])] = {Slot::Kind::input, static_cast<int64_t>(i)};
    for (size_t i = 0; i < g_.outputs.size(); ++i) {
      Slot& slot = plan_.slots[at(root(g_.outputs[i]))];
      if (slot.kind == Slot::Kind::none)
        slot = {Slot::Kind::output, static_cast<int64_t>(i)};
      else
        plan_.copies.push_back({slot, i, bytes(g_.outputs[i])});
    }
    std::vector<int32_t> first_use(g_.values.size(), kForever);  // of a root
    for (size_t n = g_.nodes.size(); n-- > 0;) first_use[at(root(g_.nodes[n].output))] = static_cast<int32_t>(n);
    extend(first_use, last_use_);
    std::vector<Block> blocks;
    std::vector<ValueId> owners;
    for (size_t n = 0; n < g_.nodes.size(); ++n) {
      const ValueId v = g_.nodes[n].output;
      if (root(v) != v || plan_.slots[at(v)].kind != Slot::Kind::none) continue;
      const int32_t first = first_use[at(v)];
      const int64_t size = inner_[at(v)] ? bytes(v) / loop_of(n)->samples : bytes(v);
      blocks.push_back({round_up(std::max<int64_t>(1, size), kAlign), first,
                        std::max(static_cast<int32_t>(n), last_use_[at(v)]), 0});
      owners.push_back(v);
    }
    plan_.scratch_offset = place_blocks(blocks);
    for (size_t b = 0; b < blocks.size(); ++b) plan_.slots[at(owners[b])] = {Slot::Kind::arena, blocks[b].offset};
    for (size_t v = 0; v < g_.values.size(); ++v)
      if (root_[v] != static_cast<ValueId>(v)) {
        plan_.slots[v] = plan_.slots[at(root(static_cast<ValueId>(v)))];
        plan_.slots[v].offset = offset_[v];
      }
  }

  void make_steps() {
    int64_t scratch = 0;
    for (size_t n = 0; n < g_.nodes.size(); ++n) {
      const SampleLoop* loop = loop_of(n);
      if (loop && loop->first == n) plan_.loops.push_back({plan_.steps.size(), 0, loop->samples});
      if (operators_[n]) {
        plan_.steps.push_back(make_step(n, loop));
        scratch = std::max(scratch, plan_.steps.back().planned.scratch_bytes);
      }
      if (loop && loop->last == n + 1) plan_.loops.back().last = plan_.steps.size();
    }
    plan_.arena_bytes = plan_.scratch_offset + round_up(scratch, kAlign);
  }

  Step make_step(size_t n, const SampleLoop* loop) {
    const Node& node = g_.nodes[n];
    auto dims_of = [&](ValueId v) {
      Dims dims = v == kNone ? Dims{} : plan_.dims[at(v)];
      if (loop && v != kNone && !g_.is_constant(v)) dims[0] /= loop->samples;
      return dims;
    };
    auto slot_of = [&](ValueId v) {
      Slot slot = v == kNone ? Slot{} : plan_.slots[at(v)];
      if (loop && v != kNone) slot.advance = advance(v, loop->samples);
      return slot;
    };
    NodeShapes shapes{{}, dims_of(node.output), stride_[at(node.output)], symbols_};
    Step step{n, {}, {}, slot_of(node.output)};
    for (ValueId i : node.inputs) {
      shapes.inputs.push_back(dims_of(i));
      step.inputs.push_back(slot_of(i));
    }
    step.planned = operators_[n]->plan(shapes);
    return step;
  }
};

}  // namespace

int64_t place_blocks(std::vector<Block>& blocks) {
  std::vector<size_t> order(blocks.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return blocks[a].bytes > blocks[b].bytes; });
  // Two blocks live at the same time where one of them is alive at the other's first step, so only first steps count.
  // alive[s]: the placed blocks that are alive at the s-th of them.
  std::vector<int32_t> steps;
  for (const Block& b : blocks) steps.push_back(b.first);
  std::ranges::sort(steps);
  steps.erase(std::ranges::unique(steps).begin(), steps.end());
  std::vector<std::vector<size_t>> alive(steps.size());
  std::vector<size_t> near;  // the placed blocks that this one must not touch, by offset
  int64_t total = 0;
  for (size_t i : order) {
    Block& block = blocks[i];
    const auto begin = static_cast<size_t>(std::ranges::lower_bound(steps, block.first) - steps.begin());
    const auto end = static_cast<size_t>(std::ranges::upper_bound(steps, block.last) - steps.begin());
    near.clear();
    for (size_t s = begin; s < end; ++s) near.insert(near.end(), alive[s].begin(), alive[s].end());
    std::ranges::sort(near, {}, [&](size_t p) { return std::pair(blocks[p].offset, p); });
    near.erase(std::ranges::unique(near).begin(), near.end());
    int64_t offset = 0;
    for (size_t p : near) {
      if (blocks[p].offset >= offset + block.bytes) break;
      offset = std::max(offset, blocks[p].offset + blocks[p].bytes);
    }
    block.offset = offset;
    for (size_t s = begin; s < end; ++s) alive[s].push_back(i);
    total = std::max(total, offset + block.bytes);
  }
  return total;
}

Plan make_plan(const Graph& graph, const std::vector<OperatorPtr>& operators, const SymbolValues& symbols, bool whole) {
  return Planner(graph, operators, symbols).run(whole);
}

}  // namespace taille
