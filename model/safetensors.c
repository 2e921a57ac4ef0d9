/* safetensors.c - reads the safetensors container: eight bytes of header length, a JSON
 * header, the tensors' bytes.  Everything the header claims is checked here, so that a
 * ValleySafetensor can be believed.
 * SPDX-License-Identifier: Apache-2.0 */
#include "safetensors.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "alloc.h"
#include "json.h"
#include "mapfile.h"
#include "utf8.h"

#define MAX_HEADER_BYTES ((gsize) 100 << 20) /* the format's own limit */
#define MAX_INDEX_BYTES ((gsize) 256 << 20)
#define MAX_SHARDS 4096
#define SHOWN_BYTES 200 /* of a name from a file, in a message */

struct _ValleySafetensors {
  char *path;         /* the single file, or the index */
  GPtrArray *maps;    /* of GMappedFile */
  GPtrArray *paths;   /* of char, one a map */
  GPtrArray *tensors; /* of ValleySafetensor */
  GHashTable *names;  /* name -> ValleySafetensor, both borrowed from `tensors` */
};

static const struct {
  const char *name;
  gsize bytes;
  gboolean is_weight;
  ValleyDType dtype;
} types[] = {
  { "F32", 4, TRUE, VALLEY_F32 },      { "BF16", 2, TRUE, VALLEY_BF16 },
  { "F16", 2, TRUE, VALLEY_F16 },      { "F64", 8, FALSE, VALLEY_F32 },
  { "I64", 8, FALSE, VALLEY_F32 },     { "I32", 4, FALSE, VALLEY_F32 },
  { "I16", 2, FALSE, VALLEY_F32 },     { "I8", 1, FALSE, VALLEY_F32 },
  { "U64", 8, FALSE, VALLEY_F32 },     { "U32", 4, FALSE, VALLEY_F32 },
  { "U16", 2, FALSE, VALLEY_F32 },     { "U8", 1, FALSE, VALLEY_F32 },
  { "BOOL", 1, FALSE, VALLEY_F32 },    { "F8_E4M3", 1, FALSE, VALLEY_F32 },
  { "F8_E5M2", 1, FALSE, VALLEY_F32 },
};

/* One file's bytes while its header is being read. */
typedef struct {
  const char *path;
  const guint8 *data; /* where the tensors' bytes start */
  gsize data_bytes;
} Body;

static void
tensor_free (gpointer data)
{
  ValleySafetensor *tensor = data;

  g_free (tensor->name);
  g_free (tensor);
}

char *
valley_shape_to_string (const gsize *shape, gsize n_dims)
{
  GString *text = g_string_new ("[");

  for (gsize i = 0; i < n_dims; i++)
    g_string_append_printf (text, "%s%" G_GSIZE_FORMAT, i > 0 ? ", " : "", shape[i]);
  return g_string_free (g_string_append_c (text, ']'), FALSE);
}

static gboolean G_GNUC_PRINTF (4, 5)
    bad_tensor (GError **error, const char *path, const char *name, const char *format, ...)
{
  g_autofree char *what = NULL;
  g_autofree char *shown = valley_utf8_shorten (name, SHOWN_BYTES);
  va_list args;

  va_start (args, format);
  what = g_strdup_vprintf (format, args);
  va_end (args);
  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_READ, "%s: tensor \"%s\": %s", path, shown, what);
  return FALSE;
}

static JsonArray *
array_member (JsonObject *object, const char *key)
{
  JsonNode *node = json_object_get_member (object, key);

  return node != NULL && JSON_NODE_HOLDS_ARRAY (node) ? json_node_get_array (node) : NULL;
}

/* A non-negative integer that fits gsize. */
static gboolean
get_size (JsonArray *array, guint i, gsize *value)
{
  JsonNode *node = json_array_get_element (array, i);
  gint64 number;

  if (!JSON_NODE_HOLDS_VALUE (node) || json_node_get_value_type (node) != G_TYPE_INT64)
    return FALSE;
  number = json_node_get_int (node);
  if (number < 0 || (guint64) number > G_MAXSIZE)
    return FALSE;
  *value = (gsize) number;
  return TRUE;
}

static gboolean
read_type (ValleySafetensor *tensor, JsonObject *object, const char *path, gsize *element_bytes,
           GError **error)
{
  JsonNode *node = json_object_get_member (object, "dtype");
  const char *name
      = node != NULL && JSON_NODE_HOLDS_VALUE (node) ? json_node_get_string (node) : NULL;
  g_autofree char *shown = NULL;

  for (gsize i = 0; name != NULL && i < G_N_ELEMENTS (types); i++) {
    if (strcmp (types[i].name, name) != 0)
      continue;
    tensor->type = types[i].name;
    tensor->is_weight = types[i].is_weight;
    tensor->dtype = types[i].dtype;
    *element_bytes = types[i].bytes;
    return TRUE;
  }
  shown = valley_utf8_shorten (name != NULL ? name : "missing", SHOWN_BYTES);
  return bad_tensor (error, path, tensor->name,
                     "\"dtype\" is \"%s\"; expected a safetensors type such as BF16, F16 or F32",
                     shown);
}

static gboolean
read_shape (ValleySafetensor *tensor, JsonObject *object, const char *path, gsize element_bytes,
            GError **error)
{
  JsonArray *shape = array_member (object, "shape");

  if (shape == NULL || json_array_get_length (shape) > VALLEY_MAX_DIMS)
    return bad_tensor (error, path, tensor->name, "\"shape\": expected a list of at most %d sizes",
                       VALLEY_MAX_DIMS);
  tensor->n_dims = json_array_get_length (shape);
  tensor->bytes = element_bytes;
  for (guint i = 0; i < tensor->n_dims; i++) {
    if (!get_size (shape, i, &tensor->shape[i]))
      return bad_tensor (error, path, tensor->name, "\"shape\": expected non-negative integers");
    if (!g_size_checked_mul (&tensor->bytes, tensor->bytes, tensor->shape[i]))
      return bad_tensor (error, path, tensor->name,
                         "\"shape\": the product of its sizes overflows 64 bits");
  }
  return TRUE;
}

static gboolean
read_offsets (ValleySafetensor *tensor, JsonObject *object, const Body *body, GError **error)
{
  JsonArray *offsets = array_member (object, "data_offsets");
  gsize begin, end;

  if (offsets == NULL || json_array_get_length (offsets) != 2 || !get_size (offsets, 0, &begin)
      || !get_size (offsets, 1, &end))
    return bad_tensor (error, body->path, tensor->name,
                       "\"data_offsets\": expected two non-negative integers");
  if (begin > end || end > body->data_bytes)
    return bad_tensor (error, body->path, tensor->name,
                       "\"data_offsets\" are %" G_GSIZE_FORMAT " to %" G_GSIZE_FORMAT
                       "; expected them within the file's %" G_GSIZE_FORMAT " bytes of data",
                       begin, end, body->data_bytes);
  if (end - begin != tensor->bytes)
    return bad_tensor (error, body->path, tensor->name,
                       "\"data_offsets\" span %" G_GSIZE_FORMAT " bytes; expected %" G_GSIZE_FORMAT
                       " for its shape and dtype",
                       end - begin, tensor->bytes);
  tensor->data = body->data + begin;
  return TRUE;
}

static gboolean
add_tensor (ValleySafetensors *files, const char *name, JsonNode *node, const Body *body,
            GError **error)
{
  ValleySafetensor *tensor = g_new0 (ValleySafetensor, 1);
  gsize element_bytes = 0;
  JsonObject *object;

  g_ptr_array_add (files->tensors, tensor);
  tensor->name = g_strdup (name);
  tensor->path = body->path;
  if (!JSON_NODE_HOLDS_OBJECT (node))
    return bad_tensor (error, body->path, name,
                       "expected an object with dtype, shape, data_offsets");
  object = json_node_get_object (node);
  if (!read_type (tensor, object, body->path, &element_bytes, error)
      || !read_shape (tensor, object, body->path, element_bytes, error)
      || !read_offsets (tensor, object, body, error))
    return FALSE;
  if (!g_hash_table_insert (files->names, tensor->name, tensor))
    return bad_tensor (error, body->path, name, "also lies in another shard; expected it once");
  return TRUE;
}

static int
by_place (gconstpointer a, gconstpointer b)
{
  const ValleySafetensor *left = *(const ValleySafetensor *const *) a;
  const ValleySafetensor *right = *(const ValleySafetensor *const *) b;

  if (left->data != right->data)
    return left->data < right->data ? -1 : 1;
  return left->bytes < right->bytes ? -1 : left->bytes > right->bytes;
}

/* No two tensors of the file, those from @first on, share bytes: a small file could ask for any
 * amount of memory where weights are converted, and no writer of the format makes such files. */
static gboolean
check_overlap (const ValleySafetensors *files, guint first, const char *path, GError **error)
{
  gsize n = files->tensors->len - first;
  g_autofree const ValleySafetensor **sorted = VALLEY_NEW (const ValleySafetensor *, n);

  if (n > 0 && sorted == NULL) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_MEMORY,
                 "%s: not enough memory for %" G_GSIZE_FORMAT " tensors' places", path, n);
    return FALSE;
  }
  for (gsize i = 0; i < n; i++)
    sorted[i] = g_ptr_array_index (files->tensors, first + i);
  if (n > 1)
    qsort (sorted, n, sizeof *sorted, by_place);
  for (gsize i = 1; i < n; i++)
    if (sorted[i]->data < sorted[i - 1]->data + sorted[i - 1]->bytes) {
      g_autofree char *other = valley_utf8_shorten (sorted[i - 1]->name, SHOWN_BYTES);

      return bad_tensor (error, path, sorted[i]->name,
                         "\"data_offsets\" overlap tensor \"%s\"; expected bytes of its own",
                         other);
    }
  return TRUE;
}

static gboolean
read_header (ValleySafetensors *files, const char *path, const guint8 *bytes, gsize length,
             GError **error)
{
  g_autoptr (JsonObject) root = NULL;
  guint first = files->tensors->len;
  JsonObjectIter iter;
  const char *name;
  JsonNode *node;
  guint64 header;

  if (length < 8) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_READ,
                 "%s: %" G_GSIZE_FORMAT
                 " bytes long; expected a safetensors file (at least 8 bytes)",
                 path, length);
    return FALSE;
  }
  memcpy (&header, bytes, 8);
  header = GUINT64_FROM_LE (header);
  if (header > length - 8 || header > MAX_HEADER_BYTES) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_READ,
                 "%s: its header claims %" G_GUINT64_FORMAT
                 " bytes; expected at most the %" G_GSIZE_FORMAT
                 " that follow (is the file truncated?)",
                 path, header, MIN (length - 8, MAX_HEADER_BYTES));
    return FALSE;
  }
  root = valley_json_parse ((const char *) bytes + 8, (gsize) header, path, error);
  if (root == NULL)
    return FALSE;
  json_object_iter_init_ordered (&iter, root);
  while (json_object_iter_next_ordered (&iter, &name, &node)) {
    Body body = { path, bytes + 8 + header, length - 8 - (gsize) header };

    if (strcmp (name, "__metadata__") != 0 && !add_tensor (files, name, node, &body, error))
      return FALSE;
  }
  return check_overlap (files, first, path, error);
}

static gboolean
add_file (ValleySafetensors *files, const char *path, GError **error)
{
  g_autoptr (GError) reason = NULL;
  GMappedFile *map;
  char *kept = g_strdup (path);

  g_ptr_array_add (files->paths, kept);
  if (!g_file_test (path, G_FILE_TEST_IS_REGULAR)) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_NOT_FOUND, "%s: expected a safetensors file",
                 path);
    return FALSE;
  }
  map = valley_map (path, &reason);
  if (map == NULL) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_READ, "%s: %s", path, reason->message);
    return FALSE;
  }
  g_ptr_array_add (files->maps, map);
  return read_header (files, kept, (const guint8 *) g_mapped_file_get_contents (map),
                      g_mapped_file_get_length (map), error);
}

static gboolean
bad_shard (GError **error, const char *index, const char *tensor, const char *shard)
{
  g_autofree char *name = valley_utf8_shorten (tensor, SHOWN_BYTES);
  g_autofree char *file = valley_utf8_shorten (shard != NULL ? shard : "(no string)", SHOWN_BYTES);

  g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_READ,
               "%s: \"weight_map\": tensor \"%s\" lies in \"%s\"; expected the name of a file in "
               "the same folder",
               index, name, file);
  return FALSE;
}

/* The index's "weight_map" is {tensor: shard}; each shard is opened once. */
static gboolean
add_shards (ValleySafetensors *files, const char *dir, const char *index, GError **error)
{
  g_autoptr (JsonObject) root = valley_json_read (index, MAX_INDEX_BYTES, error);
  g_autoptr (GHashTable) opened = g_hash_table_new (g_str_hash, g_str_equal);
  JsonNode *map, *node;
  JsonObjectIter iter;
  const char *name;

  if (root == NULL)
    return FALSE;
  map = json_object_get_member (root, "weight_map");
  if (map == NULL || !JSON_NODE_HOLDS_OBJECT (map)) {
    g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_READ,
                 "%s: \"weight_map\": expected an object of tensor names and shard files", index);
    return FALSE;
  }
  json_object_iter_init_ordered (&iter, json_node_get_object (map));
  while (json_object_iter_next_ordered (&iter, &name, &node)) {
    const char *shard = JSON_NODE_HOLDS_VALUE (node) ? json_node_get_string (node) : NULL;
    g_autofree char *path = NULL;

    if (shard == NULL || *shard == '\0' || strchr (shard, '/') != NULL
        || strstr (shard, "..") != NULL)
      return bad_shard (error, index, name, shard);
    if (!g_hash_table_add (opened, (gpointer) shard))
      continue;
    if (g_hash_table_size (opened) > MAX_SHARDS) {
      g_set_error (error, VALLEY_ERROR, VALLEY_ERROR_READ,
                   "%s: \"weight_map\": expected at most %d shards", index, MAX_SHARDS);
      return FALSE;
    }
    path = g_build_filename (dir, shard, NULL);
    if (!add_file (files, path, error))
      return FALSE;
  }
  return TRUE;
}

static ValleySafetensors *
files_new (void)
{
  ValleySafetensors *files = g_new0 (ValleySafetensors, 1);

  files->maps = g_ptr_array_new_with_free_func ((GDestroyNotify) g_mapped_file_unref);
  files->paths = g_ptr_array_new_with_free_func (g_free);
  files->tensors = g_ptr_array_new_with_free_func (tensor_free);
  files->names = g_hash_table_new (g_str_hash, g_str_equal);
  return files;
}

/* @files, or NULL after an error. */
static ValleySafetensors *
files_if (ValleySafetensors *files, gboolean ok)
{
  if (ok)
    return files;
  valley_safetensors_free (files);
  return NULL;
}

ValleySafetensors *
valley_safetensors_open (const char *dir, GError **error)
{
  g_autofree char *single = g_build_filename (dir, "model.safetensors", NULL);
  g_autofree char *index = g_build_filename (dir, "model.safetensors.index.json", NULL);
  ValleySafetensors *files = files_new ();

  if (!g_file_test (single, G_FILE_TEST_EXISTS) && g_file_test (index, G_FILE_TEST_EXISTS)) {
    files->path = g_steal_pointer (&index);
    return files_if (files, add_shards (files, dir, files->path, error));
  }
  files->path = g_steal_pointer (&single);
  return files_if (files, add_file (files, files->path, error));
}

ValleySafetensors *
valley_safetensors_open_bytes (const guint8 *bytes, gsize length, const char *path, GError **error)
{
  ValleySafetensors *files = files_new ();

  files->path = g_strdup (path);
  return files_if (files, read_header (files, files->path, bytes, length, error));
}

void
valley_safetensors_free (ValleySafetensors *files)
{
  if (files == NULL)
    return;
  g_hash_table_unref (files->names);
  g_ptr_array_unref (files->tensors);
  g_ptr_array_unref (files->maps);
  g_ptr_array_unref (files->paths);
  g_free (files->path);
  g_free (files);
}

const char *
valley_safetensors_path (const ValleySafetensors *files)
{
  return files->path;
}

const ValleySafetensor *
valley_safetensors_find (const ValleySafetensors *files, const char *name)
{
  return g_hash_table_lookup (files->names, name);
}

gsize
valley_safetensors_n_tensors (const ValleySafetensors *files)
{
  return files->tensors->len;
}

const ValleySafetensor *
valley_safetensors_get (const ValleySafetensors *files, gsize i)
{
  return g_ptr_array_index (files->tensors, i);
}

void
valley_safetensor_prefetch (const ValleySafetensor *tensor)
{
  gsize page = (gsize) sysconf (_SC_PAGESIZE);
  gsize before = (gsize) tensor->data % page;

  /* a hint: whether it is taken changes nothing but time */
  posix_madvise ((void *) (tensor->data - before), tensor->bytes + before, POSIX_MADV_WILLNEED);
}
