// Blocks: 16 rows by 4 outputs, 8 sums, 2 of activations, the broadcast weights and a product. Lists: 6 rows by 16
// columns, 12 sums, 2 of weights, the row's pair and a product.
#include "kernels/avx2_s8.h"
#include "kernels/avx_s8_split.h"
#include "kernels/avx_sparse_s8_split.h"
// What a group is comes first.
#include "kernels/gemm_sparse_s8_lists_widened.h"

namespace taille {
namespace {

constexpr ListFunction kLists[] = {multiply_list<1, false>, multiply_list<2, false>, multiply_list<3, false>,
                                   multiply_list<4, false>, multiply_list<5, false>, multiply_list<6, false>};
constexpr ListFunction kWidenedLists[] = {multiply_list<1, true>, multiply_list<2, true>, multiply_list<3, true>,
                                          multiply_list<4, true>, multiply_list<5, true>, multiply_list<6, true>};

}  // namespace

void gemm_sparse_s8_avx2(const GemmSparseS8Args& args) {
  if (args.weights.block_rows == kSparseS8ListRows) return gemm_sparse_s8_run_lists(args, kLists, kWidenedLists);
  gemm_sparse_s8_run<2>(args);
}

}  // namespace taille
