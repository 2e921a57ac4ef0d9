/* config_llm.h - the language model's keys of config.json.
 * SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "config.h"
#include "config_reader.h"

void valley_config_read_llm (ValleyReader *r, ValleyLlmConfig *llm);
