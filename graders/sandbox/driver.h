// The text of graders/sandbox/driver.py, put into the library by cmake/RftRooms.cmake.
#pragma once

namespace rft {

extern const char kSandboxDriver[];

}  // namespace rft
