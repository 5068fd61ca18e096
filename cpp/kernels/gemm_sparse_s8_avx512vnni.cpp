// Blocks: 64 rows by 4 outputs, 16 sums, 4 of activations, and the broadcast weights. Lists: 16 rows by 16 columns.
#include "kernels/avx512_s8_vnni.h"
#include "kernels/avx512_sparse_s8_vnni.h"
// What a group is comes first.
#include "kernels/gemm_sparse_s8_lists_vnni.h"

namespace taille {
namespace {

constexpr ListFunction kLists[] = {multiply_list<1>,  multiply_list<2>,  multiply_list<3>,  multiply_list<4>,
                                   multiply_list<5>,  multiply_list<6>,  multiply_list<7>,  multiply_list<8>,
                                   multiply_list<9>,  multiply_list<10>, multiply_list<11>, multiply_list<12>,
                                   multiply_list<13>, multiply_list<14>, multiply_list<15>, multiply_list<16>};

}  // namespace

void gemm_sparse_s8_avx512vnni(const GemmSparseS8Args& args) {
  if (args.weights.block_rows == kSparseS8ListRows) return gemm_sparse_s8_run_lists(args, kLists);
  gemm_sparse_s8_run<4>(args);
}

}  // namespace taille
