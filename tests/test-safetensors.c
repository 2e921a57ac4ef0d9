/* test-safetensors.c - what the container's reader believes: good files as they are, and of
 * hostile ones nothing but one error that says where.
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "safetensors.h"
#include "scratch.h"

#define FILE_NAME "model.safetensors"
#define INDEX_NAME "model.safetensors.index.json"
#define TRUE_LENGTH G_MAXUINT64

#define TENSOR(name, dtype, shape, offsets)                                                        \
  "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
#define GOOD TENSOR ("a", "F32", "[2,3]", "[0,24]")

typedef struct {
  const char *label, *header;
  guint64 claimed;
  gsize n_data;
  const char *expected; /* in the message, besides the file's name */
} Hostile;

static const Hostile hostile[] = {
  { "length-2-63", "{" GOOD "}", G_GUINT64_CONSTANT (1) << 63, 24, "claims 9223372036854775808" },
  { "length-max", "{" GOOD "}", G_MAXUINT64 - 1, 24, "claims" },
  { "length-past-end", "{" GOOD "}", 1000, 24, "truncated" },
  { "length-into-data", "{" GOOD "}", sizeof ("{" GOOD "}") + 3, 24, "JSON" },
  { "header-empty", "", TRUE_LENGTH, 0, "JSON" },
  { "header-cut", "{" GOOD, TRUE_LENGTH, 24, "JSON" },
  { "header-array", "[1,2]", TRUE_LENGTH, 0, "JSON object" },
  { "header-words", "hello", TRUE_LENGTH, 0, "JSON" },
  { "header-not-utf8", "{\"\xff\xfe\":1}", TRUE_LENGTH, 0, "JSON" },
  { "doubled-key", "{" GOOD "," GOOD "}", TRUE_LENGTH, 24, "\"a\" appears twice" },
  { "tensor-number", "{\"a\":3}", TRUE_LENGTH, 0, "\"a\": expected an object" },
  { "dtype-unknown", "{" TENSOR ("a", "F31", "[6]", "[0,24]") "}", TRUE_LENGTH, 24, "\"F31\"" },
  { "dtype-number", "{\"a\":{\"dtype\":3,\"shape\":[6],\"data_offsets\":[0,24]}}", TRUE_LENGTH, 24,
    "\"dtype\"" },
  { "dtype-missing", "{\"a\":{\"shape\":[6],\"data_offsets\":[0,24]}}", TRUE_LENGTH, 24,
    "\"dtype\"" },
  { "shape-missing", "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,24]}}", TRUE_LENGTH, 24,
    "\"shape\"" },
  { "shape-negative", "{" TENSOR ("a", "F32", "[-2,3]", "[0,24]") "}", TRUE_LENGTH, 24,
    "\"shape\"" },
  { "shape-fraction", "{" TENSOR ("a", "F32", "[2.5]", "[0,24]") "}", TRUE_LENGTH, 24,
    "\"shape\"" },
  { "shape-string", "{" TENSOR ("a", "F32", "[\"6\"]", "[0,24]") "}", TRUE_LENGTH, 24,
    "\"shape\"" },
  { "shape-overflow", "{" TENSOR ("a", "F32", "[4294967296,4294967296,4294967296]", "[0,24]") "}",
    TRUE_LENGTH, 24, "overflows" },
  { "shape-overflow-to-fit", "{" TENSOR ("a", "F32", "[4611686018427387910]", "[0,24]") "}",
    TRUE_LENGTH, 24, "overflows" },
  { "shape-too-many", "{" TENSOR ("a", "F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", TRUE_LENGTH, 4,
    "at most 8" },
  { "offsets-beyond", "{" TENSOR ("a", "F32", "[2,3]", "[8,32]") "}", TRUE_LENGTH, 24,
    "\"data_offsets\" are 8 to 32" },
  { "offsets-negative", "{" TENSOR ("a", "F32", "[2,3]", "[-24,0]") "}", TRUE_LENGTH, 24,
    "\"data_offsets\"" },
  { "offsets-backwards", "{" TENSOR ("a", "F32", "[2,3]", "[24,0]") "}", TRUE_LENGTH, 24,
    "\"data_offsets\"" },
  { "offsets-one", "{" TENSOR ("a", "F32", "[2,3]", "[0]") "}", TRUE_LENGTH, 24,
    "two non-negative" },
  { "offsets-huge", "{" TENSOR ("a", "F32", "[2,3]", "[99999999999999999999,1]") "}", TRUE_LENGTH,
    24, "\"data_offsets\"" },
  { "offsets-1e30", "{" TENSOR ("a", "F32", "[2,3]", "[0,1e30]") "}", TRUE_LENGTH, 24,
    "\"data_offsets\"" },
  { "overlap",
    "{" GOOD
    "," TENSOR ("c", "F32", "[1]", "[24,28]") "," TENSOR ("b", "BF16", "[4]", "[16,24]") "}",
    TRUE_LENGTH, 28, "\"b\": \"data_offsets\" overlap tensor \"a\"" },
  { "same-bytes", "{" GOOD "," TENSOR ("b", "F32", "[6]", "[0,24]") "}", TRUE_LENGTH, 24,
    "overlap" },
  { "wrong-product", "{" TENSOR ("a", "F32", "[2,4]", "[0,24]") "}", TRUE_LENGTH, 24,
    "span 24 bytes; expected 32" },
  { "wrong-dtype-size", "{" TENSOR ("a", "BF16", "[2,3]", "[0,24]") "}", TRUE_LENGTH, 24,
    "span 24 bytes; expected 12" },
};

static void
assert_refused (const char *dir, const char *file, const char *expected)
{
  g_autoptr (GError) error = NULL;
  ValleySafetensors *files = valley_safetensors_open (dir, &error);

  g_assert_null (files);
  g_assert_nonnull (error);
  g_assert_true (error->domain == VALLEY_ERROR);
  g_test_message ("%s", error->message);
  g_assert_nonnull (strstr (error->message, file));
  g_assert_nonnull (strstr (error->message, expected));
}

static void
test_hostile (gconstpointer data)
{
  const Hostile *test = data;
  char *dir = scratch_new ();

  scratch_safetensors (dir, FILE_NAME, test->header, test->claimed, test->n_data);
  assert_refused (dir, FILE_NAME, test->expected);
  scratch_remove (dir);
}

/* Every cut of a good file is refused: its header, or its data, ends too early. */
static void
test_truncated (void)
{
  static const char header[] = "{" GOOD "}";
  char *dir = scratch_new ();
  g_autofree char *path = g_build_filename (dir, FILE_NAME, NULL);
  g_autofree char *bytes = NULL;
  gsize length;

  scratch_safetensors (dir, FILE_NAME, header, TRUE_LENGTH, 24);
  g_assert_true (g_file_get_contents (path, &bytes, &length, NULL));
  for (gsize n = 0; n < length; n++) {
    scratch_write (dir, FILE_NAME, bytes, n);
    assert_refused (dir, FILE_NAME, "");
  }
  scratch_remove (dir);
}

static void
test_deep (void)
{
  char *dir = scratch_new ();
  GString *header = g_string_new ("{\"a\":");

  for (guint i = 0; i < 1000000; i++)
    g_string_append_c (header, '[');
  scratch_safetensors (dir, FILE_NAME, header->str, TRUE_LENGTH, 0);
  assert_refused (dir, FILE_NAME, "nested");
  g_string_free (header, TRUE);
  scratch_remove (dir);
}

/* GStreamer refuses messages that are no UTF-8: long names are cut between characters. */
static void
test_long_names (void)
{
  static const char *const forms[]
      = { "{\"%s\":7}", "{" TENSOR ("a", "%s", "[2]", "[0,8]") "}", "{\"%s\":1,\"%s\":1}" };
  char *dir = scratch_new ();

  for (guint i = 0; i < 4 * G_N_ELEMENTS (forms); i++) {
    g_autoptr (GString) name = g_string_new (NULL);
    g_autofree char *header = NULL;
    g_autoptr (GError) error = NULL;

    for (guint n = 0; n < i % 4; n++)
      g_string_append_c (name, 'x');
    for (guint n = 0; n < 1000; n++)
      g_string_append (name, "\xf0\x9f\x98\x80");
    header = g_strdup_printf (forms[i / 4], name->str, name->str);
    scratch_safetensors (dir, FILE_NAME, header, TRUE_LENGTH, 8);
    g_assert_null (valley_safetensors_open (dir, &error));
    g_assert_true (g_utf8_validate (error->message, -1, NULL));
    g_assert_cmpuint (strlen (error->message), <, 800);
  }
  scratch_remove (dir);
}

static void
test_nothing (void)
{
  char *dir = scratch_new ();

  assert_refused (dir, FILE_NAME, "expected a safetensors file");
  scratch_remove (dir);
}

static void
test_good (void)
{
  static const char header[]
      = "{\"__metadata__\":{\"format\":\"pt\"}," TENSOR ("a", "F32", "[2,3]", "[0,24]") "," TENSOR (
          "b", "BF16", "[4]", "[24,32]") "," TENSOR ("c", "I64", "[]",
                                                     "[32,40]") "," TENSOR ("d", "F16", "[0,7]",
                                                                            "[40,40]") "}";
  char *dir = scratch_new ();
  GError *error = NULL;
  const ValleySafetensor *a, *b;
  ValleySafetensors *files;

  scratch_safetensors (dir, FILE_NAME, header, TRUE_LENGTH, 40);
  files = valley_safetensors_open (dir, &error);
  g_assert_no_error (error);
  g_assert_cmpuint (valley_safetensors_n_tensors (files), ==, 4);
  a = valley_safetensors_find (files, "a");
  b = valley_safetensors_find (files, "b");
  g_assert_true (a == valley_safetensors_get (files, 0));
  g_assert_true (a->is_weight && a->dtype == VALLEY_F32);
  g_assert_cmpuint (a->n_dims, ==, 2);
  g_assert_cmpuint (a->shape[0], ==, 2);
  g_assert_cmpuint (a->shape[1], ==, 3);
  g_assert_true (b->data == a->data + 24);
  g_assert_cmpuint (b->bytes, ==, 8);
  g_assert_false (valley_safetensors_find (files, "c")->is_weight);
  g_assert_cmpuint (valley_safetensors_find (files, "d")->bytes, ==, 0);
  g_assert_null (valley_safetensors_find (files, "__metadata__"));
  valley_safetensors_free (files);
  scratch_remove (dir);
}

static void
write_index (const char *dir, const char *map)
{
  g_autofree char *text = g_strdup_printf ("{\"metadata\":{},\"weight_map\":%s}", map);

  scratch_write (dir, INDEX_NAME, text, strlen (text));
}

static void
test_shards (void)
{
  char *dir = scratch_new ();
  GError *error = NULL;
  ValleySafetensors *files;

  scratch_safetensors (dir, "one.safetensors", "{" GOOD "}", TRUE_LENGTH, 24);
  scratch_safetensors (dir, "two.safetensors", "{" TENSOR ("b", "F16", "[2]", "[0,4]") "}",
                       TRUE_LENGTH, 4);
  write_index (dir, "{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}");
  files = valley_safetensors_open (dir, &error);
  g_assert_no_error (error);
  g_assert_cmpuint (valley_safetensors_n_tensors (files), ==, 2);
  g_assert_true (g_str_has_suffix (valley_safetensors_find (files, "b")->path, "two.safetensors"));
  valley_safetensors_free (files);

  write_index (dir, "{\"a\":\"one.safetensors\",\"b\":\"gone.safetensors\"}");
  assert_refused (dir, "gone.safetensors", "expected a safetensors file");
  write_index (dir, "{\"a\":\"../one.safetensors\"}");
  assert_refused (dir, INDEX_NAME, "same folder");
  write_index (dir, "{\"a\":\"/etc/passwd\"}");
  assert_refused (dir, INDEX_NAME, "same folder");
  write_index (dir, "{\"a\":\"..\"}");
  assert_refused (dir, INDEX_NAME, "same folder");
  write_index (dir, "{\"a\":7}");
  assert_refused (dir, INDEX_NAME, "same folder");
  write_index (dir, "[]");
  assert_refused (dir, INDEX_NAME, "weight_map");

  scratch_safetensors (dir, "two.safetensors", "{" GOOD "}", TRUE_LENGTH, 24);
  write_index (dir, "{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}");
  assert_refused (dir, "two.safetensors", "another shard");
  scratch_remove (dir);
}

/* Random damage to a good file: refused, or every tensor still lies inside the file. */
static void
test_random (void)
{
  static const char header[] = "{\"__metadata__\":{\"format\":\"pt\"}," GOOD
                               "," TENSOR ("b", "BF16", "[4]", "[24,32]") "}";
  static const char likely[] = "0123456789-+.eE[]{}\",:\\F";
  char *dir = scratch_new ();
  g_autofree char *path = g_build_filename (dir, FILE_NAME, NULL);
  g_autofree char *good = NULL;
  guint opened = 0;
  gsize length;

  scratch_safetensors (dir, FILE_NAME, header, TRUE_LENGTH, 32);
  g_assert_true (g_file_get_contents (path, &good, &length, NULL));
  for (guint round = 0; round < 1000; round++) {
    g_autofree char *bytes = g_memdup2 (good, length);
    g_autoptr (GError) error = NULL;
    ValleySafetensors *files;

    for (gint hits = g_test_rand_int_range (1, 4); hits > 0; hits--)
      bytes[g_test_rand_int_range (0, (gint32) (8 + strlen (header)))]
          = g_test_rand_bit () ? likely[g_test_rand_int_range (0, sizeof likely - 1)]
                               : (char) g_test_rand_int_range (0, 256);
    scratch_write (dir, FILE_NAME, bytes, length);
    files = valley_safetensors_open (dir, &error);
    g_assert_true ((files == NULL) == (error != NULL));
    for (gsize i = 0; files != NULL && i < valley_safetensors_n_tensors (files); i++) {
      const ValleySafetensor *tensor = valley_safetensors_get (files, i);
      volatile guint8 sum = 0;

      for (gsize b = 0; b < tensor->bytes; b++) /* the sanitizers and valgrind watch */
        sum += tensor->data[b];
      g_assert_cmpuint (tensor->bytes, <=, 32);
    }
    opened += files != NULL;
    valley_safetensors_free (files);
  }
  g_test_message ("%u of 1000 were opened", opened);
  g_assert_cmpuint (opened, >, 0);
  g_assert_cmpuint (opened, <, 1000);
  scratch_remove (dir);
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/safetensors/good", test_good);
  g_test_add_func ("/safetensors/shards", test_shards);
  g_test_add_func ("/safetensors/truncated", test_truncated);
  g_test_add_func ("/safetensors/deep", test_deep);
  g_test_add_func ("/safetensors/long-names", test_long_names);
  g_test_add_func ("/safetensors/nothing", test_nothing);
  g_test_add_func ("/safetensors/random", test_random);
  for (gsize i = 0; i < G_N_ELEMENTS (hostile); i++) {
    g_autofree char *path = g_strdup_printf ("/safetensors/hostile/%s", hostile[i].label);

    g_test_add_data_func (path, &hostile[i], test_hostile);
  }
  return g_test_run ();
}
