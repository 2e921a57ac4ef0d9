/* messages.c - what the element says on the bus.
 * SPDX-License-Identifier: Apache-2.0 */
#include "valleyinfer.h"

#define GST_CAT_DEFAULT gst_valley_infer_debug

void
gst_valley_infer_post (GstValleyInfer *self, GstMessage *message)
{
  g_queue_push_tail (&self->outbox, message);
}

void
gst_valley_infer_send_outbox (GstValleyInfer *self)
{
  GQueue messages;
  GstMessage *message;

  g_mutex_lock (&self->lock);
  messages = self->outbox;
  g_queue_init (&self->outbox);
  g_mutex_unlock (&self->lock);
  while ((message = g_queue_pop_head (&messages)) != NULL)
    gst_element_post_message (GST_ELEMENT (self), message);
}

static gint
resource_error (const GError *error)
{
  if (error->domain != VALLEY_ERROR)
    return GST_RESOURCE_ERROR_FAILED;
  switch (error->code) {
  case VALLEY_ERROR_NOT_FOUND:
    return GST_RESOURCE_ERROR_NOT_FOUND;
  case VALLEY_ERROR_READ:
  case VALLEY_ERROR_TENSOR:
    return GST_RESOURCE_ERROR_READ;
  case VALLEY_ERROR_CONFIG:
  case VALLEY_ERROR_ARGUMENT:
  case VALLEY_ERROR_CONTEXT:
    return GST_RESOURCE_ERROR_SETTINGS;
  case VALLEY_ERROR_MEMORY:
    return GST_RESOURCE_ERROR_NO_SPACE_LEFT;
  default:
    return GST_RESOURCE_ERROR_FAILED;
  }
}

void
gst_valley_infer_post_error (GstValleyInfer *self, GstMessageType type, const GError *error)
{
  gst_element_message_full (GST_ELEMENT (self), type, GST_RESOURCE_ERROR, resource_error (error),
                            g_strdup (error->message), NULL, __FILE__, GST_FUNCTION, __LINE__);
}

/* For the outbox, where gst_element_message_full cannot be used. */
GstMessage *
gst_valley_infer_new_message (GstValleyInfer *self, GstMessageType type, const GError *error)
{
  g_autoptr (GError) reason
      = g_error_new_literal (GST_RESOURCE_ERROR, resource_error (error), error->message);
  GstMessage *message = type == GST_MESSAGE_ERROR
                            ? gst_message_new_error (GST_OBJECT (self), reason, NULL)
                            : gst_message_new_warning (GST_OBJECT (self), reason, NULL);

  return message;
}
