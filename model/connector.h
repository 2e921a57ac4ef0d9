/* connector.h - from a tower's patch features to the language model's rows.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "config.h"
#include "dump.h"
#include "weights.h"

typedef struct {
  ValleyConnectorConfig config;
  gsize side;        /* patches a side that come in */
  gsize hidden_size; /* of the rows that go out */
  ValleyTensor conv, conv_bias, mlp1, mlp1_bias, mlp2, mlp2_bias;
  ValleyTensor norm, norm_bias, words; /* the visual vocabulary's */
} ValleyConnector;

void valley_connector_init (ValleyConnector *connector, const ValleyConfig *config,
                            ValleyWeights *weights);
/* @x [side^2, in_size] -> @out, a fresh tensor [out_side^2, hidden_size]. */
void valley_connector_run (const ValleyConnector *connector, ValleyStream *stream,
                           const ValleyTensor *x, ValleyTensor *out, const ValleyDump *dump);
