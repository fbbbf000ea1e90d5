// One connection of an HTTP server, as the thread that serves it sees it.
#pragma once

#include <cstddef>
#include <string>

namespace dla::server {

// What a handler may ask of the connection that its request came on, besides what the library
// tells. Of the connection's own thread alone.
class HttpConnection {
 public:
  // The connection of the request that the calling thread handles.
  static HttpConnection& Current();

  enum class Event { kReady, kHungUp, kStopping };

  // Waits until `descriptor` can be read, the caller has hung up, or the server ends all requests.
  virtual Event Await(int descriptor) = 0;

  // The body of the request in hand is welcome: it may have so many bytes more than a request
  // without one, and the time that they take.
  virtual void AllowBody(size_t bytes) = 0;

  // The body has been read to its end. A connection is closed after a request whose body has not
  // been, for the next request would begin in the middle of it.
  virtual void SetBodyRead() = 0;

  // Whether the caller hung up while it was sending, or was cut off because that took too long.
  virtual bool cut_off() const = 0;

  // The name in the certificate that the caller proved to own; empty if none.
  virtual const std::string& certificate_name() const = 0;

 protected:
  HttpConnection();
  ~HttpConnection();
};

}  // namespace dla::server
