#include "tests/serve/http_testing.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cctype>
#include <charconv>

#include "absl/strings/str_cat.h"

namespace rft::testing {
namespace {

namespace asio = boost::asio;

std::string Lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return text;
}

}  // namespace

json::object Answer::object() const {
  const absl::StatusOr<json::value> value = ParseJson(body);
  return value.ok() && value->is_object() ? value->get_object() : json::object();
}

std::vector<std::string> Answer::events() const {
  std::vector<std::string> events;
  for (size_t at = 0; (at = body.find("data: ", at)) != body.npos;) {
    at += 6;
    const size_t end = body.find("\n\n", at);
    events.push_back(body.substr(at, end - at));
    at = end;
  }
  return events;
}

RawClient::RawClient(uint16_t port) {
  socket_.connect({asio::ip::make_address("127.0.0.1"), port});
}

bool RawClient::Send(std::string_view bytes) {
  while (!bytes.empty()) {
    const auto sent = send(socket_.native_handle(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

std::string RawClient::ReadSome(double seconds) {
  pollfd ready{socket_.native_handle(), POLLIN, 0};
  if (poll(&ready, 1, static_cast<int>(seconds * 1e3)) <= 0) return "";
  char bytes[65536];
  const auto got = recv(socket_.native_handle(), bytes, sizeof(bytes), 0);
  return got > 0 ? std::string(bytes, static_cast<size_t>(got)) : "";
}

Answer RawClient::Receive() {
  Answer answer;
  auto fill = [&] {
    const std::string more = ReadSome(kPatienceS);
    buffer_ += more;
    return !more.empty();
  };
  size_t end;
  while ((end = buffer_.find("\r\n\r\n")) == buffer_.npos)
    if (!fill()) return answer;
  const std::string head = buffer_.substr(0, end + 2);
  buffer_.erase(0, end + 4);
  answer.status = std::stoi(head.substr(9, 3));
  if (answer.status == 100) return answer;
  for (size_t at = head.find("\r\n") + 2; at < head.size();) {
    const size_t line_end = head.find("\r\n", at), colon = head.find(": ", at);
    answer.headers[Lower(head.substr(at, colon - at))] =
        head.substr(colon + 2, line_end - colon - 2);
    at = line_end + 2;
  }
  if (answer.headers.contains("transfer-encoding")) {
    while (true) {
      size_t line;
      while ((line = buffer_.find("\r\n")) == buffer_.npos)
        if (!fill()) return answer;
      size_t size = 0;
      std::from_chars(buffer_.data(), buffer_.data() + line, size, 16);
      while (buffer_.size() < line + 2 + size + 2)
        if (!fill()) return answer;
      answer.body += buffer_.substr(line + 2, size);
      buffer_.erase(0, line + 2 + size + 2);
      if (size == 0) return answer;
    }
  }
  if (!answer.headers.contains("content-length")) {
    while (fill()) {
    }
    answer.body = std::exchange(buffer_, {});
    return answer;
  }
  const size_t size = std::stoul(answer.headers["content-length"]);
  while (buffer_.size() < size)
    if (!fill()) return answer;
  answer.body = buffer_.substr(0, size);
  buffer_.erase(0, size);
  return answer;
}

bool RawClient::ClosedByPeer() {
  char bytes[4096];
  while (true) {
    pollfd ready{socket_.native_handle(), POLLIN, 0};
    if (poll(&ready, 1, static_cast<int>(kPatienceS * 1e3)) <= 0) return false;
    if (recv(socket_.native_handle(), bytes, sizeof(bytes), 0) <= 0) return true;
  }
}

void RawClient::Close() { socket_.close(); }

void RawClient::Abort() {
  socket_.set_option(asio::socket_base::linger(true, 0));
  socket_.close();
}

std::string RequestText(std::string_view method, std::string_view path, std::string_view body,
                        std::string_view more_headers) {
  std::string text = absl::StrCat(std::string(method), " ", std::string(path),
                                  " HTTP/1.1\r\nHost: localhost\r\n", std::string(more_headers));
  if (!body.empty())
    absl::StrAppend(&text, "Content-Type: application/json\r\nContent-Length: ", body.size(),
                    "\r\n");
  return absl::StrCat(text, "\r\n", std::string(body));
}

Answer Fetch(uint16_t port, std::string_view method, std::string_view path, std::string_view body,
             std::string_view more_headers) {
  RawClient client(port);
  client.Send(RequestText(method, path, body, more_headers));
  return client.Receive();
}

}  // namespace rft::testing
