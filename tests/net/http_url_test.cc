#include "rft/net/http_url.h"

#include <gtest/gtest.h>

namespace rft {
namespace {

TEST(HttpUrlTest, TakesAddressesApart) {
  struct Case {
    const char* text;
    bool tls;
    const char* host;
    int port;
    const char* target;
    const char* host_header;
  };
  const Case cases[] = {
      {"http://example.org", false, "example.org", 80, "/", "example.org"},
      {"http://Example.ORG/A?b=C", false, "example.org", 80, "/A?b=C", "example.org"},
      {"https://example.org:8443/v1/", true, "example.org", 8443, "/v1/", "example.org:8443"},
      {"https://example.org:443", true, "example.org", 443, "/", "example.org"},
      {"http://127.0.0.1:8000?x", false, "127.0.0.1", 8000, "/?x", "127.0.0.1:8000"},
      {"http://[::1]:8000/a", false, "::1", 8000, "/a", "[::1]:8000"},
      {"http://[fe80::1]", false, "fe80::1", 80, "/", "[fe80::1]"},
  };
  for (const Case& c : cases) {
    const absl::StatusOr<HttpUrl> url = ParseHttpUrl(c.text);
    ASSERT_TRUE(url.ok()) << c.text << ": " << url.status();
    EXPECT_EQ(url->tls, c.tls) << c.text;
    EXPECT_EQ(url->host, c.host) << c.text;
    EXPECT_EQ(url->port, c.port) << c.text;
    EXPECT_EQ(url->target, c.target) << c.text;
    EXPECT_EQ(url->HostHeader(), c.host_header) << c.text;
  }
}

TEST(HttpUrlTest, RefusesWhatIsNotPlainlyAnAddress) {
  for (const char* text : {"",
                           "example.org",
                           "ftp://example.org",
                           "file:///etc/passwd",
                           "http://",
                           "http:///a",
                           "http://a b/",
                           "http://a\r\nHost: b/",
                           "http://a/\n",
                           "http://user@host/",
                           "http://u:p@h/",
                           "http://host:0/",
                           "http://host:65536/",
                           "http://host:/",
                           "http://host:+80/",
                           "http://h:8x/",
                           "http://host/#part",
                           "http://[::1",
                           "http://[::1]x/",
                           "http://[example.org]/",
                           "http://h\xc3\xb6/",
                           "http://host\\@other/",
                           "http://a%00b/"}) {
    EXPECT_EQ(ParseHttpUrl(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

}  // namespace
}  // namespace rft
