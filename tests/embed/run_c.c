/* run_c MODEL THREADS INPUTS OUTPUTS: tells what the model takes and gives, runs it from one file into another.
 * A file holds, for each array, its rank and dims (int64) and its bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <taille/taille.h>

enum { MOST = 8 };

static void check(taille_status status) {
  if (status == TAILLE_OK) return;
  fprintf(stderr, "%s: %s\n", taille_status_text(status), taille_last_error());
  exit(1);
}

static void* allocated(size_t bytes) {
  void* memory = malloc(bytes ? bytes : 1);
  if (!memory) exit(2);
  return memory;
}

static void read_all(void* to, size_t bytes, FILE* file) {
  if (fread(to, 1, bytes, file) != bytes) exit(3);
}

static size_t element_bytes(int32_t dtype) {
  return dtype == TAILLE_INT64 ? 8 : dtype == TAILLE_FLOAT32 || dtype == TAILLE_INT32 ? 4 : 1;
}

static void tell(const char* what, const taille_tensor_info* info) {
  printf("%s %s %d", what, info->name, (int)info->dtype);
  for (int i = 0; i < info->rank; ++i) printf(" %s=%lld", info->dim_names[i], (long long)info->dims[i]);
  printf("\n");
}

int main(int argc, char** argv) {
  if (argc != 5) return 4;
  taille_model* model;
  check(taille_model_open(argv[1], atoi(argv[2]), &model));
  size_t inputs, outputs;
  check(taille_model_counts(model, &inputs, &outputs));
  if (inputs > MOST || outputs > MOST) return 5;

  taille_tensor in[MOST], out[MOST];
  FILE* file = fopen(argv[3], "rb");
  if (!file) return 6;
  for (size_t i = 0; i < inputs; ++i) {
    taille_tensor_info info;
    check(taille_model_input(model, i, &info));
    tell("input", &info);
    int64_t rank;
    read_all(&rank, sizeof rank, file);
    in[i].dtype = info.dtype;
    in[i].rank = (int32_t)rank;
    in[i].bytes = element_bytes(info.dtype);
    read_all(in[i].dims, (size_t)rank * sizeof(int64_t), file);
    for (int32_t d = 0; d < in[i].rank; ++d) in[i].bytes *= (size_t)in[i].dims[d];
    in[i].data = allocated(in[i].bytes);
    read_all(in[i].data, in[i].bytes, file);
  }
  fclose(file);

  check(taille_model_infer(model, in, inputs, out, outputs));
  for (size_t i = 0; i < outputs; ++i) out[i].data = allocated(out[i].bytes);
  check(taille_model_run(model, in, inputs, out, outputs));
  check(taille_model_release(model)); /* and again, after it gave its memory back */
  for (size_t i = 0; i < outputs; ++i) memset(out[i].data, 0x55, out[i].bytes);
  check(taille_model_run(model, in, inputs, out, outputs));

  file = fopen(argv[4], "wb");
  if (!file) return 7;
  for (size_t i = 0; i < outputs; ++i) {
    taille_tensor_info info;
    check(taille_model_output(model, i, &info));
    tell("output", &info);
    const int64_t rank = out[i].rank;
    fwrite(&rank, sizeof rank, 1, file);
    fwrite(out[i].dims, sizeof(int64_t), (size_t)rank, file);
    fwrite(out[i].data, 1, out[i].bytes, file);
    free(out[i].data);
  }
  for (size_t i = 0; i < inputs; ++i) free(in[i].data);
  check(taille_model_close(model));
  return fclose(file);
}
