// Counts the answers of a service by route and status.
#pragma once

#include <memory>
#include <string>

#include "rft/serve/http_exchange.h"
#include "rft/serve/metrics.h"

namespace rft::serve {

// `inner`, with its first answer counted under `path`.
std::shared_ptr<Exchange> CountAnswers(std::shared_ptr<Exchange> inner,
                                       std::shared_ptr<Metrics> metrics, std::string path);

}  // namespace rft::serve
