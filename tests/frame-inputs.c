/* frame-inputs.c - what the towers get for a video frame, for tools/reference/video_table.py.
 *
 *   frame-inputs MODEL CAPS < bytes of a frame > a line with both sizes, then both pictures' RGB
 *
 * MODEL needs no more than a config.json.  Built, not run by the suite.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "engine.h"
#include "picture.h"

static GstBuffer *
read_frame (const GstVideoInfo *info)
{
  GstBuffer *buffer = gst_buffer_new_allocate (NULL, info->size, NULL);
  GstMapInfo map;
  gsize n = 0;

  if (gst_buffer_map (buffer, &map, GST_MAP_WRITE)) {
    n = fread (map.data, 1, map.size, stdin);
    gst_buffer_unmap (buffer, &map);
  }
  if (n != info->size)
    gst_clear_buffer (&buffer);
  return buffer;
}

static void
write_picture (const ValleyPicture *picture)
{
  const ValleyInputSizes *s = &picture->sizes;

  printf ("%u %u %u %u\n", s->siglip_width, s->siglip_height, s->eagle_width, s->eagle_height);
  fwrite (picture->siglip_rgb, 3, (gsize) s->siglip_width * s->siglip_height, stdout);
  fwrite (picture->eagle_rgb, 3, (gsize) s->eagle_width * s->eagle_height, stdout);
}

int
main (int argc, char **argv)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GstCaps) caps = NULL;
  GstValleyPainter *painter;
  ValleyPicture *picture = NULL;
  ValleyModel *model;
  GstBuffer *buffer;
  GstVideoInfo info;

  gst_init (&argc, &argv);
  caps = argc == 3 ? gst_caps_from_string (argv[2]) : NULL;
  if (caps == NULL || !gst_video_info_from_caps (&info, caps)) {
    fprintf (stderr, "usage: frame-inputs MODEL CAPS\n");
    return 2;
  }
  painter = gst_valley_painter_new ();
  gst_valley_painter_set_info (painter, &info);
  buffer = read_frame (&info);
  model = valley_model_open (argv[1], NULL, &error);
  if (model != NULL && buffer != NULL)
    picture = gst_valley_painter_paint (painter, model, buffer, 0, &error);
  if (picture != NULL)
    write_picture (picture);
  else
    fprintf (stderr, "frame-inputs: %s\n", error != NULL ? error->message : "too few bytes");
  valley_picture_unref (picture);
  valley_model_unref (model);
  gst_clear_buffer (&buffer);
  gst_valley_painter_free (painter);
  return picture == NULL;
}
