// The text of driver.py with conversation.py and judge.py, put into the library by cmake/RftRooms.cmake.
#pragma once

namespace rft {

extern const char kSandboxDriver[];

}  // namespace rft
