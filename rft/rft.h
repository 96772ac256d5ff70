// The whole public C++ API of rft in one include: find_package(rft), target_link_libraries(... rft::rft).
//
//   run        rft/run/run.h             a whole run: sample, grade, learn, save
//   verbs      rft/train/trainer.h       forward_backward, optim_step, ... for a loop of your own
//   sampling   rft/engine/local_engine.h, rft/api/inference_engine.h
//   rewards    graders/grader.h, graders/grader_pool.h, graders/function_grader.h
//   losses     losses/loss.h             models   rft/models/causal_lm.h
//   data       rft/config/config_reader.h, rft/io/dataset.h
#pragma once

#include "graders/function_grader.h"
#include "graders/grader.h"
#include "graders/grader_pool.h"
#include "losses/loss.h"
#include "rft/api/datum.h"
#include "rft/api/inference_engine.h"
#include "rft/api/text_codec.h"
#include "rft/api/training_client.h"
#include "rft/config/config_dump.h"
#include "rft/config/config_reader.h"
#include "rft/core/log.h"
#include "rft/core/types.h"
#include "rft/engine/local_engine.h"
#include "rft/io/dataset.h"
#include "rft/models/causal_lm.h"
#include "rft/run/run.h"
#include "rft/train/trainer.h"
#include "rollout/orchestrator.h"
