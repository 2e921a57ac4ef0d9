/* connector.h - from a tower's patch features to the language model's rows.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "config.h"
#include "dump.h"
#include "weights.h"

typedef struct {
  ValleyTensor weight, bias;
} ValleyConnectorLayer;

typedef struct {
  ValleyConnectorConfig config;
  gsize side;        /* patches a side that come in */
  gsize hidden_size; /* of the rows that go out, but for an identity */
  ValleyTensor conv, conv_bias;
  ValleyConnectorLayer *layers;              /* of the mlp */
  ValleyTensor scores, norm, norm_bias, words; /* the visual vocabulary's */
} ValleyConnector;

void valley_connector_init (ValleyConnector *connector, const ValleyConfig *config,
                            ValleyWeights *weights);
void valley_connector_clear (ValleyConnector *connector);
/* One tile: @x [side^2, in_size] -> @out, a fresh tensor [n_tokens, hidden_size]. */
void valley_connector_run (const ValleyConnector *connector, ValleyStream *stream,
                           const ValleyTensor *x, ValleyTensor *out, const ValleyDump *dump);
