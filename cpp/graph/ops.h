// Every op of the graph: its inputs, attributes and output. `infer` is the single place that checks a node.
//
// Notation: x tensor, [..] shape, ? optional input (kNone where absent), f float32, u uint8 with Quant, i int64,
// b bool, h float16 or bfloat16 (a constant, read as a weight or table and nowhere else). Attribute types: I int64, F
// double, B bool, S string, L list of int64, D list of Dim. Images are [N, C, H, W] as captured (layout "nchw") and [N,
// H, W, C] after the layout pass (layout "nhwc").
//
// op                   inputs                                   attributes
// linear               x f|u [..,K], w f|h|s8 [N,K], bias? f [N], residual? f|u [..,N], w_scale? f [N] (w s8)
//                                                               lo F, hi F (clamp of the result), dtype S (output)
// conv2d               x, w [O,I/g,kh,kw] (nchw) or [O,kh,kw,I/g] (nhwc), bias?, residual?, w_scale?
//                                                               stride L2, padding L4 (top, left, bottom, right),
//                                                               dilation L2, groups I, layout S, lo F, hi F, dtype S
// batch_norm           x f [N,C,..], gamma, beta, mean, variance f [C]      epsilon F
// max_pool2d           x f|u                                    kernel L2, stride L2, padding L4, dilation L2, layout S
// avg_pool2d           x f|u                                    kernel L2, stride L2, padding L4,
//                                                               count_include_pad B, divisor I (0: window), layout S
// adaptive_avg_pool2d  x f|u                                    output_size L2, layout S
// mean                 x f|u                                    axes L, keepdim B
// clamp                x f|u                                    lo F, hi F        (relu: 0, inf; relu6: 0, 6)
// neg abs exp log sqrt rsqrt reciprocal tanh sigmoid silu erf gelu gelu_tanh hardswish hardsigmoid      x f
// add sub mul div minimum maximum pow     a, b f (broadcast); add sub mul: i too; add: u too, not broadcast
// eq ne lt le gt ge    a, b f|i|b (broadcast) -> b
// logical_and logical_or   a, b b;   logical_not  a b;   where  c b, a, b f|i
// cast                 x                                        dtype S ("float32", "int64", "bool")
// softmax              x f                                      axis I
// layer_norm           x f, gamma? , beta?                      axes I (how many trailing), epsilon F,
//                                                               dtype S (output)
// rms_norm             x f, gamma?                              as layer_norm
// embedding            table f|h|s8 [V,E], ids i, scale? f [V] (table s8)
//                                                               ids outside [0,V) are an error at run time
// matmul               a f [..,M,K], b f [..,K,N]               leading dims broadcast
// sdpa                 q f|u [..,H,S,D], k, v, mask? f|b (broadcast to [..,H,S,T])
//                                                               scale F, causal B, heads_last B ([N,S,H,D] instead),
//                                                               dtype S (output)
// reshape              x                                        shape D (explicit, same element count)
// permute              x                                        axes L
// expand               x                                        shape D (rank may grow at the front)
// slice                x                                        axis I, start D1, length D1, step I (> 0)
// gather               x, index i (same rank)                   axis I
// index                x, i0, i1, ... i (broadcast together)    the leading dims of x are indexed (advanced indexing)
// concat               x...                                     axis I
// pad                  x f|u                                    before L, after L (per axis), value F
// arange               -                                        start I, step I, length D1           -> i
// full                 -                                        shape D, value F, dtype S
// quantize             x f -> u;   dequantize  x u -> f;   lookup  x u, table u [256] -> u
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"

namespace taille {

struct Inferred {
  DType dtype;
  Shape shape;
};

// Checks the node against the table above and fills in default attributes; gives its output's dtype and shape.
// Throws std::invalid_argument with op, name and what is wrong.
Inferred infer(const Graph& graph, Node& node);

// Whether that attribute of that op is a list of Dim (false for what does not exist).
bool attr_is_dims(std::string_view op, std::string_view key);

// Whether the attribute is its op's default, to the bit, so that a file can leave it out.
bool is_default(std::string_view op, std::string_view key, const Attr& attr);

// Whether that input is a layer's weight or an embedding's table: what may be stored in 16 bits.
bool reads_weight(std::string_view op, size_t input);

// layer_norm and rms_norm: they read float32 whatever they write.
bool is_norm(std::string_view op);

// All op names, sorted.
std::vector<std::string> op_names();

Shape broadcast(const Shape& a, const Shape& b);  // throws std::invalid_argument where they do not fit

}  // namespace taille
