/* plugin.c - the GStreamer plugin "valley".
 * SPDX-License-Identifier: Apache-2.0 */
#include "valleycaption.h"
#include "valleyinfer.h"

#define PACKAGE "valleyinfer"

static gboolean
plugin_init (GstPlugin *plugin)
{
  return gst_element_register (plugin, "valleyinfer", GST_RANK_NONE, GST_TYPE_VALLEY_INFER)
         && gst_element_register (plugin, "valleycaption", GST_RANK_NONE, GST_TYPE_VALLEY_CAPTION);
}

GST_PLUGIN_DEFINE (GST_VERSION_MAJOR, GST_VERSION_MINOR, valley,
                   "Video understanding with Valley2 models", plugin_init, VALLEY_VERSION,
                   "Apache 2.0", "valleyinfer", "Unknown package origin")
