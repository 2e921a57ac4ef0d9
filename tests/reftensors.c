/* reftensors.c - safetensors: eight bytes of header length, a JSON object, the data.
 * The files are our own, so the JSON's form is trusted; its offsets are not.
 * SPDX-License-Identifier: Apache-2.0 */
#include "reftensors.h"

#include <gio/gio.h>
#include <json-glib/json-glib.h>
#include <string.h>

static RefType
type_of (const char *dtype)
{
  if (g_str_equal (dtype, "U8"))
    return REF_U8;
  if (g_str_equal (dtype, "F32"))
    return REF_F32;
  return g_str_equal (dtype, "I32") ? REF_I32 : REF_OTHER;
}

/* NULL when the data lie outside the file or do not fit the shape. */
static RefTensor *
tensor_new (JsonObject *entry, const char *data, gsize size)
{
  JsonArray *shape = json_object_get_array_member (entry, "shape");
  JsonArray *offsets = json_object_get_array_member (entry, "data_offsets");
  gsize first = json_array_get_int_element (offsets, 0);
  gsize end = json_array_get_int_element (offsets, 1);
  g_autofree RefTensor *tensor = g_new0 (RefTensor, 1);

  tensor->type = type_of (json_object_get_string_member (entry, "dtype"));
  tensor->n_dims = json_array_get_length (shape);
  if (first > end || end > size || tensor->n_dims > G_N_ELEMENTS (tensor->shape))
    return NULL;
  gsize wanted = tensor->type == REF_U8 ? 1 : 4;
  for (guint i = 0; i < tensor->n_dims; i++) {
    tensor->shape[i] = json_array_get_int_element (shape, i);
    if (!g_size_checked_mul (&wanted, wanted, tensor->shape[i]))
      return NULL;
  }
  if (tensor->type != REF_OTHER && wanted != end - first)
    return NULL;
  tensor->bytes = end - first;
  tensor->data = data + first;
  return g_steal_pointer (&tensor);
}

static gboolean
add_tensors (RefFile *file, JsonObject *header, const char *data, gsize size)
{
  JsonObjectIter iter;
  const char *name;
  JsonNode *node;

  json_object_iter_init (&iter, header);
  while (json_object_iter_next (&iter, &name, &node)) {
    if (g_str_equal (name, "__metadata__"))
      continue;
    RefTensor *tensor = tensor_new (json_node_get_object (node), data, size);
    if (!tensor)
      return FALSE;
    g_hash_table_insert (file->tensors, g_strdup (name), tensor);
  }
  return TRUE;
}

RefFile *
ref_file_read (const char *path, GError **error)
{
  g_autoptr (RefFile) file = g_new0 (RefFile, 1);
  g_autoptr (JsonParser) parser = json_parser_new ();
  guint64 header = 0;
  gsize size;

  file->tensors = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
  if (!g_file_get_contents (path, &file->bytes, &size, error))
    return NULL;
  memcpy (&header, file->bytes, MIN (size, sizeof header));
  header = GUINT64_FROM_LE (header);
  if (size < 8 || header > size - 8) {
    g_set_error (error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "%s: not a safetensors file", path);
    return NULL;
  }
  if (!json_parser_load_from_data (parser, file->bytes + 8, header, error))
    return NULL;
  if (!add_tensors (file, json_node_get_object (json_parser_get_root (parser)),
                    file->bytes + 8 + header, size - 8 - header)) {
    g_set_error (error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "%s: a tensor is misplaced", path);
    return NULL;
  }
  return g_steal_pointer (&file);
}

void
ref_file_free (RefFile *file)
{
  if (!file)
    return;
  g_hash_table_unref (file->tensors);
  g_free (file->bytes);
  g_free (file);
}

const RefTensor *
ref_file_get (const RefFile *file, const char *name, RefType type, guint n_dims)
{
  const RefTensor *tensor = g_hash_table_lookup (file->tensors, name);
  return tensor && tensor->type == type && tensor->n_dims == n_dims ? tensor : NULL;
}
