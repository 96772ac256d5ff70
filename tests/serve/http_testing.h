// A blocking HTTP client for the server's tests: plain requests, and bytes as rude as a test wants them.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "rft/io/json.h"

namespace rft::testing {

struct Answer {
  int status = 0;                              // 0: the connection ended without one
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // chunks put together
  json::object object() const;                 // of a JSON body
  // Texts of the "data:" lines of a stream.
  std::vector<std::string> events() const;
};

// One connection. Every read gives up after `kPatienceS`, so that no test hangs.
class RawClient {
 public:
  static constexpr double kPatienceS = 20.0;
  explicit RawClient(uint16_t port);
  bool Send(std::string_view bytes);  // false: the other side has closed
  Answer Receive();
  // Waits until the other side closes; false if it has not within the patience.
  bool ClosedByPeer();
  // What is there after up to `seconds`, one read.
  std::string ReadSome(double seconds);
  void Close();
  void Abort();  // with a reset instead of an orderly end

 private:
  boost::asio::io_context io_;
  boost::asio::ip::tcp::socket socket_{io_};
  std::string buffer_;
};

std::string RequestText(std::string_view method, std::string_view path, std::string_view body = "",
                        std::string_view more_headers = "");
Answer Fetch(uint16_t port, std::string_view method, std::string_view path,
             std::string_view body = "", std::string_view more_headers = "");

// True as soon as `condition` holds; false after ten seconds.
template <typename F>
bool Eventually(F&& condition) {
  for (int i = 0; i < 1000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

}  // namespace rft::testing
